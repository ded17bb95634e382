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

from hf_unlearnable.budget import VIEW, WHITE
from hf_unlearnable.data.columns import Classes, Columns, find_columns
from hf_unlearnable.data.pairing import aligned_pairs
from hf_unlearnable.data.pixels import on_white, to_image
from hf_unlearnable.data.reading import class_numbers, rows
from hf_unlearnable.reports.charts import new_figure

MAX_CLASSES = 20  # shown in one grid

GRID_TILE = 0.92  # the longer side of an image in a grid, as a share of its cell

TILE, TILES_ACROSS = 128, 5  # pixels of one image on a contact sheet, and images in a line

DETAIL = 256  # pixels a side: of larger images the smoothest part is shown too, where a change is seen first
BLOCKS = 4  # a side of that part, by which its place is counted
DARK, LIGHT = 16, 240  # levels: where a part is darker or lighter than that on average, clipping hides the change


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
        DataError: other rows.
        MissingExtraError: matplotlib is not installed.
    """
    shown = samples(protected, find_columns(clean, image_column, label_column, needs_label=False), clean)
    figure = new_figure(1.1 * len(shown) + 1.2, 4.2)
    axis = figure.subplots()  # one for all: a pair of axes takes ten times as long as the image in it
    for column, sample in enumerate(shown):
        for row, content in enumerate((sample.clean, sample.protected, sample.amplified)):
            assert content is not None  # the originals are known
            image = Image.open(io.BytesIO(content)).convert("RGBA")
            width, height = (GRID_TILE * side / max(image.size) for side in image.size)
            left, right, bottom, top = column - width / 2, column + width / 2, row + height / 2, row - height / 2
            axis.imshow(image, interpolation="nearest", extent=(left, right, bottom, top))
            axis.plot([left, right, right, left, left], [top, top, bottom, bottom, top], "black", linewidth=0.8)
    axis.set(xlim=(-0.5, len(shown) - 0.5), ylim=(2.5, -0.5), aspect="equal")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    axis.set_xticks(range(len(shown)), [sample.name for sample in shown], parse_math=False)
    axis.set_yticks(range(3), ["clean", "protected", "perturbation,\namplified"])
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
        image = on_white(to_image(shown.pixels)).convert("RGB")
        scale = TILE / max(image.size)
        size = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
        left, top = place % across * TILE, place // across * TILE
        sheet.paste(image, (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
    sheet.save(file, "PNG")


@dataclass(frozen=True)
class Sample:
    """One image as a page shows it, each picture without metadata.

    Attributes:
        name: of its class.
        protected: the released image, or its smoothest part where it has more than ``DETAIL`` pixels a side: a PNG.
        clean: the same of the original; None where that is not known or not shown.
        amplified: the perturbation: grey is no change, black and white the largest change of any sample.
        size: width and height of the whole image in pixels.
        whole: the released image as people look at it, a JPEG of at most ``VIEW`` pixels a side; None where
            ``protected`` is all of it.
        whole_clean: the same of the original, as far as ``clean`` is there.
    """

    name: str
    protected: bytes
    clean: bytes | None
    amplified: bytes | None
    size: tuple[int, int]
    whole: bytes | None = None
    whole_clean: bytes | None = None


def samples(protected: Dataset, columns: Columns, clean: Dataset | None = None) -> tuple[Sample, ...]:
    """The first image of every class, up to ``MAX_CLASSES``.

    Args:
        protected: the released images, of any sizes.
        columns: of both data sets.
        clean: the same rows in the same order; None where they are not known.

    Raises:
        DataError: other rows than the originals, as ``aligned_pairs`` raises it.
    """
    names, numbers = Classes.of(protected, columns).names, class_numbers(protected, columns)
    picked = first_of_classes(protected, columns)
    if clean is None:
        pairs = [(shown.pixels, shown.pixels) for shown in rows(protected.select(picked), columns)]
    else:
        pairs = list(aligned_pairs(clean, protected, columns, picked))
    places = [smoothest_part(before) for before, _ in pairs]
    parts = [tuple(image[(slice(None), *place)] for image in pair) for pair, place in zip(pairs, places, strict=True)]
    changes = [after.astype(np.int16) - before for before, after in parts]
    largest = max([1, *(int(np.abs(change).max()) for change in changes)])
    return tuple(
        Sample(
            name=names[numbers[row]],
            protected=as_png(part[1]),
            clean=None if clean is None else as_png(part[0]),
            amplified=None if clean is None else as_png(_amplified(change[: 3 if len(change) > 2 else 1], largest)),
            size=(after.shape[2], after.shape[1]),
            whole=_view(after),
            whole_clean=None if clean is None else _view(before),
        )
        for row, (before, after), part, change in zip(picked, pairs, parts, changes, strict=True)
    )


def first_of_classes(dataset: Dataset, columns: Columns) -> list[int]:
    """The first row of each of the first ``MAX_CLASSES`` classes that occur; the first few rows of a single class."""
    _, first = np.unique(class_numbers(dataset, columns), return_index=True)
    return list(range(min(TILES_ACROSS, len(dataset)))) if len(first) == 1 else first[:MAX_CLASSES].tolist()


def smoothest_part(pixels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Where an image (C, H, W) varies least, ``DETAIL`` pixels a side; all of one that is no larger.

    Black and white parts, in which clipping hides a change, are passed over where there are others.
    """
    step = DETAIL // BLOCKS
    height, width = pixels.shape[1:]
    if max(height, width) <= DETAIL:
        return slice(0, height), slice(0, width)
    places: dict[tuple[int, int], float] = {}
    for top in range(0, max(1, height - DETAIL + 1), step):
        for left in range(0, max(1, width - DETAIL + 1), step):
            part = pixels[:3, top : top + DETAIL : BLOCKS, left : left + DETAIL : BLOCKS]
            hidden = not DARK <= part.mean() <= LIGHT
            places[top, left] = float(part.std(axis=(1, 2)).mean()) + WHITE * hidden
    top, left = min(places, key=lambda place: places[place])
    return slice(top, min(top + DETAIL, height)), slice(left, min(left + DETAIL, width))


def _view(pixels: NDArray[np.uint8]) -> bytes | None:
    """The whole image as a JPEG without coarser colours, which would hide blotches; None of one that fits a detail."""
    image = to_image(pixels)
    if max(image.size) <= DETAIL:
        return None
    flat = on_white(image).convert("RGB")
    flat.thumbnail((VIEW, VIEW), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    flat.save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """An image (C, H, W) as a file."""
    stream = io.BytesIO()
    to_image(pixels).save(stream, "PNG")
    return stream.getvalue()


def _amplified(change: NDArray[np.int16], largest: int) -> NDArray[np.uint8]:
    """Grey is no change, white the largest increase, black the largest decrease."""
    return np.rint((1 + change / largest) * (WHITE / 2)).astype(np.uint8)
