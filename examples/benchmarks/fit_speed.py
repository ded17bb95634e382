"""What a fit costs in plain training epochs of the same network, where its time goes, and what its losses cost.

    python examples/benchmarks/fit_speed.py --images 1000                      # a quarter of an hour on one core
    python examples/benchmarks/fit_speed.py --set photo-patches --images 4000  # the same
    python examples/benchmarks/fit_speed.py --table                            # only print what is there

The unit is one epoch of a plain loop over the same images on the same thread: batches of 64, crop and flip, forward and
backward pass of ``small-resnet``, SGD. Fits are whole calls of ``fit``, checkpoints and writing the protection among
them. The paper's recipe is measured beside one that is written here from its equations, without this package's losses:
``features[:, None] - features[None]`` for the distances, cosines likewise. All of them take turns in one process; what
is compared is processor time.

The losses alone: value and gradient for B = 512 rows of D = 512, and how far the resident size rises (Linux). The time
inside the default fit is that of a profiler, which makes Python itself a little slower.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternation import alternate
from bayes_error_speed import resident
from common import FASHION_MNIST, SETS, TINY, command, load, machine, options, parse
from datasets import Dataset
from result_files import Experiment, ResultFile, read_results
from tables import NONE, markdown
from torch.nn import functional as F

from hf_unlearnable import EM, MIUE, Budget, Method, Surrogate, Texture
from hf_unlearnable.information import contrastive_loss, distance_loss
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.training.batches import batches
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
BUDGET = Budget(8)
EPOCH, ZETA = "a plain training epoch", 0.1
SHORT = {"epochs": 2, "inner_steps": 5}  # of the paper's recipe beside the plain one
FITS: dict[str, Method] = {
    "`MIUE()`": MIUE(),
    "`EM()`": EM(),
    "`MIUE.paper(epochs=15, inner_steps=5)`": MIUE.paper(epochs=15, inner_steps=5),
    "`Texture()`": Texture(),
}
TINY_FITS: dict[str, Method] = {
    "`MIUE(epochs=1, guides=1)`": MIUE(epochs=1, guides=1, guide_epochs=1),
    "`Texture()`": Texture(),
}
PARTS = {  # of the default fit: functions by file and name; none of them calls another one of them
    "forward": [("models/surrogate.py", "forward")],
    "backward": [("autograd/graph.py", "_engine_run_backward")],
    "losses": [("mi_ue.py", "perturbation_loss"), ("nn/functional.py", "cross_entropy")],
    "augmentation": [("models/augmentation.py", "random_crop_flip")],
    "loading": [("training/batches.py", "load")],
    "sign and clip": [("budget.py", "direction"), ("budget.py", "project")],
    "optimiser": [("optim/sgd.py", "step"), ("optim/optimizer.py", "zero_grad")],
    "checkpoints": [("checkpoints.py", "tick")],
}


def plain_losses(features: torch.Tensor, labels: torch.Tensor, zeta: float) -> torch.Tensor:
    """The losses of MI-UE as their equations stand, with all pairs of rows (B, B, D) side by side."""
    same = labels[:, None] == labels[None]
    powers = (F.cosine_similarity(features[:, None], features[None], dim=2) / 0.1).exp()
    loss = -((powers * same).sum(dim=1) / powers.sum(dim=1)).log().mean()
    if zeta:
        apart = same & ~torch.eye(len(labels), dtype=torch.bool)
        squares = (features[:, None] - features[None]).square().sum(dim=2)
        distances = squares.where(apart, 1).sqrt() * apart
        loss = loss + zeta * (distances.sum(dim=1) / features.shape[1]).log1p().mean()
    return loss


def our_losses(features: torch.Tensor, labels: torch.Tensor, zeta: float) -> torch.Tensor:
    """The same by this package."""
    loss = contrastive_loss(features, labels)
    return loss + zeta * distance_loss(features, labels) if zeta else loss


def plain_epoch(images: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
    """What training costs that does nothing else."""
    network = Surrogate("small-resnet").build(classes, images.shape[1], 0).train()
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    for rows in batches(len(images), 64, np.random.default_rng(0)):
        optimiser.zero_grad()
        F.cross_entropy(network(random_crop_flip(images[rows], generator))[0], labels[rows]).backward()
        optimiser.step()


def plain_paper(images: torch.Tensor, labels: torch.Tensor, classes: int, zeta: float) -> torch.Tensor:
    """The paper's recipe from its equations: perturbations (N, C, H, W)."""
    epochs, inner_steps, rng = SHORT["epochs"], SHORT["inner_steps"], np.random.default_rng(0)
    network = Surrogate("small-resnet").build(classes, images.shape[1], 0)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs, eta_min=1e-6)
    perturbations = torch.zeros_like(images)

    def flipped(rows: np.ndarray) -> torch.Tensor:
        return torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, images[rows].flip(3), images[rows])

    for epoch in range(epochs):
        network.train()
        for rows in batches(len(images), 128, rng):
            optimiser.zero_grad()
            F.cross_entropy(network((flipped(rows) + perturbations[rows]).clamp(0, 1))[0], labels[rows]).backward()
            optimiser.step()
        network.eval()
        size = (0.2 + (4 / inner_steps - 0.2) * epoch / epochs) / 255
        for rows in batches(len(images), 512, rng):
            seen, moved = flipped(rows), perturbations[rows]
            for _ in range(inner_steps):
                moved = moved.detach().requires_grad_()
                loss = plain_losses(network(seen + moved)[1], labels[rows], zeta)
                step = size * torch.autograd.grad(loss, moved)[0].sign()
                clipped = (moved.detach() - step).clamp(-BUDGET.epsilon, BUDGET.epsilon)
                moved = (seen + clipped).clamp(0, 1) - seen
            perturbations[rows] = moved
        schedule.step()
    return perturbations


