"""What the Bayes error and its gradient cost: time, memory, share of the processor's rate, and what sampling loses.

    python examples/benchmarks/bayes_error_speed.py            # everything (a quarter of an hour on one thread)
    python examples/benchmarks/bayes_error_speed.py --table    # only print what is there

Beside ours: plain autograd on an N x N kernel matrix, and the authors' ``bayeslap`` where it is installed
(``pip install --no-deps bayeslap tqdm``), with the allocator's defaults and with one that keeps what was freed
(MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_). Every case runs in a process of its own on one thread, the best of
three; the rate of the processor is that of a float32 matrix product of the same shape, measured in that process. Memory
is the highest resident size while it runs over that just before (Linux).

The features are Fashion-MNIST's images on their first D principal components, as many rows as asked for.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from common import FASHION_MNIST, TINY, command, kept, load, machine, options, parse
from result_files import Experiment, ResultFile, read_results
from tables import NONE, markdown

from hf_unlearnable.information.posterior import bandwidth, bayes_error
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
OURS, AUTOGRAD, AUTHORS = "ours", "autograd", "bayeslap"
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
CASES = [  # who, N, D, whether the allocator keeps what was freed
    *((OURS, n, 64, False) for n in (1250, 2500, 5000, 10_000, 20_000, 60_000)),
    (OURS, 5000, 64, True),
    *((OURS, n, 512, False) for n in (2500, 5000)),
    *((AUTOGRAD, 5000, d, keeps) for d in (64, 512) for keeps in (False, True)),
    *((AUTHORS, n, 64, keeps) for n in (1250, 2500, 5000) for keeps in (False, True)),
    (AUTHORS, 2500, 512, False),
]
SAMPLES = (60_000, 30_000, 10_000, 3_000, 1_000)  # voters for as many rows as the first has
TINY_CASES, TINY_SAMPLES = [(OURS, 100, 8, False), (AUTOGRAD, 100, 8, True)], (100, 50)


def features(name: str, rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Principal components (rows, width) of the training images, and their labels; made-up ones for ``TINY``."""
    if name == TINY:
        labels = torch.arange(rows) % 3
        return torch.randn(rows, width, generator=torch.Generator().manual_seed(0)) + 0.2 * labels[:, None], labels
    file = kept(f"{FASHION_MNIST}-features.npy")
    if not file.exists():
        train = load(FASHION_MNIST, 60_000)[0].with_format("numpy")
        pixels = torch.from_numpy(np.concatenate([part["image"] for part in train.iter(1000)])).flatten(1) / 255
        pixels = pixels - pixels.mean(dim=0)
        axes = torch.linalg.eigh(pixels.T @ pixels)[1].flip(1)[:, :512]
        labels = torch.tensor(train["label"][:])
        np.save(file, torch.cat([pixels @ axes, labels[:, None]], dim=1).numpy())
    stored = torch.from_numpy(np.load(file, mmap_mode="r")[:rows].copy())
    return stored[:, :width].clone(), stored[:, -1].long()


def autograd(rows: torch.Tensor, labels: torch.Tensor, sigma: float) -> torch.Tensor:
    """The definition, as one writes it down."""
    logits = -torch.cdist(rows, rows).square() / (2 * sigma**2)
    weights = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool), -torch.inf).softmax(dim=1)
    posterior = weights @ torch.nn.functional.one_hot(labels).float()
    return (1 - posterior.max(dim=1).values).mean()


