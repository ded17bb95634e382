"""PIL: perturbation-induced linearization, with a linear surrogate (Liu et al. 2026, arXiv 2601.19967)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.baselines.batchwise import Batchwise, Make, random_start
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.progress import Progress
from hf_unlearnable.settings import Count, Momentum, Rate, Share, Step
from hf_unlearnable.training.batches import batches, load
from hf_unlearnable.training.processes import numpy_generator


@dataclass(frozen=True, kw_only=True)
class PIL(Batchwise, name="pil"):
    """Give every image what a linear model takes for its class, and take out of it what that model sees in it.

    A linear classifier w without a bias learns the clean pixels. With n the negative of a perturbation, sign steps from
    a uniform start descend ``l CE(w n, y) + (1 - l) KL(uniform || softmax(w (x - n)))`` inside the ball, and ``x - n``
    is released (the paper's algorithm 1). A network that is trained on that becomes linear in the pixels, the paper
    finds, and learns nothing else.

    Deviations: the model is one matrix, where the authors' code has the product of two; smaller batches, since these
    sets are smaller than CIFAR-10.

    Args:
        balance: l, in [0, 1].
        steps: of the descent.
        step: size of each as a fraction of the radius.
        epochs: passes over the clean images in which the model is trained, by SGD with a cosine decay.
        batch_size: images of a step of the model, of all processes together; 512 in the paper.
        learning_rate: of the model.
        momentum: of the model.
    """

    uses_surrogates: ClassVar[bool] = False
    adaptive: ClassVar[str] = "orthogonal-projection"
    citation = Paper(
        key="liu2026perturbation",
        title="Perturbation-Induced Linearization: Constructing Unlearnable Data with Solely Linear Classifiers",
        authors=("Liu, Jinlin", "Chen, Wei", "Zhang, Xiaojin"),
        year=2026,
        arxiv="2601.19967",
    )

    balance: Share = 0.9
    steps: Count = 30
    step: Step = 0.1
    epochs: Count = 30
    batch_size: Count = 64
    learning_rate: Rate = 3e-3
    momentum: Momentum = 0.9

    def parts(self) -> Mapping[str, float]:
        """The linear model, and the descent: a small part of what networks take."""
        return {f"{self.name}: linear model": 0.1 * self.epochs, f"{self.name}: images": 0.1 * self.steps}

    def maker(self, task: Task) -> Make:
        """Train the linear model."""
        weights = self._linear_model(task)

        def make(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            moved = random_start(task.budget, images, generator)
            for _ in range(self.steps):
                moved.requires_grad_()
                with torch.enable_grad():
                    value = self.loss(weights, images, moved, labels)
                gradient = torch.autograd.grad(value, moved)[0]
                moved = task.budget.clip(moved.detach() - self.step * task.budget.direction(gradient))
            return -moved

        return make

    def loss(
        self, weights: torch.Tensor, images: torch.Tensor, negatives: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """What the negatives of perturbations descend: see above; the sum over a batch.

        Args:
            weights: (D, K) of the linear model.
            images: x (B, C, H, W).
            negatives: n (B, C, H, W).
            labels: y (B,).
        """
        shortcut = F.cross_entropy(negatives.flatten(1) @ weights, labels, reduction="sum")
        seen = F.log_softmax((images - negatives).flatten(1) @ weights, dim=1)
        classes = weights.shape[1]
        obscured = F.kl_div(seen, torch.full_like(seen, 1 / classes), reduction="sum")
        return self.balance * shortcut + (1 - self.balance) * obscured

    def _linear_model(self, task: Task) -> torch.Tensor:
        """The weights (D, K) of a model that learned the clean images, of all processes together."""
        size, device = task.images.pixels[0].size, task.accelerator.device
        start = torch.rand(size, len(task.images.names), generator=torch.Generator().manual_seed(self.seed))
        weights = ((2 * start - 1) / size**0.5).to(device)
        velocity, done, rng = torch.zeros_like(weights), 0, numpy_generator(self.seed, task.shard.rank)
        what = f"{self.name}: linear model"
        saved = task.checkpoints.keep(
            what, lambda: {"done": done, "weights": weights, "velocity": velocity, "drawn": rng.bit_generator.state}
        )
        if saved is not None:
            done, rng.bit_generator.state = saved["done"], saved["drawn"]
            weights.copy_(saved["weights"])
            velocity.copy_(saved["velocity"])
        share = task.shard.share(self.batch_size)
        with Progress(what, self.epochs, unit="epoch", done=done, enabled=task.progress) as bar:
            while done < self.epochs:
                rate = self.learning_rate * (1 + math.cos(math.pi * done / self.epochs)) / 2
                for rows in task.shard.equal_batch_counts(list(batches(len(task.images), share, rng))):
                    images, labels = load(task.images, rows, device)
                    pixels = images.flatten(1)
                    error = F.softmax(pixels @ weights, dim=1) - F.one_hot(labels, weights.shape[1])
                    # The gradient of the cross-entropy, summed over all processes, and how many images it is of.
                    gradient = task.shard.sum(pixels.T @ error)
                    count = task.shard.sum(torch.tensor(float(len(rows)), device=device))
                    velocity.mul_(self.momentum).add_(gradient / count)
                    weights.sub_(rate * velocity)
                done += 1
                task.check(float(weights.abs().sum()))
                bar.advance()
                task.checkpoints.tick()
        return weights
