"""What a defence does along a training, where it has to remember something from one step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class Course:
    """One training as a defence attends it; ``Defence.course`` makes one. A subclass overrides what it needs."""

    def images(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """At every step, after ``Defence.batch``: the images (B, C, H, W) in [0, 1] that the network is given.

        Args:
            images: as they would be given.
            generator: of random draws, on the CPU.
        """
        return images

    def after_step(self, done: int) -> None:
        """After every step of the optimiser and of its schedule; here weights and learning rates may be moved.

        Args:
            done: how many steps there were. At the last one the network is what the thief ends up with.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that a course with the same arguments needs to go on from here, ready for ``torch.save``.

        Networks, optimisers and their schedules are kept by the training.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
