"""Several runs laid side by side: found, read, named, and refused where there is nothing to compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from hf_unlearnable.errors import DataError, OutputError, RecipeError, SourceError
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.files import atomic_write, local_path
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.privacy import PAGES
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.reports.comparison_page import ComparedRun, comparison_page, unique
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.test_images import not_measured
from hf_unlearnable.settings import check_arguments

PAGE, PUBLIC_PAGE = "comparison.html", "comparison-public.html"


@check_arguments
def write_comparison(
    runs: Sequence[RunFolder | str | PathLike[str]],
    output: str | PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    public: bool = False,
    command: str = "hf-unlearnable report RUN RUN",
) -> Path:
    """Write one HTML page that lays measured runs side by side.

    Args:
        runs: at least two, each the folder that ``protect --output`` wrote and ``measure`` added to, or a
            ``learnability.json`` of any name.
        output: the page, a name that ends in ``.html``; ``comparison.html`` in the current folder when left out, and
            ``comparison-public.html`` for the public. A page that is there already is written anew.
        names: what to call the runs, also for the public; left out, by method and budget or by their files.
        public: leave out local names and paths and seeds.
        command: as the page tells it.

    Returns:
        The page.

    Raises:
        SourceError: a run that is not there, or that was not measured.
        DataError: a file that is no measurement, two equal measurements, or no model that two runs share.
        RecipeError: fewer than two runs, the same one twice, names that are not one for each, or an output that is no
            page.
        OutputError: the output is a folder.
        PrivacyError: the private part of a run.
    """
    if len(runs) < 2:
        raise RecipeError(
            f"got {runs!r} to compare; expected at least two runs. For the page of one: hf-unlearnable report RUN"
        )
    if names is not None and (len(names) != len(runs) or len({*names, ""}) <= len(names)):
        raise RecipeError(
            f"got the names {list(names)} for {len(runs)} runs; expected {len(runs)} different names, "
            "none of them empty"
        )
    page = _checked_output(local_path(output) if output is not None else Path(PUBLIC_PAGE if public else PAGE))
    places = [(str(run), RunFolder.find(run)) for run in runs]
    _refuse_twice(places)
    measured = [_Measured.read(given, run) for given, run in places]
    _refuse_incomparable(measured)
    compared = [
        ComparedRun(
            name=name,
            report=one.report,
            file=str(one.run.measured),
            protection=one.protection,
            verification=one.verification.as_dict() if one.verification else None,
            named=names is not None,
        )
        for name, one in zip(names or _names(measured), measured, strict=True)
    ]
    atomic_write(page, comparison_page(compared, command=command, public=public), private=not public)
    return page


def _checked_output(output: Path) -> Path:
    if output.is_dir():
        raise OutputError(f"got the output {str(output)!r}, a folder; expected a page, such as {str(output / PAGE)!r}")
    if output.suffix.lower() not in PAGES:
        # Else a slip of the hand (report a.json b.json --output c.json) would cost hours of measuring.
        raise RecipeError(
            f"got the output {str(output)!r}; expected the name of a page, which ends in .html: {output.stem}.html"
        )
    return output


@dataclass(frozen=True)
class _Measured:
    """What is known of a run.

    Attributes:
        given: what the user called it.
        run: where its parts lie.
        report: of ``learnability``.
        protection: what it says of itself; None if there is none beside the measurement.
        verification: how visible the perturbation is; None if not known.
    """

    given: str
    run: RunFolder
    report: Report
    protection: Description | None
    verification: Verification | None

    @classmethod
    def read(cls, given: str, run: RunFolder) -> _Measured:
        """Open what ``measure`` wrote, and what ``protect`` wrote down if it did.

        Raises:
            SourceError: it was not measured.
            DataError: something there that is of another kind.
        """
        report = run.report
        if report is None:
            raise SourceError(
                f"got {given!r}, which was not measured; expected a run with figures to compare. "
                + not_measured(run, given)
            )
        try:
            verified = run.verification
            return cls(given, run, report, run.description, verified[0] if verified else None)
        except DataError as error:
            raise DataError(f"{error}. Without that file the run is called by its folder") from error


def _refuse_twice(runs: list[tuple[str, RunFolder]]) -> None:
    seen: dict[Path, str] = {}
    for given, run in runs:
        measured = run.measured.resolve()
        if measured in seen:
            raise RecipeError(f"got {seen[measured]!r} and {given!r}, which are the same run; expected every run once")
        seen[measured] = given


def _refuse_incomparable(runs: list[_Measured]) -> None:
    for index, one in enumerate(runs):
        for other in runs[:index]:
            if one.report == other.report:
                raise DataError(
                    f"got {other.given!r} and {one.given!r}, which hold the same figures to the last "
                    f"digit; expected different runs. Is one a copy of the other?"
                )
    if max(Counter(victim for one in runs for victim in one.report.victims).values()) < 2:
        found = "; ".join(f"{one.given!r} with {', '.join(one.report.victims)}" for one in runs)
        raise DataError(
            f"got runs that share no model: {found}; expected at least one model that was trained on two of them. To "
            f"measure one with the model of another: hf-unlearnable measure RUN --victim {runs[0].report.victims[0]}"
        )


def _names(runs: list[_Measured]) -> list[str]:
    """By method and budget where they are known, else by the file; what is called the same is told apart by both."""
    known = [str(one.protection) if one.protection else "" for one in runs]
    return unique(
        [
            one.run.name if not name else f"{name} ({one.run.name})" if known.count(name) > 1 else name
            for name, one in zip(known, runs, strict=True)
        ]
    )
