from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics import mutual_info_score

from hf_unlearnable import DataError, RecipeError
from hf_unlearnable.information.mutual_information import (
    histogram_mutual_information,
    intra_class_cosine,
    intra_class_covariance,
    ksg_mutual_information,
    variational_mutual_information,
)


def gaussians(correlation, dimensions=1, rows=2000, seed=0):
    """Pairs whose coordinates have one correlation, and what they say about each other: -D/2 log(1 - rho^2)."""
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((2, rows, dimensions))
    return x, correlation * x + np.sqrt(1 - correlation**2) * noise, -dimensions / 2 * np.log(1 - correlation**2)


@pytest.mark.parametrize("bins", [2, 8, 30])
def test_histogram_against_scikit_learn_and_entropies(bins):
    x, y, _ = gaussians(0.7, dimensions=3, rows=500)
    tables = [np.histogram2d(x[:, column], y[:, column], bins)[0] for column in range(3)]
    expected = np.mean([mutual_info_score(None, None, contingency=table) for table in tables])
    assert histogram_mutual_information(x, y, bins=bins) == pytest.approx(expected, abs=1e-12)
    sums = [entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table.ravel()) for table in tables]
    assert histogram_mutual_information(torch.tensor(x), torch.tensor(y), bins=bins) == pytest.approx(np.mean(sums))


def test_histogram_of_a_set_with_itself_is_its_entropy_and_of_a_constant_nothing():
    x = np.repeat([0.0, 1.0, 2.0, 3.0], 5)[:, None]
    assert histogram_mutual_information(x, -7 * x + 3, bins=4) == pytest.approx(np.log(4))
    assert histogram_mutual_information(x, np.ones_like(x)) == 0


def test_histogram_bias_is_as_documented():
    values = [histogram_mutual_information(*gaussians(0, rows=1000, seed=seed)[:2], bins=4) for seed in range(40)]
    assert np.mean(values) == pytest.approx(9 / 2000, rel=0.35)


@pytest.mark.parametrize(("correlation", "least", "most"), [(0.3, 0, 0.03), (0.6, 0, 0.03), (0.9, -0.12, 0.01)])
def test_histogram_bias_on_gaussians_of_known_information(correlation, least, most):
    """Counting adds the bias above, and cells blur what is nearly the same: too much, then too little."""
    found = [gaussians(correlation, rows=5000, seed=seed) for seed in range(8)]
    biases = [histogram_mutual_information(x, y) - truth for x, y, truth in found]
    assert least <= np.mean(biases) <= most
    assert np.std(biases) < 0.02


@pytest.mark.parametrize(("correlation", "dimensions"), [(0, 1), (0.6, 1), (0.9, 1), (0.6, 3)])
def test_ksg_finds_the_closed_form(correlation, dimensions):
    x, y, truth = gaussians(correlation, dimensions)
    assert ksg_mutual_information(x, y) == pytest.approx(truth, abs=0.06)


def test_ksg_against_scikit_learn():
    x, y, _ = gaussians(0.8, rows=300)
    expected = mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
    assert ksg_mutual_information(x, y) == pytest.approx(expected, abs=1e-6)


def test_ksg_does_not_mind_scale_and_reduces_to_components():
    x, y, truth = gaussians(0.8, rows=1000)
    value = ksg_mutual_information(x, y)
    assert ksg_mutual_information(1e6 * x + 5, y) == pytest.approx(value, abs=1e-6)
    rng = np.random.default_rng(1)
    wide = np.hstack([x, 1e-3 * rng.standard_normal((1000, 20))])
    assert ksg_mutual_information(wide, y, components=1) == pytest.approx(truth, abs=0.1)
    assert ksg_mutual_information(wide, y) < truth / 2  # noise in many dimensions drowns it: as documented


@pytest.mark.parametrize(("correlation", "dimensions"), [(0, 2), (0.8, 2), (0.9, 4)])
def test_the_variational_value_is_a_lower_bound_and_not_an_idle_one(correlation, dimensions):
    x, y, truth = gaussians(correlation, dimensions, rows=3000)
    value = variational_mutual_information(x, y, steps=300)
    assert 0.65 * truth <= value <= truth + 0.05
    assert variational_mutual_information(x, y, steps=300) == value


def test_the_variational_value_keeps_to_its_ceiling_and_leaves_the_random_state_alone():
    x = np.random.default_rng(0).standard_normal((400, 3))
    before = torch.get_rng_state()
    value = variational_mutual_information(x, x, steps=200, batch_size=16)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0.8 * np.log(16) < value < np.log(16)
    with torch.no_grad():  # as inside of a metric that runs in an evaluation
        assert variational_mutual_information(x, x, steps=200, batch_size=16) == value


def test_covariance_and_cosine_are_their_definitions():
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    shares = np.bincount(y) / 30
    within = sum(share * np.trace(np.cov(z[y == one].T, bias=True)) for one, share in enumerate(shares))
    assert intra_class_covariance(z, y) == pytest.approx(within / np.trace(np.cov(z.T, bias=True)))
    assert intra_class_covariance(1e3 * z + 7, y) == pytest.approx(intra_class_covariance(z, y))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(30) for j in range(30) if i != j and y[i] == y[j]]
    assert intra_class_cosine(torch.tensor(z), torch.tensor(y)) == pytest.approx(np.mean(pairs))


def test_collapsed_classes():
    labels = np.arange(12) % 3
    z = np.eye(3)[labels]
    assert intra_class_covariance(z, labels) == 0
    assert intra_class_cosine(z, labels) == pytest.approx(1)
    assert intra_class_covariance(np.ones((4, 2)), [0, 0, 1, 1]) == 0
    assert intra_class_cosine(np.zeros((4, 2)), [0, 0, 1, 1]) == 0


@pytest.mark.parametrize(
    "estimate", [histogram_mutual_information, ksg_mutual_information, variational_mutual_information]
)
def test_features_that_do_not_belong_together(estimate):
    x = np.zeros((9, 2))
    with pytest.raises(DataError, match="9 clean and 8 poisoned rows"):
        estimate(x, x[:8])
    with pytest.raises(DataError, match=r"poisoned features of shape \(9,\)"):
        estimate(x, x[:, 0])
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match="clean features that are not finite in row 3"):
        estimate(broken, x)


def test_settings_that_make_no_sense():
    x = np.zeros((7, 2))
    with pytest.raises(RecipeError, match="bins=1"):
        histogram_mutual_information(x, x, bins=1)
    with pytest.raises(DataError, match=r"\(7, 2\) and poisoned features \(7, 1\)"):
        histogram_mutual_information(x, x[:, :1])
    with pytest.raises(DataError, match="7 rows for 7 neighbours"):
        ksg_mutual_information(x, x, neighbours=7)
    with pytest.raises(DataError, match="got 7 rows; expected at least 8"):
        variational_mutual_information(x, x)
    with pytest.raises(DataError, match=r"labels of shape \(6,\) for 7 rows"):
        intra_class_cosine(x, np.zeros(6))
    with pytest.raises(DataError, match="no class with two images"):
        intra_class_cosine(x, np.arange(7))
