"""Images that ``fit`` has not seen, with ``on_unseen="craft"``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, concatenate_datasets
from helpers.datasets import make_dataset, pixels_of
from PIL import Image

from hf_unlearnable import (
    EM,
    MIUE,
    Budget,
    DataError,
    DataWarning,
    Method,
    Protection,
    RecipeError,
    SourceError,
    UnseenImageError,
)
from hf_unlearnable.data.columns import Classes
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.protection.class_patterns import FILE, class_patterns


class ClassWise(Method):
    """The same random signs for all images of a class: what crafting has to find again."""

    name = "class-wise"

    def run(self, task):
        generator = torch.Generator().manual_seed(self.seed)
        shape = (len(task.images.names), *task.images.pixels.shape[1:])
        signs = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1
        task.perturbations.copy_(signs[torch.from_numpy(task.images.labels)] * task.budget.epsilon)


class ImageWise(Method):
    """Random signs for every image: nothing is shared."""

    name = "image-wise"

    def run(self, task):
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(0, 2, task.perturbations.shape, generator=generator) * 2.0 - 1
        task.perturbations.copy_(signs * task.budget.epsilon)


@pytest.fixture(scope="module")
def crafting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crafting") / "protection"
    return ClassWise().fit(make_dataset(), on_unseen="craft", output_dir=folder, progress=False)


@pytest.fixture(scope="module")
def unseen():
    return make_dataset(20, seed=9)


def test_an_unseen_image_gets_the_pattern_of_its_class(crafting, unseen):
    protected = unseen.map(crafting)
    figures = crafting.verify(unseen, protected)
    assert (figures.unchanged, figures.violations) == (0, 0)
    seen = make_dataset()
    expected = {row["label"]: crafting.perturbation(row["image"], row["label"]) for row in seen}
    for before, after in zip(unseen, protected, strict=True):
        change = to_array(after["image"]).astype(int) - to_array(before["image"])
        assert np.sign(change * expected[before["label"]]).mean() > 0.9  # but at black and white


@pytest.mark.parametrize(
    "variant",
    [
        lambda data, protect: data.map(protect, batched=True, batch_size=7),
        lambda data, protect: data.map(protect, num_proc=2),
        lambda data, protect: data.to_iterable_dataset().map(protect),
        lambda data, protect: protect.release(data.to_iterable_dataset()),
        lambda data, protect: data.map(Protection.from_pretrained(protect.folder)),
    ],
    ids=["batched", "num_proc", "stream", "released stream", "reopened"],
)
def test_every_way_gives_the_same_bytes(crafting, unseen, variant):
    expected = pixels_of(unseen.map(crafting))
    assert np.array_equal(np.stack([np.asarray(row["image"]) for row in variant(unseen, crafting)]), expected)


@pytest.mark.parametrize(
    "variant",
    [
        lambda data, protect: protect.release(data),
        lambda data, protect: protect.release(data.to_iterable_dataset()),
        lambda data, protect: protect.release(data.to_iterable_dataset(), batched=True, batch_size=7),
        lambda data, protect: data.map(protect),
        lambda data, protect: data.map(protect, batched=True),
    ],
    ids=["released", "released stream", "released stream in batches", "map", "map in batches"],
)
def test_classes_of_other_data_are_found_by_their_names(crafting, unseen, variant):
    """Whatever numbers they have there, as in a folder that lacks some of the classes, or has others first."""
    names = ["a class of others", "class 2", "class 1", "class 0"]
    numbers = [3 - label for label in unseen["label"]]
    other = unseen.remove_columns("label").add_column("label", numbers).cast_column("label", ClassLabel(names=names))
    released = list(variant(other, crafting))
    assert np.array_equal(np.stack([np.asarray(row["image"]) for row in released]), pixels_of(unseen.map(crafting)))
    assert [row["label"] for row in released] == numbers
    unknown = Dataset.from_list([{**other.to_list()[0], "label": 0}], features=other.features)
    with pytest.raises(DataError, match="got the label 'a class of others'; expected 'class 0', 'class 1', 'class 2'"):
        list(variant(unknown, crafting))


def test_classes_made_of_values_are_found_by_their_names():
    values = Classes(["3", "5"], [3, 5])
    assert [values.own(label, ["5", "3", "7"]) for label in (0, 1, 2, -1, None)] == [5, 3, "7", -1, None]
    assert [values.own(label, None) for label in (3, "5")] == [3, "5"]


def test_a_stream_needs_neither_store_nor_torch(crafting):
    """Constant memory: nothing is kept of what passed. A process that only protects never loads torch."""
    code = f"""