def fits(data: Dataset, methods: dict[str, Method], scratch: str, rounds: int) -> dict[str, Any]:
    """Whole fits beside a plain epoch, and the paper's recipe beside the plain one."""
    pixels = torch.from_numpy(np.stack([np.atleast_3d(image) for image in data.with_format("numpy")["image"]]))
    images, labels = pixels.permute(0, 3, 1, 2).float() / 255, torch.tensor(data["label"][:])
    classes, number = len(set(data["label"][:])), iter(range(10**6))

    def fit(method: Method) -> None:
        method.fit(data, budget=BUDGET, output_dir=f"{scratch}/{next(number)}", progress=False)

    works: dict[str, Callable[[], object]] = {EPOCH: lambda: plain_epoch(images, labels, classes)}
    for zeta in (0.0, ZETA):
        short = MIUE.paper(**SHORT, distance_weight=zeta)
        works[f"paper, ours, zeta={zeta}"] = lambda short=short: fit(short)
        works[f"paper, plain, zeta={zeta}"] = lambda zeta=zeta: plain_paper(images, labels, classes, zeta)
    works[EPOCH]()  # whatever is loaded and chosen at the first call
    found = alternate(works, rounds)
    return {**found, **alternate({name: lambda one=one: fit(one) for name, one in methods.items()}, 1)}


def losses(rows: int, rounds: int) -> dict[str, Any]:
    """Value and gradient of the two losses, ours and plain: time, and memory over what was there before."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, rows, generator=generator, requires_grad=True)
    labels = torch.randint(0, 10, (rows,), generator=generator)

    def work(loss: Callable[..., torch.Tensor]) -> float:
        Path("/proc/self/clear_refs").write_text("5")
        base = resident("VmRSS")
        torch.autograd.grad(loss(features, labels, ZETA), features)
        return resident("VmHWM") - base

    ways = {"ours": our_losses, "plain": plain_losses}
    memory = {name: work(loss) for name, loss in ways.items()}
    costs = alternate({name: lambda loss=loss: work(loss) for name, loss in ways.items()}, rounds)
    return {name: {**costs[name], "MiB_over_base": memory[name]} for name in ways} | {"rows": rows}


def profile(data: Dataset, method: Method, scratch: str) -> dict[str, float]:
    """The shares of a fit's processor time that each of ``PARTS`` takes, and the rest."""
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(method.fit, data, budget=BUDGET, output_dir=f"{scratch}/profiled", progress=False)
    stats: Any = pstats.Stats(profiler)
    shares = {
        part: sum(
            cumulative
            for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()
            for of_file, of_name in functions
            if name == of_name and file.endswith(of_file)
        )
        / stats.total_tt
        for part, functions in PARTS.items()
    }
    return {**shares, "rest": 1 - sum(shares.values())}


