"""What a thief knows of an owner's patterns: who has other images, another seed, or the protected images alone.

    python examples/benchmarks/private_patterns.py            # 1,000 photo patches each, six fits
    python examples/benchmarks/private_patterns.py --table    # only print what is there

Two owners have as many images of every class, and none in common. A pattern is the mean over a class of released minus
clean images; of a refit to released images, the mean of what it changes of these. Told is the size of the correlation
of two patterns of a class, of every class. One file for each recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import RECIPES, TINY, command, load, options, parse
from datasets import Dataset
from numpy.typing import NDArray
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown
from wording import recipe_called

from hf_unlearnable import Budget
from hf_unlearnable.benchmark.metering import machine
from hf_unlearnable.data.image_set import draw_by_class

SCRIPT = Path(__file__).stem
SET = "photo-patches"

Patterns = NDArray[np.float64]  # (classes, values)


def protected(data: Dataset, recipe: str, seed: int) -> tuple[Dataset, Patterns]:
    """What a fit releases, and its patterns."""
    released = data.map(replace(RECIPES[recipe], seed=seed).fit(data, budget=Budget(8)), keep_in_memory=True)
    change = pixels(released) - pixels(data)
    labels = np.array(data["label"])
    means = [change[labels == number].mean(axis=0).ravel() for number in np.unique(labels)]
    return released, np.stack(means)


def pixels(data: Dataset) -> NDArray[np.float64]:
    """All images (N, H, W, C) in levels."""
    return np.stack([np.asarray(image, dtype=np.float64) for image in data["image"]])


def alike(ours: Patterns, others: Patterns) -> list[float]:
    """The size of the correlation of the patterns of each class, in [0, 1]."""
    return [abs(float(np.corrcoef(one, other)[0, 1])) for one, other in zip(ours, others, strict=True)]


def run(recipe: str, arguments: argparse.Namespace) -> None:
    """Fit six times and write one result file."""
    name = TINY if arguments.tiny else SET
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=arguments.images,
        method=RECIPES[recipe].name,
        recipe=recipe,
        budget=str(Budget(8)),
        machine=machine(),
        command=command(),
    )
    if place(experiment).exists():
        return
    train, _ = load(name, 2 * arguments.images)
    labels, rng = np.array(train["label"]), np.random.default_rng(0)
    each = arguments.images // len(np.unique(labels))
    both = np.flatnonzero(draw_by_class(labels, lambda _: 2 * each, rng))
    first = draw_by_class(labels[both], lambda _: each, rng)
    mine, theirs = train.select(both[first]), train.select(both[~first])
    released, own = protected(mine, recipe, 0)
    found = {
        "another seed": alike(own, protected(mine, recipe, 1)[1]),
        "other images": alike(own, protected(theirs, recipe, 0)[1]),
        "other images, another seed": alike(own, protected(theirs, recipe, 1)[1]),
        "two classes of one fit": alike(own, np.roll(own, 1, axis=0)),
        "a refit to the protected images": alike(own, protected(released, recipe, 0)[1]),
        "a refit to the protected images, another seed": alike(own, protected(released, recipe, 1)[1]),
    }
    ResultFile(experiment, {"correlations": found}).write()


def table(results: Sequence[ResultFile]) -> str:
    """Mean and largest correlation over the classes."""
    rows = [
        [recipe_called(one.experiment.recipe or ""), what, f"{np.mean(values):.2f}", f"{np.max(values):.2f}"]
        for one in results
        for what, values in one.figures["correlations"].items()
    ]
    return markdown(["recipe", "correlation with the owner's patterns", "mean over classes", "largest"], rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--recipe", choices=RECIPES, action="append", help="default: mi-ue-from-waves")
    parser.add_argument("--images", type=int, default=1000, help="of each owner")
    arguments = parse(parser)
    if not arguments.table:
        for recipe in arguments.recipe or ["mi-ue-from-waves"]:
            run(recipe, arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
