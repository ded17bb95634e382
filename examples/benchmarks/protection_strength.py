"""How strongly each recipe protects, for how much computing: the figures of the README.

    python examples/benchmarks/protection_strength.py                      # everything that is not there yet (hours)
    python examples/benchmarks/protection_strength.py --set photo-patches --recipe mi-ue
    python examples/benchmarks/protection_strength.py --table              # only print what results/ holds

Every run is one file in results/: the report of ``learnability`` with the fit's processor time. A run whose file exists
is not repeated, and nothing is fitted or trained twice (data/protections, data/victims): a stopped benchmark goes on
where it was, and all recipes share the victims of the clean data.

Data: the first 3,000 training and 3,000 test images of Fashion-MNIST; 4,000 and 2,000 colour patches of photographs
(photo_patches.py). With a GPU, ``--images 60000 --surrogate resnet-18 --victim resnet-18`` is the full size.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from numpy.typing import NDArray
from photo_patches import build_dataset

from hf_unlearnable import BEO, EM, MIUE, Budget, Method, Protection, Report, Training, learnability
from hf_unlearnable.data.fashion_mnist import fashion_mnist
from hf_unlearnable.evaluation.report import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL
from hf_unlearnable.files import atomic_folder, atomic_write
from hf_unlearnable.methods import Task

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "data"
RESULTS = HERE / "results"
SETS = ("fashion-mnist", "photo-patches")


class Noise(Method):
    """The control: uniform noise in the ball, which tells nothing about the class."""

    name = "noise"

    def run(self, task: Task) -> None:
        """Draw it."""
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(task.images), 256):
            part = task.perturbations[start : start + 256]
            part.copy_((2 * torch.rand(part.shape, generator=generator) - 1) * task.budget.epsilon)


RECIPES: dict[str, Method] = {
    "noise": Noise(),
    "em": EM(),
    "mi-ue": MIUE(),
    "mi-ue-untargeted": MIUE(targeted_weight=0.0),
    "beo": BEO(),
    "beo-self": BEO(mode="self"),
    "beo-self-frozen": BEO(mode="self", refresh="never"),  # one embedding, as the prototypes had it
    "untargeted-pgd": BEO(objective="cross-entropy"),
    "mi-ue-paper": MIUE.paper(epochs=15, inner_steps=5),  # the authors' 100 epochs of 10 steps cost 13 times as much
}


def load(name: str, images: int) -> tuple[Dataset, Dataset]:
    """The training and the test part of a set, cut to ``images`` and at most 3,000 test images (all from 60,000 on)."""
    if name == "fashion-mnist":
        splits = fashion_mnist(DATA / name)
        count = 3000 if images < 60000 else 10000
        return splits["train"].select(range(images)), splits["test"].select(range(count))
    if not (DATA / name).exists():
        with atomic_folder(DATA / name) as scratch:
            build_dataset().save_to_disk(scratch)
    splits = load_from_disk(str(DATA / name))
    return splits["train"], splits["test"]


def fitted(
    name: str,
    recipe: str,
    budget: Budget,
    data: Dataset,
    surrogate: str | None = None,
    recipes: Mapping[str, Method] = RECIPES,
) -> tuple[Path, float]:
    """The folder of a protection and the seconds of processor time that it took; kept in data/protections."""
    parts = [name, str(len(data)), recipe, str(budget).replace(":", "-"), *([surrogate] if surrogate else [])]
    folder = DATA / "protections" / "-".join(parts)
    note = folder.parent / f"{folder.name}.json"
    if not note.exists():
        folder.parent.mkdir(exist_ok=True)
        started = time.process_time()
        recipes[recipe].fit(data, budget=budget, surrogate=surrogate, output_dir=folder)
        atomic_write(note, json.dumps({"fit_seconds": round(time.process_time() - started, 1)}) + "\n")
    return folder, json.loads(note.read_text())["fit_seconds"]


def run(
    name: str, recipe: str, budget: Budget, arguments: argparse.Namespace, recipes: Mapping[str, Method] = RECIPES
) -> None:
    """Fit, protect, measure and write one result file."""
    images = arguments.images if name == "fashion-mnist" else 4000
    file = RESULTS / f"{name}-{images}-{recipe}-{str(budget).replace(':', '-')}{arguments.suffix}.json"
    if file.exists():
        return
    train, test = load(name, images)
    folder, seconds = fitted(name, recipe, budget, train, arguments.surrogate, recipes)
    protection = Protection.from_pretrained(folder)
    report = learnability(
        train.map(protection),
        clean=train,
        test=test,
        victims=arguments.victim,
        ratios=arguments.ratio,
        sequential=arguments.sequential,
        training=Training(epochs=arguments.epochs),
        seeds=range(101, 101 + arguments.seeds),
        keep_in=DATA / "victims",
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU thread(s)"
    kept = ("budget", "method", "surrogates", "verification", "findings")
    figures = {
        "set": name,
        "recipe": recipe,
        "command": " ".join(["python", *sys.argv]),
        "fit_seconds": seconds,
        "protection": {key: protection.about[key] for key in kept},
        "device": device,
        **report.as_dict(),
    }
    atomic_write(file, json.dumps(figures, indent=2) + "\n")
    print(f"\n{name}, {recipe}, {budget}: fitted in {seconds} s\n{report}\n", flush=True)


def table() -> str:
    """What results/ holds, as a Markdown table."""
    cases = (CLEAN, PROTECTED, CLEAN_PART, MIX, SEQUENTIAL)
    head = ["set", "images", "recipe", "budget", "fit, s", "victim", "epochs"]
    head += [CLEAN, PROTECTED, "protected, peak epoch", "clean half alone", "half protected", "half, sequential"]
    lines = [head, ["---"] * len(head)]
    for file in sorted(RESULTS.glob("*-l*-*.json")):
        figures = json.loads(file.read_text())
        if "fit_seconds" not in figures:
            continue  # another benchmark's
        report = Report.of(figures)
        for victim in report.victims:
            cells = [percent(report, victim, case) for case in cases]
            cells.insert(2, percent(report, victim, PROTECTED, "peak"))
            first = [figures["set"], str(report.images), figures["recipe"], figures["protection"]["budget"]]
            lines.append([*first, f"{figures['fit_seconds']:.0f}", victim, str(report.training["epochs"]), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mixtures() -> str:
    """Of the runs with mixtures, how far each ends from its clean half alone, seed by seed, as a Markdown table."""
    head = ["set", "images", "budget", "recipe", "epochs", "clean half alone"]
    head += ["half protected: difference", "clean half first: difference", "all protected"]
    lines = []
    for file in sorted(RESULTS.glob("*-l*-mixtures*.json")):
        figures = json.loads(file.read_text())
        report = Report.of(figures)
        victim, budget = report.victims[0], figures["protection"]["budget"]
        alone = report.values(CLEAN_PART, victim)
        measured = [report.values(case, victim) for case in (MIX, SEQUENTIAL)]
        differences = [told(shares - alone if len(shares) else shares, "+.1f") for shares in measured]
        cells = [figures["set"], str(report.images), budget, figures["recipe"], str(report.training["epochs"])]
        lines.append([*cells, told(alone), *differences, percent(report, victim, PROTECTED)])
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *sorted(lines)])


def told(shares: NDArray[np.float64], form: str = ".1f") -> str:
    """Mean and spread of shares in per cent, or a dash where there are none."""
    if not len(shares):
        return "-"
    spread = f" ± {100 * shares.std(ddof=1):.1f}" if len(shares) > 1 else ""
    return f"{100 * shares.mean():{form}}{spread}"


def percent(report: Report, victim: str, case: str, figure: str = "last", **choice: Any) -> str:
    """Mean and spread of an accuracy, or a dash; ``choice`` as for ``Report.values``."""
    return told(report.values(case, victim, figure, **choice))


def main(
    recipes: Mapping[str, Method] = RECIPES,
    *,
    victims: Sequence[str] = ("small-resnet", "small-vgg"),
    ratios: Sequence[float] = (0.0, 0.5, 1.0),
    sequential: bool = False,
    suffix: str = "",
) -> None:
    """The command, for other recipes and with other defaults too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=SETS, action="append", help="default: all")
    parser.add_argument("--recipe", choices=recipes, action="append", help="default: all")
    parser.add_argument("--budget", action="append", help="default: 8/255")
    parser.add_argument("--images", type=int, default=3000, help="training images of Fashion-MNIST")
    parser.add_argument("--surrogate", help="default: the recipe's")
    parser.add_argument("--victim", action="append", help=f"default: {' and '.join(victims)}")
    parser.add_argument("--ratio", type=float, action="append", help=f"of protected rows; default: {list(ratios)}")
    parser.add_argument("--sequential", action="store_true", help="also clean images first, protected ones afterwards")
    parser.add_argument("--suffix", default=suffix, help="of the names of result files")
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=3, help="victims of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    parser.set_defaults(sequential=sequential)
    arguments = parser.parse_args()
    arguments.victim = arguments.victim or list(victims)
    arguments.ratio = arguments.ratio or list(ratios)
    torch.set_num_threads(arguments.threads)
    if not arguments.table:
        for budget in arguments.budget or ["8/255"]:
            for name in arguments.set or SETS:
                for recipe in arguments.recipe or recipes:
                    run(name, recipe, Budget.parse(budget), arguments, recipes)
    print(table(), mixtures(), sep="\n\n")


if __name__ == "__main__":
    main()
