"""What each defence does to an image, by its definition."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import make_dataset
from PIL import Image, ImageOps
from torch.nn import functional as F

from hf_unlearnable import Defence, RecipeError, Surrogate, Training, available_defences
from hf_unlearnable.columns import Columns
from hf_unlearnable.defences import (
    JPEG,
    AdversarialTraining,
    BitDepth,
    Blur,
    CutMix,
    Cutout,
    EarlyStopping,
    Grayscale,
    Mixup,
    NoDefence,
    Noise,
    OrthogonalProjection,
    PretrainedStart,
    UEraserLite,
    UEraserMax,
)
from hf_unlearnable.defences.base import _defences
from hf_unlearnable.defences.batches import beta, mix, paste
from hf_unlearnable.images import ImageSet
from hf_unlearnable.pixels import to_array, to_image
from hf_unlearnable.training import train

COLUMNS = Columns("image", "label")
NAMES = {
    "adversarial",
    "bitdepth",
    "blur",
    "cutmix",
    "cutout",
    "early-stopping",
    "grayscale",
    "jpeg",
    "mixup",
    "noise",
    "none",
    "orthogonal-projection",
    "pretrained",
    "ueraser-lite",
    "ueraser-max",
}


@pytest.fixture(scope="module", params=[1, 3], ids=["greyscale", "colour"])
def images(request):
    return ImageSet.read(make_dataset(24, channels=request.param, side=16), COLUMNS)


@pytest.fixture(scope="module")
def colour():
    return ImageSet.read(make_dataset(24, channels=3, side=16), COLUMNS)


@pytest.fixture(scope="module")
def network():
    return Surrogate("small-resnet").build(3, 1, seed=0).train()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=6, channels=1, side=16, classes=3, seed=0):
    pixels = torch.rand(count, channels, side, side, generator=generator(seed))
    return pixels, F.one_hot(torch.arange(count) % classes, classes).float()


def example(name):
    return Defence.parse(f"{name}:some/model" if name == "pretrained" else name)


# --- by name ----------------------------------------------------------------------------------------------------------


def test_all_are_there():
    assert set(available_defences()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_text_goes_out_and_comes_back(name):
    defence = example(name)
    assert defence.name == name
    assert Defence.parse(str(defence)) == defence
    assert Defence.parse(defence) is defence
    assert defence.as_dict()["name"] == name


@pytest.mark.parametrize(
    ("text", "defence", "written"),
    [
        ("jpeg", JPEG(quality=10), "jpeg:10"),
        ("jpeg:50", JPEG(quality=50), "jpeg:50"),
        ("bitdepth:3", BitDepth(bits=3), "bitdepth:3"),
        ("adversarial:4", AdversarialTraining(eps=4), "adversarial:4"),
        ("adversarial:eps=4,steps=3", AdversarialTraining(eps=4, steps=3), "adversarial:eps=4,steps=3"),
        ("blur:sigma_low=1", Blur(sigma_low=1.0), "blur:kernel=3,sigma_low=1"),
        ("ueraser-lite:true", UEraserLite(jpeg=True), "ueraser-lite:True"),
        ("pretrained:a/b=c,d", PretrainedStart(model="a/b=c,d"), "pretrained:a/b=c,d"),
        (" none ", NoDefence(), "none"),
    ],
)
def test_text_means_what_it_says(text, defence, written):
    assert Defence.parse(text) == defence
    assert str(defence) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg", r"'jpg'; expected one of adversarial, .*ueraser-max"),
        ("jpeg:high", "expected 'high' to be of type int"),
        ("jpeg:bits=2,quality=3", "type int"),
        ("jpeg:quality=3,bits=2", "settings among quality"),
        ("none:1", "no settings"),
        ("pretrained", "needs pretrained:MODEL"),
        ("ueraser-lite:perhaps", "of type bool"),
        ("jpeg:0", "quality=0; expected 1 to 100"),
        ("bitdepth:9", "bits=9"),
        ("blur:4", "kernel=4; expected an odd number"),
        ("blur:sigma_high=0.1", "changes no 8-bit pixel"),
        ("noise:0", r"sigma=0\.0"),
        ("cutout:16", r"share=16\.0; expected a share"),
        ("mixup:0", r"alpha=0\.0"),
        ("cutmix:-1", r"alpha=-1\.0"),
        ("adversarial:0", r"eps=0\.0"),
        ("ueraser-max:1", "at least 2"),
    ],
)
def test_wrong_names_and_settings(text, message):
    with pytest.raises(RecipeError, match=message):
        Defence.parse(text)


def test_a_third_party_adds_one_class():
    @dataclass(frozen=True, kw_only=True)
    class Mirror(Defence, name="mirror"):
        def prepare(self, images, *, seed=0):
            return ImageSet(images.pixels[..., ::-1], images.labels, images.names)

    try:
        assert "mirror" in available_defences()
        assert Defence.parse("mirror") == Mirror()
        assert not Mirror().acts_on_batches
        with pytest.raises(RecipeError, match="second defence with the name 'mirror'"):

            class Again(Defence, name="mirror"):
                pass
    finally:
        _defences.pop("mirror")


@pytest.mark.parametrize("name", sorted(NAMES - {"pretrained"}))
@pytest.mark.filterwarnings("ignore:grayscale")
def test_the_contract(name, images):
    """Shapes and ranges stay, inputs are left alone, the same seed gives the same result, global randomness stays."""
    defence, channels = example(name), images.pixels.shape[1]
    before = images.pixels.copy()
    prepared = defence.prepare(images, seed=1)
    assert np.array_equal(images.pixels, before)
    assert (prepared.pixels.shape, prepared.pixels.dtype) == (before.shape, np.uint8)
    assert prepared.names == images.names
    assert np.array_equal(prepared.labels, images.labels)
    assert np.array_equal(defence.prepare(images, seed=1).pixels, prepared.pixels)
    victim = Surrogate("small-resnet")
    assert defence.start(victim) is victim
    trained = victim.build(3, channels, seed=0).train()
    weights = {key: value.clone() for key, value in trained.state_dict().items()}
    pixels, targets = batch(channels=channels)
    original, state = pixels.clone(), torch.get_rng_state()
    out, soft = defence.batch(pixels, targets, trained, generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pixels, original)
    assert (out.shape, soft.shape) == (pixels.shape, targets.shape)
    assert out.min() >= 0
    assert out.max() <= 1
    assert not out.requires_grad
    assert torch.allclose(soft.sum(dim=1), torch.ones(len(soft)))
    assert defence.acts_on_batches == (not torch.equal(out, pixels))
    assert torch.equal(defence.batch(pixels, targets, trained, generator(3))[0], out)
    assert trained.training
    for key, value in trained.state_dict().items():
        assert torch.equal(value, weights[key])
    assert all(parameter.grad is None for parameter in trained.parameters())


# --- once -------------------------------------------------------------------------------------------------------------


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


def test_grayscale_of_grey_images_is_pointed_out():
    grey = ImageSet.read(make_dataset(6), COLUMNS)
    with pytest.warns(UserWarning, match="greyscale already, so this defence does nothing"):
        assert np.array_equal(Grayscale().prepare(grey).pixels, grey.pixels)


def test_bit_depth_leaves_four_levels(images):
    out = BitDepth(bits=2).prepare(images).pixels
    assert set(np.unique(out)) <= {0, 64, 128, 192}
    assert len(np.unique(out)) == 4
    assert np.array_equal(out[0], to_array(ImageOps.posterize(to_image(images.pixels[0]), 2)))
    assert np.array_equal(BitDepth(bits=8).prepare(images).pixels, images.pixels)


def test_orthogonal_projection_takes_out_a_linear_shortcut():
    """Classes told apart by a faint pattern each: afterwards the patterns are gone, the images much as they were."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    patterns = rng.choice([-8, 8], (3, 1, 12, 12))
    plain = rng.integers(90, 160, (600, 1, 12, 12))
    images = ImageSet((plain + patterns[labels]).astype(np.uint8), labels, ["a", "b", "c"])
    out = OrthogonalProjection().prepare(images).pixels.astype(float)

    def told(pixels):
        """How often the nearest of the three patterns is the right one."""
        centred = (pixels - pixels.mean(axis=0)).reshape(600, -1)
        return float(((centred @ patterns.reshape(3, -1).T).argmax(axis=1) == labels).mean())

    assert told(images.pixels.astype(float)) > 0.95
    assert told(out) < 0.7
    assert np.abs(out - images.pixels).mean() < 8  # no more than the patterns were
    assert np.allclose(out.mean(axis=0), images.pixels.mean(axis=0), atol=0.5)


