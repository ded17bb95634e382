from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, concatenate_datasets
from helpers.datasets import make_dataset
from helpers.pages import ratio_of
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification

from hf_unlearnable import (
    EM,
    DataError,
    Defence,
    DivergenceError,
    OutputError,
    PluginError,
    Protection,
    RecipeError,
    Report,
    SourceError,
    Surrogate,
    Training,
    learnability,
    load_plugin,
)
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import JPEG
from hf_unlearnable.evaluation import protocol, victims
from hf_unlearnable.evaluation.cases import CASES, CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.evaluation.victims import split
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.reports.charts import accuracy_chart
from hf_unlearnable.training.processes import default_accelerator
from hf_unlearnable.training.run import TrainingRun

QUICK = {"training": Training(epochs=2, batch_size=16), "seeds": (1, 2), "progress": False}


@pytest.fixture(scope="module")
def report(small, protection):
    return learnability(small.map(protection), clean=small, test=make_dataset(seed=1), **QUICK)


def made(values, chance=0.1):
    results = tuple(
        Result("victim", case.key, ratio_of(case.key), "none", seed, (last + 0.05, last))
        for case, lasts in zip(CASES, values, strict=False)
        for seed, last in enumerate(lasts)
    )
    return Report(results, chance, 100, 50, 10, {}, {})


def test_figures_are_their_definitions():
    report = made([(0.8, 0.9), (0.2, 0.3), (0.7, 0.7), (0.75, 0.75)])
    assert report.accuracy("clean") == pytest.approx(0.85)
    assert report.spread("clean") == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert report.accuracy("clean", figure="peak") == pytest.approx(0.9)
    assert report.protection_score() == pytest.approx((0.85 - 0.25) / (0.85 - 0.1))
    assert report.theft_gain() == pytest.approx(-0.05)


@contextmanager
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "set_by_the_caller", [torch.no_grad, torch.inference_mode, in_float64], ids=lambda one: one.__name__
)
def test_what_the_caller_has_set_in_torch_changes_nothing(set_by_the_caller, small, tmp_path):
    options = {"clean": small, "test": make_dataset(seed=1), "ratios": (0, 1), "seeds": (1,), "progress": False}
    options |= {"training": Training(epochs=1, batch_size=16), "victims": ["small-resnet", "random-features"]}

    def fit_and_measure(place):
        fitted = EM(epochs=1, batch_size=8).fit(small, output_dir=tmp_path / place, progress=False)
        return fitted.digest, learnability(small.map(fitted), **options).results

    usual = fit_and_measure("usual")
    with set_by_the_caller():
        assert fit_and_measure("set") == usual
    assert torch.get_default_dtype() == torch.float32


def test_one_seed_has_no_spread_and_a_useless_victim_no_score():
    report = made([(0.1,), (0.1,), (0.1,), (0.1,)])
    assert math.isnan(report.spread("clean"))
    assert math.isnan(report.protection_score())
    stored = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert stored["summary"][1]["protection_score"] is None


def rates(small, training):
    """The learning rate of every step."""
    images = ImageSet.read(small, Columns("image", "label"))
    options = {"iterations": 10, "seed": 1, "accelerator": default_accelerator()}
    run = TrainingRun(Surrogate("small-resnet"), images, training, **options)
    found = [run._optimiser.param_groups[0]["lr"]]
    found += [run._optimiser.param_groups[0]["lr"] for _ in run]
    return found[:10]


def test_the_learning_rate_falls_by_a_cosine_or_in_steps(small):
    cosine = rates(small, Training(batch_size=16, learning_rate=0.1))
    assert cosine == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])
    steps = rates(small, Training(batch_size=16, learning_rate=0.1, milestones=(0.4, 0.8)))
    assert steps == pytest.approx([0.1] * 4 + [0.01] * 4 + [0.001] * 2)


def test_milestones_are_shares_of_the_training():
    with pytest.raises(RecipeError, match=r"\(40, 80\); expected shares"):
        Training(epochs=100, milestones=(40, 80))
    assert "milestones" not in Training().as_dict()


