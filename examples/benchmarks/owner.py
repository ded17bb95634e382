"""Measure what models learn of one owner's images that lie among clean ones of others, and what made labels are worth.

    python examples/benchmarks/owner.py --class 3 --class 7               # every image of a class is the owner's
    python examples/benchmarks/owner.py --class 3 --owner-images 30       # some of them; he has no others
    python examples/benchmarks/owner.py --labels clusters:10              # all images are the owner's, without labels
    python examples/benchmarks/owner.py --class 5 --set photo-patches-224 --resolution 112   # large, thieves shrink

``--defence`` says what the thieves do against it, as the package does, or as ``imagenet.py`` names it:
``--defence imagenet-probe --victim small-resnet --epochs 3``, where the network takes the place of the victim.

With ``--class`` the images of one class are protected as those of a folder without labels; the other classes are clean.
With ``--labels`` the whole set is protected by labels that are made, or by its own (``auto``); the thief has its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import imagenet
import numpy as np
from datasets import ClassLabel, Dataset
from result_files import Experiment, ResultFile, place, read_results
from tables import NONE, markdown

from hf_unlearnable import Budget, Defence, Method, Training, learnability
from hf_unlearnable.defences import NoDefence
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED

SCRIPT = Path(__file__).stem
EACH = 400  # images of a class of photo patches
VICTIMS = ("small-resnet", "strided-resnet", "random-features")


def rest(data: Dataset, label: int) -> Dataset:
    """The images of all other classes, with labels that leave no gap."""
    names = [name for index, name in enumerate(data.features["label"].names) if index != label]
    kept = data.filter(lambda one: one != label, input_columns="label")
    features = kept.features.copy()
    features["label"] = ClassLabel(names=names)
    return kept.map(lambda one: {"label": one - (one > label)}, input_columns="label", features=features)


def own(data: Dataset, label: int, count: int | None = None) -> Dataset:
    """The first images of one class, without their label."""
    kept = data.filter(lambda one: one == label, input_columns="label").remove_columns("label")
    return kept.select(range(len(kept) if count is None else min(count, len(kept))))


def protect(data: Dataset, method: str, labels: str, folder: Path) -> Dataset:
    """The released images."""
    protection = Method.parse(method).fit(data, budget=Budget(8), labels=labels, output_dir=folder / "protection")
    return data.map(protection, keep_in_memory=True)


def order(result: ResultFile) -> tuple[str, int, int, str]:
    """How rows follow each other in the table."""
    experiment, settings = result.experiment, result.experiment.settings
    made = settings.get("labels", "")
    return experiment.dataset or "", settings.get("class", -1), settings.get("owner images", 0), str((made, settings))


def named(experiment: Experiment) -> str:
    """What is protected, and how thieves see it, in words."""
    settings = experiment.settings
    words = f"all, labels {settings['labels']}" if "labels" in settings else ""
    words = words or f"{settings['owner images']} images of class {settings['class']}"
    words += "" if experiment.recipe == "texture" else f", {experiment.recipe}"
    words += "" if experiment.dataset == "photo-patches" else f", {experiment.dataset}"
    return words + (f", seen at {settings['resolution']} px" if "resolution" in settings else "")


def table(results: Sequence[ResultFile]) -> str:
    """Recall of the owner's clean images, or accuracy, and the peak; beside it the accuracy on the others."""
    head = ["what is protected", "thief", "epochs", "countermeasure", "clean", "protected (peak)"]
    lines = []
    for result in sorted(results, key=order):
        experiment, report = result.experiment, result.report
        for victim, defence in report.pairs:
            found = {line.case.key: line for line in report.table(victim, defence)}
            clean, protected = found[CLEAN], found[PROTECTED]
            cells = [named(experiment), f"`{victim}`", experiment.epochs, imagenet.in_words(defence)]
            cells += [f"{100 * clean.last.mean:.1f}"]
            cells += [f"{100 * protected.last.mean:.1f} ({100 * protected.peak.mean:.1f})"]
            lines.append(
                cells + [f"{100 * line.others.mean:.1f}" if line.others else NONE for line in (clean, protected)]
            )
    return markdown([*head, "others, clean", "others, protected"], lines)


