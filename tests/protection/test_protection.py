from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from datasets import DatasetDict, concatenate_datasets, load_from_disk
from datasets import Image as ImageFeature
from datasets.fingerprint import Hasher
from helpers.datasets import described, make_dataset, pixels_of
from PIL import Image

from hf_unlearnable import EM, Budget, BudgetError, DataError, OutputError, Protection, SourceError, UnseenImageError
from hf_unlearnable.data.pixels import digest
from hf_unlearnable.methods.texture import Texture


@pytest.fixture(scope="module")
def expected(small, protection):
    """Protected pixels by row name."""
    return {row["name"]: np.asarray(row["image"]) for row in small.map(protection)}


def agree(dataset, expected):
    rows = list(dataset)
    assert rows
    for row in rows:
        assert np.array_equal(np.asarray(row["image"]), expected[row["name"]])


@pytest.mark.parametrize(
    "variant",
    [
        lambda data, protect: data.map(protect, batched=True, batch_size=7),
        lambda data, protect: data.map(protect, num_proc=2),
        lambda data, protect: data.map(protect, batched=True, num_proc=2),
        lambda data, protect: data.shuffle(seed=1).map(protect),
        lambda data, protect: data.select(range(5, 20)).map(protect),
        lambda data, protect: data.filter(lambda row: row["label"] == 1).map(protect),
        lambda data, protect: data.shard(3, 1).map(protect),
        lambda data, protect: data.train_test_split(0.25, seed=0)["test"].map(protect),
        lambda data, protect: DatasetDict({"a": data.select(range(9)), "b": data}).map(protect)["b"],
        lambda data, protect: data.to_iterable_dataset(num_shards=3).shuffle(seed=0).map(protect),
        lambda data, protect: data.to_iterable_dataset().map(protect, batched=True, batch_size=5),
        lambda data, protect: data.with_format("numpy").map(protect).with_format(None),
        lambda data, protect: data.with_format("numpy").map(protect, batched=True).with_format(None),
        lambda data, protect: concatenate_datasets([data, data]).map(protect),
        lambda data, protect: data.map(Protection.from_pretrained(protect.folder)),
    ],
    ids=[
        "batched",
        "num_proc",
        "batched+num_proc",
        "shuffle",
        "select",
        "filter",
        "shard",
        "split",
        "dict",
        "iterable",
        "iterable+batched",
        "numpy",
        "numpy+batched",
        "twice",
        "reopened",
    ],
)
def test_every_way_of_map_gives_the_same_bytes(small, protection, expected, variant):
    agree(variant(small, protection), expected)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # datasets 5.2, of its own tensors
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("form", ["torch", "numpy", "pandas", "arrow", "polars"])
def test_every_format_gives_the_same_bytes(form, batched, channels):
    """``fit``, ``release`` and ``map``, also of a stream; tables go through ``map`` with their images as files."""
    data = make_dataset(channels=channels)
    fitted = Texture().fit(data, progress=False)
    expected = {row["name"]: np.asarray(row["image"]) for row in data.map(fitted)}
    assert Texture().fit(data.with_format(form), progress=False).digest == fitted.digest
    released = fitted.release(data.with_format(form))
    assert released.format["type"] == form
    agree(released.with_format(None), expected)
    agree(fitted.release(data.to_iterable_dataset().with_format(form)).with_format(None), expected)

    stream = data.to_iterable_dataset().with_format(form).map(fitted, batched=batched, batch_size=7)
    decode = ImageFeature().decode_example
    rows = [
        {**row, "image": decode(row["image"])} if isinstance(row["image"], dict) else row
        for row in stream.with_format(None)
    ]
    agree(rows, expected)
    if form == "polars":  # datasets 5.2 cannot make polars rows of an Image column at all: map fails before our code
        with pytest.raises(TypeError):
            data.with_format(form).map(len)
        data = data.cast_column("image", ImageFeature(decode=False))
    mapped = data.with_format(form).map(fitted, batched=batched, batch_size=7).with_format(None)
    if form != "polars":  # whose types are larger ones, so that datasets takes the column for another
        assert mapped.features["image"] == data.features["image"]
    agree(mapped.cast_column("image", ImageFeature()), expected)


@pytest.mark.parametrize("option", [{"with_indices": True}, {"with_rank": True}, {"input_columns": ["image", "label"]}])
def test_options_of_map_that_pass_more_than_a_row_are_named(small, protection, option):
    with pytest.raises(DataError, match=r"got 2 arguments; expected a row alone. Leave with_indices, .* of map out"):
        small.map(protection, **option)


