"""A small dataset that is a part of the protocol while a test runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.comparisons import write_comparison

from hf_unlearnable.benchmark import Config, run
from hf_unlearnable.benchmark.datasets import pinned_sets
from hf_unlearnable.benchmark.protocol import DATASETS, THIEVES, Data

FROZEN = """\
protocol: v1
datasets: [squares]
methods: [texture]
seeds: 2
theory: false
"""


def add_squares(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the protocol have a dataset and thieves that take no time."""
    data = Data(
        name="squares",
        source=str(folder / "train"),
        test_source=str(folder / "test"),
        test_split="train",
        epochs=2,
        thieves="tiny",
    )
    patch.setitem(THIEVES, "tiny", (("small-resnet", "sgd", "none"), ("linear", "adamw", "none")))
    patch.setitem(DATASETS, "squares", pinned_sets(data).data)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a comparison under the protocol."""
    folder = tmp_path_factory.mktemp("frozen")
    write_comparison(folder)
    with pytest.MonkeyPatch.context() as patch:
        add_squares(patch, folder)
        run(Config.parse(FROZEN), folder / "run", text=FROZEN, progress=False)
    return folder / "run"


@pytest.fixture
def frozen(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, while the protocol has its dataset."""
    add_squares(monkeypatch, finished.parent)
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
