"""Which attack a measurement sends at a run: the one that the author of its method names."""

from __future__ import annotations

import pytest
from helpers.datasets import described

from hf_unlearnable.protection.description import IMPORTED
from hf_unlearnable.runs import RunFolder
from hf_unlearnable.runs.measuring import attack_on, with_suite


@pytest.fixture
def protected_by(tmp_path):
    """A run that was protected by a method, as its description has it."""

    def protected(method, **changed):
        folder = tmp_path / "private" / "protection"
        folder.mkdir(parents=True, exist_ok=True)
        described(method={"name": method}, **changed).write(folder)
        (tmp_path / "dataset").mkdir(exist_ok=True)
        return RunFolder(tmp_path)

    return protected


@pytest.mark.parametrize(
    ("method", "findings", "attack"),
    [
        ("mi-ue", {}, "class-clusters:1"),
        ("texture", {}, "principal-directions:2"),
        ("auto", {"auto": {"chosen": "texture"}}, "principal-directions:2"),  # what was chosen is known, and its attack
        ("auto", {}, "class-clusters:2"),
        (IMPORTED, {}, None),
        ("not-installed-here", {}, None),
    ],
)
def test_the_attack_is_that_of_the_runs_own_method(method, findings, attack, protected_by):
    run = protected_by(method, findings=findings)
    assert attack_on(run) == attack
    assert with_suite({}, run) == {"suite": "quick", "attack": attack}
    assert with_suite({"suite": "standard"}, run) == {"suite": "standard", "attack": attack}


def test_thieves_of_ones_own_choice_and_an_attack_of_ones_own_stay(protected_by, tmp_path):
    run = protected_by("texture")
    assert with_suite({"victims": ["mlp"]}, run)["attack"] is None
    assert with_suite({"attack": "blur"}, run) == {"suite": "quick", "attack": "blur"}
    assert attack_on(RunFolder(tmp_path / "nothing")) is None
