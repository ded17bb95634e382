"""Defences that act on every batch: stronger augmentation, mixing of images, adversarial training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hf_unlearnable.budget import WHITE
from hf_unlearnable.defences.base import Defence, check
from hf_unlearnable.defences.once import compressed
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.pixels import to_array, to_image
from hf_unlearnable.surrogate import Network

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

    kernel: int = 3
    sigma_low: float = 0.1
    sigma_high: float = 2.0

    def __post_init__(self) -> None:
        check(self.kernel >= 3 and self.kernel % 2 == 1, self.name, f"kernel={self.kernel}", "an odd number from 3")
        sigmas = f"sigma_low={self.sigma_low}, sigma_high={self.sigma_high}"
        check(0 < self.sigma_low <= self.sigma_high, self.name, sigmas, "0 < sigma_low <= sigma_high")
        check(self.sigma_high >= 0.3, self.name, sigmas, "at least 0.3 as the largest: less changes no 8-bit pixel")

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Blur."""
        sigma = self.sigma_low + (self.sigma_high - self.sigma_low) * torch.rand(len(images), 1, generator=generator)
        blurred = _kornia().filters.gaussian_blur2d(images, self.kernel, sigma.expand(-1, 2).to(images.device))
        return blurred.clamp(0, 1), targets


@dataclass(frozen=True, kw_only=True)
class Noise(Defence, name="noise"):
    """Gaussian noise on every value.

    Args:
        sigma: its standard deviation in levels of 255.
    """

    sigma: float = 8.0

    def __post_init__(self) -> None:
        check(self.sigma > 0, self.name, f"sigma={self.sigma}", "a positive number of levels")

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

    share: float = 0.5

    def __post_init__(self) -> None:
        check(0 < self.share <= 1, self.name, f"share={self.share}", "a share of the side in (0, 1]")

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

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check(self.alpha > 0, self.name, f"alpha={self.alpha}", "a positive number")

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


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Defence, name="adversarial"):
    """Train on the images that PGD makes worst for the model as it is (Madry et al. 2018, arXiv 1706.06083).

    The literature's recipe beside it is long (100 epochs of SGD from 0.1, see ``Training``): one as short as the other
    victims' is a weaker defence than that.

    Args:
        eps: L-inf radius in levels of 255; 4 and 8 are usual.
        steps: of PGD.
        step_size: in levels of 255.
    """

    eps: float = 8.0
    steps: int = 10
    step_size: float = 2.0

    def __post_init__(self) -> None:
        got = f"eps={self.eps}, steps={self.steps}, step_size={self.step_size}"
        check(self.eps > 0 and self.steps > 0 and self.step_size > 0, self.name, got, "positive numbers")

    @classmethod
    def single_step(cls, eps: float) -> AdversarialTraining:
        """One step of five quarters of the radius (Wong et al. 2020, arXiv 2001.03994): twice an ordinary training."""
        return cls(eps=eps, steps=1, step_size=1.25 * eps)

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """PGD from a random start, in evaluation mode, so that the statistics of the network stay those of training."""
        with _evaluating(network):
            worst = ascend(
                images,
                lambda seen: F.cross_entropy(network(seen)[0].float(), targets),
                eps=self.eps / WHITE,
                step=self.step_size / WHITE,
                steps=self.steps,
                generator=generator,
            )
        return worst, targets


