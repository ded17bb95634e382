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
) -> Verification:
    """Evenly spaced images at full size: enough for the means of the figures, and cheap for any set.

    Args:
        dataset: N originals.
        columns: of them.
        levels: (N, C, H, W) of their perturbations.
        budget: that they keep.
        survey: of the originals.
    """
    area = sum(height * width * count for (height, width), count in survey.sizes.items()) / len(dataset)
    count = max(1, min(SAMPLE, int(SAMPLE_PIXELS / area)))
    chosen = np.arange(0, len(dataset), math.ceil(len(dataset) / count))

    def pairs() -> Iterator[Pair]:
        for index, row in zip(chosen, rows(dataset, columns, chosen), strict=True):
            yield row.pixels, resample_and_apply(row.pixels, levels[index], budget)

    return compare(pairs(), budget, levels.shape[2:])
