"""Reading image datasets row by row: whole images at their own size, or their headers only."""

from __future__ import annotations

import io
import itertools
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from hf_unlearnable.data.columns import Classes, Columns, image_feature, is_missing
from hf_unlearnable.data.kinds import register_heif
from hf_unlearnable.data.pixels import TURNED, conversion, deep_mode, released_mode, to_array
from hf_unlearnable.errors import DataError, first_line, some_of, worded

NAMED = 10  # rows at most that an error names

# By ``datasets`` too, of whose rows these are to be the same: so the names are not read otherwise.
READ_AS_MISSING = "A class that is called NA, None, null or nan in a metadata.csv is read as missing: rename it"

MIN_SIDE = 8  # pixels, as settings.Side has it: less leaves nothing to networks that halve the resolution three times


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
    register_heif()
    feature = ImageFeature(mode=image_mode(dataset, columns))
    classes = Classes.of(dataset, columns)
    for index, stored, value in _stored(dataset, columns, numbers):
        label = _number(index, value, classes, columns)
        with reading_row(index, stored):
            image = feature.decode_example(stored)
            row = Row(to_array(image), label, conversion(image, deep_mode(stored)))
        yield row


def stored_files(dataset: Dataset, *images: str, beside: Sequence[str] = ()) -> Dataset:
    """The rows with their images as the files that they are stored as, whatever the format; nothing is decoded.

    Args:
        dataset: of these columns and perhaps others.
        images: columns of images.
        beside: further columns, which stay as they are.
    """
    stored = dataset.with_format(None).select_columns([*images, *beside])
    for name in images:
        stored = stored.cast_column(name, ImageFeature(decode=False))
    return stored


def image_mode(dataset: Dataset, columns: Columns) -> str | None:
    """The mode that the image column decodes to; None for that of each file."""
    feature = image_feature(dataset, columns.image)
    return feature.mode if feature is not None else None


def class_numbers(dataset: Dataset, columns: Columns) -> NDArray[np.int64]:
    """The class number of every row (N,), without a look at the images.

    Raises:
        DataError: an empty set, or a row whose label is missing or outside the classes.
    """
    _check_not_empty(dataset)
    classes = Classes.of(dataset, columns)
    missing = unlabelled_rows(dataset, columns)
    if len(missing):
        named = some_of(missing.tolist(), NAMED)
        raise DataError(
            f"got {len(missing)} of {len(dataset)} rows without a label (null, NaN or -1): {named}; expected "
            f"{classes.expected or 'labels'}. {leave_out(columns)}"
        )
    return np.array([_number(*pair, classes, columns) for pair in enumerate(_labels(dataset, columns))], dtype=np.int64)


def leave_out(columns: Columns, *, fitted: bool = False) -> str:
    """What to do about rows without a label: one rule wherever they are met, before the fit or after it.

    Of all commands that meet such rows, or images that cannot be read, only ``protect`` has options to leave them out.
    """
    name = repr(columns.label)
    filtered = f"dataset.filter(lambda row: row[{name}] not in (None, -1))"
    way = f'unlabelled="drop" of fit and runs.protect, or {filtered}'
    if fitted:  # it is too late for options of the fit, and one image may have been passed without its label
        way = f"{filtered}. One image alone: protection.protect(image, label), or protection(image), which finds it"
    return worded(
        python=f"Leave them out: {way}. If -1 is one of your classes, turn the labels into strings: "
        f"dataset.cast_column({name}, datasets.Value('string')). {READ_AS_MISSING}",
        shell=f"Leave them out{'' if fitted else ', as protect does with --drop-unlabelled'}. If -1 is one of your "
        f"classes, turn the labels into strings first. {READ_AS_MISSING}",
    )


def unlabelled_rows(dataset: Dataset, columns: Columns) -> NDArray[np.int64]:
    """The numbers of the rows without a label, as ``is_missing`` tells them."""
    return np.flatnonzero([is_missing(value) for value in _labels(dataset, columns)])


