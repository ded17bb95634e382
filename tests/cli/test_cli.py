from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import time
import warnings

import numpy as np
import pytest
from datasets import DatasetDict, load_from_disk
from helpers.datasets import make_dataset, pixels_of
from helpers.forked import command, start
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import Protection, RecipeError
from hf_unlearnable.cli.command import app, main

QUICK = ["--epochs", "1"]


@pytest.fixture
def run(monkeypatch, capsys):
    """The command as a user starts it, and all that it says: in this process, since torch is imported here already."""

    def run(*arguments, ok=True):
        monkeypatch.setattr(sys, "argv", ["hf-unlearnable", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as end:
                main()
        said = capsys.readouterr()
        assert (not end.value.code) == ok, said.out + said.err
        assert "Traceback" not in said.err, said.err
        return said.out + said.err

    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A DatasetDict on disk, a parquet file and an image folder with the same images."""
    folder = tmp_path_factory.mktemp("source")
    train, test = make_dataset(), make_dataset(30, seed=1)
    DatasetDict({"train": train, "test": test}).save_to_disk(folder / "disk")
    train.to_parquet(folder / "train.parquet")
    for name, split in (("train", train), ("test", test)):
        for index, row in enumerate(split):
            target = folder / "images" / name / f"class {row['label']}"
            target.mkdir(parents=True, exist_ok=True)
            row["image"].save(target / f"{index:03}.png")
    return folder


@pytest.mark.parametrize("kind", ["disk", "train.parquet", "images"])
@pytest.mark.parametrize("method", ["mi-ue", "em"])
def test_protect(source, tmp_path, kind, method):
    arguments = [
        "protect",
        source / kind,
        "--method",
        method,
        "--budget",
        "8/255",
        "--output",
        tmp_path / "out",
        *QUICK,
    ]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "48 images, 0 unchanged, 0 outside the budget linf:8" in result.output
    protected = load_from_disk(str(tmp_path / "out" / "dataset"))
    assert len(protected) == 48
    protection = Protection.from_pretrained(tmp_path / "out" / "private" / "protection")
    assert protection.about["method"]["name"] == method
    assert np.abs(pixels_of(protected).astype(int) - pixels_of(_original(source, kind))).max() <= 8
    published = [path.name for path in (tmp_path / "out" / "dataset").rglob("*")]
    assert not any("perturbation" in name or "protection" in name for name in published)
    assert list((tmp_path / "out").glob("**/map*.arrow")) == []


def test_several_processes_write_the_same_bytes(source, tmp_path):
    for name, extra in (("one", []), ("two", ["--num-proc", "2"])):
        arguments = ["protect", str(source / "disk"), "--output", str(tmp_path / name), *QUICK, *extra]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    one, two = (load_from_disk(str(tmp_path / name / "dataset")) for name in ("one", "two"))
    assert np.array_equal(pixels_of(one), pixels_of(two))
    assert list(tmp_path.glob("**/map*.arrow")) == []


def test_a_single_split_is_never_taken_for_the_test_set(source, tmp_path):
    from hf_unlearnable import DataError
    from hf_unlearnable.data.sources import load_source

    assert (
        len(load_source(str(source / "train.parquet"))) == len(load_source(str(source / "train.parquet"), None)) == 48
    )
    with pytest.raises(DataError, match=r"'test' of .*; expected one of train"):
        load_source(str(source / "train.parquet"), "test")
    with pytest.raises(DataError, match=r"no split of .*; expected one of train, test"):
        load_source(str(source / "disk"), None)


def _original(source, kind):
    from hf_unlearnable.data.sources import load_source

    return load_source(str(source / kind))


def test_protect_then_measure(source, tmp_path, run, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.chdir(source)
        said = run("protect", "disk", "--output", out, *QUICK)  # a relative path: measure must find it again
    assert f"measure {out}" in said
    one = ["--victim", "small-resnet", "--seeds", "1", "--epochs", "1"]
    said = CliRunner().invoke(app, ["measure", str(out), *one]).output
    assert "Up to 4 trainings of fresh models, for 1 kind of thief" in said
    assert "cannot be measured: too few images" in said  # one epoch on so few is luck
    assert said.rstrip().splitlines()[-1].startswith(("Verdict: ", "No verdict: "))
    report = json.loads((out / "report" / "learnability.json").read_text())
    assert {one["victim"] for one in report["summary"]} == {"small-resnet"}
    for name, wide in (("images.png", 3), ("accuracy.png", 2)):
        with Image.open(out / "report" / name) as picture:
            assert picture.width > 100 * wide
            assert len(picture.convert("L").getcolors()) > 10
    said = CliRunner().invoke(app, ["measure", str(out), "--seeds", "1", "--epochs", "1", "--ratios", "0,1"]).output
    assert "Up to 14 trainings of fresh models, for 7 kinds of thief" in said  # the quick suite
    assert json.loads((out / "report" / "learnability.json").read_text())["suite"] == "quick"
    assert "small-resnet, class-clusters:1 " in said  # MIUE.adaptive
    assert "the best of 7 thieves" in said.rstrip().splitlines()[-1]
    said = CliRunner().invoke(app, ["measure", str(out), "--suite", "quick", "--training", "short"])
    assert isinstance(said.exception, RecipeError)


def test_measure_of_sets_made_elsewhere(source, tmp_path, run):
    train = load_from_disk(str(source / "disk"))["train"]
    other_tool = train.map(lambda row: {"image": row["image"].point(lambda level: min(255, level + 8))})
    other_tool.save_to_disk(tmp_path / "theirs")
    said = run("measure", tmp_path / "theirs", ok=False)
    assert "--clean" in said
    other_tool.to_parquet(tmp_path / "theirs.parquet")
    for theirs in ("theirs", "theirs.parquet"):
        arguments = ["measure", tmp_path / theirs, "--clean", source / "disk", "--seeds", 1, "--epochs", 1]
        arguments += ["--victim", "small-resnet"]
        said = CliRunner().invoke(app, [str(argument) for argument in arguments]).output
        assert "cannot be measured: too few images" in said
        assert (tmp_path / f"{theirs}-report" / "learnability.json").exists()


def test_sets_in_memory_are_not_named_in_a_command(tmp_path):
    from hf_unlearnable.cli.measure import _report_command
    from hf_unlearnable.runs import RunFolder

    run = RunFolder(tmp_path)
    named = {"clean": make_dataset(), "clean_split": None, "test": make_dataset(), "test_split": None}
    assert _report_command(run, named, None, None) == f"hf-unlearnable report {tmp_path}"
    named |= {"clean": "photos of me", "clean_split": "train"}
    assert _report_command(run, named, None, None).endswith(" --clean 'photos of me' --clean-split train")


def test_the_image_grid_shows_the_perturbation(small, protection, tmp_path):
    from hf_unlearnable.reports.images import image_grid

    image_grid(small, small.map(protection), tmp_path / "protected.png")
    image_grid(small, small, tmp_path / "clean.png")
    assert (tmp_path / "protected.png").read_bytes() != (tmp_path / "clean.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["protect", "nowhere/at/all", "--output", "OUT"], "where there is nothing"),
        (["protect", "./nowhere", "--output", "OUT"], "where there is nothing"),
        (["protect", "nobody/nothing", "--output", "OUT"], "could be loaded from the Hub"),
        (["protect", "SOURCE/disk", "--split", "every", "--output", "OUT"], "expected one of train, test"),
        (["protect", "SOURCE/disk", "--method", "magic", "--output", "OUT"], "ar, auto, beo, cuda, em, lsp, mi-ue"),
        (["protect", "SOURCE/disk", "--budget", "0", "--output", "OUT"], "at least 1"),
        (["protect", "SOURCE/disk", "--budget", "256", "--output", "OUT"], "at most 255"),
        (["protect", "SOURCE/disk", "--budget", "lots", "--output", "OUT"], "'l2:255' or '8/255:adaptive'"),
        (["protect", "SOURCE/disk", "--label-column", "name", "--output", "OUT"], "single image: row 0"),
        (
            ["protect", "SOURCE/disk", "--surrogate", "nobody/nothing", "--output", "OUT"],
            "expected one of small-resnet",
        ),
        (["protect", "SOURCE/disk", "--output", "SOURCE"], "neither to lie in the other"),
        (["protect", "SOURCE/disk", "--output", "OCCUPIED"], "exists already"),
        (["protect", "SOURCE/disk", "--output", "/proc/nowhere/out"], "/proc/nowhere"),
        (["protect", "README", "--output", "OUT"], "expected a picture, a parquet file"),
        (["protect", "EMPTY", "--output", "OUT"], "no image that can be read"),
        (["measure", "nowhere"], "expected the folder that hf-unlearnable protect"),
    ],
)
def test_errors_are_one_message_and_leave_nothing(source, tmp_path, arguments, message, run):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    names = {
        "OUT": tmp_path / "out",
        "README": tmp_path / "notes.txt",
        "EMPTY": tmp_path / "empty",
        "OCCUPIED": tmp_path,
    }
    words = [str(names.get(word, word)).replace("SOURCE", str(source)) for word in arguments]
    said = run(*words, ok=False)
    assert message in said
    assert "Error: " in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "notes.txt"]


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("protect", "; the output was not made"),
        ("measure", "; what is finished of the measurement is kept"),
        ("report", ""),
    ],
)
def test_a_full_disk_says_what_is_left(command, left, monkeypatch, capsys):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hf_unlearnable.cli.command.app", full)
    monkeypatch.setattr(sys, "argv", ["hf-unlearnable", command, "photos"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert f"No space left on device{left}" in said
    assert ("was not made" in said) == (command == "protect")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_kill_end_cleanly(source, tmp_path, sent):
    said, output = tmp_path / "said", tmp_path / "scratch" / "out"
    output.parent.mkdir()
    process = start(command, "protect", source / "disk", "--epochs", 100000, "--output", output, said=said)
    while not (said.exists() and "mi-ue" in said.read_text()):  # the bar of the optimisation
        assert process.is_alive(), said.read_text()
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, sent)
    process.join(300)
    assert process.exitcode == 130
    rest = said.read_text()
    assert "Stopped; the output was not made" in rest
    assert "Traceback" not in rest
    assert list(output.parent.iterdir()) == []


def test_env_names_the_versions():
    said = CliRunner().invoke(app, ["env"]).output
    for name in ("hf-unlearnable", "torch", "transformers", "datasets", "gpu", "mi-ue"):
        assert name in said


def test_measure_keeps_out_of_the_folder_of_another_tool(source, tmp_path, run):
    """Pictures of clean images among somebody's images would be measured the next time, and published."""
    shutil.copytree(source / "images" / "train", tmp_path / "theirs")
    words = ["measure", tmp_path / "theirs", "--clean", source / "images", "--epochs", "1", "--seeds", "1"]
    words += ["--victim", "small-resnet"]
    before = sorted((tmp_path / "theirs").rglob("*"))
    said = run(*words, "--ratios", "0,1")
    assert "\nWarning: the protected images are identical to the clean ones" in "\n" + said.replace("\r", "\n")
    for again in ([*words, "--ratios", "0,1"], ["report", tmp_path / "theirs", "--clean", source / "images"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = CliRunner().invoke(app, [str(word) for word in again])
        assert done.exit_code == 0, done.output
        assert "theirs-report" in done.output
    assert sorted((tmp_path / "theirs").rglob("*")) == before
    assert (tmp_path / "theirs-report" / "learnability.json").exists()
