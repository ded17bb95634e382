"""How much protected images could take from a model at all that is trained on clean images beside them.

    python examples/benchmarks/mixture_limit.py                        # half an hour on one thread
    python examples/benchmarks/mixture_limit.py --attack opposing      # only one of the two
    python examples/benchmarks/mixture_limit.py --table                # only print what is there

A protection is published once and meets models that it has never seen. Here half of the images get a new perturbation
at every step of the victim's training, from somebody who knows its weights at that very step (after crop and flip, so
that not even these blur it). What such an attacker cannot do to a mixture, a published set can hardly be hoped to do.

* ``worst``: PGD up the victim's own cross-entropy, which is adversarial training with half of the batch.
* ``opposing``: down the inner product of the step that the protected images make the victim take with the step that
  clean images would; so far as one step tells, nothing raises the loss on clean images more. Through a difference of
  the victim moved a little along and against its gradient on clean images, which needs no second derivatives.

Fashion-MNIST, 5,000 images, `small-resnet` victims of 15 epochs, halves drawn as ``learnability`` draws them: the clean
half alone is in the results of protection_strength.py. One result file, written after every victim.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from protection_strength import load, told
from torch.nn import functional as F

from hf_unlearnable import Budget, Surrogate, Training
from hf_unlearnable.columns import find_columns
from hf_unlearnable.defences.batches import ascend
from hf_unlearnable.images import ImageSet
from hf_unlearnable.measurement import split
from hf_unlearnable.outputs import write_whole
from hf_unlearnable.surrogate import Network
from hf_unlearnable.training import Run, accuracy, random_crop_flip
from hf_unlearnable.training import load as load_rows
from hf_unlearnable.versions import versions

FILE = Path(__file__).parent / "results" / "mixture-limit.json"
STEPS = 5  # of the attack within each step of the victim, each of two fifths of the radius
SHIFT = 0.1  # length of the victim's move along its gradient, for the difference
CLEAN_IMAGES = 96  # that this gradient is taken of


class Worst(Run):
    """The training of a victim whose ``attacked`` rows (N,) are perturbed at every step."""

    attacked: np.ndarray
    epsilon: float

    def _step(self, rows: np.ndarray) -> float:
        pixels, labels = load_rows(self.images, rows, self.accelerator.device)
        pixels = random_crop_flip(pixels, self._generator)
        hit = torch.from_numpy(self.attacked[rows]).to(pixels.device)
        if hit.any():
            pixels[hit] = self.perturbed(pixels[hit], labels[hit])
        self._optimiser.zero_grad()
        loss = F.cross_entropy(self.network.train()(pixels)[0], labels)
        loss.backward()
        self._optimiser.step()
        self._schedule.step()
        return loss.item()

    def perturbed(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) at most ``epsilon`` from these, from a random start by sign steps up ``gain``."""
        self.network.eval()
        self.look()
        return ascend(
            images,
            lambda seen: self.gain(seen, labels),
            eps=self.epsilon,
            step=2 * self.epsilon / STEPS,
            steps=STEPS,
            generator=self._generator,
        )

    def look(self) -> None:
        """See what there is to see at the victim before its step."""

    def gain(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What the attacker climbs."""
        return F.cross_entropy(self.network(images)[0], labels, reduction="sum")


class Opposing(Worst):
    """The same, against the step that clean images would make it take."""

    _moved: tuple[Network, Network]
    _rng: np.random.Generator

    def look(self) -> None:
        """Move the victim to either side along its gradient on clean images."""
        if self.done == 0:
            self._rng = np.random.default_rng(self.seed)
        chosen = self._rng.integers(len(self.images), size=CLEAN_IMAGES)
        pixels, labels = load_rows(self.images, chosen, self.accelerator.device)
        weights = list(self.network.parameters())
        slopes = torch.autograd.grad(F.cross_entropy(self.network(pixels)[0], labels), weights)
        length = torch.stack([slope.norm() for slope in slopes]).norm()
        self._moved = copy.deepcopy(self.network), copy.deepcopy(self.network)
        with torch.no_grad():
            for network, way in zip(self._moved, (1, -1), strict=True):
                for weight, slope in zip(network.parameters(), slopes, strict=True):
                    weight += way * SHIFT / length * slope

    def gain(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How much more the images blame the side that is better on clean ones."""
        worse, better = (F.cross_entropy(one(images)[0], labels, reduction="sum") for one in self._moved)
        return better - worse


ATTACKS = {"worst": Worst, "opposing": Opposing}


def measure(attack: str, budget: Budget, images: int, epochs: int, seed: int) -> list[float]:
    """Clean test accuracy of one victim after every epoch."""
    data, test = (ImageSet.read(one, find_columns(one)) for one in load("fashion-mnist", images))
    training, accelerator = Training(epochs=epochs), Accelerator()
    steps = training.iterations(len(data))
    victim = Surrogate("small-resnet")
    run = ATTACKS[attack](victim, data, training, iterations=steps, seed=seed, accelerator=accelerator)
    run.attacked, run.epsilon = ~split(data.labels, 0.5, seed), budget.epsilon
    reached = []
    for _ in run:
        if run.done % (steps // epochs) == 0:
            reached.append(round(accuracy(run.network, test, accelerator.device), 6))
    return reached


def table(cells: list[dict]) -> str:
    """What was measured, as Markdown."""
    lines = [
        "| attack | budget | epochs | victims | clean test accuracy, last epoch |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key in dict.fromkeys((one["attack"], one["budget"], one["epochs"]) for one in cells):
        last = [one["reached"][-1] for one in cells if (one["attack"], one["budget"], one["epochs"]) == key]
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {len(last)} | {told(np.array(last))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--attack", choices=ATTACKS, action="append", help="default: both")
    parser.add_argument("--budget", default="16/255")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cells = json.loads(FILE.read_text())["cells"] if FILE.exists() else []
    budget = Budget.parse(arguments.budget)
    wanted = [(attack, seed) for attack in arguments.attack or ATTACKS for seed in range(101, 101 + arguments.seeds)]
    for attack, seed in wanted if not arguments.table else []:
        settings = {"images": arguments.images, "epochs": arguments.epochs, "seed": seed}
        about = {"attack": attack, "budget": str(budget), **settings}
        if any(about.items() <= one.items() for one in cells):
            continue
        reached = measure(attack, budget, **settings)
        command = " ".join(["python", *sys.argv])
        cells.append({**about, "reached": reached, "command": command, "versions": versions()})
        write_whole(FILE, json.dumps({"cells": cells}, indent=2) + "\n")
    print(table(cells))


if __name__ == "__main__":
    main()
