from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import load_from_disk
from helpers.datasets import FASHION_MNIST, ROOT

from hf_unlearnable.data.fashion_mnist import CLASSES

EXAMPLES = ROOT / "examples"
NAMES = [name.replace("/", "-").replace(" ", "-") for name in CLASSES]  # as the callback logs them


def run(script, *arguments):
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_protect_and_measure():
    said = run("protect_and_measure.py", "--data", FASHION_MNIST, "--images", 60, "--epochs", 1)
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
    said = run("train_with_callbacks.py", few_images, "--output", tmp_path / "run", "--baseline", baseline, *settings)
    found = json.loads((tmp_path / "run" / "learnability.json").read_text())
    last = found["last"]
    assert last["protection_score"] == pytest.approx((0.8 - last["clean_accuracy"]) / (0.8 - found["chance"]))
    assert len(found["history"]) == 1  # ended by the other callback
    assert said.count("clean test accuracy") == 1


def test_train_with_callbacks_in_two_processes(few_images, tmp_path):
    """65 test rows over two processes: padding would count one twice."""
    # Without a GPU `accelerate launch` starts one process whatever --num_processes says, but for --multi_gpu.
    command = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    script = [str(EXAMPLES / "train_with_callbacks.py"), str(few_images), "--test", str(FASHION_MNIST)]
    options = ["--images", "65", "--epochs", "2", "--output", str(tmp_path), "--report-to", "tensorboard"]
    done = subprocess.run([sys.executable, *command, *script, *options], check=True, capture_output=True, text=True)
    assert done.stdout.count("clean test accuracy") == 2  # one of the processes speaks
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