import sys
from PIL import Image
from hf_unlearnable.protection import Protection
protect = Protection({str(crafting.folder)!r})
before = len(vars(protect))
for level in range(50):
    image = protect.protect(Image.new("L", (12, 12), 60 + level), level % 3)
    assert 60 + level - 8 <= image.getextrema()[0] < image.getextrema()[1] <= 60 + level + 8
assert len(vars(protect)) <= before + 2
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fitted_images_keep_what_was_fitted(crafting, unseen):
    seen = make_dataset().select(range(10))
    both = concatenate_datasets([seen, unseen]).map(crafting)
    plain = ClassWise().fit(make_dataset(), progress=False)
    assert np.array_equal(pixels_of(both)[:10], pixels_of(seen.map(plain)))


def test_unseen_images_of_other_sizes_and_modes(crafting):
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(20, 230, (50, 70, 4), dtype=np.uint8))
    released = crafting.protect(colour, 1)
    assert (released.size, released.mode) == ((70, 50), "RGBA")
    assert 4 < np.abs(to_array(released).astype(int) - to_array(colour)).max() <= 8
    assert np.array_equal(to_array(released)[3], to_array(colour)[3])
    with pytest.warns(DataWarning, match="is converted: P to RGB"):
        assert crafting.protect(colour.convert("RGB").quantize(9), 1).mode == "RGB"
    with pytest.raises(DataError, match="as an array; expected a Pillow image"):
        crafting.protect(np.asarray(colour), 1)
    with pytest.raises(DataError, match="got the label 3; expected 0 to 2"):
        crafting.protect(colour, 3)


BUDGETS = [Budget(8), Budget(200), Budget(200, "l2"), Budget(8, visibility="adaptive")]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_crafted_images_keep_every_budget(budget, unseen):
    protection = ClassWise().fit(make_dataset(), budget=budget, on_unseen="craft", progress=False)
    assert protection.verify(unseen, unseen.map(protection)).violations == 0


@pytest.mark.parametrize("method", [EM, MIUE])
def test_the_methods_share_patterns(method):
    protection = method(epochs=4, batch_size=8, pattern_share=1).fit(make_dataset(), on_unseen="craft", progress=False)
    assert protection.verify(make_dataset(9, seed=3), make_dataset(9, seed=3).map(protection)).unchanged == 0


def test_perturbations_that_share_nothing_cannot_craft(tmp_path):
    with pytest.raises(RecipeError, match=r"share -?\d+ % of their energy .* fits class patterns"):
        ImageWise().fit(make_dataset(), on_unseen="craft", output_dir=tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecipeError, match="expected one of 'error', 'craft'"):
        ImageWise().fit(make_dataset(), on_unseen="pass", progress=False)


def test_what_is_shared():
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(300) % 3
    common = torch.randn(3, 1, 20, 20, generator=generator)
    own = torch.randn(300, 1, 20, 20, generator=generator)
    assert class_patterns(own, labels, 3)[1] == pytest.approx(0, abs=0.01)
    assert class_patterns(common[labels], labels, 4)[1] == pytest.approx(1)
    patterns, shared = class_patterns(common[labels] + own, labels, 4)
    assert shared == pytest.approx(0.5, abs=0.03)
    assert (patterns[:3] - common).abs().mean() < 0.1
    assert not patterns[3].any()


def test_patterns_are_saved_and_checked(crafting, unseen, tmp_path):
    crafting.save_pretrained(tmp_path / "kept")
    assert np.array_equal(pixels_of(unseen.map(Protection(tmp_path / "kept"))), pixels_of(unseen.map(crafting)))
    content = bytearray((tmp_path / "kept" / FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / "kept" / FILE).write_bytes(content)
    with pytest.raises(SourceError, match="is damaged"):
        Protection(tmp_path / "kept").protect(unseen[0]["image"], unseen[0]["label"])


def test_a_class_without_fitted_images_is_not_passed_through_clean(unseen):
    two_of_three = make_dataset().filter(lambda row: row["label"] != 1)
    protection = ClassWise().fit(two_of_three, on_unseen="craft", progress=False)
    with pytest.raises(UnseenImageError, match="of the class 'class 1', of which fit saw no image"):
        unseen.map(protection)