def test_every_case_and_seed_is_there(report):
    assert [(result.case, result.seed) for result in report.results] == [
        (case, seed) for seed in (1, 2) for case in (CLEAN, MIX, CLEAN_PART, PROTECTED)
    ]
    assert all(0 <= result.last <= result.peak <= 1 for result in report.results)
    assert report.iterations == 2 * 3
    assert report.chance == pytest.approx(1 / 3)


def test_json_goes_out_and_comes_back_and_is_repeatable(report, small, protection, tmp_path):
    report.save(tmp_path / "a.json")
    assert Report.load(tmp_path / "a.json") == report
    again = learnability(small.map(protection), clean=small, test=make_dataset(seed=1), **QUICK)
    again.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert {"summary", "results", "training", "versions", "chance"} <= set(
        json.loads((tmp_path / "a.json").read_text())
    )


def test_the_table_says_everything():
    text = str(made([(0.8, 0.9), (0.2, 0.3), (0.7, 0.7), (0.75, 0.75)], chance=1 / 3))
    words = ("clean ", "protected ", "mix, 50%", "clean part alone, 50%", "chance 33.3", "2 seeds")
    for word in (*words, "protection score", "theft gain", "last epoch", "peak epoch"):
        assert word in text


def test_the_chart_leaves_out_what_was_not_measured(tmp_path):
    """And says nothing about numbers that are not there, which would be an error here."""
    whole = made([(0.8, 0.9), (0.2, 0.3)])
    extra = Result("another victim", CLEAN, 0.0, "none", 0, (0.5,))
    accuracy_chart(replace(whole, results=(*whole.results, extra)), tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG"


class Watched(NamedTuple):
    """What a victim was trained on, and how."""

    images: ImageSet
    training: Training
    steps: int


def watched(monkeypatch):
    """The trainings of all victims from here on, as they are given to ``TrainingRun``."""
    seen = []
    real = victims.TrainingRun

    def watching(surrogate, images, training, **rest):
        seen.append(Watched(images, training, rest["iterations"]))
        return real(surrogate, images, training, **rest)

    monkeypatch.setattr(victims, "TrainingRun", watching)
    return seen


def test_mixtures_are_disjoint_stratified_and_seeded(small, protection, monkeypatch):
    seen = watched(monkeypatch)
    quick = {**QUICK, "seeds": (3,)}
    learnability(
        small.map(protection), clean=small, test=make_dataset(seed=1), ratios=(0, 1, 0.25), sequential=True, **quick
    )
    clean, protected, mix, part, second = (one.images for one in seen)
    from_clean = (mix.pixels == clean.pixels).all(axis=(1, 2, 3))
    assert np.array_equal(mix.pixels[~from_clean], protected.pixels[~from_clean])
    assert np.bincount(clean.labels[from_clean]).tolist() == [12, 12, 12]  # of 16 of each class
    assert np.array_equal(part.pixels, clean.pixels[from_clean])
    assert np.array_equal(second.pixels, protected.pixels[~from_clean])
    fine_tuning = seen[-1]
    assert (fine_tuning.training.epochs, fine_tuning.training.learning_rate, fine_tuning.steps) == (1, 0.01, 1)
    assert {one.steps for one in seen[:-1]} == {6}  # the same for all, however many images
    assert np.array_equal(split(clean.labels, 0.75, 3), from_clean)
    assert not np.array_equal(split(clean.labels, 0.75, 4), from_clean)


def test_sequential_victims_go_on_from_what_clean_images_taught(small, protection, monkeypatch):
    def starts(*arguments, real=victims.TrainingRun, **rest):
        started.append({name: tensor.clone() for name, tensor in arguments[0].build(3, 1, 1).state_dict().items()})
        left.append(real(*arguments, **rest))
        return left[-1]

    started, left = [], []
    monkeypatch.setattr(victims, "TrainingRun", starts)
    report = learnability(
        small.map(protection),
        clean=small,
        test=make_dataset(seed=1),
        ratios=(0.5,),
        sequential=True,
        **{**QUICK, "seeds": (1,)},
    )
    _, after_clean, _ = (run.network.state_dict() for run in left)
    assert all(torch.equal(tensor, after_clean[name]) for name, tensor in started[2].items())
    assert not all(torch.equal(tensor, after_clean[name]) for name, tensor in started[1].items())
    assert report.cases == [MIX, CLEAN_PART, SEQUENTIAL]
    assert [len(one.epochs) for one in report.results] == [2, 2, 1]
    assert "theft gain" in str(report)
    assert "sequential - clean part alone, 50% protected" in str(report)
    with pytest.raises(RecipeError, match="expected one or the other"):
        learnability(
            small,
            clean=small,
            test=make_dataset(seed=1),
            sequential=True,
            defences="pretrained:nowhere",
            **{**QUICK, "seeds": (1,)},
        )


def test_every_victim_meets_every_defence_at_every_ratio(small, protection, tmp_path):
    report = learnability(
        small.map(protection),
        clean=small,
        test=make_dataset(seed=1),
        victims=["small-resnet", "small-vgg"],
        defences=["none", "jpeg:50", "early-stopping"],
        ratios=(0, 1),
        **{**QUICK, "seeds": (1,)},
    )
    assert len(report.results) == 2 * 3 * 2
    assert report.defences == ["none", "jpeg:50", "early-stopping"]
    for victim in report.victims:
        stopped = report.accuracy(PROTECTED, victim, defence="early-stopping")
        assert stopped == report.accuracy(PROTECTED, victim, "peak", defence="none")
        assert report.accuracy(CLEAN, victim, defence="jpeg:50") >= 0
    report.save(tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0] == "victim,defence,case,ratio,seed,last,peak,peak_epoch"
    assert len(lines) == 13
    report.save(tmp_path / "table.parquet")
    table = Dataset.from_parquet(str(tmp_path / "table.parquet"), cache_dir=str(tmp_path / "cache"))
    assert table.to_list() == report.rows()
    first = (tmp_path / "table.parquet").read_bytes()
    report.save(tmp_path / "table.parquet")
    assert (tmp_path / "table.parquet").read_bytes() == first
    with pytest.raises(RecipeError, match=r"table.txt'; expected an ending of .json, .csv or .parquet"):
        report.save(tmp_path / "table.txt")
    assert "small-vgg, jpeg:50" in str(report)


def test_what_is_finished_is_not_trained_again(small, protection, tmp_path, monkeypatch):
    seen = watched(monkeypatch)
    arguments = {"clean": small, "test": make_dataset(seed=1), "keep_in": tmp_path, **QUICK, "seeds": (1,)}
    protected = small.map(protection)
    whole = learnability(protected, **arguments)
    assert len(seen) == 4
    next(iter(tmp_path.iterdir())).unlink()  # as if it had been stopped before the last one
    assert learnability(protected, **arguments) == whole
    assert len(seen) == 5
    learnability(protected, **{**arguments, "ratios": (0, 1, 0.5), "sequential": True})
    assert len(seen) == 5 + 2  # only what is new: the clean part again for its weights, which were not kept, and on
    learnability(protected, **{**arguments, "ratios": (0.5,), "sequential": True})
    assert len(seen) == 5 + 2
    learnability(protected, **{**arguments, "training": Training(epochs=1, batch_size=16)})
    assert len(seen) == 7 + 4  # another recipe shares nothing


@pytest.mark.filterwarnings("ignore:the protected images are identical")
def test_a_model_in_memory_whose_folder_is_gone_is_a_victim_as_the_advice_says(small, tmp_path):
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=3)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "model")
    model = ResNetForImageClassification.from_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    arguments = {"clean": small, "test": make_dataset(seed=1), **QUICK, "seeds": (1,), "ratios": (0,)}
    with pytest.raises(SourceError, match=r"Surrogate\(…, image_mean=…, image_std=…\), and resolution=…"):
        learnability(small, victims=model, **arguments)
    told = Surrogate(model, image_mean=(0.5,), image_std=(0.5,))
    assert len(learnability(small, victims=told, resolution=16, **arguments).results) == 1


