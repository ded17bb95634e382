"""Recipes stand beside one another by thieves who met two of them."""

from __future__ import annotations

import recipes_compared
from made_results import made_report
from measured import EIGHTEEN
from recipes_compared import compared

from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED


def test_thieves_of_two_recipes_have_a_row(monkeypatch):
    def met(defence, *fits):
        return [made_report({CLEAN: (0.8, 0.6), PROTECTED: one}, defence=defence) for one in fits]

    found = {
        "one": [*met("none", (0.1, 0.3), (0.4, 0.4)), *met("blur:3", (0.1,))],
        f"one:{EIGHTEEN}": met("none", (0.5,)),
        "other": [],
    }
    monkeypatch.setattr(recipes_compared, "on_leaderboard", lambda _, recipe, __: found[recipe])
    head, _, row = compared("any", *found).splitlines()
    assert head == "| thief | clean | `one` | `one`, 18 passes | `other` |"
    assert row == "| small ResNet | 70.0 ± 14.1 | 30.0 ± 14.1 (40.0), 2 x 2 | 50.0 (60.0), 1 x 1 | - |"


def test_thieves_with_targets_come_first():
    first, *_, last = compared("photo-patches-4000", "mi-ue", "mi-ue:from_waves=False").splitlines()[2:]
    assert first.startswith("| small ResNet |")
    assert last.startswith("| `small-resnet, strong` |")