def test_one_image_alone(small, protection, expected):
    """The label is the one that it was fitted with; what comes back is a Pillow image."""
    for row in small.select(range(6)):
        released = protection(row["image"])
        assert isinstance(released, Image.Image)
        assert np.array_equal(np.asarray(released), expected[row["name"]])
    with pytest.raises(UnseenImageError, match=r"12x12 pixels\) that is not among the 48"):
        protection(make_dataset(seed=9)[0]["image"])


def test_other_columns_order_and_features_are_untouched(small, protection):
    protected = small.map(protection)
    assert protected.features == small.features
    assert protected["name"] == small["name"]
    assert protected["label"] == small["label"]


def test_released_images_keep_the_budget_after_disk(small, protection, tmp_path):
    small.map(protection).save_to_disk(tmp_path / "out")
    stored = load_from_disk(str(tmp_path / "out"))
    figures = protection.verify(small, stored)
    assert figures.violations == 0
    assert figures.ok
    assert figures.unchanged == 0
    assert 0 < figures.max_perturbation <= 8
    assert np.abs(pixels_of(stored).astype(int) - pixels_of(small)).max() == figures.max_perturbation
    raw = stored.cast_column("image", ImageFeature(decode=False))[0]["image"]
    assert raw["path"] is None
    assert raw["bytes"].startswith(b"\x89PNG")


def test_verify_sees_what_was_tampered_with(small, protection):
    protected = small.map(protection)
    assert protection.verify(small, small).unchanged == len(small)
    lighter = protected.map(lambda row: {"image": row["image"].point(lambda level: min(255, level + 30))})
    assert (found := protection.verify(small, lighter)).violations == len(small)
    assert not found.ok
    with pytest.raises(DataError, match="row 0: got the label"):
        protection.verify(small, protected.select([1, 0, *range(2, len(small))]))
    with pytest.raises(DataError, match=r"got 3 protected rows; expected 48"):
        protection.verify(small, protected.select(range(3)))


def test_psnr_of_a_known_change():
    from hf_unlearnable.protection.verification import compare

    flat = np.full((1, 8, 8), 100, dtype=np.uint8)
    figures = compare([(flat, flat + 5), (flat, flat)], Budget(8))
    assert figures.psnr == pytest.approx(20 * np.log10(255 / 5))
    assert (figures.max_perturbation, figures.mean_perturbation, figures.unchanged) == (5, 2.5, 1)


def test_the_second_map_comes_from_the_cache(small, protection, tmp_path):
    small.save_to_disk(tmp_path / "data")
    data = load_from_disk(str(tmp_path / "data"))
    first, second = data.map(protection), data.map(Protection.from_pretrained(protection.folder))
    assert first.cache_files == second.cache_files != []
    assert first._fingerprint == second._fingerprint


def test_pickle_is_small_and_stable(protection):
    assert len(pickle.dumps(protection)) < 1000
    again = pickle.loads(pickle.dumps(protection))
    assert again.digest == protection.digest
    assert Hasher.hash(again) == Hasher.hash(protection)


def test_pickle_notices_that_the_protection_has_changed(small, protection, tmp_path):
    protection.save_pretrained(tmp_path / "copy")
    pickled = pickle.dumps(Protection(tmp_path / "copy"))
    shutil.rmtree(tmp_path / "copy")
    EM(epochs=4, batch_size=8, seed=5).fit(small, output_dir=tmp_path / "copy", progress=False)
    with pytest.raises(SourceError, match="has changed"):
        pickle.loads(pickled)


def test_save_and_load(small, protection, expected, tmp_path):
    protection.save_pretrained(tmp_path / "kept")
    loaded = Protection.from_pretrained(tmp_path / "kept")
    assert (loaded.digest, loaded.budget, len(loaded)) == (protection.digest, protection.budget, len(small))
    agree(small.map(loaded), expected)
    with pytest.raises(OutputError, match="exists already"):
        protection.save_pretrained(tmp_path / "kept")


def test_about_says_how_it_was_made(protection):
    about = json.loads((protection.folder / "protection.json").read_text())
    assert about["method"]["name"] == "em"
    assert about["method"]["epochs"] == 6
    assert about["budget"] == "linf:8"
    assert about["verification"]["violations"] == 0
    assert "torch" in about["versions"]


