"""Defences that go along with a training and remember something: a staged one, and the recovery of trained weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.datasets import generator, make_dataset
from torch import nn

from hf_unlearnable import Defence, RecipeError, Surrogate, Training, learnability
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import NoDefence, Recovery, Staged, recovery, staged
from hf_unlearnable.defences.course import Course
from hf_unlearnable.models.augmentation import grey_or_jitter
from hf_unlearnable.training.run import TrainingRun


def run(images, defence, *, iterations=6, victim="small-resnet", **rest):
    training = Training(epochs=1, batch_size=8, augment=False)
    options = {"iterations": iterations, "seed": 0, "accelerator": Accelerator()}
    return TrainingRun(Surrogate(victim), images, training, defence=defence, **options, **rest)


def weights(network):
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.fixture
def striped():
    """Noise, on which a class is a stripe that every network takes up in a few steps."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 180, (48, 3, 16, 16), dtype=np.uint8), np.arange(48) % 3
    for image, label in zip(pixels, labels, strict=True):
        image[:, :, 5 * label : 5 * label + 5] += 75
    return ImageSet(pixels, labels, ["left", "middle", "right"])


# --- the hook ---------------------------------------------------------------------------------------------------------


def test_a_course_meets_every_step_and_what_the_network_is_given(colour):
    seen = []

    class Black(Course):
        def images(self, images, generator):
            seen.append("images")
            return torch.zeros_like(images)

        def after_step(self, done):
            seen.append(done)

    @dataclass(frozen=True, kw_only=True)
    class Dark(Defence):
        name = "dark"

        def course(self, network, optimiser, images, clean, *, steps, seed):
            assert (len(optimiser.param_groups), steps, seed, clean) == (1, 3, 0, None)
            return Black()

    assert Dark().acts
    assert Dark().needs_network
    assert not same(run(colour, Dark(), iterations=3).finish(), run(colour, NoDefence(), iterations=3).finish())
    assert seen == ["images", 1, "images", 2, "images", 3]


@pytest.mark.parametrize("defence", [Staged(limit=0.0, looks=5), Staged(looks=3), Recovery(images=6, epochs=2)])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(striped, defence):
    clean = striped.select(np.arange(6))
    whole = run(striped, defence, clean=clean)
    losses = list(whole)
    first = run(striped, defence, clean=clean)
    begun = [loss for _, loss in zip(range(3), first, strict=False)]
    state = first.state_dict()
    second = run(striped, defence, clean=clean)
    second.load_state_dict(state)
    assert [*begun, *second] == losses
    assert same(second.network, whole.network)


# --- staged -----------------------------------------------------------------------------------------------------------


def test_classes_explain_what_they_do():
    labels = torch.arange(300) % 3
    noise = torch.randn(300, 40, generator=generator())
    assert abs(staged.explained(noise, labels)) < 0.02
    shifted = noise + 10 * nn.functional.one_hot(labels, 40)
    assert 0.5 < staged.explained(shifted, labels) < 0.7
    assert staged.explained(nn.functional.one_hot(labels, 40).float(), labels) == pytest.approx(1)
    assert staged.explained(noise[:3], labels[:3]) == 0
    assert staged.explained(torch.zeros(6, 2), labels[:6]) == pytest.approx(1)


@pytest.mark.parametrize(("shape", "last"), [((2, 3, 4, 5), False), ((2, 4, 5, 3), True), ((2, 7, 3), True)])
def test_activations_are_averaged_over_places(shape, last):
    values = torch.rand(shape, generator=generator())
    places = tuple(range(1, values.ndim - 1)) if last else tuple(range(2, values.ndim))
    assert torch.allclose(staged.averaged(values, last=last), values.mean(dim=places))
    flat = torch.rand(2, 3)
    assert torch.equal(staged.averaged(flat, last=last), flat)


