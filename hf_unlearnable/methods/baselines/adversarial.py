"""Adversarial examples of a network of the clean images as perturbations (Fowl et al. 2021, arXiv 2106.10807)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from hf_unlearnable.budget import normalise_gradients
from hf_unlearnable.methods.baselines.batchwise import Batchwise, Make, random_start
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.settings import Count, Rate, Step
from hf_unlearnable.training.micro_batches import retry_in_halves
from hf_unlearnable.training.run import Training

MODEL_SEED = 3000  # apart from those of victims; BEO's HELD_OUT_SEED is the same, and no fit has both


@dataclass(frozen=True, kw_only=True)
class AdversarialPoison(Batchwise):
    """Move every image by projected gradient descent on a loss of networks that learned the clean images.

    As the authors' code does it: from a random start, ``steps`` steps of one size along the sign of the gradient, seen
    through a random crop and flip in every step, with the networks in evaluation mode. Deviations: one start and not
    the best of eight; a start that is uniform in the ball and not Gaussian; several surrogates, where there are, are
    all asked in every step, their gradients at mean absolute value one.

    Args:
        steps: of the descent; 250 in the paper.
        step: size of each as a fraction of the radius; 0.05 in the paper.
        augment: crop and flip the images in every step.
        epochs: passes over the clean images that train a network; 40 in the paper, on CIFAR-10.
        batch_size: images of a training step.
        learning_rate: of that training.
    """

    citation = Paper(
        key="fowl2021adversarial",
        title="Adversarial Examples Make Strong Poisons",
        authors=(
            "Fowl, Liam",
            "Goldblum, Micah",
            "Chiang, Ping-yeh",
            "Geiping, Jonas",
            "Czaja, Wojciech",
            "Goldstein, Tom",
        ),
        year=2021,
        arxiv="2106.10807",
    )
    adaptive: ClassVar[str] = "jpeg:10"

    steps: Count = 250
    step: Step = 0.05
    augment: bool = True
    epochs: Count = 12
    batch_size: Count = 64
    learning_rate: Rate = 0.05

    @abstractmethod
    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What perturbations descend: the sum over a batch, of logits (B, K) and labels (B,)."""

    def parts(self) -> Mapping[str, float]:
        """The network of one surrogate, and the descent: three of its passes are a training's."""
        return {f"{self.name}: model 1": float(self.epochs), f"{self.name}: images": 2 / 3 * self.steps}

    def maker(self, task: Task) -> Make:
        """Train the networks."""
        training = Training(epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)
        networks = [
            task.train(
                surrogate, task.images, training, self.seed + MODEL_SEED + number, f"{self.name}: model {number}"
            )
            for number, surrogate in enumerate(task.surrogates, 1)
        ]

        def make(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            moved = task.budget.project(random_start(task.budget, images, generator), images)
            for _ in range(self.steps):
                gradient = self._gradient(networks, images, moved, labels, generator)
                moved = task.budget.project(moved - self.step * task.budget.direction(gradient), images)
            return moved

        return make

    def _gradient(
        self,
        networks: list[Network],
        images: torch.Tensor,
        perturbations: torch.Tensor,
        labels: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Of the loss with respect to perturbations, all (B, C, H, W)."""
        moving = perturbations.detach().requires_grad_()
        with torch.enable_grad():
            seen = images + moving
            seen = random_crop_flip(seen, generator) if self.augment else seen

        def of_pixels(network: Network, part: slice) -> torch.Tensor:
            pixels = seen.detach()[part].requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(self.loss(network(pixels)[0].float(), labels[part]), pixels)[0]

        found = [retry_in_halves(partial(of_pixels, network), len(images)) for network in networks]
        total = found[0] if len(found) == 1 else torch.stack([normalise_gradients(one) for one in found]).sum(dim=0)
        return torch.autograd.grad(seen, moving, total)[0]
