"""What people see of a change: the figure, the adaptive budget on released files, the resolution of large images."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from hf_unlearnable import BEO, EM, MIUE, Budget, Texture
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.data.reading import Survey
from hf_unlearnable.protection.verification import compare
from hf_unlearnable.protection.visibility import colour_differences

QUICK = {"mi-ue": MIUE(epochs=2, guides=1, guide_epochs=1), "em": EM(epochs=2), "beo": BEO(steps=2, epochs=1)}
QUICK["texture"] = Texture()


def photographs(side: int, count: int = 6) -> Dataset:
    """Half sky, half grass, (side, side) RGB."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        pixels = np.full((side, side, 3), (90, 140, 200), dtype=np.uint8)
        pixels[side // 2 :] = rng.integers(0, 256, (side - side // 2, side, 1), dtype=np.uint8)
        images.append(Image.fromarray(pixels))
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])})
    return Dataset.from_dict({"image": images, "label": [row % 2 for row in range(count)]}, features=features)


def colour_difference(original: np.ndarray, released: np.ndarray) -> float:
    (found,) = colour_differences([(original, released)])
    return found


def test_the_colour_difference_is_ciede2000():
    one, other = np.full((3, 20, 20), 100, np.uint8), np.full((3, 20, 20), 100, np.uint8)
    other[2] = 120
    colours = [rgb2lab(np.moveaxis(side, 0, 2)) for side in (one, other)]
    assert colour_difference(one, other) == pytest.approx(deltaE_ciede2000(*colours).mean())
    assert colour_difference(one, one) == 0
    assert colour_difference(one[:1], one[:1] + 9) > 1
    pairs = [(one, other), (one[:1, :7], one[:1, :7] + 9), (one, one), (other[:, :, :17], one[:, :, :17])]
    assert colour_differences(pairs) == [colour_difference(*pair) for pair in pairs]


def test_the_mean_of_a_set_counts_every_image_once():
    """However many are computed at once."""
    pairs = [
        (np.full((1, 12, 12), 100, np.uint8), np.full((1, 12, 12), 100 + number, np.uint8)) for number in range(80)
    ]
    expected = np.mean([colour_difference(*pair) for pair in pairs])
    assert compare(pairs, Budget(8)).delta_e == pytest.approx(expected, rel=1e-12)


def test_blotches_count_more_than_grain_of_the_same_strength():
    grey = np.full((3, 320, 320), 120, np.uint8)
    places = np.arange(320)

    def checks(size: int) -> np.ndarray:
        sign = 1 - 2 * ((places[:, None] // size + places // size) % 2)
        return (grey + 8 * sign).astype(np.uint8)

    seen = [colour_difference(grey, checks(size)) for size in (1, 4, 16)]
    assert seen == sorted(seen)
    assert seen[-1] > 3 * seen[0]


def test_grain_of_a_photograph_is_not_what_is_looked_at():
    grey = np.full((1, 2560, 640), 120, np.uint8)
    rng = np.random.default_rng(0)
    noisy = (grey + rng.integers(-8, 9, grey.shape)).astype(np.uint8)
    assert colour_difference(grey, noisy) < 0.5 * colour_difference(grey[:, :640], noisy[:, :640])


@pytest.mark.parametrize("name", QUICK)
def test_every_method_keeps_an_adaptive_budget_on_released_files(name, tmp_path):
    budget = Budget(9, visibility="adaptive")
    data = photographs(24)
    protection = QUICK[name].fit(data, budget=budget, progress=False)
    data.map(protection).save_to_disk(tmp_path / "released")
    released = Dataset.load_from_disk(tmp_path / "released")
    verified = protection.verify(data, released)
    assert (verified.violations, verified.unchanged, verified.budget) == (0, 0, "linf:9:adaptive")
    assert protection.description.budget == budget
    change = np.stack(
        [to_array(a).astype(int) - to_array(b) for a, b in zip(released["image"], data["image"], strict=True)]
    )
    assert np.abs(change[:, :, :9]).max() <= 3  # sky
    if name == "texture":  # the others have hardly begun
        assert np.abs(change[:, :, 15:]).max() == 9  # grass


def test_verification_sees_a_uniform_change_as_outside_an_adaptive_budget():
    data = photographs(24)
    uniform = Texture().fit(data, budget=Budget(9), progress=False)
    adaptive = Texture().fit(data, budget=Budget(9, visibility="adaptive"), progress=False)
    assert adaptive.verify(data, data.map(uniform)).violations == len(data)


def test_an_adaptive_budget_holds_at_the_size_of_large_images_of_every_mode():
    data = photographs(300)
    modes = ["RGB", "RGBA", "L", "LA", "RGB", "L"]
    images = [image.convert(mode) for image, mode in zip(data["image"], modes, strict=True)]
    mixed = Dataset.from_dict({"image": images, "label": data["label"]}, features=data.features)
    protection = Texture().fit(mixed, budget="9:adaptive", progress=False)
    assert protection.description.image_shape == (3, 256, 256)
    assert protection.verify(mixed, protection.release(mixed)).violations == 0


@pytest.mark.parametrize(
    ("method", "side", "expected"),
    [(Texture(), 40, 40), (Texture(), 300, 256), (QUICK["em"], 40, 40), (QUICK["em"], 200, 128)],
)
def test_large_images_get_a_finer_perturbation(method, side, expected):
    description = method.fit(photographs(side, 4), progress=False).description
    assert description.image_shape == (3, expected, expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({(16, 16): 20, (512, 512): 20, (1500, 6): 3}, 256),
        ({(60, 468): 100, (1200, 1600): 30}, 256),
        ({(32, 32): 1000, (4000, 6000): 5}, 32),
        ({(40, 40): 9, (40, 60): 9, (50, 40): 9}, 40),
        ({(16, 16): 5000, (512, 512): 1}, 16),
        ({(64, 64): 1, (64, 80): 1}, 64),
        ({(2000, 3): 4, (3, 1000): 4}, 8),
        ({(300, 200): 7}, 200),
        ({(48, 32): 7}, (48, 32)),
    ],
)
def test_where_most_pixels_are_says_at_which_size_to_work(sizes, expected):
    """Not how many images there are: thumbnails and banners made the pattern of photographs coarse. A few that are
    huge do not decide either.
    """
    assert Survey(Counter(sizes), 3).working_size(256) == (expected if isinstance(expected, tuple) else (expected,) * 2)


def test_greyscale_images_keep_an_adaptive_budget():
    data = make_dataset(12, channels=1, side=16)
    protection = Texture().fit(data, budget="8:adaptive", progress=False)
    assert protection.verify(data, data.map(protection)).violations == 0