def test_pretrained_start_begins_from_the_published_weights(tmp_path):
    published = Surrogate("small-resnet").build(5, 1, seed=7)
    published.model.save_pretrained(tmp_path / "published")
    started = PretrainedStart(model=str(tmp_path / "published")).start(Surrogate("small-resnet")).build(3, 1, seed=0)
    for name, weights in published.model.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(weights, started.model.state_dict()[name]), name
    assert started(batch()[0])[0].shape == (6, 3)


def test_early_stopping_takes_the_peak():
    assert EarlyStopping().figure == "peak"
    assert {example(name).figure for name in NAMES - {"early-stopping"}} == {"last"}


# --- on every batch ---------------------------------------------------------------------------------------------------


def test_blur_blurs(network):
    point = torch.zeros(64, 1, 9, 9)
    point[:, :, 4, 4] = 1
    out, _ = Blur().batch(point, torch.ones(64, 3) / 3, network, generator())
    assert torch.allclose(out.sum(dim=(1, 2, 3)), torch.ones(64), atol=1e-5)
    outside = out.clone()
    outside[:, :, 3:6, 3:6] = 0
    assert outside.abs().max() == 0  # a kernel of 3 reaches one pixel
    centre = out[:, 0, 4, 4]
    # exp(-1 / (2 sigma^2)) is how much of the centre a neighbour gets; sigma between 0.1 and 2, drawn for each image
    sigma = (-1 / (2 * (out[:, 0, 4, 5] / centre).log())).sqrt()
    assert sigma.max() <= 2.001
    assert len(centre.unique()) > 40
    noise = torch.rand(4, 1, 16, 16, generator=generator())
    blurred, _ = Blur(sigma_low=1).batch(noise, torch.ones(4, 3) / 3, network, generator())
    assert (blurred.std(dim=(1, 2, 3)) < 0.7 * noise.std(dim=(1, 2, 3))).all()


