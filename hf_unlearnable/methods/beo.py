"""BEO: raise the Bayes error of the protected data (arXiv 2511.08191)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.budget import at_one_size
from hf_unlearnable.defences import AdversarialTraining, Defence, NoDefence
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.estimates import MIXTURE, bayes_error_estimates, error_upper_bound
from hf_unlearnable.information import bandwidth, bayes_error
from hf_unlearnable.kernel_votes import OBJECTIVES
from hf_unlearnable.methods.base import Method
from hf_unlearnable.methods.task import Task
from hf_unlearnable.micro_batches import halved
from hf_unlearnable.outputs import allocate
from hf_unlearnable.progress import Progress
from hf_unlearnable.sharding import random_pixels
from hf_unlearnable.surrogate import Network, Surrogate
from hf_unlearnable.training import Training, accuracy, embed, load, random_crop_flip

FIRST_SEED, HELD_OUT_SEED = 2000, 3000  # apart from those of other methods' models and of victims
CONTROL = "cross-entropy"
ADAM = (0.9, 0.999)  # decay of the two averages


@dataclass(frozen=True, kw_only=True)
class BEO(Method, name="beo"):
    """Move every image to where the classes of its neighbours contradict its own: projected gradient ascent.

    All images move jointly: the features of the whole set are computed, the gradient of ``bayes_error`` is taken with
    respect to them once, and pushed back through the embeddings batch by batch to the pixels.

    Two modes. ``"reference"``, the default, asks how the CLEAN images would vote on the protected ones (the clean twin
    has no vote), in several embeddings: a model of the clean images and one trained adversarially. It is made for
    mixtures: a protected image among clean ones of another class is a contradiction that a mixture keeps.
    ``"self"`` is the paper's: the protected images vote on one another, in an embedding that is trained anew on them;
    ``BEO.paper()`` has the authors' schedule.

    Args:
        mode: see above.
        kernel: of the votes, see ``bayes_error``.
        sigma: of the kernel: ``"likelihood"`` or ``"median"`` (see ``bandwidth``, on the features of the clean images),
            or a number as a fraction of the largest absolute value of the features, as the authors do.
        objective: see ``bayes_error``; ``"log-label"`` for the reference mode and ``"max"`` for the other if left out.
            ``"cross-entropy"`` is the control that the kernel has to beat: the same embeddings, each climbing the
            cross-entropy of its own classifier (untargeted PGD).
        steps: of the ascent.
        first_step: as a fraction of the budget's radius, halved after 60 % of the steps; 2.5 / ``steps`` if left out.
        optimiser: ``"steepest"``: the sign of the gradient, or its direction under an L2 budget; ``"adam"``: Adam with
            ``first_step`` as its rate.
        augment: crop and flip images at random in every step, differently for every image.
        robust: use adversarially trained embeddings beside the ordinary ones, trained with half the budget.
        epochs: passes over the images that train an embedding.
        stages: of a model's life, from each of which there is an ordinary embedding in the reference mode: trained for
            ``epochs``, a quarter of them, a quarter of those, and so on. With three, later protected images spoil
            a model of clean ones more surely on clothes at 16/255, photographs not (``examples/benchmarks/NOTES.md``).
        refresh: ``"never"``; ``"continue"``: train on for ``refresh_epochs`` on the protected images before every step;
            ``"retrain"``: the same from new weights. The self mode only.
        refresh_epochs: see ``refresh``.
        batch_size: images of a training step.
        learning_rate: of that training.
        embedding_batch_size: images that are pushed through an embedding at once.
        reference_size: most rows that vote; a larger set votes by an evenly drawn sample, which is another problem
            where the kernel is narrow: with half of 60,000 voters the gradient keeps a cosine of 0.7 with the whole
            one's, with a sixth 0.4 (``examples/benchmarks/bayes_error_speed.py``).
    """

    mode: Literal["reference", "self"] = "reference"
    kernel: str = "rbf"
    sigma: float | str = "likelihood"
    objective: str | None = None
    steps: int = 20
    first_step: float | None = None
    optimiser: Literal["steepest", "adam"] = "steepest"
    augment: bool = False
    robust: bool = True
    epochs: int = 12
    stages: int = 1
    refresh: Literal["never", "continue", "retrain"] = "continue"
    refresh_epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 0.1
    embedding_batch_size: int = 256
    reference_size: int = 60_000

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", ("reference", "self")),
            ("objective", (None, *OBJECTIVES, CONTROL)),
            ("optimiser", ("steepest", "adam")),
            ("refresh", ("never", "continue", "retrain")),
        ):
            if getattr(self, name) not in allowed:
                options = ", ".join(repr(option) for option in allowed)
                raise RecipeError(f"got {name}={getattr(self, name)!r}; expected one of {options}")
        if self.sigma not in ("likelihood", "median") and not (isinstance(self.sigma, (int, float)) and self.sigma > 0):
            raise RecipeError(f"got sigma={self.sigma!r}; expected 'likelihood', 'median' or a number above zero")
        sizes = "batch_size", "embedding_batch_size", "reference_size"
        for name in ("steps", "epochs", "stages", "refresh_epochs", *sizes):
            if getattr(self, name) < 1:
                raise RecipeError(f"got {name}={getattr(self, name)}; expected at least 1")

    @classmethod
    def paper(cls, **changes: Any) -> BEO:
        """The recipe of the authors' experiments.

        190 steps of Adam with a rate of 1e-3 on pixels in [0, 1], before each of which an embedding is trained from
        scratch for 30 epochs on the protected images; RBF kernel, sigma 0.3 of the largest feature, objective "max".
        The rate is relative to a budget of 8/255. Meant for ``Surrogate("resnet-18")``.
        """
        recipe: dict[str, Any] = {
            "mode": "self",
            "sigma": 0.3,
            "steps": 190,
            "optimiser": "adam",
            "first_step": 1e-3 * 255 / 8,
            "robust": False,
            "epochs": 30,
            "refresh": "retrain",
            "refresh_epochs": 30,
        }
        return cls(**{**recipe, **changes})

    def run(self, task: Task) -> None:
        """Train the embeddings, then ascend."""
        kinds = [(surrogate, *kind) for surrogate in task.surrogates for kind in self._trainings()]
        ascent = _Ascent(self, task)
        ascent.start()
        embeddings = [_Embedding(self, task, number, *kind) for number, kind in enumerate(kinds)]
        count = len(task.images)
        with Progress(
            f"{self.name}: ascent", self.steps * count, unit="image", done=ascent.step * count, enabled=task.progress
        ) as bar:
            while ascent.step < self.steps:
                step = ascent.step
                if self.mode == "self" and self.refresh != "never":
                    for embedding in embeddings:
                        embedding.refresh(step + 1)
                slopes = [embedding.slope(step) for embedding in embeddings]
                pulled = [embedding.pull(slope, step) for embedding, slope in zip(embeddings, slopes, strict=True)]
                for part in zip(*pulled, strict=True):
                    rows = part[0][0]
                    ascent.move(rows, torch.stack([gradient for _, gradient in part]).sum(dim=0), step)
                    bar.advance(len(rows))
                ascent.step += 1
                task.checkpoints.tick()
        task.findings["bayes_error"] = self._findings(task, embeddings)

    def step_size(self, step: int) -> float:
        """Of a step of the ascent, as a fraction of the radius."""
        return (self.first_step or 2.5 / self.steps) * (1 if step < 0.6 * self.steps else 0.5)

    def _findings(self, task: Task, embeddings: list[_Embedding]) -> dict[str, Any]:
        """Estimates where the ascent took place and in an embedding that had no part in it."""
        protected, surrogate = task.protected(), task.surrogates[0]
        training, seed = self._training(self.epochs), self.seed + HELD_OUT_SEED
        held_out = task.train(surrogate, task.images, training, seed, f"{self.name}: held-out embedding")
        order = np.random.default_rng(seed).permutation(len(protected))
        learned, unseen = (protected.select(part) for part in np.array_split(order, 2))
        classifier = task.train(surrogate, learned, training, seed + 1, f"{self.name}: held-out classifier")
        several: dict[str, tuple[Network, float | None]] = {str(one): (one.network, one.sigma) for one in embeddings}
        several[f"{surrogate} trained on clean images, held out"] = (held_out, None)
        device, size = task.accelerator.device, self.embedding_batch_size
        features = {
            name: tuple(task.shard.gather(embed(network, images, device, size)) for images in (task.images, protected))
            for name, (network, _) in several.items()
        }
        sigmas = {name: sigma for name, (_, sigma) in several.items()}
        wrong = (1 - accuracy(classifier, unseen, device, size)) * len(unseen)
        seen = task.shard.sum(torch.tensor([wrong, len(unseen)], device=device, dtype=torch.float64)).tolist()
        return {
            "estimates": bayes_error_estimates(task.shard.labels, features, sigmas, kernel=self.kernel),
            "upper_bound": error_upper_bound(seen[0] / seen[1], int(seen[1])),
            "mixtures": MIXTURE,
        }

    def _trainings(self) -> list[tuple[int, bool]]:
        """Of each surrogate: epochs, and whether adversarially."""
        if self.mode == "self":
            return [(self.epochs, False)]
        stages = dict.fromkeys(max(1, self.epochs // 4**stage) for stage in range(self.stages))
        return [(epochs, False) for epochs in stages] + [(self.epochs, True)] * self.robust

    def _training(self, epochs: int) -> Training:
        return Training(epochs=epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)


class _Ascent:
    """The perturbations, how many steps they have made, and what an optimiser remembers of them."""

    def __init__(self, recipe: BEO, task: Task) -> None:
        self.recipe, self.task, self.step = recipe, task, 0
        self.memory: list[torch.Tensor] = []
        if recipe.optimiser == "adam":  # two numbers a value, on disk like the perturbations
            shape = task.images.pixels.shape
            files = (task.scratch / "mean", task.scratch / "square")
            self.memory = [torch.from_numpy(allocate(file, shape, np.float32)) for file in files]

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {"step": self.step, "memory": self.memory}

    def start(self) -> None:
        """Go on, or begin uniformly in half the ball: many gradients vanish at the clean images themselves."""
        saved = self.task.checkpoints.keep("ascent", self.state_dict)
        if saved is not None:
            self.step = saved["step"]
            for past, kept in zip(self.memory, saved["memory"], strict=True):
                for rows in _rows(len(past), self.recipe.embedding_batch_size):
                    past[rows] = kept[rows]
            return
        rank = self.task.shard.rank
        generator, budget = random_pixels(self.recipe.seed, rank), self.task.budget
        for rows in _rows(len(self.task.images), self.recipe.embedding_batch_size):
            images, _ = load(self.task.images, rows, torch.device("cpu"))
            noise = 2 * torch.rand(images.shape, generator=generator) - 1
            noise = noise * budget.epsilon if budget.norm == "linf" else budget.direction(noise)
            self.task.store(rows, budget.project(noise / 2, images))

    def move(self, rows: NDArray[np.int64], gradient: torch.Tensor, step: int) -> None:
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
        self.task.store(rows, budget.project(perturbations + size * direction, images))


class _Embedding:
    """A trained network, whose features say who is whose neighbour.

    Args:
        recipe: of the ascent.
        task: whose images.
        number: among the embeddings.
        surrogate: what is trained.
        epochs: passes over the images.
        robust: adversarially.
    """

    def __init__(self, recipe: BEO, task: Task, number: int, surrogate: Surrogate, epochs: int, robust: bool) -> None:
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

    def slope(self, step: int) -> torch.Tensor | None:
        """The gradient of the Bayes error in the features of the protected images (N, D); None for the control."""
        if self.recipe.objective == CONTROL:
            return None
        shard = self.task.shard
        with torch.no_grad():
            parts = [halved(functools.partial(self._features, seen), len(seen)) for _, _, seen in self._seen(step)]
            features = torch.cat(parts).requires_grad_()
        reference, twins = self.voters
        alone = reference is None and shard.count == 1
        if reference is None and not alone:  # every process counts the votes on its rows, by all rows
            reference, twins = (shard.gather(features.detach()).requires_grad_(), self._all_labels), self._own_places
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
                twins=twins,
            )
            value = value * (len(features) / len(shard.labels))  # the means of the processes add up to that of all
        self.task.check(value.item())
        if alone or self.recipe.mode == "reference":
            return torch.autograd.grad(value, features)[0]
        assert reference is not None
        of_queries, of_voters = torch.autograd.grad(value, (features, reference[0]))
        return of_queries + shard.sum(of_voters)[self._own_places]

    def pull(self, slope: torch.Tensor | None, step: int) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Rows and the gradient of their perturbations (B, C, H, W), at mean absolute value one for every image.

        So no embedding, and no image far from the others, speaks louder than another.
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

            gradient = torch.autograd.grad(seen, perturbations, halved(of_pixels, len(rows)))[0]
            yield rows, at_one_size(gradient)

    def _features(self, seen: torch.Tensor, part: slice) -> torch.Tensor:
        features: torch.Tensor = self.network(seen[part])[1]
        return features.float()

    def _seen(self, step: int) -> Iterator[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]]:
        """Rows, perturbations, and the protected images as ``step`` crops and flips them."""
        generator = random_pixels(self.seed + step, self.task.shard.rank)
        for rows in _rows(len(self.task.images), self.recipe.embedding_batch_size):
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
            recipe._training(recipe.refresh_epochs if round else self.epochs),
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
            self.sigma = recipe.sigma * float(clean.abs().max())

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


def _rows(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
