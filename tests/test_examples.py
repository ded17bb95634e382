from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import FASHION_MNIST, ROOT
from datasets import load_from_disk
from PIL import Image

EXAMPLES = ROOT / "examples"


def run(script, *arguments):
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_protect_and_measure():
    said = run("protect_and_measure.py", "--data", FASHION_MNIST, "--images", 60, "--epochs", 1)
    assert said.count("60 images, 0 unchanged, 0 outside the budget linf:8") == 2
    assert said.count("protection score") == 2


def test_the_benchmark_prints_its_table():
    said = run("benchmarks/protection_strength.py", "--table")
    assert said.startswith("| set | images | recipe |")
    assert "| fashion-mnist | 3000 | mi-ue | linf:8 |" in said


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Ten noisy pictures under the names of the package's photographs."""
    sys.path.insert(0, str(EXAMPLES / "benchmarks"))
    import photo_patches

    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in photo_patches.PHOTOGRAPHS:
        small = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{name}.jpg")
    return folder


def test_photo_patches(photographs, tmp_path):
    out = tmp_path / "patches"
    run("benchmarks/photo_patches.py", "--photographs", photographs, "--output", out, "--train", 40, "--test", 20)
    data = load_from_disk(str(out))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 40, "test": 20}
    assert np.bincount(data["train"]["label"]).tolist() == [4] * 10
    assert data["train"][0]["image"].size == (32, 32)
    assert data["train"].features["label"].names[0] == "Aqua"


def test_missing_photographs_are_named(photographs, tmp_path):
    from photo_patches import photographs as load

    from hf_unlearnable import SourceError

    with pytest.raises(SourceError, match=r"lacks Aqua, .*mate-backgrounds"):
        load(tmp_path)
