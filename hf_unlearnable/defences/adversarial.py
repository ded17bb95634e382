"""Adversarial training, and the ascent that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hf_unlearnable.budget import WHITE
from hf_unlearnable.defences.augmentation import Batch
from hf_unlearnable.defences.base import Defence
from hf_unlearnable.models.surrogate import Network, evaluating
from hf_unlearnable.settings import Count, Levels


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Defence, name="adversarial"):
    """Train on the images that PGD makes worst for the model as it is (Madry et al. 2018, arXiv 1706.06083).

    The literature's recipe beside it is long (100 epochs of SGD from 0.1, see ``Training``); ``learnability`` trains it
    for three times as many epochs as other victims, which is still a weaker defence than that.

    Args:
        eps: L-inf radius in levels of 255; 4 and 8 are usual.
        steps: of PGD.
        step_size: in levels of 255.
    """

    epochs_factor = 3
    eps: Levels = 8.0
    steps: Count = 10
    step_size: Levels = 2.0

    @classmethod
    def single_step(cls, eps: float) -> AdversarialTraining:
        """One step of five quarters of the radius (Wong et al. 2020, arXiv 2001.03994): twice an ordinary training."""
        return cls(eps=eps, steps=1, step_size=1.25 * eps)

    def batch(self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator) -> Batch:
        """PGD from a random start, in evaluation mode, so that the statistics of the network stay those of training."""
        with evaluating(network):
            worst = ascend(
                images,
                lambda seen: F.cross_entropy(network(seen)[0].float(), targets),
                eps=self.eps / WHITE,
                step=self.step_size / WHITE,
                steps=self.steps,
                generator=generator,
            )
        return worst, targets


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
