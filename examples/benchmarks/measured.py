"""What thieves reach of one recipe: means over fits of the means over victims, and both spreads apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import imagenet
import numpy as np
from common import ROOT
from numpy.typing import NDArray
from selection import many
from tables import NONE, told, way

from hf_unlearnable.benchmark.rows import Table, tables_of
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.evaluation.lines import Accuracy
from hf_unlearnable.evaluation.report import Report

LEADERBOARD = ROOT / "docs" / "leaderboard"
EPOCHS = 12  # of an ordinary training
EIGHTEEN = "epochs=18,copies=2,guide_accuracy=0.667"  # how the leaderboard calls what was the default once
RECIPES = {  # as the benchmarks call them, and the leaderboard
    "texture": "texture",
    "texture-one": "texture:signs=one",
    "mi-ue-learned": "mi-ue:from_waves=False",
    "mi-ue-from-waves": "mi-ue",
}

Accuracies = NDArray[np.float64]  # in [0, 1]


@dataclass(frozen=True)
class Measured:
    """What one thief reaches of one recipe.

    Attributes:
        last: (victims,) of each fit, at the last epoch.
        peak: the same at the best epoch.
        clean: (models,) of what it stands beside, mostly clean images; each model once, of whichever fits.
        chance: of naming the most frequent class.
    """

    last: list[Accuracies]
    peak: list[Accuracies]
    clean: Accuracies
    chance: float

    @classmethod
    def of(
        cls,
        fits: Sequence[Report],
        victim: str,
        defence: str = "none",
        *,
        case: str = PROTECTED,
        beside: str = CLEAN,
    ) -> Measured:
        """What reports of several fits, one each, say of a thief.

        Args:
            fits: a report of each.
            victim: with the name of its training, as reports have it.
            defence: as benchmarks or the package name it.
            case: what he learns from.
            beside: what ``clean`` is of.
        """
        last, peak, clean, chance = list[Accuracies](), list[Accuracies](), dict[tuple[float, ...], float](), 0.0
        for one in fits:
            for named in one.defences:
                if (imagenet.named(named) or named) != defence:
                    continue
                reached = one.values(case, victim, defence=named)
                if len(reached):
                    last.append(reached)
                    peak.append(one.values(case, victim, "peak", defence=named))
                    chance = one.chance
                curves = one.curves(beside, victim, defence=named)
                clean |= dict(zip(curves, one.values(beside, victim, defence=named).tolist(), strict=True))
        return cls(last, peak, np.array(list(clean.values())), chance)

    def __bool__(self) -> bool:
        return bool(self.last)

    @property
    def models(self) -> int:
        """How many were trained on protected images."""
        return sum(map(len, self.last))

    @property
    def means(self) -> tuple[float, float]:
        """At the last epoch and at the best one."""
        last, peak = (float(np.mean([one.mean() for one in fits])) for fits in (self.last, self.peak))
        return last, peak

    @property
    def fits(self) -> list[Measured]:
        """Each fit by itself."""
        each = zip(self.last, self.peak, strict=True)
        return [replace(self, last=[last], peak=[peak]) for last, peak in each]

    @property
    def ways(self) -> list[float]:
        """How far up from chance to clean images these are."""
        return [way(one, float(self.clean.mean()), self.chance) for one in self.means]

    @property
    def figures(self) -> str:
        """In per cent, the best epoch in brackets."""
        last, peak = self.means
        return f"{100 * last:.1f} ({100 * peak:.1f})"

    @property
    def in_prose(self) -> str:
        """The last epoch and what clean images teach, in per cent: ``"35.6 of 48.9"``."""
        return f"{100 * self.means[0]:.1f} of {100 * self.clean.mean():.1f}"

    @property
    def effort(self) -> str:
        """Fits and victims of each; a range of victims where not all fits met as many."""
        counts = sorted({len(one) for one in self.last})
        return f"{len(self.last)} x {' to '.join(map(str, counts[:1] + counts[1:][-1:]))}"

    @property
    def over_fits(self) -> float:
        """Sample deviation of the means of fits at the last epoch; nan of a single one."""
        return Accuracy.of(np.array([one.mean() for one in self.last])).spread

    @property
    def spreads(self) -> str:
        """Sample deviations of the last epoch in points: of the means of fits, and of the victims within a fit."""
        within = [one.var(ddof=1) for one in self.last if len(one) > 1]
        over_victims = np.sqrt(np.mean(within)) if within else np.nan
        return ", ".join(NONE if np.isnan(one) else f"{100 * one:.1f}" for one in (self.over_fits, over_victims))

    @property
    def cells(self) -> list[str]:
        """Figures, effort, spreads, and what clean images teach."""
        if not self:
            return [NONE] * 4
        return [self.figures, self.effort, self.spreads, told(self.clean)]


@cache
def leaderboard() -> list[Table]:
    """Its tables, read once."""
    return tables_of([LEADERBOARD])


def on_leaderboard(dataset: str, recipe: str, epochs: int) -> list[Report]:
    """What the leaderboard has of a recipe at 8/255: a report of each fit."""
    return [
        report
        for table in leaderboard()
        if table.dataset["name"] == dataset and table.dataset["epochs"] == epochs
        for row in table.rows
        if row.name == RECIPES.get(recipe, recipe) and row.budget == "linf:8"
        for report in row.reports
    ]


@cache
def in_files(dataset: str, recipe: str, epochs: int) -> list[list[Report]]:
    """What result files have of it, read once: a list for each source, of the reports of its fits."""
    wanted = {"dataset": dataset, "recipe": recipe, "budget": "linf:8", "epochs": epochs}
    fits, met = list[Report](), set[tuple[object, ...]]()
    found = [one for one in many("protection_strength", **wanted) if PROTECTED in one.report.cases]
    for one in sorted(found, key=lambda one: (-len(one.report.victims), -len(one.report.seeds))):
        about, victims = one.experiment, one.report.victims
        told = {(about.images, about.fit or 1, victim) for victim in victims}
        if not told <= met:  # some fits were measured again, beside mixtures
            fits.append(one.report)
            met |= told
    thieves: dict[int, list[Report]] = {}  # of every fit, by the number of victims
    for one in many("countermeasures", **wanted):
        thieves.setdefault(len(one.report.seeds), []).append(one.report)
    return [fits, *thieves.values()]


def best_known(sources: Sequence[Sequence[Report]], victim: str, defence: str = "none") -> Measured:
    """Of several measurements of the same that of most models."""
    return max((Measured.of(reports, victim, defence) for reports in sources), key=lambda one: one.models)
