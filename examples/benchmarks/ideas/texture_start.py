"""Both at once: the recipe of ``MIUE`` for photographs, whose class patterns begin at the waves of ``Texture``.

    python examples/benchmarks/ideas/texture_start.py --fit 1
    python examples/benchmarks/ideas/texture_start.py --table

4,000 photo patches, 8/255, one victim of each kind. The same thieves of each alone are on the leaderboard; the table of
what each part does is in docs/methods.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))  # what all benchmarks share lies beside this folder

import numpy as np
import torch
from common import ANOTHER_FIT, TINY, fitted, kept, load, of_recipe, options, parse, size, victim_seeds
from result_files import ResultFile, place, read_results
from tables import markdown, told

from hf_unlearnable import MIUE, Budget, Protection, Report, Training, learnability
from hf_unlearnable.evaluation.cases import PROTECTED
from hf_unlearnable.methods import Task
from hf_unlearnable.methods.alternating.shared_schedule import SharedSchedule
from hf_unlearnable.methods.texture import Texture

SCRIPT = Path(__file__).stem
SET = "photo-patches"
THIEVES: tuple[dict[str, Any], ...] = (
    {"victims": ["small-resnet"], "defences": ["none", "jpeg:10", "orthogonal-projection"]},
    {"victims": ["strided-resnet", "random-features"]},
    {"victims": ["small-vit"], "trainings": ["adamw"]},
)


@dataclass(frozen=True, kw_only=True)
class FromTexture(MIUE):
    """``MIUE`` whose class patterns begin at the waves that the same seed draws, at full strength."""

    name = "mi-ue-from-texture"

    def run(self, task: Task) -> None:
        """Draw the waves, forget what they did to the images, and fit on from them."""
        drawn = replace(task, patterns=[], findings={})
        Texture(seed=self.seed).run(drawn)
        task.perturbations.zero_()

        def first(schedule: SharedSchedule) -> torch.Tensor:
            return drawn.patterns[0].to(schedule.task.accelerator.device, copy=True)

        with mock.patch.object(SharedSchedule, "_first_patterns", first):
            super().run(task)


RECIPES = {FromTexture.name: FromTexture()}


def run(arguments: argparse.Namespace) -> None:
    """Fit, let the thieves learn, and write one result file."""
    name, budget = TINY if arguments.tiny else SET, Budget(8)
    train, test = load(name, size(name, arguments))
    experiment = of_recipe(
        SCRIPT, name, FromTexture.name, budget, arguments, epochs=arguments.epochs, fit=arguments.fit, recipes=RECIPES
    )
    if place(experiment).exists():
        return
    folder, seconds = fitted(name, FromTexture.name, budget, train, recipes=RECIPES, fit=arguments.fit)
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
    """What each thief learns of each fit, in per cent, and the mean over fits."""
    reached: dict[tuple[str, str], list[float]] = {}
    for one in results:
        for report in map(Report.of, one.figures["reports"]):
            for pair in report.pairs:
                values = report.values(PROTECTED, pair[0], defence=pair[1])
                reached.setdefault(pair, []).append(float(np.mean(values)))
    return markdown(
        ["thief", "fits", "over fits"],
        [
            [" with ".join(pair), ", ".join(f"{100 * one:.1f}" for one in values), told(values)]
            for pair, values in reached.items()
        ],
    )


def main() -> None:
    parser = options(__doc__, epochs=12, seeds=1)
    parser.add_argument("--fit", type=int, default=1, help=ANOTHER_FIT)
    parser.add_argument("--images", type=int, default=3000, help=argparse.SUPPRESS)  # of the made-up set
    arguments = parse(parser)
    if not arguments.table:
        run(arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
