"""What might make the training of small networks faster on a CPU, each idea beside what the package does.

    python examples/benchmarks/speed_trials.py            # ten minutes on one core
    python examples/benchmarks/speed_trials.py --table    # only print what is there

Every trial is a few ways to do the same work, in turn, by the median of their processor time; the first way is that of
the package when it was tried. Work is optimiser steps of a victim on batches of 64 made-up images of 32x32 in colour,
their augmentation left out, or naming the classes of test images. *Same* says whether the weights at the end are those
of the first way to the bit. Threads that wait by spinning spoil those of two threads: ``OMP_WAIT_POLICY=passive``. What
was predicted, and what became of it, is in NOTES.md.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from alternation import alternate
from common import TINY, command, machine, options, parse
from result_files import Experiment, ResultFile, read_results
from tables import NONE, markdown
from torch.nn import functional as F

from hf_unlearnable import Surrogate
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.training.inference import classify
from hf_unlearnable.training.run import Training
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
SMALL, STRIDED = "small-resnet", "strided-resnet"
CLASSES, BATCH, TOGETHER = 10, 64, 3  # networks that are trained side by side
EVALUATED = (500, 50, 100, 250, 1000)  # images at once; the package's was the first, and is 250 since

Weights = dict[str, torch.Tensor]
Ways = dict[str, Callable[[], Any]]


def made_up_batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """As many batches: images (64, 3, 32, 32) in [0, 1] and labels (64,)."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.rand(BATCH, 3, 32, 32, generator=generator), torch.randint(0, CLASSES, (BATCH,), generator=generator))
        for _ in range(steps)
    ]


def new_network(name: str = SMALL, seed: int = 0) -> Network:
    """To be trained."""
    return Surrogate(name).build(CLASSES, 3, seed).train()


def new_optimiser(parameters: Any, **settings: Any) -> torch.optim.Optimizer:
    """The victims' SGD, with further settings."""
    used = Training()
    return torch.optim.SGD(
        parameters, used.learning_rate, used.momentum, weight_decay=used.weight_decay, nesterov=True, **settings
    )


def trained(
    network: Network,
    steps: int,
    *,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
    half: bool = False,
    **settings: Any,
) -> Weights:
    """Train a network; its weights.

    Args:
        network: from here on.
        steps: of the optimiser.
        forward: images to logits, of the same weights; the network's own when left out.
        half: autocast to bfloat16.
        settings: of SGD.
    """
    optimiser = new_optimiser(network.parameters(), **settings)
    for images, labels in made_up_batches(steps):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            logits = forward(images) if forward else network(images)[0]
        F.cross_entropy(logits.float(), labels).backward()
        optimiser.step()
    return network.state_dict()


def optimisers(steps: int) -> Ways:
    """One launch for every tensor, for all of a kind, or for all."""
    return {
        "SGD, tensor by tensor": lambda: trained(new_network(), steps),
        "SGD(foreach=True)": lambda: trained(new_network(), steps, foreach=True),
        "SGD(fused=True)": lambda: trained(new_network(), steps, fused=True),
    }


def precisions(steps: int, name: str) -> Ways:
    """Float32, and with bfloat16 where torch finds it safe."""
    return {
        f"{name}, float32": lambda: trained(new_network(name), steps),
        f"{name}, bfloat16 autocast": lambda: trained(new_network(name), steps, half=True),
    }


def compiled(steps: int, backend: str) -> tuple[Ways, dict[str, float]]:
    """Networks compiled by a backend of torch, and the seconds of processor time that it takes."""
    networks = {"compiled": new_network(), "compiled, bfloat16 autocast": new_network()}
    start = copy.deepcopy(networks["compiled"].state_dict())
    ways: Ways = {"as it is": lambda: trained(new_network(), steps)}
    costs = {}
    fresh = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="speed-trials-") as scratch, patch.dict(os.environ, fresh):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch
        for name, network in networks.items():
            body = torch.compile(network.model, backend=backend)

            def work(name: str = name, network: Network = network, body: Any = body, steps: int = steps) -> Weights:
                network.load_state_dict(start)
                return trained(
                    network,
                    steps,
                    forward=lambda images: body(pixel_values=(images - network.mean) / network.std).logits,
                    half="bfloat16" in name,
                )

            costs[name] = alternate({name: lambda work=work: work(steps=1)}, 1)[name]["processor"]  # type: ignore[misc]
            ways[name] = work
    return ways, costs


