"""Pictures of a protection: what it looks like and what it does."""

from __future__ import annotations

import math
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

MAX_CLASSES = 20  # shown in one grid
MAX_SIDE = 128  # pixels at which larger images, and images of several sizes, are shown
TILE, TILES_ACROSS = 128, 5  # pixels of one image on a contact sheet, and images in a line
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
        axes[0, column].set_title(before.names[before.labels[row]], fontsize=8)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def contact_sheet(protected: Dataset, file: Path | IO[bytes], columns: Columns) -> None:
    """Draw the first protected image of every class: a picture to publish, with nothing clean in it.

    Args:
        protected: the released images, of any sizes.
        file: a PNG to write.
        columns: its image and label columns.
    """
    first: dict[int, int] = {}
    for row, label in enumerate(protected[columns.label]):
        first.setdefault(label, row)
    picked = [first[label] for label in sorted(first)][:MAX_CLASSES]
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
    pyplot = _pyplot()
    lines = list(report.lines())
    width = 0.8 / len(lines)
    figure, axis = pyplot.subplots(figsize=(3.2 + 0.55 * len(lines) * len(report.victims), 4), layout="constrained")
    for index, (case, ratio) in enumerate(lines):
        places = np.arange(len(report.victims)) + (index - (len(lines) - 1) / 2) * width
        heights = [100 * report.accuracy(case, victim, ratio=ratio) for victim in report.victims]
        spreads = [100 * np.nan_to_num(report.spread(case, victim, ratio=ratio)) for victim in report.victims]
        peaks = [100 * report.accuracy(case, victim, "peak", ratio=ratio) for victim in report.victims]
        share = f", {ratio:.0%} protected" if len(report.ratios) > 1 and case not in RATIO else ""
        bars = axis.bar(places, heights, width * 0.92, yerr=spreads, capsize=3, color=COLOURS[case], label=case + share)
        axis.bar_label(bars, fmt="%.0f", label_type="center", color="white", fontsize=9)
        axis.scatter(places, peaks, marker="_", s=160, color="black", zorder=3, label=None if index else "peak epoch")
    axis.axhline(100 * report.chance, color="black", linewidth=1, linestyle="--", label="chance")
    axis.set_xticks(np.arange(len(report.victims)), report.victims)
    axis.set_ylim(0, 100)
    axis.set_ylabel("accuracy on clean test images (%)")
    axis.set_title("What a model learns", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
