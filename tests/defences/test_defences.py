"""What each defence does to an image, by its definition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.datasets import batch, generator, make_dataset

from hf_unlearnable import DataError, Defence, RecipeError, Surrogate, Training, available_defences
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import (
    JPEG,
    AdversarialTraining,
    BitDepth,
    Blur,
    EarlyStopping,
    Mixup,
    NoDefence,
    PretrainedStart,
    Resize,
    UEraserLite,
    UEraserMax,
    Validation,
)
from hf_unlearnable.defences.base import _defences, public_defence
from hf_unlearnable.training.run import TrainingRun

NAMES = {
    "adversarial",
    "bitdepth",
    "blur",
    "class-clusters",
    "class-mean",
    "colour-floor",
    "cutmix",
    "cutout",
    "early-stopping",
    "grayscale",
    "jpeg",
    "mixup",
    "noise",
    "none",
    "orthogonal-projection",
    "pattern-subtraction",
    "pretrained",
    "probe",
    "principal-directions",
    "recovery",
    "resize",
    "spectral-peak",
    "staged",
    "ueraser-lite",
    "ueraser-max",
    "validation",
}

OF_A_MODEL = {"pretrained", "probe"}


def example(name):
    return Defence.parse(f"{name}:some/model" if name in OF_A_MODEL else name)


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


@pytest.mark.parametrize("name", sorted(NAMES - OF_A_MODEL))
def test_in_public_a_defence_of_numbers_is_called_as_it_is(name):
    assert example(name).public_name() == public_defence(str(example(name))) == str(example(name))


@pytest.fixture
def purify():
    """A defence of another package, whose settings are of every kind."""

    @dataclass(frozen=True, kw_only=True)
    class Purify(Defence, name="purify"):
        checkpoint: str
        strength: float = 0.5
        mode: Literal["fast", "slow"] | None = None

        def __post_init__(self):
            if "gone" in self.checkpoint:
                raise FileNotFoundError(self.checkpoint)

        def prepare(self, images, *, seed=0):
            return images

    yield Purify
    _defences.remove("purify")


def test_in_public_a_defence_has_no_path(purify, tmp_path):
    assert purify(checkpoint="/home/zoe/c").public_name() == "purify:a setting of the owner"
    own = purify(checkpoint="/home/zoe/c", strength=2, mode="slow")
    assert own.public_name() == "purify:checkpoint=a setting of the owner,strength=2,mode=slow"
    assert public_defence(str(own)) == own.public_name()
    with pytest.raises(RecipeError, match="purify: got mode='/home/zoe'"):
        purify(checkpoint="a", mode="/home/zoe")
    assert public_defence("purify:/home/zoe/gone") == "purify: a setting of the owner"
    (tmp_path / "mine").mkdir()
    for model in ("/home/zoe/c", "zoe", "~/zoe/c", "C:\\zoe\\c", str(tmp_path / "mine"), "a/b=c,d"):
        assert PretrainedStart(model=model).public_name() == "pretrained: a model of the owner"
    assert public_defence("pretrained:microsoft/resnet-18") == "pretrained:microsoft/resnet-18"
    assert public_defence("pretrained:small-vgg") == "pretrained:small-vgg"


@pytest.mark.parametrize("text", ["pretrained:small-resnet", "probe:mlp"])
def test_a_model_that_nobody_trained_is_none_to_start_from(text):
    """Its weights are drawn: a figure of "a published model" would be that of noise."""
    with pytest.raises(RecipeError, match=r"no trained weights to start from.*expected the folder or Hub id"):
        Defence.parse(text).require()


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("vanish", "vanish"),
        ("vanish:3", "vanish:3"),
        ("vanish:steps=3,rate=1e-05,again=True,model=None", "vanish:steps=3,rate=1e-05,again=True,model=None"),
        ("vanish:/home/zoe/c", "vanish: a setting of the owner"),
        ("vanish:zoe/c", "vanish: a setting of the owner"),
        ("vanish:3,zoe", "vanish: a setting of the owner"),
        ("vanish:/home/zoe=1", "vanish: a setting of the owner"),
        ("jpeg:gone=/home/zoe", "jpeg: a setting of the owner"),
        ("/home/zoe/c", "a countermeasure of the owner"),
        ("C:\\zoe", "C: a setting of the owner"),
        ("~/zoe:3", "a countermeasure of the owner"),
        ("", "a countermeasure of the owner"),
    ],
)
def test_in_public_the_text_of_an_unknown_defence_has_no_path(text, public):
    """Of a plugin that is not installed where the page is made, nothing but numbers and switches is told."""
    assert public_defence(text) == public


@pytest.mark.parametrize(
    ("text", "defence", "written"),
    [
        ("jpeg", JPEG(quality=10), "jpeg:10"),
        ("jpeg:50", JPEG(quality=50), "jpeg:50"),
        ("bitdepth:3", BitDepth(bits=3), "bitdepth:3"),
        ("resize", Resize(scale=0.5), "resize:0.5"),
        ("validation", Validation(share=0.1), "validation:0.1"),
        ("resize:0.25", Resize(scale=0.25), "resize:0.25"),
        ("adversarial:4", AdversarialTraining(eps=4), "adversarial:4"),
        ("adversarial:eps=4,steps=3", AdversarialTraining(eps=4, steps=3), "adversarial:eps=4,steps=3"),
        ("blur:sigma_low=1", Blur(sigma_low=1.0), "blur:kernel=3,sigma_low=1"),
        ("ueraser-lite", UEraserLite(), "ueraser-lite"),
        ("ueraser-lite:true", UEraserLite(jpeg=True), "ueraser-lite:jpeg=True"),
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
        ("jpeg:bits=2,quality=3", "settings among quality"),
        ("jpeg:qualty=3", "'jpeg:qualty=3'; expected for jpeg settings among quality"),
        ("none:a=1", "no settings"),
        ("jpeg:quality=3,bits=2", "settings among quality"),
        ("none:1", "no settings"),
        ("pretrained", "needs pretrained:MODEL"),
        ("ueraser-lite:perhaps", "of type bool"),
        ("jpeg:0", "quality=0; expected 1 to 100"),
        ("bitdepth:9", "bits=9"),
        ("validation:0", r"validation: got share=0\.0; expected more than 0 and less than 1"),
        ("validation:1", r"validation: got share=1\.0; expected more than 0 and less than 1"),
        ("resize:0", r"resize: got scale=0\.0; expected more than 0 and less than 1"),
        ("resize:1", r"resize: got scale=1\.0; expected more than 0 and less than 1"),
        ("resize:2", r"resize: got scale=2\.0; expected more than 0 and less than 1"),
        ("blur:4", "kernel=4; expected an odd number"),
        ("blur:sigma_high=0.1", "changes no 8-bit pixel"),
        ("noise:0", r"sigma=0\.0"),
        ("cutout:16", r"share=16\.0; expected a share"),
        ("mixup:0", r"alpha=0\.0"),
        ("cutmix:-1", r"alpha=-1\.0"),
        ("adversarial:0", r"eps=0\.0"),
        ("ueraser-max:1", "expected 2 to"),
        ("jpeg:", "got the defence 'jpeg:'; expected settings behind the colon, or jpeg alone"),
        ("noise:nan", "noise: got sigma=nan; expected a finite number"),
        ("orthogonal-projection:iterations=0", "orthogonal-projection: got iterations=0; expected 1 to 1,000,000,000"),
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
                def image(self, image):
                    return image

        with pytest.raises(RecipeError, match="with both image and prepare"):

            class Both(Mirror, name="both"):
                def image(self, image):
                    return image
    finally:
        _defences.remove("mirror")


@pytest.mark.parametrize("name", sorted(NAMES - OF_A_MODEL))
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


# --- in a training ----------------------------------------------------------------------------------------------------


def run(images, defence):
    training = Training(epochs=1, batch_size=8, augment=False)
    options = {"iterations": 2, "seed": 0, "accelerator": Accelerator()}
    return TrainingRun(Surrogate("small-resnet"), images, training, defence=defence, **options)


def trained(images, defence):
    return run(images, defence).finish()


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_training_calls_all_hooks(colour, tmp_path):
    plain = trained(colour, NoDefence())
    assert same(plain, trained(colour, EarlyStopping()))
    assert same(trained(colour, JPEG(quality=10)), trained(JPEG(quality=10).prepare(colour), NoDefence()))
    assert not same(plain, trained(colour, JPEG(quality=10)))
    for defence in (Mixup(), AdversarialTraining(steps=2), UEraserMax(draws=2)):
        assert not same(plain, trained(colour, defence))
        assert same(trained(colour, defence), trained(colour, defence))
    plain.model.save_pretrained(tmp_path / "published")
    tuned = trained(colour, PretrainedStart(model=str(tmp_path / "published")))
    assert not same(plain, tuned)


def test_hard_labels_in_soft_form_give_the_same_loss(colour):
    """One-hot targets are the classes: a defence that changes nothing trains like none, but for the last bits."""

    @dataclass(frozen=True, kw_only=True)
    class Idle(Defence):
        name = "idle"

        def batch(self, images, targets, network, generator):
            return images, targets

    assert list(run(colour, Idle())) == pytest.approx(list(run(colour, NoDefence())), abs=1e-4)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"imge": lambda self, image: image}, "'idle', which does nothing.* expected it to override one of image, "),
        ({"figure": "best", "image": lambda self, image: image}, "the figure 'best' of .*expected 'last' or 'peak'"),
        ({"epochs_factor": 0, "image": lambda self, image: image}, "epochs_factor = 0 in .*expected 1 to "),
        ({"revision": "2", "image": lambda self, image: image}, "revision = '2' in .*expected a whole number"),
        ({"frozen": 1}, "frozen = 1 in .*expected True or False"),
    ],
    ids=["misspelt", "figure", "epochs", "revision", "frozen"],
)
def test_a_defence_that_would_do_nothing_or_end_nowhere_is_refused(members, message):
    with pytest.raises(RecipeError, match=message):
        type(Defence)("Idle", (Defence,), members, name="idle")
    assert "idle" not in available_defences()


@pytest.mark.parametrize("hook", ["prepare", "correction", "course", "start", "batch"])
def test_a_hook_that_returns_something_else_is_told_with_its_defence(hook, colour):
    hooks = {hook: lambda self, *args, **options: 5}
    defence = dataclass(frozen=True, kw_only=True)(type(Defence)("Odd", (Defence,), {**hooks, "name": "odd"}))()
    with pytest.raises(RecipeError, match=f"the defence odd: {hook} returned a int; expected "):
        list(run(colour, defence))


def darken(defence, images, *, seed=0):
    images.pixels[:] //= 2
    return images


@pytest.mark.parametrize(
    ("hook", "own", "message"),
    [
        ("prepare", lambda _, images, *, seed: replace(images, pixels=images.pixels / 255), "of float64 pixels"),
        ("prepare", lambda _, images, *, seed: replace(images, pixels=images.pixels[..., :5]), "an ImageSet of uint8"),
        ("prepare", lambda _, images, *, seed: replace(images, pixels=images.pixels[:5]), r"\(5, .* labels; expected"),
        ("prepare", lambda _, images, *, seed: replace(images, labels=images.labels + 9), "with a label each"),
        ("prepare", darken, r"changed the images that it was given.*a copy of images.pixels"),
        ("correction", lambda *_, seed: lambda images, labels: images[:1], r"made a tensor of float32 \(1, "),
        ("batch", lambda _, images, targets, *rest: (images[:1], targets), "a tensor of .* and a tensor of .*expected"),
        ("batch", lambda _, images, targets, *rest: (images.double(), targets), "a tensor of float64"),
    ],
    ids=["scale", "size", "fewer", "classes", "in-place", "corrected", "fewer-in-batch", "double"],
)
def test_a_hook_whose_result_would_give_a_wrong_figure_is_told_with_its_defence(hook, own, message, colour):
    defence = dataclass(frozen=True, kw_only=True)(type(Defence)("Odd", (Defence,), {hook: own, "name": "odd"}))()
    colour = replace(colour, pixels=colour.pixels.copy())
    with pytest.raises(RecipeError, match=f"the defence odd: .*{message}"):
        list(run(colour, defence))


def test_what_a_defence_of_others_makes_is_told_with_what_is_expected():
    try:

        @dataclass(frozen=True, kw_only=True)
        class Shrunk(Defence, name="shrunk"):
            def image(self, image):
                return image.resize((4, 4))

        @dataclass(frozen=True, kw_only=True)
        class Halved(Defence, name="halved"):
            def prepare(self, images, *, seed=0):
                return images.select(np.arange(len(images) // 2))

        with pytest.raises(DataError, match=r"into \(1, 4, 4\); expected image to return the same size and mode"):
            Shrunk().apply(make_dataset(8))
        with pytest.raises(RecipeError, match="halved, which makes 4 images of 8; expected one for each row"):
            Halved().apply(make_dataset(8))
    finally:
        for name in ("shrunk", "halved"):
            _defences.remove(name)
