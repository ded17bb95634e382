"""A thief whose network and training are not what the surrogate imitates.

    python examples/benchmarks/other_networks.py          # ten minutes on one thread
    python examples/benchmarks/other_networks.py --table  # only print what is there

The first 3,000 images of Fashion-MNIST at 8/255. Besides `small-resnet`, victims are a ResNet of transformers with the
stem for large images (7x7 with stride 2, then max-pool), from weights of its own for every seed; both are trained with
and without crop and flip. Protected once with the default surrogate, once with that ResNet as a second one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from protection_strength import DATA, load, told
from transformers import ResNetConfig, ResNetForImageClassification

from hf_unlearnable import MIUE, Budget, Surrogate, Training, learnability
from hf_unlearnable.evaluation.report import CLEAN, PROTECTED
from hf_unlearnable.files import atomic_write
from hf_unlearnable.versions import versions

FILE = Path(__file__).parent / "results" / "other-networks.json"
SURROGATES = {"small-resnet": False, "small-resnet and large-stem": True}  # whether the second stands beside
AUGMENT = {True: "crop and flip", False: "neither"}
SURROGATE_SEED = 7


def large_stem(seed: int) -> Surrogate:
    """About as many parameters as `small-resnet`, but the image shrinks fourfold before the first block."""
    torch.manual_seed(seed)
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1]}
    config = ResNetConfig(num_channels=1, layer_type="basic", num_labels=10, **sizes)
    return Surrogate(ResNetForImageClassification(config), image_mean=(0.5,), image_std=(0.5,))


def measure(surrogates: str, seeds: range) -> list[dict]:
    """Fit once; one cell for every victim."""
    train, test = load("fashion-mnist", 3000)
    second = [large_stem(SURROGATE_SEED)] if SURROGATES[surrogates] else []
    protected = train.map(MIUE().fit(train, budget=Budget(8), surrogate=["small-resnet", *second]))
    cells = []
    for augment, words in AUGMENT.items():
        for seed in seeds:
            report = learnability(
                protected,
                clean=train,
                test=test,
                victims=["small-resnet", large_stem(seed)],
                ratios=[0.0, 1.0],
                training=Training(augment=augment),
                seeds=[seed],
                keep_in=DATA / "victims",
            )
            for victim, kind in zip(report.victims, ("small-resnet", "large-stem"), strict=True):
                figures = {
                    f"{case}, {figure}": float(report.values(case, victim, figure)[0])
                    for case in (CLEAN, PROTECTED)
                    for figure in ("last", "peak")
                }
                cells.append({"surrogates": surrogates, "training": words, "victim": kind, "seed": seed, **figures})
    return cells


def table(cells: list[dict]) -> str:
    """Mean and spread in per cent, as Markdown."""
    lines = [
        "| surrogates | victim | training | victims | clean | protected | protected, peak epoch |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    cases: dict[str, list[dict]] = {}
    for cell in cells:
        cases.setdefault(" | ".join(cell[key] for key in ("surrogates", "victim", "training")), []).append(cell)
    for case, several in cases.items():
        shares = [
            told(np.array([cell[figure] for cell in several]))
            for figure in (f"{CLEAN}, last", f"{PROTECTED}, last", f"{PROTECTED}, peak")
        ]
        lines.append(f"| {case} | {len(several)} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="victims of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = json.loads(FILE.read_text()) if FILE.exists() else {"cells": [], "versions": versions()}
    for surrogates in SURROGATES if not arguments.table else ():
        if all(cell["surrogates"] != surrogates for cell in found["cells"]):
            found["cells"] += measure(surrogates, range(101, 101 + arguments.seeds))
            atomic_write(FILE, json.dumps(found, indent=2) + "\n")
    print(table(found["cells"]))


if __name__ == "__main__":
    main()
