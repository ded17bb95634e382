"""How strongly each recipe protects, for how much computing: the figures of the README.

    python examples/benchmarks/protection_strength.py                      # everything that is not there yet (hours)
    python examples/benchmarks/protection_strength.py --set photo-patches --recipe mi-ue
    python examples/benchmarks/protection_strength.py --table              # only print what results/ holds

Every run is one file in results/: the report of ``learnability`` with the fit's processor time; the recipe ``clean`` is
the baseline of the others. A run whose file exists is not repeated, so a stopped benchmark goes on where it was.

Data: the first 3,000 training and 3,000 test images of Fashion-MNIST; 4,000 and 2,000 colour patches of photographs
(photo_patches.py). With a GPU, ``--images 60000 --surrogate resnet-18 --victim resnet-18`` is the full size.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset, load_from_disk
from photo_patches import build_dataset

from hf_unlearnable import EM, MIUE, Budget, Method, Training, learnability
from hf_unlearnable.fashion_mnist import fashion_mnist
from hf_unlearnable.measurement import CASES, CLEAN, CLEAN_PART, MIX, PROTECTED
from hf_unlearnable.methods import Task
from hf_unlearnable.outputs import whole

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
    "mi-ue-paper": MIUE.paper(epochs=15, inner_steps=5),  # the authors' 100 epochs of 10 steps cost 13 times as much
}


def load(name: str, images: int) -> tuple[Dataset, Dataset]:
    """The training and the test part of a set, cut to ``images`` and at most 3,000 test images (all from 60,000 on)."""
    if name == "fashion-mnist":
        splits = fashion_mnist(DATA / name)
        count = 3000 if images < 60000 else 10000
        return splits["train"].select(range(images)), splits["test"].select(range(count))
    if not (DATA / name).exists():
        with whole(DATA / name) as scratch:
            build_dataset().save_to_disk(scratch)
    splits = load_from_disk(str(DATA / name))
    return splits["train"], splits["test"]


def run(name: str, recipe: str, budget: Budget, arguments: argparse.Namespace) -> None:
    """Fit, protect, measure and write one result file."""
    images = arguments.images if name == "fashion-mnist" else 4000
    file = RESULTS / f"{name}-{images}-{recipe}{'' if recipe == CLEAN else '-' + str(budget).replace(':', '-')}.json"
    if file.exists():
        return
    train, test = load(name, images)
    figures: dict[str, object] = {"set": name, "recipe": recipe, "command": " ".join(sys.argv)}
    protected, cases = train, (CLEAN, CLEAN_PART)
    if recipe != CLEAN:
        started = time.process_time()
        protection = RECIPES[recipe].fit(train, budget=budget, surrogate=arguments.surrogate)
        figures["fit_seconds"] = round(time.process_time() - started, 1)
        kept = ("budget", "method", "surrogates", "verification")
        figures["protection"] = {key: protection.about[key] for key in kept}
        protected, cases = train.map(protection), (PROTECTED, MIX)
    report = learnability(
        protected,
        clean=train,
        test=test,
        victims=arguments.victim,
        training=Training(epochs=arguments.epochs),
        seeds=range(101, 101 + arguments.seeds),
        cases=[case for case in cases if case in arguments.case],
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU thread(s)"
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps({**figures, "device": device, **report.as_dict()}, indent=2) + "\n")
    print(f"\n{name}, {recipe}, {budget}: fitted in {figures.get('fit_seconds')} s\n{report}\n", flush=True)


def percent(figures: dict, victim: str, case: str, figure: str = "last") -> str:
    """Mean and spread of an accuracy, or a dash."""
    cell = figures["summary"].get(victim, {}).get(case, {}).get(figure)
    if cell is None:
        return "-"
    return f"{100 * cell['mean']:.1f}" + ("" if cell["std"] is None else f" ± {100 * cell['std']:.1f}")


def table() -> str:
    """What results/ holds, as a Markdown table; every line beside the clean set's own figures."""
    results = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    baselines = {(figures["set"], figures["images"]): figures for figures in results if figures["recipe"] == CLEAN}
    head = ["set", "images", "recipe", "budget", "fit, s", "victim", "clean", "protected", "protected, peak epoch"]
    head += ["clean half alone", "half protected"]
    lines = [head, ["---"] * len(head)]
    for figures in results:
        if figures["recipe"] == CLEAN:
            continue
        baseline = baselines.get((figures["set"], figures["images"]), {"summary": {}})
        for victim in figures["summary"]:
            first = [figures["set"], str(figures["images"]), figures["recipe"], figures["protection"]["budget"]]
            fit = f"{figures['fit_seconds']:.0f}"
            cells = [percent(baseline, victim, CLEAN), percent(figures, victim, PROTECTED)]
            cells += [percent(figures, victim, PROTECTED, "peak"), percent(baseline, victim, CLEAN_PART)]
            lines.append([*first, fit, victim, *cells, percent(figures, victim, MIX)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=SETS, action="append", help="default: all")
    parser.add_argument("--recipe", choices=[CLEAN, *RECIPES], action="append", help="default: all")
    parser.add_argument("--budget", action="append", help="default: 8/255")
    parser.add_argument("--images", type=int, default=3000, help="training images of Fashion-MNIST")
    parser.add_argument("--surrogate", help="default: the recipe's")
    parser.add_argument("--victim", action="append", help="default: small-resnet and small-vgg")
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=3, help="victims of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    arguments.victim = arguments.victim or ["small-resnet", "small-vgg"]
    arguments.case = arguments.case or CASES
    torch.set_num_threads(arguments.threads)
    if not arguments.table:
        for budget in arguments.budget or ["8/255"]:
            for name in arguments.set or SETS:
                for recipe in arguments.recipe or [CLEAN, *RECIPES]:
                    run(name, recipe, Budget.parse(budget), arguments)
    print(table())


if __name__ == "__main__":
    main()
