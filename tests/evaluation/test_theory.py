"""What theory ties to learnability: figures whose values are known, or whose order is."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from helpers.datasets import make_dataset

from hf_unlearnable import DataError, RecipeError
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.evaluation import theory as module
from hf_unlearnable.evaluation.theory import Theory, held_out_embedding, theory
from hf_unlearnable.methods.waves import wave

NAMES = ["a", "b", "c"]
CODES = (((0, 2),), ((2, 0),), ((2, 1),))


@pytest.fixture(scope="module", autouse=True)
def short_trainings():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST_STEPS", 20)
        short = partial(module.variational_mutual_information, steps=20)
        patch.setattr(module, "variational_mutual_information", short)
        yield


def image_set(pixels, labels):
    return ImageSet(pixels.astype(np.uint8), labels, NAMES)


def clean_set(count=120, side=16, seed=0):
    """Classes that are the brightness of the images, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = 60 + 40 * labels[:, None, None, None] + rng.integers(-30, 31, (count, 1, side, side))
    return image_set(pixels, labels)


def moved(clean, change):
    return image_set(clean.pixels + change, clean.labels)


def noise(clean, seed=1):
    return np.random.default_rng(seed).choice([-8, 8], clean.pixels.shape)


def waves(clean):
    side = clean.pixels.shape[-1]
    return 8 * np.stack([wave(CODES[label], side, side)[None] for label in clean.labels])


@pytest.fixture(scope="module")
def same():
    """What is found of images that were not changed."""
    return theory(clean_set(), clean_set())


@pytest.fixture(scope="module")
def patterns():
    """What is found of patterns of the classes."""
    return theory(moved(clean_set(), waves(clean_set())), clean_set())


@pytest.fixture(scope="module")
def random():
    """What is found of noise."""
    return theory(moved(clean_set(), noise(clean_set())), clean_set())


def test_what_a_class_shares_is_all_of_a_pattern_and_nothing_of_noise(patterns, random):
    clean = clean_set()
    assert patterns.class_share == pytest.approx(1)
    assert random.class_share == pytest.approx(0, abs=0.02)
    half = np.where(np.random.default_rng(2).random(clean.pixels.shape) < 0.75, 1, -1) * waves(clean)
    assert theory(moved(clean, half), clean).class_share == pytest.approx(0.25, abs=0.03)  # correlation 0.5, squared


def test_linear_models_name_patterns_and_learn_noise_by_heart(patterns, random):
    assert patterns.linear_separability == patterns.linear_separability_held_out == 1
    assert random.linear_separability == 1  # 120 rows of 256 values: as documented
    assert random.linear_separability_held_out < 0.55  # of three classes


def test_more_noise_than_values_is_not_learned_by_heart():
    clean = clean_set(count=225, side=4)
    assert theory(moved(clean, noise(clean)), clean).linear_separability < 0.75


def test_features_that_hold_the_class_alone_say_less_of_the_images(same):
    """Where each image is released as the pattern of its class on grey, only the class is left to share."""
    clean = clean_set()
    rng = np.random.default_rng(0)
    gone = theory(image_set(128 + waves(clean) + rng.integers(-2, 3, clean.pixels.shape), clean.labels), clean)
    assert gone.mutual_information_histogram < same.mutual_information_histogram
    assert gone.mutual_information_ksg < same.mutual_information_ksg


def test_a_bayes_error_rises_where_the_classes_are_mixed_up(same):
    """Images exchanged at random between labels: neighbours contradict one another in every embedding."""
    clean = clean_set()
    shuffled = image_set(clean.pixels[np.random.default_rng(0).permutation(len(clean))], clean.labels)
    mixed = theory(shuffled, clean)
    assert same.bayes_error_clean == same.bayes_error_held_out == mixed.bayes_error_clean < 0.1
    assert mixed.bayes_error_held_out > 0.1
    assert mixed.bayes_error_own > 0.3


def test_what_cannot_be_computed_is_none(same):
    clean = clean_set()
    assert same.linear_separability is same.linear_separability_held_out is same.class_share is None
    few = clean.select(np.arange(3))  # one of each class: nobody is left to be asked
    found = dataclasses.asdict(theory(moved(few, waves(few)), few))
    assert {name for name, value in found.items() if value is not None} == {"linear_separability"}
    one = image_set(clean.pixels, np.zeros(len(clean), dtype=np.int64))
    found = dataclasses.asdict(theory(moved(one, 8), one))
    assert {name for name, value in found.items() if value is not None} == {"class_share"}


def test_the_same_seed_gives_the_same_figures():
    clean = clean_set(count=60)
    released = moved(clean, waves(clean))
    first = theory(released, clean)
    assert theory(released, clean) == first != Theory()
    assert theory(released, clean, seed=1) != first
    assert theory(released, clean, held_out=held_out_embedding(clean)) == first


def test_sets_that_do_not_belong_together():
    clean = clean_set()
    with pytest.raises(DataError, match=r"released images \(60, 1, 16, 16\) and originals \(120, 1, 16, 16\)"):
        theory(clean.select(np.arange(60)), clean)
    with pytest.raises(DataError, match="with the same labels"):
        theory(image_set(clean.pixels, np.roll(clean.labels, 1)), clean)


def test_datasets_are_no_image_sets():
    data = make_dataset()
    with pytest.raises(RecipeError, match="theory: got released=Dataset"):
        theory(data, data)
