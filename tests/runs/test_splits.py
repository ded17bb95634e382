"""A whole dataset goes in and comes out whole: splits that are protected together, and splits that stay clean."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value, load_from_disk
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset, pixels_of
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import EM, DataError, DataWarning, HubError, PrivacyError, RecipeError, Training, pull, push, verify
from hf_unlearnable.cli import app
from hf_unlearnable.hub.retry import Retry
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import Origin, RunFolder, measure, protect
from hf_unlearnable.runs.image_files import numbered
from hf_unlearnable.runs.inputs import Inputs

QUICK = EM(epochs=2, batch_size=8)


@pytest.fixture
def whole() -> DatasetDict:
    return DatasetDict(
        train=make_dataset(30, seed=1), validation=make_dataset(12, seed=2), test=make_dataset(9, seed=3)
    )


@pytest.fixture
def saved(whole, tmp_path):
    whole.save_to_disk(tmp_path / "photos")
    return tmp_path / "photos"


def test_a_whole_dataset_is_protected_pushed_pulled_verified_measured_and_reported(saved, whole, tmp_path, hub, name):
    run = protect(saved, tmp_path / "out", method=QUICK, split="all", keep_clean=("test",), progress=False)
    out = load_from_disk(str(tmp_path / "out" / "dataset"))
    assert {key: len(part) for key, part in out.items()} == {"train": 30, "validation": 12, "test": 9}
    assert out["train"].features == whole["train"].features
    assert out["train"]["name"] == whole["train"]["name"]
    for part in ("train", "validation"):
        change = np.abs(pixels_of(out[part]).astype(int) - pixels_of(whole[part]))
        assert change.max() <= 8
        assert (change.reshape(len(change), -1).max(axis=1) > 0).all()
    assert np.array_equal(pixels_of(out["test"]), pixels_of(whole["test"]))
    assert (run.verification.images, run.verification.violations) == (42, 0)
    assert "protected together: train, validation; kept clean: test" in str(run)
    assert len(run.protection) == 42
    assert run.folder.origin == Origin(dataset=str(saved), split="train+validation")
    assert verify(run) == run.verification

    assert push(run, name).private
    assert verify(run, name) == run.verification
    with pytest.raises(RecipeError, match="got split='all'; expected the split that was protected: leave it out"):
        verify(run, name, split="all")
    card = pushed_card(name)
    assert "split `train+validation`" in card
    assert "**Not protected:** `test`" in card
    assert 'split="train+validation"' in card
    pulled = pull(name, tmp_path / "back", split="all")
    assert {key: len(part) for key, part in pulled.items()} == {"train": 30, "validation": 12, "test": 9}
    for part in pulled:
        assert np.array_equal(pixels_of(pulled[part]), pixels_of(out[part]))

    report = measure(
        run,
        victims="small-resnet",
        training=Training(epochs=1, batch_size=16),
        seeds=(1,),
        ratios=(0, 1),
        progress=False,
    )
    assert report.test_images == 9  # the clean split is what is tested on
    assert write_report(run)[0].exists()
    with pytest.raises(RecipeError, match=r"split='half' .*keep their names"):
        push(run, name, split="half")


def test_a_push_of_a_whole_dataset_that_fails_says_how_to_go_on(saved, tmp_path, hub, name):
    run = protect(saved, tmp_path / "out", method=QUICK, split="all", keep_clean=("test",), progress=False)
    hub.fail("POST", f"{name}/commit/", 503, times=100)
    with pytest.raises(HubError) as caught:
        push(run, name, retry=Retry(attempts=1))
    assert f"hf-unlearnable push {run.folder} {name} --private" in str(caught.value)
    assert "--split" not in str(caught.value)


def pushed_card(name: str) -> str:
    from huggingface_hub import hf_hub_download

    with open(hf_hub_download(name, "README.md", repo_type="dataset")) as stream:
        return stream.read()


def test_a_clean_split_on_the_hub_that_is_another_is_found(saved, tmp_path, hub, name):
    run = protect(saved, tmp_path / "out", method=QUICK, split="all", keep_clean=("test",), progress=False)
    push(run, name)
    make_dataset(9, seed=8).push_to_hub(name, split="test")
    with pytest.raises(DataError, match="not those of the clean split 'test'"):
        verify(run, name)


def test_the_command(saved, whole, tmp_path):
    words = ["protect", str(saved), "--method", "em:epochs=2,batch_size=8", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--split", "all", "--keep-clean", "test"])
    assert done.exit_code == 0, done.output
    assert "Found: 42 images" in done.output
    assert "other splits: test 9" in done.output
    assert "Left out" not in done.output
    assert set(load_from_disk(str(tmp_path / "out" / "dataset"))) == {"train", "validation", "test"}
    assert json.loads((tmp_path / "out/private/splits.json").read_text()) == {
        "protected": ["train", "validation"],
        "clean": ["test"],
    }
    whole["train"] = Dataset.from_list(
        [{**row, "label": -1} if row["name"] == "row 5" else row for row in whole["train"]], whole["train"].features
    )
    whole["train"].save_to_disk(tmp_path / "unlabelled")
    words = ["protect", str(tmp_path / "unlabelled"), *words[2:-1], str(tmp_path / "labelled")]
    refused = CliRunner().invoke(app, words)
    assert "1 of 30 rows without a label (null, NaN or -1): 5; expected 0 to 2" in str(refused.exception)
    done = CliRunner().invoke(app, [*words, "--drop-unlabelled", "--drop-column", "name", "--duplicates", "share"])
    assert done.exit_code == 0, done.output
    assert "1 of 30 rows" in done.output
    assert load_from_disk(str(tmp_path / "labelled" / "dataset")).column_names == ["image", "label"]
    assert Inputs.open(tmp_path / "unlabelled").default_method().name == "mi-ue"


def test_a_dictionary_in_memory_and_a_folder_of_images(whole, tmp_path):
    for part, data in whole.items():
        for index, row in enumerate(data):
            folder = tmp_path / "photos" / part / f"class {row['label']}"
            folder.mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / f"{index:03}.png")
    for source in (whole, tmp_path / "photos"):
        output = tmp_path / f"out-{isinstance(source, DatasetDict)}"
        run = protect(source, output, method=QUICK, split="all", keep_clean=["test"], progress=False)
        assert {key: len(part) for key, part in run.folder.published_splits.items()} == {
            "train": 30,
            "validation": 12,
            "test": 9,
        }
        assert RunFolder(output).split == "train+validation"
    run = protect(whole, tmp_path / "one", method=QUICK, split="validation", progress=False)
    assert len(run.dataset) == 12
    run = protect(whole, tmp_path / "all", method=QUICK, split="all", progress=False)
    assert run.verification.images == 51
    assert run.folder.clean_splits == ()


def test_two_splits_in_one(saved, tmp_path):
    """As ``load_dataset(split="train+validation")`` has it."""
    run = protect(saved, tmp_path / "out", method=QUICK, split="train+validation", progress=False)
    assert isinstance(load_from_disk(str(run.folder.published)), Dataset)
    assert (len(run.dataset), verify(run).images) == (42, 42)
    with pytest.raises(RecipeError, match=r"split=NAME"):
        push(run, "artist/two")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"protected": ["train", "test"], "clean": []}, "got the splits .* in .*; expected train, test"),
        ({"protected": ["train"], "clean": ["test"]}, "got the splits train in .*; expected train, test"),
        ({"protected": [1], "clean": []}, r"splits\.json' without protected splits"),
    ],
)
def test_splits_that_somebody_wrote_beside_a_single_one(tmp_path, splits, message):
    run = protect(make_dataset(), tmp_path / "out", method=QUICK, progress=False)
    (run.folder.private / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(DataError, match=message):
        run.folder.dataset  # noqa: B018


def test_what_cannot_be_whole_is_refused(whole, tmp_path):
    def refused(error, match, data=whole, **options):
        with pytest.raises(error, match=match):
            protect(data, tmp_path / "out", method=QUICK, progress=False, **options)

    refused(RecipeError, r"keep_clean='test' with split='train'; expected split='all'", keep_clean=["test"])
    refused(DataError, r"the split 'exam' .*expected one of train, validation, test", split="all", keep_clean=["exam"])
    refused(DataError, "all splits .* to keep clean", split="all", keep_clean=list(whole))
    refused(DataError, "split='all'; expected a DatasetDict", data=whole["train"], split="all")
    other = DatasetDict(whole, validation=make_dataset(12, classes=2))
    refused(DataError, "the splits 'train' and 'validation' with other columns or classes", data=other, split="all")


@pytest.mark.parametrize("label", [1, 0, -1])
def test_a_clean_split_may_not_hold_protected_images(whole, tmp_path, label):
    """Nor with another label than in the protected split, or with none: the pixels are what undoes the protection."""
    copy = [{**row, "label": label} for row in whole["train"].select([4]).to_list()]
    leaky = DatasetDict(train=whole["train"], test=Dataset.from_list(copy, features=whole["train"].features))
    with pytest.raises(PrivacyError, match="in the split 'test', which is to stay clean, that is in a protected split"):
        protect(leaky, tmp_path / "out", method=QUICK, split="all", keep_clean=["test"], progress=False)
    assert not (tmp_path / "out").exists()


def test_clean_splits_lose_metadata_and_need_no_labels(whole, tmp_path):
    """Test sets on the Hub have -1 for every label; photographs tell where they were taken."""
    exif = Image.Exif()
    exif[0x010E] = "Ann Example's garden"
    rows = []
    for row in whole["test"]:
        stream = io.BytesIO()
        row["image"].save(stream, "PNG", exif=exif)
        rows.append({"name": row["name"], "image": {"bytes": stream.getvalue(), "path": "garden.png"}, "label": -1})
    whole["test"] = Dataset.from_list(rows, features=whole["train"].features)
    run = protect(whole, tmp_path / "out", method=QUICK, split="all", keep_clean=["test"], progress=False)
    clean = run.folder.published_splits["test"].cast_column("image", ImageFeature(decode=False))
    assert clean["label"][:] == [-1] * 9
    for row in clean:
        assert b"garden" not in row["image"]["bytes"]


@pytest.mark.parametrize("label", [-1, None, "no column"])
def test_numbers_for_clean_rows_without_a_label(whole, tmp_path, label):
    """A folder for the class only where there is one, found out after the fit or not at all."""
    if label == "no column":
        whole["test"] = whole["test"].remove_columns("label")
    else:
        rows = [{**row, "label": label} if index else row for index, row in enumerate(whole["test"].to_list())]
        whole["test"] = Dataset.from_list(rows, features=whole["train"].features)
    options = {"method": "texture", "split": "all", "keep_clean": ["test"], "names": "numbers", "progress": False}
    run = protect(whole, tmp_path / "out", **options)
    clean = run.folder.published_splits["test"]
    assert clean["label"][1] == label if label != "no column" else "label" not in clean.column_names
    stored = clean.cast_column("image", ImageFeature(decode=False))
    assert [row["image"]["path"] for row in stored] == [f"{row:06}.png" for row in range(9)]
    endings = [".png"] * 2
    first = "000000.png" if label == "no column" else "class 0/000000.png"
    assert numbered(clean.select([0, 1]), "label", endings) == [first, "000001.png"]


@pytest.mark.parametrize("unlabelled", ["error", "drop"])
def test_unlabelled_rows_in_the_whole_way(whole, tmp_path, unlabelled):
    for part, missing in (("train", [3, 29]), ("validation", [0])):
        rows = whole[part].to_list()
        for row in missing:
            rows[row]["label"] = [None, -1][row % 2]
        whole[part] = Dataset.from_list(rows, features=whole["test"].features)
    whole.save_to_disk(tmp_path / "photos")
    options = {"method": QUICK, "split": "all", "keep_clean": ["test"], "progress": False}
    if unlabelled == "error":
        with pytest.raises(DataError, match=r"3 of 42 rows without a label .*: 3, 29, 30; .*unlabelled=.drop."):
            protect(tmp_path / "photos", tmp_path / "out", **options)
        return
    run = protect(tmp_path / "photos", tmp_path / "out", unlabelled="drop", **options)
    parts = run.folder.published_splits
    assert {key: len(part) for key, part in parts.items()} == {"train": 28, "validation": 11, "test": 9}
    assert parts["validation"]["name"][0] == "row 1"
    assert run.folder.origin.skipped == (3, 29, 30)
    assert "Left out, as told: 3 of 42 rows" in str(run)
    assert verify(run).images == 39
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    assert verify(run, clean=str(moved)).images == 39


def test_a_split_of_which_nothing_is_left_is_named(whole, tmp_path):
    rows = [{**row, "label": -1} for row in whole["validation"].to_list()]
    whole["validation"] = Dataset.from_list(rows, features=whole["test"].features)
    parts = DatasetDict(train=whole["train"], validation=whole["validation"])
    options = {"method": QUICK, "unlabelled": "drop", "progress": False}
    told = r"the split 'validation', of which all 12 rows are left out; expected .* split='train'"
    with pytest.raises(DataError, match=told):
        protect(parts, tmp_path / "out", split="all", **options)
    with pytest.raises(DataError, match=told.replace("train", r"train\+test")):
        protect(whole, tmp_path / "out", split="all", **options)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def damaged(whole, tmp_path):
    """The same with a file that is cut off in the split that stays clean, and a row without an image."""
    rows = whole["test"].to_list()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    stream = io.BytesIO()
    noise.save(stream, "PNG")
    rows[4]["image"] = {"bytes": stream.getvalue()[:1500], "path": "cut.png"}
    rows[7]["image"] = None
    whole["test"] = Dataset.from_list(rows, features=whole["test"].features)
    whole.save_to_disk(tmp_path / "photos")
    return tmp_path / "photos"


def test_images_of_a_clean_split_that_cannot_be_read_are_told_before_the_work(damaged, tmp_path, monkeypatch):
    options = {"method": QUICK, "split": "all", "keep_clean": ("test",), "progress": False}
    monkeypatch.setattr(EM, "run", None)
    with pytest.raises(DataError, match=r"test dataset: got 2 of 9 .*\n  cut\.png: .*\n  row 7: .*\n.*skip_unreadable"):
        protect(damaged, tmp_path / "out", **options)
    without = load_from_disk(str(damaged))
    without["test"] = without["test"].remove_columns("image")
    with pytest.raises(DataError, match="got the split 'test' without a column of images 'image'"):
        protect(without, tmp_path / "out", **options)


def test_an_image_of_a_clean_split_that_breaks_during_the_fit_is_named(damaged, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_unlearnable.runs.protecting.clean_looked_at", lambda clean, *_: clean)
    with pytest.raises(DataError, match=r"the test dataset: row 4 \(cut\.png\): cannot read the image"):
        protect(damaged, tmp_path / "out", method="texture", split="all", keep_clean=("test",), progress=False)


def test_images_of_a_clean_split_that_cannot_be_read_are_left_out_when_told(damaged, whole, tmp_path):
    options = {"method": QUICK, "split": "all", "keep_clean": ("test",), "progress": False, "skip_unreadable": True}
    with pytest.warns(
        DataWarning, match=r"2 pictures of the split 'test' cannot .* left out:\n  cut\.png: .*\n  row 7:"
    ):
        run = protect(damaged, tmp_path / "out", **options)
    parts = run.folder.published_splits
    assert {key: len(part) for key, part in parts.items()} == {"train": 30, "validation": 12, "test": 7}
    assert parts["test"]["name"] == [f"row {row}" for row in (0, 1, 2, 3, 5, 6, 8)]
    assert np.array_equal(pixels_of(parts["test"]), pixels_of(whole["test"].select([0, 1, 2, 3, 5, 6, 8])))


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        (lambda row: row["image"], ImageFeature()),
        (lambda row: row["image"].tobytes(), Value("binary")),
        (lambda row: np.asarray(row["image"]).tolist(), List(List(Value("uint8")))),
        (lambda row: [0.25] * 512, List(Value("float32"))),
        (lambda row: "data:image/png;base64," + "iVBORw0KGgo" * 100, Value("string")),
        (lambda row: [{"crop": row["image"].tobytes()}], List({"crop": Value("binary")})),
        (lambda row: ["a square", "iVBORw0KGgo" * 100], List(Value("string"))),
        (
            lambda row: {"told": "a square", "file": "iVBORw0KGgo" * 100},
            {"told": Value("string"), "file": Value("string")},
        ),
        (lambda row: {"vector": [0.25] * 512}, {"vector": List(Value("float32"))}),
        (lambda row: [{"vector": [0.25] * 512}] * (1 + row["label"]), List({"vector": List(Value("float32"))})),
    ],
    ids=["image", "bytes", "pixels", "features", "base64", "crops", "files", "a file", "vector", "vectors"],
)
def test_a_column_with_clean_images_is_refused_before_the_work(values, feature, tmp_path, monkeypatch):
    rows = [{**row, "also": values(row)} for row in make_dataset()]
    data = Dataset.from_list(rows, features=Features({**make_dataset().features, "also": feature}))
    arguments = {"method": QUICK, "image_column": "image", "progress": False}
    with monkeypatch.context() as patched:
        patched.setattr(EM, "run", None)
        with pytest.raises(PrivacyError, match=r"the column 'also'.*drop_columns=\['also'\]"):
            protect(data, tmp_path / "out", **arguments)
    run = protect(data, tmp_path / "out", drop_columns=["also"], **arguments)
    assert run.dataset.column_names == ["name", "image", "label"]


def test_boxes_captions_and_checksums_are_no_images(tmp_path):
    extra = {
        "box": [[1.0, 2.0, 3.0, 4.0]] * 48,
        "outline": [[float(number) for number in range(60 + index)] for index in range(48)],
        "objects": [{"box": [[1.0, 2.0, 3.0, 4.0]] * (15 + index), "said": ["a square " * 200]} for index in range(48)],
        "outlines": [[{"outline": [0.5] * 70}] if index == 3 else [] for index in range(48)],
        "caption": ["a bright square on noise " * 60] * 48,
        "checksum": ["0a" * 64] * 48,
    }
    data = make_dataset()
    for column, values in extra.items():
        data = data.add_column(column, values)
    run = protect(data, tmp_path / "out", method=QUICK, progress=False)
    assert set(extra) < set(run.dataset.column_names)
