from __future__ import annotations

import gzip

import numpy as np
import pytest

from hf_unlearnable import SourceError
from hf_unlearnable.data import fashion_mnist


def test_the_real_set(fashion):
    assert {split: len(rows) for split, rows in fashion.items()} == {"train": 60000, "test": 10000}
    assert np.bincount(fashion["test"]["label"]).tolist() == [1000] * 10
    row = fashion["train"][0]
    assert row["image"].size == (28, 28)
    assert row["image"].mode == "L"
    assert fashion["train"].features["label"].int2str(row["label"]) == "Ankle boot"


def test_idx_files_are_read(tmp_path):
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    header = bytes([0, 0, 8, 3]) + np.array([2, 3, 4], dtype=">i4").tobytes()
    (tmp_path / "images.gz").write_bytes(gzip.compress(header + images.tobytes()))
    assert np.array_equal(fashion_mnist._idx(tmp_path / "images.gz", dimensions=3), images)


def test_both_sources_are_named_when_neither_answers(tmp_path, monkeypatch):
    """No network (the tests are offline) and a machine without apt."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "nothing")
    with pytest.raises(
        SourceError, match=r"neither from the Hub \(zalando-datasets/.*nor from Debian .*apt-get install"
    ):
        fashion_mnist.fashion_mnist(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
