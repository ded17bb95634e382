"""Comparing a sample of released images with their originals, before all are released."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pairing import Pair
from hf_unlearnable.data.reading import Survey, rows
from hf_unlearnable.protection.resample import resample_and_apply
from hf_unlearnable.protection.verification import Verification, compare

SAMPLE = 1000  # images that are verified at most,
SAMPLE_PIXELS = 100_000_000  # and about as many of their pixels


def compare_sample(
    dataset: Dataset, columns: Columns, levels: NDArray[Any], budget: Budget, survey: Survey
) -> tuple[Verification, list[int]]:
    """Evenly spaced images at full size: enough for the means of the figures, and cheap for any set.

    Args:
        dataset: N originals.
        columns: of them.
        levels: (N, C, H, W) of their perturbations.
        budget: that they keep.
        survey: of the originals.

    Returns:
        The figures, and which rows among them stay as they are.
    """
    area = sum(height * width * count for (height, width), count in survey.sizes.items()) / len(dataset)
    count = max(1, min(SAMPLE, int(SAMPLE_PIXELS / area)))
    chosen = np.arange(0, len(dataset), math.ceil(len(dataset) / count))

    unchanged = []

    def pairs() -> Iterator[Pair]:
        for index, row in zip(chosen.tolist(), rows(dataset, columns, chosen), strict=True):
            released = resample_and_apply(row.pixels, levels[index], budget)
            if np.array_equal(released, row.pixels):
                unchanged.append(index)
            yield row.pixels, released

    return compare(pairs(), budget, levels.shape[2:]), unchanged
