"""Whether a protected, a clean and a test set belong together, so that measuring them says something."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Columns, find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.reading import Survey, rows
from hf_unlearnable.errors import DataError

FAR = 32  # levels: what no perturbation that anybody would publish reaches, and two photographs hardly stay below


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which data set it is that something is wrong with."""
    try:
        yield
    except DataError as error:
        raise DataError(f"the {name} dataset: {error}") from error


def check_images(surveys: Mapping[str, Survey]) -> None:
    """Refuse sets of other counts, sizes or channels, by what the headers of their images tell.

    Args:
        surveys: of the sets ``"protected"``, ``"clean"`` and ``"test"``.

    Raises:
        DataError: they do not belong together.
    """
    clean, counts = surveys["clean"], {name: survey.sizes.total() for name, survey in surveys.items()}
    if counts["protected"] != counts["clean"]:
        raise DataError(
            f"got {counts['protected']} protected and {counts['clean']} clean images; expected the same rows"
        )
    if (sizes := surveys["protected"].sizes) != clean.sizes:
        raise DataError(
            f"got images of {surveys['protected']} pixels in the protected set and of {clean} in the clean one "
            f"({(sizes - clean.sizes).total()} differ); expected the same rows, of the same sizes"
        )
    for name in ("protected", "test"):
        if surveys[name].channels != clean.channels:
            kinds = {1: "greyscale", 3: "colour"}
            raise DataError(
                f"got {kinds[surveys[name].channels]} images in the {name} set and {kinds[clean.channels]} ones in the "
                f"clean set; expected the same kind"
            )


def check_match(protected: ImageSet, clean: ImageSet, test: ImageSet) -> list[str]:
    """Refuse sets whose labels or classes differ.

    Returns:
        What does not look as it should, a sentence each: most protected images are other images than the clean ones,
        or all are the same.

    Raises:
        DataError: they differ.
    """
    differing = np.flatnonzero(protected.labels != clean.labels)
    if len(differing):
        raise DataError(
            f"got another label in row {differing[0]} of the protected set than in the clean one (and in "
            f"{len(differing) - 1} more); expected the same rows in the same order"
        )
    for name, other in (("protected", protected), ("test", test)):
        if other.names != clean.names:
            raise DataError(
                f"got the classes {other.names[:5]} in the {name} set and {clean.names[:5]} in the clean one; expected "
                f"the same names in the same order. Use dataset.cast_column(LABEL, ClassLabel(names=[...]))"
            )
    doubts = []
    far = sum(
        np.abs(after.astype(np.int16) - before).mean() > FAR
        for after, before in zip(protected.pixels, clean.pixels, strict=True)
    )
    if far > len(clean) / 2:
        doubts.append(
            f"{far} of {len(clean)} protected images are more than {FAR} of 255 levels away from the clean image of "
            f"the same row, on average over their pixels; expected the same images in the same order, or mixtures of "
            f"the two hold some images twice and others not at all"
        )
    if np.array_equal(protected.pixels, clean.pixels):
        doubts.append("the protected images are identical to the clean ones: nothing is protected")
    return doubts


def aligned_pairs(original: Dataset, protected: Dataset, columns: Columns) -> Iterator[Pair]:
    """All pairs of (original, released) images, each (C, H, W) uint8.

    Raises:
        DataError: other rows or labels.
    """
    if len(original) != len(protected):
        raise DataError(f"got {len(protected)} protected rows; expected {len(original)}, those of the original dataset")
    sides = [rows(side, find_columns(side, columns.image, columns.label)) for side in (original, protected)]
    for index, (before, after) in enumerate(zip(*sides, strict=True)):
        if before.label != after.label:
            raise DataError(f"row {index}: got the label {after.label}; expected {before.label}, as in the original")
        yield before.pixels, after.pixels


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

SAMPLE = 1000  # images that the histogram counts


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
