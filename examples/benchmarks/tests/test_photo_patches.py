"""Patches of made-up photographs; the real ones come from Debian's packages."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import load_from_disk
from photo_patches import contact_sheet, main
from PIL import Image

from hf_unlearnable import DataError, SourceError
from hf_unlearnable.data.photo_patches import MIN_STD, build, build_dataset, split_cells
from hf_unlearnable.data.photographs import PHOTO_SETS, WIDTH, Photograph, PhotoSet, photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noisy pictures under the names of all photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for photos in PHOTO_SETS.values():
        for one in photos.photographs:
            small = rng.integers(0, 256, (40, 150, 3), dtype=np.uint8)
            Image.fromarray(small).resize((1600, 480), Image.Resampling.BICUBIC).save(folder / f"{one.name}.jpg")
    return folder


def test_from_the_command_line(folder, tmp_path, monkeypatch, capsys):
    out, sheet = tmp_path / "patches", tmp_path / "sheet.png"
    options = ["--photographs", folder, "--output", out, "--contact-sheet", sheet, "--train", 40, "--test", 20]
    monkeypatch.setattr("sys.argv", ["photo_patches.py", *map(str, options)])
    main()
    assert capsys.readouterr().out == "40 training and 20 test patches of photo-patches\n"
    data = load_from_disk(str(out))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 40, "test": 20}
    assert np.bincount(data["train"]["label"]).tolist() == [4] * 10
    assert data["train"][0]["image"].size == (32, 32)
    assert data["train"].features["label"].names[0] == "Aqua"
    with Image.open(sheet) as opened:
        assert opened.size == (24 * 34, 10 * 34)


@pytest.mark.parametrize(
    ("name", "classes", "side", "train", "test"),
    [
        ("photo-patches", 10, 32, 4000, 2000),
        ("photo-patches-2", 10, 32, 4000, 2000),
        ("photo-patches-3", 10, 32, 4000, 2000),
        ("photo-patches-4", 10, 32, 4000, 2000),
        ("photo-patches-5", 10, 32, 4000, 2000),
        ("photo-patches-6", 10, 32, 4000, 2000),
        ("photo-patches-20", 20, 32, 8000, 4000),
        ("photo-patches-100", 100, 32, 6000, 2000),
        ("photo-patches-224", 10, 224, 1000, 500),
    ],
)
def test_every_set(name, classes, side, train, test, folder):
    data = build_dataset(name, 2 * classes, classes, folder=folder)
    names = data["train"].features["label"].names
    stripes = PHOTO_SETS[name].stripes
    assert [one.name for one in PHOTO_SETS[name].photographs] == [one.removesuffix(" 1") for one in names[::stripes]]
    assert len(set(names)) == classes == PHOTO_SETS[name].classes
    assert np.bincount(data["train"]["label"]).tolist() == [2] * classes
    assert np.bincount(data["test"]["label"]).tolist() == [1] * classes
    assert {image.size for image in data["train"]["image"]} == {(side, side)}
    assert (PHOTO_SETS[name].train, PHOTO_SETS[name].test) == (train, test)
    again = build_dataset(name, 2 * classes, classes, folder=folder)
    assert [image.tobytes() for image in again["test"]["image"]] == [one.tobytes() for one in data["test"]["image"]]
    assert contact_sheet(data["train"], columns=2).size == (2 * (side + 2), classes * (side + 2))


def test_held_back_sets_share_no_photograph_with_the_one_that_recipes_were_tuned_on():
    sets = ({one.file for one in photos.photographs} for photos in PHOTO_SETS.values())
    tuned, second, third, fourth, fifth, sixth, twenty, stripes, large = sets
    assert not tuned & (second | twenty)
    assert not (fourth | fifth | sixth) & (tuned | twenty | stripes)
    assert not fourth & fifth
    assert not sixth & (fourth | fifth)
    assert second < twenty
    assert not third & second
    assert second | third == twenty
    assert len(stripes - twenty) == 4
    assert large == tuned


def test_stripes_of_a_photograph_are_classes_of_their_own():
    """Each stripe has a level of its own, which no patch of another may have."""
    levels = np.repeat(np.arange(3) * 60 + 60, 320)
    pixels = np.tile(levels, (640, 1)) + 40 * (np.indices((640, 960)).sum(axis=0) // 6 % 2)
    kind = PhotoSet((), stripes=3)
    parts = kind.cut({"levels": Image.fromarray(pixels.astype(np.uint8)).convert("RGB")})
    assert list(parts) == ["levels 1", "levels 2", "levels 3"]
    assert [np.asarray(one).min() for one in parts.values()] == [60, 120, 180]
    assert {one.size for one in parts.values()} == {(320, 640)}


def test_train_and_test_patches_come_from_disjoint_cells():
    """Each cell of the photograph has a brightness of its own, and its patches must not be found in both parts."""
    levels, kind = np.arange(16).reshape(4, 4) * 12 + 30, PhotoSet(())
    rng = np.random.default_rng(0)
    stripes = 40 * (np.indices((4 * kind.cell, 4 * kind.cell))[1] // 6 % 2)
    pixels = np.kron(levels, np.ones((kind.cell, kind.cell))) + stripes
    photo = Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    train, test = split_cells(photo, kind.cell, rng)
    assert sorted(map(tuple, [*train, *test])) == [(column, row) for column in range(4) for row in range(4)]
    assert len(test) == 16 // 3
    parts = build(kind, {"cells": photo}, train=60, test=30)
    assert all(image.mean(axis=2).std() >= 0.5 * MIN_STD for images, _ in parts.values() for image in images)


def test_a_photograph_without_texture_is_refused():
    with pytest.raises(DataError, match=r"too little texture for 2 patches of \w+ \(0 found\)"):
        build(PhotoSet(()), {"sky": Image.new("RGB", (480, 480), "blue")}, train=2, test=2)
    with pytest.raises(DataError, match=r"too little texture for 2 patches of \w+ \(0 found\)"):
        build(PhotoSet(()), {"small": Image.effect_noise((40, 40), 50).convert("RGB")}, train=2, test=2)


def test_large_photographs_are_reduced(tmp_path):
    Image.new("RGB", (2 * WIDTH, 200)).save(tmp_path / "large.jpg")
    assert Photograph("large", "none", "large.jpg").open(tmp_path).size == (WIDTH, 100)


def test_missing_photographs_are_named(folder, tmp_path):
    with pytest.raises(SourceError, match=r"lacks Aqua, .*mate-backgrounds"):
        photographs("photo-patches", tmp_path)
    with pytest.raises(SourceError, match=r"lacks BytheWater, .*plasma-workspace-wallpapers, lomiri-wallpapers-20\.04"):
        photographs("photo-patches-2", tmp_path)
