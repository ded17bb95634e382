"""Defences of a thief who looks for the perturbation: what the images of a class share is read off and taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from PIL import Image
from torch.nn import functional as F

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Correction, Defence, unit_chunks
from hf_unlearnable.settings import Levels, Range

FEWEST = 5  # images of a class that must be flat at a pixel, or nothing is known of its pattern there


@dataclass(frozen=True, kw_only=True)
class PatternSubtraction(Defence, name="pattern-subtraction"):
    """Read the pattern of each class off the places where its images are flat, and subtract it from all of them.

    Flat is a pixel whose neighbourhood (5x5) hardly varies: sky, wall, background. There an image less its local mean
    (9x9, over flat pixels alone) is mostly what was added; averaged over the images of a class it is what they share.
    The mean over whole images would hold the outlines of the things that they show, too: taken out of clean images of
    Fashion-MNIST it is a stronger pattern (28 levels) than any that was put in. The result is not rounded or clipped.

    Args:
        level: the largest standard deviation in a flat neighbourhood, in levels of 255; a little more than that of a
            perturbation.
    """

    level: Levels = 12.0

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Read off the patterns."""
        shape = (len(images.names), *images.pixels.shape[1:])
        sums, counts = torch.zeros(shape), torch.zeros(shape)
        for pixels, labels in unit_chunks(images):
            mean = local_mean(pixels, 2)
            variance = (local_mean(pixels.square(), 2) - mean.square()).clamp(min=0)
            flat = (variance.sqrt() <= self.level / WHITE).float()
            around = local_mean(flat * pixels, 4) / local_mean(flat, 4).clamp(min=1e-3)
            sums.index_add_(0, labels, flat * (pixels - around))
            counts.index_add_(0, labels, flat)
        patterns = torch.where(counts >= FEWEST, sums / counts.clamp(min=1), 0)
        patterns -= patterns.mean(dim=0)

        def correct(seen: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
            return seen - patterns.to(seen.device)[named.to(seen.device)]

        return correct


@dataclass(frozen=True, kw_only=True)
class ColourFloor(Defence, name="colour-floor"):
    """Set dark values to black: on a black background nothing is left of a perturbation that is no stronger.

    Args:
        level: the highest value that becomes 0, of 255.
    """

    level: Annotated[int, Range(least=0, most=254)] = 8

    def image(self, image: Image.Image) -> Image.Image:
        """Cut the dark values off."""
        return image.point(lambda value: value if value > self.level else 0)


def local_mean(images: torch.Tensor, radius: int) -> torch.Tensor:
    """The mean over squares of 2 ``radius`` + 1 pixels around every pixel of (B, C, H, W) images, mirrored at edges."""
    radius = min(radius, min(images.shape[-2:]) - 1)
    return F.avg_pool2d(F.pad(images, (radius,) * 4, mode="reflect"), 2 * radius + 1, 1)
