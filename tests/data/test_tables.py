"""Tables that people bring: columns and labels of every kind, each read right or refused with what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset, pixels_of

from hf_unlearnable import EM, DataError, DataWarning
from hf_unlearnable.data.columns import Classes, find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.reading import class_numbers
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.defences.base import Defence
from hf_unlearnable.runs.auditing import audit
from hf_unlearnable.runs.inspecting import intake
from hf_unlearnable.runs.protecting import protect

QUICK = EM(epochs=2, batch_size=8)


def fit(data, **options):
    return QUICK.fit(data, progress=False, **options)


def files(kind: str) -> list:
    stored = make_dataset().cast_column("image", ImageFeature(decode=False))
    contents = [row["image"]["bytes"] for row in stored]
    return (
        contents if kind == "bytes" else [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    )


UNTYPED = ["struct", "struct without a path", "bytes", "large bytes"]


def untyped(kind: str, file: Path) -> Dataset:
    """The images of ``make_dataset`` in a parquet file without types."""
    images = files("bytes" if "bytes" in kind else "struct")
    if kind == "struct without a path":
        images = [{"bytes": image["bytes"]} for image in images]
    column = pa.array(images, pa.large_binary() if kind == "large bytes" else None)
    pq.write_table(pa.table({"image": column, "label": [index % 3 for index in range(48)]}), file)
    return load_source(str(file))


@pytest.mark.parametrize("kind", UNTYPED)
def test_untyped_images_of_parquet_files(kind, tmp_path):
    """Written by pandas or polars: no word of ``datasets`` is in the file."""
    data = untyped(kind, tmp_path / "photos.parquet")
    protection = fit(data, label_column="label")
    typed = fit(make_dataset(), label_column="label")
    released = protection.release(data)
    assert isinstance(released.features["image"], ImageFeature)
    assert np.array_equal(pixels_of(released), pixels_of(typed.release(make_dataset())))
    mapped = data.map(protection)
    assert mapped.features["image"] == data.features["image"]  # files stay files, as they were typed
    assert np.array_equal(pixels_of(mapped.cast_column("image", ImageFeature())), pixels_of(released))
    assert protection.verify(data, released).violations == 0


@pytest.mark.parametrize("kind", UNTYPED)
def test_untyped_images_in_the_whole_way(kind, tmp_path):
    """From a look before the work to what a thief makes of such a table."""
    data = untyped(kind, tmp_path / "train.parquet")
    looked_at = intake(data, label_column="label", progress=False)
    assert (looked_at.images, looked_at.broken) == (48, ())
    assert looked_at.space.png == intake(make_dataset(), progress=False).space.png
    run = protect(data, tmp_path / "run", method=QUICK, label_column="label", progress=False)
    assert run.verification.violations == 0
    audited = audit(tmp_path / "train.parquet", label_column="label", progress=False)
    assert "file names" in [finding.check for finding in audited.findings]
    same = Defence.parse("jpeg:50").apply(make_dataset())
    assert np.array_equal(pixels_of(Defence.parse("jpeg:50").apply(data, label_column="label")), pixels_of(same))


def test_untyped_images_are_looked_at_where_labels_cannot_be_found(tmp_path):
    data = untyped("bytes", tmp_path / "photos.parquet")
    looked_at = intake(data, label_column="nobody", progress=False)
    assert looked_at.images == 48
    assert "Cannot be protected as it is: got label_column='nobody'" in looked_at.notes[0]


def test_images_as_files_are_decoded_for_a_defence():
    undecoded = make_dataset().cast_column("image", ImageFeature(decode=False))
    changed = Defence.parse("jpeg:50").apply(undecoded)
    assert np.array_equal(pixels_of(changed), pixels_of(Defence.parse("jpeg:50").apply(make_dataset())))


@pytest.mark.parametrize(
    ("feature", "values", "names"),
    [
        (Value("bool"), [False, True], ["False", "True"]),
        (Value("float64"), [0.0, 1.0], ["0", "1"]),
        (Value("float32"), [3.0, 7.0], ["3", "7"]),
        (Value("int64"), [2, 5], ["2", "5"]),
        (Value("string"), ["cat", "dog"], ["cat", "dog"]),
        (ClassLabel(names=["cat", "dog"]), [0, 1], ["cat", "dog"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("missing", [None, -1, float("nan"), "none"])
def test_labels_of_every_kind_have_one_rule(feature, values, names, missing, tmp_path):
    """Null, NaN and -1 are no label: named and refused in ``fit`` and ``map``, or left out where that is said."""
    number = not isinstance(feature, Value) or feature.dtype not in ("bool", "string")
    if (missing == -1 and not number) or (missing != missing and "float" not in str(feature)):
        pytest.skip("such a column cannot hold it")
    labels = [values[index % 2] for index in range(48)]
    rows = [] if missing == "none" else [5, 9]
    for row in rows:
        labels[row] = missing
    data = make_dataset(classes=2).remove_columns("label").add_column("label", labels, feature=feature)
    columns = find_columns(data, "image", "label")
    assert Classes.of(data, columns).names == names
    if not rows:
        protection = fit(data, label_column="label")
        assert class_numbers(data, columns).tolist() == [0, 1] * 24
        assert protection.verify(data, data.map(protection)).unchanged == 0
        assert protection.from_pretrained(protection.folder).classes == protection.classes
        return
    with pytest.raises(DataError, match=r"2 of 48 rows without a label \(null, NaN or -1\): 5, 9; expected .*\"drop\""):
        fit(data, label_column="label")
    with pytest.raises(DataError, match=r"row 5: got the label .*unlabelled=.drop."):
        ImageSet.read(data, columns)
    with pytest.warns(DataWarning, match="2 rows without a label are left out"):
        protection = fit(data, label_column="label", unlabelled="drop")
    assert len(protection) == 46
    assert protection.classes.names == names
    with pytest.raises(DataError, match=r"got the label .*Leave them out: dataset.filter\("):
        data.map(protection)
    kept = data.select([row for row in range(48) if row not in rows])
    assert protection.verify(kept, kept.map(protection)).unchanged == 0


def test_numbers_with_a_fraction_are_no_classes():
    data = make_dataset().remove_columns("label").add_column("label", [index % 3 + 0.37 for index in range(48)])
    with pytest.raises(DataError, match=r"label_column='label' with numbers such as 0.37; expected classes"):
        fit(data, label_column="label")


def test_minus_one_as_a_class_is_a_string():
    data = make_dataset(classes=2).cast_column("label", Value("int64")).map(lambda row: {"label": 2 * row["label"] - 1})
    with pytest.raises(
        DataError, match=r"24 of 48 rows without a label.*cast_column\('label', datasets.Value\('string'\)\)"
    ):
        fit(data, label_column="label")
    protection = fit(data.cast_column("label", Value("string")), label_column="label")
    assert protection.classes.names == ["-1", "1"]


def advised(error: pytest.ExceptionInfo) -> str:
    """The call of ``dataset`` that a message advises, with the other words around it cut off."""
    text = str(error.value)
    start = text.index("dataset.")
    depth = 0
    for place, letter in enumerate(text[start:], start):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and depth == 0:
            return text[start : place + 1]
    raise AssertionError(text)


def test_lists_of_images_and_of_labels_say_what_to_do():
    images = [[row["image"]] * (1 + index % 2) for index, row in enumerate(make_dataset(12))]
    features = Features({"photos": List(ImageFeature()), "label": ClassLabel(names=["a", "b"])})
    dataset = Dataset.from_dict({"photos": images, "label": [0, 1] * 6}, features=features)
    for named in ({}, {"image_column": "photos"}):
        with pytest.raises(DataError, match=r"List\(Image\).*every image of a list a row") as error:
            fit(dataset, **named)
    flat = eval(advised(error))
    assert (len(flat), set(flat.column_names)) == (18, {"image", "label"})
    flat = flat.cast_column("label", dataset.features["label"]).cast_column("image", ImageFeature())
    assert len(fit(flat)) == 18

    dataset = make_dataset().map(lambda row: {"labels": [row["label"]]}, remove_columns="label")
    dataset = dataset.cast_column("labels", List(ClassLabel(names=["a", "b", "c"])))
    with pytest.warns(DataWarning, match="by the most frequent label of an image, in the column labels"):
        assert fit(dataset).classes.names == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"List\(ClassLabel\).*Choose one of the labels") as error:
        fit(dataset, label_column="labels")
    assert fit(eval(advised(error)), label_column="label").classes.names == ["0", "1", "2"]


def test_an_image_in_a_structure_says_how_to_take_it_out():
    stored = make_dataset().cast_column("image", ImageFeature(decode=False))
    features = Features({"meta": {"photo": ImageFeature(), "id": Value("int64")}, "label": stored.features["label"]})
    rows = [{"meta": {"photo": row["image"], "id": 1}, "label": row["label"]} for row in stored]
    dataset = Dataset.from_list(rows, features=features)
    with pytest.raises(DataError, match=r"dataset\.flatten\(\), then image_column='meta\.photo'") as error:
        fit(dataset)
    flat = eval(advised(error))
    protection = fit(flat, image_column="meta.photo")
    assert protection.verify(flat, flat.map(protection)).violations == 0


@pytest.mark.parametrize("value", [None, {"bytes": None, "path": None}])
def test_a_row_without_an_image_is_named(value, protection):
    rows = make_dataset().cast_column("image", ImageFeature(decode=False)).to_list()
    rows[7]["image"] = value
    data = Dataset.from_list(rows).cast(make_dataset().features)
    with pytest.raises(DataError, match="row 7: got no image, neither bytes nor a path"):
        fit(data)
    with pytest.raises(DataError, match="without an image, neither bytes nor a path"):
        protection.release(data)
    with pytest.raises((DataError, ValueError), match=r"without an image|should have one of 'path' or 'bytes'"):
        data.map(protection)  # the second is said by datasets, which decodes the row before


@pytest.mark.parametrize("kind", ["RGB;16", "LA;16", "RGB;16 of TIFF"])
def test_deep_colour_is_reduced_with_a_notice(kind):
    """Pillow reads these as 8 bits without a word."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rng = np.random.default_rng(0)
    channels = 2 if kind.startswith("LA") else 3
    data = []
    for _ in range(4):
        deep = rng.integers(0, 65536, (12, 12, channels), dtype=np.uint16)
        if "TIFF" in kind:
            head = struct.pack("<2sHI", b"II", 42, 8)
            entries = [(256, 3, 1, 12), (257, 3, 1, 12), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)]
            entries += [(273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, 12), (279, 4, 1, deep.nbytes), (284, 3, 1, 1)]
            directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
            data.append(head + directory + bytes(4) + struct.pack("<3H", 16, 16, 16) + deep.astype("<u2").tobytes())
            assert len(data[-1]) == 140 + deep.nbytes
        else:
            lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in deep)
            header = struct.pack(">IIBBBBB", 12, 12, 16, 4 if channels == 2 else 2, 0, 0, 0)
            body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
            data.append(b"\x89PNG\r\n\x1a\n" + body)
    rows = [{"image": {"bytes": content, "path": None}, "label": index % 2} for index, content in enumerate(data)]
    data = Dataset.from_list(rows, features=Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])}))
    source, released = kind.split()[0], "RGBA" if channels == 2 else "RGB"  # Pillow has no LA of 16 bits
    with pytest.warns(DataWarning, match=rf"4 of 4 images .* are converted: 4 from {source} to {released}"):
        protection = fit(data)
    assert protection.verify(data, data.map(protection)).violations == 0


