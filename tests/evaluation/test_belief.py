"""Figures that may be believed: test images that were trained on, and accuracies that may be luck."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from datasets import concatenate_datasets
from helpers.datasets import described, make_dataset

from hf_unlearnable import Report, Training, learnability, load_metric
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.evaluation.scores import guessing, protection_score
from hf_unlearnable.evaluation.verdicts import Verdict, best_thief, verdict_in_words
from hf_unlearnable.hub.cards import DatasetFacts, dataset_card
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.reports.run_page import PageFacts, page

QUICK = {"training": Training(epochs=2, batch_size=16), "seeds": (1,), "progress": False}
UNSEEN = "that none of them had seen"
JUDGED = ("the protection holds", "<strong>holds", "<strong>is broken", "<strong>leaks", "% of the way from")


def measured(clean, protected, *, chance=0.5, test_images=20, seen=0, mix=None, alone=None):
    figures = {(CLEAN, 0.0): clean, (PROTECTED, 1.0): protected, (MIX, 0.5): mix, (CLEAN_PART, 0.5): alone}
    results = [
        Result("small-resnet", case, ratio, "none", 1, (last,))
        for (case, ratio), last in figures.items()
        if last is not None
    ]
    return Report(tuple(results), chance, 100, test_images, 10, {}, {}, test_seen=seen)


def card(report):
    figures = Verification(48, 0, 0, 0, 8.0, 4.0, 36.0, None, "linf:8", 1.0).as_dict()
    facts = DatasetFacts(repo_id="zoe/x", images=48, protection=described(), verification=figures, report=report)
    return dataset_card(facts)


@pytest.mark.filterwarnings("default")
def test_originals_that_are_tested_on_are_found_and_said(small, protection):
    with pytest.warns(UserWarning, match="48 of 48 test images are among those that models are trained on"):
        report = learnability(small.map(protection), clean=small, test=small, **QUICK)
    assert report.test_seen == 48
    assert math.isnan(report.protection_score())
    assert math.isnan(report.theft_gain())
    assert best_thief(report) is None
    why = "48 of 48 test images are among those that models were trained on"
    assert verdict_in_words(report) == f"Verdict: none. What the protection does cannot be measured: {why}"
    stored = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (stored["test_seen"], stored["cannot_be_measured"]) == (48, why)
    assert f"cannot be measured: {why}" in str(report)
    told = page(PageFacts(name="run", report=report))
    assert UNSEEN not in told
    assert "48 of which they were trained on" in told
    assert "48 clean test images, 48 of which models were trained on," in card(report)
    assert "These figures show nothing about the protection" in card(report)


@pytest.mark.filterwarnings("default")
def test_a_part_that_was_trained_on_is_counted(small, protection):
    test = concatenate_datasets([make_dataset(seed=1), small.select(range(10))])
    with pytest.warns(UserWarning, match="10 of 58 test images"):
        report = learnability(small.map(protection), clean=small, test=test, ratios=(0, 1), **QUICK)
    assert (report.test_seen, report.test_images) == (10, 58)
    assert UNSEEN not in page(PageFacts(name="run", report=report))
    assert "58 clean test images, 10 of which models were trained on," in card(report)


@pytest.mark.filterwarnings("default")
def test_protected_images_are_none_to_test_on_either(small, protection):
    with pytest.warns(UserWarning, match="48 of 48 test images"):
        learnability(small.map(protection), clean=small, test=small.map(protection), ratios=(1,), **QUICK)


def test_new_images_are_called_so_only_where_somebody_looked(small, protection):
    report = learnability(small.map(protection), clean=small, test=make_dataset(seed=1), ratios=(0, 1), **QUICK)
    assert report.test_seen == 0
    assert Report.of(json.loads(json.dumps(report.as_dict()))) == report
    assert UNSEEN in page(PageFacts(name="run", report=report))
    assert UNSEEN not in page(PageFacts(name="run", report=measured(0.9, 0.5, seen=None)))


def test_guessing_is_where_luck_ends():
    rng = np.random.default_rng(0)
    for chance, images, tries in ((0.5, 20, 1), (0.1, 60, 8), (0.25, 1000, 3)):
        best = rng.binomial(images, chance, (20_000, tries)).max(axis=1) / images
        limit = guessing(chance, images, tries)
        assert (best > limit + 1e-9).mean() <= 0.03
        assert (best > limit - 1.5 / images).mean() > 0.015  # and no farther than that
    assert guessing(0.5, 4) == 1.0
    assert guessing(1.0, 10) == 1.0
    assert guessing(0.1, 100_000) == pytest.approx(0.1 + 1.96 * math.sqrt(0.09 / 100_000), abs=1e-4)


@pytest.mark.parametrize(("clean", "protected"), [(0.55, 0.5), (0.55, 0.7), (0.7, 1.0), (0.5, 0.5), (0.4, 0.2)])
def test_what_may_be_luck_gives_no_score_and_no_verdict(clean, protected):
    """With 20 test images of two classes 14 are named by luck: 0.55 and 0.7 would have been 300 % of the way."""
    report = measured(clean, protected, mix=0.6, alone=0.5)
    assert math.isnan(report.protection_score())
    assert math.isnan(report.theft_gain())
    verdict = Verdict.of(report, "small-resnet", "none")
    assert (verdict.state, verdict.state_at_peak) == ("cannot be measured", "cannot be measured")
    assert best_thief(report) is None
    assert verdict_in_words(report).startswith("Verdict: none. What the protection does cannot be measured: too few")
    stored = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert stored["cannot_be_measured"].startswith("too few images")
    assert stored["summary"][1]["protection_score"] is None
    assert "cannot be measured: too few images" in str(report)
    assert "protection score" not in str(report)
    assert "theft gain cannot be measured (mix - clean part alone, 50% protected)" in str(report)
    told = page(PageFacts(name="run", report=report))
    assert "What the protection does cannot be measured:</strong> too few images" in told
    assert '<td class="cannot-be-measured">' in told
    assert not [words for words in JUDGED if words in told]
    assert "neither for it nor against it" in card(report)


def test_what_is_more_than_luck_is_judged():
    report = measured(0.9, 0.55, mix=0.8, alone=0.7)
    assert report.protection_score() == pytest.approx(0.35 / 0.4)
    assert report.theft_gain() == pytest.approx(0.1)
    assert best_thief(report).state == "holds"
    assert "cannot_be_measured" not in report.as_dict()
    assert "show nothing" not in card(report)
    enough = measured(0.55, 0.5, test_images=2000)
    assert enough.protection_score() == pytest.approx(1.0)


def test_one_victim_that_learned_nothing_is_named_and_the_others_are_judged():
    report = measured(0.9, 0.5)
    vain = [Result("linear", case, ratio, "none", 1, (0.6,)) for case, ratio in ((CLEAN, 0.0), (PROTECTED, 1.0))]
    both = Report((*report.results, *vain), 0.5, 100, 20, 10, {}, {})
    assert "no score for linear: too few images" in str(both)
    assert both.untold() == ""
    assert best_thief(both).victim == "small-resnet"


def test_the_metric_gives_no_score_for_so_few_images():
    few = {"predictions": [0, 1] * 4, "references": [0, 1] * 2 + [1, 0] * 2}
    assert "protection_score" not in load_metric("learnability").compute(**few, baseline=0.8)
    many = {name: values * 20 for name, values in few.items()}
    assert load_metric("learnability").compute(**many, baseline=0.8)["protection_score"] == pytest.approx(1.0)
    assert math.isnan(protection_score(0.5, 0.8, 0.5, 8))
