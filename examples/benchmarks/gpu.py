"""Everything that needs a GPU, in one command: the speed of fits and of the kernel of BEO, and the papers' experiments.

    python examples/benchmarks/gpu.py                              # an hour on a data-centre GPU, 50,000 images
    python examples/benchmarks/gpu.py --images 5000 --rows 10000   # minutes
    python examples/benchmarks/gpu.py --full                       # also full_size.py: far longer, see there
    python examples/benchmarks/gpu.py --table                      # only print what is there

With ``--full`` follow the experiments of the papers: all images of Fashion-MNIST and of the photo patches, ResNet-18 as
surrogate and as victim, the recipes of the authors and of this package. What is there already is not made again, so
that the same command goes on after a kill. No GPU was at hand yet: nothing of either is measured, and the times are
guesses.

As many made-up images of 32x32 as CIFAR-10 has for training. Every fit is a process of its own: the paper's recipe on a
ResNet-18, two of its 100 epochs, and the default recipe on its own surrogate; in float32 and bfloat16, with pixels and
perturbations on disk and on the device. Seconds are those of the whole call of ``fit``; the epochs that were left out
cost the same again each. The kernel is value and gradient of the Bayes error, beside the rate of a float32 matrix
product of the same shape on the same device. On a machine without a GPU it runs on the processor, for a look at
``--tiny``. The packages that this one requires must be there: a machine without a connection has to be given their
wheels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from common import TINY, command, kept, load, machine, options, parse
from datasets import ClassLabel, Dataset, Features, load_from_disk
from datasets import Image as ImageFeature
from PIL import Image
from result_files import Experiment, ResultFile, place, read_results
from tables import NONE, markdown

from hf_unlearnable import MIUE, Budget, Method
from hf_unlearnable.benchmark.metering import Meter
from hf_unlearnable.information import bayes_error
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
BUDGET = Budget(8)
MADE_UP = "made-up"  # 32x32 in colour, ten classes
RECIPES: dict[str, tuple[Method, str | None]] = {
    "MIUE.paper(), 2 epochs, ResNet-18": (MIUE.paper(epochs=2), "resnet-18"),
    "MIUE()": (MIUE(), None),
}
TINY_RECIPES: dict[str, tuple[Method, str | None]] = {
    "MIUE(epochs=1)": (MIUE(epochs=1, guides=1, guide_epochs=1), None)
}
PRECISIONS, CACHES, WIDTHS = ("no", "bf16"), ("disk", "device"), (64, 512)


def images(name: str, count: int) -> Dataset:
    """Random blocks of 8 pixels, kept once they were made."""
    if name == TINY:
        return load(TINY, count)[0]
    folder = kept(f"gpu-{count}")
    if not folder.exists():
        blocks = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        large = blocks.repeat(8, axis=1).repeat(8, axis=2)
        features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=10)})
        columns = {"image": list(map(Image.fromarray, large)), "label": [index % 10 for index in range(count)]}
        Dataset.from_dict(columns, features=features).save_to_disk(folder)
    return load_from_disk(str(folder))


def fit(name: str, count: int, recipe: str, precision: str, cache: Any) -> dict[str, Any]:
    """One fit, in this process: time and memory."""
    method, surrogate = (RECIPES | TINY_RECIPES)[recipe]
    data = images(name, count)
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        meter = Meter()
        method.fit(
            data,
            budget=BUDGET,
            surrogate=surrogate,
            accelerator=Accelerator(mixed_precision=precision),
            cache=cache,
            output_dir=f"{scratch}/out",
            progress=False,
        )
        read = meter.read()
    return {key: read[key] for key in ("seconds", "processor_seconds", "peak_memory", "device_memory")}


def seconds_of(work: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """The best of some, after one that is not counted."""
    best = float("inf")
    for number in range(times + 1):
        started = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.monotonic() - started) if number else best
    return best


def kernel(count: int, width: int, device: torch.device) -> dict[str, Any]:
    """Value and gradient of the Bayes error, and the rate of a matrix product of the same shape."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, width, generator=generator).to(device).requires_grad_()
    labels = torch.randint(0, 10, (count,), generator=generator).to(device)

    def gradient() -> None:
        torch.autograd.grad(bayes_error(rows, labels, sigma=float(width) ** 0.5), rows)

    meter = Meter()
    seconds = seconds_of(gradient, device)
    memory = meter.read()["device_memory"]
    block, every = rows.detach()[: max(1, (1 << 26) // count)], rows.detach().T
    rate = 2 * len(block) * count * width / seconds_of(lambda: block @ every, device)
    share = 6 * count**2 * width / seconds / rate
    return {"rows": count, "width": width, "seconds": seconds, "device_memory": memory, "share_of_matmul": share}


def table(results: Sequence[ResultFile]) -> str:
    """Fits, as Markdown."""
    lines = []
    for one in results:
        for each in one.figures["fits"]:
            memory = each["device_memory"]
            cells = [each["recipe"], one.experiment.images, each["precision"], each["cache"], f"{each['seconds']:.0f}"]
            lines.append([one.experiment.machine, *cells, NONE if memory is None else f"{memory / 2**20:.0f}"])
    return markdown(["machine", "fit", "images", "mixed precision", "cache", "seconds", "device memory, MiB"], lines)


def kernel_table(results: Sequence[ResultFile]) -> str:
    """The kernel, as Markdown."""
    lines = []
    for one in results:
        for each in one.figures["kernel"]:
            cells = [each["rows"], each["width"], f"{each['seconds']:.3f}", f"{100 * each['share_of_matmul']:.0f} %"]
            lines.append([one.experiment.machine, *cells])
    return markdown(["machine", "N", "D", "seconds", "share of the matrix product's rate"], lines)


def speed(arguments: argparse.Namespace) -> None:
    """Every fit, each in a process of its own, and the kernel; nothing where this machine has a file of them."""
    name, recipes = (TINY, TINY_RECIPES) if arguments.tiny else (MADE_UP, RECIPES)
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=arguments.images,
        method=MIUE.name,
        budget=str(BUDGET),
        machine=machine(),
        command=command(),
    )
    file = place(experiment)
    if file.exists() and ResultFile.read(file).experiment.machine == experiment.machine:
        return
    rows, widths = (64, (8,)) if arguments.tiny else (arguments.rows, WIDTHS)
    images(name, arguments.images)
    found = []
    for case in ((one, how, where) for one in recipes for how in PRECISIONS for where in CACHES):
        start = [sys.executable, __file__, "--one", name, str(arguments.images), *case]
        done = subprocess.run(start, check=True, stdout=subprocess.PIPE, text=True)
        told = dict(zip(("recipe", "precision", "cache"), case, strict=True))
        found.append({**told, **json.loads(done.stdout.splitlines()[-1])})
    device = Accelerator().device
    figures = {"fits": found, "kernel": [kernel(rows, width, device) for width in widths], "versions": versions()}
    ResultFile(experiment, figures).write()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=60_000, help="of the kernel")
    parser.add_argument("--full", action="store_true", help="also the experiments of the papers, full_size.py")
    parser.add_argument("--one", nargs=5, metavar=("SET", "IMAGES", "RECIPE", "PRECISION", "CACHE"), help="one fit")
    arguments = parse(parser)
    if arguments.one:
        name, count, *rest = arguments.one
        print(json.dumps(fit(name, int(count), *rest)))
        return
    if not arguments.table:
        speed(arguments)
    results = read_results(SCRIPT)
    print(table(results), kernel_table(results), sep="\n\n", flush=True)
    if arguments.full:
        print(flush=True)
        given = [f"--{name}" for name in ("tiny", "table") if getattr(arguments, name)]
        start = [sys.executable, str(Path(__file__).with_name("full_size.py")), "--threads", str(arguments.threads)]
        subprocess.run([*start, *given], check=True)


if __name__ == "__main__":
    main()
