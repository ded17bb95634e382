"""The embeddings of BEO: networks whose features say who is whose neighbour."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.budget import normalise_gradients
from hf_unlearnable.defences import AdversarialTraining, Defence, NoDefence
from hf_unlearnable.information.posterior import bandwidth, bayes_error
from hf_unlearnable.methods.beo.recipe import CONTROL, BEORecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Surrogate
from hf_unlearnable.training.batches import row_chunks
from hf_unlearnable.training.inference import embed
from hf_unlearnable.training.micro_batches import retry_in_halves
from hf_unlearnable.training.processes import torch_generator

# Apart from those of victims; MODEL_SEED of adversarial poisons is the second, and no fit has both.
FIRST_SEED, HELD_OUT_SEED = 2000, 3000


class Embedding:
    """A trained network, whose features say who is whose neighbour.

    Args:
        recipe: of the ascent.
        task: whose images.
        number: among the embeddings.
        surrogate: what is trained.
        epochs: passes over the images.
        robust: adversarially.
    """

    def __init__(
        self, recipe: BEORecipe, task: Task, number: int, surrogate: Surrogate, epochs: int, robust: bool
    ) -> None:
        self.recipe, self.task, self.number, self.surrogate = recipe, task, number, surrogate
        self.epochs, self.robust = epochs, robust
        self.labels = torch.from_numpy(task.images.labels).to(task.accelerator.device)
        self.voters: tuple[tuple[torch.Tensor, torch.Tensor] | None, torch.Tensor | None] = (None, None)
        saved = task.checkpoints.saved(self._what)
        self._train(surrogate, 0 if saved is None else saved["seed"] - self._first_seed)

    def __str__(self) -> str:
        refreshed = self.recipe.mode == "self" and self.recipe.refresh != "never"
        images = "the images as they were protected" if refreshed else "clean images"
        early = "" if self.epochs == self.recipe.epochs else f", {self.epochs} of {self.recipe.epochs} epochs"
        return f"{self.surrogate} trained {'adversarially ' if self.robust else ''}on {images}{early}"

    def refresh(self, round: int) -> None:
        """Train on, or anew, on what the images are now, unless that was done for this round."""
        if self.round < round:
            retrain = self.recipe.refresh == "retrain"
            self._train(self.surrogate if retrain else self.network.as_surrogate(), round)

    def _adversarial_training(self) -> AdversarialTraining:
        """With half the budget."""
        budget = self.task.budget
        # What an L2 ball gives each value on average, where that is the norm.
        count = self.task.images.pixels[0].size
        eps = budget.radius / 2 if budget.norm == "linf" else max(1.0, budget.radius / 2 / count**0.5)
        return AdversarialTraining.single_step(eps)

    def feature_gradient(self, step: int) -> torch.Tensor | None:
        """The gradient of the Bayes error in the features of the protected images (N, D); None for the control."""
        if self.recipe.objective == CONTROL:
            return None
        shard = self.task.shard
        with torch.no_grad():
            parts = [
                retry_in_halves(functools.partial(self._features, seen), len(seen)) for _, _, seen in self._seen(step)
            ]
            features = torch.cat(parts).requires_grad_()
        if self.recipe.sigma_of == "current":
            self.sigma = self._fraction(shard.gather(features.detach()))
        reference, self_index = self.voters
        alone = reference is None and shard.count == 1
        if reference is None and not alone:  # every process counts the votes on its rows, by all rows
            reference, self_index = (
                (shard.gather(features.detach()).requires_grad_(), self._all_labels),
                self._own_places,
            )
        with torch.enable_grad(), warnings.catch_warnings():
            if step or isinstance(self.recipe.sigma, str):  # a sigma that somebody chose is worth one word, not many
                warnings.simplefilter("ignore", RuntimeWarning)
            value = bayes_error(
                features,
                self.labels,
                kernel=self.recipe.kernel,
                sigma=self.sigma,
                objective=self.recipe.objective or ("max" if self.recipe.mode == "self" else "log-label"),
                reference=reference,
                self_index=self_index,
            )
            value = value * (len(features) / len(shard.labels))  # the means of the processes add up to that of all
        self.task.check(value.item())
        if alone or self.recipe.mode == "reference":
            return torch.autograd.grad(value, features)[0]
        assert reference is not None
        of_queries, of_voters = torch.autograd.grad(value, (features, reference[0]))
        return of_queries + shard.sum(of_voters)[self._own_places]

    def pixel_gradients(
        self, slope: torch.Tensor | None, step: int
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Rows and the gradient of their perturbations (B, C, H, W), at mean absolute value one for every image.

        So no embedding, and no image far from the others, speaks louder than another. AdamW gets the gradient of the
        sum over the images as it is.
        """
        for rows, perturbations, seen in self._seen(step):

            def of_pixels(part: slice, rows: NDArray[np.int64] = rows, seen: torch.Tensor = seen) -> torch.Tensor:
                pixels = seen.detach()[part].requires_grad_()
                logits, features = self.network(pixels)
                if slope is None:
                    loss = F.cross_entropy(logits.float(), self.labels[rows[part]], reduction="sum")
                else:
                    # The mean's slopes are too small for half precision.
                    loss = (features.float() * slope[rows[part]]).sum() * len(self.task.shard.labels)
                return torch.autograd.grad(loss, pixels)[0]

            gradient = torch.autograd.grad(seen, perturbations, retry_in_halves(of_pixels, len(rows)))[0]
            yield rows, gradient if self.recipe.optimiser == "adamw" else normalise_gradients(gradient)

    def _features(self, seen: torch.Tensor, part: slice) -> torch.Tensor:
        features: torch.Tensor = self.network(seen[part])[1]
        return features.float()

    def _seen(self, step: int) -> Iterator[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]]:
        """Rows, perturbations, and the protected images as ``step`` crops and flips them."""
        generator = torch_generator(self.seed + step, self.task.shard.rank)
        for rows in row_chunks(len(self.task.images), self.recipe.embedding_batch_size):
            images, _, perturbations = self.task.load(rows)
            seen = images + perturbations.requires_grad_()
            yield rows, perturbations, random_crop_flip(seen, generator) if self.recipe.augment else seen

    def _train(self, surrogate: Surrogate, round: int) -> None:
        """Train the network, and look at what it makes of the clean images.

        In round 0 on those, afterwards on what is protected of them.
        """
        recipe, task = self.recipe, self.task
        defence: Defence = self._adversarial_training() if self.robust else NoDefence()
        self.round, self.seed = round, self._first_seed + round
        self.network = task.train(
            surrogate,
            task.protected() if round else task.images,
            recipe.training(recipe.refresh_epochs if round else self.epochs),
            self.seed,
            self._what,
            defence=defence,
        )
        clean = task.shard.gather(embed(self.network, task.images, self.labels.device, recipe.embedding_batch_size))
        labels = self._all_labels
        if recipe.mode == "reference":
            chosen = torch.linspace(0, len(clean) - 1, min(len(clean), recipe.reference_size)).round().long()
            places = torch.full((len(clean),), -1).scatter(0, chosen, torch.arange(len(chosen)))
            self.voters = (clean[chosen], labels[chosen]), places.to(clean.device)[self._own_places]
        if isinstance(recipe.sigma, str):
            self.sigma = bandwidth(clean, labels, kernel=recipe.kernel, rule=recipe.sigma)
        else:
            self.sigma = self._fraction(clean)

    def _fraction(self, features: torch.Tensor) -> float:
        """The sigma of a recipe that gives it as a number, for these features of all images."""
        return float(self.recipe.sigma) * float(features.abs().max())

    @property
    def _what(self) -> str:
        return f"{self.recipe.name}: embedding {self.number + 1}"

    @property
    def _first_seed(self) -> int:
        return self.recipe.seed + FIRST_SEED + self.number

    @property
    def _all_labels(self) -> torch.Tensor:
        """Of the whole set (N,)."""
        return torch.from_numpy(self.task.shard.labels).to(self.labels.device)

    @property
    def _own_places(self) -> torch.Tensor:
        """Of this process's rows in the whole set (n,)."""
        return torch.from_numpy(self.task.shard.rows).to(self.labels.device)