def epochs_of(result: ResultFile, fit: str) -> float:
    """What one of ``FITS`` costs in plain training epochs."""
    costs = result.figures["fits"]
    return float(costs[fit]["processor"] / costs[EPOCH]["processor"])


def recipe_ratio(result: ResultFile, zeta: float) -> float:
    """How many times the plain way of the paper's recipe takes what ours does."""
    plain, ours = (result.figures["fits"][f"paper, {who}, zeta={zeta}"]["processor"] for who in ("plain", "ours"))
    return float(plain / ours)


def losses_ratio(result: ResultFile) -> float:
    """The same of the losses alone."""
    alone = result.figures["losses"]
    return float(alone["plain"]["processor"] / alone["ours"]["processor"])


def table(results: Sequence[ResultFile]) -> str:
    """What fits cost in plain epochs, as Markdown."""
    lines = [
        [one.experiment.dataset, one.experiment.images, name, f"{epochs_of(one, name):.1f}"]
        for one in results
        for name in one.figures["fits"]
        if name.startswith("`")
    ]
    return markdown(["set", "images", "fit", "plain training epochs"], lines)


def paper_table(results: Sequence[ResultFile]) -> str:
    """The paper's recipe and its losses: how many times the plain way costs what ours does, as Markdown."""
    lines = []
    for one in results:
        for zeta in (0.0, ZETA):
            what = f"{one.experiment.dataset}: the whole recipe, zeta = {zeta}"
            lines.append([what, f"{recipe_ratio(one, zeta):.1f}", NONE])
        alone = one.figures["losses"]
        what, memory = f"both losses, B = D = {alone['rows']}", f"{alone['plain']['MiB_over_base']:.0f}"
        lines.append([what, f"{losses_ratio(one):.0f}", memory])
    return markdown(["what", "time, plain / ours", "memory of the plain way, MiB"], lines)


def profile_table(results: Sequence[ResultFile]) -> str:
    """Where the time of the default fit goes, as Markdown."""
    return markdown(
        ["set", *PARTS, "rest"],
        [
            [one.experiment.dataset, *(f"{100 * share:.0f} %" for share in one.figures["profile"].values())]
            for one in results
        ],
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--set", choices=SETS, default=FASHION_MNIST)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parse(parser)
    if not arguments.table:
        name, methods = (TINY, TINY_FITS) if arguments.tiny else (arguments.set, FITS)
        rounds, rows = (1, 32) if arguments.tiny else (arguments.rounds, 512)
        data = load(name, arguments.images)[0].select(range(arguments.images))
        with tempfile.TemporaryDirectory(prefix="fit-speed-") as scratch:
            figures = {
                "fits": fits(data, methods, scratch, rounds),
                "losses": losses(rows, 2 * rounds + 1),
                "profile": profile(data, next(iter(methods.values())), scratch),
                "versions": versions(),
            }
        experiment = Experiment(
            script=SCRIPT,
            dataset=name,
            images=arguments.images,
            budget=str(BUDGET),
            settings={"rounds": rounds},
            machine=machine(),
            command=command(),
        )
        ResultFile(experiment, figures).write()
    results = read_results(SCRIPT)
    print(table(results), paper_table(results), profile_table(results), sep="\n\n")


if __name__ == "__main__":
    main()
