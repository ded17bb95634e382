"""Charts of a protection: how large its changes are, and what models learn in spite of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.pairing import Pair
from hf_unlearnable.errors import MissingExtraError
from hf_unlearnable.evaluation.cases import PROTECTED, case_of
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.files import atomic_write
from hf_unlearnable.lazy import import_extra, require_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """A figure to be written into a file.

    It needs no display, and pyplot knows nothing of it: the backend of a notebook stays as it is.

    Args:
        width: in inches.
        height: likewise.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure: Figure = import_extra("matplotlib.figure", "a picture").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure


def missing() -> str:
    """Why nothing can be drawn here, with what to do; empty if it can."""
    try:
        require_extra("matplotlib", "a picture")
    except MissingExtraError as error:
        return str(error)
    return ""


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
    occurring = np.flatnonzero(counts)
    levels = range(int(occurring[0]), int(occurring[-1]) + 1)
    return {index - WHITE: float(counts[index] / counts.sum()) for index in levels}


def keep_picture(file: Path, draw: Callable[[IO[bytes]], None]) -> None:
    """Write a picture that only its owner may read: it can show clean images and perturbations."""
    stream = io.BytesIO()
    draw(stream)
    atomic_write(file, stream.getvalue(), private=True)


def accuracy_chart(report: Report, file: Path | IO[bytes]) -> None:
    """Draw the table of a report: a bar a case with its spread, the peak epoch as a mark, chance as a line.

    Of several defences the first.

    Args:
        report: of ``learnability``.
        file: a PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    victims = report.victims
    columns = list(zip(*(report.table(victim, report.defences[0]) for victim in victims), strict=True))
    width = 0.8 / len(columns)
    figure, axis = _axes(3.2 + 0.55 * len(columns) * len(victims), 4)
    for index, column in enumerate(columns):
        measured = [line for line in column if line.seeds]
        places = np.array([victims.index(line.victim) for line in measured]) + (index - (len(columns) - 1) / 2) * width
        heights = [100 * line.last.mean for line in measured]
        spreads = [100 * np.nan_to_num(line.last.spread) for line in measured]
        peaks = [100 * line.peak.mean for line in measured]
        case, label = column[0].case, column[0].text if len(report.ratios) > 1 else column[0].case.text
        bars = axis.bar(places, heights, width * 0.92, yerr=spreads, capsize=3, color=case.colour, label=label)
        axis.bar_label(bars, fmt="%.0f", label_type="center", color="white", fontsize=9)
        axis.scatter(places, peaks, marker="_", s=160, color="black", zorder=3, label=None if index else "peak epoch")
    _percentages(axis, report.chance, f"{report.figure} (%)")
    axis.set_xticks(np.arange(len(victims)), victims, parse_math=False)
    axis.set_title(
        "What a model learns of one owner among others" if report.owner else "What a model learns", fontsize=11
    )
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
        MissingExtraError: matplotlib is not installed.
    """
    figure, axis = _axes(4.6, 3.1)
    styles = ("-", "--", ":", "-.")
    for line in report.table(victim, defence):
        if not line.seeds:
            continue
        curves = report.curves(line.case.key, victim, ratio=line.ratio, defence=defence)
        colour = line.case.colour
        style = styles[report.ratios.index(line.ratio) % len(styles)] if line.ratio in report.ratios else "-"
        for curve in curves if len(curves) > 1 else ():
            axis.plot(range(1, len(curve) + 1), 100 * np.array(curve), color=colour, linewidth=0.6, alpha=0.5)
        # A thief who stops at the best epoch has curves of several lengths: their mean ends with the shortest.
        mean = 100 * np.array([curve[: min(map(len, curves))] for curve in curves]).mean(axis=0)
        epochs = np.arange(1, len(mean) + 1)
        axis.plot(epochs, mean, style, color=colour, linewidth=2, label=line.text)
        picked = report.values(line.case.key, victim, "picked", ratio=line.ratio, defence=defence)
        ended = (epochs[-1], mean[-1]) if np.isnan(picked).any() else (picked.mean(), 100 * line.last.mean)
        axis.plot(*ended, "o", color=colour, markersize=5)
        axis.plot(1 + mean.argmax(), mean.max(), "o", markerfacecolor="none", markeredgecolor=colour, markersize=10)
    _percentages(axis, report.chance, f"{report.figure} (%)")
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
        MissingExtraError: matplotlib is not installed.
    """
    figure, axis = _axes(4.6, 2.6)
    axis.bar(list(shares), [100 * share for share in shares.values()], width=0.9, color=case_of(PROTECTED).colour)
    axis.set_xlabel("change of a colour value (levels of 255)")
    axis.set_ylabel("share of all values (%)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, file, kind)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of so many inches and its one pair of axes."""
    figure = new_figure(width, height)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _percentages(axis: Any, chance: float, what: str) -> None:
    """Accuracies from 0 to 100 with the line of chance."""
    axis.axhline(100 * chance, color="black", linewidth=1, linestyle=(0, (4, 3)), label="chance")
    axis.set_ylim(0, 100)
    axis.set_ylabel(what)


def _save(figure: Figure, file: Path | IO[bytes], kind: str) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "hf-unlearnable"}):  # or ids in the file would be random
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
