"""What each defence does to an image, pinned to its definition."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.datasets import COLUMNS, batch, generator, make_dataset
from PIL import Image, ImageOps
from torch.nn import functional as F

from hf_unlearnable import DataError, Defence, RecipeError, Surrogate, Training
from hf_unlearnable.budget import to_unit
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.pixels import to_array, to_image
from hf_unlearnable.defences import (
    JPEG,
    AdversarialTraining,
    BitDepth,
    Blur,
    ColourFloor,
    CutMix,
    Cutout,
    EarlyStopping,
    Grayscale,
    Mixup,
    Noise,
    OrthogonalProjection,
    PatternSubtraction,
    PretrainedStart,
    Resize,
    UEraserLite,
    UEraserMax,
    augmentation,
    available_defences,
    compression,
)
from hf_unlearnable.defences.augmentation import beta, mix, paste
from hf_unlearnable.defences.projection import softmax_regression
from hf_unlearnable.training.run import TrainingRun


def of(count, classes=3):
    """Targets that say nothing."""
    return torch.full((count, classes), 1 / classes)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("jpeg", {"quality": 10}),
        ("bitdepth", {"bits": 2}),
        ("blur", {"kernel": 3, "sigma_low": 0.1, "sigma_high": 2.0}),
        ("noise", {"sigma": 8.0}),
        ("cutout", {"share": 0.5}),
        ("mixup", {"alpha": 1.0}),
        ("cutmix", {"alpha": 1.0}),
        ("adversarial", {"eps": 8.0, "steps": 10, "step_size": 2.0}),
        ("ueraser-lite", {"revision": 2, "jpeg": False}),
        ("ueraser-max", {"revision": 2, "draws": 5, "jpeg": False}),
    ],
)
def test_the_settings_are_those_of_the_literature(name, settings):
    assert Defence.parse(name).as_dict() == {"name": name, **settings}


# --- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "jpeg:30",
        "resize:0.5",
        "grayscale",
        "class-clusters",
        "class-mean",
        "colour-floor",
        "orthogonal-projection",
        "pattern-subtraction",
        "principal-directions",
        "spectral-peak",
    ],
)
def test_a_dataset_becomes_what_the_thief_trains_on(name):
    data, defence = make_dataset(12, channels=3, side=16), Defence.parse(name)
    changed = defence.apply(data.shuffle(seed=0), seed=3)
    expected = defence.corrected(defence.prepare(ImageSet.read(data.shuffle(seed=0), COLUMNS), seed=3), seed=3)
    assert np.array_equal(np.stack([to_array(row["image"]) for row in changed]), expected.pixels)
    assert changed.remove_columns("image")[:] == data.shuffle(seed=0).remove_columns("image")[:]
    assert changed.features == data.features


def test_what_does_not_change_a_dataset():
    data = make_dataset(6)
    with pytest.raises(
        RecipeError, match=r"defence mixup:1; expected one that changes a dataset.*every batch: use its"
    ):
        Mixup().apply(data)
    with pytest.raises(RecipeError, match=r"early-stopping.*acts on the training, not on images"):
        EarlyStopping().apply(data)
    several = data.map(lambda row, index: {"image": row["image"].resize((9 + index, 9))}, with_indices=True)
    with pytest.raises(DataError, match="9x9 to 14x9"):
        OrthogonalProjection().apply(several)
    assert [row["image"].size for row in JPEG().apply(several)] == [row["image"].size for row in several]


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_is_pillows(images, quality):
    released = JPEG(quality=quality).prepare(images).pixels
    for array, out in zip(images.pixels, released, strict=True):
        stream = io.BytesIO()
        to_image(array).save(stream, "JPEG", quality=quality)
        assert np.array_equal(to_array(Image.open(stream)), out)
    assert not np.array_equal(released, images.pixels)


def test_less_quality_is_further_away(images):
    far = [
        np.abs(JPEG(quality=quality).prepare(images).pixels.astype(int) - images.pixels).mean()
        for quality in (10, 50, 90)
    ]
    assert far == sorted(far, reverse=True)


def test_grayscale_is_one_grey_in_all_channels(colour):
    grey = Grayscale().prepare(colour).pixels
    assert np.array_equal(grey[:, 0], grey[:, 1])
    assert np.array_equal(grey[:, 0], grey[:, 2])
    red, green, blue = colour.pixels.astype(float).transpose(1, 0, 2, 3)
    assert np.abs(grey[:, 0] - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 1


def test_bit_depth_leaves_four_levels(images):
    out = BitDepth(bits=2).prepare(images).pixels
    assert set(np.unique(out)) <= {0, 64, 128, 192}
    assert len(np.unique(out)) == 4
    assert np.array_equal(out[0], to_array(ImageOps.posterize(to_image(images.pixels[0]), 2)))
    assert np.array_equal(BitDepth(bits=8).prepare(images).pixels, images.pixels)


def test_resizing_averages_what_is_finer_than_the_small_image_and_keeps_the_size(images):
    square = np.array([[[0, 100], [100, 200]]], np.uint8)
    assert Resize(scale=0.5).changed(square).tolist() == [[[100, 100], [100, 100]]]
    # Shrinking by two weighs pixels by their distance: 1/4, 3/4, 3/4, 1/4. Enlarging takes 3/4 of the nearer one.
    step = np.array([0, 0, 200, 200], np.uint8)
    small = 200 * 0.25 / 1.75, 200 * 1.5 / 1.75
    near, far = (0.75 * small[0] + 0.25 * small[1], 0.25 * small[0] + 0.75 * small[1])
    expected = np.tile([small[0], near, far, small[1]], (4, 1))
    assert np.abs(Resize(scale=0.5).changed(np.tile(step, (1, 4, 1)))[0] - expected).max() <= 1
    flat = np.full((3, 7, 5), 90, np.uint8)
    assert np.array_equal(Resize(scale=0.01).changed(flat), flat)  # a single pixel is left
    far = [
        np.abs(Resize(scale=scale).prepare(images).pixels - images.pixels.astype(int)).mean()
        for scale in (0.25, 0.5, 0.75)
    ]
    assert far == sorted(far, reverse=True)
    assert Resize(scale=0.5).prepare(images).pixels.shape == images.pixels.shape
    assert Resize().acts_on_images
    assert not Resize().needs_network


def test_orthogonal_projection_takes_out_a_linear_shortcut():
    """Classes told apart by a faint pattern each: afterwards the patterns are gone, the images much as they were."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    patterns = rng.choice([-8, 8], (3, 1, 12, 12))
    plain = rng.integers(90, 160, (600, 1, 12, 12))
    images = ImageSet((plain + patterns[labels]).astype(np.uint8), labels, ["a", "b", "c"])
    out = OrthogonalProjection().corrected(images).pixels.astype(float)

    def told(pixels):
        """How often the nearest of the three patterns is the right one."""
        centred = (pixels - pixels.mean(axis=0)).reshape(600, -1)
        return float(((centred @ patterns.reshape(3, -1).T).argmax(axis=1) == labels).mean())

    assert told(images.pixels.astype(float)) > 0.95
    assert told(out) < 0.7
    assert np.abs(out - images.pixels).mean() < 8  # no more than the patterns were
    assert np.allclose(out.mean(axis=0), images.pixels.mean(axis=0), atol=0.5)


