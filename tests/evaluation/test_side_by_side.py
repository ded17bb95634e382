"""Victims in processes of their own: the same results, the same words, and nothing that waits for ever."""

from __future__ import annotations

import json
import signal
import sys
from multiprocessing import resource_tracker
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from helpers.datasets import make_dataset
from helpers.forked import CONTEXT
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import Defence, DivergenceError, RecipeError, Training, UnlearnableError, learnability
from hf_unlearnable.cli import app
from hf_unlearnable.defences.base import _defences
from hf_unlearnable.errors import command_line_words
from hf_unlearnable.evaluation import side_by_side
from hf_unlearnable.evaluation.side_by_side import chosen_count
from hf_unlearnable.registry import load_plugin

pytestmark = pytest.mark.thorough

SHORT = {"training": Training(epochs=2, batch_size=16), "seeds": (1, 2), "progress": False}

PLUGIN = """
import os
import signal
import warnings
from dataclasses import dataclass

from PIL import Image

from hf_unlearnable import Defence, register_victim
from hf_unlearnable.modeling import SmallResNetConfig, SmallResNetForImageClassification


@dataclass(frozen=True, kw_only=True)
class Murmur(Defence, name="murmur"):
    def prepare(self, images, *, seed):
        warnings.warn(f"seed {seed} murmurs")
        return images


@dataclass(frozen=True, kw_only=True)
class Limit(Defence, name="limit"):
    def prepare(self, images, *, seed):
        warnings.warn(f"up to {Image.MAX_IMAGE_PIXELS} pixels")
        return images


@dataclass(frozen=True, kw_only=True)
class Wrong(Defence, name="wrong"):
    def prepare(self, images, *, seed):
        return 255 - images


@dataclass(frozen=True, kw_only=True)
class Struck(Defence, name="struck"):
    def prepare(self, images, *, seed):
        os.kill(os.getpid(), signal.SIGKILL)


@register_victim("side-net")
def side_net(num_labels, channels):
    config = SmallResNetConfig(widths=(4,), depths=(1,), num_labels=num_labels, num_channels=channels)
    return SmallResNetForImageClassification(config)
"""


@pytest.fixture(scope="module")
def _plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file of somebody else's, whose names every process has to learn anew."""
    file = tmp_path_factory.mktemp("plugin") / "acme.py"
    file.write_text(PLUGIN)
    load_plugin(file)


