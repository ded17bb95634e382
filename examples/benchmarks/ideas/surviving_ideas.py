"""What else was tried to let MI-UE's class patterns survive: recipes that the package does not hold.

    python examples/benchmarks/ideas/surviving_ideas.py --recipe coefficients --fit 1      # seven minutes of a thread
    python examples/benchmarks/ideas/surviving_ideas.py --table

Each is the recipe of ``MIUE`` for photographs with one thing changed, 8/255, one victim of each kind. What was
predicted and what came out: NOTES.md.
"""

from __future__ import annotations

import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))  # what all benchmarks share lies beside this folder

import numpy as np
import torch
from blocks import blocks_changed, low
from common import ANOTHER_FIT, TINY, fitted, kept, load, of_recipe, options, parse, size, victim_seeds
from numpy.typing import NDArray
from result_files import ResultFile, place, read_results
from tables import markdown, told
from torch.nn import functional as F

from hf_unlearnable import MIUE, Budget, Method, Protection, Report, Training, learnability
from hf_unlearnable.evaluation.cases import PROTECTED
from hf_unlearnable.methods import Task
from hf_unlearnable.methods.alternating.shared_schedule import SharedSchedule
from hf_unlearnable.methods.waves import BLOCK
from hf_unlearnable.training.batches import load as load_batch

SCRIPT = Path(__file__).stem
SETS = ("photo-patches", "photo-patches-2", "photo-patches-3", "photo-patches-4", "photo-patches-5")
GAIN = 2  # between the sum of a pattern's waves and what images carry of it, which is clipped
THIEVES: tuple[dict[str, Any], ...] = (
    {"victims": ["small-resnet"], "defences": ["none", "jpeg:10", "orthogonal-projection", "bitdepth:2", "grayscale"]},
    {"victims": ["strided-resnet", "random-features"]},
    {"victims": ["small-vit"], "trainings": ["adamw"]},
)


class Coefficients(SharedSchedule):
    """Patterns that are sums of low frequencies of JPEG's blocks, and take signed steps along their coefficients."""

    def _weigh(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        (gradient,) = gradients
        return low(gradient)

    def _shown(self) -> torch.Tensor:
        return self.task.budget.clip(GAIN * self.patterns)

    def _fit_patterns(self, phase: str, epochs: int | None) -> None:
        self.patterns.copy_(low(self.patterns))
        super()._fit_patterns(phase, epochs)
        self.patterns.copy_(self._shown())

    def _fit_patterns_to(self, rows: NDArray[np.int64], share: float) -> None:
        task, patterns = self.task, self.patterns
        clean, labels = load_batch(task.images, rows, patterns.device)
        kinds = self._kinds(rows, labels)
        (gradients,) = self._step(clean, task.budget.project(self._shown()[kinds], clean), labels)
        present = torch.unique(kinds)
        summed = torch.zeros_like(patterns).index_add_(0, kinds, gradients)[present]
        gradient = self._weigh([summed / summed.abs().mean().clamp_min(1e-12)])
        self.velocity[present] = self.recipe.pattern_momentum * self.velocity[present] + gradient
        move = low(self.velocity[present], signed=True)
        move *= task.budget.radius / 255 * self.recipe.step_size(share) / move.abs().mean().clamp_min(1e-12)
        patterns[present] = low(task.budget.clip(patterns[present] - move))
        self._watch(self.cursor.loss)


class Seen(SharedSchedule, ABC):
    """In a share of the steps, surrogate and patterns see images that were changed otherwise than by JPEG."""

    often: ClassVar[float] = 1 / 4  # of the steps see images otherwise changed than by JPEG
    compressed_too: ClassVar[bool] = False  # such images, as often as the others

    def _published(self, images: torch.Tensor) -> torch.Tensor:
        if torch.rand(1, generator=self.cursor.generator).item() >= self.often:
            return super()._published(images)
        changed = self.changed(images)
        return super()._published(changed) if self.compressed_too else changed

    @abstractmethod
    def changed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) as a thief may change them."""


class TwoBits(Seen):
    """The four levels 0, 64, 128 and 192, with gradients as if nothing had been rounded."""

    def changed(self, images: torch.Tensor) -> torch.Tensor:
        """Posterise."""
        return images + ((images * 255 / 64 + 1e-4).floor() * 64 / 255 - images).detach()


class Bands(Seen):
    """Without half of the frequencies of JPEG's blocks, other ones at every step; the means of blocks stay."""

    def changed(self, images: torch.Tensor) -> torch.Tensor:
        """Mask."""
        stay = torch.rand(BLOCK, BLOCK, generator=self.cursor.generator) < 1 / 2
        stay[0, 0] = True
        return blocks_changed(images, lambda found: found * stay.to(found)[:, None, :])