def test_orthogonal_projection_takes_out_nothing_else():
    """The weights of K classes sum to zero: a K-th direction is rounding errors, another one on every machine."""
    rng = np.random.default_rng(0)
    images = ImageSet(rng.integers(60, 190, (200, 1, 10, 10)).astype(np.uint8), np.arange(200) % 4, list("abcd"))
    defence = OrthogonalProjection()
    pixels = torch.from_numpy(images.pixels).float() / 255
    correct = defence.correction(images)
    change = (correct(pixels, torch.from_numpy(images.labels)) - pixels).flatten(1)
    centred = pixels - pixels.mean(dim=0)
    weights, _ = softmax_regression(lambda: [(centred, torch.from_numpy(images.labels))], 4)
    basis = torch.linalg.svd(weights)[0][:, :3]
    assert (change - change @ basis @ basis.T).abs().max() < 1e-5
    assert change.abs().max() > 20 / 255
    left = (pixels + change.view_as(pixels)).flatten(1)
    assert ((left - left.mean(dim=0)) @ basis).abs().max() < 1e-4  # nothing is rounded


def test_pattern_subtraction_takes_out_what_the_images_of_a_class_share():
    """On a flat background nearly all of it; clean images, which share nothing fine, stay as they were."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    plain = rng.integers(40, 200, (300, 1, 1, 1)) + rng.integers(-2, 3, (300, 1, 20, 20))
    plain[:, :, 6:14, 6:14] = rng.integers(0, 256, (300, 1, 8, 8))  # what the images show
    patterns = rng.choice([-8, 8], (3, 1, 20, 20))
    clean, protected = (
        ImageSet(pixels.clip(0, 255).astype(np.uint8), labels, ["a", "b", "c"])
        for pixels in (plain, plain + patterns[labels])
    )

    def apart(pixels):
        """How far the classes' mean images are apart on the background, in levels."""
        centred = 255 * (pixels - pixels.mean(dim=(1, 2, 3), keepdim=True))
        means = torch.stack([centred[labels == label].mean(dim=0) for label in range(3)])
        return float(means.std(dim=0)[0, :3, :3].mean())

    def shared(images):
        """The same before and after."""
        pixels = to_unit(torch.from_numpy(images.pixels))
        return apart(pixels), apart(PatternSubtraction().correction(images)(pixels, torch.from_numpy(labels)))

    before, after = shared(protected)
    assert before > 5
    assert after < before / 3
    before, after = shared(clean)
    assert abs(after - before) < 0.5


