"""Where a run over the images is: what a checkpoint of either schedule keeps beside its networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.progress import Progress
from hf_unlearnable.training.processes import numpy_generator, torch_generator


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
