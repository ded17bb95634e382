"""Between Hugging Face image columns and 8-bit arrays: columns, decoding, digests.

Arrays are channels first, (C, H, W), because that is what networks take; Pillow's are channels last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hf_unlearnable.errors import DataError
from hf_unlearnable.outputs import allocate
from hf_unlearnable.progress import Progress

DIGEST_BYTES = 16
MODES = {"L": 1, "RGB": 3}  # supported Pillow modes and their channels


@dataclass(frozen=True)
class Columns:
    """The names of the column with the images and of the one with their class labels."""

    image: str
    label: str


def find_columns(dataset: Dataset, image: str | None = None, label: str | None = None) -> Columns:
    """Find the image and the label column of a dataset, or check the ones that were named.

    Args:
        dataset: with an ``Image`` and a ``ClassLabel`` column.
        image: name of the image column; may be left out when there is exactly one.
        label: name of the label column; may be left out when there is exactly one.

    Raises:
        DataError: not a ``Dataset``, a missing column, one of another type, or several candidates.
    """
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        raise DataError(
            f"got a {type(dataset).__name__} with the splits {', '.join(map(str, dataset))}; expected one split. "
            f"Pass dataset[{next(map(str, dataset), 'train')!r}]"
        )
    if isinstance(dataset, IterableDataset):
        raise DataError(
            "got an IterableDataset; expected a Dataset, since perturbations are fitted to known images. Fit on "
            "Dataset.from_list(list(dataset.take(n)), features=dataset.features)"
        )
    if not isinstance(dataset, Dataset):
        raise DataError(f"got {type(dataset).__name__}; expected a datasets.Dataset")
    return Columns(
        _find_column(dataset, image, ImageFeature, "image"), _find_column(dataset, label, ClassLabel, "label")
    )


def _find_column(dataset: Dataset, name: str | None, kind: type, what: str) -> str:
    listing = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in dataset.features.items())
    candidates = [column for column, feature in dataset.features.items() if isinstance(feature, kind)]
    if name is None:
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise DataError(
                f"got {len(candidates)} columns of type {kind.__name__}: {', '.join(candidates)}; expected one. "
                f"Name it: {what}_column={candidates[0]!r}"
            )
        raise DataError(
            f"got a dataset without a column of type {kind.__name__}: {listing or 'no columns'}. " + _FIX[what]
        )
    if name not in dataset.features:
        raise DataError(f"got {what}_column={name!r}; expected one of the dataset's columns: {listing}")
    if name not in candidates:
        got = type(dataset.features[name]).__name__
        raise DataError(
            f"got {what}_column={name!r} of type {got}; expected {kind.__name__}. " + _FIX[what].format(name=name)
        )
    return name


_FIX = {
    "image": "Turn the paths or bytes into images with dataset.cast_column(NAME, datasets.Image())",
    "label": "Turn the labels into classes with dataset.class_encode_column(NAME)",
}


def to_array(image: Any) -> NDArray[np.uint8]:
    """Decode one image into (C, H, W) uint8: one channel for greyscale, three for RGB.

    EXIF orientation is applied first, so that what is protected is what people see.

    Args:
        image: a Pillow image of mode L or RGB, or a uint8 array (H, W), (H, W, 1) or (H, W, 3).

    Raises:
        DataError: anything else.
    """
    if isinstance(image, Image.Image):
        if image.mode not in MODES:
            raise DataError(
                f"got an image of mode {image.mode}; expected {' or '.join(MODES)}. Convert it first: "
                f"dataset.map(lambda row: {{'image': row['image'].convert('RGB')}})"
            )
        array = np.asarray(ImageOps.exif_transpose(image))
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise DataError(
            f"got an image as {type(image).__module__}.{type(image).__name__}; expected a Pillow image or a uint8 "
            f"array. Use dataset.with_format(None)"
        )
    array = array[:, :, None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in MODES.values():
        raise DataError(f"got an array of {array.dtype} {array.shape}; expected uint8 (H, W), (H, W, 1) or (H, W, 3)")
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def to_image(array: NDArray[np.uint8]) -> Image.Image:
    """The inverse of ``to_array``: (C, H, W) uint8 -> a Pillow image without any metadata.

    ``datasets`` stores an image that has no source format as PNG, so that no byte of a perturbation is lost.
    """
    return Image.fromarray(np.ascontiguousarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)))


def digest(array: NDArray[np.uint8], label: int) -> bytes:
    """What a perturbation is looked up by: 16 bytes that tell the pixels, their shape and the label."""
    hashed = hashlib.blake2b(repr((array.shape, int(label))).encode(), digest_size=DIGEST_BYTES)
    hashed.update(np.ascontiguousarray(array).data)
    return hashed.digest()


def rows(dataset: Dataset, columns: Columns) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Decode a dataset row by row into ((C, H, W) uint8, label).

    Raises:
        DataError: naming the row whose image cannot be read or whose label is missing or outside the classes.
    """
    feature = ImageFeature(mode=dataset.features[columns.image].mode)
    names = dataset.features[columns.label].names
    plain = dataset.with_format(None).select_columns([columns.image, columns.label])
    for index, row in enumerate(plain.cast_column(columns.image, ImageFeature(decode=False))):
        label = row[columns.label]
        if label is None or not 0 <= label < len(names):
            raise DataError(
                f"row {index}: got the label {label!r}; expected 0 to {len(names) - 1}. Remove unlabelled rows with "
                f"dataset.filter(lambda row: row[{columns.label!r}] is not None and row[{columns.label!r}] >= 0)"
            )
        if row[columns.image] is None:
            raise DataError(f"row {index}: got no image; remove the row with dataset.filter")
        try:
            array = to_array(feature.decode_example(row[columns.image]))
        except DataError as error:
            raise DataError(f"row {index}: {error}") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"row {index}: cannot read the image ({error}); repair it, or leave the row out with dataset.select"
            ) from error
        yield array, label