@pytest.mark.filterwarnings("ignore:the protected images are identical")
@pytest.mark.parametrize("defence", ["pretrained", "probe"])
def test_a_victim_that_started_from_other_weights_is_trained_again(small, tmp_path, monkeypatch, defence):
    seen = watched(monkeypatch)
    for seed, trained in ((1, 1), (1, 1), (2, 2)):
        Surrogate("small-resnet").build(3, 1, seed).model.save_pretrained(tmp_path / "model")
        learnability(
            small,
            clean=small,
            test=make_dataset(seed=1),
            defences=f"{defence}:{tmp_path / 'model'}",
            ratios=[0],
            keep_in=tmp_path / "kept",
            **QUICK | {"seeds": (1,)},
        )
        assert len(seen) == trained


@pytest.mark.filterwarnings("ignore:the protected images are identical")
def test_a_victim_learns_what_can_be_learned():
    """Otherwise a low accuracy on protected data would mean nothing."""
    clean, test = make_dataset(240), make_dataset(60, seed=1)
    training = Training(epochs=12, batch_size=16, augment=False)
    report = learnability(
        clean,
        clean=clean,
        test=test,
        training=training,
        ratios=[0],
        seeds=[5],
        progress=False,
    )
    assert report.accuracy("clean") > 0.9


