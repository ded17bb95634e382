"""The lines of the results table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_unlearnable.evaluation.cases import Case


@dataclass(frozen=True)
class Accuracy:
    """Clean test accuracy over the seeds.

    Attributes:
        mean: in [0, 1]; not a number where nothing was measured.
        spread: the sample standard deviation; not a number for less than two seeds.
    """

    mean: float
    spread: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Accuracy:
        """From one accuracy for each seed; what is not a number does not count."""
        values = values[~np.isnan(values)]
        return cls(
            float(values.mean()) if len(values) else math.nan,
            float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        )

    @property
    def low(self) -> float:
        """One standard deviation below the mean, at least 0."""
        return max(0.0, self.mean - self.spread)

    @property
    def high(self) -> float:
        """One standard deviation above the mean, at most 1."""
        return min(1.0, self.mean + self.spread)


@dataclass(frozen=True)
class Line:
    """A line of the table of results: one case of one victim that meets one defence, over all seeds.

    Attributes:
        victim: the model, as given.
        defence: what the thief did against the protection.
        case: what the victim was trained on.
        ratio: the share of the rows that is protected, in [0, 1].
        seeds: how many victims were trained; 0 where this was not measured for this victim and defence.
        last: of the last epoch, or of the one that the thief picked.
        peak: of the best epoch.
        clean_part: of a mixture, what its clean part alone gives at the last epoch; None for other cases.
        protection_score: ``Report.protection_score``; None for other cases than the protected images.
        theft_gain: of a mixture, ``Report.theft_gain``; None for other cases.
        precision: where one owner's class was measured, its precision at the last epoch; else None.
        others: likewise, the accuracy on the images of all other classes.
    """

    victim: str
    defence: str
    case: Case
    ratio: float
    seeds: int
    last: Accuracy
    peak: Accuracy
    clean_part: Accuracy | None = None
    protection_score: float | None = None
    theft_gain: float | None = None
    precision: Accuracy | None = None
    others: Accuracy | None = None

    @property
    def text(self) -> str:
        """What the line is called in the printed table and in charts."""
        return self.case.text + (f", {self.ratio:.0%} protected" if self.case.ratio is None else "")

    @property
    def page(self) -> str:
        """What the line is called on the page of a run."""
        return self.case.page.format(self.ratio)

    @property
    def card(self) -> str:
        """What the line is called in the table of a dataset card, where it is a column."""
        return self.case.card.format(self.ratio)

    @property
    def comparison(self) -> str:
        """What the line is called on a page that compares runs."""
        return (self.case.comparison or self.case.page).format(self.ratio)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: an entry of the summary, with None where a figure is not a number."""
        entry: dict[str, Any] = {
            "victim": self.victim,
            "defence": self.defence,
            "case": self.case.key,
            "ratio": self.ratio,
            "last": {"mean": rounded(self.last.mean), "std": rounded(self.last.spread)},
            "peak": {"mean": rounded(self.peak.mean), "std": rounded(self.peak.spread)},
        }
        if self.protection_score is not None:
            entry["protection_score"] = rounded(self.protection_score)
        if self.theft_gain is not None:
            entry["theft_gain"] = rounded(self.theft_gain)
        for name, accuracy in (("precision", self.precision), ("others", self.others)):
            if accuracy is not None:
                entry[name] = {"mean": rounded(accuracy.mean), "std": rounded(accuracy.spread)}
        return entry


def rounded(value: float) -> float | None:
    """Six digits for a file; None for what is not a number."""
    return None if math.isnan(value) else round(value, 6)
