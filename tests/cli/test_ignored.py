"""No option is ignored in silence, and what can be known before the images are looked at is told before that."""

from __future__ import annotations

import shutil
import sys

import pytest
from datasets import DatasetDict, concatenate_datasets, load_from_disk
from helpers.datasets import make_dataset

from hf_unlearnable import RecipeError, Texture, learnability, verify
from hf_unlearnable.cli.command import main
from hf_unlearnable.data.intake import Intake
from hf_unlearnable.data.sources import open_source
from hf_unlearnable.runs import RunFolder, audit, measure, protect


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line in this process: its exit status and its error."""

    def run(*words) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hf-unlearnable", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The same images as everything that has no configurations; and a run."""
    folder = tmp_path_factory.mktemp("home")
    data = make_dataset(24)
    for index, row in enumerate(data):
        (folder / "photos" / f"class {row['label']}").mkdir(parents=True, exist_ok=True)
        row["image"].save(folder / "photos" / f"class {row['label']}" / f"{index:02}.png")
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")
    data[0]["image"].save(folder / "one.png")
    data.save_to_disk(folder / "saved")
    DatasetDict(train=data, test=data).save_to_disk(folder / "both")
    data.to_parquet(folder / "table.parquet")
    (folder / "br[a]ckets").mkdir()
    data.to_parquet(folder / "br[a]ckets" / "train.parquet")
    protect(folder / "photos", folder / "out", method=Texture(), progress=False)
    return folder


def test_splits_of_what_is_in_memory_are_refused(home, tmp_path):
    """A dataset in memory is its own only split."""
    data, test = make_dataset(24), make_dataset(seed=1)
    for options in (
        {"test": test, "test_split": "nonsense"},
        {"test": test, "clean": data, "clean_split": "nonsense"},
        {"owner": True, "others": test, "others_split": "nonsense"},
        {"owner": True, "others": test, "others_test": test, "others_test_split": "nonsense"},
    ):
        with pytest.raises(RecipeError, match="_split='nonsense', which a dataset in memory does not have"):
            measure(home / "out", **options)
    with pytest.raises(RecipeError, match="split='nonsense', which a dataset in memory does not have"):
        protect(data, tmp_path / "out", method="texture", split="nonsense")
    with pytest.raises(RecipeError, match="num_proc=2, which a stream has no use for"):
        RunFolder(home / "out").protection.release(data.to_iterable_dataset(), num_proc=2)


def test_a_measurement_refuses_what_it_would_not_look_at():
    data = {"clean": make_dataset(), "test": make_dataset(seed=1)}
    with pytest.raises(RecipeError, match="others to test on and none to train on"):
        learnability(make_dataset(), **data, others_test=make_dataset(seed=2))
    with pytest.raises(RecipeError, match="sequential=True and no ratio between 0 and 1"):
        learnability(make_dataset(), **data, ratios=(0, 1), sequential=True)
    with pytest.raises(RecipeError, match="training='short'; expected a Training"):
        learnability(make_dataset(), **data, training="short")
    with pytest.raises(TypeError, match=r"learnability\(\) missing .*'test'"):
        learnability(make_dataset(), clean=make_dataset())


@pytest.mark.parametrize("source", ["photos", "photos.zip", "one.png", "saved", "both", "table.parquet", "br[a]ckets"])
def test_a_configuration_of_what_has_none_is_refused(home, source, tmp_path, command):
    with pytest.raises(RecipeError, match=r"got config='small', of which there are several in a dataset on the Hub"):
        open_source(str(home / source), "train", "small")
    status, said = command("protect", home / source, "--output", tmp_path / "out", "--subset", "small")
    assert status == 1
    assert "got --subset small, of which" in said


def test_a_configuration_of_what_is_in_memory_is_refused(tmp_path):
    for data in (make_dataset(), DatasetDict(train=make_dataset())):
        with pytest.raises(RecipeError, match=r"got config='small', which a dataset in memory does not have"):
            protect(data, tmp_path / "out", config="small", progress=False)


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "OUT", "--split", "test"],
        ["verify", "OUT", "--subset", "small"],
        ["verify", "OUT", "--revision", "main"],
        ["audit", "OUT", "--budget", "4/255"],
        ["audit", "OUT", "--image-column", "picture"],
        ["audit", "OUT", "--label-column", "name"],
        ["audit", "OUT/dataset", "--clean-split", "train"],
        ["report", "OUT", "--image-column", "picture"],
        ["report", "OUT", "--label-column", "name"],
        ["report", "OUT/dataset", "--clean-split", "train"],
        ["measure", "OUT", "--others-split", "train"],
        ["protect", "PHOTOS", "--output", "NEW", "--patience", "5"],
        ["protect", "PHOTOS", "--output", "NEW", "--attempts", "2"],
        ["protect", "PHOTOS", "--output", "NEW", "--others-split", "train"],
        ["protect", "PHOTOS", "--output", "NEW", "--keep-clean", "test"],
        ["protect", "saved", "--output", "NEW", "--class-depth", "1"],
    ],
    ids=" ".join,
)
def test_an_option_that_would_be_ignored_is_refused(home, words, tmp_path, command):
    places = {"PHOTOS": home / "photos", "saved": home / "saved", "NEW": tmp_path / "new"}
    places |= {"OUT": home / "out", "OUT/dataset": home / "out" / "dataset"}
    status, said = command(*(places.get(word, word) for word in words))
    assert status == 1, said
    assert "others" in said if words[-2] == "--others-split" else words[-2] in said
    assert not (tmp_path / "new").exists()