def test_a_defence_on_images_acts_at_their_own_size(monkeypatch):
    """A thief compresses what was published; compressing what was shrunk would take more away."""
    clean = make_dataset(24, channels=3, side=24)
    released = clean.map(lambda row: {"image": row["image"].point(lambda level: level + 8)})
    jpeg, columns, trained = JPEG(quality=10), Columns("image", "label"), {}

    def recorded(surrogate, images, *arguments, **settings):
        trained[len(trained)] = images.pixels
        return TrainingRun(surrogate, images, *arguments, **settings)

    monkeypatch.setattr(victims, "TrainingRun", recorded)
    options = {**QUICK, "seeds": [1], "ratios": [0.5, 1], "resolution": 12}
    learnability(released, clean=clean, test=make_dataset(24, channels=3, side=24, seed=1), defences=[jpeg], **options)
    before, after = (ImageSet.read(jpeg.apply(one), columns, size=12).pixels for one in (clean, released))
    mixed, clean_part, protected = trained.values()
    drawn = split(np.array(clean["label"]), 0.5, 1)
    assert np.array_equal(protected, after)
    assert np.array_equal(clean_part, before[drawn])
    assert np.array_equal(mixed, np.where(drawn[:, None, None, None], before, after))
    assert not np.array_equal(after, jpeg.prepare(ImageSet.read(released, columns, size=12)).pixels)


@pytest.mark.filterwarnings("default")
def test_a_defence_that_does_nothing_is_pointed_out(small, protection):
    options = {**QUICK, "seeds": [1], "ratios": [1], "training": Training(epochs=1, batch_size=48)}
    with pytest.warns(UserWarning, match="grayscale changes no image, so it does nothing here"):
        report = learnability(
            small.map(protection), clean=small, test=make_dataset(seed=1), defences=["jpeg", "grayscale"], **options
        )
    assert report.doubts == ("the defence grayscale changes no image, so it does nothing here",)


@pytest.mark.filterwarnings("default")
def test_sets_that_are_protected_in_part_are_pointed_out(small, protection):
    half = len(small) // 2
    part = concatenate_datasets([small.map(protection).select(range(half)), small.select(range(half, len(small)))])
    with pytest.warns(UserWarning, match=f"{len(small) - half} of {len(small)} protected images are identical to the"):
        report = learnability(part, clean=small, test=make_dataset(seed=1), victims="random-features", ratios=(1,))
    assert "protected in part" in report.doubts[0]


def test_classes_that_are_not_tested_are_pointed_out(small, protection):
    test = make_dataset(seed=1)
    wanted = [row for row, label in enumerate(test["label"]) if label != 1]
    with pytest.warns(UserWarning, match="no test image shows"):
        report = learnability(
            small.map(protection), clean=small, test=test.select(wanted), victims="random-features", ratios=(1,)
        )
    names = small.features["label"].names
    assert report.doubts == (
        f"no test image shows {names[1]}, 1 of the {len(names)} classes that models learn: the figures say nothing of "
        f"these",
    )


