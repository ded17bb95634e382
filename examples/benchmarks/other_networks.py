"""A thief whose network and training are not what the surrogate imitates.

    python examples/benchmarks/other_networks.py          # ten minutes on one thread
    python examples/benchmarks/other_networks.py --table  # only print what is there

The first 3,000 images of Fashion-MNIST at 8/255. Besides `small-resnet`, victims are a ResNet of transformers with the
stem for large images (7x7 with stride 2, then max-pool), from weights of its own for every seed; both are trained with
and without crop and flip. Protected once with the default surrogate, once with that ResNet as a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import FASHION_MNIST, TINY, command, kept, load, machine, options, parse, victim_seeds
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown, told
from transformers import ResNetConfig, ResNetForImageClassification

from hf_unlearnable import MIUE, Budget, Surrogate, Training, learnability
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
SURROGATES = {"small-resnet": False, "small-resnet and large-stem": True}  # whether the second stands beside
AUGMENT = {True: "crop and flip", False: "neither"}
VICTIMS = ("small-resnet", "large-stem")
SURROGATE_SEED = 7


def large_stem(seed: int, classes: int) -> Surrogate:
    """About as many parameters as `small-resnet`, but the image shrinks fourfold before the first block."""
    torch.manual_seed(seed)
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1]}
    config = ResNetConfig(num_channels=1, layer_type="basic", num_labels=classes, **sizes)
    return Surrogate(ResNetForImageClassification(config), image_mean=(0.5,), image_std=(0.5,))


def measure(experiment: Experiment, surrogates: str, budget: Budget) -> list[dict[str, Any]]:
    """Fit once; one cell for every victim."""
    train, test = load(experiment.dataset or "", experiment.images or 0)
    classes = train.features["label"].num_classes
    second = [large_stem(SURROGATE_SEED, classes)] if SURROGATES[surrogates] else []
    protected = train.map(MIUE().fit(train, budget=budget, surrogate=["small-resnet", *second]))
    cells = []
    for augment, words in AUGMENT.items():
        for seed in experiment.seeds or ():
            report = learnability(
                protected,
                clean=train,
                test=test,
                victims=["small-resnet", large_stem(seed, classes)],
                ratios=[0.0, 1.0],
                training=Training(epochs=experiment.epochs or 0, augment=augment),
                seeds=[seed],
                keep_in=kept("victims"),
            )
            for victim, kind in zip(report.victims, VICTIMS, strict=True):
                figures = {
                    f"{case}, {figure}": float(report.values(case, victim, figure)[0])
                    for case in (CLEAN, PROTECTED)
                    for figure in ("last", "peak")
                }
                cells.append({"surrogates": surrogates, "training": words, "victim": kind, "seed": seed, **figures})
    return cells


def table(results: Sequence[ResultFile]) -> str:
    """Mean and spread in per cent, as Markdown."""
    head = ["surrogates", "victim", "training", "victims", "clean", "protected", "protected, peak epoch"]
    lines = []
    for case, cells in cases(results).items():
        wanted = (f"{CLEAN}, last", f"{PROTECTED}, last", f"{PROTECTED}, peak")
        lines.append([*case, len(cells), *(told([cell[figure] for cell in cells]) for figure in wanted)])
    return markdown(head, lines)


def cases(results: Sequence[ResultFile]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """The victims of every case, by surrogates, victim and training."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in results:
        for cell in one.figures["cells"]:
            found.setdefault((cell["surrogates"], cell["victim"], cell["training"]), []).append(cell)
    return found


def main() -> None:
    arguments = parse(options(__doc__, epochs=12))
    budget = Budget(8)
    experiment = Experiment(
        script=SCRIPT,
        dataset=TINY if arguments.tiny else FASHION_MNIST,
        images=48 if arguments.tiny else 3000,
        method=MIUE.name,
        recipe="mi-ue",
        budget=str(budget),
        ratios=(0.0, 1.0),
        epochs=arguments.epochs,
        victims=VICTIMS,
        seeds=tuple(victim_seeds(arguments)),
        machine=machine(),
        command=command(),
    )
    if not arguments.table and not place(experiment).exists():
        cells = [cell for surrogates in SURROGATES for cell in measure(experiment, surrogates, budget)]
        ResultFile(experiment, {"cells": cells, "versions": versions()}).write()
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
