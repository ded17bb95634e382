from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import load_from_disk
from helpers.datasets import FASHION_MNIST, ROOT
from helpers.forked import script, start, together

from hf_unlearnable.data.fashion_mnist import CLASSES

EXAMPLES = ROOT / "examples"
NAMES = [name.replace("/", "-").replace(" ", "-") for name in CLASSES]  # as the callback logs them


def run(folder, name, *arguments):
    """What an example says."""
    process = start(script, EXAMPLES / name, *arguments, said=folder / "said")
    process.join()
    said = (folder / "said").read_text()
    assert process.exitcode == 0, said
    return said


def test_protect_and_measure(tmp_path):
    said = run(tmp_path, "protect_and_measure.py", "--data", FASHION_MNIST, "--images", 60, "--epochs", 1)
    assert said.count("60 images, 0 unchanged, 0 outside the budget linf:8") == 2
    assert said.count("cannot be measured: too few images") == 2


@pytest.fixture(scope="module")
def few_images(tmp_path_factory):
    """A folder with a few real images, as `hf-unlearnable protect` leaves one."""
    folder = tmp_path_factory.mktemp("few") / "dataset"
    load_from_disk(str(FASHION_MNIST))["train"].select(range(65)).save_to_disk(str(folder))
    return folder


def test_train_with_callbacks(few_images, tmp_path):
    baseline = tmp_path / "clean.json"
    baseline.write_text(json.dumps({"last": {"clean_accuracy": 0.8}}))
    settings = ("--test", FASHION_MNIST, "--images", 65, "--epochs", 2, "--model", "vit", "--stop-above", 0)
    words = ("--output", tmp_path / "run", "--baseline", baseline)
    said = run(tmp_path, "train_with_callbacks.py", few_images, *words, *settings)
    found = json.loads((tmp_path / "run" / "learnability.json").read_text())
    last = found["last"]
    assert last["protection_score"] == pytest.approx((0.8 - last["clean_accuracy"]) / (0.8 - found["chance"]))
    assert len(found["history"]) == 1  # ended by the other callback
    assert said.count("clean test accuracy") == 1


def test_train_with_callbacks_in_two_processes(few_images, tmp_path):
    """65 test rows over two processes: padding would count one twice."""
    options = ["--images", 65, "--epochs", 2, "--output", tmp_path, "--report-to", "tensorboard"]
    example = EXAMPLES / "train_with_callbacks.py"
    said = together(2, tmp_path, script, example, few_images, "--test", FASHION_MNIST, *options)
    assert said.count("clean test accuracy") == 2  # one of the processes speaks
    found = json.loads((tmp_path / "learnability.json").read_text())
    assert [one["step"] for one in found["history"]] == [2, 4]  # 65 images in batches of 32: 3 steps in one process
    assert found["test_images"] == 65
    labels = load_from_disk(str(FASHION_MNIST))["test"][:65]["label"]
    shares = np.bincount(labels, minlength=10) / 65
    for one in found["history"]:
        for accuracy in (one["clean_accuracy"], one["train_accuracy"]):
            assert 65 * accuracy == pytest.approx(round(65 * accuracy))
        weighted = sum(share * one["class_accuracy"].get(name, 0) for share, name in zip(shares, NAMES, strict=True))
        assert weighted == pytest.approx(one["clean_accuracy"])
    assert found["chance"] == pytest.approx(max(shares))
    assert list((tmp_path / "runs").glob("*/learnability/events*"))