def test_identical_sets_are_pointed_out(small):
    with pytest.warns(UserWarning, match="identical to the clean ones"):
        report = learnability(small, clean=small, test=make_dataset(seed=1), **{**QUICK, "seeds": (1,)})
    assert [doubt.partition(":")[0] for doubt in Report.of(json.loads(json.dumps(report.as_dict()))).doubts] == [
        "the protected images are identical to the clean ones"
    ]


@pytest.mark.parametrize(
    ("protected", "test", "message"),
    [
        (make_dataset(30), make_dataset(), r"30 protected and 48 clean images"),
        (make_dataset().shuffle(seed=0), make_dataset(), r"another label in row \d+"),
        (make_dataset(), make_dataset(classes=4), r"classes .* in the test set"),
        (make_dataset(channels=3), make_dataset(), r"colour images in the protected set and greyscale ones"),
        (make_dataset(side=14), make_dataset(), r"of 14x14 pixels in the protected set and of 12x12 in the clean one"),
        (make_dataset().remove_columns("label"), make_dataset(), r"the protected dataset: got a dataset without"),
        (make_dataset(), make_dataset().select([]), r"the test dataset: got an empty dataset"),
    ],
)
def test_datasets_that_do_not_belong_together(protected, test, message):
    with pytest.raises(DataError, match=message):
        learnability(protected, clean=make_dataset(), test=test, **QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "got no seeds"),
        ({"victims": []}, "got no victims"),
        ({"ratios": ()}, "got no ratios"),
        ({"trainings": []}, "got no trainings"),
        ({"victims": 3}, "got model=3; expected one of small-resnet"),
        ({"victims": "random-features", "trainings": "sdg"}, "got the training 'sdg'; expected one of sgd, "),
        ({"ratios": (0.5, 1.5)}, r"got ratios=\(0.5, 1.5\); expected a list whose members"),
        ({"defences": [3]}, "a list whose members are each a Defence or text, or a Defence, or text, or None"),
        ({"defences": "jpg"}, "got the defence 'jpg'; expected one of"),
    ],
)
def test_what_cannot_be_measured(small, change, message):
    with pytest.raises(RecipeError, match=message):
        learnability(small, clean=small, test=make_dataset(seed=1), **{**QUICK, **change})


def test_a_victim_that_diverges(small, protection):
    with pytest.raises(DivergenceError, match="victim small-resnet, seed 1"):
        learnability(
            small.map(protection),
            clean=small,
            test=make_dataset(seed=1),
            training=Training(epochs=2, batch_size=16, learning_rate=1e30),
            seeds=(1,),
            progress=False,
        )


def test_crop_and_flip_shift_mirror_and_pass_gradients_on():
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(1.0, 37).view(1, 1, 6, 6).repeat(64, 1, 1, 1).requires_grad_()
    seen = random_crop_flip(images, generator, padding=2)
    shifts = set()
    for view in seen.detach():
        for mirrored in (False, True):
            upright = view.flip(2) if mirrored else view
            for y in range(-2, 3):
                for x in range(-2, 3):
                    moved = torch.nn.functional.pad(images[:1].detach(), (2,) * 4)[0, :, 2 + y : 8 + y, 2 + x : 8 + x]
                    if torch.equal(moved, upright):
                        shifts.add((mirrored, y, x))
    assert len(shifts) > 20
    assert {mirrored for mirrored, *_ in shifts} == {False, True}
    gradient = torch.autograd.grad(seen.sum(), images)[0]
    assert set(gradient.unique().tolist()) == {0.0, 1.0}  # every pixel that was seen, once; none that was moved out
    assert gradient.sum() == (seen != 0).sum()


def test_what_is_named_twice_is_trained_once(small, protection):
    thieves, _ = protocol.chosen_thieves(["small-resnet", "small-resnet"], ["none", "none"])
    named = protocol.trials(thieves, np.array([0, 1, 1]), (1, 1, 2))
    once, _ = protocol.chosen_thieves()
    assert named == protocol.trials(once, (0, 1), (1, 2))
    arguments = {**QUICK, "training": Training(epochs=1), "ratios": np.linspace(0, 1, 2), "seeds": np.array([1, 1])}
    report = learnability(small.map(protection), clean=small, test=make_dataset(seed=1), **arguments)
    assert [(result.case, result.seed) for result in report.results] == [(CLEAN, 1), (PROTECTED, 1)]
    assert json.loads(json.dumps(report.as_dict()))


