"""Thieves of large photographs, who shrink them more or less.

    python examples/benchmarks/large_photographs.py                                    # hours
    python examples/benchmarks/large_photographs.py --side 64 --victim strided-resnet  # only one thief
    python examples/benchmarks/large_photographs.py --table                            # only print what is there

1,000 patches of 224 pixels of the photographs of ``photo-patches``, protected at that size with perturbations that were
optimised at 128 pixels, as ``protect`` does it; thieves who train at 64, 112 and 224 pixels and are tested there, and
one who fine-tunes a network that was pre-trained on ImageNet. A thief who trains from nothing makes as many steps as
with 4,000 small patches. Every thief of a recipe is one file; what is there is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import imagenet
from common import ANOTHER_FIT, RECIPES, TINY, fitted, kept, load, of_recipe, options, parse, size, victim_seeds
from measured import Measured
from result_files import ResultFile, place, read_results
from selection import of_each_fit
from tables import markdown
from wording import recipe_called

from hf_unlearnable import Budget, Protection, Training, learnability

SCRIPT = Path(__file__).stem
SET = "photo-patches-224"
METHODS = ("mi-ue-from-waves", "mi-ue-learned", "texture")
SIDES = (64, 112, 224)
MOST = 1 / 3  # of the way from chance to clean images: what was asked for
VICTIMS = ("small-resnet", "strided-resnet", *imagenet.DEFENCES)


def run(recipe: str, side: int, thief: str, arguments: argparse.Namespace) -> None:
    """Protect, let one thief learn, and write one result file."""
    name = TINY if arguments.tiny else SET
    budget, pretrained = Budget(8), thief in imagenet.DEFENCES
    experiment = of_recipe(
        SCRIPT,
        name,
        recipe,
        budget,
        arguments,
        epochs=arguments.imagenet_epochs if pretrained else arguments.epochs,
        victims=("small-resnet" if pretrained else thief,),
        fit=arguments.fit,
        settings={"side": side, "thief": thief},
    )
    if place(experiment).exists():
        return
    train, test = load(name, size(name, arguments))
    protection = Protection.from_pretrained(fitted(name, recipe, budget, train, fit=arguments.fit)[0])
    report = learnability(
        train.map(protection),
        clean=train,
        test=test,
        victims=experiment.victims,
        defences=[imagenet.defence(thief, tiny=arguments.tiny) if pretrained else "none"],
        resolution=side,
        training=Training(epochs=experiment.epochs or 1),
        seeds=victim_seeds(arguments),
        ratios=(0, 1),
        keep_in=kept("victims"),
    )
    ResultFile(experiment, {"report": report.as_dict()}).write()
    print(f"\n{recipe}, {side} pixels\n{report}\n", flush=True)


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown, and whether it is at most a third of the way from chance to clean.

    Means over fits of the means over victims, and both spreads.
    """
    alike: dict[tuple[object, ...], list[ResultFile]] = {}
    for one in results:
        experiment, settings = one.experiment, one.experiment.settings
        key = settings["thief"], settings["side"], experiment.recipe, experiment.epochs
        alike.setdefault(key, []).append(one)
    lines = []
    for (thief, side, recipe, epochs), fits in sorted(alike.items(), key=lambda one: one[0][:3]):
        report = fits[0].report
        defence = str(thief) if thief in imagenet.DEFENCES else "none"
        own = Measured.of([one.report for one in of_each_fit(fits)], report.victims[0], defence)
        called = imagenet.in_words(report.defences[0]) if thief in imagenet.DEFENCES else thief
        met = ", met" if own.ways[0] <= MOST else ""
        lines.append([recipe_called(recipe), called, side, epochs, *own.cells, f"{100 * own.ways[0]:.0f} %{met}"])
    spreads = "spread over fits, over victims"
    head = ["recipe", "thief", "pixels", "epochs", "protected", "fits x victims", spreads, "clean", "of the way"]
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__, epochs=48)
    parser.add_argument("--recipe", choices=RECIPES, action="append", help=f"default: {' and '.join(METHODS)}")
    parser.add_argument("--side", type=int, action="append", help="default: 64, 112 and 224")
    parser.add_argument("--victim", choices=VICTIMS, action="append", help="default: all")
    parser.add_argument("--imagenet-epochs", type=int, default=12, help="of those who start from ImageNet")
    parser.add_argument("--fit", type=int, default=1, help=ANOTHER_FIT)
    parser.add_argument("--images", type=int, default=3000, help=argparse.SUPPRESS)  # of the made-up set
    arguments = parse(parser)
    if not arguments.table:
        for recipe in arguments.recipe or METHODS:
            for thief in arguments.victim or VICTIMS:
                for side in arguments.side or SIDES:
                    run(recipe, side, thief, arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
