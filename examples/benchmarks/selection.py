"""Choose results by their fields, and say their figures in prose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from result_files import ResultFile, read_results
from tables import differences, percent, told

from hf_unlearnable.errors import DataError
from hf_unlearnable.evaluation.cases import PROTECTED


def many(script: str, **wanted: Any) -> list[ResultFile]:
    """All results of a script whose fields, or whose settings, are these."""

    def fits(one: ResultFile) -> bool:
        told = one.experiment.as_dict()
        fields = told | told["settings"]
        return all(fields.get(name) == value for name, value in wanted.items())

    return [one for one in read_results(script) if fits(one)]


def only(script: str, **wanted: Any) -> ResultFile:
    """The one result with these fields.

    Raises:
        DataError: there is none, or more than one.
    """
    found = many(script, **wanted)
    if len(found) != 1:
        names = ", ".join(one.experiment.file_name for one in found) or "none"
        raise DataError(f"got {names} of {script} with {wanted}; expected one result. Name more fields, or fewer")
    return found[0]


def share(result: ResultFile, case: str, victim: str | None = None, figure: str = "last", **choice: Any) -> str:
    """Clean test accuracy in per cent, with its spread over victims.

    Raises:
        DataError: it was not measured.
    """
    if not len(result.report.values(case, victim, figure, **choice)):
        raise DataError(f"got no {case} of {victim or 'any victim'} {choice} in {result.experiment.file_name}")
    return percent(result.report, victim, case, figure, **choice)


def mean(result: ResultFile, case: str, victim: str | None = None, figure: str = "last", **choice: Any) -> str:
    """The same without its spread."""
    return share(result, case, victim, figure, **choice).split(" ")[0]


def difference(result: ResultFile, case: str) -> str:
    """How many points a case ends above its clean half alone, with the spread of the pairs."""
    return told(differences(result.report, case), "+.1f")


def of_each_fit(results: Sequence[ResultFile]) -> list[ResultFile]:
    """One result of each fit, in the order of fits: the one with most victims, where some were measured again.

    What was measured of mixtures alone is left out.
    """
    found: dict[int, ResultFile] = {}
    for one in results:
        if PROTECTED not in one.report.cases:
            continue
        known = found.setdefault(one.experiment.fit or 1, one)
        if len(one.report.seeds) > len(known.report.seeds):
            found[one.experiment.fit or 1] = one
    return [one for _, one in sorted(found.items())]


def fit_seconds(results: Sequence[ResultFile]) -> float:
    """Mean processor time of a fit."""
    return float(np.mean([one.figures["fit_seconds"] for one in of_each_fit(results)]))


def by_fit(results: Sequence[ResultFile], case: str = PROTECTED, figure: str = "last") -> tuple[str, str]:
    """The mean over fits of the same recipe, and the fits themselves: ``"22.4"`` and ``"17.1, 24.2 and 25.8"``."""
    reports = [one.report for one in of_each_fit(results)]
    means = [100 * one.values(case, one.victims[0], figure).mean() for one in reports]
    *first, final = [f"{one:.1f}" for one in means]
    return f"{np.mean(means):.1f}", f"{', '.join(first)} and {final}" if first else final


def span(values: Sequence[float], form: str = ".0f") -> str:
    """``"83 to 190"``, or one figure where all are the same."""
    smallest, largest = f"{min(values):{form}}", f"{max(values):{form}}"
    return smallest if smallest == largest else f"{smallest} to {largest}"


PROSE: dict[str, Callable[..., Any]] = {
    "many": many,
    "only": only,
    "share": share,
    "mean": mean,
    "difference": difference,
    "by_fit": by_fit,
    "span": span,
}
