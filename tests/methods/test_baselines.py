"""The methods of other papers: what each says of itself, computed another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.datasets import generator, make_dataset, pixels_of
from helpers.methods import quick
from scipy.ndimage import correlate
from torch.nn import functional as F

from hf_unlearnable import EM, Budget, RecipeError, Surrogate, get_method
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.projection import softmax_regression
from hf_unlearnable.methods import AR, CUDA, LSP, PGD, PIL, REM, TAP, Noise
from hf_unlearnable.methods.baselines import pil
from hf_unlearnable.methods.baselines.ar import CROP, autoregressive, processes
from hf_unlearnable.methods.baselines.batchwise import of_length, random_start
from hf_unlearnable.methods.baselines.cuda import convolved
from hf_unlearnable.methods.task import Task
from hf_unlearnable.training.run import Training, TrainingRun

EPSILON = 8 / 255


def made(method, count=60, side=32, channels=3, classes=3, budget=Budget(8), monkeypatch=None):
    """What a method leaves before it is projected: perturbations (N, C, H, W), with the images and labels."""
    seen = []
    project = Budget.project

    def watching(self, perturbations, images):
        seen.append((perturbations.detach().clone(), images.clone()))
        return project(self, perturbations, images)

    monkeypatch.setattr(Budget, "project", watching)
    data = make_dataset(count, side=side, channels=channels, classes=classes)
    method.fit(data, budget=budget, progress=False)
    return *seen[-1], torch.tensor(data["label"])


def test_noise_is_uniform_in_the_ball(monkeypatch):
    noise, _, _ = made(Noise(), monkeypatch=monkeypatch)
    assert noise.abs().max() <= EPSILON
    quarters = torch.histc(noise, 4, -EPSILON, EPSILON) / noise.numel()
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.01)
    noise, _, _ = made(Noise(), budget=Budget(255, "l2"), monkeypatch=monkeypatch)
    assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * len(noise), rel=1e-4)


def test_lsp_is_a_mosaic_of_the_published_length_that_a_linear_model_reads(monkeypatch):
    mosaic, _, labels = made(LSP(), monkeypatch=monkeypatch)
    squares = mosaic.unfold(2, 8, 8).unfold(3, 8, 8)
    assert (squares - squares[..., :1, :1]).abs().max() == 0
    assert mosaic.flatten(1).norm(dim=1).tolist() == pytest.approx([6 / 255 * 3072**0.5] * len(mosaic), rel=1e-4)
    rows = mosaic / mosaic.std()
    weights, bias = softmax_regression(lambda: [(rows[:30], labels[:30])], 3)
    named = (rows[30:].flatten(1) @ weights + bias).argmax(dim=1)
    assert (named == labels[30:]).all()
    assert len(mosaic.flatten(1).unique(dim=0)) == len(mosaic)  # a sample of the blob for every image
    assert made(LSP(patch=5), side=12, monkeypatch=monkeypatch)[0].shape[2:] == (12, 12)


def test_the_blobs_of_lsp_have_their_centres_and_spread():
    """With many images: the mean is a corner of the hypercube, the covariance that of a matrix of uniform entries."""

    class Watched:
        images = ImageSet(np.zeros((2, 1, 16, 16), np.uint8), np.array([0, 1]), ["a", "b"])
        budget = Budget(8)

    recipe = LSP()
    labels = torch.arange(2).repeat(4000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_unlearnable.methods.baselines.lsp.of_length", lambda patterns, *rest: patterns)
        values = recipe.maker(Watched())(torch.zeros(8000, 1, 16, 16), labels, generator())[:, 0, ::8, ::8].flatten(1)
    centres = torch.stack([values[labels == label].mean(dim=0) for label in (0, 1)])
    assert centres.abs().flatten().tolist() == pytest.approx([10] * 8, abs=0.15)
    assert not torch.equal(centres[0].sign(), centres[1].sign())
    spread = values[labels == 0].T.cov()
    assert torch.linalg.eigvalsh(spread)[0] > 0
    assert spread.diagonal().max() <= 4 * 1.1  # four entries of at most one


@pytest.mark.parametrize(
    ("recipe", "side", "classes", "message"),
    [(LSP(patch=32), 32, 3, "mosaics of 1 squares for 3 classes.*smaller"), (LSP(patch=1), 128, 2, "larger")],
)
def test_mosaics_that_cannot_be_drawn(recipe, side, classes, message):
    with pytest.raises(RecipeError, match=message):
        recipe.fit(make_dataset(6, side=side, classes=classes), progress=False)


def test_ar_noise_follows_the_process_of_its_class_alone(monkeypatch):
    noise, _, labels = made(AR(), monkeypatch=monkeypatch)
    assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * len(noise), rel=1e-3)  # 0.575 is rounded
    filters = processes(0, 3, 3, 32)[0].clone()
    assert filters.sum(dim=(-2, -1)).flatten().tolist() == pytest.approx([1.0] * 9, abs=1e-4)
    filters[..., -1, -1] = -1
    # A channel each: the noise of a class gives zero for its own filters.
    responses = torch.stack(
        [F.conv2d(noise, one[:, None], groups=3).abs().sum(dim=(1, 2, 3)) for one in filters], dim=1
    )
    own = responses.gather(1, labels[:, None])[:, 0]
    others = responses.scatter(1, labels[:, None], torch.inf).amin(dim=1)
    assert own.max() < 1e-3 * others.min()
    assert len(noise.flatten(1).unique(dim=0)) == len(noise)


def test_ar_processes_are_told_apart():
    """By their filters, in noise that is drawn anew, far better than processes that are drawn at random."""
    chosen, apart = processes(0, 6, 3, 32)
    again, _ = processes.__wrapped__(0, 6, 3, 32)
    assert torch.equal(again, chosen)  # drawn anew, not kept
    for number, own in enumerate(chosen):
        noise = autoregressive(own.expand(20, -1, -1, -1), 32, 32, generator(number))
        noise = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        for other in torch.cat([chosen[:number], chosen[number + 1 :]]):
            matched = other.clone()
            matched[..., -1, -1] = -1
            assert F.conv2d(noise, matched[None]).relu().sum(dim=(1, 2, 3)).mean() > 0.8 * apart
    assert apart > 4.5  # that of the processes that the authors published
    assert processes(0, 40, 1, 32)[0].shape == (40, 1, 3, 3)
    found = quick(AR).fit(make_dataset(30), progress=False).about["findings"]
    assert f"at least {found['ar']['least_response']:.1f}" in AR.describe(found)


def test_autoregressive_noise_value_by_value():
    coefficients = torch.randn(2, 3, 3, 3, generator=generator())
    coefficients[..., -1, -1] = 0
    coefficients = coefficients / coefficients.abs().sum(dim=(-2, -1), keepdim=True)
    found = autoregressive(coefficients, 8, 6, generator(1)).numpy()
    values = torch.randn(2, 3, 8 + CROP, 6 + CROP, generator=generator(1)).numpy()
    for row in range(2, 8 + CROP):
        for column in range(2, 6 + CROP):
            window = values[:, :, row - 2 : row + 1, column - 2 : column + 1]
            values[:, :, row, column] = np.einsum("bcij,bcij->bc", window, coefficients.numpy())
    np.testing.assert_allclose(found, values[:, :, CROP:, CROP:], atol=1e-5)


def test_lengths_under_either_norm():
    patterns = torch.randn(4, 3, 8, 8, generator=generator())
    linf, l2 = of_length(patterns, Budget(8), 0.5), of_length(patterns, Budget(100, "l2"), 0.5)
    assert linf.square().mean(dim=(1, 2, 3)).sqrt().tolist() == pytest.approx([EPSILON / 2] * 4)
    assert l2.flatten(1).norm(dim=1).tolist() == pytest.approx([100 / 255] * 4)
    assert of_length(torch.zeros(1, 1, 2, 2), Budget(8), 1.0).abs().max() == 0


def test_cuda_convolves_as_scipy_does():
    images, filters = torch.rand(4, 3, 9, 7, generator=generator()), torch.rand(4, 1, 3, 3, generator=generator(1))
    found = convolved(images, filters)
    for image, own, result in zip(images.numpy(), filters.numpy(), found.numpy(), strict=True):
        expected = np.stack([correlate(channel, own[0], mode="constant") for channel in image])
        np.testing.assert_allclose(result, expected / expected.max(), atol=1e-6)
    assert convolved(torch.zeros(1, 1, 4, 4), filters[:1]).abs().max() == 0


def test_a_filter_of_cuda_has_a_middle():
    with pytest.raises(RecipeError, match=r"cuda: got kernel=4; expected an odd number"):
        CUDA(kernel=4)


def test_cuda_gives_the_images_of_a_class_one_filter(monkeypatch):
    change, images, labels = made(CUDA(), classes=2, monkeypatch=monkeypatch)
    for label in (0, 1):
        own = labels == label
        # The filter by least squares: blurred = shifts @ weights / largest value, so up to a factor for each image.
        for image, blurred in list(zip(images[own], (images + change)[own], strict=True))[:2]:
            shifts = F.unfold(image[:, None], 3, padding=1).permute(0, 2, 1).reshape(-1, 9)
            weights = torch.linalg.lstsq(shifts, blurred.flatten()[:, None]).solution[:, 0]
            weights = weights / weights.max()
            if image is images[own][0] or torch.equal(image, images[own][0]):
                first = weights
            assert weights.tolist() == pytest.approx(first.tolist(), abs=1e-3)
        assert weights.min() >= -1e-3
        assert sorted(weights.tolist())[-2] <= 0.3 + 1e-3


@pytest.fixture(scope="module")
def known():
    """Easy images, and a network that knows them; their perturbations are made with another one."""
    data = make_dataset(60, side=16)
    images = ImageSet.read(data, find_columns(data))
    run = TrainingRun(
        Surrogate("small-resnet"), images, Training(batch_size=16), iterations=60, seed=9, accelerator=_accelerator()
    )
    return data, run.finish()


def _accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.mark.parametrize(("augment", "least"), [(True, 0.35), (False, 0.6)])  # seen flipped, classes are alike
def test_tap_is_taken_for_the_next_class_and_pgd_not_for_its_own(augment, least, monkeypatch):
    data = make_dataset(60, side=16)
    labels = torch.tensor(data["label"])
    train, networks = Task.train, []
    monkeypatch.setattr(Task, "train", lambda *rest: networks.append(train(*rest)) or networks[-1])

    def named(method):
        recipe = method(steps=30, epochs=15, batch_size=16, augment=augment)
        released = data.map(recipe.fit(data, budget=40, progress=False))
        with torch.no_grad():
            return networks[-1](torch.from_numpy(pixels_of(released)).unsqueeze(1) / 255)[0].argmax(dim=1)

    assert (named(TAP) == (labels + 1) % 3).float().mean() > least  # three classes on is its own
    assert (named(PGD) == labels).float().mean() < 0.2


def test_several_surrogates_are_all_asked():
    data = make_dataset()
    one = quick(TAP).fit(data, progress=False)
    two = quick(TAP).fit(data, surrogate=["small-resnet", "small-vgg"], progress=False)
    assert one.digest != two.digest


def test_the_loss_of_pil_is_that_of_the_paper():
    draw = generator()
    weights, labels = torch.randn(12, 3, generator=draw), torch.tensor([0, 2])
    images, negatives = torch.rand(2, 3, 2, 2, generator=draw), 0.1 * torch.randn(2, 3, 2, 2, generator=draw)
    shortcut = (negatives.flatten(1) @ weights).softmax(dim=1)
    seen = ((images - negatives).flatten(1) @ weights).softmax(dim=1)
    expected = sum(
        0.9 * -shortcut[row, label].log() + 0.1 * sum((1 / 3) * ((1 / 3) / share).log() for share in seen[row])
        for row, label in enumerate(labels)
    )
    torch.testing.assert_close(PIL().loss(weights, images, negatives, labels), expected)


def test_the_linear_model_of_pil_is_trained_as_torch_trains_one(monkeypatch):
    data = make_dataset(32, side=8)
    found = []
    make = PIL._linear_model
    monkeypatch.setattr(PIL, "_linear_model", lambda self, task: found.append(make(self, task)) or found[-1])
    seen = []
    monkeypatch.setattr(pil, "load", lambda images, rows, device: seen.append(rows) or load_of(images, rows, device))
    PIL(epochs=3, batch_size=8).fit(data, progress=False)
    images = torch.from_numpy(pixels_of(data)).flatten(1) / 255
    labels = torch.tensor(data["label"])
    start = torch.rand(64, 3, generator=generator(0))
    weights = ((2 * start - 1) / 8).requires_grad_()
    optimiser = torch.optim.SGD([weights], 3e-3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3)
    for number, rows in enumerate(seen, 1):
        optimiser.zero_grad()
        F.cross_entropy(images[rows] @ weights, labels[rows]).backward()
        optimiser.step()
        if number % 4 == 0:
            schedule.step()
    torch.testing.assert_close(found[0], weights.detach())


load_of = pil.load


def test_pil_lowers_its_loss_and_moves_against_what_it_found(monkeypatch):
    data = make_dataset(40, side=16)
    weights = []
    make = PIL._linear_model
    monkeypatch.setattr(PIL, "_linear_model", lambda self, task: weights.append(make(self, task)) or weights[-1])
    protected = data.map(PIL(batch_size=8).fit(data, progress=False))
    change = (torch.from_numpy(pixels_of(protected)).float() - torch.from_numpy(pixels_of(data))).flatten(1) / 255
    named = (-change @ weights[0]).argmax(dim=1)
    assert (named == torch.tensor(data["label"])).all()


def test_the_adversary_of_rem_raises_the_loss_within_its_share_of_the_budget(known):
    data, network = known
    images = torch.from_numpy(pixels_of(data)).unsqueeze(1) / 255
    labels = torch.tensor(data["label"])
    images.requires_grad_()

    def loss(seen):
        with torch.no_grad():
            return float(F.cross_entropy(network(seen)[0], labels))

    network.train()
    moved = REM(attack_steps=5).disturbed(images, labels, network, Budget(8), generator())
    assert network.training
    assert (moved - images).abs().max() <= 4 / 255 + 1e-6
    noise = REM(attack_steps=0).disturbed(images, labels, network, Budget(8), generator())
    assert (noise - images).abs().max() <= 4 / 255 + 1e-6
    network.eval()
    assert loss(moved) > max(loss(images), loss(noise))
    assert torch.equal(torch.autograd.grad(moved.sum(), images)[0], torch.ones_like(images))  # a constant, once found


def test_rem_without_an_adversary_is_em():
    data = make_dataset(30)
    em, rem = quick(EM).fit(data, progress=False), quick(REM, attack_radius=0.0).fit(data, progress=False)
    assert not np.array_equal(pixels_of(data.map(quick(REM).fit(data, progress=False))), pixels_of(data.map(em)))
    assert rem.verify(data, data.map(rem)).violations == 0
    with pytest.raises(RecipeError, match="rem: got schedule='paper'; expected 'shared'"):
        REM(schedule="paper")


def test_rem_is_as_its_authors_have_it_from_nothing():
    data = make_dataset(30, channels=3, side=16)
    protections = [quick(REM, **start).fit(data, progress=False) for start in ({}, {"from_waves": False})]
    assert np.array_equal(*(pixels_of(data.map(one)) for one in protections))
    assert not protections[0].description.settings["from_waves"]


def test_starts_of_either_norm():
    images = torch.rand(5, 3, 6, 6, generator=generator())
    linf = random_start(Budget(8), images, generator(1))
    l2 = random_start(Budget(100, "l2"), images, generator(1))
    assert EPSILON / 2 < linf.abs().max() <= EPSILON
    assert l2.flatten(1).norm(dim=1).tolist() == pytest.approx([100 / 255] * 5)


@pytest.mark.parametrize("name", ["noise", "lsp", "ar"])
def test_images_that_come_later_get_perturbations_of_the_same_kind(name):
    data, later = make_dataset(30), make_dataset(6, seed=5)
    protection = quick(get_method(name)).fit(data, on_unseen="craft", progress=False)
    change = pixels_of(later.map(protection)).astype(int) - pixels_of(later)
    assert np.abs(change).max() <= 8
    assert (np.abs(change).reshape(6, -1).max(axis=1) >= 4).all()
