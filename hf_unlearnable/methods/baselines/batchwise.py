"""Methods that make the perturbations of a batch of images by themselves, once what all share is known."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from hf_unlearnable.budget import Budget
from hf_unlearnable.methods.base import Method
from hf_unlearnable.methods.task import Task
from hf_unlearnable.progress import Progress
from hf_unlearnable.training.batches import row_chunks
from hf_unlearnable.training.processes import torch_generator

BATCH = 256  # images at once
VARIANTS = 4  # perturbations for every class, of which images that are added later get one
LATER_SEED = 1  # apart from that of the images that are there

# Images (B, C, H, W) in [0, 1], labels (B,), randomness on the CPU -> perturbations (B, C, H, W), not yet projected.
Make = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Batchwise(Method):
    """A method that says how the perturbations of any batch are made; batches that were made are not made again.

    Attributes:
        blind: whether the images have no part in it: images that are added later get perturbations of the same kind.
    """

    blind: ClassVar[bool] = False

    @abstractmethod
    def maker(self, task: Task) -> Make:
        """Find what all images share, and return what makes the perturbations of a batch."""

    def parts(self) -> Mapping[str, float]:
        """The images."""
        return {f"{self.name}: images": 0.5}

    def run(self, task: Task) -> None:
        """Make them batch by batch, and project them."""
        make, generator, done = self.maker(task), torch_generator(self.seed, task.shard.rank), 0
        saved = task.checkpoints.keep(f"{self.name}: images", lambda: {"done": done, "drawn": generator.get_state()})
        if saved is not None:
            done = saved["done"]
            generator.set_state(saved["drawn"].clone())
        if self.blind:
            task.patterns.extend(self._for_later(task, make))
        count = len(task.images)
        with Progress(f"{self.name}: images", count, unit="image", done=done, enabled=task.progress) as bar:
            for rows in row_chunks(count, BATCH):
                if rows[0] < done:
                    continue
                images, labels, _ = task.load(rows)
                task.store(rows, task.budget.project(make(images, labels, generator), images))
                done = int(rows[-1]) + 1
                bar.advance(len(rows))
                task.checkpoints.tick()

    def _for_later(self, task: Task, make: Make) -> Iterator[torch.Tensor]:
        """For every class some perturbations (K, C, H, W), alike in every process."""
        classes, generator = len(task.images.names), torch.Generator().manual_seed(self.seed + LATER_SEED)
        grey = torch.full((classes, *task.images.pixels.shape[1:]), 0.5)
        for _ in range(VARIANTS):
            yield task.budget.clip(make(grey, torch.arange(classes), generator))


def random_start(budget: Budget, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A perturbation for every image, drawn uniformly from the L-inf ball, or a direction as long as the L2 radius.

    Args:
        budget: the ball.
        images: (B, C, H, W), for the shape and the device.
        generator: on the CPU.
    """
    drawn = 2 * torch.rand(images.shape, generator=generator) - 1
    return (drawn * budget.epsilon if budget.norm == "linf" else budget.direction(drawn)).to(images.device)


def of_length(patterns: torch.Tensor, budget: Budget, share: float) -> torch.Tensor:
    """Scale patterns (B, C, H, W) to the length that papers with an L2 budget give them.

    The L2 radius, where that is the budget. Under an L-inf budget the root of the mean square of a pattern becomes
    ``share`` of the radius; values beyond the radius are then still to be cut off.
    """
    length = budget.epsilon if budget.norm == "l2" else share * budget.epsilon * patterns[0].numel() ** 0.5
    norms = patterns.flatten(1).norm(dim=1).clamp_min(1e-12)
    return patterns * (length / norms).view(-1, 1, 1, 1)
