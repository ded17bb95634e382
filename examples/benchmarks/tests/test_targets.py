"""What was aimed at is judged by what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from measured import EPOCHS, Measured, best_known, in_files, on_leaderboard
from targets import SET, TARGETS, Target, learns
from wording import PATCHES

from hf_unlearnable.hub.cards import COUNTERMEASURES


@pytest.mark.parametrize(
    ("asked", "figures", "met"),
    [
        ({"most": 0.18, "most_at_peak": 0.30}, (0.18, 0.30, 0.6), True),
        ({"most": 0.18, "most_at_peak": 0.30}, (0.17, 0.31, 0.6), False),
        ({"most": 0.18, "most_at_peak": 0.30}, (0.19, 0.20, 0.6), False),
        ({"half": True}, (0.35, 0.90, 0.6), True),
        ({"half": True}, (0.36, 0.36, 0.6), False),
        ({"below": 0.10}, (0.50, 0.60, 0.6), True),
        ({"below": 0.10}, (0.51, 0.51, 0.6), False),
    ],
)
def test_a_target_is_met_at_the_last_epoch_and_at_the_peak_if_that_was_asked(asked, figures, met):
    last, peak, clean = figures
    own = Measured([np.array([last])], [np.array([peak])], np.array([clean]), 0.1)
    assert Target("one", **asked).verdict(own) == (", met" if met else "")


def test_a_target_that_a_mean_meets_says_how_many_fits_do():
    fits = [np.array([0.10, 0.12]), np.array([0.20, 0.20]), np.array([0.12, 0.12])]
    own = Measured(fits, fits, np.array([0.6]), 0.1)
    assert Target("one", most=0.15).verdict(own) == ", met (by 2 of 3 fits)"
    assert Target("one", most=0.15).verdict(own, [0.2]) == ", met"
    assert Target("one", most=0.14).verdict(own) == ""


@pytest.mark.parametrize(
    ("asked", "ways"),
    [
        ({"most": 0.20}, [0.2]),
        ({"most": 0.20, "most_at_peak": 0.35}, [0.2, 0.5]),
        ({"half": True}, [0.5]),
        ({"below": 0.10}, [0.8]),
        ({}, []),
    ],
)
def test_a_target_is_a_share_of_the_way_from_chance_to_clean(asked, ways):
    assert Target("one", **asked).ways(0.6) == pytest.approx(ways)


def test_cards_tell_what_was_measured():
    """The figures of a card are typed, since an installed package has no results; here is where both are."""
    told = " ".join(words for _, words in COUNTERMEASURES)
    jpeg, grey, trained, probe, tuned = (
        tuple(learns(thief).split(" of "))
        for thief in (
            "JPEG at quality 10",
            "greyscale",
            "adversarial training",
            "a new head on a network of ImageNet, 3 epochs",
            "that network fine-tuned, 3 epochs",
        )
    )
    attacks = [
        best_known([*in_files(PATCHES, recipe, EPOCHS), on_leaderboard(SET, recipe, EPOCHS)], "small-resnet", defence)
        for recipe, defence in (
            ("mi-ue-from-waves", "class-clusters:1"),
            ("texture", "principal-directions:2"),
            ("em", "class-clusters:1"),
        )
    ]
    assert [one.effort for one in attacks] == ["3 x 3", "3 x 3", "3 x 1"]
    clusters, directions, of_em = (f"{100 * one.means[0]:.1f} %" for one in attacks)
    for sentence in (
        f"`mi-ue` ({clusters}), `texture` ({directions}; three fits of three victims each)",
        f"and `em` ({of_em}, of one each)",
        f"`mi-ue` left {jpeg[0]} % of {jpeg[1]} and {grey[0]} of {grey[1]}",
        f"`mi-ue` left {trained[0]} % of {trained[1]} to it",
        f"`mi-ue` left {probe[0]} % of {probe[1]} to a new head",
        f"and {tuned[0]} of {tuned[1]} where that was fine-tuned for three epochs",
    ):
        assert sentence in told


def test_every_thief_is_named_once():
    assert len({(one.victim, one.defence, one.epochs) for one in TARGETS}) == len(TARGETS)
