from __future__ import annotations

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset
from PIL import Image

from hf_unlearnable import DataError, DataWarning
from hf_unlearnable.data.columns import Columns, find_columns
from hf_unlearnable.data.image_set import ImageSet, check_classes
from hf_unlearnable.data.pixels import digest, to_array, to_image

COLUMNS = Columns("image", "label")


def with_bytes(content: bytes, row: int = 1) -> Dataset:
    """``make_dataset`` with the file of one image replaced."""
    stored = make_dataset(6).cast_column("image", ImageFeature(decode=False)).to_list()
    stored[row]["image"] = {"bytes": content, "path": None}
    return Dataset.from_list(stored, features=make_dataset(6).features)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_and_images_are_inverse(channels):
    array = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    assert np.array_equal(to_array(to_image(array)), array)
    assert to_image(array).size == (7, 5)


def test_columns_are_found_when_unambiguous():
    assert find_columns(make_dataset()) == COLUMNS
    renamed = make_dataset().rename_columns({"image": "photo", "label": "kind"})
    assert find_columns(renamed) == Columns("photo", "kind")


def two_of_each() -> Dataset:
    features = Features(
        {"a": ImageFeature(), "b": ImageFeature(), "x": ClassLabel(names=["0"]), "y": ClassLabel(names=["0"])}
    )
    return Dataset.from_dict({"a": [], "b": [], "x": [], "y": []}, features=features)


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        (make_dataset().remove_columns("label"), {}, r"without a column of type ClassLabel.*class_encode_column"),
        (make_dataset().remove_columns("image"), {}, r"without a column of type Image.*cast_column"),
        (
            make_dataset().cast_column("label", Value("string")).cast_column("label", Value("binary")),
            {},
            r"without a column of type ClassLabel",
        ),
        (
            make_dataset().cast_column("label", Value("string")).cast_column("label", Value("binary")),
            {"label": "label"},
            r"type Value\('binary'\); expected",
        ),
        (make_dataset(), {"image": "photo"}, r"image_column='photo'; expected one of the dataset's columns: name"),
        (make_dataset(), {"image": "name"}, r"image_column='name' of type Value\('string'\); expected Image"),
        (two_of_each(), {"label": "x"}, r"2 columns of type Image: a, b; expected one.*image_column='a'"),
        (two_of_each(), {"image": "a"}, r"2 columns of type ClassLabel: x, y.*label_column='x'"),
        (DatasetDict({"train": make_dataset()}), {}, r"DatasetDict with the splits train; expected one split"),
        (make_dataset().to_iterable_dataset(), {}, r"IterableDataset; expected a Dataset"),
        ([1, 2], {}, r"got list; expected a datasets.Dataset"),
        (two_of_each().rename_column("a", "LABEL"), {"image": "b", "label": "LABEL"}, r"label_column='LABEL' of type"),
    ],
)
def test_columns_that_cannot_be_used(dataset, arguments, message):
    with pytest.raises(DataError, match=message):
        find_columns(dataset, **arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("a.png", r"builtins.str; expected a Pillow image"),
        (np.zeros((4, 4), dtype=np.float32), r"float32 \(4, 4, 1\); expected uint8"),
        (np.zeros((3, 4, 5), dtype=np.uint8), r"uint8 \(3, 4, 5\); expected uint8 \(H, W\)"),
    ],
)
def test_images_that_cannot_be_used(image, message):
    with pytest.raises(DataError, match=message):
        to_array(image)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (make_dataset().select([]), r"empty dataset"),
        (with_bytes(b"no image"), r"row 1: cannot read the image"),
        (with_bytes(encoded(Image.effect_noise((12, 12), 50))[:120]), r"row 1: cannot read the image"),
        (
            with_bytes(encoded(Image.new("L", (13, 12)))),
            r"images of 2 sizes, 12x12 to 13x12; expected one size.*size=32",
        ),
        (with_bytes(encoded(Image.new("F", (12, 12)), "TIFF")), r"row 1: got an image of mode F; expected L, LA"),
    ],
)
def test_rows_that_cannot_be_read(dataset, message):
    with pytest.raises(DataError, match=message):
        ImageSet.read(dataset, COLUMNS)


