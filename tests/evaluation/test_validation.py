"""A thief who picks the epoch by images that he held out: what he holds out, what he keeps, and where it is shown."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import pytest
import torch
from helpers.datasets import make_dataset

from hf_unlearnable import DataError, Defence, RecipeError, Report, Training, learnability
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.evaluation import victims
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.evaluation.verdicts import Verdict, VerdictCell
from hf_unlearnable.evaluation.victims import parted, picked_epoch, split
from hf_unlearnable.hub.cards import _row
from hf_unlearnable.reports import charts
from hf_unlearnable.reports.run_page import PageFacts, page
from hf_unlearnable.training.run import TrainingRun

NAME = "validation:0.2"


def options(epochs=4):
    """Of a short measurement of 48 images in three classes."""
    return {"training": Training(epochs=epochs, batch_size=16), "seeds": (1,), "progress": False}


def numbered(labels):
    """Images that each say which row they are."""
    labels = np.array(labels)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None].repeat(8, axis=2).repeat(8, axis=3)
    return ImageSet(pixels, labels, ["a", "b", "c"])


def rows(images):
    return set(images.pixels[:, 0, 0, 0].tolist())


# --- what is held out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "held"), [(0.1, [2, 1, 0]), (0.5, [10, 2, 0]), (0.99, [19, 3, 0]), (0.001, [1, 1, 0])]
)
def test_of_every_class_a_share_is_held_out_and_never_all(share, held):
    images = numbered([0] * 20 + [1] * 4 + [2])
    rest, kept_back = parted(images, share, seed=3)
    assert np.bincount(kept_back.labels, minlength=3).tolist() == held
    assert rows(rest) | rows(kept_back) == rows(images)
    assert not rows(rest) & rows(kept_back)
    assert rows(parted(images, share, seed=3)[1]) == rows(kept_back)


def test_what_is_held_out_of_a_mixture_is_not_its_clean_part():
    images = numbered([0] * 200)
    drawn = set(np.flatnonzero(split(images.labels, 0.5, 7)).tolist())
    held = rows(parted(images, 0.4, 7)[1])
    assert 20 < len(held & drawn) < 60  # 40 of 80 by chance


# --- which epoch is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "epoch"), [([1], 1), ([5, 9, 7], 2), ([3, 9, 9, 2], 3), ([4, 4, 4], 3), ([0, 0], 2), ([9, 1, 8], 1)]
)
def test_the_epoch_that_names_most_is_kept_and_of_several_the_latest(right, epoch):
    assert picked_epoch(right) == epoch


def result(picked=None, **changed):
    figures = {"epochs": (0.3, 0.6, 0.5, 0.2), "picked": picked, **changed}
    return Result("small-resnet", PROTECTED, 1.0, NAME if picked else "none", 1, **figures)


def test_the_last_figure_of_a_result_is_of_the_epoch_that_was_picked():
    assert (result(3).last, result(3).last_epoch, result(3).peak) == (0.5, 3, 0.6)
    assert (result().last, result().last_epoch, result().peak) == (0.2, 4, 0.6)
    of_owner = {"precision": (0.1, 0.2, 0.3, 0.4), "others": (0.9, 0.8, 0.7, 0.6)}
    assert (result(2, **of_owner).last_precision, result(2, **of_owner).last_others) == (0.2, 0.8)
    assert (result(**of_owner).last_precision, result(**of_owner).last_others) == (0.4, 0.6)


def test_files_of_before_are_read_and_written_as_before():
    stored = result().as_dict()
    assert list(stored) == ["victim", "case", "ratio", "defence", "seed", "epochs"]
    assert Result.of(stored) == result()
    assert Result.of(json.loads(json.dumps(result(3).as_dict()))) == result(3)
    for picked in (0, 5, -1):
        with pytest.raises(DataError, match=rf"got the picked epoch {picked} of 4; expected a number from 1 to 4"):
            Result.of({**stored, "picked": picked})
    for picked in (True, 2.0, "2"):
        with pytest.raises(DataError, match="a value of another kind in picked"):
            Result.of({**stored, "picked": picked})


def reports():
    """Clean images teach 0.9; protected ones 0.2 at the end, 0.5 at the epoch that was picked, 0.6 at the best one."""
    clean = [
        replace(one, case=CLEAN, ratio=0.0, epochs=(0.9,), picked=one.picked and 1) for one in (result(), result(3))
    ]
    return Report((clean[0], result(), clean[1], result(3)), 0.1, 100, 500, 10, {}, {})


def test_every_consumer_shows_the_figure_of_the_picked_epoch(monkeypatch):
    report = reports()
    assert report.accuracy(PROTECTED, defence=NAME) == 0.5
    assert report.accuracy(PROTECTED, figure="peak", defence=NAME) == 0.6
    assert report.values(PROTECTED, figure="picked", defence=NAME).tolist() == [3]
    assert math.isnan(report.values(PROTECTED, figure="picked", defence="none")[0])
    assert report.curves(PROTECTED, defence=NAME) == [(0.3, 0.6, 0.5, 0.2)]
    assert report.protection_score(defence=NAME) == pytest.approx((0.9 - 0.5) / 0.8)
    verdict = Verdict.of(report, "small-resnet", NAME)
    assert (verdict.protected, verdict.peak, verdict.regained) == (0.5, 0.6, pytest.approx(0.5))
    assert VerdictCell.of(report, "small-resnet", NAME).accuracy == 0.5
    line = report.table(defence=NAME)[1]
    assert (line.last.mean, line.peak.mean) == (0.5, 0.6)
    assert "50.0 (60.0)" in _row(report.table(defence=NAME))
    assert [(row["last"], row["last_epoch"], row["peak_epoch"]) for row in report.rows()[1::2]] == [
        (0.2, 4, 2),
        (0.5, 3, 2),
    ]
    assert f"{NAME}: the last epoch is the one that was picked by images held out" in str(report)
    assert Report.of(json.loads(json.dumps(report.as_dict()))) == report
    shown = page(PageFacts(name="run", report=report))
    assert "A dot marks the last epoch, or the one that was picked by images held out, a ring" in shown
    others = replace(report, results=report.results[:2])
    assert "picked" not in page(PageFacts(name="run", report=others)) + str(others) + json.dumps(others.as_dict())
    assert "last_epoch" not in others.rows()[0]

    dots = []
    monkeypatch.setattr(charts, "_save", lambda figure, *_: dots.extend(figure.axes[0].lines))
    charts.learning_curves(report, "small-resnet", NAME, None)
    marked = [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots if line.get_markersize() == 5]
    assert marked == [(1, 90), (3, 50)]


# --- in a training ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """The images and settings of every training."""
    seen = []

    def watching(surrogate, images, training, **rest):
        seen.append((images, surrogate, rest))
        return TrainingRun(surrogate, images, training, **rest)

    monkeypatch.setattr(victims, "TrainingRun", watching)
    return seen


def test_a_made_up_course_of_accuracies(small, protection, trained, monkeypatch):
    """Of 9 held-out images 3, 7, 7 and 1 are named right, while the accuracy on test images falls."""
    held_out, weights, epoch, protected = [], [], count(), small.map(protection)

    def made_up(network, images, device):
        if len(images) == 48:  # to test on
            right = 48 - 6 * next(epoch)
        else:
            held_out.append(images)
            weights.append({name: value.clone() for name, value in network.state_dict().items()})
            right = (3, 7, 7, 1)[len(held_out) - 1]
        return np.where(np.arange(len(images)) < right, images.labels, -1)

    monkeypatch.setattr(victims, "classify", made_up)
    test = make_dataset(48, seed=1)
    (found,) = learnability(protected, clean=small, test=test, defences=NAME, ratios=(1,), **options()).results
    assert (found.epochs, found.picked) == ((1.0, 0.875, 0.75, 0.625), 3)
    assert (found.last, found.peak) == (0.75, 1.0)
    ((images, _, rest),) = trained
    assert rest["iterations"] == 12  # as many as without
    assert (len(images), {len(one) for one in held_out}) == (39, {9})
    published = {np.asarray(row["image"]).tobytes() for row in protected}
    assert {one.tobytes() for part in (images, held_out[0]) for one in part.pixels} == published


def test_a_real_training_picks_what_its_curve_has_and_a_stopped_one_goes_on(small, protection, tmp_path, trained):
    arguments = {"clean": small, "test": make_dataset(seed=1), "defences": ["none", NAME], "ratios": (0, 1)}
    arguments |= options(epochs=3) | {"keep_in": tmp_path / "kept"}
    report = learnability(small.map(protection), **arguments)
    assert [len(images) for images, *_ in trained] == [48, 48, 39, 39]
    for one in report.results:
        assert len(one.epochs) == 3
        assert (one.picked is None) == (one.defence == "none")
        assert one.last == one.epochs[(one.picked or 3) - 1] <= one.peak
    files = {file: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
    assert len(files) == 4
    for file in files:
        file.unlink()  # as if it had been killed before this one
        assert learnability(small.map(protection), **arguments) == report
        assert file.read_bytes() == files[file]
    assert len(trained) == 8


def test_who_goes_on_from_a_clean_part_goes_on_from_the_epoch_that_was_picked(small, protection, trained, monkeypatch):
    monkeypatch.setattr(victims, "picked_epoch", lambda right: 1)
    arguments = {"clean": small, "test": make_dataset(seed=1), "defences": NAME, "ratios": (0.5,), "sequential": True}
    report = learnability(small.map(protection), **arguments, **options())
    assert [(one.case, one.picked) for one in report.results] == [(MIX, 1), (CLEAN_PART, 1), (SEQUENTIAL, 1)]
    first = next(rest for images, _, rest in trained if len(images) < 24)
    again = TrainingRun(trained[1][1], trained[1][0], options()["training"], **first)
    for _, _ in zip(range(3), again, strict=False):
        pass  # one of four epochs
    start = trained[2][1].build(3, 1, 1).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in again.network.state_dict().items())


def test_where_nothing_can_be_held_out_the_last_epoch_counts(protection, small):
    few = small.select([list(small["label"]).index(label) for label in range(3)])
    training = {**options(epochs=2), "training": Training(epochs=2, batch_size=3)}
    arguments = {"clean": few, "test": make_dataset(seed=1), "ratios": (0,), "defences": ["none", NAME], **training}
    with pytest.warns(UserWarning, match="identical"):
        plain, held = learnability(few, **arguments).results
    assert (held.epochs, held.picked) == (plain.epochs, 2)


def test_models_that_are_fitted_in_one_go_do_not_take_it(small, protection):
    message = "got nothing to measure: the victim knn was not tried with validation:0.1, which acts on a network's"
    with pytest.raises(RecipeError, match=message):
        learnability(small, clean=small, test=small, victims="knn", defences="validation", **options())
    assert Defence.parse("validation").acts


def test_nobody_picks_by_clean_and_by_held_out_images():
    with pytest.raises(RecipeError, match="got a defence with held_out and the figure 'peak'"):

        @dataclass(frozen=True, kw_only=True)
        class Both(Defence, name="both"):
            figure = "peak"
            held_out = 0.5
