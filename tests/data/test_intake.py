"""What is found before the work: all of it, by the names of files."""

from __future__ import annotations

import io
import json

import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset
from PIL import Image

from hf_unlearnable import DataError
from hf_unlearnable.data import disk_space, inspection
from hf_unlearnable.data import intake as module
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.errors import command_line_words
from hf_unlearnable.runs import intake

COLUMNS = Columns("image", None)


@pytest.fixture
def photos(tmp_path):
    """Eleven photographs in two classes, and a test split."""
    folder = tmp_path / "photos"
    for number, row in enumerate(make_dataset(11, channels=3, side=20, classes=2)):
        target = folder / "train" / "ab"[row["label"]] / f"{number:02}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        row["image"].save(target)
    (folder / "test" / "a").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(folder / "test" / "a" / "1.png")
    return folder


def damage(folder):
    """Three kinds of damage: cut off, no image at all, and empty."""
    cut, text, empty = (folder / "train" / name for name in ("a/00.png", "b/03.png", "a/10.png"))
    cut.write_bytes(cut.read_bytes()[:-400])
    text.write_bytes(b"<html>not found</html>")
    empty.write_bytes(b"")
    return [str(file) for file in (cut, empty, text)]


def look(dataset, **arguments):
    return intake(dataset, progress=False, **arguments)


def test_all_that_is_broken_is_named_at_once(photos):
    broken = damage(photos)
    found = look(str(photos))
    assert [image.path for image in found.broken] == broken
    with pytest.raises(DataError, match="3 of 11 images that cannot be read") as raised:
        found.check()
    for text in (str(raised.value), str(found)):
        assert all(path in text for path in broken)
        assert "BytesIO" not in text
    found.check(skip_unreadable=True)


def test_bytes_without_a_file_are_named_by_their_row():
    rows = [{"bytes": b"no image", "path": None}] + [{"bytes": encoded(side), "path": None} for side in (9, 12)]
    found = look(in_memory(rows))
    assert [str(image) for image in found.broken] == ["row 0: no image of a format that is read here"]


def test_a_file_without_a_byte_is_called_empty(photos):
    (photos / "train" / "a" / "00.png").write_bytes(b"")
    broken = look(str(photos)).broken
    assert [(image.path.rpartition("/")[2], image.why) for image in broken] == [("00.png", "an empty file")]
    assert look(in_memory([{"bytes": b"", "path": None}])).broken[0].why == "an empty file"


def encoded(side, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, (side, 10)).save(stream, "PNG")
    return stream.getvalue()


def in_memory(stored):
    features = Features({"image": ImageFeature(), "label": make_dataset().features["label"]})
    return Dataset.from_dict({"image": stored, "label": [n % 2 for n in range(len(stored))]}, features=features)


def test_sizes_modes_classes_and_what_stays_as_it_is(photos):
    palette = Image.open(photos / "train" / "a" / "00.png").quantize(8)
    palette.resize((40, 30)).save(photos / "train" / "a" / "00.png")
    (photos / "train" / "a" / "notes.txt").write_text("mine")
    found = look(str(photos))
    assert found.images == 11
    assert found.files == 13
    assert found.sizes == {(30, 40): 1, (20, 20): 10}
    assert found.modes == {"P": 1, "RGB": 10}
    assert found.conversions == {"P to RGB": 1}
    assert found.classes == {"a": 6, "b": 5}
    assert found.other_splits == {"test": 1}
    assert [file.path for file in found.left_out] == ["train/a/notes.txt"]
    assert found.file_bytes == sum(file.stat().st_size for file in (photos / "train").rglob("*.png"))
    text = str(found)
    for part in (
        "11 images",
        "of 13 files",
        "20x20 to 40x30 (2 sizes)",
        "RGB 10, P 1",
        "P to RGB 1",
        "a 6, b 5",
        "other splits: test 1",
        "1 (.txt 1), not an image: train/a/notes.txt",
    ):
        assert part in text
    assert json.loads(json.dumps(found.as_dict()))["sizes"] == {"40x30": 1, "20x20": 10}


def test_further_columns_of_images_are_told():
    data = make_dataset(12).add_column("n", range(12))
    data = data.map(lambda row: {"mask": row["image"]}, features=Features({**data.features, "mask": ImageFeature()}))
    found = look(data, image_column="image")
    assert found.other_images == ("mask",)
    assert "other columns with images: mask" in str(found)


@pytest.mark.parametrize("again", ["the same file", "the same pixels"])
def test_one_image_in_two_classes_is_told(photos, again):
    first, other = photos / "train" / "a" / "00.png", photos / "train" / "b" / "copy.bmp"
    if again == "the same file":
        other = other.with_suffix(".png")
        other.write_bytes(first.read_bytes())
    else:
        Image.open(first).save(other)
    (photos / "train" / "a" / "twice.png").write_bytes((photos / "train" / "a" / "02.png").read_bytes())
    found = look(str(photos))
    assert found.duplicates == ((str(first), str(other)),)
    assert f"{first} = {other}" in str(found)
    assert look(str(photos), decode=False).duplicates == ()