def side_by_side(steps: int) -> Ways:
    """Several victims one after the other, or all at once by ``torch.func.vmap``, which groups their convolutions."""

    def in_turn() -> Weights:
        each = [trained(new_network(seed=seed), steps) for seed in range(TOGETHER)]
        return {f"{number}.{name}": one for number, part in enumerate(each) for name, one in part.items()}

    def at_once() -> Weights:
        networks = [new_network(seed=seed) for seed in range(TOGETHER)]
        model = networks[0].model
        parameters, buffers = torch.func.stack_module_state([network.model for network in networks])
        optimiser = new_optimiser(parameters.values())

        def logits(parameters: Weights, buffers: Weights, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = torch.func.functional_call(model, (parameters, buffers), (images,)).logits
            return found

        for images, labels in made_up_batches(steps):
            optimiser.zero_grad()
            several = ((images - networks[0].mean) / networks[0].std).expand(TOGETHER, *images.shape)
            all_logits = torch.func.vmap(logits)(parameters, buffers, several)
            loss = F.cross_entropy(all_logits.flatten(0, 1), labels.repeat(TOGETHER))
            (loss * TOGETHER).backward()
            optimiser.step()
            for statistics in buffers.values():
                statistics.detach_()  # what vmap puts into them hangs on the networks
        return {
            f"{number}.model.{name}": stacked[number]
            for number in range(TOGETHER)
            for name, stacked in {**parameters, **buffers}.items()
        }

    return {f"{TOGETHER} victims in turn": in_turn, f"{TOGETHER} victims by vmap": at_once}


def evaluations(count: int) -> Ways:
    """Batches of several sizes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    images = ImageSet(pixels, np.zeros(count, dtype=np.int64), tuple(map(str, range(CLASSES))))
    network, device = new_network(), torch.device("cpu")

    def work(size: int) -> Weights:
        return {"named": torch.from_numpy(classify(network, images, device, size))}

    return {f"{size} images at once": lambda size=size: work(size) for size in EVALUATED}


def threads(steps: int, name: str) -> Ways:
    """One thread, and two that share every operation."""

    def work(count: int) -> Weights:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return trained(new_network(name), steps)
        finally:
            torch.set_num_threads(before)

    return {f"{name}, {count} thread(s)": lambda count=count: work(count) for count in (1, 2)}


def compared(ways: Ways, rounds: int) -> list[dict[str, Any]]:
    """The ways in turn: what each costs beside the first, in time and in weights."""
    # And whatever is loaded at the first call.
    found = {name: {key: one.detach().clone() for key, one in way().items()} for name, way in ways.items()}
    costs = alternate(ways, rounds)
    first = next(iter(ways))
    return [
        {
            "way": name,
            **costs[name],
            "same": all(torch.equal(found[first][key], found[name][key]) for key in found[first]),
        }
        for name in ways
    ]


def trials(steps: int, rounds: int, count: int, backend: str) -> dict[str, Any]:
    """All of them, by name."""
    compiled_ways, compiling = compiled(steps, backend)
    works = {
        "optimiser": optimisers(steps),
        **{f"precision of {name}": precisions(steps, name) for name in (SMALL, STRIDED)},
        "compiled": compiled_ways,
        "side by side": side_by_side(steps),
        "evaluation": evaluations(count),
        **{f"threads of {name}": threads(steps, name) for name in (SMALL, STRIDED)},
    }
    return {"trials": {name: compared(ways, rounds) for name, ways in works.items()}, "compiling": compiling}


def table(results: Sequence[ResultFile]) -> str:
    """What each way costs beside the first of its trial, as Markdown."""
    lines = []
    for one in results:
        for ways in one.figures["trials"].values():
            unit = ways[0]["processor"]
            for way in ways:
                compiling = one.figures["compiling"].get(way["way"])
                told = NONE if compiling is None else f"{compiling:.0f}"
                ratio = f"{way['processor'] / unit:.2f}"
                lines.append([way["way"], ratio, "yes" if way["same"] else "no", told])
    return markdown(["way", "processor time, of the first way's", "same", "compiling, s"], lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of every training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000, help="whose classes are named")
    arguments = parse(parser)
    if not arguments.table:
        steps, rounds, count = arguments.steps, arguments.rounds, arguments.images
        if arguments.tiny:
            steps, rounds, count = 1, 1, 48
        experiment = Experiment(
            script=SCRIPT,
            dataset=TINY if arguments.tiny else None,
            images=count,
            settings={"steps": steps, "rounds": rounds, "wait": os.environ.get("OMP_WAIT_POLICY", "")},
            machine=machine(),
            command=command(),
        )
        ResultFile(
            experiment,
            {**trials(steps, rounds, count, "eager" if arguments.tiny else "inductor"), "versions": versions()},
        ).write()
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