def test_labels_may_be_strings_or_integers():
    data = make_dataset(6)
    words = data.cast_column("label", Value("string")).map(
        lambda row: {"label": ["zebra", "ant", "bee"][int(row["label"])]}
    )
    with pytest.warns(DataWarning, match="'label' are no ClassLabel: taken as 3 classes, 'ant', 'bee', 'zebra'"):
        assert find_columns(words) == COLUMNS
    images = ImageSet.read(words, find_columns(words, label="label"))  # named: no warning
    assert images.names == ["ant", "bee", "zebra"]
    assert images.labels.tolist() == [2, 0, 1, 2, 0, 1]
    numbers = data.cast_column("label", Value("int16")).map(lambda row: {"label": 10 * row["label"] - 10})
    images = ImageSet.read(numbers, find_columns(numbers, label="label"))
    assert images.names == ["-10", "0", "10"]
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_images_can_be_brought_to_one_size_and_mode():
    mixed = with_bytes(encoded(Image.new("RGB", (20, 15), (200, 100, 0))))
    images = ImageSet.read(mixed, COLUMNS, size=10)
    assert images.pixels.shape == (6, 3, 10, 10)
    assert (images.pixels[1] == np.array([200, 100, 0])[:, None, None]).all()
    assert (images.pixels[0, 0] == images.pixels[0, 2]).all()
    assert images.originals.sizes.tolist()[:3] == [[12, 12], [15, 20], [12, 12]]
    assert ImageSet.read(mixed, COLUMNS, size=(8, 9), channels=1).pixels.shape == (6, 1, 8, 9)


@pytest.mark.parametrize("column", ["image", "label"])
def test_missing_values(column):
    rows = make_dataset(6).cast_column("image", ImageFeature(decode=False)).to_list()
    rows[2][column] = None
    with pytest.raises(DataError, match=r"row 2: got"):
        ImageSet.read(Dataset.from_list(rows, features=make_dataset(6).features), COLUMNS)


def test_exif_orientation_is_applied_and_metadata_dropped():
    image = Image.new("RGB", (12, 8), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by a quarter
    exif[0x010F] = "camera"
    array = to_array(Image.open(io.BytesIO(encoded(image, "JPEG", exif=exif))))
    assert array.shape == (3, 12, 8)
    assert len(to_image(array).getexif()) == 0


def test_scratch_folder_holds_the_pixels(tmp_path):
    on_disk = ImageSet.read(make_dataset(), COLUMNS, scratch=tmp_path)
    assert isinstance(on_disk.pixels, np.memmap)
    assert np.array_equal(on_disk.pixels, ImageSet.read(make_dataset(), COLUMNS).pixels)
    assert on_disk.chance == pytest.approx(1 / 3)


def test_classes_that_cannot_be_protected():
    images = ImageSet.read(make_dataset(12), COLUMNS)
    check_classes(images.labels, images.names)
    with pytest.raises(DataError, match="one class only"):
        check_classes(images.labels[images.labels == 1], images.names)
    with pytest.raises(DataError, match="single image: class 2"):
        check_classes(images.labels[:5], images.names)


def test_digest_tells_pixels_shape_and_label():
    array = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    other = array.copy()
    other[0, 0, 0] += 1
    digests = {digest(array, 0), digest(array, 1), digest(other, 0), digest(array.reshape(1, 4, 3), 0)}
    assert len(digests) == 4
    assert digest(array, 0) == digest(array.copy(), np.int64(0))


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path):
    from hf_unlearnable.files import allocate_memmap

    with pytest.raises(OSError, match=r"(?i)space|large|limit"):
        allocate_memmap(tmp_path / "pixels", (1 << 60,), np.uint8)
    array = allocate_memmap(tmp_path / "small", (3, 4), np.float32)
    assert array.shape == (3, 4)
    assert not array.any()
