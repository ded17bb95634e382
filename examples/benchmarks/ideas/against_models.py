"""Ideas that attack models of the clean images: early ones, robust ones, and the places of other images in them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from ascent import Ascent, wrong
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hf_unlearnable import Surrogate
from hf_unlearnable.defences import AdversarialTraining
from hf_unlearnable.methods import Task
from hf_unlearnable.training.inference import embed


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