@pytest.mark.parametrize("victim", ["small-resnet", "small-vgg", "small-vit", "strided-resnet", "mlp", "linear"])
def test_the_layers_of_every_network_are_parted(striped, victim):
    course = run(striped, Staged(), victim=victim)
    optimiser, network = course._optimiser, course.network
    layers = {"mlp": 2, "linear": 1}.get(victim, 4)
    assert len(optimiser.param_groups) == layers
    parted = [weight for group in optimiser.param_groups for weight in group["params"]]
    assert all(one is other for one, other in zip(parted, network.parameters(), strict=True))
    course.finish()


def test_shallow_layers_that_cluster_go_back_and_are_slowed(striped):
    free, held = run(striped, Staged(limit=1.0, early=0.0)), run(striped, Staged(limit=0.0, looks=6, early=0.0))
    assert same(run(striped, NoDefence()).finish(), free.finish())  # all that is left is an ordinary training
    start = {name: value.clone() for name, value in held.network.state_dict().items()}
    rates = []
    for _ in held:
        assert all(torch.equal(value, start[name]) for name, value in held.network.state_dict().items())
        rates.append([group["lr"] for group in held._optimiser.param_groups])
        assert not held._optimiser.optimizer.state
    assert rates[0][0] == pytest.approx(0.1 * rates[0][-1])
    assert rates[2][0] == pytest.approx(1e-3 * rates[2][-1])


def test_what_clusters_late_leaves_the_layers_behind_it_alone(striped, monkeypatch):
    found = iter([[0.1, 0.1, 0.1], [0.1, 0.6, 0.1]])
    monkeypatch.setattr(staged, "class_shares", lambda *_: next(found))
    held = run(striped, Staged(looks=2, slow=0.5), iterations=4)
    states = []
    for _ in held:
        states.append(weights(held.network).clone())
        rates = [group["lr"] for group in held._optimiser.param_groups]
        if len(states) == 3:
            assert len(set(rates)) == 1
    assert torch.equal(states[3], states[1])  # where the last look found nothing
    assert not torch.equal(states[2], states[1])


def test_a_look_leaves_the_network_as_it_is(striped):
    training = run(striped, Staged())
    network, entries = training.network.train(), training._course._entries
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shares = staged.class_shares(network, entries, striped)
    assert len(shares) == 3
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(RecipeError, match=r"layer Linear is not called"):
        staged.class_shares(network, [nn.Linear(1, 1)], striped)


def test_networks_cluster_by_class_when_they_learn_a_stripe(striped):
    training = run(striped, Staged(limit=1.0, early=0.0), iterations=40)
    before = staged.class_shares(training.network, training._course._entries, striped)
    after = staged.class_shares(training.finish(), training._course._entries, striped)
    assert max(before) < 0.6 < max(after)


def test_colour_is_taken_out_of_images_in_the_early_part_alone(striped):
    course = run(striped, Staged(early=0.5))._course
    pixels = torch.rand(200, 3, 8, 8, generator=generator())
    early = course.images(pixels, generator())
    assert torch.equal(early, grey_or_jitter(pixels, generator()))
    grey = ((early[:, :1] - early).abs().amax(dim=(1, 2, 3)) < 1e-6).float().mean()
    assert 0.1 < grey < 0.3
    assert early.min() >= 0
    assert early.max() <= 1
    course.after_step(3)
    assert course.images(pixels, generator()) is pixels


# --- recovery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.05, 3.0])
def test_weights_are_moved_within_the_ball_after_the_last_step(striped, radius):
    moved = run(striped, Recovery(radius=radius, epochs=20), clean=striped.select(np.arange(12)))
    assert list(moved) == list(run(striped, NoDefence()))  # until the last step it is the ordinary training
    distance = (weights(moved.network) - weights(run(striped, NoDefence()).finish())).norm().item()
    assert distance == pytest.approx(radius, rel=1e-3) if radius < 1 else 0.05 < distance < 3


