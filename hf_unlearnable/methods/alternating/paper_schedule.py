"""The alternation as the authors of MI-UE run it, in one process or several.

It keeps all that a later process needs to go on from any batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.methods.alternating.cursor import Cursor
from hf_unlearnable.methods.alternating.networks import learners_of
from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.training.batches import batches


class PaperSchedule:
    """As the authors' experiments do it, flips of the image under an unflipped perturbation included."""

    def __init__(self, recipe: AlternatingRecipe, task: Task) -> None:
        assert recipe.epochs is not None  # settled
        self.recipe, self.task, self.epochs = recipe, task, recipe.epochs
        self.learners = learners_of(recipe, task)
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(learner.optimiser, self.epochs, eta_min=1e-6)
            for learner in self.learners
        ]
        self.cursor, self.passes = Cursor(recipe, task), 0
        if (saved := task.checkpoints.keep("paper recipe", self.state_dict)) is not None:
            self.passes = saved["passes"]
            self.cursor.load_state_dict(saved["position"])
            for learner, schedule, (one, other) in zip(self.learners, self.schedules, saved["parts"], strict=True):
                learner.load_state_dict(one)
                schedule.load_state_dict(other)

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {
            "passes": self.passes,
            "position": self.cursor.state_dict(),
            "parts": [
                (learner.state_dict(), schedule.state_dict())
                for learner, schedule in zip(self.learners, self.schedules, strict=True)
            ],
        }

    def run(self) -> None:
        """For every epoch and surrogate a pass of the surrogate, then one of the perturbations."""
        plan = [
            (epoch, number, step)
            for epoch in range(self.epochs)
            for number in range(len(self.learners))
            for step in (self._learn, self._answer)
        ]
        for epoch, number, step in plan[self.passes :]:
            step(epoch, number)
            self.passes += 1

    def _epoch(self, epoch: int, number: int, what: str, size: int, passes: int) -> Iterator[NDArray[np.int64]]:
        count, shard = len(self.task.images), self.task.shard
        phase = f"paper recipe, epoch {epoch + 1} of {self.epochs}, {what} {number + 1}"
        for rows, _ in self.cursor.epochs(
            phase,
            1,
            lambda: shard.equal_batch_counts(list(batches(count, shard.share(size), self.cursor.rng))),
            passes=passes,
        ):
            yield rows

    def _learn(self, epoch: int, number: int) -> None:
        learner, task = self.learners[number], self.task
        learner.network.train()
        for rows in self._epoch(epoch, number, "surrogate", self.recipe.batch_size, 1):
            images, labels, perturbations = task.load(rows)
            seen = (_flip(images, self.cursor.generator) + perturbations).clamp(0, 1)
            self.cursor.loss = learner.train_on(seen, labels)
            task.check(self.cursor.loss)

    def _answer(self, epoch: int, number: int) -> None:
        recipe, learner, task = self.recipe, self.learners[number], self.task
        learner.network.eval()
        move = recipe.step_size(epoch / self.epochs)
        for rows in self._epoch(epoch, number, "perturbations", recipe.perturbation_batch_size, recipe.inner_steps):
            images, labels, perturbations = task.load(rows)
            images = _flip(images, self.cursor.generator)
            for _ in range(recipe.inner_steps):
                gradient = learner.perturbation_gradient(recipe.perturbation_loss, images, perturbations, labels)
                step = task.budget.direction(gradient) * move
                perturbations = task.budget.project(perturbations - step, images)
            task.store(rows, perturbations)
        with warnings.catch_warnings():
            # The optimiser's steps may have been made by the process that this one goes on from.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self.schedules[number].step()


def _flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images."""
    mirrored = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored, images.flip(3), images)