def labelled(dataset: Dataset, columns: Columns) -> tuple[Dataset, list[int]]:
    """The rows with a label, and the numbers of those that are left out."""
    missing = unlabelled_rows(dataset, columns)
    if not len(missing):
        return dataset, []
    return dataset.select(np.setdiff1d(np.arange(len(dataset)), missing)), missing.tolist()


def _labels(dataset: Dataset, columns: Columns) -> Iterator[Any]:
    if columns.label is None:
        yield from itertools.repeat(0, len(dataset))
        return
    for batch in dataset.with_format(None).select_columns([columns.label]).iter(batch_size=1000):
        yield from batch[columns.label]


def _number(index: int, value: Any, classes: Classes, columns: Columns) -> int:
    number = classes.number(value)
    if number is None:
        fix = f" {leave_out(columns)}" if is_missing(value) else ""
        raise DataError(f"row {index}: got the label {value!r}; expected {classes.expected}.{fix}")
    return number


def _stored(
    dataset: Dataset, columns: Columns, numbers: NDArray[np.int64] | None
) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Row numbers, the images as their files, and what the label column holds."""
    stored = stored_files(dataset, columns.image, beside=[columns.label] if columns.label else [])
    if numbers is not None:
        stored = stored.select(numbers)
    for index, row in zip(itertools.count() if numbers is None else numbers, stored, strict=False):
        if row[columns.image] is None or not any(row[columns.image].values()):
            remove = worded(
                python="Leave the row out with dataset.filter",
                shell="Leave the row out, as protect does with --skip-unreadable",
            )
            raise DataError(f"row {index}: got no image, neither bytes nor a path; expected one. {remove}")
        yield int(index), row[columns.image], 0 if columns.label is None else row[columns.label]


def _check_not_empty(dataset: Dataset) -> None:
    if len(dataset) == 0:
        raise DataError("got an empty dataset; expected at least one image")


def open_image(stored: Mapping[str, Any] | None) -> Image.Image:
    """Open an image as a dataset stores it, where possible without decoding more than its header.

    Args:
        stored: its ``bytes``, or the ``path`` of its file; None in a row without an image.

    Raises:
        DataError: neither of the two, or more pixels than Pillow's limit.
        OSError: no such file, or none that Pillow reads; ``UNREADABLE`` has all that a damaged one may raise.
    """
    register_heif()
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise DataError("got no image, neither bytes nor a path; expected one. Leave the row out")
    with _pixel_limit():
        if stored["bytes"] is not None:
            return Image.open(io.BytesIO(stored["bytes"]))
        # datasets reads files at addresses and in archives too.
        return ImageFeature().decode_example(dict(stored)) if "://" in stored["path"] else Image.open(stored["path"])


def read_pixels(stored: Mapping[str, Any] | None, mode: str | None = None) -> NDArray[np.uint8]:
    """Decode an image as a dataset stores it, whose feature has this mode: (C, H, W) as ``to_array`` gives it."""
    with open_image(stored) as image:
        return to_array(image.convert(mode) if mode else image)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation that is applied when an image is shown, 1 for none; reads no pixels."""
    # Pillow turns TIFF by itself, and would decode a PNG to look for EXIF behind the picture.
    has_exif = image.format != "TIFF" and "exif" in image.info
    orientation = image.getexif().get(ExifTags.Base.Orientation) if has_exif else None
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def turned_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as they are once the EXIF orientation is applied; reads no pixels."""
    width, height = image.size
    return (width, height) if orientation_of(image) in TURNED else (height, width)


# What Pillow raises for damaged files.
UNREADABLE: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError)


def why_unreadable(error: Exception, stored: Mapping[str, Any] | None) -> str:
    """What is wrong with an image, without the objects in memory that Pillow names."""
    if isinstance(error, DataError) or stored is None:
        return str(error)
    if stored["bytes"] is None and "://" in (stored["path"] or ""):
        return f"an address that cannot be fetched ({first_line(error)}); download the images and name their folder"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError) and _is_empty(stored):
        return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return "no image of a format that is read here"
    return first_line(error)


def _is_empty(stored: Mapping[str, Any]) -> bool:
    """Whether a file has no bytes, as where a copy was broken off."""
    if stored["bytes"] is not None:
        return not stored["bytes"]
    with suppress(OSError):
        return bool(stored["path"]) and not os.stat(stored["path"]).st_size
    return False


@contextmanager
def _pixel_limit() -> Iterator[None]:
    """Refuse an image of more pixels than Pillow's ``Image.MAX_IMAGE_PIXELS`` before it is decoded.

    Pillow itself would warn, and decode up to twice as many.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        how = {"python": "PIL.Image.MAX_IMAGE_PIXELS", "shell": "--max-pixels", "browser": "the command protect"}
        raise DataError(
            f"got an image of more than {Image.MAX_IMAGE_PIXELS:,} pixels: a small file can hold a picture that takes "
            f"all memory. If it is one to trust, allow more with {worded(**how)}, or leave it out"
        ) from error


