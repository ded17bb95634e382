"""How long ``measure`` takes when victims are trained one after the other, or side by side in processes.

    python examples/benchmarks/measure_speed.py            # seven minutes of two idle cores
    python examples/benchmarks/measure_speed.py --table    # only print what is there

Four thousand photo patches are protected with ``texture``, which trains no network; then ``measure`` with the suite
``quick`` and one seed, ``--num-proc 1`` and as many processes as there are threads in turn, nothing of the round before
being kept. Here seconds that go by count, so the machine has to be idle.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from alternation import alternate
from common import ROOT, TINY, command, machine, options, parse, save_shuffled
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown

from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
SET, IMAGES, TEST_IMAGES = "photo-patches", 4000, 2000


def measure(name: str, images: int, test_images: int, rounds: int, epochs: int) -> dict[str, Any]:
    """Both ways in turn: medians of seconds that went by, and of processor time."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory(prefix="measure-speed-") as scratch:
        out = Path(scratch) / "out"
        data, test = save_shuffled(name, images, test_images, Path(scratch))

        def call(*words: object) -> None:
            typed = [sys.executable, "-m", "hf_unlearnable", *map(str, words)]
            subprocess.run(typed, env=environment, check=True, capture_output=True)

        def work(count: int) -> None:
            shutil.rmtree(RunFolder(out).victims, ignore_errors=True)  # else they are not trained again
            how = ["--suite", "quick", "--seeds", 1, "--epochs", epochs, "--num-proc", count]
            call("measure", out, "--test", test, *how)

        call("protect", data, "--output", out, "--method", "texture")
        counts = sorted({1, max(2, torch.get_num_threads())})
        return alternate({str(count): lambda count=count: work(count) for count in counts}, rounds)  # type: ignore[misc]


def table(results: Sequence[ResultFile]) -> str:
    """Seconds and ratios as Markdown."""
    lines = []
    for one in results:
        costs = one.figures["costs"]
        for count, cost in costs.items():
            ratios = [f"{cost[kind] / costs['1'][kind]:.2f}" for kind in ("wall", "processor")]
            lines.append(
                [count, f"{one.experiment.images}", f"{one.experiment.epochs}", f"{cost['wall']:.0f}", *ratios]
            )
    head = ["processes", "photo patches", "epochs", "time, s", "time, of one's", "processor time, of one's"]
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12, help="of the thieves")
    arguments = parse(parser)
    name, images, test_images = (TINY, 48, 12) if arguments.tiny else (SET, IMAGES, TEST_IMAGES)
    rounds, epochs = (1, 1) if arguments.tiny else (arguments.rounds, arguments.epochs)
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=images,
        method="texture",
        epochs=epochs,
        settings={"test_images": test_images, "rounds": rounds},
        machine=machine(),
        command=command(),
    )
    if not arguments.table and not place(experiment).exists():
        costs = measure(name, images, test_images, rounds, epochs)
        ResultFile(experiment, {"costs": costs, "versions": versions()}).write()
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
