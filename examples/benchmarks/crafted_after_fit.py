"""How strong crafted perturbations are beside fitted ones.

    python examples/benchmarks/crafted_after_fit.py            # Fashion-MNIST
    python examples/benchmarks/crafted_after_fit.py --table    # only print what is there

Half of the images is fitted with ``on_unseen="craft"``, the other half crafted; beside it all are fitted. Victims train
on all of them, and on the second half alone. One file for each set; nothing is repeated that is there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from common import ALL_SETS, command, kept, load, machine, options, parse, size, victim_seeds
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown, percent

from hf_unlearnable import MIUE, Budget, Report, Training, learnability
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED

SCRIPT = Path(__file__).stem


def run(name: str, arguments: argparse.Namespace) -> None:
    """Fit, craft, measure and write one result file."""
    images, budget = size(name, arguments), Budget(8)
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=images,
        method=MIUE.name,
        recipe="mi-ue",
        budget=str(budget),
        ratios=(0.0, 1.0),
        epochs=arguments.epochs,
        victims=("small-resnet",),
        seeds=tuple(victim_seeds(arguments)),
        machine=machine(),
        command=command(),
    )
    if place(experiment).exists():
        return
    train, test = load(name, images)
    half = images // 2
    second = train.select(range(half, images))
    fitted = MIUE().fit(train, budget=budget)
    crafting = MIUE().fit(train.select(range(half)), budget=budget, on_unseen="craft")
    started = time.process_time()
    crafted = second.map(crafting, keep_in_memory=True)
    seconds = (time.process_time() - started) / half
    cases = {
        "all fitted": (train, train.map(fitted)),
        "first half fitted, second crafted": (train, train.map(crafting)),
        "second half, fitted": (second, second.map(fitted)),
        "second half, crafted": (second, crafted),
    }
    reports = {}
    for what, (clean, protected) in cases.items():
        report = learnability(
            protected,
            clean=clean,
            test=test,
            victims="small-resnet",
            training=Training(epochs=arguments.epochs),
            seeds=victim_seeds(arguments),
            ratios=(0, 1),
            keep_in=kept("victims"),
        )
        reports[what] = report.as_dict()
        print(f"\n{name}, {what}\n{report}\n", flush=True)
    figures = {
        "milliseconds_an_image": round(1000 * seconds, 2),
        "verification_of_crafted": crafting.verify(second, crafted).as_dict(),
        "reports": reports,
    }
    ResultFile(experiment, figures).write()


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    head = ["set", "images", "victim trained on", "clean", "protected", "protected, peak epoch"]
    lines = []
    for one in results:
        for what, stored in one.figures["reports"].items():
            report = Report.of(stored)
            wanted = ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
            cells = [percent(report, None, case, figure) for case, figure in wanted]
            lines.append([one.experiment.dataset, one.experiment.images, what, *cells])
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__, epochs=12, seeds=2)
    parser.add_argument("--set", choices=ALL_SETS, action="append", help="default: fashion-mnist")
    parser.add_argument("--images", type=int, default=3000, help="images of Fashion-MNIST")
    arguments = parse(parser)
    if not arguments.table:
        for name in arguments.set or ["fashion-mnist"]:
            run(name, arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
