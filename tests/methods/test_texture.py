"""The closed-form texture: what it must look like to survive what happens to published images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers.datasets import make_dataset, pixels_of
from PIL import Image
from scipy.fft import dctn

from hf_unlearnable import RecipeError, get_method
from hf_unlearnable.methods.texture import Texture
from hf_unlearnable.methods.waves import BLOCK, FREQUENCIES, LONE, balanced_signs, class_codes, wave


@pytest.mark.parametrize("frequencies", FREQUENCIES)
def test_every_block_is_one_basis_function_of_jpeg(frequencies):
    shown = wave((frequencies,), 32, 32)
    assert set(np.unique(shown)) == {-1, 1}
    for top in range(0, 32, BLOCK):
        for left in range(0, 32, BLOCK):
            spectrum = abs(dctn(shown[top : top + BLOCK, left : left + BLOCK], norm="ortho"))
            assert np.unravel_index(spectrum.argmax(), spectrum.shape) == frequencies


@pytest.mark.parametrize("frequencies", FREQUENCIES)
def test_the_wave_goes_on_over_the_edges_of_blocks(frequencies):
    """Shifted by whole blocks it is itself, or its negative where a frequency is odd: a crop sees the same wave."""
    shown = wave((frequencies,), 40, 40)
    for axis, frequency in enumerate(frequencies):
        moved = np.roll(shown, -BLOCK, axis=axis)[:32, :32]
        assert (moved == (-1) ** frequency * shown[:32, :32]).all()


def test_all_classes_differ_however_many():
    rng = np.random.default_rng(0)
    codes = class_codes(100, rng)
    waves = np.stack([wave(code, 32, 32).ravel() for code in codes])
    alike = np.corrcoef(waves)
    assert len(set(codes)) == 100
    assert abs(alike - np.eye(100)).max() < 0.99
    assert all(len(code) == 1 for code in codes[: len(FREQUENCIES)])
    with pytest.raises(RecipeError, match="got 5000 classes"):
        class_codes(5000, rng)


def test_signs_are_balanced_and_no_direction_tells_the_class():
    labels = np.arange(60) % 3
    signs = balanced_signs(labels, np.random.default_rng(0))
    assert [signs[labels == label].sum() for label in range(3)] == [0, 0, 0]
    data = make_dataset(60, channels=3, side=32)
    protect = Texture().fit(data, progress=False)
    change = pixels_of(data.map(protect)).astype(int) - pixels_of(data)
    means = np.stack([abs(change[labels == label].mean(axis=0)).mean(axis=(0, 1)) for label in range(3)])
    assert (means[:, :2] < 1.5).all()  # of 8 levels: red and green cancel
    assert (means[:, 2] > 5).all()  # blue does not


def test_with_one_sign_all_images_of_a_class_carry_the_same():
    labels = np.arange(60) % 3
    data = make_dataset(60, channels=3, side=32)
    protect = Texture(signs="one").fit(data, progress=False)
    change = pixels_of(data.map(protect)).astype(int) - pixels_of(data)
    for label in range(3):
        carried = np.sign(change[labels == label])
        assert (abs(carried.sum(axis=0)) == abs(carried).sum(axis=0)).all()  # no two images differ in sign
        wave_of = np.sign(carried.sum(axis=0))
        assert (wave_of[..., 0] == wave_of[..., 1]).mean() > 0.99  # but for pixels that nothing could move
        assert (wave_of[..., 0] != wave_of[..., 2]).mean() > 0.3  # blue has that of another class
    assert protect.description.settings["signs"] == "one"
    drawn = pixels_of(data.map(Texture().fit(data, progress=False))).astype(int) - pixels_of(data)
    assert (change[..., 2] == drawn[..., 2]).all()  # the same waves, of which red and green alone differ, in their sign
    assert (abs(change) == abs(drawn)).mean() > 0.9


def test_with_one_sign_images_that_are_added_later_carry_the_wave_of_their_class():
    data, later = (make_dataset(30, channels=3, side=32, classes=3, seed=seed) for seed in (0, 1))
    protect = Texture(signs="one").fit(data, on_unseen="craft", progress=False)
    mine, theirs = (np.sign(pixels_of(one.map(protect)).astype(int) - pixels_of(one)) for one in (data, later))
    for label in range(3):
        of_class = np.array(data["label"]) == label, np.array(later["label"]) == label
        carried = [np.sign(signs[members].sum(axis=0)) for signs, members in zip((mine, theirs), of_class, strict=True)]
        assert (carried[0] == carried[1]).mean() > 0.99


def test_where_there_is_one_sign_anyhow_nothing_changes():
    grey, alone = make_dataset(30, channels=1, side=16), make_dataset(30, channels=3, side=16, classes=1)
    for data, labels in ((grey, "auto"), (alone, "none")):
        one, drawn = (
            pixels_of(data.map(Texture(signs=signs).fit(data, labels=labels, progress=False)))
            for signs in ("one", "drawn")
        )
        assert (one == drawn).all()


def test_a_single_class_carries_one_wave_with_one_sign_in_all_channels():
    """Among clean images of others only the simplest pattern is taken up in time."""
    data = make_dataset(30, classes=1, channels=3, side=32)
    protect = Texture().fit(data, labels="none", progress=False)
    change = pixels_of(data.map(protect)).astype(int) - pixels_of(data)
    means = change.mean(axis=0)
    assert abs(means).mean() > 5  # of 8 levels: nothing cancels
    signs = np.sign(means)
    assert (signs == signs[..., :1]).all()
    assert any((signs[..., 0] == turn * wave((code,), 32, 32)).all() for code in LONE for turn in (1, -1))


def test_the_wave_survives_jpeg():
    data = make_dataset(40, channels=3, side=32)
    protected = data.map(Texture().fit(data, progress=False))

    def compressed(image):
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=10)
        return np.asarray(Image.open(stream), dtype=float)[:, :, 1]

    def kept(rows):
        """How well the change of an image, as JPEG leaves it, agrees with the change itself."""
        for clean, after in rows:
            change = np.asarray(after, dtype=float)[:, :, 1] - np.asarray(clean, dtype=float)[:, :, 1]
            left = compressed(after) - compressed(clean)
            yield np.corrcoef(change.ravel(), left.ravel())[0, 1]

    assert np.median(list(kept(zip(data["image"], protected["image"], strict=True)))) > 0.5


def test_other_images_get_other_waves_without_a_word_about_the_seed():
    one, other = make_dataset(30, side=16, seed=1), make_dataset(30, side=16, seed=2)

    def first(data):
        return pixels_of(data.map(Texture().fit(data, progress=False)))[:9].astype(int) - pixels_of(data)[:9]

    assert (first(one) == first(one)).all()
    assert (np.sign(first(one)) != np.sign(first(other))).any()


def test_a_surrogate_is_refused():
    with pytest.raises(RecipeError, match="'texture', which uses none"):
        get_method("texture")().fit(make_dataset(), surrogate="small-vgg")
