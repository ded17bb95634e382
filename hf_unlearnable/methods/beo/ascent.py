"""The ascent of BEO: perturbations, their steps, and what an optimiser remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.files import allocate_memmap
from hf_unlearnable.methods.baselines.batchwise import random_start
from hf_unlearnable.methods.beo.recipe import BEORecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.training.batches import load, row_chunks
from hf_unlearnable.training.processes import torch_generator

ADAM = (0.9, 0.999)  # decay of the two averages


class Ascent:
    """The perturbations, how many steps they have made, and what an optimiser remembers of them."""

    def __init__(self, recipe: BEORecipe, task: Task) -> None:
        self.recipe, self.task, self.done = recipe, task, 0
        self.memory: list[torch.Tensor] = []
        if recipe.optimiser != "steepest":  # two numbers a value, on disk like the perturbations
            shape = task.images.pixels.shape
            files = (task.scratch / "mean", task.scratch / "square")
            self.memory = [torch.from_numpy(allocate_memmap(file, shape, np.float32)) for file in files]

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {"step": self.done, "memory": self.memory}

    def start(self) -> None:
        """Go on, or begin: uniformly in half the ball, or with the clean images, where many gradients vanish."""
        saved = self.task.checkpoints.keep("ascent", self.state_dict)
        if saved is not None:
            self.done = saved["step"]
            for past, kept in zip(self.memory, saved["memory"], strict=True):
                for rows in row_chunks(len(past), self.recipe.embedding_batch_size):
                    past[rows] = kept[rows]
        if saved is not None or self.recipe.start == "clean":
            return
        rank = self.task.shard.rank
        generator, budget = torch_generator(self.recipe.seed, rank), self.task.budget
        for rows in row_chunks(len(self.task.images), self.recipe.embedding_batch_size):
            images, _ = load(self.task.images, rows, torch.device("cpu"))
            self.task.store(rows, budget.project(random_start(budget, images, generator) / 2, images))

    def step(self, rows: NDArray[np.int64], gradient: torch.Tensor, step: int) -> None:
        """One step up for the perturbations of ``rows``, along their gradient (B, C, H, W)."""
        budget, size = self.task.budget, self.recipe.step_size(step)
        if self.memory:
            memory = [past[rows].to(gradient.device) for past in self.memory]
            memory = [
                past.lerp(now, 1 - beta)
                for past, now, beta in zip(memory, (gradient, gradient.square()), ADAM, strict=True)
            ]
            for past, now in zip(self.memory, memory, strict=True):
                past[rows] = now.cpu()
            mean, square = (now / (1 - beta ** (step + 1)) for now, beta in zip(memory, ADAM, strict=True))
            direction = mean / (square.sqrt() + 1e-8) * budget.epsilon
        else:
            direction = budget.direction(gradient)
        images, _, perturbations = self.task.load(rows)
        moved = perturbations + size * direction
        if self.recipe.optimiser == "adamw":  # decays what it optimises, which is the pixels
            moved = moved - size * budget.epsilon * self.recipe.pixel_decay * (images + perturbations)
        self.task.store(rows, budget.project(moved, images))