def test_many_images_are_looked_at_by_their_headers(photos, monkeypatch):
    cut = photos / "train" / "a" / "02.png"
    cut.write_bytes(cut.read_bytes()[:-400])
    assert len(look(str(photos), decode=None).broken) == 1
    monkeypatch.setattr(module, "FEW_PIXELS", 100)
    monkeypatch.setattr(inspection, "_SAMPLE", 2)  # the first and the last
    monkeypatch.setattr(disk_space, "SAMPLE", 2)
    found = look(str(photos), decode=None)
    assert not found.decoded
    assert found.broken == ()
    assert "Only the headers were read" in str(found)
    (photos / "train" / "a" / "00.png").write_bytes(b"")
    assert len(look(str(photos), decode=None).broken) == 2  # once one is broken, others may be


def test_modes_that_cannot_be_protected_are_broken(photos):
    Image.new("F", (20, 20)).save(photos / "train" / "a" / "x.tif")
    assert "got an image of mode F" in look(str(photos)).broken[0].why


def test_without_labels_the_rest_is_told(photos):
    data = make_dataset(12).remove_columns("label")
    found = look(data)
    assert found.images == 12
    assert found.classes == {}
    assert "No labels: all images are taken as one owner's." in str(found)
    with pytest.raises(DataError, match="without a column of type Image"):
        look(data.remove_columns("image"))


def test_a_column_that_may_be_the_label_is_named():
    """Strings of which each occurs more than once; names of files do not."""
    data = make_dataset(12)
    kinds = ["cat", "dog"] * 6
    unnamed = data.remove_columns("label").add_column("kind", kinds)
    assert "If 'kind' is the label: label_column='kind'." in str(look(unnamed))
    with command_line_words():
        assert "If 'kind' is the label: --label-column kind." in str(look(unnamed))
    for data in (
        unnamed.remove_columns("kind"),
        unnamed.remove_columns("kind").add_column("kind", ["cat"] * 12),
        unnamed.remove_columns("kind").add_column("kind", ["owl", *kinds[1:]]),
    ):
        assert "is the label" not in str(look(data))
    assert "is the label" not in str(look(unnamed, labels="none"))


def test_rows_without_a_class_are_counted():
    data = make_dataset(12)
    labels = [-1, *data["label"][1:]]
    found = look(data.remove_columns("label").add_column("label", labels).cast(data.features))
    assert found.unlabelled == 1
    assert "Without a class: 1 row." in str(found)


def test_addresses_that_cannot_be_fetched_are_tried_once(monkeypatch):
    tried = []
    real = inspection.open_image
    monkeypatch.setattr(inspection, "open_image", lambda stored: tried.append(stored) or real(stored))
    found = look(in_memory([{"path": f"https://localhost:9/{n}.png", "bytes": None} for n in range(5)]))
    assert len(tried) == 1
    assert len(found.broken) == 5
    assert found.broken[4].path == "https://localhost:9/4.png"
    assert all("an address that cannot be fetched" in image.why for image in found.broken)
    assert "download the images and name their folder" in found.broken[0].why


def test_an_address_that_is_gone_says_nothing_of_others(monkeypatch):
    def answer(stored):
        if stored["path"].endswith("gone.png"):
            raise FileNotFoundError(stored["path"]) from RuntimeError("404, message='Not Found'")
        return Image.new("RGB", (20, 20))

    monkeypatch.setattr(inspection, "open_image", answer)
    paths = [f"https://localhost:9/{name}.png" for name in ("gone", "here", "there")]
    found = inspection.Inspection(in_memory([{"path": path, "bytes": None} for path in paths]), COLUMNS, False)
    found.read_headers()
    assert list(found.broken) == [0]
    assert found.sizes == {(20, 20): 2}


def test_a_host_that_does_not_answer_says_nothing_of_other_hosts(monkeypatch):
    def answer(stored):
        if "://down/" in stored["path"]:
            raise FileNotFoundError(stored["path"]) from ConnectionRefusedError("no")
        return Image.new("RGB", (20, 20))

    monkeypatch.setattr(inspection, "open_image", answer)
    paths = ["https://down/0.png", "https://up/1.png", "https://down/2.png"]
    found = inspection.Inspection(in_memory([{"path": path, "bytes": None} for path in paths]), COLUMNS, False)
    found.read_headers()
    assert list(found.broken) == [0, 2]


def test_what_it_will_take_is_said(photos):
    found = look(str(photos))
    assert found.space.png > 0
    assert found.space.copies == 2  # as a dataset and as files, as they came
    assert found.seconds > 0
    assert "as PNG without loss" in str(found)
    assert "takes about 1 s; the optimisation comes on top" in str(found)


def test_a_set_of_which_nothing_can_be_read(tmp_path):
    found = look(in_memory([{"bytes": b"", "path": None}] * 3))
    assert found.space is None
    with pytest.raises(DataError, match="none can be read"):
        found.check(skip_unreadable=True)
