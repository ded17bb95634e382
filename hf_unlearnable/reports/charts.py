"""Pictures of a protection: what it looks like and what it does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.pairing import Pair
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.evaluation.report import CLEAN, CLEAN_PART, MIX, PROTECTED, RATIO, SEQUENTIAL, Report

COLOURS = {CLEAN: "#4c72b0", PROTECTED: "#c44e52", MIX: "#8172b3", CLEAN_PART: "#8c8c8c", SEQUENTIAL: "#937860"}


def load_pyplot() -> Any:
    """Matplotlib's ``pyplot``.

    Raises:
        RecipeError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise RecipeError("pictures need matplotlib; install it with: pip install 'hf-unlearnable[figures]'") from error
    matplotlib.use("Agg")  # files only: no display is needed
    from matplotlib import pyplot

    return pyplot


def change_shares(pairs: Iterable[Pair]) -> dict[int, float]:
    """How often each change occurs among all values of all channels.

    Args:
        pairs: at least one, as of ``sampled_pairs``.

    Returns:
        level -> share of the values in [0, 1], for every level between the lowest and highest that occur.
    """
    counts = np.zeros(2 * WHITE + 1, dtype=np.int64)
    for before, after in pairs:
        counts += np.bincount((after.astype(np.int64) - before + WHITE).ravel(), minlength=len(counts))
    found = np.flatnonzero(counts)
    return {
        int(index) - WHITE: float(counts[index] / counts.sum()) for index in range(int(found[0]), int(found[-1]) + 1)
    }


def accuracy_chart(report: Report, file: Path) -> None:
    """Draw the table of a report: a bar a case with its spread, the peak epoch as a mark, chance as a line.

    Of several defences the first.

    Args:
        report: of ``learnability``.
        file: a PNG to write.

    Raises:
        RecipeError: matplotlib is not installed.
    """
    lines = list(report.lines())
    width = 0.8 / len(lines)
    figure, axis = _axes(3.2 + 0.55 * len(lines) * len(report.victims), 4)
    for index, (case, ratio) in enumerate(lines):
        measured = [victim for victim in report.victims if not math.isnan(report.accuracy(case, victim, ratio=ratio))]
        places = (
            np.array([report.victims.index(victim) for victim in measured]) + (index - (len(lines) - 1) / 2) * width
        )
        heights = [100 * report.accuracy(case, victim, ratio=ratio) for victim in measured]
        spreads = [100 * np.nan_to_num(report.spread(case, victim, ratio=ratio)) for victim in measured]
        peaks = [100 * report.accuracy(case, victim, "peak", ratio=ratio) for victim in measured]
        share = f", {ratio:.0%} protected" if len(report.ratios) > 1 and case not in RATIO else ""
        bars = axis.bar(places, heights, width * 0.92, yerr=spreads, capsize=3, color=COLOURS[case], label=case + share)
        axis.bar_label(bars, fmt="%.0f", label_type="center", color="white", fontsize=9)
        axis.scatter(places, peaks, marker="_", s=160, color="black", zorder=3, label=None if index else "peak epoch")
    _percentages(axis, report.chance, "accuracy on clean test images (%)")
    axis.set_xticks(np.arange(len(report.victims)), report.victims, parse_math=False)
    axis.set_title("What a model learns", fontsize=11)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    _save(figure, file, "png")


def learning_curves(report: Report, victim: str, defence: str, file: Path | IO[bytes], kind: str = "svg") -> None:
    """Draw clean test accuracy after every epoch: the mean of every case thick, its seeds thin, its peak as a ring.

    Args:
        report: of ``learnability``.
        victim: one of its victims.
        defence: one of its defences.
        file: a picture to write; equal reports give equal bytes.
        kind: ``"svg"`` or ``"png"``.

    Raises:
        RecipeError: matplotlib is not installed.
    """
    figure, axis = _axes(4.6, 3.1)
    styles = ("-", "--", ":", "-.")
    for case, ratio in report.lines():
        curves = report.curves(case, victim, ratio=ratio, defence=defence)
        if not curves:
            continue
        style = styles[report.ratios.index(ratio) % len(styles)] if ratio in report.ratios else "-"
        share = f", {ratio:.0%} protected" if case not in RATIO else ""
        for curve in curves if len(curves) > 1 else ():
            axis.plot(range(1, len(curve) + 1), 100 * np.array(curve), color=COLOURS[case], linewidth=0.6, alpha=0.5)
        # A thief who stops at the best epoch has curves of several lengths: their mean ends with the shortest.
        mean = 100 * np.array([curve[: min(map(len, curves))] for curve in curves]).mean(axis=0)
        epochs = np.arange(1, len(mean) + 1)
        axis.plot(epochs, mean, style, color=COLOURS[case], linewidth=2, label=case + share)
        axis.plot(epochs[-1], mean[-1], "o", color=COLOURS[case], markersize=5)
        axis.plot(
            1 + mean.argmax(), mean.max(), "o", markerfacecolor="none", markeredgecolor=COLOURS[case], markersize=10
        )
    _percentages(axis, report.chance, "clean test accuracy (%)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("epoch")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    _save(figure, file, kind)


def change_histogram(shares: Mapping[int, float], file: Path | IO[bytes], kind: str = "svg") -> None:
    """Draw how often each change of a colour value occurs.

    Args:
        shares: of ``change_shares``.
        file: a picture to write; equal shares give equal bytes.
        kind: ``"svg"`` or ``"png"``.

    Raises:
        RecipeError: matplotlib is not installed.
    """
    figure, axis = _axes(4.6, 2.6)
    axis.bar(list(shares), [100 * share for share in shares.values()], width=0.9, color=COLOURS[PROTECTED])
    axis.set_xlabel("change of a colour value (levels of 255)")
    axis.set_ylabel("share of all values (%)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, file, kind)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches and its one pair of axes."""
    figure, axis = load_pyplot().subplots(figsize=(width, height), layout="constrained")
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _percentages(axis: Any, chance: float, what: str) -> None:
    """Accuracies from 0 to 100 with the line of chance."""
    axis.axhline(100 * chance, color="black", linewidth=1, linestyle=(0, (4, 3)), label="chance")
    axis.set_ylim(0, 100)
    axis.set_ylabel(what)


def _save(figure: Any, file: Path | IO[bytes], kind: str) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "hf-unlearnable"}):  # or ids in the file would be random
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    matplotlib.pyplot.close(figure)
