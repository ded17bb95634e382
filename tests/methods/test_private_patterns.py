"""What a class gets depends on the images and on the seed, so that one owner's patterns tell nothing of another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.datasets import make_dataset, pixels_of

from hf_unlearnable import MIUE, Texture

METHODS = {"texture": Texture(), "mi-ue": MIUE(epochs=2, targeted_weight=0.0, batch_size=8)}


def class_patterns(method, images, seed):
    """The mean change of each class, flat: (K, C * H * W)."""
    protect = replace(method, seed=seed).fit(images, progress=False)
    change = pixels_of(images.map(protect)).astype(np.float64) - pixels_of(images)
    labels = np.array(images["label"])
    return [change[labels == number].mean(axis=0).ravel() for number in np.unique(labels)]


def alike(ours, others):
    """The mean size of the correlation of the patterns of the same class."""
    return np.mean([abs(np.corrcoef(one, other)[0, 1]) for one, other in zip(ours, others, strict=True)])


@pytest.mark.parametrize("name", METHODS)
def test_two_owners_share_no_patterns(name):
    mine, theirs = (make_dataset(channels=3, side=16, classes=4, seed=seed) for seed in (0, 1))
    own = class_patterns(METHODS[name], mine, seed=0)
    assert alike(own, class_patterns(METHODS[name], mine, seed=0)) == pytest.approx(1)
    assert alike(own, class_patterns(METHODS[name], theirs, seed=0)) < 0.5
    assert alike(own, class_patterns(METHODS[name], mine, seed=1)) < 0.5
