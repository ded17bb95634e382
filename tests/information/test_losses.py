from __future__ import annotations

import math

import pytest
import torch

from hf_unlearnable import RecipeError
from hf_unlearnable.information.losses import _centred, contrastive_loss, distance_loss


def naive_contrastive(z, y, temperature, denominator):
    """The formula, term by term."""
    total = 0.0
    for i in range(len(z)):
        terms = [torch.exp(torch.cosine_similarity(z[i], z[j], dim=0) / temperature) for j in range(len(z))]
        near = sum(terms[j] for j in range(len(z)) if y[j] == y[i])
        below = sum(terms[j] for j in range(len(z)) if denominator == "all" or y[j] != y[i])
        total = total - torch.log(near / below)
    return total / len(z)


def naive_distance(z, y):
    total = 0.0
    for i in range(len(z)):
        inner = sum((z[i] - z[j]).square().sum().sqrt() for j in range(len(z)) if j != i and y[j] == y[i])
        total = total + torch.log(1 + inner / z.shape[1])
    return total / len(z)


def features(dtype, offset=0.0):
    generator = torch.Generator().manual_seed(0)
    z = (torch.randn(24, 16, generator=generator, dtype=torch.float64) + offset).to(dtype).requires_grad_()
    return z, torch.randint(0, 4, (24,), generator=generator)


@pytest.mark.parametrize("denominator", ["all", "cross-class"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_contrastive_loss_is_the_formula(denominator, temperature, dtype, tolerance):
    z, y = features(dtype)
    loss = contrastive_loss(z, y, temperature=temperature, denominator=denominator)
    exact = z.detach().double().requires_grad_()
    naive = naive_contrastive(exact, y, temperature, denominator)
    assert abs(loss.item() - naive.item()) <= tolerance * max(1, abs(naive.item()))
    ours, theirs = torch.autograd.grad(loss, z)[0].double(), torch.autograd.grad(naive, exact)[0]
    assert (ours - theirs).norm() <= 10 * tolerance * theirs.norm()


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_distance_loss_is_the_formula(offset):
    z, y = features(torch.float64, offset)
    loss, naive = distance_loss(z, y), naive_distance(z, y)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-9)
    ours, theirs = torch.autograd.grad(loss, z)[0], torch.autograd.grad(naive, z)[0]
    assert (ours - theirs).norm() <= 1e-8 * theirs.norm()


@pytest.mark.parametrize("spread", [1e-3, 1e-2, 1.0, 10.0])
def test_distances_within_classes_that_are_far_apart(spread):
    """As training ends: every class a point, far from the others. Against float64 on the same float32 features."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 4
    places = 1e3 * torch.randn(4, 16, generator=generator)
    z = (places[labels] + spread * torch.randn(24, 16, generator=generator)).requires_grad_()
    exact = z.detach().double().requires_grad_()
    loss, naive = distance_loss(z, labels), naive_distance(exact, labels)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-5)
    ours, theirs = torch.autograd.grad(loss, z)[0].double(), torch.autograd.grad(naive, exact)[0]
    assert (ours - theirs).norm() <= 5e-4 * theirs.norm()


def test_features_that_coincide_in_classes_that_are_far_apart():
    """What rounding leaves of a difference of large numbers was a distance, and pushed in a direction of its own."""
    labels = torch.arange(24) % 4
    z = (1e3 * torch.randn(4, 16, generator=torch.Generator().manual_seed(0)))[labels].requires_grad_()
    loss = distance_loss(z, labels)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, z)[0].any()


def test_ordinary_features_are_centred_as_ever():
    """To the bit: the bytes of a fit depend on it. One class in the batch that has collapsed changes no other."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 5, (64,), generator=generator)
        z = 3 * torch.randn(5, 32, generator=generator)[labels] + torch.randn(64, 32, generator=generator)
        same = labels[:, None] == labels[None, :]
        assert torch.equal(_centred(z, same), z - z.mean(dim=0))
        z[labels == 2] = 30 + 1e-3 * z[labels == 2]
        centred = _centred(z, same)
        assert torch.equal(centred[labels != 2], (z - z.mean(dim=0))[labels != 2])
        assert centred[labels == 2].abs().max() < 0.1


def test_collapsed_features_give_finite_gradients():
    z = torch.ones(6, 4, requires_grad=True)
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    loss = contrastive_loss(z, y) + distance_loss(z, y)
    assert loss.item() == pytest.approx(math.log(2))  # as near to the other class as to its own; no distance
    assert torch.autograd.grad(loss, z)[0].isfinite().all()


@pytest.mark.parametrize("denominator", ["all", "cross-class"])
def test_a_batch_of_one_class_has_nothing_to_push_away(denominator):
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = contrastive_loss(z, torch.zeros(5, dtype=torch.long), denominator=denominator)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_half_precision_features_are_computed_in_float32():
    z, y = features(torch.bfloat16)
    assert contrastive_loss(z, y).dtype == torch.float32
    assert distance_loss(z, y).dtype == torch.float32


def test_unknown_denominator():
    with pytest.raises(RecipeError, match="'everything'"):
        contrastive_loss(torch.ones(2, 2), torch.zeros(2), denominator="everything")


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_by_which_nothing_can_be_divided(temperature):
    with pytest.raises(RecipeError, match="expected a number above zero"):
        contrastive_loss(torch.eye(2), torch.zeros(2), temperature=temperature)
