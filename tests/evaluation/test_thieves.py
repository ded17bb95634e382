"""Thieves of many kinds: trainings by name, models that are fitted in one go, suites, and the verdict by the best."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.datasets import COLUMNS, generator, make_dataset

from hf_unlearnable import (
    Defence,
    RecipeError,
    Report,
    Surrogate,
    Training,
    available_methods,
    get_method,
    learnability,
)
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.evaluation import victims
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED
from hf_unlearnable.evaluation.protocol import chosen_thieves, trials
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.evaluation.thieves import BEST_KNOWN, SUITES, Thief, find_victim, thieves_of_suite
from hf_unlearnable.evaluation.verdicts import Verdict, best_thief, verdict_in_words
from hf_unlearnable.evaluation.victims import Trial, Victims
from hf_unlearnable.hub.cards import _row
from hf_unlearnable.models import public_names
from hf_unlearnable.models.augmentation import strong_augmentation
from hf_unlearnable.models.classical import CLASSICAL
from hf_unlearnable.models.public_names import public_name
from hf_unlearnable.reports.charts import accuracy_chart
from hf_unlearnable.reports.public import public_reports
from hf_unlearnable.reports.run_page import PageFacts, page
from hf_unlearnable.training.processes import default_accelerator
from hf_unlearnable.training.run import TRAININGS, TrainingRun

TINY = {"training": Training(epochs=1, batch_size=16), "seeds": (1,), "progress": False}


def plain(victim, defence="none", training=None):
    return Thief.of(find_victim(victim), "", Defence.parse(defence), training or Training())


# --- trainings --------------------------------------------------------------------------------------------------------


def test_the_default_recipe_is_written_as_it_always_was():
    assert Training().as_dict() == Training(augment="crop-flip").as_dict() == {
        "epochs": 12,
        "batch_size": 64,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "augment": True,
    }  # fmt: skip
    assert Training(augment="none") == Training(augment=False)


def test_recipes_by_name():
    assert Training.named("sgd") == Training()
    assert set(public_names.TRAININGS) == set(TRAININGS)
    epochs = {name: Training.named(name, Training(epochs=20, batch_size=8)).epochs for name in TRAININGS}
    assert epochs == {"sgd": 20, "adamw": 20, "short": 5, "strong": 20, "sgd-strong": 20, "long": 80}
    assert Training.named("short", Training(epochs=1)).epochs == 1
    assert Training.named("sgd-strong") == Training(augment="strong")
    short = Training.named("short")
    assert (short.epochs, short.optimiser, short.augment, short.label_smoothing) == (3, "adamw", False, 0.1)
    with pytest.raises(RecipeError, match="got the training 'quick'; expected one of sgd, adamw"):
        Training.named("quick")
    with pytest.raises(RecipeError, match=r"learning_rate=0\.05; expected at most 0\.01"):
        Training(optimiser="adamw")
    with pytest.raises(RecipeError, match="augment='twist'; expected"):
        Training(augment="twist")


@pytest.mark.filterwarnings("ignore:the protected images are identical")
def test_every_network_and_recipe_learns_what_can_be_learned():
    clean, test = make_dataset(240), make_dataset(60, seed=1)
    options = {"clean": clean, "test": test, "ratios": [0], "seeds": [5], "progress": False}
    for names, recipes in ((["linear", "mlp"], ["adamw"]), (["strided-resnet"], ["adamw"])):
        training = Training(epochs=12, batch_size=16)
        report = learnability(clean, victims=names, trainings=recipes, training=training, **options)
        for victim in report.victims:
            assert report.accuracy(CLEAN, victim, "peak") > 0.9, victim


def test_strong_augmentation_changes_every_image_and_draws_from_its_generator():
    images = torch.rand(16, 3, 12, 12, generator=generator())
    seen = strong_augmentation(images, generator(1))
    assert seen.shape == images.shape
    assert 0 <= seen.min() <= seen.max() <= 1
    assert ((seen - images).abs().amax(dim=(1, 2, 3)) > 0.05).all()
    assert torch.equal(seen, strong_augmentation(images, generator(1)))
    assert not torch.equal(seen, strong_augmentation(images, generator(2)))
    assert strong_augmentation(images[:, :1], generator(1)).shape == (16, 1, 12, 12)


def test_a_recipe_is_named_behind_the_model_and_told_in_the_report(small, protection, tmp_path):
    report = learnability(
        small.map(protection), clean=small, test=make_dataset(seed=1), trainings=["sgd", "short"], ratios=(0, 1), **TINY
    )
    assert report.victims == ["small-resnet", "small-resnet, short"]
    assert report.trainings == {"short": Training.named("short", TINY["training"]).as_dict()}
    assert (
        "trainings"
        not in learnability(
            small.map(protection), clean=small, test=make_dataset(seed=1), ratios=(1,), **TINY
        ).as_dict()
    )
    report.save(tmp_path / "a.json")
    assert Report.load(tmp_path / "a.json") == report
    assert public_reports([report])[0].victims == report.victims


def test_a_defence_that_learns_slowly_trains_longer_and_the_report_says_so(small, protection, monkeypatch):
    seen = []

    def watching(surrogate, images, training, **rest):
        seen.append((str(rest["defence"]), training.epochs, rest["iterations"]))
        return TrainingRun(surrogate, images, training, **rest)

    monkeypatch.setattr(victims, "TrainingRun", watching)
    options = {**TINY, "training": Training(epochs=2, batch_size=48)}
    defences = ["none", "adversarial:eps=4,steps=1"]
    report = learnability(
        small.map(protection), clean=small, test=make_dataset(seed=1), defences=defences, ratios=(1,), **options
    )
    assert seen == [("none", 2, 2), ("adversarial:eps=4,steps=1", 6, 6)]
    assert report.epochs_factors == {"adversarial": 3}
    assert [len(result.epochs) for result in report.results] == [2, 6]


# --- what is kept -----------------------------------------------------------------------------------------------------


def kept(monkeypatch, trials):
    """The names under which victims are kept, whatever the versions that are installed."""
    monkeypatch.setattr(victims, "versions", lambda: {"torch": "1"})
    sets = (ImageSet.read(make_dataset(seed=seed), COLUMNS) for seed in (0, 1, 2))
    all_victims = Victims(*sets, default_accelerator(), Path(), None)
    return [all_victims._file(trial, "json").stem for trial in trials]


def test_victims_that_were_kept_before_there_were_other_thieves_are_found(monkeypatch):
    """The names were computed before trainings, thieves and models without epochs came: nothing is trained again."""
    short = Training(epochs=2, batch_size=16, augment=False)
    trials = [
        Trial(plain("small-resnet"), CLEAN, 0.0, 101),
        Trial(plain("small-vgg", "jpeg:50"), MIX, 0.5, 7),
        Trial(plain("small-vit", "early-stopping"), PROTECTED, 1.0, 7),
        Trial(plain("small-resnet", training=short), CLEAN, 0.0, 101),
        Trial(plain("small-vgg", "jpeg:50", short), MIX, 0.5, 7),
        Trial(plain("small-vit", "early-stopping", short), PROTECTED, 1.0, 7),
    ]
    assert kept(monkeypatch, trials) == [
        "779931541a4d0f208eb790588805bd3e",
        "dc083f865fdf7f5f300cf7b40dd525e1",
        "92307ff59d8c34ca7e62cffb86c8e513",
        "5db0e38d14091e61b29e789a2c823ece",
        "0ec20f0f86849548e948f5b76a13939c",
        "953bd1e2d724c15e81b0808a153a4924",
    ]


def test_seeds_share_a_fit_that_draws_nothing(monkeypatch):
    def names(victim, case, ratio, defence="none"):
        return kept(monkeypatch, [Trial(plain(victim, defence), case, ratio, seed) for seed in (1, 2)])

    assert len(set(names("knn", CLEAN, 0.0))) == 1
    assert len(set(names("hog", PROTECTED, 1.0))) == 1
    assert len(set(names("knn", CLEAN_PART, 0.5))) == 2
    assert len(set(names("random-features", CLEAN, 0.0))) == 2
    assert len({*names("knn", CLEAN, 0.0), *names("hog", CLEAN, 0.0), *names("knn", CLEAN, 0.0, "jpeg:10")}) == 4


# --- models that are fitted in one go ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the protected images are identical")
@pytest.mark.parametrize("channels", [1, 3])
def test_every_classical_model_learns_what_can_be_learned(channels, tmp_path):
    clean, test = make_dataset(180, channels), make_dataset(60, channels, seed=1)
    options = {"clean": clean, "test": test, "ratios": [0], "keep_in": tmp_path, **TINY}
    report = learnability(clean, victims=list(CLASSICAL), **options)
    for victim in CLASSICAL:
        least = 0.8 if victim == "hog-knn" else 0.9  # the noise counts in all histograms alike
        assert report.accuracy(CLEAN, victim) > least, victim
        assert [len(curve) for curve in report.curves(CLEAN, victim)] == [1]
    assert report.versions["scikit-learn"]
    assert learnability(clean, victims=list(CLASSICAL), **options) == report


@pytest.mark.parametrize("name", sorted(set(CLASSICAL) - {"simclr"}))
@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 1, 1]])
def test_classical_models_take_few_images_and_one_class(name, labels):
    images = torch.rand(3, 3, 16, 16, generator=generator())
    named = CLASSICAL[name]().learn(images, np.array(labels), 0)(images[1:])
    assert named.tolist() == [1, 1]


def test_neighbours_and_support_vectors_on_gradients_are_those_of_scikit_learn():
    from skimage.feature import hog
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    images, labels = torch.rand(40, 3, 16, 16, generator=generator()), np.arange(40) % 3
    cells = {"pixels_per_cell": (4, 4), "cells_per_block": (2, 2), "channel_axis": 0}
    seen = np.stack([hog(image.numpy(), **cells) for image in images]).astype(np.float32)
    for name, model in (("hog-knn", KNeighborsClassifier(5)), ("hog-svm", SVC(C=5))):
        victim = CLASSICAL[name]()
        expected = model.fit(seen[:25], labels[:25]).predict(seen[25:])
        assert victim.learn(images[:25], labels[:25], 0)(images[25:]).tolist() == expected.tolist()
        assert set(victim.about()) == {"name", "revision", "scikit-learn", "scikit-image"}


def test_larger_images_are_shrunk_and_random_features_draw_from_the_seed():
    images, labels = torch.rand(30, 3, 48, 40, generator=generator()), np.arange(30) % 3
    model = CLASSICAL["random-features"]()
    one, again, other = (model.learn(images, labels, seed)(images[:8]) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert one.shape == other.shape == (8,)


def test_a_network_and_a_classical_model_meet_the_defences_that_make_sense(small, protection):
    options = {"clean": small, "test": make_dataset(seed=1), "ratios": [0.5, 1], "sequential": True, **TINY}
    with pytest.warns(
        UserWarning, match="the victim hog was not tried with mixup:1, which acts on a network's training"
    ):
        report = learnability(
            small.map(protection),
            victims=["small-resnet", "hog"],
            defences=["none", "mixup", "orthogonal-projection"],
            **options,
        )
    assert ("hog", "mixup:1") not in report.pairs
    assert len(report.pairs) == 5
    assert {result.case for result in report.results if result.victim == "hog"} == {MIX, CLEAN_PART, PROTECTED}
    assert "nan" not in str(report)
    with pytest.raises(RecipeError, match="got nothing to measure: the victim knn was not tried with mixup"):
        learnability(small, clean=small, test=make_dataset(seed=1), victims="knn", defences="mixup", **TINY)


# --- suites -----------------------------------------------------------------------------------------------------------


def test_suites_hold_one_another_and_nobody_twice():
    thieves = {name: [(thief.name, str(thief.defence)) for thief in thieves_of_suite(name)] for name in SUITES}
    assert list(thieves) == ["quick", "standard", "full"]
    for members in thieves.values():
        assert members[0] == ("small-resnet", "none")
        assert len(set(members)) == len(members)
    assert set(thieves["quick"]) < set(thieves["standard"]) < set(thieves["full"])
    assert {name for name, _ in thieves["full"]} > set(CLASSICAL) - {"hog-knn", "hog-svm"}
    assert thieves["quick"] == [
        ("small-resnet", "none"),
        ("strided-resnet", "none"),
        ("small-resnet, short", "none"),
        ("small-resnet", "jpeg:10"),
        ("random-features", "none"),
        ("small-resnet", "validation:0.1"),
        ("small-resnet", "class-clusters:1"),
    ]
    with pytest.raises(RecipeError, match="got the suite 'all'; expected one of quick, standard, full"):
        thieves_of_suite("all")


def added(suite, attack):
    """The countermeasures of the thieves that a suite has beyond those that it always has."""
    return [str(thief.defence) for thief in thieves_of_suite(suite, attack=attack)[len(SUITES[suite]) :]]


def test_every_suite_holds_a_thief_who_knows_the_method():
    attacks = {name: get_method(name).adaptive for name in available_methods()}
    for attack in {*attacks.values(), None}:
        for suite in SUITES:
            thieves = thieves_of_suite(suite, attack=attack)
            assert len(set(thieves)) == len(thieves), (suite, attack)
            tried = {str(thief.defence) for thief in thieves if thief.victim == thieves[0].victim}
            assert {str(Defence.parse(attack or BEST_KNOWN))} <= tried
            assert suite == "quick" or {"class-clusters:1", "principal-directions:2"} <= tried
    assert added("quick", attacks["mi-ue"]) == added("quick", None) == ["class-clusters:1"]
    assert added("quick", attacks["texture"]) == ["principal-directions:2"]
    assert added("standard", attacks["texture"]) == added("full", attacks["mi-ue"]) == []
    assert added("standard", "class-clusters:3") == ["class-clusters:3"]
    # The ordinary suite compresses already: its place goes to the best attack that is known.
    assert attacks["beo"] == "jpeg:10"
    assert added("quick", attacks["beo"]) == ["class-clusters:1"]
    with pytest.raises(RecipeError, match="got the defence 'vanish'"):
        thieves_of_suite("quick", attack="vanish")


def test_an_attack_belongs_to_a_suite():
    with pytest.raises(RecipeError, match="got the attack 'blur' without a suite; expected both, or the attack among"):
        chosen_thieves(["mlp"], attack="blur")


@pytest.mark.filterwarnings("ignore:the protected images are identical")
@pytest.mark.parametrize("channels", [1, 3])
def test_who_knows_the_method_tries_grey_images_and_one_owner_among_others(channels, tmp_path):
    clean, test, others = (make_dataset(30, channels, seed=seed) for seed in (0, 1, 2))
    options = {"clean": clean, "test": test, "suite": "quick", "ratios": (0, 1), **TINY}
    for among in ({}, {"others": others.remove_columns("label")}):
        report = learnability(clean, **options, **among)
        assert ("small-resnet", "class-clusters:1") in report.pairs
        assert not math.isnan(report.accuracy(PROTECTED, "small-resnet", defence="class-clusters:1"))


def test_a_suite_is_measured_with_mixtures_for_the_ordinary_thief(small, protection, tmp_path):
    report = learnability(small.map(protection), clean=small, test=make_dataset(seed=1), suite="quick", **TINY)
    assert report.suite == "quick"
    assert (
        len(report.results) == len(trials(thieves_of_suite("quick"), seeds=(1,), mixtures_for_all=False)) == 4 + 6 * 2
    )
    assert {(result.victim, result.defence) for result in report.results if result.case == MIX} == {
        ("small-resnet", "none")
    }
    text = str(report)
    for words in (
        "small-resnet, jpeg:10",
        "small-resnet, short",
        "small-resnet, class-clusters:1",
        "random-features",
        "theft gain",
        "mix, 50% protected",
    ):
        assert words in text
    assert "nan" not in text
    assert len(text.splitlines()) == 2 + 7 + 4 + 1  # the last says that nothing was learned
    json.dumps(report.as_dict(), allow_nan=False)
    shown = page(PageFacts(name="run", report=report))
    assert not re.search(r"\bnan\b", shown)
    assert "small-resnet, short" in shown
    accuracy_chart(report, tmp_path / "chart.png")
    assert Report.of(json.loads(json.dumps(report.as_dict()))) == report
    assert set(_row(report.table("random-features", "none"))) >= {"`random-features`", "–"}


def test_a_suite_leaves_out_a_defence_that_changes_nothing(small, protection, monkeypatch):
    thieves = (("small-resnet", "sgd", "none"), ("small-resnet", "sgd", "grayscale"))
    monkeypatch.setitem(SUITES, "quick", thieves)
    report = learnability(
        small.map(protection), clean=small, test=make_dataset(seed=1), suite="quick", ratios=(1,), **TINY
    )
    assert report.defences == ["none", "class-clusters:1"]
    assert report.doubts == ()


def test_a_suite_is_not_mixed_with_a_choice_of_ones_own():
    for choice in ({"victims": "mlp"}, {"defences": "jpeg"}, {"trainings": "short"}):
        with pytest.raises(RecipeError, match="got the suite 'quick' beside"):
            chosen_thieves(suite="quick", **choice)


# --- the verdict ------------------------------------------------------------------------------------------------------


def report_of(figures, chance=0.1):
    results = [
        Result(victim, case, ratio, defence, 1, (last,))
        for (victim, defence), pair in figures.items()
        for case, ratio, last in zip((CLEAN, PROTECTED), (0.0, 1.0), pair, strict=True)
    ]
    return Report(tuple(results), chance, 100, 500, 10, {}, {})


def test_the_verdict_is_by_the_best_thief():
    held = {("small-resnet", "none"): (0.8, 0.15), ("small-resnet", "jpeg:10"): (0.7, 0.2)}
    assert "the protection holds. small-resnet with jpeg:10, the best of 2 thieves, regains 14 %" in verdict_in_words(
        report_of(held)
    )
    report = report_of({**held, ("small-resnet, short", "none"): (0.75, 0.7), ("random-features", "none"): (0.5, 0.48)})
    best = best_thief(report)
    assert (best.victim, best.state) == ("small-resnet, short", "broken")
    assert verdict_in_words(report).startswith("Verdict: the protection is broken. small-resnet, short, the best of 4")
    assert verdict_in_words(report_of({("small-resnet", "none"): (0.1, 0.1)})).startswith(
        "Verdict: none. What the protection does cannot be measured: too few images"
    )
    assert verdict_in_words(report_of({("small-resnet", "none"): (float("nan"), 0.1)})).startswith("No verdict")


def test_a_thief_who_learns_little_from_clean_images_does_not_break_a_protection():
    """What counts is how much of what clean images give a thief gets, not how much of what they give to a bad model."""
    report = report_of({("small-resnet", "none"): (0.8, 0.15), ("linear", "none"): (0.2, 0.2)})
    best = best_thief(report)
    assert best.victim == "linear"
    assert best.regained == pytest.approx(1 / 7)
    assert best.state == "holds"


def test_a_model_that_learns_nothing_from_clean_images_is_no_judge():
    report = report_of({("small-resnet", "none"): (0.8, 0.15), ("linear", "none"): (0.1, 0.1)})
    assert Verdict.of(report, "linear", "none").state == "cannot be measured"
    assert best_thief(report).victim == "small-resnet"


def test_in_public_a_recipe_is_told_and_a_path_is_not():
    assert public_name("small-resnet, short") == "`small-resnet`, short"
    assert public_name("knn") == "`knn`"
    assert public_name("/home/zoe/model, long") == "a model of the owner, long"
    assert "zoe" not in public_name("/home/model, zoe")
    assert str(Surrogate("mlp")) == "mlp"