def implementation(who: str, sigma: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Value of features and labels, differentiable."""
    if who == OURS:
        return lambda rows, labels: bayes_error(rows, labels, sigma=sigma)
    if who == AUTOGRAD:
        return lambda rows, labels: autograd(rows, labels, sigma)
    from bayeslap import BayesErrorRBF

    return lambda rows, labels: BayesErrorRBF.apply(rows, labels, sigma, 10)  # type: ignore[no-any-return]


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of processor time."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def resident(what: str) -> float:
    """MiB: ``VmRSS`` now, ``VmHWM`` at most."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def one(name: str, who: str, count: int, width: int) -> dict[str, float]:
    """Measure one case in this process."""
    torch.set_num_threads(1)
    rows, labels = features(name, count, width)
    sigma = bandwidth(rows, labels)
    value = implementation(who, sigma)
    value(rows[:50].clone().requires_grad_(), labels[:50]).backward()  # whatever is loaded at the first call
    rows.requires_grad_()

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    base = resident("VmRSS")

    values: list[float] = []

    def once() -> None:
        rows.grad = None
        result = value(rows, labels)
        result.backward()
        values.append(float(result.detach()))

    seconds = best(once, 1)
    peak = resident("VmHWM")
    if seconds < 20:
        seconds = min(seconds, best(once, 2))
    block = rows.detach()[: max(1, (1 << 20) // count)]
    product = best(lambda: block @ rows.detach().T, 5)
    rate = 2 * len(block) * count * width / product
    assert rows.grad is not None
    return {
        "seconds": seconds,
        "MiB_over_base": peak - base,
        "value": values[0],
        "gradient_norm": float(rows.grad.norm()),
        "sigma": sigma,
        "share_of_sgemm": 6 * count**2 * width / seconds / rate,
    }


def sampling(name: str, samples: Sequence[int]) -> list[dict[str, float]]:
    """How far all rows are misjudged when only some vote: the value, and the direction of its gradient."""
    torch.set_num_threads(1)
    rows, labels = features(name, samples[0], 64)
    sigma = bandwidth(rows, labels)
    exact, found = None, []
    for voters in samples:
        rows.grad = None
        rows.requires_grad_()
        chosen = torch.linspace(0, len(rows) - 1, voters).round().long()
        places = torch.full((len(rows),), -1).scatter(0, chosen, torch.arange(voters))
        reference = (rows.detach()[chosen], labels[chosen])
        started = time.process_time()
        value = bayes_error(rows, labels, sigma=sigma, objective="log-label", reference=reference, self_index=places)
        value.backward()
        seconds = time.process_time() - started
        assert rows.grad is not None
        gradient = rows.grad.clone()
        if exact is None:
            exact = (float(value.detach()), gradient)
        cosine = torch.nn.functional.cosine_similarity(gradient, exact[1], dim=1)
        found.append(
            {
                "voters": voters,
                "seconds": seconds,
                "value": float(value.detach()),
                "relative_error": abs(float(value.detach()) / exact[0] - 1),
                "median_cosine_of_gradients": float(cosine.median()),
                "cosine_of_whole_gradients": float(
                    torch.nn.functional.cosine_similarity(gradient.flatten(), exact[1].flatten(), dim=0)
                ),
            }
        )
    return found


def measure(name: str, cases: Sequence[tuple[str, int, int, bool]], samples: Sequence[int]) -> None:
    """All cases, each in a process of its own; one result file."""
    features(name, 1, 1)
    found = []
    for who, count, width, keeps in cases:
        if who == AUTHORS and importlib.util.find_spec("bayeslap") is None:
            continue
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(KEEPING if keeps else {})}
        start = [sys.executable, __file__, "--one", name, who, str(count), str(width)]
        done = subprocess.run(start, env=environment, check=True, capture_output=True, text=True)
        case = {"who": who, "rows": count, "width": width, "allocator_keeps": keeps}
        found.append({**case, **json.loads(done.stdout.splitlines()[-1])})
        print(found[-1], flush=True)
    figures = {"cases": found, "sampling": sampling(name, samples), "versions": versions()}
    experiment = Experiment(script=SCRIPT, dataset=name, machine=machine(), command=command())
    ResultFile(experiment, figures).write()


def table(result: ResultFile) -> str:
    """What is there, as Markdown."""
    cases = result.figures["cases"]
    ours = {(case["rows"], case["width"]): case["seconds"] for case in cases if case["who"] == OURS}
    head = ["N", "D", "who", "allocator", "seconds", "times ours", "MiB over base", "share of sgemm", "value"]
    lines = []
    for case in sorted(cases, key=lambda case: (case["width"], case["rows"], case["seconds"])):
        ratio = case["seconds"] / ours.get((case["rows"], case["width"]), math.nan)
        cells = [case["rows"], case["width"], case["who"], "keeps" if case["allocator_keeps"] else "default"]
        cells += [f"{case['seconds']:.3f}", NONE if math.isnan(ratio) else f"{ratio:.1f}"]
        cells += [f"{case['MiB_over_base']:.0f}", f"{100 * case['share_of_sgemm']:.0f} %", f"{case['value']:.6f}"]
        lines.append(cells)
    return markdown(head, lines)


def sampling_table(result: ResultFile) -> str:
    """What a sample of the voters loses, as Markdown."""
    samples = result.figures["sampling"]
    head = [f"voters for {samples[0]['voters']:,} rows", "seconds", "-log p_y", "relative error"]
    lines = []
    for case in samples:
        cells = [f"{case['voters']:,}", f"{case['seconds']:.0f}", f"{case['value']:.5f}"]
        cells += [f"{100 * case['relative_error']:.2f} %"]
        cells += [f"{case[name]:.4f}" for name in ("median_cosine_of_gradients", "cosine_of_whole_gradients")]
        lines.append(cells)
    return markdown([*head, "gradients' cosine, median row", "all"], lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--one", nargs=4, metavar=("SET", "WHO", "N", "D"), help="measure one case and print it as JSON"
    )
    arguments = parse(parser)
    if arguments.one:
        name, who, count, width = arguments.one
        print(json.dumps(one(name, who, int(count), int(width))))
        return
    if not arguments.table:
        tiny = (TINY, TINY_CASES, TINY_SAMPLES)
        measure(*(tiny if arguments.tiny else (FASHION_MNIST, CASES, SAMPLES)))
    for result in read_results(SCRIPT):
        print(table(result), sampling_table(result), sep="\n\n")


if __name__ == "__main__":
    main()
