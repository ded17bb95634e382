"""What every countermeasure gives back to a thief, against every method.

    python examples/benchmarks/countermeasures.py                      # everything, and the page (many hours)
    python examples/benchmarks/countermeasures.py --defence jpeg:10    # only some
    python examples/benchmarks/countermeasures.py --table              # only print what is there

One file for each set and method, and one page for each set that lays the methods side by side (what ``hf-unlearnable
report`` makes of several measurements). Victims are kept in data/victims, so that a stopped run goes on where it was;
what a file has already is not measured again. A file that was begun on another machine goes on too; its page then says
which rows are of another fit, since another processor rounds differently and the same recipe ends with other bytes.

A model that was pre-trained on other data is one of the countermeasures: for Fashion-MNIST one of the photo patches,
for the patches one of Fashion-MNIST. ``imagenet-probe`` and ``imagenet-fine-tune`` start from a network that was really
pre-trained on ImageNet (``imagenet.py``). It is large and has learned before: they have epochs of their own, and files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import imagenet
import numpy as np
from accelerate import Accelerator
from common import (
    ALL_SETS,
    ANOTHER_FIT,
    IMAGES,
    SETS,
    TINY,
    command,
    fitted,
    from_here,
    kept,
    load,
    machine,
    options,
    parse,
    victim_seeds,
)
from datasets import Image
from result_files import Experiment, ResultFile, place, read_results, results_folder
from tables import NONE, markdown, percent

from hf_unlearnable import Budget, Defence, Protection, Report, Surrogate, Training, learnability
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.files import atomic_folder
from hf_unlearnable.reports.comparison import write_comparison
from hf_unlearnable.training.run import TrainingRun

SCRIPT = Path(__file__).stem
GREY = ("fashion-mnist", TINY)
METHODS = ("em", "em-from-waves", "mi-ue", "mi-ue-learned", "mi-ue-from-waves", "texture", "texture-one", "beo")
GONE = ("mi-ue-waves",)  # recipes that the package no longer has, of which there are results
PRETRAINED = "pretrained"
DEFENCES = (
    "none",
    "early-stopping",
    "validation:0.1",
    "jpeg:10",
    "jpeg:50",
    "resize:0.5",
    "grayscale",
    "bitdepth:2",
    "blur",
    "noise",
    "cutout",
    "mixup",
    "cutmix",
    "orthogonal-projection",
    "spectral-peak",
    "principal-directions",
    "principal-directions:2",
    "class-clusters",
    "staged",
    "recovery",
    "ueraser-lite",
    "ueraser-max",
    PRETRAINED,
    *imagenet.DEFENCES,
    "adversarial:4",
    "adversarial:8",
)


def pretrained(name: str, channels: int) -> str:
    """The folder of a model trained on another set; relative, since it becomes a part of the victims' names."""
    folder = kept("pretrained") / f"small-resnet-{name}-{channels}"
    if not folder.exists():
        data, _ = load(name, IMAGES[name])
        data = data.cast_column("image", Image(mode="L" if channels == 1 else "RGB"))
        images, training = ImageSet.read(data, find_columns(data)), Training(epochs=12)
        steps = training.iterations(len(images))
        run = TrainingRun(
            Surrogate("small-resnet"), images, training, iterations=steps, seed=100, accelerator=Accelerator()
        )
        folder.parent.mkdir(exist_ok=True)
        with atomic_folder(folder) as scratch:
            run.finish().model.save_pretrained(scratch)
    return from_here(folder)


def run(name: str, recipe: str, budget: Budget, arguments: argparse.Namespace) -> None:
    """Measure one method on one set with all countermeasures."""
    by_epochs: dict[int, list[str]] = {}
    for one in arguments.defence:
        epochs = arguments.imagenet_epochs if one in imagenet.DEFENCES else arguments.epochs
        by_epochs.setdefault(epochs, []).append(one)
    for epochs, defences in by_epochs.items():
        measure(name, recipe, budget, defences, epochs, arguments)


