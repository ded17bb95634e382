"""A line every tenth where nobody sees a bar move; one bar for all parts where somebody does."""

from __future__ import annotations

import pytest
from helpers.methods import quick

from hf_unlearnable import progress
from hf_unlearnable.progress import Progress, counted, duration, no_progress, whole


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when they are told to."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock, steps, seconds):
    with Progress("fitting", steps, unit="image") as bar:
        for _ in range(steps):
            clock[0] += seconds
            bar.advance(loss=1.0)


def test_ten_lines_in_a_log(clock, capsys):
    work(clock, 1000, 1.0)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 11
    assert said[0] == "fitting: 0 % (1 of 1000 images), 17 min left"
    assert said[5] == "fitting: 50 % (500 of 1000 images), 8 min left"
    assert said[-1] == "fitting: 100 % (1000 of 1000 images)"


def test_what_goes_before_is_no_part_of_the_time_left(clock, capsys):
    with Progress("victims", 1000, unit="step") as bar:
        clock[0] += 30  # processes that start
        bar.begin()
        clock[0] += 2
        bar.advance(100)
    assert capsys.readouterr().err.splitlines() == ["victims: 10 % (100 of 1000 steps), 18 s left"]


def test_nothing_of_short_work_and_none_more_often_than_each_second(clock, capsys):
    work(clock, 100, 0.009)
    assert capsys.readouterr().err == ""
    work(clock, 100, 0.05)
    assert len(capsys.readouterr().err.splitlines()) <= 5


def test_silence(clock, capsys):
    with no_progress():
        work(clock, 100, 1.0)
    assert capsys.readouterr().err == ""


def test_one_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "on_a_terminal", lambda: True)
    shares = []
    with whole("protecting", {"first": 1.0, "left out": 2.0, "last": 1.0}):
        for name in ("first", "unknown", "last"):
            for _ in counted(range(10), name, 10):
                shares.append(round(progress._whole._bar.n))
        shares.append(round(progress._whole._bar.n))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)
    assert shares[10:20] == [25] * 10  # of no part that was announced
    assert shares[21] == 78  # what was left out counts as done
    assert "protecting:   0%" in capsys.readouterr().err
    assert progress._whole is None


def test_a_part_that_is_done_once_again_makes_the_work_longer(monkeypatch):
    monkeypatch.setattr(progress, "on_a_terminal", lambda: True)
    shares = {}
    with whole("protecting", {"patterns": 2.0, "last": 1.0}):
        for name in ("patterns", "patterns, also in grey", "last"):
            for _ in counted(range(10), name, 10):
                pass
            shares[name] = round(progress._whole._bar.n)
    # It never runs back: two thirds after the first start, and again until the second has caught up.
    assert shares == {"patterns": 67, "patterns, also in grey": 80, "last": 100}


@pytest.mark.parametrize("name", ["mi-ue", "em", "texture", "auto"])
def test_methods_name_the_bars_that_they_show(name, small, monkeypatch):
    """In their order, so that the time left means something."""
    shown = []
    begin = Progress.__init__

    def note(self, what, *args, **options):
        begin(self, what, *args, **options)
        shown.append(self._what)

    monkeypatch.setattr(Progress, "__init__", note)
    method = quick(name)
    method.fit(small, budget=8, progress=False)
    fitted = [what for what in shown if ": " in what]
    parts = list(method.parts())
    assert set(fitted) <= set(parts)
    assert [parts.index(what) for what in fitted] == sorted(parts.index(what) for what in fitted)


@pytest.mark.parametrize(("seconds", "told"), [(40, "40 s"), (300, "5 min"), (7800, "2 h 10 min"), (260_000, "3 days")])
def test_durations(seconds, told):
    assert duration(seconds) == told