class BandsJpeg(Bands):
    """The same, and such images are as JPEG leaves them as often as the others."""

    compressed_too = True


class BandsOften(BandsJpeg):
    """The same in half of the steps."""

    often = 1 / 2


class Grey(Seen):
    """The mean over the channels in each of them."""

    def changed(self, images: torch.Tensor) -> torch.Tensor:
        """Take the colours out."""
        return images.mean(dim=1, keepdim=True).expand_as(images)


class GreyJpeg(Grey):
    """The same, and grey images are as JPEG leaves them as often as those in colour."""

    compressed_too = True


class Shared(SharedSchedule):
    """Gradients in which what all channels share counts twice as much."""

    def _weigh(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        weighed = super()._weigh(gradients)
        return weighed + weighed.mean(dim=1, keepdim=True)


class HalfSize(Seen):
    """Shrunk to half, and enlarged again."""

    def changed(self, images: torch.Tensor) -> torch.Tensor:
        """Resample twice."""
        small = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
        return F.interpolate(small, size=images.shape[-2:], mode="bilinear")


@dataclass(frozen=True, kw_only=True)
class Surviving(MIUE):
    """``MIUE`` without guides, by another schedule."""

    targeted_weight: float = 0.0

    schedule_of_idea: ClassVar[type[SharedSchedule]]

    def run(self, task: Task) -> None:
        """As ``MIUE``."""
        with mock.patch("hf_unlearnable.methods.alternating.alternating.SharedSchedule", self.schedule_of_idea):
            super().run(task)


def idea(name: str, schedule: type[SharedSchedule]) -> Method:
    """``MIUE`` by this schedule, called so."""
    return type(schedule.__name__, (Surviving,), {"name": name, "schedule_of_idea": schedule})()


IDEAS = {
    name: idea(name, schedule)
    for name, schedule in {
        "coefficients": Coefficients,
        "two-bits": TwoBits,
        "bands": Bands,
        "bands-jpeg": BandsJpeg,
        "bands-often": BandsOften,
        "half-size": HalfSize,
        "grey": Grey,
        "grey-jpeg": GreyJpeg,
        "shared": Shared,
    }.items()
}


def run(arguments: argparse.Namespace, name: str) -> None:
    """Fit to a set, let the thieves learn, and write one result file."""
    budget = Budget(8)
    train, test = load(name, size(name, arguments))
    experiment = of_recipe(
        SCRIPT, name, arguments.recipe, budget, arguments, epochs=arguments.epochs, fit=arguments.fit, recipes=IDEAS
    )
    if place(experiment).exists():
        return
    folder, seconds = fitted(name, arguments.recipe, budget, train, recipes=IDEAS, fit=arguments.fit)
    protected = train.map(Protection.from_pretrained(folder))
    reports = [
        learnability(
            protected,
            clean=train,
            test=test,
            training=Training(epochs=arguments.epochs),
            seeds=victim_seeds(arguments),
            ratios=(0, 1),
            keep_in=kept("victims"),
            **thieves,
        )
        for thieves in THIEVES
    ]
    figures = {"fit_seconds": seconds, "reports": [one.as_dict() for one in reports]}
    ResultFile(experiment, figures).write()


def table(results: Sequence[ResultFile]) -> str:
    """What each thief learns of each fit, in per cent: the means over fits."""
    reached: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in results:
        of_set = reached.setdefault((one.experiment.dataset, str(one.experiment.recipe)), {})
        for report in map(Report.of, one.figures["reports"]):
            for pair in report.pairs:
                values = report.values(PROTECTED, pair[0], defence=pair[1])
                of_set.setdefault(" with ".join(pair), []).append(float(np.mean(values)))
    thieves = list(dict.fromkeys(thief for found in reached.values() for thief in found))
    return markdown(
        ["set", "recipe", "fits", *thieves],
        [
            [*of, str(max(map(len, found.values()))), *(told(found[one]) if one in found else "-" for one in thieves)]
            for of, found in reached.items()
        ],
    )


def main() -> None:
    parser = options(__doc__, epochs=12, seeds=1)
    parser.add_argument("--set", choices=(*SETS, TINY), action="append", help="default: photo-patches")
    parser.add_argument("--recipe", choices=IDEAS, default="coefficients")
    parser.add_argument("--fit", type=int, default=1, help=ANOTHER_FIT)
    parser.add_argument("--images", type=int, default=3000, help=argparse.SUPPRESS)  # of the made-up set
    arguments = parse(parser)
    if not arguments.table:
        for name in arguments.set or SETS[:1]:
            run(arguments, name)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
