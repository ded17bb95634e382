"""Sets that are made once: by whichever process comes first, and never over something else."""

from __future__ import annotations

import pytest
from datasets import DatasetDict
from helpers.datasets import make_dataset

from hf_unlearnable import SourceError
from hf_unlearnable.data.made_once import made_once


@pytest.fixture
def made() -> DatasetDict:
    return DatasetDict({"train": make_dataset(4)})


def test_it_is_made_once(tmp_path, made):
    calls = []
    for _ in range(2):
        loaded = made_once(tmp_path / "set", lambda: calls.append(1) or made, "this set")
        assert loaded["train"]["label"] == made["train"]["label"]
    assert calls == [1]


def test_what_another_process_made_meanwhile_is_taken(tmp_path, made):
    def make() -> DatasetDict:
        DatasetDict({"train": made["train"].select([2])}).save_to_disk(tmp_path / "set")
        return made

    assert len(made_once(tmp_path / "set", make, "this set")["train"]) == 1


@pytest.mark.parametrize("kind", ["a folder of something else", "a set without splits"])
def test_what_else_lies_there_is_told_and_stays(tmp_path, made, kind):
    if kind == "a set without splits":
        made["train"].save_to_disk(tmp_path / "set")
    else:
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SourceError, match="set', which is not this set that was put there; remove it"):
        made_once(tmp_path / "set", lambda: made, "this set")
    assert sorted(tmp_path.rglob("*")) == before
