"""Defences that act on every batch: blur, noise, holes, and mixing of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from hf_unlearnable.budget import WHITE
from hf_unlearnable.defences.base import Defence
from hf_unlearnable.lazy import import_extra
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.settings import Levels, Positive, Range, Rate, refuse

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Blur(Defence, name="blur"):
    """Gaussian blur, its width drawn for each image.

    Args:
        kernel: side of the kernel in pixels, odd.
        sigma_low: least standard deviation in pixels. At 0.1 a kernel of 3 is the identity: as the only width it would
            be a defence in name.
        sigma_high: largest.
    """

    kernel: Annotated[int, Range(least=3, most=255)] = 3
    sigma_low: Positive = 0.1
    sigma_high: Positive = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            refuse(self, f"kernel={self.kernel}", "an odd number")
        sigmas = f"sigma_low={self.sigma_low}, sigma_high={self.sigma_high}"
        if self.sigma_low > self.sigma_high:
            refuse(self, sigmas, "sigma_low <= sigma_high")
        if self.sigma_high < 0.3:
            refuse(self, sigmas, "at least 0.3 as the largest: less changes no 8-bit pixel")

    def require(self) -> None:
        """Kornia."""
        load_kornia()

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Blur."""
        sigma = self.sigma_low + (self.sigma_high - self.sigma_low) * torch.rand(len(images), 1, generator=generator)
        blurred = load_kornia().filters.gaussian_blur2d(images, self.kernel, sigma.expand(-1, 2).to(images.device))
        return blurred.clamp(0, 1), targets


@dataclass(frozen=True, kw_only=True)
class Noise(Defence, name="noise"):
    """Gaussian noise on every value.

    Args:
        sigma: its standard deviation in levels of 255.
    """

    sigma: Levels = 8.0

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Add noise, clip to [0, 1]."""
        noise = torch.randn(images.shape, generator=generator).to(images) * (self.sigma / WHITE)
        return (images + noise).clamp(0, 1), targets


@dataclass(frozen=True, kw_only=True)
class Cutout(Defence, name="cutout"):
    """A black square over each image (DeVries & Taylor 2017, arXiv 1708.04552); its centre is anywhere in the image.

    Args:
        share: of the shorter side; 0.5 is the usual 16 of 32 pixels.
    """

    share: Annotated[float, Range(above=0, most=1, words="a share of the side in (0, 1]")] = 0.5

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Cut; what of the square lies outside of the image is lost."""
        inside = [_stretch(len(images), side, self.size(images), generator) for side in images.shape[-2:]]
        hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return images.masked_fill(hole.to(images.device), 0.0), targets

    def size(self, images: torch.Tensor) -> int:
        """The side of the square in pixels."""
        return max(1, round(self.share * min(images.shape[-2:])))


@dataclass(frozen=True, kw_only=True)
class _Mixing(Defence):
    """Each image takes something from another one of its batch."""

    alpha: Rate = 1.0

    def draw(self, images: torch.Tensor, generator: torch.Generator) -> tuple[float, torch.Tensor]:
        """Lambda, and which other image each is mixed with (B,)."""
        weight, others = beta(self.alpha, generator), torch.randperm(len(images), generator=generator)
        return weight, others.to(images.device)


@dataclass(frozen=True, kw_only=True)
class Mixup(_Mixing, name="mixup"):
    """Train on weighted means of two images and of their labels (Zhang et al. 2018, arXiv 1710.09412).

    ``lambda * first + (1 - lambda) * second``: lambda, one draw a batch, is the weight of the image that stands there.

    Args:
        alpha: lambda comes from Beta(alpha, alpha).
    """

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Mix each image with another one of the batch."""
        return mix(images, targets, *self.draw(images, generator))


@dataclass(frozen=True, kw_only=True)
class CutMix(_Mixing, name="cutmix"):
    """Put a rectangle of another image into each, and mix the labels by area (Yun et al. 2019, arXiv 1905.04899).

    Lambda, one draw a batch, is the share of the area that the image keeps; the labels are weighted by what it really
    keeps, since the rectangle may lie partly outside.

    Args:
        alpha: lambda comes from Beta(alpha, alpha).
    """

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Cut and paste."""
        weight, others = self.draw(images, generator)
        sides = [_stretch(1, side, round(side * (1 - weight) ** 0.5), generator)[0] for side in images.shape[-2:]]
        return paste(images, targets, sides[0].to(images.device), sides[1].to(images.device), others)


def beta(alpha: float, generator: torch.Generator) -> float:
    """One draw of Beta(alpha, alpha)."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def mix(images: torch.Tensor, targets: torch.Tensor, weight: float, others: torch.Tensor) -> Batch:
    """``weight`` of each image and target, the rest of the one that ``others`` names for it."""
    return weight * images + (1 - weight) * images[others], weight * targets + (1 - weight) * targets[others]


def paste(
    images: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, others: torch.Tensor
) -> Batch:
    """Put the rectangle of ``rows`` (H,) and ``columns`` (W,), both boolean, of other images into each."""
    hole = rows[:, None] & columns[None, :]
    kept = 1 - hole.float().mean()
    return torch.where(hole, images[others], images), kept * targets + (1 - kept) * targets[others]


def load_kornia() -> Any:
    """The package kornia with what is used of it.

    Raises:
        MissingExtraError: it is not installed.
    """
    for module in ("kornia.augmentation", "kornia.augmentation.auto", "kornia.filters"):
        import_extra(module, "this defence")
    return import_extra("kornia", "this defence")


def _stretch(count: int, side: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """(count, side) booleans: a stretch of ``size`` around a pixel drawn for each row, cut off at the ends."""
    first = torch.randint(side, (count, 1), generator=generator) - size // 2
    place = torch.arange(side)
    return (place >= first) & (place < first + size)
