"""One owner among others: the sets of a measurement that asks whether a model learns one class among clean ones."""

from __future__ import annotations

import math

import numpy as np
from datasets import Dataset

from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.reading import class_numbers
from hf_unlearnable.errors import DataError
from hf_unlearnable.evaluation.victims import split

OWNER = "the owner"  # what the class is called

HELD_OUT_SHARE = 0.2  # of images that have no test set of their own

SEED = 0  # of what is held out

FEW = 10  # images of an owner: fewer leave too little to train on and to test on


def beside(others: ImageSet, own: ImageSet) -> ImageSet:
    """The images of others with the owner's as one further class, the last."""
    labels = np.full(len(own), len(others.names), dtype=np.int64)
    pixels = np.concatenate([others.pixels, own.pixels])
    return ImageSet(pixels, np.concatenate([others.labels, labels]), [*others.names, OWNER])


def hold_out(dataset: Dataset, columns: Columns) -> tuple[list[int], list[int]]:
    """Which rows to train on, and which ``HELD_OUT_SHARE`` of every class, at least one image each, to test on.

    Raises:
        DataError: a class with a single image.
    """
    numbers = class_numbers(dataset, columns)
    held = np.zeros(len(numbers), dtype=bool)
    for label in np.unique(numbers):
        rows = np.flatnonzero(numbers == label)
        if len(rows) < 2:
            raise DataError(
                f"got a class with a single image (row {rows[0]}); expected two or more, one of which to test on"
            )
        share = max(HELD_OUT_SHARE, 1 / len(rows))
        held[rows[split(numbers[rows], share, SEED)]] = True
    return np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()


def hold_out_own(dataset: Dataset, columns: Columns) -> tuple[list[int], list[int]]:
    """``hold_out`` of the owner's images.

    Raises:
        DataError: so few that nothing can be said of them.
    """
    if len(dataset) < FEW:
        raise DataError(
            f"got {len(dataset)} images of the owner, too few to tell what a model learns of them; expected at least "
            f"{FEW}, of which {math.ceil(HELD_OUT_SHARE * FEW)} are kept from the thieves to test on"
        )
    return hold_out(dataset, columns)
