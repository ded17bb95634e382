from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from datasets import load_from_disk
from helpers.datasets import COLUMNS, FASHION_MNIST, ROOT
from PIL import Image

from hf_unlearnable import Budget, RecipeError, Report, Surrogate
from hf_unlearnable.data.fashion_mnist import CLASSES
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.evaluation.report import CLEAN, PROTECTED, Result, case_of
from hf_unlearnable.training.batches import load

EXAMPLES = ROOT / "examples"
NAMES = [name.replace("/", "-").replace(" ", "-") for name in CLASSES]  # as the callback logs them


def run(script, *arguments):
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_protect_and_measure():
    said = run("protect_and_measure.py", "--data", FASHION_MNIST, "--images", 60, "--epochs", 1)
    assert said.count("60 images, 0 unchanged, 0 outside the budget linf:8") == 2
    assert said.count("protection score") == 2


@pytest.mark.parametrize(
    ("benchmark", "line"),
    [
        ("protection_strength", "| fashion-mnist | 3000 | mi-ue | linf:8 |"),
        ("protection_strength", "| fashion-mnist | 5000 | linf:16 | mi-ue | 15 |"),
        ("protection_strength", "| photo-patches | 4000 | linf:8 | stages | 12 |"),
        ("protection_strength", "| 60.2 ± 4.1 | -4.4 ± 4.5 | - | - |"),
        ("mixture_limit", "| worst | linf:16 | fashion-mnist | 5000 | 15 | 3 |"),
        ("mixture_limit", "| exchanged | none | photo-patches | 4000 | 12 | 3 |"),
        ("other_networks", "| small-resnet | large-stem | crop and flip | 3 |"),
        ("larger_images", "| photo-patches | 4000 | 4x |"),
        ("crafted_after_fit", "| fashion-mnist | 3000 | second half, crafted |"),
        ("bayes_error_speed", "| 5000 | 64 | ours |"),
        ("feature_information", "| mi-ue |"),
        ("kill_and_resume", "| protect | 20.7 | 20 | 20 | nothing |"),
        ("scale", "| 100000 | 32 | map |"),
        ("processes", "| 3000 | 2 |"),
        ("countermeasures", "| jpeg:10 | "),
    ],
)
def test_benchmarks_print_what_is_there(benchmark, line, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    monkeypatch.setattr(sys, "argv", [benchmark, "--table"])
    importlib.import_module(benchmark).main()
    said = capsys.readouterr().out
    assert line in said
    for table in said.strip().split("\n\n"):
        assert len({row.count("|") for row in table.splitlines()}) == 1


def test_every_idea_against_mixtures_climbs_within_the_budget(small, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    from mixture_ideas import IDEAS

    fast = {
        "steps": 2,
        "resnets": (1, 2),
        "vggs": (1,),
        "rounds": 3,
        "thief_epochs": 1,
        "thieves": 2,
        "kinds": ("small-vgg",),
    }
    for name, idea in IDEAS.items():
        changes = {field: value for field, value in fast.items() if hasattr(idea, field)}
        protection = replace(idea, **changes).fit(small, budget=Budget(8), progress=False)
        assert protection.about["verification"]["violations"] == 0, name
        assert protection.about["verification"]["unchanged"] == 0, name


def test_ideas_climb_what_they_say(small, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    from mixture_ideas import Ascent, wrong

    network = Surrogate("small-resnet").build(3, 1, seed=1).eval().requires_grad_(False)

    def loss_after(steps):
        class OfOne(Ascent):
            name = "of-one"

            def run(self, task):
                self.begin(task)
                self.climb(task, [partial(wrong, network)], steps)

        protected = ImageSet.read(small.map(OfOne().fit(small, budget=Budget(8), progress=False)), COLUMNS)
        rows = np.arange(len(protected))
        return float(wrong(network, *load(protected, rows, torch.device("cpu")), rows))

    losses = [loss_after(steps) for steps in (0, 5, 20)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] > losses[0] + 0.1


def test_countermeasures_measured_later_join_those_that_are_there(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    from countermeasures import joined

    def report(figures, **changes):
        cells = [(defence, case, value) for defence, values in figures.items() for case, value in values.items()]
        results = tuple(
            Result("small-resnet", case, case_of(case).ratio, defence, 101, (value,)) for defence, case, value in cells
        )
        given = {"chance": 0.1, "images": 3000, "test_images": 3000, "iterations": 552, "training": {"epochs": 12}}
        return Report(results=results, versions={}, **{**given, **changes})

    before = report({"none": {CLEAN: 0.8, PROTECTED: 0.3}, "noise:8": {CLEAN: 0.78, PROTECTED: 0.25}})
    found = report({"none": {CLEAN: 0.8, PROTECTED: 0.3}, "jpeg:10": {CLEAN: 0.7, PROTECTED: 0.4}})
    both = joined(before, found)
    assert both.defences == ["none", "jpeg:10", "noise:8"]
    assert both.doubts == ()
    assert both.accuracy(PROTECTED, defence="jpeg:10") == 0.4

    other = report({"none": {CLEAN: 0.8, PROTECTED: 0.35}, "noise:8": {CLEAN: 0, PROTECTED: 0}, "blur": {CLEAN: 0.7}})
    both = joined(before, other)
    assert both.accuracy(PROTECTED, defence="none") == 0.3
    assert both.accuracy(PROTECTED, defence="noise:8") == 0.25
    assert len(both.doubts) == 1
    assert both.doubts[0].startswith("blur: measured on another fit")
    assert "35.0 %" in both.doubts[0]
    with pytest.raises(RecipeError, match="got iterations of 552 in the file and 100 now"):
        joined(before, report({"none": {CLEAN: 0.8}}, iterations=100))


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
