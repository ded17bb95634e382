"""Ideas that answer thieves who train on mixtures: in rounds, or at every step of their training."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from ascent import Ascent, Gain, wrong
from mixture_limit import Attacked, moved_both_ways
from numpy.typing import NDArray

from hf_unlearnable import Training
from hf_unlearnable.budget import normalise_gradients
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.evaluation.victims import split
from hf_unlearnable.methods import Task
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.training.batches import load


@dataclass(frozen=True, kw_only=True)
class BestResponse(Ascent):
    """Rounds: a thief trains on a mixture with what is protected now; a few steps against the latest thieves.

    Args:
        rounds: how many.
        remembered: thieves that are climbed together, the latest ones, beside a robust model of the clean images.
        thief_epochs: of each, from new weights.
        round_steps: of PGD in each round.
        opposing: climb against the step that clean images ask of the thief instead of up its loss (gradients opposed).
    """

    name = "best-response"
    rounds: int = 10
    remembered: int = 3
    thief_epochs: int = 5
    round_steps: int = 4
    opposing: bool = False

    def run(self, task: Task) -> None:
        """Play."""
        self.begin(task)
        surrogate = task.surrogates[0]
        gains: list[Gain] = [self.against(task, self.robust(task))]
        for number in range(self.rounds):
            seed = self.seed + 4000 + number
            kept = split(task.images.labels, 0.5, seed)
            pixels = np.where(kept[:, None, None, None], task.images.pixels, task.protected().pixels)
            mixture = ImageSet(pixels, task.images.labels, task.images.names)
            thief = task.train(surrogate, mixture, Training(epochs=self.thief_epochs), seed, f"thief {number + 1}")
            gains = [gains[0], *gains[1:][-self.remembered + 1 :], self.against(task, thief)]
            self.climb(task, gains, self.round_steps)

    def against(self, task: Task, network: Network) -> Gain:
        """What is climbed in one thief."""
        if not self.opposing:
            return functools.partial(wrong, network)
        rng = np.random.default_rng(self.seed)
        seen = load(task.images, rng.permutation(len(task.images))[:500], task.accelerator.device)
        worse, better = (one.requires_grad_(False) for one in moved_both_ways(network.requires_grad_(), *seen))

        def gain(images: torch.Tensor, labels: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
            return wrong(better, images, labels, rows) - wrong(worse, images, labels, rows)

        return gain


class Answered(Attacked):
    """The training of a thief whose attacked rows climb its loss at every step, from where they were before.

    The gradients that the thief learns by serve the images too, and those of one image add up with momentum, so that
    what it learns is good against the thief's past as well.
    """

    task: Task
    ways: torch.Tensor
    length: float

    def _step(self, rows: NDArray[np.int64]) -> float:
        images, labels, own = self.task.load(rows)
        hit = torch.from_numpy(self.attacked[rows])[:, None, None, None]
        own.requires_grad_()
        loss = self.learn(random_crop_flip(images + own * hit, self._generator), labels)
        assert own.grad is not None
        way = 0.9 * self.ways[rows] + normalise_gradients(own.grad)
        self.ways[rows] = torch.where(hit, way, self.ways[rows])
        budget, at = self.task.budget, own.detach()
        moved = budget.project(at + self.length * budget.direction(way), images)
        self.task.store(rows, torch.where(hit, moved, at))
        return loss


@dataclass(frozen=True, kw_only=True)
class Along(Ascent):
    """Climb while a thief trains, at every step of it, thief after thief: another half is protected for each.

    Args:
        thieves: how many.
        thief_epochs: of each, from new weights.
        length: of a step as a share of the radius; falls to a fifth from the first thief to the last.
    """

    name = "along"
    thieves: int = 12
    thief_epochs: int = 6
    length: float = 0.2

    def run(self, task: Task) -> None:
        """Train them."""
        self.begin(task)
        training, ways = Training(epochs=self.thief_epochs), torch.zeros_like(task.perturbations)
        steps = training.iterations(len(task.images))
        for number in range(self.thieves):
            seed = self.seed + 5000 + number
            thief = Answered(
                task.surrogates[0], task.images, training, iterations=steps, seed=seed, accelerator=task.accelerator
            )
            thief.attacked = split(task.images.labels, 0.5, seed)
            thief.task, thief.ways = task, ways
            thief.length = self.length * (1 - 0.8 * number / (self.thieves - 1))
            thief.finish()