def means_table(results: Sequence[ResultFile]) -> str:
    """The same over all classes whose every image is the owner's, by thief; nothing done against the protection."""
    wanted = [
        result
        for result in results
        if result.experiment.dataset == "photo-patches"
        and result.experiment.settings.get("owner images") == EACH
        and not {"defences", "resolution"} & set(result.experiment.settings)
    ]
    rows = []
    for victim in VICTIMS:
        tables = [
            {line.case.key: line for line in one.report.table(victim, NoDefence.name)}
            for one in wanted
            if victim in one.report.victims
        ]
        last, peak = (
            {case: [getattr(one[case], figure).mean for one in tables] for case in (CLEAN, PROTECTED)}
            for figure in ("last", "peak")
        )
        few = sum(after <= before / 3 for before, after in zip(last[CLEAN], last[PROTECTED], strict=True))
        others = [np.mean([one[case].others.mean for one in tables]) for case in (CLEAN, PROTECTED)]
        cells = [f"{100 * np.mean(last[case]):.1f}" for case in (CLEAN, PROTECTED)]
        cells += [f"{100 * np.mean(peak[PROTECTED]):.1f}", f"{few} of {len(tables)}"]
        rows.append([f"`{victim}`", *cells, *(f"{100 * one:.1f}" for one in others)])
    head = ["thief", "clean", "protected", "protected, best epoch", "classes at a third or less"]
    return markdown([*head, "others, clean", "others, protected"], rows)


def main() -> None:
    parser = common.options(__doc__, epochs=12, seeds=1)
    parser.add_argument("--set", nargs="+", choices=common.ALL_SETS, default=["photo-patches"])
    parser.add_argument("--images", type=int, default=3000, help="of Fashion-MNIST")
    parser.add_argument("--class", dest="classes", type=int, action="append", default=[], help="the owner's")
    parser.add_argument("--owner-images", type=int, help="so many of them (default: all)")
    parser.add_argument("--labels", action="append", default=[], help="auto, none or clusters:K; may be repeated")
    parser.add_argument("--method", default="texture")
    parser.add_argument("--victim", action="append", help=f"default: {', '.join(VICTIMS)}")
    parser.add_argument("--resolution", type=int, help="pixels a side at which thieves train (default: the images')")
    parser.add_argument("--defence", action="append", default=[], help="of the thieves; may be repeated; default: none")
    arguments = common.parse(parser)
    if arguments.table:
        print(table(read_results(SCRIPT)))
        return
    arguments.known = [str(Defence.parse(imagenet.defence(one, tiny=arguments.tiny))) for one in arguments.defence]
    for name in arguments.set:
        train, test = common.load(name, common.size(name, arguments))
        for label in arguments.classes:
            owner, count = own(train, label, arguments.owner_images), arguments.owner_images
            sets = {
                "clean": owner,
                "test": own(test, label),
                "others": rest(train, label),
                "others_test": rest(test, label),
            }
            settings = {"class": label, "owner images": len(owner) if count is None else count}
            measure(arguments, name, settings, "auto", sets)
        for labels in arguments.labels:
            measure(arguments, name, {"labels": labels}, labels, {"clean": train, "test": test})
    print(table(read_results(SCRIPT)))


def measure(arguments: Any, name: str, settings: dict[str, Any], labels: str, sets: dict[str, Dataset]) -> None:
    """Protect and measure, and write the file if it is not there."""
    victims = tuple(arguments.victim or VICTIMS)
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=sum(len(sets[part]) for part in ("clean", "others") if part in sets),
        method=arguments.method.partition(":")[0],
        recipe=arguments.method,
        budget="linf:8",
        ratios=(0.0, 1.0),
        epochs=arguments.epochs,
        victims=victims,
        seeds=tuple(common.victim_seeds(arguments)),
        settings=settings
        | ({"defences": arguments.defence} if arguments.defence else {})
        | ({"resolution": arguments.resolution} if arguments.resolution else {}),
        machine=common.machine(),
        command=common.command(),
    )
    if place(experiment).exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        report = learnability(
            protect(sets["clean"], arguments.method, labels, Path(scratch)),
            **sets,
            victims=victims,
            defences=arguments.known or None,
            ratios=(0.0, 1.0),
            training=Training(epochs=arguments.epochs),
            seeds=experiment.seeds or (),
            resolution=arguments.resolution,
            keep_in=common.kept("victims"),
        )
    ResultFile(experiment, {"report": report.as_dict()}).write()


if __name__ == "__main__":
    main()
