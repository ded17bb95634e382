"""What is found out from released images: shares that can be computed by hand, and a probe that knows no more."""

from __future__ import annotations

import numpy as np
import pytest

from hf_unlearnable import DataError
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.evaluation.estimation import ESTIMATORS, probe_accuracy, removal
from hf_unlearnable.methods.waves import wave

LABELS = np.arange(60) % 3
NAMES = ["a", "b", "c"]
CODES = (((0, 2),), ((2, 0),), ((2, 1),))


def image_set(pixels):
    return ImageSet(pixels.astype(np.uint8), LABELS, NAMES)


def smooth(seed=0):
    """Colour images of one colour each, with a little noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(60, 190, (60, 3, 1, 1)) + rng.integers(-2, 3, (60, 3, 32, 32))


def waves(signs):
    """A change of 8 levels: the wave of the class, with a sign for every image."""
    own = np.stack([wave(CODES[label], 32, 32) for label in LABELS])[:, None]
    return 8 * own * signs[:, None, None, None]


ONE_SIGN, SIGNS = np.ones(60), np.where(np.arange(60) // 3 % 2, 1, -1)


@pytest.mark.parametrize(
    ("estimator", "signs", "least", "most"),
    [
        ("class-mean", ONE_SIGN, 0.6, 1),
        ("class-mean", SIGNS, 0, 0.1),  # a mean over both signs holds nothing
        ("pattern-subtraction", ONE_SIGN, 0.5, 1),
        ("spectral-peak", ONE_SIGN, 0.8, 1),
        ("spectral-peak", SIGNS, 0.8, 1),  # a power spectrum has no sign
        ("principal-directions", ONE_SIGN, 0.8, 1),
        ("principal-directions", SIGNS, 0.8, 1),  # nor has the direction along which a class varies
        ("class-clusters:1", ONE_SIGN, 0.9, 1),
        ("class-clusters:1", SIGNS, 0, 0.2),
        ("class-clusters:2", ONE_SIGN, 0.8, 1),
        ("class-clusters:2", SIGNS, 0.8, 1),  # two groups of a class
    ],
)
def test_an_estimator_takes_out_what_it_can_see(estimator, signs, least, most):
    clean = smooth()
    found = removal(image_set(clean + waves(signs)), image_set(clean), estimator)
    assert least <= found.at_best <= most
    assert found.removed <= found.at_best + 1e-6


def test_a_pattern_with_drawn_signs_that_is_no_wave_is_a_direction_and_two_groups():
    """No mean, no peak in a spectrum: what is left is that a class varies along one direction."""
    rng = np.random.default_rng(3)
    own = rng.choice([-8, 8], (3, 3, 32, 32))[LABELS] * SIGNS[:, None, None, None]
    clean = rng.integers(60, 190, (60, 3, 1, 1)) + rng.normal(0, 12, (60, 3, 32, 32)).round().astype(int)
    shares = {name: removal(image_set(clean + own), image_set(clean), name).at_best for name in ESTIMATORS}
    assert shares.pop("principal-directions") > 0.8
    assert shares.pop("class-clusters:2") > 0.5
    assert max(shares.values()) < 0.2


def test_groups_find_several_patterns_of_a_class_where_directions_are_too_few():
    rng = np.random.default_rng(3)
    own = rng.choice([-8, 8], (3, 4, 3, 32, 32))[LABELS, np.arange(60) // 3 % 4]
    clean = rng.integers(60, 190, (60, 3, 1, 1)) + rng.normal(0, 12, (60, 3, 32, 32)).round().astype(int)
    names = (*ESTIMATORS, "class-clusters:4")
    shares = {name: removal(image_set(clean + own), image_set(clean), name).at_best for name in names}
    assert shares.pop("class-clusters:4") > 0.5 > shares.pop("class-clusters:2")
    assert max(shares.values()) < 0.2


def test_shares_are_those_of_the_change(monkeypatch):
    """Half of the change taken out leaves a quarter of its energy; in the right proportion it is all of it."""
    from hf_unlearnable.defences.adaptive import ClassMean

    clean = smooth()
    change = waves(ONE_SIGN)
    halves = iter(np.split(change / 2 / 255, 1))

    def correction(self, images, *, seed=0):
        import torch

        return lambda seen, named: seen - torch.from_numpy(next(halves)).float()

    monkeypatch.setattr(ClassMean, "correction", correction)
    found = removal(image_set(clean + change), image_set(clean), "class-mean")
    assert found.removed == pytest.approx(0.75, abs=1e-4)
    assert found.at_best == pytest.approx(1, abs=1e-4)


def test_a_set_without_a_change_has_nothing_to_estimate():
    with pytest.raises(DataError, match="equal to their originals"):
        removal(image_set(smooth()), image_set(smooth()), "class-mean")


def test_a_probe_knows_waves_and_no_more():
    protected = image_set(smooth() + waves(SIGNS))
    assert probe_accuracy(protected, image_set(smooth(1))) > 0.95
    assert probe_accuracy(image_set(smooth()), image_set(smooth(1))) < 0.7
    with pytest.raises(DataError, match="got 3 images of one kind"):
        probe_accuracy(protected, protected.select(np.arange(3)))