@dataclass(frozen=True, kw_only=True)
class UEraserLite(Defence, name="ueraser-lite"):
    """Strong augmentation made against unlearnable examples (Qin et al. 2023, arXiv 2303.15127), one draw.

    Plasma brightness and contrast on every image, a shuffle of the channels on half of them, one operation of
    TrivialAugment for the batch, of a strength drawn for each image; all by kornia.

    Args:
        jpeg: compress each image at a random quality of 10 to 99 first, against perturbations of the TAP and AR kind.
    """

    revision = 2  # plasma on every image, as its authors have it, not on half of them
    jpeg: bool = False

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Augment."""
        return erase(images, generator, jpeg=self.jpeg), targets


@dataclass(frozen=True, kw_only=True)
class UEraserMax(Defence, name="ueraser-max"):
    """The same, but of several draws each image takes the one with the largest loss.

    Args:
        draws: to choose from.
        jpeg: as for ``UEraserLite``.
    """

    revision = 2
    draws: int = 5
    jpeg: bool = False

    def __post_init__(self) -> None:
        check(self.draws >= 2, self.name, f"draws={self.draws}", "at least 2 to choose from")

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Augment several times and keep the worst."""
        draws = torch.stack([erase(images, generator, jpeg=self.jpeg) for _ in range(self.draws)])
        with _evaluating(network), torch.no_grad():
            losses = torch.stack([F.cross_entropy(network(one)[0].float(), targets, reduction="none") for one in draws])
        return draws[losses.argmax(dim=0), torch.arange(len(images), device=images.device)], targets


def ascend(
    images: torch.Tensor,
    gain: Callable[[torch.Tensor], torch.Tensor],
    *,
    eps: float,
    step: float,
    steps: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """PGD: sign steps up ``gain`` from a random start, within ``eps`` (L-inf) of the images and within [0, 1].

    Args:
        images: (B, C, H, W) in [0, 1].
        gain: a scalar of such images.
        eps: radius on the unit scale, as
        step: the size of each of the
        steps: how many.
        generator: of the start, on the CPU.
    """
    start = (2 * torch.rand(images.shape, generator=generator).to(images) - 1) * eps
    moved = (images + start).clamp(0, 1)
    for _ in range(steps):
        moved.requires_grad_()
        with torch.enable_grad():
            slope = torch.autograd.grad(gain(moved), moved)[0]
        moved = (moved.detach() + step * slope.sign()).clamp(images - eps, images + eps).clamp(0, 1)
    return moved.detach()


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


def erase(images: torch.Tensor, generator: torch.Generator, *, jpeg: bool = False) -> torch.Tensor:
    """One draw of UEraser's augmentation for each image of a batch (B, C, H, W) in [0, 1]."""
    if jpeg:
        qualities = torch.randint(10, 100, (len(images),), generator=generator).tolist()
        levels = (images * WHITE).round().to(torch.uint8).cpu().numpy()
        pairs = zip(levels, qualities, strict=True)
        arrays = [to_array(compressed(to_image(one), quality)) for one, quality in pairs]
        images = torch.from_numpy(np.stack(arrays)).to(images) / WHITE
    seed = int(torch.randint(2**62, (1,), generator=generator))
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # kornia draws from the global state
        torch.manual_seed(seed)
        augmented: torch.Tensor = _ueraser()(images)
    return augmented.clamp(0, 1)


@cache
def _ueraser() -> Callable[[torch.Tensor], torch.Tensor]:
    augmentation = _kornia().augmentation
    return nn.Sequential(
        augmentation.RandomPlasmaBrightness(roughness=(0.3, 0.7), intensity=(0.5, 1.0), p=1.0),
        augmentation.RandomPlasmaContrast(roughness=(0.3, 0.7), p=1.0),
        augmentation.RandomChannelShuffle(p=0.5),
        augmentation.auto.TrivialAugment(),
    )


def _kornia() -> Any:
    try:
        import kornia
        import kornia.augmentation
        import kornia.augmentation.auto
        import kornia.filters
    except ImportError as error:
        raise RecipeError("this defence needs kornia; install it: pip install 'hf-unlearnable[defences]'") from error
    return kornia


def _stretch(count: int, side: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """(count, side) booleans: a stretch of ``size`` around a pixel drawn for each row, cut off at the ends."""
    first = torch.randint(side, (count, 1), generator=generator) - size // 2
    place = torch.arange(side)
    return (place >= first) & (place < first + size)


class _evaluating:
    """A network in evaluation mode for a while."""

    def __init__(self, network: Network) -> None:
        self._network, self._training = network, network.training

    def __enter__(self) -> None:
        self._network.eval()

    def __exit__(self, *_: object) -> None:
        self._network.train(self._training)
