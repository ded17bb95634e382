"""The alternation that MI-UE and EM share: a surrogate learns the protected images, the perturbations answer it.

min over perturbations and surrogate in turn: the surrogate descends the cross-entropy on the protected images, as a
victim would; the perturbations descend the ``perturbation_loss`` of the method, and may be drawn towards another class
in the eyes of a guide, a model of the clean images.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.methods.base import Method, Task
from hf_unlearnable.progress import Progress
from hf_unlearnable.surrogate import Network
from hf_unlearnable.training import Training, accuracy, batches, load, paired_batches, random_crop_flip

GUIDE_SEED = 1000  # apart from the seeds of surrogates: a guide must not start from the weights of one


@dataclass(frozen=True, kw_only=True)
class Alternating(Method):
    """Surrogates and perturbations trained against one another.

    Two schedules. ``"shared"``, the default, first fits one pattern for each class, then the perturbation of every
    image from there on; one forward pass per batch of randomly cropped and flipped images makes a step of the
    surrogate and a step of what is fitted, seen through crop and flip: many small alternations. ``"paper"`` is the
    schedule of the authors of MI-UE: an epoch of the surrogate, then a pass in which every batch's perturbations
    take several steps against the frozen surrogate, unaugmented but for flips of the images.

    Step sizes are fractions of the budget's radius, so that one recipe serves every budget and norm.

    Args:
        schedule: see above.
        epochs: passes over the images, all together.
        pattern_share: of them, fit the patterns of the classes; in [0, 1], the shared schedule only.
        copies: of each surrogate, which start from different weights and take turns: a pattern that only one of them
            takes up may leave a victim cold.
        batch_size: images of a surrogate's step.
        learning_rate: of the surrogate's SGD; decays by a cosine in the paper's schedule only, since an alternation
            needs a surrogate that keeps moving.
        momentum: of the surrogate's SGD.
        weight_decay: of the surrogate's SGD.
        pattern_momentum: of the steps of the patterns, on gradients of mean absolute value one.
        first_step: size of a perturbation step at the start, as a fraction of the radius; half of it for images whose
            pattern is there already.
        last_step: the same at the end; linear in between.
        targeted_weight: of the pull towards another class (the label plus three, modulo K) in the eyes of a guide,
            beside the perturbation loss, both gradients at mean absolute value one; 0 for none. The shared schedule
            only. As in targeted adversarial poisoning (Fowl et al. 2021, arXiv 2106.10807): victims that fall back on
            what they know of the images then take one class for another, not most classes for what they are.
        guides: how many, built like each surrogate; they take turns, since what one alone sees is not what victims see.
        guide_epochs: passes over the clean images in which each is trained.
        guide_accuracy: the share of the clean images, in [0, 1], that the first of them must then name right; where it
            does not, there is no pull at all. Victims fall back on what is quickly learned of clean images; where that
            is little, as on textures, the pull takes more from the patterns than it gives.
        inner_steps: perturbation steps in a pass of the paper's schedule.
        perturbation_batch_size: images of such a step.
    """

    schedule: Literal["shared", "paper"] = "shared"
    epochs: int = 18
    pattern_share: float = 2 / 3
    copies: int = 2
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    pattern_momentum: float = 0.9
    first_step: float = 1 / 8
    last_step: float = 1 / 32
    targeted_weight: float = 0.0
    guides: int = 3
    guide_epochs: int = 6
    guide_accuracy: float = 2 / 3
    inner_steps: int = 1
    perturbation_batch_size: int = 512

    def __post_init__(self) -> None:
        if self.schedule not in ("shared", "paper"):
            raise RecipeError(f"got the schedule {self.schedule!r}; expected 'shared' or 'paper'")
        if not 0 <= self.pattern_share <= 1:
            raise RecipeError(f"got pattern_share={self.pattern_share}; expected a share in [0, 1]")
        if not 0 <= self.guide_accuracy <= 1:
            raise RecipeError(f"got guide_accuracy={self.guide_accuracy}; expected a share in [0, 1]")
        if not self.targeted_weight >= 0:
            raise RecipeError(f"got targeted_weight={self.targeted_weight}; expected 0 or more")
        for name in (
            "epochs",
            "copies",
            "batch_size",
            "guides",
            "guide_epochs",
            "inner_steps",
            "perturbation_batch_size",
        ):
            if getattr(self, name) < 1:
                raise RecipeError(f"got {name}={getattr(self, name)}; expected at least 1")

    @abstractmethod
    def perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What perturbations descend, a scalar of features (B, D), logits (B, K) and labels (B,)."""

    def run(self, task: Task) -> None:
        """Optimise by the schedule."""
        if self.schedule == "paper":
            self._run_paper(task)
        else:
            alternation = _Alternation(self, task)
            pattern_epochs = round(self.epochs * self.pattern_share)
            self._fit_patterns(task, alternation, pattern_epochs)
            self._fit_images(task, alternation, self.epochs - pattern_epochs)

    def step_size(self, share: float) -> float:
        """A perturbation step when ``share`` in [0, 1] of the run is done, as a fraction of the radius."""
        return self.first_step + (self.last_step - self.first_step) * share

    def _fit_patterns(self, task: Task, alternation: _Alternation, epochs: int) -> None:
        """One perturbation for each class, from which those of its images start.

        The gradient of a class, summed over its images and averaged over the past, points where no single image's does
        while the surrogate still knows little: to what a fresh model learns before it learns what the images show.
        """
        images, budget = task.images, task.budget
        patterns = torch.zeros(len(images.names), *images.pixels.shape[1:], device=task.accelerator.device)
        velocity = torch.zeros_like(patterns)
        for rows, share in alternation.epochs(epochs, "class patterns"):
            clean, labels = load(images, rows, patterns.device)
            # The gradient is taken where the clipped perturbation is and passed on as if nothing had been clipped: a
            # pattern that was once darker than black could not come back otherwise.
            gradients = alternation.step(clean, budget.project(patterns[labels], clean), labels)
            present, position = labels.unique(return_inverse=True)  # the others have nothing to go by
            summed = [torch.zeros_like(patterns[present]).index_add_(0, position, one) for one in gradients]
            gradient = self._weigh([one / one.abs().mean().clamp_min(1e-12) for one in summed])
            velocity[present] = self.pattern_momentum * velocity[present] + gradient
            move = budget.direction(velocity[present]) * self.step_size(share)
            patterns[present] = budget.clip(patterns[present] - move)
        for start in range(0, len(images), self.perturbation_batch_size):
            rows = np.arange(start, min(start + self.perturbation_batch_size, len(images)))
            clean, labels = load(images, rows, patterns.device)
            task.perturbations[rows] = budget.project(patterns[labels], clean).cpu()

    def _fit_images(self, task: Task, alternation: _Alternation, epochs: int) -> None:
        """The perturbation of every image, from the pattern of its class on."""
        for rows, share in alternation.epochs(epochs, "perturbations"):
            clean, labels = load(task.images, rows, task.accelerator.device)
            perturbations = task.perturbations[rows].to(clean.device)
            gradients = alternation.step(clean, perturbations, labels)
            lengths = [one.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) for one in gradients]
            gradient = self._weigh([one / length for one, length in zip(gradients, lengths, strict=True)])
            move = task.budget.direction(gradient) * self.step_size(share) / 2
            task.perturbations[rows] = task.budget.project(perturbations - move, clean).cpu()

    def _weigh(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The gradient of the perturbation loss, and the one of the guide if there is one."""
        return gradients[0] if len(gradients) == 1 else gradients[0] + self.targeted_weight * gradients[1]

    def _run_paper(self, task: Task) -> None:
        """As the authors' experiments do it, flips of the image under an unflipped perturbation included."""
        rng, generator = np.random.default_rng(self.seed), torch.Generator().manual_seed(self.seed)
        learners = _learners(self, task)
        count, device, budget = len(task.images), task.accelerator.device, task.budget
        schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(learner.optimiser, self.epochs, eta_min=1e-6)
            for learner in learners
        ]
        passes = count * self.epochs * len(learners) * (1 + self.inner_steps)
        with Progress(f"{self.name}: paper recipe", passes, unit="image", enabled=task.progress) as bar:
            for epoch in range(self.epochs):
                for learner, schedule in zip(learners, schedules, strict=True):
                    learner.network.train()
                    for rows in batches(count, self.batch_size, rng):
                        images, labels = load(task.images, rows, device)
                        perturbations = task.perturbations[rows].to(device)
                        logits, _ = learner.look((_flip(images, generator) + perturbations).clamp(0, 1))
                        loss = learner.learn(logits, labels)
                        task.check(loss)
                        bar.advance(len(rows), loss=loss)
                    learner.network.eval()
                    move = self.step_size(epoch / max(1, self.epochs - 1))
                    for rows in batches(count, self.perturbation_batch_size, rng):
                        images, labels = load(task.images, rows, device)
                        images = _flip(images, generator)
                        perturbations = task.perturbations[rows].to(device)
                        for _ in range(self.inner_steps):
                            perturbations.requires_grad_()
                            logits, features = learner.look(images + perturbations)
                            loss_of_perturbations = self.perturbation_loss(features, logits, labels)
                            gradient = learner.gradient(loss_of_perturbations, perturbations)
                            step = budget.direction(gradient) * move
                            perturbations = budget.project(perturbations.detach() - step, images)
                            bar.advance(len(rows))
                        task.perturbations[rows] = perturbations.cpu()
                    schedule.step()


