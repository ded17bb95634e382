"""Whether what theory computes goes with what models learn: rank correlations over the rows of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hf_unlearnable.benchmark.rows import Table

FEWEST = 5  # rows below which no correlation is told: of four in random order one in twelve is perfectly ordered
RESAMPLES = 2000
COVERED = 0.95


@dataclass(frozen=True)
class Quantity:
    """What theory computes of a protected set.

    Attributes:
        key: of ``Theory``.
        name: for pages.
        sign: 1 where the paper expects that more of it goes with more learned, -1 with less.
        claim: whose question it is, and which.
    """

    key: str
    name: str
    sign: int
    claim: str


_MI = "MI-UE (arXiv 2603.03725): the less mutual information between clean and protected features, the less is learned"
_BEO = "BEO (arXiv 2511.08191): the higher the Bayes error, the less is learned"
_LINEAR = "TUE and LSP (Yu et al. 2022): the better a linear model tells the perturbations apart, the less is learned"
QUANTITIES = (
    Quantity("mutual_information_histogram", "mutual information, by histograms (nats)", 1, _MI),
    Quantity("mutual_information_ksg", "mutual information, by nearest neighbours (nats)", 1, _MI),
    Quantity("mutual_information_variational", "mutual information, variational bound (nats)", 1, _MI),
    Quantity("bayes_error_own", "Bayes error in the victim's own embedding", -1, _BEO),
    Quantity("bayes_error_held_out", "Bayes error in a held-out embedding", -1, _BEO),
    Quantity("linear_separability_held_out", "linear separability of unseen perturbations", -1, _LINEAR),
    Quantity(
        "class_share",
        "share of the perturbations' energy that is common to a class",
        -1,
        "class-wise patterns: the more a class has in common, the less is learned of its images",
    ),
)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation.

    Attributes:
        rows: how many.
        value: in [-1, 1]; not a number where there are fewer than ``FEWEST`` rows, or all are equal.
        low: of its bootstrap interval, which covers 95 %.
        high: likewise.
    """

    rows: int
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def verdict(self, sign: int) -> str:
        """In words, whether it is as a paper expects."""
        if self.rows < FEWEST:
            return f"cannot be told: {self.rows} rows are too few, {FEWEST} are the least"
        if math.isnan(self.value):
            return "cannot be told: all rows have the same value"
        if self.low <= 0 <= self.high:
            return f"cannot be told from these {self.rows} rows: the interval holds 0"
        return "as expected" if sign * self.value > 0 else "against what is expected"


def spearman(some: NDArray[np.float64], others: NDArray[np.float64], seed: int = 0) -> Correlation:
    """The rank correlation of pairs of figures, with its percentile bootstrap interval over the pairs.

    Args:
        some: (N,); what is not a number leaves the pair out.
        others: (N,), likewise.
        seed: of the resamples.
    """
    known = ~(np.isnan(some) | np.isnan(others))
    some, others = some[known], others[known]
    if len(some) < FEWEST or math.isnan(value := float(_spearman(some, others))):
        return Correlation(len(some))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(some), (RESAMPLES, len(some)))
    found = _spearman(some[drawn], others[drawn])
    low, high = np.quantile(found[~np.isnan(found)], [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Correlation(len(some), value, float(low), float(high))


def _spearman(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., N) twice -> (...); not a number where all of one side are equal."""
    ranks = [rankdata(side, axis=-1) - (side.shape[-1] + 1) / 2 for side in (some, others)]
    size = np.sqrt((ranks[0] ** 2).sum(-1) * (ranks[1] ** 2).sum(-1))
    products = (ranks[0] * ranks[1]).sum(-1)
    return np.divide(products, size, out=np.full_like(products, math.nan), where=size > 0)


@dataclass(frozen=True)
class Point:
    """A row in a scatter plot.

    Attributes:
        name: of the row.
        x: the quantity.
        y: the share that a thief regains.
        left: where it is drawn, in per cent of the width.
        top: in per cent of the height.
    """

    name: str
    x: float
    y: float
    left: float
    top: float


@dataclass(frozen=True)
class Plot:
    """A quantity against what a thief regains.

    Attributes:
        quantity: which.
        thief: ``"the ordinary thief"`` or ``"the best thief"``.
        points: of all rows with both figures.
        correlation: of them.
        x: the smallest and the largest value that is drawn.
        y: likewise.
    """

    quantity: Quantity
    thief: str
    points: tuple[Point, ...]
    correlation: Correlation
    x: tuple[float, float]
    y: tuple[float, float]


def plots_of(table: Table) -> list[Plot]:
    """Every quantity that was computed, against what the ordinary and the best thief regain."""
    found = []
    for quantity in QUANTITIES:
        for thief in ("the ordinary thief", "the best thief"):
            verdicts = [row.ordinary if thief == "the ordinary thief" else row.best for row in table.rows]
            x = np.array([row.theory(quantity.key) for row in table.rows])
            y = np.array([math.nan if verdict is None else verdict.regained for verdict in verdicts])
            known = ~(np.isnan(x) | np.isnan(y))
            if known.any():
                names = [row.name for row in table.rows]
                spans = [_span(side[known]) for side in (x, y)]
                points = tuple(
                    Point(
                        name,
                        a,
                        b,
                        100 * (a - spans[0][0]) / (spans[0][1] - spans[0][0]),
                        100 * (spans[1][1] - b) / (spans[1][1] - spans[1][0]),
                    )
                    for name, a, b, told in zip(names, x.tolist(), y.tolist(), known, strict=True)
                    if told
                )
                found.append(Plot(quantity, thief, points, spearman(x, y), spans[0], spans[1]))
    return found


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    """What an axis shows: all values, and a tenth more on either side."""
    low, high = float(values.min()), float(values.max())
    room = 0.1 * (high - low) or 0.1 * abs(high) or 0.1
    return low - room, high + room
