"""The alternation of this package's own recipes, in one process or several: surrogates and perturbations at once.

It keeps all that a later process needs to go on from any batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.defences.compression import compressed_batch
from hf_unlearnable.files import chunks
from hf_unlearnable.methods.alternating.cursor import Cursor
from hf_unlearnable.methods.alternating.networks import Learner, learners_of, targets_of
from hf_unlearnable.methods.alternating.recipe import FEW, AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.waves import class_waves, private_generator
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.protection.class_patterns import class_patterns
from hf_unlearnable.training.batches import load, paired_batches, row_chunks
from hf_unlearnable.training.inference import AT_ONCE, classes_of

MOST_STEPS = 1500  # where patterns of ``FEW`` classes are fitted until they are learned
APART = 1 / 2  # of the radius
WINDOW = 64  # steps over which a loss is averaged
LEARNED = 1 / 8  # of the loss of a model that knows nothing, ln K
LEAST = 100  # images that carry a variant of the pattern of their class
PATTERNS, IN_GREY, IMAGES = "class patterns", "class patterns, also in grey", "perturbations"  # the phases
COMMON = 1 / 4  # of the patterns' energy, in what all channels share: half of their amplitude
LUMA = 0.299, 0.587, 0.114  # of red, green and blue, the grey of Pillow and of most thieves (ITU-R BT.601)
ANEW = 10  # between the seeds of surrogates of the first start and the second
GREY = 1 / 4  # of the steps of the second start see grey images
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
        self.learners: list[Learner] = learners_of(recipe, task)
        self.cursor, self.steps = Cursor(recipe, task), 0
        self.loss, self.losses = math.inf, list[float]()
        self.most = 1 if recipe.passes[0] == 0 else recipe.variants
        members = np.bincount(task.shard.labels, minlength=len(task.images.names))
        self.variants_of_class = np.clip(members // LEAST, 1, self.most)
        own = members.astype(bool) & (np.arange(len(members)) < task.classes)
        # Which patterns (K * V,) images carry; the others stay where they began.
        carried = (np.arange(self.most) < self.variants_of_class[:, None]) & own[:, None]
        self.carried = torch.from_numpy(carried.ravel()).to(task.accelerator.device)
        self.variants = self._draw_variants()
        self.patterns = self._first_patterns()
        self.velocity = torch.zeros_like(self.patterns)
        if (saved := task.checkpoints.keep("alternation", self.state_dict)) is not None:
            self.steps, self.loss, self.losses = saved["steps"], saved["loss"], list(saved["losses"])
            self.cursor.load_state_dict(saved["position"])
            for learner, state in zip(self.learners, saved["learners"], strict=True):
                learner.load_state_dict(state)
            for name in ("patterns", "velocity"):
                getattr(self, name).copy_(saved[name])

    @property
    def most_steps(self) -> int:
        """Where patterns are fitted until they are learned: as many more for each time that classes are twice as many.

        Not in proportion: steps grow smaller until then, and what moves on is not learned (of a hundred classes less in
        6,000 of 15,000 steps than in 3,000 of 3,000).
        """
        return math.ceil(MOST_STEPS * (1 + max(0.0, math.log2(self.task.classes / FEW))))

    def _first_patterns(self) -> torch.Tensor:
        """Where patterns (K * V, C, H, W) begin: at waves or at nothing, those of many classes at random squares.

        A step sees few images of each of many classes, or none, and their patterns hardly come apart from nothing: the
        surrogates named 68 % of the images of a hundred classes after 8,000 steps, and 87 after 3,000 from squares.
        """
        task, grain = self.task, self.recipe.grain
        count = task.classes * self.most
        assert grain is not None  # settled
        channels, height, width = task.images.pixels.shape[1:]
        patterns = torch.zeros(len(task.images.names) * self.most, channels, height, width)
        rng = private_generator(self.recipe.seed, task)
        if self.recipe.from_waves:
            patterns[:count] = task.budget.direction(class_waves(count, channels, height, width, rng))
        elif task.classes > FEW:
            shape = count, channels, math.ceil(height / grain), math.ceil(width / grain)
            squares = _enlarged(torch.from_numpy(rng.integers(0, 2, shape) * 2 - 1).float(), grain, height, width)
            patterns[:count] = task.budget.direction(squares) * APART
        return patterns.to(task.accelerator.device)

    def _draw_variants(self) -> NDArray[np.int64]:
        """Which variant of the pattern of its class each row (N,) of this process carries: about as many rows each."""
        task, labels = self.task, self.task.shard.labels
        drawn = np.zeros(len(labels), dtype=np.int64)
        if self.most > 1:
            rng = private_generator(self.recipe.seed, task)
            for label in np.unique(labels):
                members = rng.permutation(np.flatnonzero(labels == label))
                drawn[members] = np.arange(len(members)) % self.variants_of_class[label]
            fewest = int(self.variants_of_class[labels[labels < task.classes]].min())
            task.findings["variants"] = {"expected": self.most, "fewest": fewest, "images": LEAST}
        return drawn[task.shard.rows]

    def _kinds(self, rows: NDArray[np.int64], labels: torch.Tensor) -> torch.Tensor:
        """The place (B,) in ``patterns`` of what these rows of these labels carry."""
        return labels * self.most + torch.from_numpy(self.variants[rows]).to(labels.device)

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {
            **{name: getattr(self, name) for name in ("steps", "loss", "losses", "patterns", "velocity")},
            "position": self.cursor.state_dict(),
            "learners": [learner.state_dict() for learner in self.learners],
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
    def common(self) -> float:
        """The share of the energy of what images carry, in [0, 1], that all channels share.

        The lesser of what their mean and their luma keep. Luma alone is not enough: of a fit it kept 58 %, of which
        the mean kept 12, and greyscale undid it nevertheless.
        """
        patterns = self.patterns[self.carried]
        energy = patterns.square().mean().item()
        greys = [patterns.mean(1)]
        if patterns.shape[1] == len(LUMA):
            greys.append(torch.einsum("nchw,c->nhw", patterns, patterns.new_tensor(LUMA)))
        return min(grey.square().mean().item() for grey in greys) / energy if energy else 1.0

    @property
    def starts(self) -> int:
        """How often patterns began: 1, or 2."""
        return 2 if self.cursor.phase == IN_GREY else 1

    @property
    def passes_made(self) -> int:
        """Over the images since patterns began, rounded up."""
        return self.cursor.epoch + bool(self.cursor.batch)

    def fit_patterns(self, epochs: int | None) -> None:
        """One perturbation for each variant of each class, from which those of its images start.

        The gradient of a pattern, summed over its images and averaged over the past, points where no single image's
        does while the surrogate still knows little: to what a fresh model learns before it learns what the images show.

        Where that is mostly colour, which happens, both begin anew, and now and then see grey images: greyscale would
        undo it otherwise (of three fits a victim learned 53.9 % in grey, where clean images give 64.5).

        Args:
            epochs: passes over the images; None: until the surrogates have learned it, or have made ``most_steps``.
                What is fitted longer than that turns into what only these surrogates see.
        """
        if self.cursor.phase == IMAGES:
            return  # done, by the process that this one goes on from
        again = self.starts == 2  # as the process that this one goes on from left it
        if not again:
            self._fit_patterns(PATTERNS, epochs)
            if again := epochs is None and self.common < COMMON:
                self._start_anew()
        if again:
            self._fit_patterns(IN_GREY, epochs)
        for chunk in chunks(len(self.task.images), self.patterns.shape[1:]):
            rows = np.arange(chunk.start, chunk.stop)
            clean, labels = load(self.task.images, rows, self.patterns.device)
            self.task.store(rows, self.task.budget.project(self.patterns[self._kinds(rows, labels)], clean))

    def _start_anew(self) -> None:
        """Surrogates from other weights, and patterns from where patterns begin."""
        self.learners = learners_of(replace(self.recipe, seed=self.recipe.seed + ANEW), self.task)
        self.loss, self.losses = math.inf, []
        self.patterns.copy_(self._first_patterns())
        self.velocity.zero_()

    def _fit_patterns(self, phase: str, epochs: int | None) -> None:
        """Steps of surrogates and patterns, from where the run was in this phase."""
        until_learned = epochs is None
        if epochs is None:
            epochs = math.ceil(self.most_steps / self.steps_of_a_pass)
        for rows, share in self._epochs(phase, epochs):
            if until_learned and self.loss <= LEARNED * math.log(len(self.task.images.names)):
                break
            self._fit_patterns_to(rows, share)

    def _fit_patterns_to(self, rows: NDArray[np.int64], share: float) -> None:
        """A step of a surrogate, and of the patterns that these images carry."""
        recipe, task, patterns = self.recipe, self.task, self.patterns
        clean, labels = load(task.images, rows, patterns.device)
        kinds = self._kinds(rows, labels)
        # The gradient is taken where the clipped perturbation is and passed on as if nothing had been clipped: a
        # pattern that was once darker than black could not come back otherwise.
        gradients = self._step(clean, task.budget.project(patterns[kinds], clean), labels)
        counts = task.shard.sum(torch.bincount(kinds, minlength=len(patterns)))
        present = torch.nonzero(counts[: task.classes * self.most])[:, 0]  # the others have nothing to go by
        summed = [task.shard.sum(torch.zeros_like(patterns).index_add_(0, kinds, one))[present] for one in gradients]
        gradient = self._weigh([one / one.abs().mean().clamp_min(1e-12) for one in summed])
        self.velocity[present] = recipe.pattern_momentum * self.velocity[present] + gradient
        move = task.budget.direction(self.velocity[present]) * recipe.step_size(share)
        patterns[present] = task.budget.clip(patterns[present] - move)
        self._watch(self.cursor.loss)

    def _watch(self, loss: float) -> None:
        """Take note of the loss of a step in this process; all processes do so after as many steps."""
        self.losses.append(loss)
        if len(self.losses) == WINDOW:
            self.loss = self.task.shard.mean(sum(self.losses) / WINDOW)
            self.losses = []

    def leave_patterns(self) -> None:
        """Leave for images that are added later what images that carry the same variant share.

        A class with fewer variants than others has some of them twice.
        """
        if self.most == 1:
            return  # then it is what the images of a class share
        task, size = self.task, len(self.patterns)
        kinds = task.images.labels * self.most + self.variants
        means, _ = class_patterns(task.perturbations, kinds, size, task.shard.sum, self.patterns.device)
        first = np.arange(0, size, self.most)
        task.patterns.extend(means[first + number % self.variants_of_class] for number in range(self.most))

    def fit_images(self, epochs: int) -> None:
        """The perturbation of every image, from the pattern of its class on."""
        task = self.task
        for rows, share in self._epochs(IMAGES, epochs) if epochs else ():
            clean, labels, perturbations = task.load(rows)
            gradients = self._step(clean, perturbations, labels)
            lengths = [one.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) for one in gradients]
            gradient = self._weigh([one / length for one, length in zip(gradients, lengths, strict=True)])
            move = task.budget.direction(gradient) * self.recipe.step_size(share) / 2
            task.store(rows, task.budget.project(perturbations - move, clean))

    @torch.no_grad()
    def learned(self) -> float:
        """The share of the protected images, in [0, 1], that surrogates name right; without crop and flip."""
        task, right = self.task, 0
        networks = [task.accelerator.unwrap_model(learner.network).eval() for learner in self.learners]
        for rows in row_chunks(len(task.images), AT_ONCE):
            clean, labels, perturbations = task.load(rows)
            for network in networks:
                right += int((classes_of(network, clean + perturbations) == labels).sum())
        return task.shard.mean(right / (len(networks) * len(task.images)))

    def _weigh(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """The gradient of the perturbation loss, and the one of the guide if there is one, in the recipe's grain."""
        assert self.recipe.grain is not None  # settled
        both = gradients[0] if len(gradients) == 1 else gradients[0] + self.recipe.targeted_weight * gradients[1]
        return _coarse(both, self.recipe.grain)

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
            for number, place in enumerate(places, 1):
                with micro_batches.gathering(learner.network, last=number == parts):
                    share = len(place) / len(labels)
                    found, loss = self._look(learner, guide, clean[place], perturbations[place], labels[place], share)
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
        seen = random_crop_flip(self._published(clean + perturbations), self.cursor.generator)
        bare = self.task.accelerator.unwrap_model(learner.network)
        seen = self.recipe.disturbed(seen, labels, bare, self.task.budget, self.cursor.generator)
        logits, features = learner.forward(seen)
        if self.recipe.loss_is_the_surrogates:
            reached = learner.backward(logits, labels, share, perturbations)
            assert perturbations.grad is not None
            gradients = [perturbations.grad / share]
        else:
            gradients = [learner.gradient(self._perturbation_loss(features, logits, labels), perturbations)]
            reached = learner.backward(logits, labels, share)
        if guide is not None:
            logits, _ = guide(random_crop_flip(clean + perturbations, self.cursor.generator))
            loss = F.cross_entropy(logits.float(), targets_of(labels, logits.shape[1]))
            gradients.append(torch.autograd.grad(learner.scale(loss), perturbations)[0])
        return gradients, reached

    def _published(self, images: torch.Tensor) -> torch.Tensor:
        """Protected images (B, C, H, W), a share of the times as JPEG leaves them, or in grey if they are to be.

        Gradients flow back as if nothing had been done: the straight-through estimate (Bengio et al. 2013,
        arXiv 1308.3432), since what is rounded away has no gradient of its own.
        """
        if self.starts == 2 and torch.rand(1, generator=self.cursor.generator).item() < GREY:
            return images.mean(dim=1, keepdim=True).expand_as(images)  # where all channels count, for any thief's grey
        if not self.recipe.compressed:
            return images
        drawn, place = torch.rand(2, generator=self.cursor.generator).tolist()
        if drawn >= self.recipe.compressed:
            return images
        lowest, highest = QUALITIES
        qualities = [round(lowest + (highest - lowest) * place)] * len(images)
        return images + (compressed_batch(images, qualities) - images).detach()

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
    return _enlarged(F.avg_pool2d(images, grain, ceil_mode=True), grain, *images.shape[2:])


def _enlarged(squares: torch.Tensor, grain: int, height: int, width: int) -> torch.Tensor:
    """Every value as a square of ``grain`` pixels a side; cut to (height, width)."""
    return F.interpolate(squares, scale_factor=grain)[..., :height, :width]