def test_a_colour_floor_is_black(images):
    out = ColourFloor(level=60).prepare(images).pixels
    assert np.array_equal(out, np.where(images.pixels > 60, images.pixels, 0))


def test_a_probe_trains_nothing_but_the_head(colour, tmp_path):
    published = Surrogate("small-resnet").build(5, 3, seed=7)
    published.model.save_pretrained(tmp_path / "published")
    defence = Defence.parse(f"probe:{tmp_path / 'published'}")
    options = {"iterations": 4, "seed": 1, "accelerator": Accelerator(), "defence": defence}
    training = TrainingRun(Surrogate("small-vgg"), colour, Training(batch_size=8), **options)
    start = {name: weights.clone() for name, weights in training.network.state_dict().items()}
    for _ in training:
        assert not training.network.model.training
    moved = {name for name, weights in training.network.state_dict().items() if not torch.equal(weights, start[name])}
    assert moved == {"model.classifier.weight", "model.classifier.bias"}
    for name, weights in published.model.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(start[f"model.{name}"], weights), name
    assert defence.public_name() == "probe: a model of the owner"
    assert defence.acts


def test_a_correction_meets_every_batch_as_floats_before_it_is_augmented(colour):
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Halved(Defence):
        name = "halved"

        def correction(self, images, *, seed=0):
            return lambda pixels, labels: pixels / 2 + labels.view(-1, 1, 1, 1) / 1000

        def batch(self, images, targets, network, generator):
            seen.append((images, targets))
            return images, targets

    options = {"iterations": 3, "seed": 1, "accelerator": Accelerator(), "defence": Halved()}
    TrainingRun(Surrogate("small-resnet"), colour, Training(batch_size=8, augment=False), **options).finish()
    assert len(seen) == 3
    for images, targets in seen:
        rest = 2 * (images - targets.argmax(dim=1).view(-1, 1, 1, 1) / 1000) * 255
        assert torch.allclose(rest, rest.round(), atol=1e-3)
        assert images.max() < 0.51


def test_pretrained_start_begins_from_the_published_weights(tmp_path):
    published = Surrogate("small-resnet").build(5, 1, seed=7)
    published.model.save_pretrained(tmp_path / "published")
    started = PretrainedStart(model=str(tmp_path / "published")).start(Surrogate("small-resnet")).build(3, 1, seed=0)
    for name, weights in published.model.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(weights, started.model.state_dict()[name]), name
    assert started(batch()[0])[0].shape == (6, 3)
    other = Surrogate("small-resnet", image_mean=(0.1,), image_std=(0.9,))  # what another model was trained with
    tuned = PretrainedStart(model=str(tmp_path / "published")).start(other).build(3, 1, seed=0)
    assert torch.equal(tuned.mean, started.mean)
    assert torch.equal(tuned.std, started.std)


def test_early_stopping_takes_the_peak():
    assert EarlyStopping().figure == "peak"
    others = set(available_defences()) - {"early-stopping", "pretrained", "probe"}
    assert {Defence.parse(name).figure for name in others} == {"last"}


# --- on every batch ---------------------------------------------------------------------------------------------------


