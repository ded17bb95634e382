"""Sign steps up the gains of several networks: what the ideas against mixtures have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable import Method, Surrogate, Training
from hf_unlearnable.budget import normalise_gradients
from hf_unlearnable.defences import AdversarialTraining, Defence, NoDefence
from hf_unlearnable.methods import Task
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Network

ROWS = 250  # images that climb together
Gain = Callable[[torch.Tensor, torch.Tensor, NDArray[np.int64]], torch.Tensor]  # of images, labels and their rows


@dataclass(frozen=True, kw_only=True)
class Ascent(Method):
    """Sign steps up the gains of several networks; of each image, the gradients are brought to one size and added.

    Args:
        steps: of 2.5 radii together.
        momentum: on the sum of the gradients.
        augment: crop and flip at random, anew for every step and network (expectation over transformations).
    """

    steps: int = 20
    momentum: float = 0.0
    augment: bool = False

    def climb(self, task: Task, gains: Sequence[Gain], steps: int) -> None:
        """Go on from the perturbations as they are."""
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(task.images), ROWS):
            rows = np.arange(start, min(start + ROWS, len(task.images)))
            images, labels, at = task.load(rows)
            way = torch.zeros_like(at)
            for _ in range(steps):
                way *= self.momentum
                for gain in gains:
                    own = at.detach().requires_grad_()
                    seen = random_crop_flip(images + own, generator) if self.augment else images + own
                    slope = torch.autograd.grad(gain(seen, labels, rows), own)[0]
                    way += normalise_gradients(slope)
                at = task.budget.project(at + 2.5 / self.steps * task.budget.direction(way), images)
            task.store(rows, at)

    def begin(self, task: Task) -> None:
        """Uniformly in half the ball, as ``BEO`` does."""
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(task.images), ROWS):
            part = task.perturbations[start : start + ROWS]
            part.copy_((torch.rand(part.shape, generator=generator) - 0.5) * task.budget.epsilon)

    def model(self, task: Task, surrogate: Surrogate, epochs: int, defence: Defence = NoDefence()) -> Network:
        """A classifier of the clean images."""
        training, seed = Training(epochs=epochs, learning_rate=0.1), self.seed + 2000 + epochs
        return task.train(surrogate, task.images, training, seed, f"{surrogate}, {epochs} epochs, {defence}", defence)

    def robust(self, task: Task) -> Network:
        """One that withstands half the budget, as ``BEO`` has it."""
        return self.model(task, task.surrogates[0], 12, AdversarialTraining.single_step(task.budget.radius / 2))


def wrong(network: Network, images: torch.Tensor, labels: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    """Cross-entropy, summed: untargeted PGD."""
    return F.cross_entropy(network(images)[0], labels, reduction="sum")
