"""Ideas that bring BEO and class patterns together: steps where JPEG leaves them, or half of the budget for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import torch
from blocks import low
from numpy.typing import NDArray

from hf_unlearnable import BEO, Budget, Method
from hf_unlearnable.methods import Task
from hf_unlearnable.methods.beo.ascent import Ascent


def surviving(images: torch.Tensor) -> torch.Tensor:
    """What JPEG keeps longest of (B, C, H, W): low frequencies of blocks of 8x8 without their mean, of the light."""
    return low(images.mean(dim=1, keepdim=True)).expand_as(images)


class SurvivingAscent(Ascent):
    """Steps along what survives of the gradient; what leaves it by the sign is taken out again."""

    def step(self, rows: NDArray[np.int64], gradient: torch.Tensor, step: int) -> None:
        """One step up."""
        super().step(rows, surviving(gradient), step)
        images, _, perturbations = self.task.load(rows)
        self.task.store(rows, self.task.budget.project(surviving(perturbations), images))


@dataclass(frozen=True, kw_only=True)
class SurvivingBEO(BEO):
    """``BEO`` in its reference mode, within the low frequencies of the blocks of JPEG, the same in all channels."""

    name = "beo-surviving"

    def run(self, task: Task) -> None:
        """As ``BEO``, with other steps."""
        with mock.patch("hf_unlearnable.methods.beo.beo.Ascent", SurvivingAscent):
            super().run(task)


@dataclass(frozen=True, kw_only=True)
class Halves(Method):
    """Half of the budget for what helps where all is protected, half for ``BEO``, for mixtures; the sum of both.

    Args:
        shared: the method whose images of a class share something, as ``Method.parse`` reads it.
    """

    shared: str = "texture"

    name = "halves"

    def run(self, task: Task) -> None:
        """One after the other, and add."""
        half = replace(task, budget=Budget(task.budget.radius / 2, task.budget.norm))
        replace(Method.parse(self.shared), seed=self.seed).run(half)
        patterns = task.perturbations.clone()
        task.perturbations.zero_()
        task.patterns.clear()
        BEO(seed=self.seed).run(half)
        task.perturbations.add_(patterns)