@contextmanager
def reading_row(index: int, stored: Mapping[str, Any] | None, column: str = "") -> Iterator[None]:
    """Name the row and its file in whatever goes wrong while its image is read.

    Args:
        index: the number of the row.
        stored: as of ``open_image``.
        column: that it is in, where that is one beside the images, such as of masks: ``skip_unreadable`` does not look
            at those.

    Raises:
        DataError: the block raised it, or one of ``UNREADABLE``.
    """
    beside = f", column {column!r}" if column else ""
    where = f"row {index}{beside}" + (f" ({stored['path']})" if stored and stored["path"] else "")
    try:
        with _pixel_limit():
            yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except UNREADABLE as error:
        why = f"({why_unreadable(error, stored)}); repair it, or leave"
        raise DataError(f"{where}: cannot read the image {why} {_leaving_out(column)}") from error


def _leaving_out(column: str) -> str:
    """What may be left out where an image, or one in this column beside the images, cannot be read."""
    if column:
        return worded(
            python=f"its row out with dataset.select, or the column with dataset.remove_columns({column!r})",
            shell=f"the column out: --drop-column {column}",
        )
    return "all such out" + worded(
        python=": runs.protect(…, skip_unreadable=True)", shell=", as protect does with --skip-unreadable"
    )


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
        mode = image_mode(dataset, columns)
        sizes: Counter[tuple[int, int]] = Counter()
        colour = False
        for index, stored, _ in _stored(dataset, columns, numbers):
            with reading_row(index, stored), open_image(stored) as image:
                colour |= released_mode(Image.new(mode, (1, 1)) if mode else image).startswith("RGB")
                sizes[turned_size(image)] += 1
        return cls(sizes, 3 if colour else 1)

    def __or__(self, other: Survey) -> Survey:
        """Both sets together."""
        return Survey(self.sizes + other.sizes, max(self.channels, other.channels))

    def working_size(self, largest: int) -> tuple[int, int]:
        """At which (height, width) to work where nobody has said so.

        The images' own where they all have one of at most ``largest`` pixels a side; else a square of the shorter side
        up to which half of all pixels lie, or of ``largest``, whichever is less. Pixels are counted and not images, or
        thumbnails and banners would make the pattern of photographs coarse; of an image no more than ``largest`` a
        side, or a few huge ones would make that of all others too fine to outlive the way down to their size.
        """
        if len(self.sizes) == 1 and MIN_SIDE <= min(only := next(iter(self.sizes))) <= max(only) <= largest:
            return only
        pixels: Counter[int] = Counter()
        for size, count in self.sizes.items():
            pixels[min(size)] += count * math.prod(min(side, largest) for side in size)
        sides = sorted(pixels)
        reached = itertools.accumulate(pixels[side] for side in sides)
        half = next(side for side, so_far in zip(sides, reached, strict=True) if 2 * so_far >= pixels.total())
        side = max(MIN_SIDE, min(largest, half))
        return side, side

    def __str__(self) -> str:
        by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        smallest, largest = (f"{width}x{height}" for height, width in (by_area[0], by_area[-1]))
        return smallest if len(by_area) == 1 else f"{smallest} to {largest}"