def test_chosen_ratios_only(small, protection):
    report = learnability(
        small.map(protection), clean=small, test=make_dataset(seed=1), ratios=(1,), **{**QUICK, "seeds": (1,)}
    )
    assert report.cases == [PROTECTED]
    assert math.isnan(report.accuracy(CLEAN))
    assert math.isnan(report.protection_score())
    assert math.isnan(report.theft_gain())
    assert "score" not in str(report)


def test_rows_in_another_order_are_told(small):
    """Labels in the same order do not say that the images are."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)) for _ in small]
    clean = Dataset.from_dict({"image": photographs, "label": small["label"]}).cast(
        Features({name: small.features[name] for name in ("image", "label")})
    )
    labels = np.array(clean["label"])
    order = np.arange(len(clean))
    for label in np.unique(labels):
        order[labels == label] = np.roll(order[labels == label], 1)
    with pytest.warns(UserWarning, match="expected the same images in the same order"):
        learnability(
            clean.select(order), clean=clean, test=make_dataset(seed=1), **{**QUICK, "seeds": (1,)}, ratios=[1]
        )


def test_a_defence_is_found_however_it_is_written(report):
    (result, *_) = report.results
    compressed = replace(report, results=(*report.results, replace(result, defence="jpeg:10", epochs=(0.25,))))
    for written in ("jpeg:10", "jpeg", "jpeg:quality=10", Defence.parse("jpeg")):
        assert compressed.accuracy(result.case, defence=written) == 0.25
        assert str(compressed.table(defence=written)) == str(compressed.table(defence="jpeg:10")) != "[]"
    assert math.isnan(compressed.accuracy(result.case, defence="jpeg:50"))
    assert math.isnan(compressed.accuracy(result.case, defence="of-a-plugin"))
    with pytest.raises(RecipeError, match="got the figure 'best'; expected one of 'last', 'peak', "):
        compressed.accuracy(result.case, figure="best")


def test_two_models_of_one_name_are_never_taken_for_seeds_of_one():
    two = [Surrogate("small-resnet"), Surrogate("small-resnet", image_mean=(0.0,), image_std=(1.0,))]
    with pytest.raises(RecipeError, match="two victims that are both called 'small-resnet'; expected another name"):
        protocol.chosen_thieves(two)
    assert len(protocol.chosen_thieves([two[1], two[1]])[0]) == 2  # one model, named twice: trained once


def test_places_that_cannot_be_are_told_in_words(report, small, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "kept"):
        with pytest.raises(OutputError, match=r"nothing can be made in '.*file', which is a file"):
            learnability(small, clean=small, test=make_dataset(seed=1), keep_in=place, **QUICK)
    with pytest.raises(RecipeError, match="got keep_in=3; expected text or a path or None"):
        learnability(small, clean=small, test=make_dataset(seed=1), keep_in=3, **QUICK)
    with pytest.raises(OutputError, match="which is a folder; expected the name of a file in it"):
        report.save(tmp_path)
    with pytest.raises(OutputError, match="which is a file"):
        report.save(tmp_path / "file" / "report.json")
    with pytest.raises(SourceError, match=r"which is a folder; expected the learnability.json"):
        Report.load(tmp_path)
    with pytest.raises(SourceError, match=r"where there is no file; expected the learnability.json"):
        Report.load(tmp_path / "none.json")
    for wrong in ({"chance": 5.0}, {"chance": math.nan}, {"test_images": 0}):
        with pytest.raises(DataError, match="expected a chance in"):
            Report.of({**report.as_dict(), **wrong})
    with pytest.raises(DataError, match="got a measurement without results; expected those of at least one model"):
        Report.of({**report.as_dict(), "results": []})
    for name in (Report.load, report.save, Protection.from_pretrained):
        with pytest.raises(RecipeError, match="got 3 as the name of a file or a folder; expected text or a path"):
            name(3)
    with pytest.raises(SourceError, match=r"expected a folder with protection.json"):
        Protection.from_pretrained(tmp_path / "file")
    with pytest.raises(PluginError, match="got the plugin 3; expected a module's name"):
        load_plugin(3)