@dataclass(frozen=True)
class ImageSet:
    """A decoded data set of images of one size, on disk where it was read into a scratch folder.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64 in [0, K).
        names: the K class names.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def chance(self) -> float:
        """The accuracy of always answering the most frequent class, in [0, 1]."""
        return float(np.bincount(self.labels).max() / len(self))

    def select(self, indices: NDArray[np.int64]) -> ImageSet:
        """The rows ``indices``, copied into memory."""
        return ImageSet(self.pixels[indices], self.labels[indices], self.names)

    @classmethod
    def read(
        cls, dataset: Dataset, columns: Columns, *, scratch: Path | None = None, progress: bool = False
    ) -> ImageSet:
        """Decode every image of a dataset.

        Args:
            dataset: N > 0 rows.
            columns: as ``find_columns`` gives them.
            scratch: a folder for a memory-mapped file that holds the pixels; in memory if left out.
            progress: show a bar.

        Raises:
            DataError: an empty set, an unreadable image, a missing label, or images of several sizes.
        """
        if len(dataset) == 0:
            raise DataError("got an empty dataset; expected at least one image")
        pixels: NDArray[np.uint8] | None = None
        labels = np.empty(len(dataset), dtype=np.int64)
        with Progress("reading images", len(dataset), unit="image", enabled=progress) as bar:
            for index, (array, label) in enumerate(rows(dataset, columns)):
                if pixels is None:
                    shape = (len(dataset), *array.shape)
                    if scratch is None:
                        pixels = np.empty(shape, dtype=np.uint8)
                    else:
                        pixels = allocate(scratch / "pixels", shape, np.uint8)
                if array.shape != pixels.shape[1:]:
                    raise DataError(
                        f"row {index}: got an image of {_size(array.shape)}; expected {_size(pixels.shape[1:])} like "
                        f"the rows before it. Bring all images to one size and mode first: dataset.map(lambda row: "
                        f"{{{columns.image!r}: row[{columns.image!r}].convert('RGB').resize((W, H))}})"
                    )
                pixels[index], labels[index] = array, label
                bar.advance()
        assert pixels is not None
        return cls(pixels, labels, list(dataset.features[columns.label].names))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]} {'RGB' if shape[0] == 3 else 'greyscale'} pixels"


def check_classes(images: ImageSet) -> None:
    """Refuse a set that cannot be protected class by class.

    Raises:
        DataError: fewer than two classes, or classes with a single image.
    """
    counts = np.bincount(images.labels, minlength=len(images.names))
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise DataError(
            f"got images of one class only ({images.names[present[0]]!r}); expected at least two, since the protection "
            f"works by what tells classes apart"
        )
    lonely = [images.names[index] for index in present if counts[index] == 1]
    if lonely:
        raise DataError(
            f"got classes with a single image: {', '.join(lonely[:5])}{', …' if len(lonely) > 5 else ''}; expected at "
            f"least two of each, since features of one class are drawn together. Add images, merge these classes or "
            f"filter them out"
        )
