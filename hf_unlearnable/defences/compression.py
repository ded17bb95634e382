"""Defences that take detail out of every image once: JPEG, greyscale, fewer bits of each value."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageOps

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.pixels import to_array, to_image
from hf_unlearnable.defences.base import Defence
from hf_unlearnable.settings import Range


@dataclass(frozen=True, kw_only=True)
class JPEG(Defence, name="jpeg"):
    """Compress every image with Pillow (ISS: Liu et al. 2023, arXiv 2301.13838).

    It costs clean accuracy too: at quality 10 nine points on CIFAR-10.

    Args:
        quality: 1 to 100; ISS uses 10.
    """

    quality: Annotated[int, Range(least=1, most=100)] = 10

    def image(self, image: Image.Image) -> Image.Image:
        """Compress and decompress."""
        return compressed(image, self.quality)


@dataclass(frozen=True, kw_only=True)
class Grayscale(Defence, name="grayscale"):
    """Take the colours out, with Pillow's weights; the grey is repeated in every channel (ISS)."""

    def image(self, image: Image.Image) -> Image.Image:
        """Make an image grey."""
        return image.convert("L").convert(image.mode)


@dataclass(frozen=True, kw_only=True)
class BitDepth(Defence, name="bitdepth"):
    """Keep the highest bits of each value only (Pillow's posterise; ISS).

    Args:
        bits: 1 to 8; ISS uses 2, which leaves the four levels 0, 64, 128 and 192.
    """

    bits: Annotated[int, Range(least=1, most=8)] = 2

    def image(self, image: Image.Image) -> Image.Image:
        """Posterise."""
        return ImageOps.posterize(image, self.bits)


@dataclass(frozen=True, kw_only=True)
class Resize(Defence, name="resize"):
    """Shrink every image, and enlarge it again to the size that it had, since networks are given images of one size.

    Both by Pillow's bilinear filter, the default of torchvision and of most image processors. Where it shrinks, Pillow
    widens the filter so that it takes in all pixels (antialiasing), and what is finer than the small image is averaged
    away. It is done to images as they were published: those of more than 1 / ``scale`` times the side that victims see
    are shrunk as far for every victim, and lose little more.

    Args:
        scale: side of the small image as a share of that of the published one, in (0, 1); rounded to the nearest pixel.
    """

    scale: Annotated[float, Range(above=0, below=1)] = 0.5

    def image(self, image: Image.Image) -> Image.Image:
        """Resample twice."""
        small = image.resize([max(1, round(self.scale * side)) for side in image.size], Image.Resampling.BILINEAR)
        return small.resize(image.size, Image.Resampling.BILINEAR)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """What is left of an image after JPEG compression by Pillow."""
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=quality)
    return Image.open(stream)


def compressed_batch(images: torch.Tensor, qualities: Sequence[int]) -> torch.Tensor:
    """What JPEG leaves of a batch, by Pillow, which knows no gradients.

    Args:
        images: (B, C, H, W) with one or three channels, in [0, 1]; what is outside is clipped.
        qualities: B of them, 1 to 100.
    """
    levels = (images.detach().clamp(0, 1) * WHITE).round().to(torch.uint8).cpu().numpy()
    pairs = zip(levels, qualities, strict=True)
    arrays = [to_array(compressed(to_image(one), quality)) for one, quality in pairs]
    return torch.from_numpy(np.stack(arrays)).to(images) / WHITE