def measure(
    name: str, recipe: str, budget: Budget, defences: Sequence[str], epochs: int, arguments: argparse.Namespace
) -> None:
    """Measure one method on one set with the countermeasures that the file of so many epochs does not have yet."""
    data, test = load(name, IMAGES[name])
    channels = 1 if name in GREY else 3
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=len(data),
        method=recipe,
        recipe=recipe,
        budget=str(budget),
        ratios=(0.0, 1.0),
        epochs=epochs,
        victims=("small-resnet",),
        seeds=tuple(victim_seeds(arguments)),
        fit=arguments.fit,
        machine=machine(),
        command=command(),
    )
    file, before = place(experiment), None
    if file.exists():
        stored = ResultFile.read(file)
        experiment, before = stored.experiment, stored.report
        if experiment.command:  # else an early file, which does not tell how its rows came there
            experiment = replace(experiment, command=f"{experiment.command} && {command()}")
    there = {_name(one) for one in before.defences} if before else set()
    names = [one for one in defences if one not in there and (one != "grayscale" or channels == 3)]
    if not names:
        return
    names = list(dict.fromkeys(["none", *names]))  # the row that all others are seen against, and that tells fits apart

    def known(one: str) -> str:
        if one == PRETRAINED:
            return f"{PRETRAINED}:{pretrained(other(name), channels)}"
        return imagenet.defence(one, tiny=arguments.tiny)

    report = learnability(
        data.map(Protection.from_pretrained(fitted(name, recipe, budget, data, fit=arguments.fit)[0])),
        clean=data,
        test=test,
        victims="small-resnet",
        defences=[known(one) for one in names],
        ratios=[0, 1],
        training=Training(epochs=epochs),
        seeds=victim_seeds(arguments),
        keep_in=kept("victims"),
    )
    report = joined(before, report) if before else report
    ResultFile(experiment, {"report": report.as_dict()}).write()
    print(f"\n{name}, {recipe}, {budget}\n{report}\n", flush=True)


def other(name: str) -> str:
    """What the models are pre-trained on that shall learn a set: another one."""
    return "photo-patches" if name == "fashion-mnist" else "fashion-mnist"


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
    known = {str(Defence.parse(one)): one for one in DEFENCES if one not in (PRETRAINED, *imagenet.DEFENCES)}
    return known.get(defence) or imagenet.named(defence) or defence.partition(":")[0]


def page(results: Sequence[ResultFile]) -> Path:
    """Lay the methods of one set side by side on a page, whose files are as ``hf-unlearnable measure`` writes them."""
    names = [one.experiment.recipe or "" for one in results]
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{name}.json" for name in names]
        for one, file in zip(results, files, strict=True):
            one.report.save(file)
        output = results_folder() / SCRIPT / f"{results[0].experiment.dataset}.html"
        return write_comparison(files, output, names=names, public=True)


def by_set(results: Sequence[ResultFile]) -> dict[str, list[ResultFile]]:
    """The files of every set, in the order of ``METHODS``, and then of ``GONE``.

    Where several fits were measured alike, the first one: all of them are on the page of ``targets.py``.
    """
    lowest: dict[object, ResultFile] = {}
    for one in sorted(results, key=lambda one: one.experiment.fit or 1):
        about = one.experiment
        lowest.setdefault((about.dataset, about.recipe, about.epochs, len(about.seeds or ())), one)
    found: dict[str, list[ResultFile]] = {}
    for one in sorted(lowest.values(), key=lambda one: (*METHODS, *GONE).index(one.experiment.recipe or "")):
        found.setdefault(one.experiment.dataset or "", []).append(one)
    return dict(sorted(found.items()))


