from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch.nn import functional as F

from hf_unlearnable import RecipeError
from hf_unlearnable.information.kernel import KERNELS, OBJECTIVES
from hf_unlearnable.information.posterior import bandwidth, bayes_error, kernel_posterior

SIGMA = {"rbf": 1.5, "cosine": 0.2, "logistic": 1.0}


def sample(rows=60, size=8, classes=4, seed=0, offset=0.0):
    """Overlapping classes in float32 precision, so that both precisions are given the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    centres = torch.randn(classes, size, generator=generator)
    features = torch.randn(rows, size, generator=generator) + centres[labels] / 2 + offset
    return features.double(), labels


def log_posterior(z, y, kernel, sigma, reference=None, self_index=None):
    """The definition, with every pair written out and autograd left to do the rest."""
    voters, their = (z, y) if reference is None else reference
    self_index = torch.arange(len(z)) if reference is None else self_index
    if kernel == "rbf":
        logits = -(z[:, None] - voters[None]).square().sum(dim=2) / (2 * sigma**2)
    elif kernel == "cosine":
        logits = F.cosine_similarity(z[:, None], voters[None], dim=2) / sigma
    else:
        logits = F.logsigmoid(z @ voters.T / sigma)
    masked = torch.zeros(len(z), len(voters), dtype=torch.bool)
    if self_index is not None:
        masked[torch.arange(len(z))[self_index >= 0], self_index[self_index >= 0]] = True
    votes = logits.masked_fill(masked, -torch.inf).log_softmax(dim=1)
    classes = int(max(y.max(), their.max())) + 1
    return torch.stack([votes.masked_fill(their != c, -torch.inf).logsumexp(dim=1) for c in range(classes)], dim=1)


def naive(z, y, kernel, sigma, objective, reference=None, self_index=None):
    logarithms = log_posterior(z, y, kernel, sigma, reference, self_index)
    if objective == "max":
        return (1 - logarithms.exp().amax(dim=1)).mean()
    own = logarithms.gather(1, y[:, None])
    if objective == "label":
        return (1 - own.exp()).mean()
    if objective == "log-label":
        return -own.mean()
    return -(logarithms.exp() * logarithms.clamp_min(-700)).sum(dim=1).mean()


CASES = [
    (kernel, objective, voters, offset)
    for kernel, objective, voters, offset in itertools.product(
        KERNELS, OBJECTIVES, ("own set", "reference", "self_index"), (0.0, 100.0)
    )
    if offset == 0.0 or kernel == "rbf"  # the others depend on where the origin is: other values, nothing to compare
]


@pytest.mark.parametrize(("kernel", "objective", "voters", "offset"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_value_and_gradient_are_those_of_autograd(kernel, objective, voters, offset, dtype, tolerance):
    def arguments(dtype):
        z, y = sample(offset=offset)
        z = z.to(dtype).requires_grad_()
        if voters == "own set":
            return z, y, None, None
        reference, their = sample(40, classes=5, seed=1, offset=offset)
        self_index = torch.where(torch.arange(60) < 40, torch.arange(60), -1) if voters == "self_index" else None
        return z, y, (reference.to(dtype).requires_grad_(), their), self_index

    z, y, reference, self_index = arguments(torch.float64)
    expected = naive(z, y, kernel, SIGMA[kernel], objective, reference, self_index)
    expected.backward()
    ours, y, our_reference, self_index = arguments(dtype)
    got = bayes_error(
        ours, y, kernel=kernel, sigma=SIGMA[kernel], objective=objective, reference=our_reference, self_index=self_index
    )
    got.backward()
    assert got.dtype == dtype
    assert abs(got.item() - expected.item()) <= tolerance * abs(expected.item())
    assert (ours.grad - z.grad).norm() <= tolerance * z.grad.norm()
    if reference is not None:
        assert (our_reference[0].grad - reference[0].grad).norm() <= tolerance * reference[0].grad.norm()


def test_blocks_of_rows_change_nothing(monkeypatch):
    z, y = sample(101)
    whole = bayes_error(z, y, sigma=1.5)
    monkeypatch.setattr("hf_unlearnable.information.kernel.CPU_BLOCK", 700)
    torch.testing.assert_close(bayes_error(z, y, sigma=1.5), whole)


def test_the_gradient_is_that_of_the_mean_and_scales_with_what_comes_back():
    z, y = sample()
    for factor in (1.0, -3.0, float(len(z))):
        ours = z.clone().requires_grad_()
        (factor * bayes_error(ours, y, sigma=1.5)).backward()
        step = 1e-6 * torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        slope = factor * (bayes_error(z + step, y, sigma=1.5) - bayes_error(z - step, y, sigma=1.5)) / 2
        torch.testing.assert_close((ours.grad * step).sum(), slope, rtol=1e-4, atol=0)
    per_row = 1 - kernel_posterior(z, y, sigma=1.5).amax(dim=1)
    torch.testing.assert_close(bayes_error(z, y, sigma=1.5), per_row.sum() / len(z))


@pytest.mark.filterwarnings("ignore:sigma leaves")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_narrow_kernel_does_not_underflow(objective):
    z, y = sample(300, 64)
    # Distances are about 11: without the logarithms every kernel value is exp(-25,000) = 0.
    expected = naive(z, y, "rbf", 0.05, objective)
    ours = z.float().requires_grad_()
    got = bayes_error(ours, y, sigma=0.05, objective=objective)
    got.backward()
    assert got.item() == pytest.approx(expected.item(), rel=1e-3)
    assert ours.grad.isfinite().all()
    if objective == "log-label":
        exact = z.clone().requires_grad_()
        naive(exact, y, "rbf", 0.05, objective).backward()
        assert (ours.grad - exact.grad).norm() <= 1e-4 * exact.grad.norm()  # what float32 logits of 10,000 allow


def test_half_precision_is_computed_in_float32():
    z, y = sample()
    half = z.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = bayes_error(half, y, sigma=1.5)
    value.backward()
    torch.testing.assert_close(value, bayes_error(half.detach().float(), y, sigma=1.5))
    assert half.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:sigma is so large")  # and rightly so for shuffled labels
def test_the_truth_is_estimated_where_it_is_known():
    """Two Gaussians in one dimension, 2 apart: the Bayes error is the mass beyond the middle, 15.9 %."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4000) % 2
    features = torch.randn(4000, 1, generator=generator) + 2.0 * labels[:, None]
    assert bayes_error(features, labels).item() == pytest.approx(0.159, abs=0.03)
    shuffled = labels[torch.randperm(4000, generator=generator)]
    assert bayes_error(features, shuffled, sigma=0.2).item() > 0.45
    assert bayes_error(features + 50.0 * labels[:, None], labels).item() < 0.001


