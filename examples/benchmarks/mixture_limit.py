"""How much protected images could take from a model at all that is trained on clean images beside them.

    python examples/benchmarks/mixture_limit.py                        # a quarter of an hour on one thread
    python examples/benchmarks/mixture_limit.py --set photo-patches --budget 8/255 --epochs 12
    python examples/benchmarks/mixture_limit.py --attack opposing      # only one of the three
    python examples/benchmarks/mixture_limit.py --table                # only print what is there

A protection is published once and meets models that it has never seen. Here half of the images get a new perturbation
at every step of the victim's training, from somebody who knows its weights at that very step (after crop and flip, so
that not even these blur it). What such an attacker cannot do to a mixture, a published set can hardly be hoped to do.

* ``worst``: PGD up the victim's own cross-entropy, which is adversarial training with half of the batch.
* ``opposing``: down the inner product of the step that the protected images make the victim take with the step that
  clean images would; so far as one step tells, nothing raises the loss on clean images more. Through a difference of
  the victim moved a little along and against its gradient on clean images, which needs no second derivatives.
* ``exchanged``: no budget at all; the images of that half change places in every batch, so that their labels are noise.

`small-resnet` victims, halves drawn as ``learnability`` draws them: the clean half alone is in the results of
protection_strength.py. One file for each attack, budget and set, written after every victim.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from common import ALL_SETS, TINY, command, load, machine, options, parse, size, victim_seeds
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown, told
from torch.nn import functional as F

from hf_unlearnable import Budget, Surrogate, Training
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.adversarial import ascend
from hf_unlearnable.evaluation.victims import split
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.training.batches import load as load_rows
from hf_unlearnable.training.inference import accuracy
from hf_unlearnable.training.run import TrainingRun
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
STEPS = 5  # of the attack within each step of the victim, each of two fifths of the radius
SHIFT = 0.1  # length of the victim's move along its gradient, for the difference
CLEAN_IMAGES = 96  # that this gradient is taken of


class Attacked(TrainingRun):
    """The training of a victim whose ``attacked`` rows (N,) somebody changes at every step."""

    attacked: np.ndarray

    def learn(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """One step on the images (B, C, H, W) as the victim sees them; the loss, whose gradients stay."""
        self._optimiser.zero_grad()
        loss = F.cross_entropy(self.network.train()(images)[0], labels)
        loss.backward()
        self._optimiser.step()
        self._schedule.step()
        return loss.item()


class Worst(Attacked):
    """The rows are perturbed anew at every step."""

    bounded = True
    epsilon: float

    def _step(self, rows: np.ndarray) -> float:
        pixels, labels = load_rows(self.images, rows, self.accelerator.device)
        pixels = random_crop_flip(pixels, self._generator)
        hit = torch.from_numpy(self.attacked[rows]).to(pixels.device)
        if hit.any():
            pixels[hit] = self.perturbed(pixels[hit], labels[hit])
        return self.learn(pixels, labels)

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
        self._moved = moved_both_ways(self.network, *load_rows(self.images, chosen, self.accelerator.device))

    def gain(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How much more the images blame the side that is better on clean ones."""
        worse, better = (F.cross_entropy(one(images)[0], labels, reduction="sum") for one in self._moved)
        return better - worse


class Exchanged(Worst):
    """The images change places among themselves: half of all labels are noise."""

    bounded = False

    def perturbed(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Others of the batch."""
        return images[torch.randperm(len(images), generator=self._generator).to(images.device)]


def moved_both_ways(network: Network, images: torch.Tensor, labels: torch.Tensor) -> tuple[Network, Network]:
    """Copies that are a little worse, and a little better, on these images."""
    weights = list(network.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(network(images)[0], labels), weights)
    length = torch.stack([slope.norm() for slope in slopes]).norm()
    moved = copy.deepcopy(network), copy.deepcopy(network)
    with torch.no_grad():
        for one, way in zip(moved, (1, -1), strict=True):
            for weight, slope in zip(one.parameters(), slopes, strict=True):
                weight += way * SHIFT / length * slope
    return moved


ATTACKS = {"worst": Worst, "opposing": Opposing, "exchanged": Exchanged}


def measure(attack: str, budget: Budget, name: str, images: int, epochs: int, seed: int) -> list[float]:
    """Clean test accuracy of one victim after every epoch."""
    data, test = (ImageSet.read(one, find_columns(one)) for one in load(name, images))
    training, accelerator = Training(epochs=epochs), Accelerator()
    steps = training.iterations(len(data))
    victim = Surrogate("small-resnet")
    run = ATTACKS[attack](victim, data, training, iterations=steps, seed=seed, accelerator=accelerator)
    run.attacked, run.epsilon = ~split(data.labels, 0.5, seed), budget.epsilon
    reached = []
    for _ in run:
        if run.done % max(1, steps // epochs) == 0:
            reached.append(round(accuracy(run.network, test, accelerator.device), 6))
    return reached


def run(experiment: Experiment, budget: Budget) -> None:
    """Train the victims that the file of the experiment does not have yet."""
    file = place(experiment)
    victims: list[dict[str, Any]] = ResultFile.read(file).figures["victims"] if file.exists() else []
    attack, name = experiment.recipe or "", experiment.dataset or ""
    for seed in experiment.seeds or ():
        if all(one["seed"] != seed for one in victims):
            reached = measure(attack, budget, name, experiment.images or 0, experiment.epochs or 0, seed)
            victims.append({"seed": seed, "reached": reached, "versions": versions()})
            ResultFile(experiment, {"victims": victims}).write()


def table(results: Sequence[ResultFile]) -> str:
    """What was measured, as Markdown."""
    head = ["attack", "budget", "set", "images", "epochs", "victims", "clean test accuracy, last epoch"]
    lines = []
    for one in results:
        about, reached = one.experiment, last(one)
        first = [about.recipe, about.budget or "none", about.dataset, about.images, about.epochs]
        lines.append([*first, len(reached), told(list(reached.values()))])
    return markdown(head, lines)


def last(result: ResultFile) -> dict[int, float]:
    """Clean test accuracy after the last epoch, by the victim's seed."""
    return {one["seed"]: one["reached"][-1] for one in result.figures["victims"]}


def main() -> None:
    parser = options(__doc__, epochs=15)
    parser.add_argument("--attack", choices=ATTACKS, action="append", help="default: all")
    parser.add_argument("--budget", default="16/255")
    parser.add_argument("--set", choices=ALL_SETS, default="fashion-mnist")
    parser.add_argument("--images", type=int, default=5000, help="training images of Fashion-MNIST")
    arguments = parse(parser)
    name, budget = TINY if arguments.tiny else arguments.set, Budget.parse(arguments.budget)
    about = Experiment(
        script=SCRIPT,
        dataset=name,
        images=size(name, arguments),
        ratios=(0.5,),
        epochs=arguments.epochs,
        victims=("small-resnet",),
        seeds=tuple(victim_seeds(arguments)),
        machine=machine(),
        command=command(),
    )
    for attack in (arguments.attack or ATTACKS) if not arguments.table else ():
        run(replace(about, recipe=attack, budget=str(budget) if ATTACKS[attack].bounded else None), budget)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