def table(results: Sequence[ResultFile]) -> str:
    """One set, as Markdown: the ceiling of clean images, then each method, with the peak epoch in brackets.

    A star stands where the file says that a countermeasure was measured on another fit than the first row, and ``of``
    where the clean images of that very run gave another figure than the one in their column. Rows of fewer epochs or
    victims than the first say how many.
    """
    dataset, lines = results[0].experiment.dataset or "", []
    recipes = dict.fromkeys(one.experiment.recipe or "" for one in results)
    first, *others = by_effort(results)
    for files in (first, *others):
        reports = {one.experiment.recipe or "": one.report for one in files}
        told = "".join(f", {words}" for words in _effort(files[0]) if words not in _effort(first[0]))
        for defence in dict.fromkeys(one for report in reports.values() for one in report.defences):
            ceiling = next(report for report in reports.values() if defence in report.defences)
            clean = percent(ceiling, None, CLEAN, defence=defence)
            cells = [_cell(reports.get(recipe), defence, clean) for recipe in recipes]
            words = f"start from a model of {other(dataset)}" if _name(defence) == PRETRAINED else defence
            lines.append([imagenet.in_words(words) + told, clean, *cells])
    return markdown([dataset, "clean", *recipes], lines)


def by_effort(results: Sequence[ResultFile]) -> list[list[ResultFile]]:
    """The files of as many victims that trained equally long: the longest first, of these the most."""
    found: dict[tuple[int, int], list[ResultFile]] = {}
    for one in results:
        found.setdefault((one.experiment.epochs or 0, len(one.experiment.seeds or ())), []).append(one)
    return [found[effort] for effort in sorted(found, reverse=True)]


def _effort(result: ResultFile) -> tuple[str, str]:
    """How long victims trained and how many there were, in words."""
    victims = len(result.experiment.seeds or ())
    return f"{result.experiment.epochs} epochs", f"{victims} victim{'s' * (victims != 1)}"


def _cell(report: Report | None, defence: str, clean: str) -> str:
    """What protected images give with a countermeasure; ``clean`` is what stands in the column of clean ones."""
    if report is None or defence not in report.defences:
        return NONE
    best = report.accuracy(PROTECTED, None, "peak", defence=defence)
    own = percent(report, None, CLEAN, defence=defence)
    mark = ("*" if _name(defence) in elsewhere(report) else "") + (f", of {own}" if own != clean else "")
    return f"{percent(report, None, PROTECTED, defence=defence)} ({100 * best:.1f}){mark}"


def elsewhere(report: Report) -> list[str]:
    """The countermeasures that were measured on another fit, by the sentences of ``joined``."""
    return [name for doubt in report.doubts for name in doubt.partition(": measured on another fit")[0].split(", ")]


def main() -> None:
    parser = options(__doc__, epochs=12)
    parser.add_argument("--set", choices=ALL_SETS, action="append", help=f"default: {' and '.join(SETS)}")
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all")
    parser.add_argument("--defence", choices=DEFENCES, action="append", help="default: all")
    parser.add_argument(
        "--imagenet-epochs", type=int, default=3, help=f"of those who have {' or '.join(imagenet.DEFENCES)}"
    )
    parser.add_argument("--budget", default="8/255")
    parser.add_argument("--fit", type=int, default=1, help=ANOTHER_FIT)
    parser.add_argument("--page", action="store_true", help="write the pages anew from what is there, and stop")
    arguments = parse(parser)
    arguments.defence = arguments.defence or list(DEFENCES)
    if not arguments.table and not arguments.page:
        for name in arguments.set or SETS:
            for one in arguments.method or METHODS:
                run(name, one, Budget.parse(arguments.budget), arguments)
    found = by_set(read_results(SCRIPT))
    for results in found.values() if not arguments.table else ():
        longest = by_effort(results)[0]  # victims of other trainings do not compare
        if len(longest) > 1:
            print(f"{page(longest).name} written", flush=True)
    print(*(table(results) for results in found.values()), sep="\n\n")


if __name__ == "__main__":
    main()
