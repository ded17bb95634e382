"""A texture for each class, in closed form: waves that survive JPEG, crops and other networks, without any fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from hf_unlearnable.files import chunks
from hf_unlearnable.methods.base import Method
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.waves import balanced_signs, class_waves, private_generator
from hf_unlearnable.progress import Progress
from hf_unlearnable.training.batches import load


@dataclass(frozen=True, kw_only=True)
class Texture(Method, name="texture"):
    """Give the images of every class a wave that networks learn before they learn what the images show.

    With (u, v) the frequencies of a class and i, j counted over the whole image, the wave is

        ``w(i, j) = sign( cos((2i + 1) u pi / 16) * cos((2j + 1) v pi / 16) )``

    and the perturbation is ``+-epsilon * w``. In every block of 8x8 pixels it is one basis function of JPEG's cosine
    transform at full strength, which is why compression leaves it; and it goes on over the edges of the blocks, which
    is why a crop does not change what it looks like.

    In colour images red and green carry the wave with a sign drawn for every image, so that no linear model finds a
    direction that tells the class, and no projection takes it out; blue carries the wave of another class with one
    sign, for models that see nothing but directions. Greyscale images carry the wave with one sign, and so do those of
    a single class, in all channels: among the clean images of others one class of ten is all that shows the wave, and
    networks take it up in time only if it is as simple as can be. More classes than there are frequencies get sets of
    them, which take turns from block to block.

    With ``signs="one"`` every image of a class carries the same. Networks take that up more surely (measured in
    ``docs/methods.md``); a projection, which finds nothing of drawn signs, finds it.

    Which class gets which wave, and the signs, are drawn from the seed and from the clean images themselves, so that no
    two owners share them; a thief who compares the spectra of the classes can still find the waves. There is no
    surrogate, and nothing is optimised: seconds for thousands of images. This is the control that an optimised method
    must beat.

    Args:
        signs: of red and green, ``"drawn"`` for every image, or ``"one"`` for all images of a class.
    """

    signs: Literal["drawn", "one"] = "drawn"

    uses_surrogates: ClassVar[bool] = False
    one_class: ClassVar[bool] = True
    adaptive: ClassVar[str] = "principal-directions:2"
    finest: ClassVar[int] = 256  # costs nothing here, and thieves of large images train at about 224

    def parts(self) -> Mapping[str, float]:
        """The waves."""
        return {f"{self.name}: waves": 0.5}

    def draws_signs(self, task: Task) -> bool:
        """Whether its images get drawn signs; greyscale ones and those of a single class have one in any case."""
        return self.signs == "drawn" and task.images.pixels.shape[1] > 1 and task.classes > 1

    def run(self, task: Task) -> None:
        """Write the waves."""
        rng = private_generator(self.seed, task)
        _, channels, height, width = task.images.pixels.shape
        own = torch.zeros(len(task.images.names), channels, height, width)  # other people's classes carry nothing
        own[: task.classes] = class_waves(task.classes, channels, height, width, rng)
        variants = [own]
        drawn = self.draws_signs(task)
        if drawn:
            signs = balanced_signs(task.shard.labels, rng)[task.shard.rows]
            variants.append(own * torch.tensor([-1.0] * (channels - 1) + [1.0]).view(-1, 1, 1))
        task.patterns.extend(map(task.budget.direction, variants))
        with Progress(f"{self.name}: waves", len(task.images), unit="image", enabled=task.progress) as bar:
            for part in chunks(len(task.images), task.images.pixels.shape[1:]):
                rows = np.arange(part.start, part.stop)
                clean, classes = load(task.images, rows, torch.device("cpu"))
                signed = own[classes]
                if drawn:
                    signed[:, :-1] *= torch.from_numpy(signs[rows]).view(-1, 1, 1, 1)
                task.store(rows, task.budget.project(task.budget.direction(signed), clean))
                bar.advance(len(rows))
                task.checkpoints.tick()