def test_blur_blurs(network):
    point = torch.zeros(400, 1, 9, 9)
    point[:, :, 4, 4] = 1
    out, _ = Blur().batch(point, of(400), network, generator())
    assert torch.allclose(out.sum(dim=(1, 2, 3)), torch.ones(400), atol=1e-5)
    outside = out.clone()
    outside[:, :, 3:6, 3:6] = 0
    assert outside.abs().max() == 0  # a kernel of 3 reaches one pixel
    # exp(-1 / (2 sigma^2)) is how much of the centre a neighbour gets; sigma between 0.1 and 2, drawn for each image
    sigma = (-1 / (2 * (out[:, 0, 4, 5] / out[:, 0, 4, 4]).double().log())).sqrt()
    assert sigma.min() >= 0.1 - 1e-3
    assert sigma.max() <= 2 + 1e-3
    assert [sigma.quantile(share).item() for share in (0.02, 0.5, 0.98)] == pytest.approx([0.14, 1.05, 1.96], abs=0.12)
    noise = torch.rand(4, 1, 16, 16, generator=generator())
    blurred, _ = Blur(sigma_low=1).batch(noise, of(4), network, generator())
    assert (blurred.std(dim=(1, 2, 3)) < 0.7 * noise.std(dim=(1, 2, 3))).all()


def test_noise_has_its_size(network):
    grey = torch.full((8, 1, 64, 64), 0.5)
    out, _ = Noise(sigma=8).batch(grey, of(8), network, generator())
    assert (out - grey).std().item() * 255 == pytest.approx(8, rel=0.02)
    assert abs((out - grey).mean().item()) * 255 < 0.2


def test_cutout_has_one_hole_of_its_size(network):
    white = torch.ones(400, 3, 32, 32)
    out, _ = Cutout(share=0.5).batch(white, of(400), network, generator())
    holes = out[:, 0] == 0
    assert torch.equal(out, out[:, :1].expand(-1, 3, -1, -1))
    heights, widths = holes.any(dim=2).sum(dim=1), holes.any(dim=1).sum(dim=1)
    assert torch.equal(holes.sum(dim=(1, 2)), heights * widths)  # a rectangle
    assert heights.max() == widths.max() == 16
    assert ((heights == 16) & (widths == 16)).sum() > 50  # the centres that are far enough inside
    assert heights.min() >= 8  # half of it is left where the centre is at the edge


def test_lambda_is_the_weight_of_the_first_image(network):
    images, targets = batch(2, classes=2)
    out, soft = mix(images, targets, 0.8, torch.tensor([1, 0]))
    assert torch.allclose(out[0], 0.8 * images[0] + 0.2 * images[1])
    assert torch.allclose(soft, torch.tensor([[0.8, 0.2], [0.2, 0.8]]))
    plain = torch.eye(12).view(12, 1, 1, 12)  # image i is one bright pixel at i, of class i
    for seed in range(5):
        out, soft = Mixup().batch(plain, torch.eye(12), network, generator(seed))
        assert torch.allclose(out[:, 0, 0], soft)  # pixels and labels are mixed alike
        own = soft.diagonal()
        assert torch.allclose(own[own < 1], own[own < 1][0].expand((own < 1).sum()))  # one lambda a batch


def test_mixup_gives_each_image_the_lambda_that_was_drawn(network, monkeypatch):
    monkeypatch.setattr(augmentation, "beta", lambda alpha, source: 0.8)
    plain = torch.eye(12).view(12, 1, 1, 12)
    _, soft = Mixup().batch(plain, torch.eye(12), network, generator())
    own = soft.diagonal()
    assert torch.allclose(own[own < 1], torch.tensor(0.8))
    assert (own < 1).sum() >= 10  # one in twelve is its own partner on average


def test_cutmix_keeps_the_lambda_that_was_drawn_of_the_area(network, monkeypatch):
    monkeypatch.setattr(augmentation, "beta", lambda alpha, source: 0.75)
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(-1, 1, 20, 20) / 12
    kept = [
        CutMix().batch(images, torch.eye(12), network, generator(seed))[1].diagonal().min().item() for seed in range(40)
    ]
    assert min(kept) == pytest.approx(0.75)  # a square of 10 of 20 pixels a side; less of it where it is cut off
    assert kept.count(min(kept)) > 5
    assert max(kept) < 1


