from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers.datasets import make_dataset, pixels_of

from hf_unlearnable import BEO, Budget, RecipeError
from hf_unlearnable.information.estimates import error_upper_bound
from hf_unlearnable.methods import Task
from hf_unlearnable.methods.beo import embedding
from hf_unlearnable.methods.beo.ascent import Ascent

QUICK = {"epochs": 3, "steps": 3, "batch_size": 16}


@pytest.fixture(scope="module")
def some(fashion):
    return fashion["train"].select(range(120))


def findings(method, data, budget=16):
    return method.fit(data, budget=budget, progress=False).about["findings"]["bayes_error"]


@pytest.fixture(scope="module")
def found(some):
    """Of both modes."""
    return {mode: findings(BEO(mode=mode, **QUICK), some) for mode in ("reference", "self")}


@pytest.mark.parametrize("mode", ["reference", "self"])
def test_the_estimate_rises_where_the_ascent_took_place(mode, found):
    *crafting, held_out = found[mode]["estimates"]
    assert len(crafting) == (2 if mode == "reference" else 1)
    for one in crafting:
        assert one["protected"] > one["clean"] + 0.02
        low, high = one["interval"]
        assert low <= one["protected"] <= high
        assert one["sigma"] > 0
    assert "held out" in held_out["embedding"]
    bound = found[mode]["upper_bound"]
    assert bound["images"] == 60
    assert bound["upper_bound"] == pytest.approx(min(1, bound["error"] + math.sqrt(math.log(20) / 120)))


