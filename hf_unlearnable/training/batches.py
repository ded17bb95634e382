"""Batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.budget import to_unit
from hf_unlearnable.data.image_set import ImageSet


def row_chunks(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The row numbers 0 to ``count`` - 1 in stretches of ``size``, in order."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """One epoch of shuffled row numbers in batches of ``size``; a remainder joins the last batch.

    Batch normalisation needs more than one row, and a dropped remainder would be images not trained on.
    """
    order = rng.permutation(count)
    whole = max(1, count // size)
    for index in range(whole):
        yield order[index * size : (index + 1) * size if index + 1 < whole else count]


def paired_batches(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """One epoch of shuffled row numbers in which no class stands alone in a batch.

    Rows are drawn in pairs of one class (a triple where a class is odd), so that a loss between images of one class has
    something to compare even with more classes than rows in a batch.

    Args:
        labels: (N,), every class at least twice.
        size: rows of a batch, met to within two.
        rng: draws the pairs and their order.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    groups: list[NDArray[np.int64]] = []
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        # Cut before every second member, but never so that the last one is left alone.
        groups += np.split(members, range(2, len(members) - 1, 2))
    result: list[list[NDArray[np.int64]]] = [[]]
    filled = 0
    for index in rng.permutation(len(groups)):
        if filled >= size:
            result.append([])
            filled = 0
        result[-1].append(groups[index])
        filled += len(groups[index])
    return [np.concatenate(batch) for batch in result]


def load(images: ImageSet, rows: NDArray[np.int64], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring rows to a device: (B, C, H, W) floats in [0, 1] and (B,) labels."""
    labels = torch.from_numpy(images.labels[rows]).to(device)
    if images.cached is not None:
        return to_unit(images.cached[torch.from_numpy(rows).to(device)]), labels
    return to_unit(torch.from_numpy(images.pixels[rows]).to(device)), labels
