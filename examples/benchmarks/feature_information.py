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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from common import FASHION_MNIST, RECIPES, TINY, command, load, machine, options, parse, victim_seeds
from result_files import Experiment, ResultFile, read_results
from tables import markdown

from hf_unlearnable import Budget, Surrogate, Training, load_metric
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.training.inference import accuracy, embed
from hf_unlearnable.training.run import TrainingRun
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
KINDS = ("clean", "noise", "em", "mi-ue")
FIGURES = {
    "mutual_information_histogram": "MI, histogram",
    "mutual_information_ksg": "MI, KSG on 4 components",
    "mutual_information_variational": "MI, variational",
    "intra_class_covariance": "variance left within classes",
    "intra_class_cosine": "cosine within classes",
    "accuracy": "clean test accuracy",
}


def measure(name: str, arguments: argparse.Namespace, kinds: Sequence[str]) -> None:
    """Train the victims, estimate, write the result file."""
    data, test = load(name, arguments.images)
    metric, accelerator, budget = load_metric("mutual_information"), Accelerator(), Budget(8)
    training = Training(epochs=arguments.epochs)
    clean, tests = (ImageSet.read(one, find_columns(one)) for one in (data, test))
    rows = []
    for kind in kinds:
        released = data if kind == "clean" else data.map(RECIPES[kind].fit(data, budget=budget))
        protected = ImageSet.read(released, find_columns(released))
        for seed in victim_seeds(arguments):
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
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=arguments.images,
        budget=str(budget),
        epochs=arguments.epochs,
        victims=("small-resnet",),
        seeds=tuple(victim_seeds(arguments)),
        machine=machine(),
        command=command(),
    )
    ResultFile(experiment, {"training": training.as_dict(), "rows": rows, "versions": versions()}).write()


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    lines = []
    for one in results:
        for kind in dict.fromkeys(row["trained on"] for row in one.figures["rows"]):
            values = [[row[name] for row in one.figures["rows"] if row["trained on"] == kind] for name in FIGURES]
            cells = (f"{np.mean(each):.3f} ± {np.std(each, ddof=1) if len(each) > 1 else 0:.3f}" for each in values)
            lines.append([kind, *cells])
    return markdown(["trained on", *FIGURES.values()], lines)


def main() -> None:
    parser = options(__doc__, epochs=12)
    parser.add_argument("--images", type=int, default=3000)
    arguments = parse(parser)
    if not arguments.table:
        measure(TINY if arguments.tiny else FASHION_MNIST, arguments, KINDS[:2] if arguments.tiny else KINDS)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
