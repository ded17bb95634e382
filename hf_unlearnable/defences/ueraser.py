"""The augmentation of UEraser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

from hf_unlearnable.defences.augmentation import Batch, load_kornia
from hf_unlearnable.defences.base import Defence
from hf_unlearnable.defences.compression import compressed_batch
from hf_unlearnable.models.surrogate import Network, evaluating
from hf_unlearnable.settings import Range


@dataclass(frozen=True, kw_only=True)
class UEraserLite(Defence, name="ueraser-lite"):
    """Strong augmentation made against unlearnable examples (Qin et al. 2023, arXiv 2303.15127), one draw.

    Plasma brightness and contrast on every image, a shuffle of the channels on half of them, one operation of
    TrivialAugment for the batch, of a strength drawn for each image; all by kornia.

    Args:
        jpeg: compress each image at a random quality of 10 to 99 first, against perturbations of the TAP and AR kind.
    """

    revision = 2  # plasma on every image, as its authors have it, not on half of them
    epochs_factor = 3
    jpeg: bool = False

    def require(self) -> None:
        """Kornia."""
        load_kornia()

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
    epochs_factor = 3
    draws: Annotated[int, Range(least=2, most=100, words="2 to 100 to choose from")] = 5
    jpeg: bool = False

    def require(self) -> None:
        """Kornia."""
        load_kornia()

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """Augment several times and keep the worst."""
        draws = torch.stack([erase(images, generator, jpeg=self.jpeg) for _ in range(self.draws)])
        with evaluating(network), torch.no_grad():
            losses = torch.stack([F.cross_entropy(network(one)[0].float(), targets, reduction="none") for one in draws])
        return draws[losses.argmax(dim=0), torch.arange(len(images), device=images.device)], targets


def erase(images: torch.Tensor, generator: torch.Generator, *, jpeg: bool = False) -> torch.Tensor:
    """One draw of UEraser's augmentation for each image of a batch (B, C, H, W) in [0, 1]."""
    if jpeg:
        qualities = torch.randint(10, 100, (len(images),), generator=generator).tolist()
        images = compressed_batch(images, qualities)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # kornia draws from the global state
        torch.manual_seed(seed)
        augmented: torch.Tensor = _ueraser()(images)
    return augmented.clamp(0, 1)


@cache
def _ueraser() -> Callable[[torch.Tensor], torch.Tensor]:
    augmentation = load_kornia().augmentation
    return nn.Sequential(
        augmentation.RandomPlasmaBrightness(roughness=(0.3, 0.7), intensity=(0.5, 1.0), p=1.0),
        augmentation.RandomPlasmaContrast(roughness=(0.3, 0.7), p=1.0),
        augmentation.RandomChannelShuffle(p=0.5),
        augmentation.auto.TrivialAugment(),
    )
