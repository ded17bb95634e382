"""What else was tried to make a mixture of clean and protected images harmful: recipes that the package does not hold.

    python examples/benchmarks/mixture_ideas.py --set photo-patches      # all of them, an hour on one thread
    python examples/benchmarks/mixture_ideas.py --set fashion-mnist --images 5000 --budget 16/255 --epochs 15
    python examples/benchmarks/mixture_ideas.py --table

Everything but the recipes is ``protection_strength.py``, whose options these are; the results lie beside its own. What
was predicted and what came out: NOTES.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from mixture_limit import Attacked, moved_both_ways
from numpy.typing import NDArray
from protection_strength import main
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from hf_unlearnable import BEO, Method, Surrogate, Training
from hf_unlearnable.budget import normalise_gradients
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import AdversarialTraining, Defence, NoDefence
from hf_unlearnable.evaluation.victims import split
from hf_unlearnable.methods import Task
from hf_unlearnable.modeling.surrogate import Network
from hf_unlearnable.training.batches import load, random_crop_flip
from hf_unlearnable.training.inference import embed

ROWS = 250  # images that climb together
Gain = Callable[[torch.Tensor, torch.Tensor, NDArray[np.int64]], torch.Tensor]  # of images, labels and their rows


@dataclass(frozen=True, kw_only=True)
class Ascent(Method):
    """Sign steps up the gains of several networks; of each image, the gradients are brought to one size and added.

    Args:
        steps: of 2.5 radii together.
        momentum: on the sum of the gradients.
        augment: crop and flip at random, anew for every step and network (expectation over transformations).
    """

    steps: int = 20
    momentum: float = 0.0
    augment: bool = False

    def climb(self, task: Task, gains: Sequence[Gain], steps: int) -> None:
        """Go on from the perturbations as they are."""
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(task.images), ROWS):
            rows = np.arange(start, min(start + ROWS, len(task.images)))
            images, labels, at = task.load(rows)
            way = torch.zeros_like(at)
            for _ in range(steps):
                way *= self.momentum
                for gain in gains:
                    own = at.detach().requires_grad_()
                    seen = random_crop_flip(images + own, generator) if self.augment else images + own
                    slope = torch.autograd.grad(gain(seen, labels, rows), own)[0]
                    way += normalise_gradients(slope)
                at = task.budget.project(at + 2.5 / self.steps * task.budget.direction(way), images)
            task.store(rows, at)

    def begin(self, task: Task) -> None:
        """Uniformly in half the ball, as ``BEO`` does."""
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(task.images), ROWS):
            part = task.perturbations[start : start + ROWS]
            part.copy_((torch.rand(part.shape, generator=generator) - 0.5) * task.budget.epsilon)

    def model(self, task: Task, surrogate: Surrogate, epochs: int, defence: Defence = NoDefence()) -> Network:
        """A classifier of the clean images."""
        training, seed = Training(epochs=epochs, learning_rate=0.1), self.seed + 2000 + epochs
        return task.train(surrogate, task.images, training, seed, f"{surrogate}, {epochs} epochs, {defence}", defence)

    def robust(self, task: Task) -> Network:
        """One that withstands half the budget, as ``BEO`` has it."""
        return self.model(task, task.surrogates[0], 12, AdversarialTraining.single_step(task.budget.radius / 2))


def wrong(network: Network, images: torch.Tensor, labels: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    """Cross-entropy, summed: untargeted PGD."""
    return F.cross_entropy(network(images)[0], labels, reduction="sum")


@dataclass(frozen=True, kw_only=True)
class Stages(Ascent):
    """PGD on models at several stages of their training, early ones too, of two architectures, and a robust one.

    Args:
        resnets: epochs of each `small-resnet`.
        vggs: epochs of each `small-vgg`.
    """

    name = "stages"
    resnets: tuple[int, ...] = (1, 3, 12)
    vggs: tuple[int, ...] = (3, 12)

    def run(self, task: Task) -> None:
        """Train them all, then climb."""
        self.begin(task)
        kinds = (Surrogate("small-resnet"), self.resnets), (Surrogate("small-vgg"), self.vggs)
        networks = [self.model(task, kind, epochs) for kind, stages in kinds for epochs in stages]
        networks += [self.robust(task)]
        self.climb(task, [functools.partial(wrong, network) for network in networks], self.steps)


@dataclass(frozen=True, kw_only=True)
class Robust(Ascent):
    """PGD on models that withstand half of the budget, and all of it: what moves these looks like another class.

    Args:
        kinds: their architectures.
    """

    name = "robust"
    kinds: tuple[str, ...] = ("small-resnet",)

    def run(self, task: Task) -> None:
        """Train them, then climb."""
        self.begin(task)
        radius = task.budget.radius
        defences = [AdversarialTraining(eps=eps, steps=3, step_size=eps / 2) for eps in (radius / 2, radius)]
        networks = [self.model(task, Surrogate(kind), 12, defence) for kind in self.kinds for defence in defences]
        self.climb(task, [functools.partial(wrong, network) for network in networks], self.steps)


@dataclass(frozen=True, kw_only=True)
class Onto(Ascent):
    """Move each image onto the features of a clean image of another class, in a normal and a robust model.

    Args:
        choice: ``"nearest"``: the closest such image, which many may share; ``"assigned"``: one for each, so that every
            clean image gets a contradiction next to it, at the least total distance.
    """

    name = "onto"
    choice: Literal["nearest", "assigned"] = "nearest"

    def run(self, task: Task) -> None:
        """Choose by both models together, then climb."""
        self.begin(task)
        surrogate = task.surrogates[0]
        networks = [self.model(task, surrogate, 12), self.robust(task)]
        spaces = [embed(network, task.images, task.accelerator.device) for network in networks]
        both = torch.cat([space / space.std() for space in spaces], dim=1)
        far = torch.cdist(both, both)
        labels = torch.from_numpy(task.images.labels)
        far[labels[:, None] == labels[None, :]] = 1e6  # no infinities in an assignment problem
        chosen = far.argmin(dim=1).numpy() if self.choice == "nearest" else linear_sum_assignment(far.numpy())[1]

        def near(number: int, images: torch.Tensor, labels: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
            return -(networks[number](images)[1] - spaces[number][chosen[rows]]).square().sum()

        self.climb(task, [functools.partial(near, number) for number in range(len(networks))], self.steps)


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


IDEAS: dict[str, Method] = {
    "stages": Stages(),
    "stages-resnet": Stages(vggs=()),
    "no-stages": Stages(resnets=(12,), vggs=(12,)),
    "stages-eot": Stages(augment=True, momentum=0.9),
    "robust": Robust(),
    "robust-both": Robust(kinds=("small-resnet", "small-vgg")),
    "beo-augment": BEO(augment=True, steps=40),
    "beo-stages": BEO(stages=3),
    "onto-nearest": Onto(),
    "onto-assigned": Onto(choice="assigned"),
    "best-response": BestResponse(),
    "best-response-eot": BestResponse(augment=True, momentum=0.9),
    "opposing": BestResponse(opposing=True),
    "along": Along(),
}

if __name__ == "__main__":
    main(IDEAS, ratios=[0.0, 0.5], sequential=True, victims=["small-resnet"], suffix="-mixtures")
