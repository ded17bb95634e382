"""Batches of an epoch and the usual augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.budget import to_unit
from hf_unlearnable.data.image_set import ImageSet


def row_chunks(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The row numbers 0 to ``count`` - 1 in stretches of ``size``, in order."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def random_crop_flip(images: torch.Tensor, generator: torch.Generator, padding: int = 4) -> torch.Tensor:
    """Shift every image by up to ``padding`` pixels (zeros move in) and mirror half of them: the usual augmentation.

    A gather, so that gradients flow back to the pixels that were seen.

    Args:
        images: (B, C, H, W).
        generator: on the CPU, whatever the device of the images, so that devices draw alike.
        padding: largest shift in pixels.
    """
    count, channels, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = offsets[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = offsets[1] + torch.where(mirrored, width - 1 - columns, columns)
    padded = F.pad(images, (padding,) * 4).flatten(2)
    places = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).to(images.device).flatten(1)
    # Not by four indices, which takes four times as long, and its gradient too.
    return padded.gather(2, places[:, None].expand(-1, channels, -1)).view(count, channels, height, width)


def strong_augmentation(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random resized crop, flip and colour jitter for every image: what networks from the Hub were trained with.

    Crops have 35 to 100 % of the area and sides of 3:4 to 4:3; brightness, contrast and saturation are multiplied by
    0.6 to 1.4.

    Args:
        images: (B, C, H, W) in [0, 1].
        generator: on the CPU, whatever the device of the images, so that devices draw alike.
    """
    count = len(images)
    drawn = torch.rand(8, count, generator=generator)
    area, aspect = 0.35 + 0.65 * drawn[0], (4 / 3) ** (2 * drawn[1] - 1)
    height, width = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    crops = torch.zeros(count, 2, 3)
    crops[:, 0, 0], crops[:, 1, 1] = torch.where(drawn[2] < 0.5, -width, width), height
    crops[:, 0, 2], crops[:, 1, 2] = (2 * drawn[3] - 1) * (1 - width), (2 * drawn[4] - 1) * (1 - height)
    grid = F.affine_grid(crops, list(images.shape), align_corners=False).to(images.device)
    images = F.grid_sample(images, grid, align_corners=False, padding_mode="reflection")
    brightness, contrast, saturation = (0.6 + 0.8 * drawn[5:]).view(3, count, 1, 1, 1).to(images.device)
    images = brightness * images
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = contrast * (images - mean) + mean
    grey = images.mean(dim=1, keepdim=True)
    return (saturation * (images - grey) + grey).clamp(0, 1)


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