def test_one_image_under_two_labels_is_said_and_can_share_a_perturbation():
    from datasets import concatenate_datasets

    small = make_dataset()
    other = small.select([4, 7]).map(lambda row: {"label": (row["label"] + 1) % 3})
    fine = replace(QUICK, copies=2, grain=1, compressed=0.0)
    data = concatenate_datasets([small, other, small.select([0])])  # row 50 is a copy with the same label
    with pytest.warns(DataWarning, match=r"4 rows hold images .* another label too: 4, 7, 48, 49.*duplicates='share'"):
        apart = fine.fit(data, progress=False)
    shared = fine.fit(data, duplicates="share", progress=False)

    def change(protection, row: int) -> np.ndarray:
        return protection.perturbation(data[row]["image"], data[row]["label"]).astype(float)

    left = [
        np.abs(change(apart, a) + change(apart, b)).mean() / 2 / np.abs(change(apart, a)).mean()
        for a, b in ((4, 48), (7, 49))
    ]
    assert 0.3 < np.mean(left) < 0.9  # what the mean of two copies leaves
    for first, copy in ((4, 48), (7, 49), (0, 50)):
        assert np.array_equal(change(shared, first), change(shared, copy))
        assert np.array_equal(change(shared, first), change(apart, first))
    assert np.array_equal(
        np.asarray(shared(data[4]["image"])), np.asarray(shared.protect(data[48]["image"], data[48]["label"]))
    )
    with pytest.raises(
        DataError, match=r"fitted with 2 labels: class 1, class 2; expected one.*protect\(image, label\)"
    ):
        apart(data[4]["image"])
