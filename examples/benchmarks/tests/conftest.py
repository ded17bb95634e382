"""Set-up of the benchmarks' own tests: nothing reaches the results and the data that count."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # a core for each worker

BENCHMARKS = Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "ideas"), str(Path(__file__).parent)]

import datasets
import pytest

datasets.disable_progress_bars()


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A folder in place of results/ and data/."""
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path))
    monkeypatch.setenv("BENCHMARK_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def small():
    """Made-up images that are fitted in seconds."""
    from common import made_up

    return made_up(48, seed=0)