def test_the_bandwidth_makes_the_labels_likely():
    z, y = sample(400, 2)
    sigma = bandwidth(z, y)
    likelihoods = {factor: bayes_error(z, y, sigma=factor * sigma, objective="log-label") for factor in (0.5, 1, 2)}
    assert likelihoods[1] == min(likelihoods.values())
    assert bandwidth(10 * z, y) == pytest.approx(10 * sigma, rel=0.05)  # in units of the features
    distances = torch.pdist(z)
    assert bandwidth(z, y, rule="median") == pytest.approx(float(distances.median()), rel=0.05)
    for kernel in ("cosine", "logistic"):
        assert bandwidth(z, y, kernel=kernel) > 0


def test_useless_bandwidths_are_warned_of():
    z, y = sample(200)
    with pytest.warns(RuntimeWarning, match=r"effective neighbours; expected at least 2"):
        bayes_error(z, y, sigma=0.05)
    with pytest.warns(RuntimeWarning, match="every row gets about the same posterior"):
        bayes_error(z, y, sigma=100.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bayes_error(z, y, sigma=1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": "linear"}, "got the kernel 'linear'; expected one of rbf, cosine, logistic"),
        ({"objective": "min"}, "got the objective 'min'; expected one of max, label, log-label, entropy"),
        ({"sigma": 0.0}, "got sigma=0.0; expected a number above zero"),
        ({"self_index": torch.arange(60)}, "got self_index without a reference"),
        ({"labels": torch.arange(59)}, r"got features of shape \(60, 8\) and 59 labels"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    z, y = sample()
    with pytest.raises(RecipeError, match=message):
        bayes_error(**{"features": z, "labels": y, "sigma": 1.5, **change})


def test_a_lonely_class_has_no_likelihood():
    z, y = sample()
    y[7] = 9
    with pytest.raises(RecipeError, match="got 1 rows without another row of their class"):
        bayes_error(z, y, sigma=1.5, objective="log-label")
    assert bayes_error(z, y, sigma=1.5, objective="label").isfinite()
