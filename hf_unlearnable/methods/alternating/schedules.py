"""How the perturbations and the surrogates of ``Alternating`` take turns, in one process or several.

Each schedule keeps all that a later process needs to go on from any batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.files import chunks
from hf_unlearnable.methods.alternating.networks import Learner, guides_of, learners_of, targets_of
from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.waves import MOST, balanced_signs, class_codes, private_generator, wave
from hf_unlearnable.modeling.augmentation import random_crop_flip
from hf_unlearnable.modeling.surrogate import Network
from hf_unlearnable.progress import Progress
from hf_unlearnable.training.batches import batches, load, paired_batches
from hf_unlearnable.training.inference import AT_ONCE, classes_of
from hf_unlearnable.training.processes import numpy_generator, torch_generator

# After a few steps patterns have left the waves that they began as, and are nothing yet: small sets take more passes.
WAVE_STEPS, MOST_TIMES = 750, 4
PATTERNS, IMAGES = "class patterns", "perturbations"  # the phases of the shared schedule


class Cursor:
    """Where a run over the images is, and the randomness that it draws from: what a checkpoint keeps beside networks.

    Args:
        recipe: with the seed.
        task: whose rows and checkpoints.
    """

    def __init__(self, recipe: AlternatingRecipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        rank = task.shard.rank
        self.rng, self.generator = numpy_generator(recipe.seed, rank), torch_generator(recipe.seed, rank)
        self.phase, self.epoch, self.batch = "", 0, 0
        self.drawn = self.rng.bit_generator.state
        self.loss = math.nan

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {
            **{name: getattr(self, name) for name in ("phase", "epoch", "batch", "drawn")},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for name in ("phase", "epoch", "batch", "drawn"):
            setattr(self, name, state[name])
        self.rng.bit_generator.state = self.drawn
        self.generator.set_state(state["generator"])

    def epochs(
        self, phase: str, count: int, draw: Callable[[], list[NDArray[np.int64]]], *, passes: int = 1
    ) -> Iterator[tuple[NDArray[np.int64], float]]:
        """The rows of every batch of ``count`` epochs, and the share of them that is done; from where the run was.

        Args:
            phase: what is done with them, in the words of the progress bar; phases of a run differ in it.
            count: epochs.
            draw: the batches of an epoch; uses ``rng``.
            passes: how much work a row is, in passes through a network.
        """
        if self.phase != phase:
            self.phase, self.epoch, self.batch = phase, 0, 0
        rows = len(self.task.images)
        total, done = max(1, count * rows * passes), self.epoch * rows * passes
        with Progress(
            f"{self.recipe.name}: {phase}", total, unit="image", done=done, enabled=self.task.progress
        ) as bar:
            while self.epoch < count:
                self.drawn = self.rng.bit_generator.state
                for number, batch in enumerate(draw()):
                    if number >= self.batch:
                        yield batch, bar.share
                        self.batch = number + 1
                        self.task.checkpoints.tick()
                    bar.advance(len(batch) * passes, loss=self.loss)
                self.epoch, self.batch = self.epoch + 1, 0


class SharedSchedule:
    """The surrogates of a shared schedule, taking turns, and the perturbations that answer them."""

    def __init__(self, recipe: AlternatingRecipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        self.guides = guides_of(recipe, task)
        self.learners = learners_of(recipe, task)
        self.cursor, self.steps = Cursor(recipe, task), 0
        self.waves = recipe.start == "waves"
        self.patterns, self.signs = self._start()
        self.velocity = torch.zeros_like(self.patterns)
        if (saved := task.checkpoints.keep("alternation", self.state_dict)) is not None:
            self.steps = saved["steps"]
            self.cursor.load_state_dict(saved["position"])
            for learner, state in zip(self.learners, saved["learners"], strict=True):
                learner.load_state_dict(state)
            for name in ("patterns", "velocity"):
                getattr(self, name).copy_(saved[name])

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {
            "steps": self.steps,
            "position": self.cursor.state_dict(),
            "learners": [learner.state_dict() for learner in self.learners],
            "patterns": self.patterns,
            "velocity": self.velocity,
        }

    def _start(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the patterns of the classes (K, C, H, W) start, and the sign with which each image has its own (N,)."""
        task = self.task
        count, shape, device = len(task.images.names), task.images.pixels.shape[1:], task.accelerator.device
        if not self.waves:
            return torch.zeros(count, *shape, device=device), torch.ones(len(task.images), device=device)
        rng = private_generator(self.recipe.seed, task)
        codes = class_codes(min(count, MOST), rng)
        signs = balanced_signs(task.shard.labels, rng)[task.shard.rows]
        own = np.stack([wave(codes[label % len(codes)], *shape[1:]) for label in range(count)])
        patterns = torch.from_numpy(own).to(device)[:, None].expand(count, *shape)
        return task.budget.direction(patterns).clone(), torch.from_numpy(signs).to(device)

    def _signed(self, rows: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        """Tensors like images (B, C, H, W), with the signs of these rows."""
        return images * self.signs[torch.from_numpy(rows).to(images.device)].view(-1, 1, 1, 1)

    def _epochs(self, phase: str, count: int) -> Iterator[tuple[NDArray[np.int64], float]]:
        labels, shard = self.task.images.labels, self.task.shard
        size = shard.share(self.recipe.batch_size)
        yield from self.cursor.epochs(
            phase, count, lambda: shard.equal_batch_counts(paired_batches(labels, size, self.cursor.rng))
        )

    def fit_patterns(self, epochs: int) -> None:
        """One perturbation for each class, from which those of its images start.

        The gradient of a class, summed over its images and averaged over the past, points where no single image's does
        while the surrogate still knows little: to what a fresh model learns before it learns what the images show.
        """
        recipe, task, patterns = self.recipe, self.task, self.patterns
        if self.cursor.phase == IMAGES:
            return  # done, by the process that this one goes on from
        if self.waves:
            wanted = math.ceil(WAVE_STEPS * recipe.batch_size / len(task.shard.labels))
            epochs = max(epochs, min(wanted, MOST_TIMES * epochs))
        for rows, share in self._epochs(PATTERNS, epochs):
            clean, labels = load(task.images, rows, patterns.device)
            # The gradient is taken where the clipped perturbation is and passed on as if nothing had been clipped: a
            # pattern that was once darker than black could not come back otherwise.
            own = task.budget.project(self._signed(rows, patterns[labels]), clean)
            gradients = [self._signed(rows, one) for one in self._step(clean, own, labels)]
            counts = task.shard.sum(torch.bincount(labels, minlength=len(patterns)))
            present = torch.nonzero(counts[: task.own_classes])[:, 0]  # the others have nothing to go by
            summed = [
                task.shard.sum(torch.zeros_like(patterns).index_add_(0, labels, one))[present] for one in gradients
            ]
            gradient = self._weigh([one / one.abs().mean().clamp_min(1e-12) for one in summed])
            self.velocity[present] = recipe.pattern_momentum * self.velocity[present] + gradient
            move = task.budget.direction(self.velocity[present]) * recipe.step_size(share)
            patterns[present] = task.budget.clip(patterns[present] - move)
        for part in chunks(len(task.images), patterns.shape[1:]):
            rows = np.arange(part.start, part.stop)
            clean, labels = load(task.images, rows, patterns.device)
            task.store(rows, task.budget.project(self._signed(rows, patterns[labels]), clean))

    def fit_images(self, epochs: int) -> None:
        """The perturbation of every image, from the pattern of its class on.

        Patterns that began as waves are left as they are: from there on single images only lose.
        """
        task = self.task
        if self.waves:
            task.patterns.extend([self.patterns, -self.patterns])  # the mean over the images of a class is nothing
            return
        for rows, share in self._epochs(IMAGES, epochs):
            clean, labels, perturbations = task.load(rows)
            gradients = self._step(clean, perturbations, labels)
            lengths = [one.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) for one in gradients]
            gradient = self._weigh([one / length for one, length in zip(gradients, lengths, strict=True)])
            move = task.budget.direction(gradient) * self.recipe.step_size(share) / 2
            task.store(rows, task.budget.project(perturbations - move, clean))

    @torch.no_grad()
    def learned(self) -> float:
        """The share of the protected images, in [0, 1], that the surrogates name right, without crop and flip."""
        task, right = self.task, 0
        networks = [task.accelerator.unwrap_model(learner.network).eval() for learner in self.learners]
        for start in range(0, len(task.images), AT_ONCE):
            clean, labels, perturbations = task.load(np.arange(start, min(start + AT_ONCE, len(task.images))))
            for network in networks:
                right += int((classes_of(network, clean + perturbations) == labels).sum())
        return task.shard.mean(right / (len(networks) * len(task.images)))

    def _weigh(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The gradient of the perturbation loss, and the one of the guide if there is one."""
        return gradients[0] if len(gradients) == 1 else gradients[0] + self.recipe.targeted_weight * gradients[1]

    def _step(self, clean: torch.Tensor, perturbations: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """A step of the surrogate whose turn it is, and the gradients of the perturbations."""
        learner = self.learners[self.steps % len(self.learners)]
        guide = self.guides[self.steps % len(self.guides)] if self.guides else None
        self.steps += 1
        drawn, micro_batches = self.cursor.generator.get_state(), self.task.micro_batches

        def attempt(parts: int) -> list[torch.Tensor]:
            self.cursor.generator.set_state(drawn)
            learner.optimiser.zero_grad()
            gradients, losses = [], []
            places = micro_batches.split(len(labels), parts, labels.device)
            for number, part in enumerate(places, 1):
                with micro_batches.gathering(learner.network, last=number == parts):
                    share = len(part) / len(labels)
                    found, loss = self._look(learner, guide, clean[part], perturbations[part], labels[part], share)
                gradients.append(found)
                losses.append(loss * share)
            learner.optimiser.step()
            self.cursor.loss = sum(losses)
            return [torch.cat(one) for one in zip(*gradients, strict=True)]

        result = micro_batches.attempt(attempt, len(labels))
        self.task.check(self.cursor.loss)
        return result

    def _look(
        self,
        learner: Learner,
        guide: Network | None,
        clean: torch.Tensor,
        perturbations: torch.Tensor,
        labels: torch.Tensor,
        share: float,
    ) -> tuple[list[torch.Tensor], float]:
        """One forward pass for the gradients of the surrogate, which gathers them, and those of the perturbations.

        Both see the images randomly cropped and flipped, as a victim does. A second gradient is the guide's.
        """
        perturbations = perturbations.detach().requires_grad_()
        seen = random_crop_flip(clean + perturbations, self.cursor.generator)
        bare = self.task.accelerator.unwrap_model(learner.network)
        seen = self.recipe.disturbed(seen, labels, bare, self.task.budget, self.cursor.generator)
        logits, features = learner.forward(seen)
        loss = self._perturbation_loss(features, logits, labels)
        gradients = [learner.gradient(loss, perturbations)]
        reached = learner.backward(logits, labels, share)
        if guide is not None:
            logits, _ = guide(random_crop_flip(clean + perturbations, self.cursor.generator))
            loss = F.cross_entropy(logits.float(), targets_of(labels, logits.shape[1]))
            gradients.append(torch.autograd.grad(learner.scale(loss), perturbations)[0])
        return gradients, reached

    def _perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of the batch of this process, or of those of all processes: then the others' features are constants."""
        shard = self.task.shard
        if self.recipe.gather_features and shard.count > 1:
            features, logits, labels = (shard.gather_with_grad(one) for one in (features, logits, labels))
        return self.recipe.perturbation_loss(features, logits, labels)


class PaperSchedule:
    """As the authors' experiments do it, flips of the image under an unflipped perturbation included."""

    def __init__(self, recipe: AlternatingRecipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        self.learners = learners_of(recipe, task)
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(learner.optimiser, recipe.epochs, eta_min=1e-6)
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
            for epoch in range(self.recipe.epochs)
            for number in range(len(self.learners))
            for step in (self._learn, self._answer)
        ]
        for epoch, number, step in plan[self.passes :]:
            step(epoch, number)
            self.passes += 1

    def _epoch(self, epoch: int, number: int, what: str, size: int, passes: int) -> Iterator[NDArray[np.int64]]:
        count, shard = len(self.task.images), self.task.shard
        phase = f"paper recipe, epoch {epoch + 1} of {self.recipe.epochs}, {what} {number + 1}"
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
        move = recipe.step_size(epoch / recipe.epochs)
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
