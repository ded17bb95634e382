"""Reading image datasets row by row: whole images at their own size, or their headers only."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import ExifTags, Image

from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.data.pixels import TURNED, conversion, released_mode, to_array
from hf_unlearnable.errors import DataError, worded

MIN_SIDE = 8  # pixels: less leaves nothing to networks that halve the resolution three times


class Row(NamedTuple):
    """One decoded row.

    Attributes:
        pixels: (C, H, W) uint8, C from 1 to 4, as ``to_array`` gives them.
        label: class number.
        conversion: of the mode, as ``pixels.conversion`` words it; None if there is none.
    """

    pixels: NDArray[np.uint8]
    label: int
    conversion: str | None


def rows(dataset: Dataset, columns: Columns, numbers: NDArray[np.int64] | None = None) -> Iterator[Row]:
    """Decode a dataset row by row at full size.

    Args:
        dataset: N rows.
        columns: as ``find_columns`` gives them.
        numbers: decode these rows only, in this order.

    Raises:
        DataError: naming the row whose image cannot be read or whose label is missing or outside the classes.
    """
    feature = ImageFeature(mode=dataset.features[columns.image].mode)
    classes = Classes.of(dataset, columns)
    for index, stored, value in _stored(dataset, columns, numbers):
        label = _number(index, value, classes, columns)
        with _naming(index):
            image = feature.decode_example(stored)
            row = Row(to_array(image), label, conversion(image))
        yield row


def class_numbers(dataset: Dataset, columns: Columns) -> NDArray[np.int64]:
    """The class number of every row (N,), without a look at the images.

    Raises:
        DataError: an empty set, or a row whose label is missing or outside the classes.
    """
    _check_not_empty(dataset)
    classes = Classes.of(dataset, columns)
    numbers = np.empty(len(dataset), dtype=np.int64)
    index = 0
    if columns.label is None:
        return np.zeros(len(dataset), dtype=np.int64)
    for batch in dataset.with_format(None).select_columns([columns.label]).iter(batch_size=1000):
        for value in batch[columns.label]:
            numbers[index] = _number(index, value, classes, columns)
            index += 1
    return numbers


def _number(index: int, value: Any, classes: Classes, columns: Columns) -> int:
    number = classes.number(value)
    if number is None:
        remove = f"with dataset.filter(lambda row: row[{columns.label!r}] not in (None, -1))"
        raise DataError(
            f"row {index}: got the label {value!r}; expected {classes.expected}. Remove unlabelled rows"
            + worded(python=f" {remove}", shell=f", or name another column: --label-column (not {columns.label})")
        )
    return number


def _stored(
    dataset: Dataset, columns: Columns, numbers: NDArray[np.int64] | None
) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Row numbers, the images as their files, and what the label column holds."""
    plain = dataset.with_format(None).select_columns([name for name in (columns.image, columns.label) if name])
    if numbers is not None:
        plain = plain.select(numbers)
    stored = plain.cast_column(columns.image, ImageFeature(decode=False))
    for index, row in zip(itertools.count() if numbers is None else numbers, stored, strict=False):
        if row[columns.image] is None:
            remove = worded(python="remove the row with dataset.filter", shell="remove the row")
            raise DataError(f"row {index}: got no image; {remove}")
        yield int(index), row[columns.image], 0 if columns.label is None else row[columns.label]


def _check_not_empty(dataset: Dataset) -> None:
    if len(dataset) == 0:
        raise DataError("got an empty dataset; expected at least one image")


@contextmanager
def _naming(index: int) -> Iterator[None]:
    """Name the row in whatever goes wrong while its image is read."""
    try:
        yield
    except DataError as error:
        raise DataError(f"row {index}: {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"row {index}: cannot read the image ({error}); repair it, or leave it out") from error


@dataclass(frozen=True)
class Survey:
    """What the headers of a dataset's images tell.

    Attributes:
        sizes: how many images there are of each (height, width), EXIF orientation applied.
        channels: 1 where all images are greyscale, else 3; alpha not counted.
    """

    sizes: Counter[tuple[int, int]]
    channels: int

    @classmethod
    def of(cls, dataset: Dataset, columns: Columns, numbers: NDArray[np.int64] | None = None) -> Survey:
        """Read the headers only, of all rows or of those in ``numbers``: cheap beside decoding.

        Raises:
            DataError: an empty set, or an image that cannot be read.
        """
        _check_not_empty(dataset)
        mode = dataset.features[columns.image].mode
        sizes: Counter[tuple[int, int]] = Counter()
        colour = False
        for index, stored, _ in _stored(dataset, columns, numbers):
            with _naming(index):
                # datasets decodes files at addresses too; only files here and bytes can be opened lazily.
                lazy = stored["bytes"] is not None or Path(stored["path"]).exists()
                source = io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"]
                with Image.open(source) if lazy else ImageFeature().decode_example(stored) as image:
                    colour |= (mode or released_mode(image)).startswith("RGB")
                    # Pillow turns TIFF by itself, and would decode a PNG to look for EXIF behind the picture.
                    has_exif = image.format != "TIFF" and "exif" in image.info
                    turned = has_exif and image.getexif().get(ExifTags.Base.Orientation) in TURNED
                    sizes[image.size if turned else image.size[::-1]] += 1
        return cls(sizes, 3 if colour else 1)

    def __or__(self, other: Survey) -> Survey:
        """Both sets together."""
        return Survey(self.sizes + other.sizes, max(self.channels, other.channels))

    def working_size(self, largest: int) -> tuple[int, int]:
        """At which (height, width) to work where nobody has said so.

        The images' own where they all have one of at most ``largest`` pixels a side; else a square, as large as half of
        the images are or ``largest``, whichever is less.
        """
        if len(self.sizes) == 1 and MIN_SIDE <= min(only := next(iter(self.sizes))) <= max(only) <= largest:
            return only
        side = max(MIN_SIDE, min(largest, median_low([min(size) for size in self.sizes.elements()])))
        return side, side

    def __str__(self) -> str:
        by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        smallest, largest = (f"{width}x{height}" for height, width in (by_area[0], by_area[-1]))
        return smallest if len(by_area) == 1 else f"{smallest} to {largest}"
