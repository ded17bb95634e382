"""What the features of protected images still say about those of the clean ones.

    python examples/benchmarks/feature_information.py            # a quarter of an hour on one thread
    python examples/benchmarks/feature_information.py --table    # only print what is there

Victims are trained on 3,000 images of Fashion-MNIST, as they are and protected in several ways at 8/255; each then
embeds the clean images and those that it was trained on. MI-UE's theory (arXiv 2603.03725) says: the less the two tell
about each other, the less of what was learned is of use on clean images. Nats; the first row is what the features of
clean images tell about themselves. Clean test accuracy of the same victims beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from protection_strength import RECIPES, load

from hf_unlearnable import Budget, Surrogate, Training, load_metric
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.files import atomic_write
from hf_unlearnable.training.inference import accuracy, embed
from hf_unlearnable.training.run import TrainingRun
from hf_unlearnable.versions import versions

FILE = Path(__file__).parent / "results" / "feature-information.json"
KINDS = ("clean", "noise", "em", "mi-ue")
FIGURES = {
    "mutual_information_histogram": "MI, histogram",
    "mutual_information_ksg": "MI, KSG on 4 components",
    "mutual_information_variational": "MI, variational",
    "intra_class_covariance": "variance left within classes",
    "intra_class_cosine": "cosine within classes",
    "accuracy": "clean test accuracy",
}


def measure(images: int, epochs: int, seeds: int) -> None:
    """Train the victims, estimate, write the result file."""
    data, test = load("fashion-mnist", images)
    metric, accelerator, training = load_metric("mutual_information"), Accelerator(), Training(epochs=epochs)
    clean, tests = (ImageSet.read(one, find_columns(one)) for one in (data, test))
    rows = []
    for kind in KINDS:
        released = data if kind == "clean" else data.map(RECIPES[kind].fit(data, budget=Budget(8)))
        protected = ImageSet.read(released, find_columns(released))
        for seed in range(101, 101 + seeds):
            steps = training.iterations(len(protected))
            victim = Surrogate("small-resnet")
            network = TrainingRun(
                victim, protected, training, iterations=steps, seed=seed, accelerator=accelerator
            ).finish()
            before, after = (embed(network, one, accelerator.device).cpu().numpy() for one in (clean, protected))
            figures = metric.compute(
                predictions=after,
                references=before,
                labels=clean.labels,
                estimators=["histogram", "ksg", "variational"],
                components=4,
            )
            reached = accuracy(network, tests, accelerator.device)
            rows.append({"trained on": kind, "seed": seed, **figures, "accuracy": reached})
            print(rows[-1], flush=True)
    about = {"command": " ".join(["python", *sys.argv]), "images": images, "training": training.as_dict()}
    atomic_write(FILE, json.dumps({**about, "rows": rows, "versions": versions()}, indent=2) + "\n")


def table() -> str:
    """What is there, as a Markdown table."""
    rows = json.loads(FILE.read_text())["rows"]
    lines = [["trained on", *FIGURES.values()], ["---"] * (1 + len(FIGURES))]
    for kind in KINDS:
        values = [[row[name] for row in rows if row["trained on"] == kind] for name in FIGURES]
        spreads = [np.std(one, ddof=1) if len(one) > 1 else 0 for one in values]
        lines.append(
            [kind, *(f"{np.mean(one):.3f} ± {spread:.3f}" for one, spread in zip(values, spreads, strict=True))]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        measure(arguments.images, arguments.epochs, arguments.seeds)
    print(table())


if __name__ == "__main__":
    main()
