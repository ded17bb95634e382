"""Where the processor time of ``verify``, ``push`` and ``measure`` goes.

    python examples/benchmarks/run_speed.py            # five minutes on one core
    python examples/benchmarks/run_speed.py --table    # only print what is there

A thousand photo patches of 32x32, and two hundred of 224x224, are protected with ``texture``, which trains no network;
then ``verify``, ``push`` to a Hub on 127.0.0.1 (the tests') and ``measure`` with the suite ``quick``, one seed and few
epochs, each a process of its own, in turn. Their stacks are looked at every 5 ms (``sampled.py``): a moment belongs to
the part whose function is the innermost of those known, so that parts do not overlap.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import ROOT, TINY, command, machine, options, parse, save_shuffled
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown

from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.version import versions

sys.path.append(str(ROOT / "tests"))
from helpers.loopback_hub import USER, WRITE_TOKEN, LoopbackHub

SCRIPT = Path(__file__).stem
SETS = {"photo-patches": (1000, 300), "photo-patches-224": (200, 60)}  # images for training and for testing
TINY_SETS = {TINY: (48, 12)}
COMMANDS = ("verify", "push", "measure")
START, REST = "start of Python", "rest"
LEAST = 0.02  # of the whole, to be named
# By the end of a file's name (or a folder in it) and the function, or any; in a stack the innermost one counts.
PARTS = {
    "reading PNG": [("PIL/ImageFile.py", "load"), ("PIL/Image.py", "open"), ("PIL/Image.py", "tobytes")],
    "writing PNG": [("PIL/Image.py", "save")],
    "resizing": [("PIL/Image.py", "resize"), ("data/pixels.py", "resize")],
    "digests": [("data/pixels.py", "digest"), ("hf_unlearnable/files.py", "file_digest"), ("utils/sha.py", "")],
    "near copies": [("protection/near_copies.py", "")],
    "colour difference": [("protection/visibility.py", "")],
    "comparison": [("protection/verification.py", ""), ("hf_unlearnable/budget.py", "")],
    "HTML, cards, pages": [
        ("site-packages/jinja2/", ""),
        ("hf_unlearnable/reports/", ""),
        ("site-packages/matplotlib/", ""),
    ],
    "datasets and Arrow": [("site-packages/datasets/", ""), ("site-packages/pyarrow/", "")],
    "HTTP": [(f"site-packages/{package}/", "") for package in ("httpx", "httpcore", "h11", "huggingface_hub", "anyio")],
    "forward": [("models/surrogate.py", "forward")],
    "backward": [("autograd/graph.py", "_engine_run_backward")],
    "augmentation": [("models/augmentation.py", "")],
    "loading": [("training/batches.py", "")],
    "optimiser": [("torch/optim/", "")],
    "random features": [("models/classical.py", "")],
    "JPEG of a thief": [("defences/compression.py", "")],
}
# These count wherever they stand in a stack, before the others.
WHOLE = {
    "imports": [("<frozen importlib._bootstrap>", "_find_and_load")],
    "testing": [("training/inference.py", "classify")],
    "random features": [("models/classical.py", "learn")],
}


@functools.cache
def _part(frame: str, whole: bool) -> str | None:
    file, _, function = frame.rpartition(":")
    for part, places in (WHOLE if whole else PARTS).items():
        for name, of in places:
            if (of in ("", function)) and (name in file if name.endswith("/") else file.endswith(name)):
                return part
    return None


def part_of(stack: str) -> str:
    """To which part a stack of ``sampled.py`` belongs."""
    if stack == START:
        return START
    frames = stack.splitlines()
    found = [part for frame in frames if (part := _part(frame, True))]
    found += [part for frame in reversed(frames) if (part := _part(frame, False))]
    return found[0] if found else REST


class Run:
    """A protected set, its test images, and the Hub that it is pushed to."""

    def __init__(self, name: str, images: int, test_images: int, folder: Path) -> None:
        self.folder, self.output, self.hub = folder, folder / "out", LoopbackHub().start()
        data, self.test = save_shuffled(name, images, test_images, folder)
        self.sampled("protect", str(data), "--output", str(self.output), "--method", "texture")

    def sampled(self, *words: str) -> Counter[str]:
        """Run a command; its seconds of processor time by part."""
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.hub.url,
            "HF_TOKEN": WRITE_TOKEN,
            "HF_HOME": str(self.folder / "hf-home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        for name in ("HF_HUB_OFFLINE", "PYTHONDONTWRITEBYTECODE"):
            environment.pop(name, None)
        file = self.folder / "samples.json"
        start = [sys.executable, str(Path(__file__).with_name("sampled.py")), str(file), *words]
        subprocess.run(start, env=environment, check=True, capture_output=True)
        seconds: Counter[str] = Counter()
        for stack, spent in json.loads(file.read_text()).items():
            seconds[part_of(stack)] += spent
        return seconds

    def words(self, command: str, number: int, epochs: int) -> list[str]:
        """Of a command, in the round ``number``."""
        out = str(self.output)
        if command == "measure":
            shutil.rmtree(RunFolder(self.output).victims, ignore_errors=True)  # else they are not trained again
            how = ["--suite", "quick", "--seeds", "1", "--epochs", str(epochs)]
            return [command, out, "--test", str(self.test), *how]
        return [command, out] if command == "verify" else [command, out, f"{USER}/round-{number}"]


def measure(name: str, images: int, test_images: int, rounds: int, epochs: int) -> dict[str, Any]:
    """All commands in turn: medians of their seconds, and of those of every part."""
    with tempfile.TemporaryDirectory(prefix="run-speed-") as scratch:
        run = Run(name, images, test_images, Path(scratch))
        found: dict[str, list[Counter[str]]] = {one: [] for one in COMMANDS}
        for number in range(rounds):
            for one in COMMANDS:
                found[one].append(run.sampled(*run.words(one, number, epochs)))
    return {
        one: {
            "processor": statistics.median(each.total() for each in every),
            "parts": {
                part: statistics.median(each[part] for each in every)
                for part in sorted({part for each in every for part in each})
            },
        }
        for one, every in found.items()
    }


def table(results: Sequence[ResultFile]) -> str:
    """Seconds, and the parts that are most of them, as Markdown."""
    lines = []
    for one in results:
        for name, found in one.figures["commands"].items():
            whole = sum(found["parts"].values())
            parts = sorted(found["parts"].items(), key=lambda item: -item[1])
            told = ", ".join(f"{part} {100 * spent / whole:.0f} %" for part, spent in parts if spent / whole >= LEAST)
            where = f"{one.experiment.images}, {one.experiment.dataset}"
            lines.append([f"`{name}`", where, f"{found['processor']:.1f}", told])
    return markdown(["command", "images", "processor time, s", "of it"], lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3, help="of the thieves")
    arguments = parse(parser)
    rounds, epochs = (1, 1) if arguments.tiny else (arguments.rounds, arguments.epochs)
    for name, (images, test_images) in (TINY_SETS if arguments.tiny else SETS).items():
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
            figures = measure(name, images, test_images, rounds, epochs)
            ResultFile(experiment, {"commands": figures, "versions": versions()}).write()
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
