"""What JPEG compression and downsizing after the release take from the protection.

    python examples/benchmarks/later_compression.py                    # everything that is not there yet (an hour)
    python examples/benchmarks/later_compression.py --recipe texture   # only one

What a website, a messenger or a thief does to published images: JPEG at qualities that people use, with the chroma
subsampling of Pillow (4:2:0), and downsizing to half of the side; victims need one size, so that what was halved is
enlarged again. Files of the time before ``resize`` was a countermeasure of the package call it ``halved``: the same
filter, on sides that are even. It is done to the whole training set, whether it is protected or clean, and never to the
test images. ``countermeasures.py`` has the qualities that only a thief would use.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from common import ALL_SETS, RECIPES, fitted, kept, load, of_recipe, options, parse, size, victim_seeds
from datasets import Dataset
from result_files import ResultFile, place, read_results
from tables import NONE, markdown, percent
from wording import recipe_called

from hf_unlearnable import Budget, Defence, Protection, Training, learnability
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.protection.remaining import Remaining

SCRIPT = Path(__file__).stem
METHODS = ("texture", "mi-ue-from-waves", "mi-ue-learned")
LOOKED_AT = 400  # images for the share of the change that is left
LATER = ("none", "jpeg:95", "jpeg:90", "jpeg:85", "jpeg:75", "resize:0.5")


def left(clean: Dataset, protected: Dataset, later: str) -> float | None:
    """The share of the change that is left, as ``Remaining`` counts it."""
    defence, counted = Defence.parse(later), Remaining()
    for row in range(min(LOOKED_AT, len(clean))):
        original, released = (to_array(data[row]["image"]) for data in (clean, protected))
        counted.add(original, released, defence.changed(released))
    return counted.share


def run(name: str, recipe: str, arguments: argparse.Namespace) -> None:
    """Measure one method on one set and write one result file."""
    budget = Budget(8)
    settings = {} if arguments.later == list(LATER) else {"later": arguments.later}
    experiment = of_recipe(SCRIPT, name, recipe, budget, arguments, fit=1, settings=settings)
    if place(experiment).exists():
        return
    data, test = load(name, size(name, arguments))
    protected = data.map(Protection.from_pretrained(fitted(name, recipe, budget, data)[0]), keep_in_memory=True)
    started = time.monotonic()
    report = learnability(
        protected,
        clean=data,
        test=test,
        victims="small-resnet",
        defences=arguments.later,
        ratios=[0, 1],
        training=Training(epochs=arguments.epochs),
        seeds=victim_seeds(arguments),
        keep_in=kept("victims"),
    )
    figures = {"report": report.as_dict(), "left": {later: left(data, protected, later) for later in arguments.later}}
    ResultFile(experiment, figures).write()
    print(f"\n{name}, {recipe}: {time.monotonic() - started:.0f} s\n{report}\n", flush=True)


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    head = ["set", "method", "fits x victims", "afterwards", "clean", "protected", "peak epoch", "change left"]
    lines = []
    for one in results:
        report = one.report
        first = [one.experiment.dataset, recipe_called(one.experiment.recipe), f"1 x {len(one.experiment.seeds or ())}"]
        for later in one.figures["left"]:
            wanted = ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
            cells = [percent(report, None, case, figure, defence=later) for case, figure in wanted]
            share = one.figures["left"][later]
            lines.append([*first, later, *cells, NONE if share is None else f"{100 * share:.0f} %"])
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__, epochs=12, seeds=1)
    parser.add_argument("--set", choices=ALL_SETS, action="append", help="default: photo-patches")
    parser.add_argument("--images", type=int, default=3000, help="training images of Fashion-MNIST")
    parser.add_argument("--recipe", choices=RECIPES, action="append", help=f"default: {' and '.join(METHODS)}")
    parser.add_argument("--later", choices=LATER, action="append", help="default: all")
    arguments = parse(parser)
    arguments.later = arguments.later or list(LATER)
    if not arguments.table:
        for name in arguments.set or ("photo-patches",):
            for recipe in arguments.recipe or METHODS:
                run(name, recipe, arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
