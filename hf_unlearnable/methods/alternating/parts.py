"""The parts of a change that networks learn one without the other: each with surrogates that see it alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.methods.alternating.networks import Learner, learners_of
from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.waves import MOST, balanced_signs, class_codes, private_generator, wave

WINDOW = 64  # steps over which a loss is averaged
LEARNED = 1 / 8  # of the loss of a model that knows nothing, ln K


class Part:
    """Some channels of a pattern for each class, and the surrogates that learn them.

    Args:
        recipe: of the surrogates, without open settings.
        task: whose images.
        channels: which of them, booleans (C, 1, 1).
        start: of the patterns (K, C, H, W), zero in other channels.
        signs: with which each image carries its pattern (N,); all with one where left out.
        first: the number of its first surrogate.
    """

    def __init__(
        self,
        recipe: AlternatingRecipe,
        task: Task,
        channels: torch.Tensor,
        start: torch.Tensor,
        signs: torch.Tensor | None = None,
        first: int = 0,
    ) -> None:
        self.channels, self.start, self.signs, self.task = channels, start, signs, task
        self.learners: list[Learner] = learners_of(recipe, task, first)
        self.steps, self.loss = 0, math.inf
        self.losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        return {
            **{name: getattr(self, name) for name in ("steps", "loss", "losses")},
            "learners": [learner.state_dict() for learner in self.learners],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.steps, self.loss, self.losses = state["steps"], state["loss"], list(state["losses"])
        for learner, saved in zip(self.learners, state["learners"], strict=True):
            learner.load_state_dict(saved)

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """Tensors like images (B, C, H, W), zero in channels of other parts."""
        return images * self.channels

    def signed(self, rows: NDArray[np.int64], images: torch.Tensor) -> torch.Tensor:
        """Tensors like images (B, C, H, W), with the signs of these rows."""
        if self.signs is None:
            return images
        return images * self.signs[torch.from_numpy(rows).to(images.device)].view(-1, 1, 1, 1)

    def watch(self, loss: float) -> None:
        """Take note of the loss of a step in this process; all processes do so after as many steps."""
        self.losses.append(loss)
        if len(self.losses) == WINDOW:
            self.loss = self.task.shard.mean(sum(self.losses) / WINDOW)
            self.losses = []

    @property
    def learned(self) -> bool:
        """Whether the surrogates name what carries this part, as they see it in training."""
        return self.loss <= LEARNED * math.log(len(self.task.images.names))


def parts_of(recipe: AlternatingRecipe, task: Task) -> list[Part]:
    """One of all channels; or the last channel with one sign for all, and the others with a sign for every image.

    What has one sign is seen by whoever begins with something linear, and goes with the directions that a linear model
    finds; what has a drawn sign has no direction and stays. It begins as the waves of ``Texture``, since a pattern
    without a direction is hardly found from nothing.
    """
    count, shape, device = len(task.images.names), task.images.pixels.shape[1:], task.accelerator.device
    nothing, everywhere = torch.zeros(count, *shape, device=device), torch.ones(shape[0], 1, 1, device=device).bool()
    if recipe.patterns == "one":
        return [Part(recipe, task, everywhere, nothing)]
    last = torch.zeros_like(everywhere)
    last[-1] = True
    rng = private_generator(recipe.seed, task)
    codes = class_codes(min(count, MOST), rng)
    signs = torch.from_numpy(balanced_signs(task.shard.labels, rng)[task.shard.rows]).to(device)
    waves = np.stack([wave(codes[label % len(codes)], *shape[1:]) for label in range(count)])
    start = task.budget.direction(torch.from_numpy(waves).to(device)[:, None].expand(count, *shape)) * ~last
    straight = Part(recipe, task, last, nothing)
    return [straight, Part(recipe, task, ~last, start, signs, first=len(straight.learners))]
