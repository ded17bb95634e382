"""Fits and victims are told apart, and a clean model counts once."""

from __future__ import annotations

import pytest
from made_results import made_report
from measured import Measured, best_known

from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED

CLEAN_IMAGES = {CLEAN: (0.8, 0.6)}


def fit(*protected):
    return made_report({**CLEAN_IMAGES, PROTECTED: protected})


def test_both_spreads_stand_apart():
    own = Measured.of([fit(0.10, 0.14), fit(0.20, 0.24)], "small-resnet")
    assert own.means == pytest.approx((0.17, 0.27))  # a tenth more at the epoch before
    assert own.figures == "17.0 (27.0)"
    assert own.effort == "2 x 2"
    assert own.spreads == "7.1, 2.8"  # of 0.12 and 0.22; of 0.10 and 0.14
    assert own.ways == pytest.approx([0.07 / 0.6, 0.17 / 0.6])


def test_a_clean_model_beside_several_fits_counts_once():
    own = Measured.of([fit(0.1), fit(0.2), fit(0.3)], "small-resnet")
    assert sorted(own.clean) == [0.6, 0.8]
    assert own.cells == ["20.0 (30.0)", "3 x 1", "10.0, -", "70.0 ± 14.1"]


def test_what_nobody_tried_has_no_figures():
    own = Measured.of([made_report(CLEAN_IMAGES)], "small-resnet")
    assert not own
    assert own.cells == ["-"] * 4
    assert not Measured.of([fit(0.1)], "small-resnet", "jpeg:10")


def test_fits_weigh_alike_and_most_models_count():
    few, many = [fit(0.3)], [fit(0.1, 0.1, 0.1), fit(0.2)]
    own = best_known([few, many], "small-resnet")
    assert (own.models, own.effort, own.figures) == (4, "2 x 1 to 3", "15.0 (25.0)")


def test_a_mixture_stands_beside_its_clean_part():
    one = made_report({**CLEAN_IMAGES, CLEAN_PART: (0.7, 0.5), PROTECTED: (0.2, 0.2), MIX: (0.6, 0.5)})
    own = Measured.of([one], "small-resnet", case=MIX, beside=CLEAN_PART)
    assert own.cells == ["55.0 (55.0)", "1 x 2", "-, 7.1", "60.0 ± 14.1"]