@pytest.fixture
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that have torch already."""
    monkeypatch.setattr(side_by_side.multiprocessing, "get_context", lambda kind: CONTEXT)


@pytest.fixture
def sets(small: Dataset) -> dict[str, Dataset]:
    """What a protected set is measured beside."""
    return {"clean": small, "test": make_dataset(seed=1)}


@pytest.mark.usefixtures("_plugin", "_forked")
@pytest.mark.filterwarnings("ignore:the victim knn was not tried with validation")
def test_the_results_are_those_of_one_process(small, protection, tmp_path, monkeypatch, sets):
    """The clean part and what goes on from it are done by one of them. (Documents measure in processes of users.)"""
    monkeypatch.setattr(side_by_side, "OFTEN", 0.0)
    options = {**sets, "sequential": True, **SHORT}
    options |= {"victims": ["side-net", "knn"], "ratios": (0.5, 1), "defences": ["none", "validation:0.2"]}
    protected, threads = small.map(protection), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = learnability(protected, **options)
        assert learnability(protected, **options, num_proc=2, keep_in=tmp_path) == alone
    finally:
        torch.set_num_threads(threads)
    kept = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert {(one["case"], *one["epochs"]) for one in kept} == {(one.case, *one.epochs) for one in alone.results}


@pytest.mark.usefixtures("_plugin", "_forked")
def test_what_one_of_them_says_is_heard(small, protection, sets):
    with pytest.warns(UserWarning, match=r"seed [12] murmurs"):
        learnability(small.map(protection), defences="murmur", victims="side-net", num_proc=2, **sets, **SHORT)


@pytest.mark.usefixtures("_plugin")
def test_the_limit_of_pixels_is_that_of_the_process_that_asks(small, protection, sets, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 123_456)
    with pytest.warns(UserWarning, match="up to 123456 pixels"):
        learnability(small.map(protection), defences="limit", victims="side-net", num_proc=2, **sets, **SHORT)


@pytest.mark.usefixtures("_forked")
def test_an_error_is_the_one_of_the_victim(small, protection, sets):
    wild = SHORT | {"training": Training(epochs=2, batch_size=16, learning_rate=1e30)}
    with pytest.raises(DivergenceError, match=r"victim small-resnet, seed [12]"):
        learnability(small.map(protection), num_proc=2, **sets, **wild)


@pytest.mark.usefixtures("_plugin", "_forked")
def test_an_error_of_somebody_elses_code_names_its_line(small, protection, sets):
    with pytest.raises(TypeError) as raised:
        learnability(small.map(protection), defences="wrong", victims="side-net", num_proc=2, **sets, **SHORT)
    assert "return 255 - images" in "".join(raised.value.__notes__)


def test_they_are_deaf_to_ctrl_c_though_the_first_of_them_starts_a_tracker(monkeypatch):
    tracker = resource_tracker._resource_tracker
    for name in ("_fd", "_pid"):  # as before anything of multiprocessing was used
        monkeypatch.setattr(tracker, name, None)
    with side_by_side._for_children():
        tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    tracker._stop()
    assert signal.SIGINT in blocked


@pytest.mark.usefixtures("_plugin", "_forked")
def test_one_that_is_killed_is_told(small, protection, sets):
    sets = {**sets, "victims": "side-net", "defences": ["none", "struck"]}
    with pytest.raises(UnlearnableError, match=r"one of the 2 processes that train was killed.*smaller num_proc"):
        learnability(small.map(protection), num_proc=2, **sets, **SHORT)
    with command_line_words(), pytest.raises(UnlearnableError, match="a smaller --num-proc"):
        learnability(small.map(protection), num_proc=2, **sets, **SHORT)


def test_a_script_that_is_imported_again_is_told_how_to_begin(small, protection, tmp_path, monkeypatch, sets):
    """One without the line that keeps its processes from doing all that it does."""
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit(1)")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    with pytest.raises(UnlearnableError, match=r'could not begin.*if __name__ == "__main__"'):
        learnability(small.map(protection), num_proc=2, **sets, **SHORT)


@pytest.mark.usefixtures("_forked")
def test_what_cannot_be_sent_is_refused(small, protection, sets):
    class Local(Defence, name="local"):
        """Of a function, where no other process finds it."""

        epochs_factor = 2

    try:
        with pytest.raises(UnlearnableError, match=r"several processes for something that cannot be sent.*Local"):
            learnability(small.map(protection), defences=Local(), num_proc=2, **sets, **SHORT)
    finally:
        _defences.remove("local")


@pytest.mark.usefixtures("_forked")
def test_a_class_that_only_this_process_knows_is_refused(small, protection, monkeypatch, sets):
    """As one of a notebook: it can be pickled here, and is not there in another process."""

    class Own(Defence, name="own-one"):
        __module__ = "__main__"
        __qualname__ = "Own"
        epochs_factor = 2

    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    try:
        with pytest.raises(UnlearnableError, match=r"cannot be sent to another.*Own.*loaded as a plugin"):
            learnability(small.map(protection), defences=Own(), num_proc=2, **sets, **SHORT)
    finally:
        _defences.remove("own-one")


def test_a_process_that_may_start_none_says_so(small, protection, monkeypatch, sets):
    monkeypatch.setattr(side_by_side.multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    with pytest.raises(RecipeError, match="num_proc=2 in a daemonic process"):
        learnability(small.map(protection), num_proc=2, **sets, **SHORT)


def test_several_in_each_of_several_are_refused(small):
    one_of_two = SimpleNamespace(num_processes=2, is_main_process=True)
    with pytest.raises(RecipeError, match="num_proc=2 in each of 2 processes"):
        learnability(small, clean=small, test=small, num_proc=2, accelerator=one_of_two, **SHORT)


def test_how_many_suit_a_measurement(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)

    def count(images=10**6, groups=9, side=28, held=10**6, processes=1, device="cpu"):
        sets = {"clean": SimpleNamespace(pixels=SimpleNamespace(nbytes=held))}
        accelerator = SimpleNamespace(num_processes=processes, device=SimpleNamespace(type=device))
        return chosen_count(SimpleNamespace(size=(side, side), sets=sets), images, groups, accelerator)

    assert count() == 4
    assert (count(groups=3), count(processes=2), count(device="cuda"), count(images=1000)) == (3, 1, 1, 1)
    assert (count(images=1000, side=400), count(held=2**30), count(held=2**32)) == (4, 2, 1)


def test_the_command_says_how_many(small, tmp_path, monkeypatch):
    """And where it does not, the work decides."""
    small.save_to_disk(tmp_path / "set")
    asked = []

    def seen(protected, *, num_proc, **options):
        asked.append(num_proc)
        raise RecipeError("enough")

    monkeypatch.setattr("hf_unlearnable.runs.measuring.learnability", seen)
    words = ["measure", str(tmp_path / "set"), "--clean", str(tmp_path / "set"), "--test", str(tmp_path / "set")]
    words += ["--test-split", "train", "--clean-split", "train"]
    for more in ([], ["--num-proc", "3"]):
        CliRunner().invoke(app, [*words, *more])
    assert asked == [None, 3]
