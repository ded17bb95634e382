"""The alternation of this package's own recipes, in one process or several: surrogates and perturbations at once.

It keeps all that a later process needs to go on from any batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.defences.compression import compressed_batch
from hf_unlearnable.files import chunks
from hf_unlearnable.methods.alternating.cursor import Cursor
from hf_unlearnable.methods.alternating.networks import Learner, targets_of
from hf_unlearnable.methods.alternating.parts import Part, parts_of
from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.modeling.augmentation import random_crop_flip
from hf_unlearnable.modeling.surrogate import Network
from hf_unlearnable.training.batches import load, paired_batches
from hf_unlearnable.training.inference import AT_ONCE, classes_of

MOST_STEPS = 1500  # of a part, where it is fitted until it is learned
PATTERNS, IMAGES = "class patterns", "perturbations"  # the phases
QUALITIES = 10, 50  # of JPEG, the lowest and the highest


class SharedSchedule:
    """The surrogates of a shared schedule, taking turns, and the perturbations that answer them.

    Args:
        recipe: without open settings.
        task: whose images.
        guides: of ``guides_of``.
    """

    def __init__(self, recipe: AlternatingRecipe, task: Task, guides: Sequence[Network] = ()) -> None:
        self.recipe, self.task, self.guides = recipe, task, guides
        self.parts = parts_of(recipe, task)
        self.cursor, self.steps = Cursor(recipe, task), 0
        self.patterns = torch.stack([part.start for part in self.parts]).sum(0)
        self.velocity = torch.zeros_like(self.patterns)
        if (saved := task.checkpoints.keep("alternation", self.state_dict)) is not None:
            self.steps = saved["steps"]
            self.cursor.load_state_dict(saved["position"])
            for part, state in zip(self.parts, saved["parts"], strict=True):
                part.load_state_dict(state)
            for name in ("patterns", "velocity"):
                getattr(self, name).copy_(saved[name])

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {
            "steps": self.steps,
            "position": self.cursor.state_dict(),
            "parts": [part.state_dict() for part in self.parts],
            "patterns": self.patterns,
            "velocity": self.velocity,
        }

    def _epochs(self, phase: str, count: int) -> Iterator[tuple[NDArray[np.int64], float]]:
        labels, shard = self.task.images.labels, self.task.shard
        size = shard.share(self.recipe.batch_size)
        yield from self.cursor.epochs(
            phase, count, lambda: shard.equal_batch_counts(paired_batches(labels, size, self.cursor.rng))
        )

    @property
    def steps_of_a_pass(self) -> int:
        """About how many batches all images are."""
        return math.ceil(len(self.task.shard.labels) / self.recipe.batch_size)

    @property
    def passes_made(self) -> int:
        """Over the images, rounded up."""
        return math.ceil(self.steps / self.steps_of_a_pass)

    def fit_patterns(self, epochs: int | None) -> None:
        """One perturbation for each class, from which those of its images start.

        The gradient of a class, summed over its images and averaged over the past, points where no single image's does
        while the surrogate still knows little: to what a fresh model learns before it learns what the images show.

        Args:
            epochs: passes over the images; None: until the surrogates of every part have learned it, or have made
                ``MOST_STEPS``. What is fitted longer than that turns into what only these surrogates see.
        """
        if self.cursor.phase == IMAGES:
            return  # done, by the process that this one goes on from
        until_learned = epochs is None
        if epochs is None:
            epochs = math.ceil(MOST_STEPS * len(self.parts) / self.steps_of_a_pass)
        for rows, share in self._epochs(PATTERNS, epochs):
            open_parts = [part for part in self.parts if not (until_learned and part.learned)]
            if not open_parts:
                break
            self._fit_part(open_parts[self.steps % len(open_parts)], rows, share)
        for chunk in chunks(len(self.task.images), self.patterns.shape[1:]):
            rows = np.arange(chunk.start, chunk.stop)
            clean, labels = load(self.task.images, rows, self.patterns.device)
            self.task.store(rows, self.task.budget.project(self._carried(rows, labels, self.parts), clean))
        if any(part.signs is not None for part in self.parts):  # whose mean over the images of a class is nothing
            for sign in (1, -1):
                flips = torch.stack([part.channels * (1 if part.signs is None else sign) for part in self.parts]).sum(0)
                self.task.patterns.append(self.patterns * flips)

    def _fit_part(self, part: Part, rows: NDArray[np.int64], share: float) -> None:
        """A step of a surrogate of the part, and of the part of the patterns."""
        recipe, task, patterns = self.recipe, self.task, self.patterns
        clean, labels = load(task.images, rows, patterns.device)
        # The gradient is taken where the clipped perturbation is and passed on as if nothing had been clipped: a
        # pattern that was once darker than black could not come back otherwise.
        own = task.budget.project(self._carried(rows, labels, [part]), clean)
        gradients = [part.signed(rows, one) for one in self._step(part, clean, own, labels)]
        counts = task.shard.sum(torch.bincount(labels, minlength=len(patterns)))
        present = torch.nonzero(counts[: task.own_classes])[:, 0]  # the others have nothing to go by
        summed = [task.shard.sum(torch.zeros_like(patterns).index_add_(0, labels, one))[present] for one in gradients]
        gradient = part.of(self._weigh([one / one.abs().mean().clamp_min(1e-12) for one in summed]))
        self.velocity[present] = torch.where(
            part.channels, recipe.pattern_momentum * self.velocity[present] + gradient, self.velocity[present]
        )
        move = part.of(task.budget.direction(self.velocity[present])) * recipe.step_size(share)
        patterns[present] = task.budget.clip(patterns[present] - move)
        part.watch(self.cursor.loss)

    def _carried(self, rows: NDArray[np.int64], labels: torch.Tensor, parts: Sequence[Part]) -> torch.Tensor:
        """What images (B, C, H, W) of these labels carry of some parts of the patterns of their classes."""
        return torch.stack([part.signed(rows, part.of(self.patterns)[labels]) for part in parts]).sum(0)

    def fit_images(self, epochs: int) -> None:
        """The perturbation of every image, from the pattern of its class on."""
        task, part = self.task, self.parts[0]
        for rows, share in self._epochs(IMAGES, epochs) if epochs else ():
            clean, labels, perturbations = task.load(rows)
            gradients = self._step(part, clean, perturbations, labels)
            lengths = [one.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) for one in gradients]
            gradient = self._weigh([one / length for one, length in zip(gradients, lengths, strict=True)])
            move = task.budget.direction(gradient) * self.recipe.step_size(share) / 2
            task.store(rows, task.budget.project(perturbations - move, clean))

    @torch.no_grad()
    def learned(self) -> float:
        """The share of the protected images, in [0, 1], that surrogates name right by what they look at.

        Of the part that is learned worst, and without crop and flip.
        """
        task, shares = self.task, []
        for part in self.parts:
            networks = [task.accelerator.unwrap_model(learner.network).eval() for learner in part.learners]
            right = 0
            for start in range(0, len(task.images), AT_ONCE):
                clean, labels, perturbations = task.load(np.arange(start, min(start + AT_ONCE, len(task.images))))
                for network in networks:
                    right += int((classes_of(network, clean + part.of(perturbations)) == labels).sum())
            shares.append(task.shard.mean(right / (len(networks) * len(task.images))))
        return min(shares)

    def _weigh(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The gradient of the perturbation loss, and the one of the guide if there is one, in the recipe's grain."""
        assert self.recipe.grain is not None  # settled
        both = gradients[0] if len(gradients) == 1 else gradients[0] + self.recipe.targeted_weight * gradients[1]
        return _coarse(both, self.recipe.grain)

    def _step(
        self, part: Part, clean: torch.Tensor, perturbations: torch.Tensor, labels: torch.Tensor
    ) -> list[torch.Tensor]:
        """A step of the surrogate of a part whose turn it is, and the gradients of the perturbations."""
        learner = part.learners[part.steps % len(part.learners)]
        guide = self.guides[self.steps % len(self.guides)] if self.guides else None
        self.steps += 1
        part.steps += 1
        drawn, micro_batches = self.cursor.generator.get_state(), self.task.micro_batches

        def attempt(parts: int) -> list[torch.Tensor]:
            self.cursor.generator.set_state(drawn)
            learner.optimiser.zero_grad()
            gradients, losses = [], []
            places = micro_batches.split(len(labels), parts, labels.device)
            for number, place in enumerate(places, 1):
                with micro_batches.gathering(learner.network, last=number == parts):
                    share = len(place) / len(labels)
                    found, loss = self._look(
                        part, learner, guide, clean[place], perturbations[place], labels[place], share
                    )
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
        part: Part,
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
        seen = random_crop_flip(self._published(part, clean + perturbations), self.cursor.generator)
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

    def _published(self, part: Part, images: torch.Tensor) -> torch.Tensor:
        """Protected images (B, C, H, W), a share of the times as JPEG leaves them.

        A part of one channel is compressed as a greyscale image: what is in blue alone hardly outlives JPEG of colours,
        and is to become smooth all the same. Gradients flow back as if nothing had been done: the straight-through
        estimate (Bengio et al. 2013, arXiv 1308.3432), since what is rounded away has no gradient of its own.
        """
        if not self.recipe.compressed:
            return images
        drawn, place = torch.rand(2, generator=self.cursor.generator).tolist()
        if drawn >= self.recipe.compressed:
            return images
        lowest, highest = QUALITIES
        qualities = [round(lowest + (highest - lowest) * place)] * len(images)
        channels = part.channels.flatten()
        alone = int(channels.sum()) == 1
        seen = images[:, channels] if alone else images
        seen = seen + (compressed_batch(seen, qualities) - seen).detach()
        return torch.where(part.channels, seen, images) if alone else seen

    def _perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of the batch of this process, or of those of all processes: then the others' features are constants."""
        shard = self.task.shard
        if self.recipe.gather_features and shard.count > 1:
            features, logits, labels = (shard.gather_with_grad(one) for one in (features, logits, labels))
        return self.recipe.perturbation_loss(features, logits, labels)


def _coarse(images: torch.Tensor, grain: int) -> torch.Tensor:
    """Means over squares of ``grain`` pixels a side, in the place of the pixels of tensors like images (B, C, H, W)."""
    if grain == 1:
        return images
    means = F.avg_pool2d(images, grain, ceil_mode=True)
    return F.interpolate(means, scale_factor=grain)[..., : images.shape[2], : images.shape[3]]
