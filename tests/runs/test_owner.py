"""One owner's folder from one end to the other: protected, measured among others, published, and added to later."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from helpers.datasets import make_dataset
from huggingface_hub import hf_hub_download
from PIL import Image, ImageOps
from typer.testing import CliRunner

from hf_unlearnable import EM, DataError, DataWarning, OutputError, RecipeError, Training, push, verify
from hf_unlearnable.cli import app
from hf_unlearnable.data import sources
from hf_unlearnable.data.neutral import neutral_pictures
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.methods import Method
from hf_unlearnable.methods.auto import Auto, Judge
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import RunFolder, measure, measuring, protect, protect_like
from hf_unlearnable.runs.inputs import Inputs

QUICK = {"victims": "random-features", "training": Training(epochs=1, batch_size=16), "seeds": (1,), "progress": False}


def run(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A flat folder of an owner's pictures, in colour and of several sizes."""
    folder = tmp_path_factory.mktemp("artist") / "pictures"
    folder.mkdir()
    for index, row in enumerate(make_dataset(20, channels=3, side=24, seed=7)):
        ImageOps.invert(row["image"]).resize((24 + index, 24)).save(folder / f"picture {index:02}.png")
    return folder


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    told = run("protect", folder, "--output", out).output
    assert "Protecting 20 images with texture" in told
    assert "20 pictures of one owner are few" in told.replace("\n", " ")
    assert "Labels: none. All images are taken as one owner's." in told
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    place = tmp_path_factory.mktemp("others") / "disk"
    make_dataset(45, channels=3, side=24, seed=8).save_to_disk(place)
    return place


def test_a_flat_folder_is_one_owners(out):
    described = RunFolder(out).description
    assert (described.method_name, described.labels, described.columns.label) == ("texture", "none", None)
    assert described.verification.violations == described.verification.unchanged == 0
    assert described.patterns is not None


def test_a_folder_of_one_class_is_one_owners_too(tmp_path):
    data = make_dataset(12, channels=3).filter(lambda one: one == 1, input_columns="label")
    made = protect(data, tmp_path / "out", progress=False)
    assert made.folder.description.method_name == "texture"
    assert made.dataset["label"] == [1] * 4


@pytest.mark.parametrize("labels", [[], ["--labels", "none"]])
def test_a_method_that_tells_classes_apart_refuses_one_owner_before_it_looks_and_says_what_it_takes(
    folder, labels, tmp_path
):
    done = run("protect", folder, "--method", "mi-ue", *labels, "--output", tmp_path / "x", code=1)
    assert isinstance(done.exception, DataError)
    for way in ("--others DATASET", "--labels clusters:10", "the method texture"):
        assert way in str(done.exception)
    assert "Found:" not in done.output
    with pytest.raises(DataError, match="others=DATASET"):
        protect(folder, tmp_path / "x", method="mi-ue", progress=False)


@pytest.fixture
def nest(folder, tmp_path):
    """An owner's folders, with a picture beside them."""
    files = sorted(folder.iterdir())
    for place, part in (("2024/march", files[:6]), ("2025", files[6:11]), (".", files[11:12])):
        (tmp_path / "nest" / place).mkdir(parents=True, exist_ok=True)
        for file in part:
            shutil.copy(file, tmp_path / "nest" / place)
    return tmp_path / "nest"


def test_pictures_beside_folders_belong_where_folders_are_no_classes(nest, tmp_path):
    dry = run("protect", nest, "--labels", "none", "--dry-run").output
    told = run("protect", nest, "--labels", "none", "--output", tmp_path / "x").output
    for said in (dry, told):
        assert "Found: 12 images" in said
        assert "No classes: all images belong, whatever folder they lie in." in said
        assert "Classes:" not in said
    files = {str(file.relative_to(tmp_path / "x" / "images")) for file in (tmp_path / "x" / "images").rglob("*.png")}
    assert {"picture 11.png", "2025/picture 06.png", "2024/march/picture 00.png"} <= files
    assert len(files) == 12
    assert verify(tmp_path / "x").images == 12  # opens the originals again
    made = protect(nest, tmp_path / "y", labels="none", progress=False)
    assert len(made.dataset) == 12
    refused = run("protect", nest, "--output", tmp_path / "z", code=1)  # here folders are classes
    assert "or take all images as one owner's: --labels none" in str(refused.exception)