def test_the_projection_is_onto_the_ball_and_leaves_what_is_inside():
    centre = [torch.zeros(3), torch.zeros(2, 2)]
    outside = [nn.Parameter(torch.full((3,), 2.0)), nn.Parameter(torch.full((2, 2), -2.0))]
    recovery.project(outside, centre, 1.0)
    assert sum(one.square().sum() for one in outside).item() == pytest.approx(1)
    assert torch.allclose(outside[0], torch.full((3,), 7**-0.5))
    inside = [nn.Parameter(torch.full((3,), 0.1)), nn.Parameter(torch.zeros(2, 2))]
    recovery.project(inside, centre, 1.0)
    assert torch.equal(inside[0], torch.full((3,), 0.1))


def test_a_network_that_is_misled_learns_the_clean_images(colour):
    pixels, labels = colour.pixels // 2, np.arange(len(colour)) % 3
    pixels[np.arange(len(colour)), labels] += 100  # a tint, which crops and flips leave
    tinted = ImageSet(pixels, labels, ["red", "green", "blue"])
    wrong, clean = ImageSet(pixels, (labels + 1) % 3, tinted.names), tinted.select(np.arange(24))

    def right(network):
        with torch.no_grad():
            return (network(torch.from_numpy(pixels) / 255)[0].argmax(dim=1).numpy() == labels).mean()

    assert right(run(wrong, NoDefence(), iterations=60).finish()) < 0.4
    assert right(run(wrong, Recovery(), iterations=60, clean=clean).finish()) > 0.8


# --- in a measurement -------------------------------------------------------------------------------------------------


def test_the_thief_is_given_originals_by_class_and_victims_know_which(tmp_path, monkeypatch):
    seen = []

    def watching(network, pixels, labels, settings, source):
        seen.append((pixels, labels))

    monkeypatch.setattr(recovery, "recover", watching)
    clean = make_dataset(30)
    protected = clean.map(lambda row: {"image": row["image"].point(lambda value: max(0, value - 4))})
    options = {"clean": clean, "test": make_dataset(9, seed=1), "ratios": (1,), "seeds": (5,), "progress": False}
    options |= {"training": Training(epochs=1, batch_size=10), "defences": "recovery:6", "keep_in": tmp_path}
    learnability(protected, **options)
    learnability(protected, **options)
    ((pixels, labels),) = seen  # the second found the victim
    assert labels.bincount().tolist() == [2, 2, 2]
    originals = {np.asarray(row["image"]).tobytes() for row in clean}
    assert all((255 * one).round().byte().numpy().tobytes() in originals for one in pixels)
    # Other originals of the same protected set are other images at hand, and so another victim.
    other = clean.map(lambda row: {"image": row["image"].point(lambda value: min(255, value + 1))})
    learnability(protected, **options | {"clean": other})
    assert len(seen) == 2


def test_a_thief_who_wants_more_clean_images_than_there_are_is_told():
    clean = make_dataset(12)
    options = {"clean": clean, "test": make_dataset(9, seed=1), "ratios": (0,), "seeds": (5,), "progress": False}
    protected = clean.map(lambda row: {"image": row["image"].point(lambda value: max(0, value - 4))})
    with pytest.warns(
        UserWarning, match="recovery:images=1000,epochs=1 wants 1000 clean images, and there are 12: it had these"
    ):
        report = learnability(
            protected, training=Training(epochs=1), defences=["none", "recovery:images=1000,epochs=1"], **options
        )
    assert any("there are 12" in doubt for doubt in report.doubts)


def test_models_that_are_fitted_in_one_go_take_neither():
    clean = make_dataset(12)
    options = {"clean": clean, "test": make_dataset(6, seed=1), "progress": False}
    for name in ("staged", "recovery"):
        with pytest.raises(RecipeError, match="acts on a network's training"):
            learnability(clean, victims="knn", defences=name, **options)
