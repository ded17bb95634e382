"""Several runs laid side by side: found, read, named, and refused where there is nothing to compare."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from hf_unlearnable.errors import DataError, OutputError, RecipeError, SourceError, first_line
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.files import atomic_write
from hf_unlearnable.protection.layout import MEASURED, PRIVATE, PROTECTION, REPORT, VERIFIED
from hf_unlearnable.protection.privacy import PAGES
from hf_unlearnable.protection.protection import ABOUT
from hf_unlearnable.reports.comparison_page import ComparedRun, comparison_page, method_name, unique
from hf_unlearnable.reports.run_report import Run, read_report

PAGE, PUBLIC_PAGE = "comparison.html", "comparison-public.html"


def write_comparison(
    runs: Sequence[str | PathLike[str]],
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
    if isinstance(runs, (str, PathLike)) or len(runs) < 2:
        raise RecipeError(
            f"got {runs!r} to compare; expected at least two runs. For the page of one: hf-unlearnable report RUN"
        )
    if names is not None and (len(names) != len(runs) or len({*names, ""}) <= len(names)):
        raise RecipeError(
            f"got the names {list(names)} for {len(runs)} runs; expected {len(runs)} different names, "
            "none of them empty"
        )
    page = _checked_output(Path(output) if output is not None else Path(PUBLIC_PAGE if public else PAGE))
    places = [_Place(str(run), Run.find(Path(run))) for run in runs]
    _refuse_twice(places)
    measured = [_Measured.read(place) for place in places]
    _refuse_incomparable(measured)
    compared = [
        ComparedRun(
            name=name,
            report=one.report,
            file=str(one.place.run.measured),
            about=one.about,
            verification=one.verification,
            named=names is not None,
        )
        for name, one in zip(names or _names(measured), measured, strict=True)
    ]
    atomic_write(page, comparison_page(compared, command=command, public=public))
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
class _Place:
    """Where a run lies.

    Attributes:
        given: as the user named it.
        run: its parts.
    """

    given: str
    run: Run

    @property
    def measured(self) -> Path:
        """The file with the figures, absolute; it need not be there."""
        return self.run.measured.resolve()

    @property
    def folder(self) -> Path | None:
        """What ``protect`` wrote, also where only the measurement in it was named; None if there is no such folder."""
        inside = self.measured.name == MEASURED and self.measured.parent.name == REPORT
        return self.run.folder or (self.measured.parent.parent if inside else None)

    @property
    def name(self) -> str:
        """The stem of the file, or the folder around it where every run's file is called the same."""
        if self.measured.name != MEASURED:
            return self.measured.stem
        return (self.folder or self.measured.parent).resolve().name


@dataclass(frozen=True)
class _Measured:
    """What is known of a run.

    Attributes:
        place: of it.
        report: of ``learnability``.
        about: ``Protection.about``; None if there is none beside it.
        verification: how visible the perturbation is; None if not known.
    """

    place: _Place
    report: Report
    about: Mapping[str, Any] | None
    verification: Mapping[str, Any] | None

    @classmethod
    def read(cls, place: _Place) -> _Measured:
        """Open what ``measure`` wrote, and what ``protect`` wrote down if it did.

        Raises:
            SourceError: it was not measured.
            DataError: something there that is of another kind.
        """
        if reason := place.run.not_measured:
            raise SourceError(
                f"got {place.given!r}, which was not measured; expected a run with figures to compare. "
                + reason.replace("measure RUN", f"measure {place.given}")
            )
        report = read_report(place.run.measured)
        curves = [one.epochs for one in report.results]
        if not curves or not all(curves) or not all(_is_share(value) for curve in curves for value in curve):
            raise DataError(
                f"got {str(place.run.measured)!r}, which does not hold an accuracy in [0, 1] after every epoch of at "
                f"least one model; expected the {MEASURED} that hf-unlearnable measure wrote"
            )
        private = place.folder / PRIVATE if place.folder else None
        if private is None or not (private / PROTECTION / ABOUT).exists():
            return cls(place, report, None, None)
        about = _stored(private / PROTECTION / ABOUT)
        # Of all images if they were read back, else of a sample.
        verified = _stored(private / VERIFIED) if (private / VERIFIED).exists() else about.get("verification")
        return cls(place, report, about, verified)


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _stored(file: Path) -> dict[str, Any]:
    try:
        stored = dict(json.loads(file.read_text()))
        if file.name == ABOUT:
            method_name(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"got {str(file)!r}, which cannot be read ({type(error).__name__}: {first_line(error)}); expected the "
            f"JSON that hf-unlearnable protect wrote. Without that file the run is called by its folder"
        ) from error
    return stored


def _refuse_twice(places: list[_Place]) -> None:
    seen: dict[Path, str] = {}
    for place in places:
        if place.measured in seen:
            raise RecipeError(
                f"got {seen[place.measured]!r} and {place.given!r}, which are the same run; expected every run once"
            )
        seen[place.measured] = place.given


def _refuse_incomparable(runs: list[_Measured]) -> None:
    for index, one in enumerate(runs):
        for other in runs[:index]:
            if one.report == other.report:
                raise DataError(
                    f"got {other.place.given!r} and {one.place.given!r}, which hold the same figures to the last "
                    f"digit; expected different runs. Is one a copy of the other?"
                )
    if max(Counter(victim for one in runs for victim in one.report.victims).values()) < 2:
        found = "; ".join(f"{one.place.given!r} with {', '.join(one.report.victims)}" for one in runs)
        raise DataError(
            f"got runs that share no model: {found}; expected at least one model that was trained on two of them. To "
            f"measure one with the model of another: hf-unlearnable measure RUN --victim {runs[0].report.victims[0]}"
        )


def _names(runs: list[_Measured]) -> list[str]:
    """By method and budget where they are known, else by the file; what is called the same is told apart by both."""
    known = [method_name(one.about) if one.about is not None else "" for one in runs]
    return unique(
        [
            one.place.name if not name else f"{name} ({one.place.name})" if known.count(name) > 1 else name
            for name, one in zip(known, runs, strict=True)
        ]
    )
