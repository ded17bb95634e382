"""What every countermeasure gives back to a thief, against every method.

    python examples/benchmarks/countermeasures.py                      # everything, and the page (many hours)
    python examples/benchmarks/countermeasures.py --defence jpeg:10    # only some
    python examples/benchmarks/countermeasures.py --table              # only print what is there

One file for each set and method in ``results-countermeasures/``, as ``hf-unlearnable measure`` writes them, and one
page for each set that lays the methods side by side (``hf-unlearnable report FILE FILE FILE``). Victims are kept in
data/victims, so that a stopped run goes on where it was, and what a file has already is not measured again. A file that
was begun on another machine goes on too; its page then says which rows are of another fit, since another processor
rounds differently and the same recipe ends with other bytes.

A model that was pre-trained on other data is one of the countermeasures: for Fashion-MNIST one of the photo patches,
for the patches one of Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Image
from protection_strength import DATA, fitted, load, percent

from hf_unlearnable import Budget, Defence, Protection, Report, Surrogate, Training, learnability
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.evaluation.report import CLEAN, PROTECTED
from hf_unlearnable.files import atomic_folder
from hf_unlearnable.reports.comparison import write_comparison
from hf_unlearnable.training.run import TrainingRun

RESULTS = Path(__file__).parent / "results-countermeasures"
SETS = {"fashion-mnist": 3000, "photo-patches": 4000}
OTHER = {"fashion-mnist": "photo-patches", "photo-patches": "fashion-mnist"}
METHODS = ("em", "mi-ue", "beo")
PRETRAINED = "pretrained"
DEFENCES = (
    "none",
    "early-stopping",
    "jpeg:10",
    "jpeg:50",
    "grayscale",
    "bitdepth:2",
    "blur",
    "noise",
    "cutout",
    "mixup",
    "cutmix",
    "orthogonal-projection",
    "ueraser-lite",
    "ueraser-max",
    PRETRAINED,
    "adversarial:4",
    "adversarial:8",
)


def pretrained(name: str, channels: int) -> str:
    """The folder of a model trained on another set; relative, since it becomes a part of the victims' names."""
    folder = DATA / "pretrained" / f"small-resnet-{name}-{channels}"
    if not folder.exists():
        data, _ = load(name, SETS[name])
        data = data.cast_column("image", Image(mode="L" if channels == 1 else "RGB"))
        images, training = ImageSet.read(data, find_columns(data)), Training(epochs=12)
        steps = training.iterations(len(images))
        run = TrainingRun(
            Surrogate("small-resnet"), images, training, iterations=steps, seed=100, accelerator=Accelerator()
        )
        folder.parent.mkdir(exist_ok=True)
        with atomic_folder(folder) as scratch:
            run.finish().model.save_pretrained(scratch)
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


def run(name: str, recipe: str, budget: Budget, arguments: argparse.Namespace) -> Path:
    """Measure one method on one set; returns the file with all that is known of it."""
    data, test = load(name, SETS[name])
    channels = 1 if name == "fashion-mnist" else 3
    file = RESULTS / f"{name}-{SETS[name]}-{recipe}-{str(budget).replace(':', '-')}.json"
    before = Report.load(file) if file.exists() else None
    there = {_name(one) for one in before.defences} if before else set()
    names = [one for one in arguments.defence if one not in there and (one != "grayscale" or channels == 3)]
    if not names:
        return file
    names = list(dict.fromkeys(["none", *names]))  # the row that all others are seen against, and that tells fits apart
    victim = f"{PRETRAINED}:{pretrained(OTHER[name], channels)}" if PRETRAINED in names else ""
    report = learnability(
        data.map(Protection.from_pretrained(fitted(name, recipe, budget, data)[0])),
        clean=data,
        test=test,
        victims="small-resnet",
        defences=[victim if one == PRETRAINED else one for one in names],
        ratios=[0, 1],
        training=Training(epochs=arguments.epochs),
        seeds=range(101, 101 + arguments.seeds),
        keep_in=DATA / "victims",
    )
    RESULTS.mkdir(exist_ok=True)
    report = joined(before, report) if before else report
    report.save(file)
    print(f"\n{name}, {recipe}, {budget}\n{report}\n", flush=True)
    return file


def joined(before: Report, found: Report) -> Report:
    """What was there, and the countermeasures that were not, in the order of ``DEFENCES``.

    Raises:
        RecipeError: victims that were not trained and tested alike.
    """
    for name in ("training", "iterations", "images", "test_images", "chance", "victims", "seeds"):
        if getattr(before, name) != getattr(found, name):
            raise RecipeError(
                f"got {name} of {getattr(before, name)} in the file and {getattr(found, name)} now; expected victims "
                f"of one kind in a table. Measure as the file was, or move it away"
            )
    new = [one for one in found.results if one.defence not in before.defences]
    doubts = dict.fromkeys([*before.doubts, *found.doubts])
    victim = before.victims[0]
    if new and not np.array_equal(*(one.values(PROTECTED, victim, defence="none") for one in (before, found))):
        told = ", ".join(dict.fromkeys(_name(one.defence) for one in new))
        doubts[
            f"{told}: measured on another fit of the same recipe (another processor rounds differently), with which "
            f"a victim without a countermeasure reaches {percent(found, victim, PROTECTED, defence='none')} %"
        ] = None
    results = sorted([*before.results, *new], key=lambda one: DEFENCES.index(_name(one.defence)))
    return replace(before, results=tuple(results), doubts=tuple(doubts))


def _name(defence: str) -> str:
    """What a countermeasure of a report is called here."""
    known = {str(Defence.parse(one)): one for one in DEFENCES if one != PRETRAINED}
    return known.get(defence, defence.partition(":")[0])


def table() -> str:
    """What is there, as Markdown: the ceiling of clean images, then each method, with the peak epoch in brackets."""
    lines = []
    for name in SETS:
        reports = {recipe: Report.load(file) for recipe in METHODS for file in RESULTS.glob(f"{name}-*-{recipe}-linf*")}
        if not reports:
            continue
        lines += [f"| {name} | clean | {' | '.join(reports)} |", "| --- " * (2 + len(reports)) + "|"]
        first = next(iter(reports.values()))
        victim = first.victims[0]
        for defence in dict.fromkeys(one for report in reports.values() for one in report.defences):
            cells = [percent(first, victim, CLEAN, defence=defence)]
            for report in reports.values():
                best = report.accuracy(PROTECTED, victim, "peak", defence=defence)
                mean = percent(report, victim, PROTECTED, defence=defence)
                cells.append(mean if math.isnan(best) else f"{mean} ({100 * best:.1f})")
            lines.append(f"| {defence.partition(':data')[0]} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=SETS, action="append", help="default: all")
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all")
    parser.add_argument("--defence", choices=DEFENCES, action="append", help="default: all")
    parser.add_argument("--budget", default="8/255")
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=3, help="victims of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    arguments.defence = arguments.defence or list(DEFENCES)
    torch.set_num_threads(arguments.threads)
    if not arguments.table:
        for name in arguments.set or SETS:
            for one in arguments.method or METHODS:
                run(name, one, Budget.parse(arguments.budget), arguments)
            files = sorted(RESULTS.glob(f"{name}-*.json"))
            if len(files) < 2:
                continue
            names = [file.stem.removeprefix(f"{name}-{SETS[name]}-") for file in files]
            page = write_comparison(files, RESULTS / f"{name}.html", names=names, public=True)
            print(f"{page} written", flush=True)
    print(table())


if __name__ == "__main__":
    main()
