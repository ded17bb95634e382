"""A comparison that takes seconds."""

from __future__ import annotations

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


def work(folder: Path, output: str, worker: int) -> None:
    """What a process does that does its share."""
    text = write_comparison(folder)
    run(Config.parse(text), folder / output, text=text, worker=worker, progress=False)
