"""Pictures of protected images: grids, contact sheets, samples."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.columns import Classes, Columns, find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.pairing import aligned_pairs
from hf_unlearnable.data.pixels import to_image
from hf_unlearnable.data.reading import Survey, class_numbers, rows
from hf_unlearnable.errors import DataError
from hf_unlearnable.reports.charts import new_figure

MAX_CLASSES = 20  # shown in one grid

MAX_SIDE = 128  # pixels at which larger images, and images of several sizes, are shown

TILE, TILES_ACROSS = 128, 5  # pixels of one image on a contact sheet, and images in a line

DETAIL = 256  # pixels: larger images are shown as a detail, since shrinking would hide the perturbation


def image_grid(
    clean: Dataset,
    protected: Dataset,
    file: Path | IO[bytes],
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
    columns = find_columns(clean, image_column, label_column, needs_label=False)
    picked = first_of_classes(clean, columns)
    figure = new_figure(1.1 * len(picked) + 1.2, 4.2)
    survey = Survey.of(clean.select(picked), columns)
    size, channels = survey.working_size(MAX_SIDE), survey.channels
    before = ImageSet.read(clean.select(picked), columns, size=size, channels=channels)
    after = ImageSet.read(protected.select(picked), columns.of(protected), size=size, channels=channels)
    if not np.array_equal(before.labels, after.labels) or before.pixels.shape != after.pixels.shape:
        raise DataError("got protected images of other classes or sizes than the clean ones; expected the same rows")
    change = after.pixels.astype(np.int16) - before.pixels
    largest = max(1, int(np.abs(change).max()))
    titles = ("clean", "protected", f"perturbation\n(±{largest} levels\namplified)")
    axes = figure.subplots(3, len(picked), squeeze=False)
    for column, row in enumerate(range(len(picked))):
        for line, pixels in enumerate((before.pixels[row], after.pixels[row], _amplified(change[row], largest))):
            axis = axes[line, column]
            axis.imshow(_drawable(pixels), cmap="gray", vmin=0, vmax=WHITE, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(titles[line], rotation=0, ha="right", va="center", fontsize=8)
        axes[0, column].set_title(before.names[before.labels[row]], fontsize=8, parse_math=False)
    figure.savefig(file, format="png", dpi=150)


def contact_sheet(protected: Dataset, file: Path | IO[bytes], columns: Columns) -> None:
    """Draw the first protected image of every class: a picture to publish, with nothing clean in it.

    Args:
        protected: the released images, of any sizes.
        file: a PNG to write.
        columns: its image and label columns.
    """
    picked = first_of_classes(protected, columns)
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
        DataError: other rows than the originals, as ``aligned_pairs`` raises it.
    """
    picked = first_of_classes(protected, columns)
    if clean is None:
        before, after = [], [shown.pixels for shown in rows(protected.select(picked), columns)]
    else:
        pairs = list(aligned_pairs(clean, protected, columns, picked))
        before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    changes = [one.astype(np.int16) - other for one, other in zip(after, before, strict=False)]
    largest = max([1, *(int(np.abs(change).max()) for change in changes)])
    names, numbers = Classes.of(protected, columns).names, class_numbers(protected, columns)
    return tuple(
        Sample(
            name=names[numbers[row]],
            protected=_png(after[index]),
            clean=_png(before[index]) if before else None,
            amplified=_png(_amplified(changes[index], largest)) if before else None,
            size=(after[index].shape[2], after[index].shape[1]),
        )
        for index, row in enumerate(picked)
    )


def first_of_classes(dataset: Dataset, columns: Columns) -> list[int]:
    """The first row of each of the first ``MAX_CLASSES`` classes that occur; the first few rows of a single class."""
    _, first = np.unique(class_numbers(dataset, columns), return_index=True)
    return list(range(min(TILES_ACROSS, len(dataset)))) if len(first) == 1 else first[:MAX_CLASSES].tolist()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    top, left = (max(0, (side - DETAIL) // 2) for side in pixels.shape[1:])
    stream = io.BytesIO()
    to_image(pixels[:, top : top + DETAIL, left : left + DETAIL]).save(stream, "PNG")
    return stream.getvalue()


def _amplified(change: NDArray[np.int16], largest: int) -> NDArray[np.uint8]:
    """Grey is no change, white the largest increase, black the largest decrease."""
    return np.rint((1 + change / largest) * (WHITE / 2)).astype(np.uint8)


def _drawable(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