def test_like_takes_pictures_beside_folders(out, nest, tmp_path):
    run("protect", nest, "--like", out, "--output", tmp_path / "x")  # warnings are errors
    assert len(list((tmp_path / "x").rglob("*.png"))) == 12


def test_one_picture_is_spoken_of_as_one(folder, tmp_path):
    told = run("protect", folder / "picture 03.png", "--output", tmp_path / "x").output.replace("\n", " ")
    for said in ("Found: 1 image in", "A single picture gets the same", "Protecting 1 image with", "disk: 1 image, 0"):
        assert said in told
    assert "What it does cannot be measured: a model does not learn fewer than 10 images of one owner." in told
    again = run("protect", folder / "picture 03.png", "--output", tmp_path / "x", code=1)
    assert "name another one, or replace it: --overwrite" in str(again.exception)
    shutil.rmtree(tmp_path / "x" / "private" / "protection")
    broken = run("verify", tmp_path / "x", code=1)
    assert "without private/protection/; expected" in str(broken.exception)


def test_like_stops_where_something_would_be_left_out_in_silence(out, folder, tmp_path):
    later = tmp_path / "later"
    later.mkdir()
    shutil.copy(folder / "picture 03.png", later)
    (later / "poster.svg").write_text("<svg/>")
    (later / "notes.txt").write_text("no picture")
    (later / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    refused = run("protect", later, "--like", out, "--output", tmp_path / "x", code=1)
    for said in ("1 file in", "poster.svg", "--leave-out", "1 of 2 images", "broken.jpg", "--skip-unreadable"):
        assert said in str(refused.exception)
    (later / "broken.jpg").unlink()
    run("protect", later, "--like", out, "--output", tmp_path / "x", "--leave-out")
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["picture 03.png"]


def test_folders_stay_a_column_where_all_pictures_lie_in_them(nest, tmp_path):
    (nest / "picture 11.png").unlink()
    made = protect(nest, tmp_path / "x", labels="none", progress=False)
    assert made.dataset.features["label"].names == ["2024/march", "2025"]
    assert made.intake.classes == {}


def test_measure_among_others_and_show_it(out, others, hub, name):
    words = ("measure", out, "--owner", "--others", others, "--victim", "knn", "--seeds", "1", "--epochs", "1")
    told = run(*words).output
    assert "Recall of the owner's clean images in %" in told
    assert "16 images of the owner among 36 clean ones of 3 other class(es); tested on 4 clean" in told
    assert "owner left out" in told
    stored = json.loads((out / "report" / "learnability.json").read_text())
    assert stored["owner"] == {"owner": 16, "owner test": 4, "classes": 3, "others": 36, "others test": 9}
    for public in (False, True):
        page = write_report(out, public=public)[0].read_text()
        assert "clean pictures of the owner are recognised" in page
        assert "Every set has 36 clean images of others in 3 classes" in page
        assert "Recall of the owner&#39;s clean images" in page
        assert "taken as one owner's" in page
    push(out, name)
    card = Path(hf_hub_download(name, "README.md", repo_type="dataset")).read_text()
    assert "| images | 20, all of one owner |" in card
    assert "These images were one class among 36 clean ones of others (3 classes)" in card
    assert "The other classes on 9 clean images:" in card
    assert verify(out, name).violations == 0


def test_the_held_out_pictures_are_no_training_images(out, others, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        measuring, "learnability", lambda protected, **options: seen.update(options, protected=protected) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        measure(out, owner=True, others=str(others), **QUICK)
    train, test = ([np.asarray(image).tobytes() for image in seen[part]["image"]] for part in ("clean", "test"))
    assert (len(train), len(test), len(seen["protected"])) == (16, 4, 16)
    assert not set(train) & set(test)


def test_without_others_generated_ones_stand_in_and_it_is_said(out, monkeypatch):
    monkeypatch.setattr(measuring, "neutral_pictures", lambda: neutral_pictures(40, 24))
    with pytest.warns(UserWarning, match="measured among generated ones"):
        report = measure(out, owner=True, **QUICK)
    assert any("measured among generated ones" in doubt for doubt in report.doubts)
    assert report.owner["classes"] == 4


def test_what_does_not_go_together_is_refused(out, others):
    with pytest.raises(RecipeError, match="got images of others without owner=True"):
        measure(out, others=str(others), **QUICK)
    with pytest.raises(RecipeError, match="a split or a test set of others and no others"):
        measure(out, owner=True, others_test_split="test", **QUICK)


def test_pictures_that_came_later(out, folder, tmp_path):
    rng = np.random.default_rng(0)
    later = tmp_path / "later"
    later.mkdir()
    for place, mode in (("new.png", "RGB"), ("grey.png", "L"), ("cut.webp", "RGBA")):
        pixels = rng.integers(30, 220, (40, 50, 4), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(later / place, lossless=True)
    told = run("protect", later / "new.png", "--like", out, "--output", tmp_path / "one").output
    assert "1 image, 0 unchanged, 0 outside the budget linf:8" in told.replace("\n", " ")
    assert [file.name for file in (tmp_path / "one").iterdir()] == ["new.png"]
    figures = protect_like(out, later, tmp_path / "all")
    assert (figures.images, figures.unchanged, figures.violations) == (3, 0, 0)
    files = sorted(str(file.relative_to(tmp_path / "all")) for file in (tmp_path / "all").rglob("*.png"))
    assert files == ["cut.png", "grey.png", "new.png"]
    with Image.open(tmp_path / "all" / "cut.png") as cut:
        assert cut.mode == "RGBA"
    assert (tmp_path / "one" / "new.png").read_bytes() == (tmp_path / "all" / "new.png").read_bytes()


def test_a_picture_of_the_run_gets_its_own_perturbation_again(out, folder, tmp_path):
    protect_like(out, folder / "picture 03.png", tmp_path / "again")
    with Image.open(tmp_path / "again" / "picture 03.png") as file:
        again = np.asarray(file)
    released = RunFolder(out).dataset
    assert any(np.array_equal(again, np.asarray(image)) for image in released["image"])


def test_like_says_what_is_wrong(out, folder, tmp_path):
    told = run("protect", folder, "--like", out, "--output", tmp_path / "x", "--seed", "3", code=1)
    assert "got --seed with --like" in str(told.exception)
    (tmp_path / "options.yaml").write_text("budget: 2/255")
    options = ("--config", tmp_path / "options.yaml")
    told = run("protect", folder, "--like", out, "--output", tmp_path / "x", *options, code=1)
    assert "got --budget with --like" in str(told.exception)
    told = run("protect", folder, "--like", out, "--dry-run", code=1)
    assert "got --dry-run with --like" in str(told.exception)
    with pytest.raises(OutputError):
        protect_like(out, folder / "picture 03.png", out)
    plain = protect(make_dataset(12, channels=3), tmp_path / "plain", method="texture", progress=False)
    with pytest.raises(RecipeError, match="keeps nothing for images that it has not seen"):
        protect_like(plain, folder, tmp_path / "x")
    classes = protect(
        make_dataset(12, channels=3), tmp_path / "classes", method="texture", on_unseen="craft", progress=False
    )
    with pytest.raises(DataError, match="without the column 'label', by which the run tells its classes apart"):
        protect_like(classes, folder, tmp_path / "x")
    rows = make_dataset(6, channels=3, seed=1).to_list()
    rows[1]["label"], rows[4]["label"] = None, -1
    some = Dataset.from_list(rows, features=make_dataset(1).features)
    with pytest.raises(DataError, match=r"2 of 6 pictures .*: row 1 \(None\), row 4 \(-1\); expected 0 to 2"):
        protect_like(classes, some, tmp_path / "x")
    features = Features({**some.features, "label": ClassLabel(names=["class 2", "class 7"])})
    some = Dataset.from_list([{**row, "label": number % 2} for number, row in enumerate(rows)], features=features)
    with pytest.raises(DataError, match=r"3 of 6 pictures .*: row 1 \('class 7'\).*; expected 'class 0', 'class 1'"):
        protect_like(classes, some, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    third = some.filter(lambda row: row["label"] == 0)
    protect_like(classes, third, tmp_path / "x")
    renumbered = third.cast_column("label", make_dataset(1).features["label"]).map(lambda row: {"label": 2})
    protect_like(classes, renumbered, tmp_path / "y")
    for file in sorted((tmp_path / "x").rglob("*.png")):
        assert file.read_bytes() == (tmp_path / "y" / file.relative_to(tmp_path / "x")).read_bytes()


def test_like_names_all_that_cannot_be_read_and_leaves_them_out_on_purpose(out, folder, tmp_path):
    later = tmp_path / "later"
    shutil.copytree(folder, later)
    whole = (later / "picture 03.png").read_bytes()
    (later / "picture 03.png").write_bytes(whole[:-200])  # damaged behind its header
    (later / "picture 05.png").write_bytes(b"")
    words = ("protect", later, "--like", out, "--output", tmp_path / "x")
    told = str(run(*words, code=1).exception)
    assert "got 2 of 20 images that cannot be read" in told
    assert "picture 03.png: " in told
    assert "picture 05.png: " in told
    assert "--skip-unreadable" in told
    assert not (tmp_path / "x").exists()
    with pytest.warns(DataWarning, match=r"2 pictures cannot be read and are left out:(?s:.*)03\.png(?s:.*)05\.png"):
        run(*words, "--skip-unreadable", "--max-pixels", Image.MAX_IMAGE_PIXELS)
    assert len(list((tmp_path / "x").iterdir())) == 18
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "one.png").write_bytes(b"")
    with pytest.raises(DataError, match="none can be read"):
        protect_like(out, tmp_path / "broken", tmp_path / "y", skip_unreadable=True)


def test_like_names_every_picture_that_would_come_out_as_it_is(out, folder, tmp_path):
    later = tmp_path / "later"
    shutil.copytree(folder, later)
    for name, mode in (("dot.png", "RGB"), ("other dot.png", "L")):
        Image.new(mode, (1, 1), "white").save(later / name)  # and the wave begins with what is lighter
    told = str(run("protect", later, "--like", out, "--output", tmp_path / "x", code=1).exception)
    assert "got 2 of 22 pictures" in told
    for name in ("dot.png", "other dot.png"):
        assert f"{later / name}: an image comes out as it is" in told
    assert "in a run of its own with a larger budget" in told
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def own():
    return make_dataset(12, channels=3, seed=1).remove_columns("label")


@pytest.fixture(scope="module")
def beside():
    """A few others', larger than the owner's, in three classes."""
    return make_dataset(15, channels=3, side=16, seed=2)


@pytest.mark.parametrize("method", ["em", "mi-ue:guides=1,guide_epochs=1", "beo:steps=1,robust=false", "auto"])
def test_methods_that_tell_classes_apart_protect_one_owner_among_others(method, own, beside, monkeypatch):
    monkeypatch.setattr(Auto, "candidates", ("texture",))
    monkeypatch.setattr(Auto, "judges", (Judge("small-vgg"),))
    recipe = Method.parse(method)
    short = {"epochs": 1, "batch_size": 16, "thief_steps": 1}
    recipe = replace(recipe, **{name: value for name, value in short.items() if hasattr(recipe, name)})
    seen = {}

    def watched(self, task, real=type(recipe).run):
        real(self, task)
        seen.update(moved=task.perturbations.clone(), names=task.images.names, labels=task.images.labels)

    monkeypatch.setattr(type(recipe), "run", watched)
    protection = recipe.fit(own, others=beside, labels="none", progress=False)
    assert seen["names"] == ["all images", "others: class 0", "others: class 1", "others: class 2"]
    assert (seen["labels"][:12] == 0).all()
    assert (seen["labels"][12:] > 0).all()
    assert not seen["moved"][12:].any()
    assert (seen["moved"][:12].flatten(1).abs().sum(dim=1) > 0).all()
    assert (len(protection), protection.classes.names) == (12, ["all images"])
    assert protection.description.findings["others"] == 15
    verified = protection.verify(own, own.map(protection))
    assert verified.violations == verified.unchanged == 0


def test_what_the_others_are_changes_the_perturbations(own, beside):
    first, again, fewer = (
        EM(epochs=1, batch_size=16).fit(own, others=clean, labels="none", progress=False).digest
        for clean in (beside, beside, beside.select(range(9)))
    )
    assert first == again != fewer


def test_the_owners_pattern_protects_pictures_that_came_later(own, beside):
    recipe = EM(epochs=2, pattern_share=1.0, batch_size=16)
    protection = recipe.fit(own, others=beside, labels="none", on_unseen="craft", progress=False)
    later = make_dataset(3, channels=3, seed=11).remove_columns("label")
    assert protection.verify(later, later.map(protection)).unchanged == 0


def test_others_at_the_command_line_are_never_written(folder, others, tmp_path):
    words = ("--others", others, "--method", "em", "--epochs", "1")
    told = run("protect", folder, "--output", tmp_path / "out", *words).output
    assert "Protecting 20 images with em" in told
    assert "Others: 45 clean images of others were learned beside; none of them is written." in told
    assert "pictures of one owner are few" not in told
    made = RunFolder(tmp_path / "out")
    assert (len(made.dataset), len(made.protection)) == (20, 20)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 20
    contents = {to_array(image).tobytes() for image in load_source(str(others))["image"]}
    assert not any(to_array(image).tobytes() in contents for image in made.dataset["image"])


def test_others_decide_the_default_method(own, beside):
    assert Inputs.open(own).default_method().name == "texture"
    assert Inputs.open(own, others=beside).default_method().name == "mi-ue"


def test_others_that_do_not_go_together_are_refused(own, others, tmp_path):
    with pytest.raises(RecipeError, match="got images of others for the method 'texture', which needs none"):
        protect(own, tmp_path / "out", method="texture", others=others, progress=False)
    with pytest.raises(DataError, match="got 3 of the 12 images to protect among the others too: rows 4, 5, 6"):
        protect(own, tmp_path / "out", method="em", labels="none", others=own.select([4, 5, 6]), progress=False)
    with pytest.raises(RecipeError, match="got others_split='test' and no name of others"):
        protect(own, tmp_path / "out", method="em", others_split="test", progress=False)
    with pytest.raises(OutputError, match="expected neither to lie in the other"):
        protect(own, others / "out", method="em", others=others, progress=False)
    with pytest.raises(DataError, match="the others dataset: got an empty dataset"):
        protect(own, tmp_path / "out", method="em", labels="none", others=own.select([]), progress=False)
    with pytest.raises(DataError, match="For one owner's images use the method texture, or show images of others"):
        protect(own, tmp_path / "out", method="em", labels="none", progress=False)


def test_the_command_opens_the_dataset_once(folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(sources, "_open", lambda *args, real=sources._open: opened.append(args[0]) or real(*args))
    run("protect", folder, "--output", tmp_path / "out")
    assert opened == [str(folder)]