def test_cutmix_weighs_labels_by_area(network):
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(-1, 1, 20, 20) / 12  # image i is flat, of class i
    areas = []
    for seed in range(40):
        out, soft = CutMix().batch(images, torch.eye(12), network, generator(seed))
        for index in range(12):
            kept = (out[index] == images[index]).float().mean()
            assert soft[index, index] == pytest.approx(kept.item(), abs=1e-6)
        areas.append(soft.min(dim=1).values.min() == 0 and soft.diagonal().min().item())
    assert min(areas) < 0.3
    assert max(areas) > 0.9
    rows, columns = torch.zeros(20, dtype=torch.bool), torch.zeros(20, dtype=torch.bool)
    rows[:5], columns[10:] = True, True
    out, soft = paste(images, torch.eye(12), rows, columns, torch.arange(12).flip(0))
    assert torch.equal(out[0, 0, :5, 10:], images[11, 0, :5, 10:])
    assert torch.equal(out[0, 0, 5:], images[0, 0, 5:])
    assert soft[0, 0] == pytest.approx(1 - 50 / 400)
    assert soft[0, 11] == pytest.approx(50 / 400)


def test_beta_of_one_is_uniform():
    draws = [beta(1.0, generator(seed)) for seed in range(400)]
    assert np.mean(draws) == pytest.approx(0.5, abs=0.06)
    assert np.std(draws) == pytest.approx(12**-0.5, abs=0.04)
    assert np.std([beta(100.0, generator(seed)) for seed in range(50)]) < 0.1


@pytest.mark.parametrize("eps", [4, 8])
def test_adversarial_examples_stay_within_eps_and_raise_the_loss(network, eps):
    images, targets = batch(16)
    out, same = AdversarialTraining(eps=eps).batch(images, targets, network, generator())
    assert torch.equal(same, targets)
    change = (out - images).abs() * 255
    assert change.max() <= eps + 1e-3
    assert change.max() > 0.9 * eps

    def loss(pixels):
        with torch.no_grad():
            return F.cross_entropy(network.eval()(pixels)[0], targets).item()

    noise = (torch.rand(images.shape, generator=generator()) * 2 - 1) * eps / 255
    worst, random, clean = loss(out), loss((images + noise).clamp(0, 1)), loss(images)
    network.train()
    assert worst > clean + 3 * abs(random - clean)


def test_adversarial_examples_go_ten_steps_of_two_levels(network):
    images, targets = batch(4)
    images = 0.2 + 0.6 * images  # nothing is clipped
    passes = []
    handle = network.register_forward_hook(lambda *_: passes.append(1))
    AdversarialTraining().batch(images, targets, network, generator())
    handle.remove()
    assert len(passes) == 10
    start = (2 * torch.rand(images.shape, generator=generator()) - 1) * 8 / 255
    once, _ = AdversarialTraining(steps=1).batch(images, targets, network, generator())
    expected = (images + start - once).abs() * 255
    assert expected.max() == pytest.approx(2, abs=1e-3)
    assert (expected > 1.999).float().mean() > 0.7  # the others would have left the ball


def test_ueraser_max_is_the_worst_of_its_draws(network):
    images, targets = batch(8)
    source = generator(2)
    draws = [UEraserLite().batch(images, targets, network, source)[0] for _ in range(3)]
    out, _ = UEraserMax(draws=3).batch(images, targets, network, generator(2))
    network.eval()
    with torch.no_grad():
        losses = torch.stack([F.cross_entropy(network(draw)[0], targets, reduction="none") for draw in draws])
        assert torch.allclose(F.cross_entropy(network(out)[0], targets, reduction="none"), losses.max(dim=0).values)
    network.train()
    assert len(set(losses.argmax(dim=0).tolist())) > 1


def test_ueraser_paints_plasma_over_every_image(network):
    grey = torch.full((64, 3, 32, 32), 0.4)
    for seed in range(3):
        changed, _ = UEraserLite().batch(grey, of(64), network, generator(seed))
        assert (changed.std(dim=(1, 2, 3)) > 0.02).float().mean() > 0.9
    images = torch.rand(64, 3, 32, 32, generator=generator())
    changed, _ = UEraserLite().batch(images, of(64), network, generator())
    assert ((changed - images).abs().mean(dim=(1, 2, 3)) > 8 / 255).all()


def test_ueraser_compresses_first_at_any_quality_from_10_to_99(network, monkeypatch):
    seen, real = [], compression.compressed

    def watching(image, quality):
        seen.append((to_array(image), quality))
        return real(image, quality)

    monkeypatch.setattr(compression, "compressed", watching)
    images, targets = batch(300, channels=3, side=8)
    UEraserLite(jpeg=True).batch(images, targets, network, generator())
    levels = (images * 255).round().byte().numpy()
    assert all(np.array_equal(image, original) for (image, _), original in zip(seen, levels, strict=True))
    qualities = [quality for _, quality in seen]
    assert (min(qualities), max(qualities)) == (10, 99)
