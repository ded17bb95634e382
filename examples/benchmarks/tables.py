"""Means with their spread, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_unlearnable.evaluation.cases import CLEAN_PART
from hf_unlearnable.evaluation.report import Report

NONE = "-"


def told(shares: ArrayLike, form: str = ".1f") -> str:
    """Mean and sample deviation of shares in per cent, or a dash where there are none."""
    values = np.asarray(shares, dtype=np.float64)
    if not len(values):
        return NONE
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():{form}}{spread}"


def percent(report: Report, victim: str | None, case: str, figure: str = "last", **choice: Any) -> str:
    """Mean and spread of an accuracy, or a dash; ``choice`` as for ``Report.values``."""
    return told(report.values(case, victim, figure, **choice))


def differences(report: Report, case: str, victim: str | None = None) -> NDArray[np.float64]:
    """How far a case ends from the clean half alone, seed by seed; empty where it was not measured."""
    values = report.values(case, victim)
    return values - report.values(CLEAN_PART, victim) if len(values) else values


def way(accuracy: float, clean: float, chance: float) -> float:
    """How far up from chance to clean images an accuracy is: 0 at chance, 1 as clean; nan where these teach nothing."""
    return (accuracy - chance) / (clean - chance) if clean > chance else float("nan")


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table; every row must be as long as its head."""
    lines = [[str(cell) for cell in line] for line in [head, ["---"] * len(head), *rows]]
    assert {len(line) for line in lines} == {len(head)}, lines
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