def test_what_is_said_twice_and_is_the_same_is_no_fault(home):
    audited = audit(home / "out", budget="8/255", image_column="image", label_column="label", progress=False)
    assert audited.images == verify(home / "out").images == 24


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--surrogate", "smal-resnet"], "got the model 'smal-resnet'; did you mean 'small-resnet'? Expected one of"),
        (["--method", "mi-ue", "--surrogate", "PHOTOS"], "a folder without an image classifier"),
        (
            ["--method", "texture", "--surrogate", "mlp"],
            "got --surrogate mlp for the method 'texture'",
        ),
        (["--method", "texture", "--others", "PHOTOS"], "got images of others for the method 'texture'"),
        (["--drop-column", "caption"], "got the columns caption to leave out"),
        (["--hold-out", "1.5"], "got --hold-out 1.5"),
        (["--label-column", "caption"], "caption"),
        (["--keep-clean", "test"], "--keep-clean test"),
    ],
)
def test_what_can_be_known_first_is_told_first(home, words, told, tmp_path, command, monkeypatch, hub):
    def too_late(*_, **__):
        raise AssertionError("the images were looked at")

    monkeypatch.setattr(Intake, "of", too_late)
    words = [home / "both" if word == "PHOTOS" else word for word in words]
    status, said = command("protect", home / "photos", "--output", tmp_path / "out", *words)
    hub.unknown.clear()  # it has no models
    assert status == 1
    assert told in said


def test_a_dry_run_tells_wrong_columns_too(home, command):
    status, said = command("protect", home / "photos", "--dry-run", "--drop-column", "caption")
    assert status == 1
    assert "got the columns caption to leave out" in said


@pytest.fixture(scope="module")
def two(home):
    """A dataset with two columns of images, and with two that may be labels."""
    data = make_dataset(24)
    small = data.map(lambda row: {"image": row["image"].resize((8, 8))}).rename_columns(
        {"image": "thumb", "label": "colour"}
    )
    concatenate_datasets([data, small.remove_columns("name")], axis=1).save_to_disk(home / "two")
    return home / "two"


@pytest.mark.parametrize(
    ("dropped", "told"),
    [
        ([], "got 2 columns of type Image: image, thumb; expected one"),
        (["nope"], "got the columns nope to leave out; expected some of name, image, label, thumb, colour"),
        (["thumb"], "got 2 columns of type ClassLabel: label, colour; expected one"),
        (["thumb", "image"], "got the columns thumb, image to leave out; expected some of name, label, colour"),
        (
            ["thumb", "label", "colour"],
            "got the columns label, colour to leave out; expected some of name, image, thumb",
        ),
        (["thumb", "colour"], ""),
    ],
)
def test_columns_are_looked_for_among_those_that_are_left(two, dropped, told, tmp_path, command):
    words = [word for column in dropped for word in ("--drop-column", column)]
    status, said = command("protect", two, "--method", "texture", "--output", tmp_path / "out", *words)
    assert (status, told in said) == (bool(told), True), said
    if "to leave out" in told:
        status, said = command("protect", two, "--dry-run", *words)
        assert (status, told in said) == (1, True), said
    if not told:
        assert load_from_disk(str(tmp_path / "out" / "dataset")).column_names == ["name", "image", "label"]
        assert command("verify", tmp_path / "out")[0] == 0


@pytest.mark.parametrize("ratios", ["2", "0,1.5", "-1", "nan", "half", ""])
def test_ratios_that_are_no_shares_are_told_before_anything_is_opened(home, ratios, command, monkeypatch):
    monkeypatch.setattr("hf_unlearnable.runs.measuring.open_sets", None)
    status, said = command("measure", home / "out", f"--ratios={ratios}")
    assert status == 1
    assert f"got --ratios {ratios}; expected shares of protected images from 0 to 1, such as 0,0.5,1" in said


def test_clean_refuses_a_folder_that_is_not_there(tmp_path, command):
    status, said = command("clean", tmp_path / "otu")
    assert status == 1
    assert "there is no folder" in said


def test_push_from_protect_waits_as_long_as_it_is_told(home, tmp_path, command, monkeypatch):
    """A Hub that accepts and does not answer."""
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        words = ["protect", home / "photos", "--output", tmp_path / "out", "--push", "me/boats", "--patience", 2]
        started = time.monotonic()
        status, said = command(*words)
    assert status == 1
    assert time.monotonic() - started < 20
    assert "push to me/boats" in said
