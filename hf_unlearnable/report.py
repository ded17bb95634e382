"""Pictures of a protection: what it looks like and what it does."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import WHITE
from hf_unlearnable.columns import Columns, find_columns
from hf_unlearnable.errors import DataError, RecipeError
from hf_unlearnable.images import ImageSet
from hf_unlearnable.pixels import to_image
from hf_unlearnable.reading import Survey, rows
from hf_unlearnable.results import CLEAN, CLEAN_PART, MIX, PROTECTED, RATIO, SEQUENTIAL, Report
from hf_unlearnable.verification import Pair

MAX_CLASSES = 20  # shown in one grid
MAX_SIDE = 128  # pixels at which larger images, and images of several sizes, are shown
TILE, TILES_ACROSS = 128, 5  # pixels of one image on a contact sheet, and images in a line
DETAIL = 256  # pixels: larger images are shown as a detail, since shrinking would hide the perturbation
SAMPLE = 1000  # images that the histogram counts
COLOURS = {CLEAN: "#4c72b0", PROTECTED: "#c44e52", MIX: "#8172b3", CLEAN_PART: "#8c8c8c", SEQUENTIAL: "#937860"}


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RecipeError("pictures need matplotlib; install it with: pip install 'hf-unlearnable[figures]'") from error
    matplotlib.use("Agg")  # files only: no display is needed
    from matplotlib import pyplot

    return pyplot


def image_grid(
    clean: Dataset,
    protected: Dataset,
    file: Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> None:
    """Draw the first image of every class: clean, protected, and the perturbation amplified to the full range.

    Args:
        clean: the originals.
        protected: the same rows in the same order.
        file: a PNG to write.
        image_column: may be left out when there is exactly one.
        label_column: likewise.

    Raises:
        DataError: other rows, or images that cannot be shown together.
        RecipeError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    columns = find_columns(clean, image_column, label_column)
    labels = np.asarray(clean[columns.label])
    picked = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:MAX_CLASSES]]
    survey = Survey.of(clean.select(picked), columns)
    size, channels = survey.working_size(MAX_SIDE), survey.channels
    before = ImageSet.read(clean.select(picked), columns, size=size, channels=channels)
    found = find_columns(protected, columns.image, columns.label)
    after = ImageSet.read(protected.select(picked), found, size=size, channels=channels)
    if not np.array_equal(before.labels, after.labels) or before.pixels.shape != after.pixels.shape:
        raise DataError("got protected images of other classes or sizes than the clean ones; expected the same rows")
    change = after.pixels.astype(np.int16) - before.pixels
    largest = max(1, int(np.abs(change).max()))
    titles = ("clean", "protected", f"perturbation\n(±{largest} levels\namplified)")
    figure, axes = pyplot.subplots(
        3, len(picked), figsize=(1.1 * len(picked) + 1.2, 4.2), squeeze=False, layout="constrained"
    )
    for column, row in enumerate(range(len(picked))):
        for line, pixels in enumerate((before.pixels[row], after.pixels[row], _amplified(change[row], largest))):
            axis = axes[line, column]
            axis.imshow(_drawable(pixels), cmap="gray", vmin=0, vmax=WHITE, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(titles[line], rotation=0, ha="right", va="center", fontsize=8)
        axes[0, column].set_title(before.names[before.labels[row]], fontsize=8, parse_math=False)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def contact_sheet(protected: Dataset, file: Path | IO[bytes], columns: Columns) -> None:
    """Draw the first protected image of every class: a picture to publish, with nothing clean in it.

    Args:
        protected: the released images, of any sizes.
        file: a PNG to write.
        columns: its image and label columns.
    """
    picked = first_of_classes(protected[columns.label])
    across = min(len(picked), TILES_ACROSS)
    sheet = Image.new("RGB", (TILE * across, TILE * math.ceil(len(picked) / across)), "white")
    for place, shown in enumerate(rows(protected.select(picked), columns)):
        image = to_image(shown.pixels).convert("RGB")
        scale = TILE / max(image.size)
        size = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
        left, top = place % across * TILE, place // across * TILE
        sheet.paste(image, (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
    sheet.save(file, "PNG")


@dataclass(frozen=True)
class Sample:
    """One image as a page shows it, each picture a PNG without metadata.

    Attributes:
        name: of its class.
        protected: the released image, or a detail of it.
        clean: the same of the original; None where that is not known or not shown.
        amplified: the perturbation: grey is no change, black and white the largest change of any sample.
        size: width and height of the whole image in pixels.
    """

    name: str
    protected: bytes
    clean: bytes | None
    amplified: bytes | None
    size: tuple[int, int]


def samples(protected: Dataset, columns: Columns, clean: Dataset | None = None) -> tuple[Sample, ...]:
    """The first image of every class, up to ``MAX_CLASSES``; of images over ``DETAIL`` pixels a detail of the middle.

    Args:
        protected: the released images, of any sizes.
        columns: of both data sets.
        clean: the same rows in the same order; None where they are not known.

    Raises:
        DataError: images of other sizes than their originals.
    """
    picked = first_of_classes(protected[columns.label])
    after = [shown.pixels for shown in rows(protected.select(picked), columns)]
    before = [shown.pixels for shown in rows(clean.select(picked), columns)] if clean is not None else []
    if any(one.shape != other.shape for one, other in zip(after, before, strict=False)):
        raise DataError("got protected images of other sizes than the clean ones; expected the same rows")
    changes = [one.astype(np.int16) - other for one, other in zip(after, before, strict=False)]
    largest = max([1, *(int(np.abs(change).max()) for change in changes)])
    names = protected.features[columns.label].names
    labels = protected[columns.label]
    return tuple(
        Sample(
            name=names[labels[row]],
            protected=_png(after[index]),
            clean=_png(before[index]) if before else None,
            amplified=_png(_amplified(changes[index], largest)) if before else None,
            size=(after[index].shape[2], after[index].shape[1]),
        )
        for index, row in enumerate(picked)
    )


def first_of_classes(labels: Sequence[int]) -> list[int]:
    """The first row of each of the first ``MAX_CLASSES`` classes that occur."""
    first: dict[int, int] = {}
    for row, label in enumerate(labels):
        first.setdefault(label, row)
    return [first[label] for label in sorted(first)][:MAX_CLASSES]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    top, left = (max(0, (side - DETAIL) // 2) for side in pixels.shape[1:])
    stream = io.BytesIO()
    to_image(pixels[:, top : top + DETAIL, left : left + DETAIL]).save(stream, "PNG")
    return stream.getvalue()


def sampled_pairs(clean: Dataset, protected: Dataset, columns: Columns) -> Iterator[Pair]:
    """Up to ``SAMPLE`` evenly spaced pairs of (original, released) images, each (C, H, W) uint8.

    Raises:
        DataError: other rows, labels or sizes.
    """
    if len(clean) != len(protected):
        raise DataError(f"got {len(protected)} protected rows; expected {len(clean)}, those of the clean dataset")
    picked = range(0, len(clean), math.ceil(len(clean) / SAMPLE))
    pairs = zip(rows(clean.select(picked), columns), rows(protected.select(picked), columns), strict=True)
    for row, ((before, label, _), (after, label_after, _)) in zip(picked, pairs, strict=True):
        if (before.shape, label) != (after.shape, label_after):
            raise DataError(
                f"row {row}: got a protected image of {after.shape}, label {label_after}; expected {before.shape}, "
                f"label {label}: the same rows in the same order"
            )
        yield before, after


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


def _amplified(change: NDArray[np.int16], largest: int) -> NDArray[np.uint8]:
    """Grey is no change, white the largest increase, black the largest decrease."""
    return np.rint((1 + change / largest) * (WHITE / 2)).astype(np.uint8)


def _drawable(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


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
    figure, axis = _pyplot().subplots(figsize=(width, height), layout="constrained")
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