class _Alternation:
    """The surrogates of a shared schedule, taking turns, and the randomness that they share."""

    def __init__(self, recipe: Alternating, task: Task) -> None:
        self.recipe, self.task = recipe, task
        self.learners = cycle(_learners(recipe, task))
        self.guides = cycle(_guides(recipe, task) or [None])
        self.rng, self.generator = np.random.default_rng(recipe.seed), torch.Generator().manual_seed(recipe.seed)
        self.loss = math.nan

    def epochs(self, count: int, what: str) -> Iterator[tuple[NDArray[np.int64], float]]:
        """The rows of every batch of ``count`` passes, and which share of them is done."""
        labels = self.task.images.labels
        total = max(1, count * len(labels))
        with Progress(f"{self.recipe.name}: {what}", total, unit="image", enabled=self.task.progress) as bar:
            for _ in range(count):
                for rows in paired_batches(labels, self.recipe.batch_size, self.rng):
                    yield rows, bar.share
                    bar.advance(len(rows), loss=self.loss)

    def step(self, clean: torch.Tensor, perturbations: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """One forward pass for a step of the surrogate and the gradient of the perturbations, which is returned.

        Both see the images randomly cropped and flipped, as a victim does. A second gradient is the guide's.
        """
        learner, guide = next(self.learners), next(self.guides)
        perturbations.requires_grad_()
        logits, features = learner.look(random_crop_flip(clean + perturbations, self.generator))
        loss = self.recipe.perturbation_loss(features, logits, labels)
        gradients = [learner.gradient(loss, perturbations)]
        self.loss = learner.learn(logits, labels)
        self.task.check(self.loss)
        if guide is not None:
            logits, _ = guide(random_crop_flip(clean + perturbations, self.generator))
            classes = logits.shape[1]
            targets = (labels + (3 if classes > 3 else 1)) % classes  # three classes on is the class itself if K is 3
            loss = F.cross_entropy(logits.float(), targets)
            gradients.append(torch.autograd.grad(learner.scale(loss), perturbations)[0])
        perturbations.requires_grad_(False)
        return gradients


class _Learner:
    """A surrogate in training: the network, its optimiser, and gradients for either side."""

    def __init__(self, recipe: Alternating, task: Task, index: int) -> None:
        surrogate = task.surrogates[index % len(task.surrogates)]
        network = surrogate.build(len(task.images.names), task.images.pixels.shape[1], recipe.seed + index)
        optimiser = torch.optim.SGD(
            network.parameters(), recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.accelerator = task.accelerator
        self.network, self.optimiser = task.accelerator.prepare(network.train(), optimiser)

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features in float32, so that losses are."""
        logits, features = self.network(images)
        return logits.float(), features.float()

    def gradient(self, loss: torch.Tensor, perturbations: torch.Tensor) -> torch.Tensor:
        """Of a loss with respect to perturbations, up to a positive factor; the graph is kept for ``learn``."""
        return torch.autograd.grad(self.scale(loss), perturbations, retain_graph=True)[0]

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """Large enough for float16, which would lose small gradients."""
        scaler = self.accelerator.scaler
        return loss if scaler is None else scaler.scale(loss)

    def learn(self, logits: torch.Tensor, labels: torch.Tensor) -> float:
        """A step on the cross-entropy; its value before the step."""
        loss = F.cross_entropy(logits, labels)
        self.optimiser.zero_grad()
        self.accelerator.backward(loss, inputs=list(self.network.parameters()))
        self.optimiser.step()
        return loss.item()


def _learners(recipe: Alternating, task: Task) -> list[_Learner]:
    """In the order of their turns, each from weights of its own."""
    return [_Learner(recipe, task, index) for index in range(recipe.copies * len(task.surrogates))]


def _guides(recipe: Alternating, task: Task) -> list[Network]:
    """Classifiers of the clean images, trained and frozen; none where nothing is to be guided."""
    training = Training(epochs=recipe.guide_epochs, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate)
    guides: list[Network] = []
    wanted = recipe.guides * len(task.surrogates) if recipe.targeted_weight else 0
    for number in range(wanted):
        surrogate, seed = task.surrogates[number % len(task.surrogates)], recipe.seed + GUIDE_SEED + number
        guides.append(task.train(surrogate, task.images, training, seed, f"{recipe.name}: guide"))
        if number == 0:
            reached = accuracy(guides[0], task.images, task.accelerator.device)
            used = reached >= recipe.guide_accuracy
            task.findings["guides"] = {"accuracy": reached, "expected": recipe.guide_accuracy, "used": used}
            if not used:
                return []
    return guides


def _flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images."""
    mirrored = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored, images.flip(3), images)
