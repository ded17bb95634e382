"""How strongly each recipe protects, for how much computing: the figures of the README.

    python examples/benchmarks/protection_strength.py                      # everything that is not there yet (hours)
    python examples/benchmarks/protection_strength.py --set photo-patches --recipe mi-ue
    python examples/benchmarks/protection_strength.py --table              # only print what results/ holds

Every run is one file in results/: the report of ``learnability`` with the fit's processor time. A run whose file exists
is not repeated, so a stopped benchmark goes on where it was.

Data: the first 3,000 training and 3,000 test images of Fashion-MNIST; 4,000 and 2,000 colour patches of photographs
(photo_patches.py). With a GPU, ``--images 60000 --surrogate resnet-18 --victim resnet-18`` is the full size.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from datasets import Dataset, load_from_disk
from photo_patches import build_dataset

from hf_unlearnable import EM, MIUE, Budget, Method, Training, learnability
from hf_unlearnable.fashion_mnist import fashion_mnist
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
    file = RESULTS / f"{name}-{images}-{recipe}-{str(budget).replace(':', '-')}.json"
    if file.exists():
        return
    train, test = load(name, images)
    started = time.process_time(), time.perf_counter()
    protection = RECIPES[recipe].fit(train, budget=budget, surrogate=arguments.surrogate)
    fit_seconds = {"cpu": time.process_time() - started[0], "wall": time.perf_counter() - started[1]}
    protected = train.map(protection)
    report = learnability(
        protected,
        clean=train,
        test=test,
        victims=arguments.victim,
        training=Training(epochs=arguments.epochs),
        seeds=range(101, 101 + arguments.seeds),
    )
    figures = {
        "set": name,
        "recipe": recipe,
        "budget": str(budget),
        "fit_seconds": {clock: round(seconds, 1) for clock, seconds in fit_seconds.items()},
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "protection": {key: protection.about[key] for key in ("method", "surrogates", "verification")},
        **report.as_dict(),
    }
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n")
    print(
        f"\n{name}, {recipe}, {budget}: fitted in {fit_seconds['cpu']:.0f} s of processor time\n{report}\n", flush=True
    )


def table() -> str:
    """What results/ holds, as a Markdown table."""
    head = (
        "set",
        "images",
        "recipe",
        "budget",
        "fit, s of processor",
        "PSNR",
        "victim",
        "clean",
        "protected",
        "peak",
        "mix - clean half",
    )
    lines = [head, tuple("---" for _ in head)]
    for file in sorted(RESULTS.glob("*.json")):
        figures = json.loads(file.read_text())
        for victim, summary in figures["summary"].items():

            def percent(case: str, figure: str = "last", summary: dict = summary) -> str:
                mean, std = summary[case][figure]["mean"], summary[case][figure]["std"]
                return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")

            lines.append(
                (
                    figures["set"],
                    str(figures["images"]),
                    figures["recipe"],
                    figures["budget"],
                    f"{figures['fit_seconds']['cpu']:.0f}",
                    f"{figures['protection']['verification']['psnr']:.1f} dB",
                    victim,
                    percent("clean"),
                    percent("protected"),
                    percent("protected", "peak"),
                    f"{100 * summary['theft_gain']:+.1f}",
                )
            )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=SETS, action="append", help="default: all")
    parser.add_argument("--recipe", choices=list(RECIPES), action="append", help="default: all")
    parser.add_argument("--budget", action="append", help="default: 8/255")
    parser.add_argument("--images", type=int, default=3000, help="training images of Fashion-MNIST")
    parser.add_argument("--surrogate", help="default: the recipe's")
    parser.add_argument("--victim", action="append", help="default: small-resnet and small-vgg")
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=3, help="victims of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    arguments.victim = arguments.victim or ["small-resnet", "small-vgg"]
    torch.set_num_threads(arguments.threads)
    if not arguments.table:
        for budget in arguments.budget or ["8/255"]:
            for name in arguments.set or SETS:
                for recipe in arguments.recipe or RECIPES:
                    run(name, recipe, Budget.parse(budget), arguments)
    print(table())


if __name__ == "__main__":
    main()