def test_store_takes_one_byte_a_value(protection):
    size = (protection.folder / "perturbations.arrow").stat().st_size
    assert size < 48 * 12 * 12 + 48 * 40 + 4096


@pytest.mark.parametrize("damage", ["missing", "store", "json", "format"])
def test_damaged_protections_are_refused(protection, tmp_path, damage):
    folder = tmp_path / "damaged"
    if damage != "missing":
        protection.save_pretrained(folder)
    if damage == "store":
        (folder / "perturbations.arrow").write_bytes(b"x" * 100)
    if damage == "json":
        (folder / "protection.json").write_text("{")
    if damage == "format":
        (folder / "protection.json").write_text('{"format": 99, "images": 48}')
    with pytest.raises(SourceError, match=r"damaged|expected"):
        Protection.from_pretrained(folder)


@pytest.mark.parametrize("file", ["perturbations.arrow", "protection.json"])
def test_a_damaged_protection_in_the_cache_is_fitted_again(small, tmp_path, monkeypatch, file):
    monkeypatch.setattr("hf_unlearnable.protection.layout.constants.HF_HOME", str(tmp_path))
    first = Texture().fit(small, progress=False)
    whole = (first.folder / file).read_bytes()
    (first.folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="or fit again"):
        Protection(first.folder)
    again = Texture().fit(small, progress=False)
    assert (again.folder, again.digest) == (first.folder, first.digest)
    assert (again.folder / file).read_bytes() == whole


def test_unseen_images_are_never_passed_through(protection):
    with pytest.raises(UnseenImageError, match=r"not among the 48 .*fitted"):
        make_dataset(seed=9).map(protection)


def test_a_protected_image_is_not_protected_again(small, protection):
    with pytest.raises(UnseenImageError, match="protected before"):
        small.map(protection).map(protection)


def test_another_label_is_another_image(small, protection):
    image, label = small[0]["image"], small[0]["label"]
    with pytest.raises(UnseenImageError):
        protection.protect(image, label + 1)
    with pytest.raises(DataError, match=r"got the label None; .*protection.protect\(image, label\), or protection\("):
        protection.protect(image)


def test_missing_columns_in_map(small, protection):
    with pytest.raises(DataError, match=r"columns name, label; expected 'image'"):
        small.remove_columns("image").map(protection)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (lambda image: "photos/cats/000.png", "str"),
        (lambda image: np.asarray(image), "ndarray"),
        (lambda image: [image, image], "list"),
        (lambda image: None, "NoneType"),
    ],
)
def test_what_is_no_row_is_told_in_one_sentence(small, protection, given, name):
    with pytest.raises(DataError, match=rf"^got {name}; expected a row of the dataset .* dataset\.map\(protection\)$"):
        protection(given(small[0]["image"]))


def test_every_digest_is_found_whatever_its_last_byte(tmp_path):
    """Numpy cuts trailing zero bytes off byte strings: one digest in 256 ends in one."""
    array = np.zeros((1, 4, 4), dtype=np.uint8)
    arrays = []
    for value in range(4000):
        array = array.copy()
        array[0, 0, 0], array[0, 0, 1] = divmod(value, 256)
        if len(arrays) < 3 or digest(array, 0).endswith(b"\0"):
            arrays.append(array)
    assert sum(digest(array, 0).endswith(b"\0") for array in arrays) > 5
    pixels = np.stack(arrays)
    digests = np.array([digest(array, 0) for array in arrays], dtype="V16")
    protection = Protection.write(
        tmp_path, [(digests, np.ones_like(pixels, dtype=np.int8))], described(image_shape=(1, 4, 4))
    )
    for array in pixels:
        assert (protection.perturbation(array.transpose(1, 2, 0), 0) == 1).all()


def test_levels_outside_the_budget_are_not_stored(tmp_path):
    for levels in (9, -9, -128):
        batches = [(np.zeros(1, "V16"), np.full((1, 1, 4, 4), levels, dtype=np.int8))]
        with pytest.raises(BudgetError, match=r"to store; expected at most linf:8"):
            Protection.write(tmp_path, batches, described())


def test_perturbation_is_what_protect_adds(small, protection):
    row = small[3]
    added = protection.perturbation(row["image"], row["label"])
    released = np.asarray(protection.protect(row["image"], row["label"]))
    assert np.array_equal(np.asarray(row["image"]).astype(int) + added[0], released)
