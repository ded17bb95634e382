"""Every kind of dataset that people have, through load_source and fit, or with an error that says what is missing."""

from __future__ import annotations

import io
import json
import sys
import time

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value, load_from_disk
from datasets import Image as ImageFeature
from helpers.datasets import ROOT, make_dataset, pixels_of
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import DataError, DataWarning, SourceError
from hf_unlearnable.cli.command import app
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.sources import first_rows, load_source
from hf_unlearnable.hub.retry import HTTPError

sys.path.insert(0, str(ROOT / "examples" / "benchmarks"))
from common import Noise


def quick(data, **arguments):
    return Noise().fit(data, progress=False, **arguments)  # what reaches which image is no matter of the optimisation


@pytest.fixture
def flat(tmp_path):
    """A folder of images without class folders."""
    for index, row in enumerate(make_dataset(12)):
        (tmp_path / "flat").mkdir(exist_ok=True)
        row["image"].save(tmp_path / "flat" / f"{index:02}.png")
    return tmp_path / "flat"


def write_metadata(folder, **columns):
    lines = [
        json.dumps({"file_name": f"{index:02}.png", **{name: values[index % 3] for name, values in columns.items()}})
        for index in range(12)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def test_a_folder_without_labels_says_what_is_needed(flat):
    with pytest.warns(DataWarning, match=r"no labels among the columns image: all images are taken as one owner's"):
        assert len(quick(load_source(str(flat)))) == 12


def test_labels_from_metadata(flat):
    write_metadata(flat, label=["dog", "cat", "emu"])
    data = load_source(str(flat))
    with pytest.warns(DataWarning, match="taken as 3 classes, 'cat', 'dog', 'emu'"):
        protection = quick(data)
    protected = protection.release(data)
    assert protected["label"] == data["label"] == ["dog", "cat", "emu"] * 4  # the values that were there
    assert protection.verify(data.rename_column("label", "x").rename_column("x", "label"), protected).violations == 0
    names = [row["path"] for row in protected.cast_column("image", ImageFeature(decode=False))["image"]]
    assert names == [f"{index:02}.png" for index in range(12)]


def test_a_label_column_of_another_name(flat):
    write_metadata(flat, breed=[30, 10, 20], note=["x", "y", "z"])
    data = load_source(str(flat))
    with pytest.warns(DataWarning, match=r"among the columns image, breed, note: .*label_column=NAME"):
        quick(data)
    protection = quick(data, label_column="breed")
    assert protection.about["classes"] == ["10", "20", "30"]
    row = data.map(protection)[0]
    assert (row["breed"], row["note"]) == (30, "x")
    with pytest.raises(DataError, match="got the label 40; expected 10, 20, 30"):
        protection.protect(data[0]["image"], 40)


def test_one_of_several_image_columns():
    data = make_dataset(12)
    data = data.map(lambda row: {"mask": row["image"]}, features=Features({**data.features, "mask": ImageFeature()}))
    with pytest.raises(DataError, match="2 columns of type Image: image, mask; expected one"):
        quick(data)
    protection = quick(data, image_column="mask")
    protected = data.map(protection)
    assert np.array_equal(pixels_of(protected), pixels_of(data))
    assert not np.array_equal(np.asarray(protected[0]["mask"]), np.asarray(data[0]["mask"]))


def test_configurations_and_splits_of_a_folder_laid_out_like_the_hub(tmp_path):
    for config in ("small", "large"):
        for split in ("train", "test"):
            (tmp_path / config).mkdir(exist_ok=True)
            make_dataset(6 if split == "test" else 12, seed=len(config)).to_parquet(
                tmp_path / config / f"{split}.parquet"
            )
    configs = "".join(
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {config}/{split}.parquet\n" for split in ("train", "test"))
        for config in ("small", "large")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert len(load_source(str(tmp_path), "test", "large")) == 6
    with pytest.raises(DataError, match=r"cannot be read as a dataset \(.*[Cc]onfig.*small"):
        load_source(str(tmp_path))
    with pytest.raises(DataError, match="expected one of train, test"):
        load_source(str(tmp_path), "validation", "small")


def test_a_dictionary_of_splits_names_them():
    with pytest.raises(DataError, match=r"with the splits a, b; expected one split. Pass dataset\['a'\]"):
        find_columns(DatasetDict({"a": make_dataset(), "b": make_dataset()}))


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    """As of a variable of the shell that is not set."""
    make_dataset().save_to_disk(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    words = ["--method", "texture", "--output", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, ["protect", "", *words])
    assert "got an empty name; expected that of a dataset" in str(refused.exception)
    assert CliRunner().invoke(app, ["protect", ".", *words]).exit_code == 0
    refused = CliRunner().invoke(app, ["verify", str(tmp_path / "out"), "--clean", ""])
    assert "got an empty name; expected that of a dataset" in str(refused.exception)


def test_a_mistyped_path_is_told_at_once_with_names_like_it(tmp_path, monkeypatch):
    """Offline the clients of the Hub would try for 23 seconds."""
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)

    def unreachable(self, *arguments, **options):
        raise HTTPError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"'photoz', .*\(there is photos\) nor .*Name or service not known"):
        load_source("photoz")
    assert time.monotonic() - begun < 5
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_saved_dataset_without_rows_is_called_so(tmp_path):
    make_dataset().select([]).save_to_disk(tmp_path / "empty")
    with pytest.raises(DataError, match="a dataset without rows; expected at least one image"):
        load_source(str(tmp_path / "empty"))
    DatasetDict({"train": make_dataset(), "test": make_dataset().select([])}).save_to_disk(tmp_path / "half")
    with pytest.raises(DataError, match=r"half/test', a dataset without rows"):
        load_source(str(tmp_path / "half"))


def test_a_stream_says_how_it_is_fitted_and_its_first_rows_are_the_same_files():
    rows = []
    for row in make_dataset(12):
        stream = io.BytesIO()
        row["image"].convert("RGB").save(stream, "JPEG")  # compressed once more it would be another image
        rows.append({"image": {"bytes": stream.getvalue(), "path": "a.jpg"}, "label": row["label"]})
    features = Features({name: make_dataset().features[name] for name in ("image", "label")})
    data = Dataset.from_list(rows, features=features)
    with pytest.raises(DataError, match="first_rows"):
        quick(data.to_iterable_dataset())
    taken = first_rows(data.to_iterable_dataset(), 9)
    assert len(taken) == 9
    assert np.array_equal(pixels_of(taken), pixels_of(data.select(range(9))))
    assert taken.features == features
    with pytest.raises(DataError, match="empty stream"):
        first_rows(data.to_iterable_dataset(), 0)


def test_the_command_protects_a_mixed_folder(tmp_path):
    """Mixed sizes and modes, names and labels from metadata, WebP, and what is said about it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for index in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 4), dtype=np.uint8))
        image = coarse.resize((20 + index, 40 - index), Image.Resampling.BICUBIC)
        image = (
            image if index % 3 == 0 else image.convert("RGB") if index % 3 == 1 else image.convert("RGB").quantize(9)
        )
        image.save(folder / f"photo {index}.png")
        lines.append(json.dumps({"file_name": f"photo {index}.png", "kind": ["old", "new"][index // 3 % 2]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    words = ["protect", folder, "--output", tmp_path / "out", "--label-column", "kind", "--image-format", "webp"]
    words += ["--epochs", 2, "--resolution", 16, "--craft-unseen"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "Labels: the column 'kind' was taken as 2 classes: new, old." in result.output
    assert "Sizes: 12 of 12 images (20x40 to 30x30) keep theirs" in result.output.replace("\n", " ")
    assert "Converted: 4 of 12 images: P to RGB." in result.output
    assert "0 outside the budget linf:8" in result.output
    assert "JPEG at quality" in result.output
    published = load_from_disk(str(tmp_path / "out" / "dataset"))
    assert published.features["kind"] == Value("string")
    assert {row["image"].format for row in published} == {"WEBP"}
    assert sorted({row["image"].mode for row in published}) == ["RGB", "RGBA"]
    assert {path.suffix for path in (tmp_path / "out" / "dataset").rglob("*")} == {".arrow", ".json"}
    said = CliRunner().invoke(app, ["protect", str(folder), "--output", str(tmp_path / "x"), "--image-format", "jpeg"])
    assert "expected png or webp" in str(said.exception)


def test_a_dataset_in_memory_is_told_from_a_name():
    with pytest.raises(DataError, match="got a dataset in memory; expected where it is"):
        load_source(make_dataset())