def test_no_bound_from_a_half_of_what_was_perturbed_jointly():
    """Why ``describe`` says so: over sets with patterns of their own the Bayes error is 0.5, and no half shows it."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(20):
        labels = rng.integers(0, 2, 200)
        pattern = rng.choice([-1, 1])  # of the whole set, as a joint perturbation is; independent of labels over sets
        images = pattern * (2 * labels - 1)
        learned = np.sign((images[:100] * (2 * labels[:100] - 1)).sum())
        errors.append(float(((learned * images[100:] > 0) != labels[100:]).mean()))
    assert max(errors) == 0
    bound = error_upper_bound(max(errors), 100)
    assert bound["upper_bound"] < 0.5
    assert "jointly" in bound["assumes"]


def test_an_embedding_is_called_what_it_was_trained_on(found, some):
    """An estimate says nothing without it."""
    names = {mode: [one["embedding"] for one in found[mode]["estimates"]] for mode in found}
    clean = "small-resnet trained on clean images"
    held_out = f"{clean}, held out"
    assert names["reference"] == [clean, "small-resnet trained adversarially on clean images", held_out]
    assert names["self"] == ["small-resnet trained on the images as they were protected", held_out]
    frozen = findings(BEO(mode="self", refresh="never", **QUICK), some)
    assert [one["embedding"] for one in frozen["estimates"]] == [clean, held_out]


def test_embeddings_of_several_stages(some):
    """Trained for 4 epochs and for one; the others of so short a training would be the same again."""
    recipe = BEO(stages=4, epochs=4, steps=2, batch_size=16)
    *crafting, _ = findings(recipe, some.select(range(60)))["estimates"]
    clean = "small-resnet trained on clean images"
    adversarially = "small-resnet trained adversarially on clean images"
    assert [one["embedding"] for one in crafting] == [clean, f"{clean}, 1 of 4 epochs", adversarially]
    assert all(one["protected"] > one["clean"] for one in crafting)
    assert len({one["sigma"] for one in crafting}) == 3


def test_more_steps_climb_higher(some):
    def reached(steps):
        recipe = BEO(epochs=3, batch_size=16, steps=steps, first_step=0.1, robust=False)
        return findings(recipe, some.select(range(60)))["estimates"][0]

    assert reached(6)["protected"] > reached(1)["protected"]


def test_the_findings_are_told_in_words(found):
    text = BEO.describe({"bayes_error": found["reference"]})
    for words in ("no bound on what a model can learn", "held out", "half and half", "confidence 95%"):
        assert words in text
    assert BEO.describe({}) == ""
    bound = found["reference"]["upper_bound"]
    assert f"errs on {bound['error']:.3f} of the other 60. Were these independent of it" in text
    assert "all were perturbed jointly, so they are not" in text
    for claim in ("provabl", "certif", "guarante"):
        assert claim not in text.lower()


def test_the_clean_twin_has_no_vote(monkeypatch):
    seen = []
    real = embedding.bayes_error

    def watching(features, labels, **given):
        seen.append(given)
        return real(features, labels, **given)

    monkeypatch.setattr(embedding, "bayes_error", watching)
    data = make_dataset(48)
    BEO(robust=False, **QUICK).fit(data, progress=False)
    assert all(torch.equal(one["self_index"], torch.arange(48)) for one in seen)
    assert all(len(one["reference"][0]) == 48 and one["objective"] == "log-label" for one in seen)
    seen.clear()
    BEO(robust=False, reference_size=24, **QUICK).fit(data, progress=False)
    assert all(len(one["reference"][0]) == 24 for one in seen)
    assert all((one["self_index"] >= 0).sum() == 24 and one["self_index"].max() == 23 for one in seen)
    seen.clear()
    BEO(mode="self", **QUICK).fit(data, progress=False)
    assert all(one["reference"] is None and one["objective"] == "max" for one in seen)


@pytest.mark.parametrize("refresh", ["never", "continue", "retrain"])
def test_the_self_mode_learns_what_was_protected_so_far(refresh, monkeypatch):
    trained = []
    real = Task.train

    def watching(self, surrogate, images, *rest, **more):
        trained.append((surrogate, images.pixels.copy()))
        return real(self, surrogate, images, *rest, **more)

    monkeypatch.setattr(Task, "train", watching)
    data = make_dataset(48)
    clean = pixels_of(data)
    BEO(mode="self", refresh=refresh, **QUICK).fit(data, progress=False)
    (_, first), *later = trained[:-2]  # the last two are the held-out ones
    assert (first[:, 0] == clean).all()
    assert len(later) == (0 if refresh == "never" else QUICK["steps"])
    for surrogate, pixels in later:
        assert (pixels[:, 0] != clean).any()
        assert (surrogate.model == "small-resnet") == (refresh == "retrain")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "adam", "first_step": 0.1},
        {"optimiser": "adamw", "first_step": 0.1, "mode": "self", "sigma": 0.3, "sigma_of": "current"},
        {"augment": True},
        {"objective": "cross-entropy"},
        {"kernel": "cosine", "sigma": 0.3},
        {"sigma": "median"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:sigma")
def test_variants_keep_the_budget(changes):
    data = make_dataset(48, channels=3)
    for budget in (Budget(8), Budget(200, "l2")):
        protection = BEO(**{**QUICK, "epochs": 1, **changes}).fit(data, budget=budget, progress=False)
        figures = protection.verify(data, data.map(protection))
        assert (figures.violations, figures.unchanged) == (0, 0)


def test_the_recipe_of_the_paper():
    recipe = BEO.paper()
    assert (recipe.mode, recipe.sigma, recipe.optimiser, recipe.refresh, recipe.refresh_epochs, recipe.robust) == (
        ("self", 0.3, "adamw", "retrain", 30, False)
    )
    assert [recipe.step_size(step) * 8 / 255 for step in range(190)] == pytest.approx([1e-3] * 190)
    training = recipe.training(recipe.refresh_epochs)
    assert (training.epochs, training.batch_size, training.augment) == (30, 128, False)
    assert BEO().step_size(0) == pytest.approx(2.5 / 20)
    assert BEO().step_size(11) == pytest.approx(2.5 / 20)
    assert BEO().step_size(12) == pytest.approx(1.25 / 20)
    assert BEO(step_decay=0.1).step_size(12) == pytest.approx(0.25 / 20)


@pytest.fixture
def ascended(monkeypatch):
    """What every step of two of ``BEO.paper()`` saw and did: perturbations before, gradient, perturbations after."""
    steps = []
    step, gradients = Ascent.step, embedding.Embedding.pixel_gradients

    def watching(self, rows, gradient, number):
        images, labels, before = self.task.load(rows)
        step(self, rows, gradient, number)
        steps.append({"images": images, "labels": labels, "before": before, "gradient": gradient})
        steps[-1] |= {"after": self.task.load(rows)[2], "network": watching.network}

    def remembering(self, slope, number):
        watching.network = self.network
        return gradients(self, slope, number)

    monkeypatch.setattr(Ascent, "step", watching)
    monkeypatch.setattr(embedding.Embedding, "pixel_gradients", remembering)
    recipe = BEO.paper(steps=3, epochs=2, refresh_epochs=2, batch_size=16, pixel_decay=5.0)  # so that decay shows
    recipe.fit(make_dataset(48), budget=8, progress=False)
    return steps


def test_the_paper_starts_with_the_clean_images(ascended):
    assert not ascended[0]["before"].any()
    assert ascended[0]["after"].any()


def test_the_paper_climbs_the_sum_over_the_images_as_it_is(ascended):
    """By autograd of the plain formula: kernel of all pairs, sigma of the features at that moment."""
    for step in ascended:
        seen = (step["images"] + step["before"]).requires_grad_()
        features, labels = step["network"](seen)[1], step["labels"]
        sigma = 0.3 * features.detach().abs().max()
        weights = (-torch.cdist(features, features).square() / (2 * sigma**2)).exp()
        weights = weights * (1 - torch.eye(len(labels)))
        posterior = weights @ torch.nn.functional.one_hot(labels).float() / weights.sum(dim=1, keepdim=True)
        gradient = torch.autograd.grad((1 - posterior.amax(dim=1)).sum(), seen)[0]
        assert gradient.norm() > 0
        assert (step["gradient"] - gradient).norm() <= 1e-3 * gradient.norm()


def test_the_paper_steps_as_adamw_does(ascended):
    budget = Budget(8)
    pixels = ascended[0]["images"].clone()
    optimiser = torch.optim.AdamW([pixels], lr=1e-3, weight_decay=5.0, maximize=True)
    for step in ascended:
        pixels.grad = step["gradient"]
        optimiser.step()
        images = step["images"]
        pixels.copy_(images + budget.project(pixels - images, images))
        torch.testing.assert_close(images + step["after"], pixels, rtol=0, atol=1e-6)


def test_a_sigma_of_clean_features_stays_while_the_images_move(monkeypatch):
    seen = []
    real = embedding.bayes_error

    def watching(features, labels, **given):
        seen.append((given["sigma"], 0.3 * float(features.detach().abs().max())))
        return real(features, labels, **given)

    monkeypatch.setattr(embedding, "bayes_error", watching)
    recipe = BEO(mode="self", refresh="never", sigma=0.3, **QUICK)
    recipe.fit(make_dataset(48), progress=False)
    assert len({used for used, _ in seen}) == 1
    seen.clear()
    dataclasses.replace(recipe, sigma_of="current").fit(make_dataset(48), progress=False)
    assert all(used == pytest.approx(current) for used, current in seen)
    assert len({used for used, _ in seen}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "mixed"}, "got mode='mixed'; expected one of 'reference', 'self'"),
        ({"objective": "margin"}, "got objective='margin'; expected one of None, 'max'"),
        ({"sigma": 0}, "got sigma=0; expected 'likelihood', 'median' or a number above zero"),
        ({"steps": 0}, "got steps=0; expected 1 to"),
        ({"stages": 0}, "got stages=0; expected 1 to"),
        ({"sigma": float("inf")}, "got sigma=inf; expected a finite number or text"),
        ({"kernel": "box"}, "got kernel='box'; expected one of 'rbf'"),
        ({"first_step": 0}, "got first_step=0; expected more than 0"),
        ({"refresh": "always"}, "got refresh='always'"),
        ({"step_decay": 0}, "got step_decay=0; expected more than 0 and at most 1"),
        ({"start": "random"}, "got start='random'; expected one of 'uniform', 'clean'"),
        ({"sigma_of": "current"}, "got sigma_of='current' with sigma='likelihood'; expected a number for sigma"),
    ],
)
def test_what_is_no_recipe(change, message):
    with pytest.raises(RecipeError, match=message):
        BEO(**change)