def test_noise_has_its_size(network):
    grey = torch.full((8, 1, 64, 64), 0.5)
    out, _ = Noise(sigma=8).batch(grey, torch.ones(8, 3) / 3, network, generator())
    assert (out - grey).std().item() * 255 == pytest.approx(8, rel=0.02)
    assert abs((out - grey).mean().item()) * 255 < 0.2


def test_cutout_has_one_hole_of_its_size(network):
    white = torch.ones(400, 3, 32, 32)
    out, _ = Cutout(share=0.5).batch(white, torch.ones(400, 3) / 3, network, generator())
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


def test_ueraser_changes_much_and_its_jpeg_comes_first(network):
    images, targets = batch(32, channels=3)
    changed = UEraserLite().batch(images, targets, network, generator())[0]
    assert ((changed - images).abs().mean(dim=(1, 2, 3)) > 8 / 255).float().mean() > 0.5
    with_jpeg = UEraserLite(jpeg=True).batch(images, targets, network, generator())[0]
    assert not torch.equal(with_jpeg, changed)


# --- in a training ----------------------------------------------------------------------------------------------------


def run(images, defence, **settings):
    training = Training(epochs=1, batch_size=8, augment=False)
    return train(
        Surrogate("small-resnet"),
        images,
        training,
        iterations=2,
        seed=0,
        accelerator=Accelerator(),
        defence=defence,
        **settings,
    )


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_training_calls_all_hooks(colour, tmp_path):
    plain = run(colour, NoDefence())
    assert same(plain, run(colour, EarlyStopping()))
    assert same(run(colour, JPEG(quality=10)), run(JPEG(quality=10).prepare(colour), NoDefence()))
    assert not same(plain, run(colour, JPEG(quality=10)))
    for defence in (Mixup(), AdversarialTraining(steps=2), UEraserMax(draws=2)):
        assert not same(plain, run(colour, defence))
        assert same(run(colour, defence), run(colour, defence))
    plain.model.save_pretrained(tmp_path / "published")
    tuned = run(colour, PretrainedStart(model=str(tmp_path / "published")))
    assert not same(plain, tuned)


def test_hard_labels_in_soft_form_give_the_same_loss(colour):
    """One-hot targets are the classes: a defence that changes nothing trains like none, but for the last bits."""

    @dataclass(frozen=True, kw_only=True)
    class Idle(Defence):
        def batch(self, images, targets, network, generator):
            return images, targets

    losses = {}
    for name, defence in (("none", NoDefence()), ("idle", Idle())):
        losses[name] = []
        run(colour, defence, after_step=lambda step, loss, network, name=name: losses[name].append(loss))
    assert losses["idle"] == pytest.approx(losses["none"], abs=1e-4)
