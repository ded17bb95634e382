"""Uniform noise: the control that tells nothing of any class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hf_unlearnable.methods.baselines.batchwise import Batchwise, Make, random_start
from hf_unlearnable.methods.task import Task


@dataclass(frozen=True, kw_only=True)
class Noise(Batchwise, name="noise"):
    """Draw every value of every image uniformly from the ball, whatever the image and its class: the control.

    Under an L2 budget the noise has the length of the radius. What a victim loses by it is the price of any change of
    this size; a method protects by what it takes beyond that.
    """

    uses_surrogates: ClassVar[bool] = False
    one_class: ClassVar[bool] = True
    blind: ClassVar[bool] = True
    adaptive: ClassVar[str] = "blur"

    def maker(self, task: Task) -> Make:
        """Nothing is shared."""
        return lambda images, labels, generator: random_start(task.budget, images, generator)
