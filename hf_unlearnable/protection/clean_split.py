"""Splits that stay clean beside protected ones, such as the images to test on: without metadata, as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature

from hf_unlearnable.data.columns import image_feature
from hf_unlearnable.data.pairing import naming
from hf_unlearnable.data.pixels import colour_profile, digest, encode, file_name, to_array, to_image
from hf_unlearnable.data.reading import reading_row
from hf_unlearnable.errors import DataError, PrivacyError
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.releasing import as_files, rows_in_memory


class CleanSplit:
    """Rewrites images as they are released, with nothing added; pass it to ``map`` of files.

    Args:
        protection: of the other splits; an image that it was fitted to must not be here.
        name: of the split.
        image_format: of the files that are written.
    """

    def __init__(self, protection: Protection, name: str, image_format: str) -> None:
        self.protection, self.name, self.image_format = protection, name, image_format

    def __call__(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        """One row, of this number, with its image as a file.

        Raises:
            DataError: the image cannot be read.
            PrivacyError: the image is in a protected split too.
        """
        columns = self.protection.columns
        stored = row[columns.image] or {"bytes": None, "path": None}
        stored = {"bytes": stored, "path": None} if isinstance(stored, bytes) else stored
        with naming(self.name), reading_row(index, stored):
            image = ImageFeature(mode=self.protection.description.image_mode).decode_example(stored)
            pixels = to_array(image)
        # With every label: a copy that has another one here is the same clean picture.
        labels = range(len(self.protection.classes.names) if columns.label else 1)
        if any(self.protection.is_original(pixels, label) for label in labels):
            raise PrivacyError(
                f"got an image ({stored['path'] or digest(pixels).hex()}) in the split {self.name!r}, which is to stay "
                f"clean, that is in a protected split too; expected other images: its clean copy undoes the "
                f"protection. Take it out of one of the splits"
            )
        content, ending = encode(to_image(pixels, colour_profile(image)), self.image_format)
        return {columns.image: {"bytes": content, "path": file_name(stored["path"], ending)}}


def release_clean(
    protection: Protection, data: Dataset, name: str, *, image_format: str, num_proc: int | None, cache: Path
) -> Dataset:
    """The images of a split that stays clean, with the same pixels, no metadata, and lossless.

    Args:
        protection: of the other splits.
        data: the split.
        name: of it.
        image_format: ``"png"`` or ``"webp"``.
        num_proc: processes.
        cache: a file for what is written.

    Raises:
        DataError: the split has no such column of images, or one that cannot be read.
        PrivacyError: one of its images is in a protected split too.
    """
    column = protection.columns.image
    feature = clean_feature(data, name, column)
    written = as_files(data, column, feature).map(
        CleanSplit(protection, name, image_format),
        with_indices=True,
        num_proc=num_proc,
        cache_file_name=str(cache),
        writer_batch_size=rows_in_memory(protection.description),
        desc=f"writing {name}",
    )
    return written.cast_column(column, feature)


def clean_feature(data: Dataset, name: str, column: str) -> ImageFeature:
    """Of the images of a split that stays clean.

    Raises:
        DataError: it has no such column.
    """
    feature = image_feature(data, column)
    if feature is None:
        raise DataError(f"got the split {name!r} without a column of images {column!r}; expected one as in the others")
    return feature


def same_images(one: Dataset, other: Dataset, column: str) -> bool:
    """Whether two splits have the same pixels in the same order."""
    return len(one) == len(other) and all(
        np.array_equal(to_array(here[column]), to_array(there[column]))
        for here, there in zip(one.select_columns([column]), other.select_columns([column]), strict=True)
    )
