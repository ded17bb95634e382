"""A comparison that takes seconds, and a module that runs it: alone, in two processes, killed again and again.

Started as a module it forks its children before anything is trained, so that torch is imported once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from helpers.datasets import make_dataset
from hf_unlearnable.benchmark.config import Config
from hf_unlearnable.benchmark.running import run

TEXT = """\
protocol: none
datasets:
  - {name: squares, source: TRAIN, test_source: TEST, test_split: train, epochs: 2}
methods: [texture]
thieves: ["small-resnet; sgd; none", "linear; adamw; none"]
ratios: [0, 0.5, 1]
fits: 1
seeds: 1
theory: false
"""


def write_comparison(folder: Path, text: str = TEXT) -> str:
    """Its data, on disk, and its configuration."""
    for name, seed in (("train", 0), ("test", 1)):
        if not (folder / name).exists():
            make_dataset(48, channels=3, seed=seed).save_to_disk(folder / name)
    return text.replace("TRAIN", str(folder / "train")).replace("TEST", str(folder / "test"))


def child(text: str, output: Path, worker: int = 0) -> int:
    """Start it in a process of its own."""
    if process := os.fork():
        return process
    try:
        run(Config.parse(text), output, text=text, worker=worker, progress=False)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(folder: Path, kills: int) -> None:
    text = write_comparison(folder)
    started = time.monotonic()
    assert ended(child(text, folder / "one")) == 0
    took = time.monotonic() - started
    assert [ended(each) for each in [child(text, folder / "two", worker) for worker in range(2)]] == [0, 0]
    rng, killed = random.Random(0), 0
    while killed < kills:
        process = child(text, folder / "killed")
        time.sleep(rng.uniform(0.05, 0.6) * took)
        if os.waitpid(process, os.WNOHANG)[0]:  # it had come to its end before
            for kind in ("cells", "sets"):  # so that there is something to do again
                for file in sorted((folder / "killed" / kind).glob("*.json"))[::2]:
                    file.unlink()
            continue
        os.kill(process, signal.SIGKILL)
        ended(process)
        killed += 1
    assert ended(child(text, folder / "killed")) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
