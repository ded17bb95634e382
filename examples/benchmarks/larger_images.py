"""How strong the protection is on images that are larger than the resolution that it was optimised at.

    python examples/benchmarks/larger_images.py                       # everything that is not there yet
    python examples/benchmarks/larger_images.py --set photo-patches --scale 4

The images are enlarged 1, 2 and 4 times (Lanczos), protected at their full size with perturbations that were optimised
at the original one, and downsized again (bilinear, antialiased) for victims that train and are tested there. Every run
is one file; a run whose file exists is not repeated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from common import ALL_SETS, SETS, kept, load, of_recipe, options, parse, size, victim_seeds
from datasets import Dataset
from PIL import Image
from result_files import ResultFile, place, read_results
from tables import NONE, markdown, percent

from hf_unlearnable import MIUE, Budget, Training, learnability
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED

SCRIPT = Path(__file__).stem


def resized(data: Dataset, side: int, resample: Image.Resampling) -> Dataset:
    """All images at side x side pixels."""
    return data.map(lambda row: {"image": row["image"].resize((side, side), resample)}, keep_in_memory=True)


def run(name: str, scale: int, arguments: argparse.Namespace) -> None:
    """Fit, protect, measure and write one result file."""
    budget = Budget(8)
    victims, settings = tuple(arguments.victim), {"scale": scale}
    experiment = of_recipe(SCRIPT, name, "mi-ue", budget, arguments, victims=victims, settings=settings)
    if place(experiment).exists():
        return
    train, test = load(name, size(name, arguments))
    side = train[0]["image"].width
    large = train if scale == 1 else resized(train, scale * side, Image.Resampling.LANCZOS)
    started = time.process_time()
    protection = MIUE().fit(large, budget=budget, resolution=side)
    seconds = time.process_time() - started
    protected = large.map(protection, keep_in_memory=True)
    published = protection.verify(large, protected)
    small = [resized(data, side, Image.Resampling.BILINEAR) for data in (large, protected)]
    report = learnability(
        small[1],
        clean=small[0],
        test=test,
        victims=arguments.victim,
        training=Training(epochs=arguments.epochs),
        seeds=victim_seeds(arguments),
        ratios=(0, 1),
        keep_in=kept("victims"),
    )
    verification = published.as_dict()
    figures = {"fit_seconds": round(seconds, 1), "verification": verification, "report": report.as_dict()}
    ResultFile(experiment, figures).write()
    print(f"\n{name}, {scale}x: {published}\n{report}\n", flush=True)


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    head = ["set", "images", "scale", "victim", "clean", "protected", "peak epoch", "change left after downsizing"]
    lines = []
    for one in sorted(results, key=lambda one: (one.experiment.dataset, one.experiment.settings["scale"])):
        report, left = one.report, one.figures["verification"]["surviving"]
        for victim in report.victims:
            wanted = ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
            cells = [percent(report, victim, case, figure) for case, figure in wanted]
            first = [one.experiment.dataset, one.experiment.images, f"{one.experiment.settings['scale']}x", victim]
            lines.append([*first, *cells, NONE if left is None else f"{100 * left:.0f} %"])
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__, epochs=12, seeds=2)
    parser.add_argument("--set", choices=ALL_SETS, action="append", help=f"default: {' and '.join(SETS)}")
    parser.add_argument("--scale", type=int, action="append", help="default: 1, 2 and 4")
    parser.add_argument("--images", type=int, default=3000, help="training images of Fashion-MNIST")
    parser.add_argument("--victim", action="append", help="default: small-resnet")
    arguments = parse(parser)
    arguments.victim = arguments.victim or ["small-resnet"]
    if not arguments.table:
        for name in arguments.set or SETS:
            for scale in arguments.scale or (1, 2, 4):
                run(name, scale, arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
