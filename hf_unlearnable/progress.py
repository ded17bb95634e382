"""One way to say what is going on and how long it will take: a bar on a terminal, a line every tenth in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

QUIET = 1.0  # seconds between two lines of a log, and before the first: what is done by then needs no word

_hidden = False
_whole: Whole | None = None
_listener: Callable[[str, float], None] | None = None
_names: dict[str, str] = {}

T = TypeVar("T")


@contextmanager
def no_progress() -> Iterator[None]:
    """Show nothing while the block runs, whoever asks for it."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


@contextmanager
def heard_by(listener: Callable[[str, float], None]) -> Iterator[None]:
    """Tell a function instead of a screen while the block runs: the name of a part, and what is done in [0, 1].

    In a ``whole`` that is the share of all of it.
    """
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextmanager
def renamed(name: str, other: str) -> Iterator[None]:
    """Call what is called ``name: ...`` ``other: ...`` while the block runs: one method may run more than once."""
    global _names
    before, _names = _names, {**_names, name: other}
    try:
        yield
    finally:
        _names = before


def tell(what: str) -> None:
    """Tell whoever listens, see ``heard_by``, what goes on where nothing can be counted."""
    if _listener is not None:
        _listener(what, 0.0)


@contextmanager
def kept_back(logger: str, text: str) -> Iterator[None]:
    """Keep lines with a text back from the log of another library: what they say is a matter of course."""
    source = logging.getLogger(logger)

    def keep_back(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    source.addFilter(keep_back)
    try:
        yield
    finally:
        source.removeFilter(keep_back)


def on_a_terminal() -> bool:
    """Whether somebody sees bars move: in a terminal or a notebook, not in a file or another program."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Whole:
    """One bar for a work of several parts, each of which has a ``Progress`` of its own that shows itself here.

    Args:
        what: a few words in front of the bar.
        parts: what each part's ``Progress`` is called, in order, and how much of the work it is about. A part that does
            not come about counts as done when a later one begins. One that is called as a part and more does it once
            again, and makes the work so much longer.
    """

    def __init__(self, what: str, parts: Mapping[str, float]) -> None:
        self._parts, self._order, self._shares = dict(parts), list(parts), dict.fromkeys(parts, 0.0)
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=100.0,
            desc=what,
            leave=False,
            disable=_listener is not None,
            dynamic_ncols=True,
            smoothing=0,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}, about {remaining} left{postfix}",
        )

    def show(self, part: str, share: float) -> None:
        """Say that ``share`` in [0, 1] of a part is done."""
        if part not in self._parts:
            self._repeat(part)
        if part in self._parts:
            for earlier in self._order[: self._order.index(part)]:
                self._shares[earlier] = 1.0
            self._shares[part] = share
        self._bar.set_postfix_str(part, refresh=False)
        done = sum(weight * self._shares[name] for name, weight in self._parts.items()) / sum(self._parts.values())
        self._bar.update(max(0.0, 100 * done - self._bar.n))
        if _listener is not None:
            _listener(part, done)

    def _repeat(self, part: str) -> None:
        """Announce a part that does another one once again, if it does."""
        for place, first in enumerate(self._order):
            if part.startswith(first):
                self._order.insert(place + 1, part)
                self._parts[part], self._shares[part] = self._parts[first], 0.0
                return

    def close(self) -> None:
        """Erase the bar."""
        self._bar.close()


@contextmanager
def whole(what: str, parts: Mapping[str, float], *, enabled: bool = True) -> Iterator[None]:
    """Show what is done in the block as one ``Whole`` on a terminal; in a log every part writes its own lines."""
    global _whole
    seen = on_a_terminal() or _listener is not None
    if not enabled or not parts or _hidden or _whole is not None or not seen:
        yield
        return
    _whole = Whole(what, parts)
    try:
        yield
    finally:
        _whole.close()
        _whole = None


def counted(items: Iterable[T], what: str, total: int, *, unit: str = "step", enabled: bool = True) -> Iterator[T]:
    """The items, shown as a ``Progress`` while they are taken."""
    with Progress(what, total, unit=unit, enabled=enabled) as bar:
        for item in items:
            yield item
            bar.advance()


class Progress:
    """A tqdm bar that is erased when its work is done, so that results stand alone on the screen.

    In a ``whole`` it is a part of that bar. Where nobody sees it move, a line is written for every tenth instead, and
    none for work of a second.

    Args:
        what: a few words in front of the bar.
        total: the number of units.
        unit: what is counted, in the singular.
        done: units that were done before.
        enabled: show nothing if false.
    """

    def __init__(self, what: str, total: int, *, unit: str = "step", done: int = 0, enabled: bool = True) -> None:
        whose, colon, rest = what.partition(": ")
        what = _names.get(whose, whose) + colon + rest
        self._what, self._unit, self._done, self._total = what, unit, done, total
        shown = enabled and not _hidden
        self._listener = _listener if shown else None
        self._lines = shown and not on_a_terminal() and self._listener is None
        self._whole = _whole if shown else None
        self._begun = self._said = time.monotonic()
        self._before, self._tenth = done, -1
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=total,
            desc=what,
            unit=unit,
            initial=done,
            disable=not shown or self._lines or self._whole is not None or self._listener is not None,
            leave=False,
            dynamic_ncols=True,
        )

    def begin(self) -> None:
        """Count the time from now on: what went before, such as starting processes, says nothing of the time left."""
        self._begun = self._said = time.monotonic()
        self._bar.unpause()

    def advance(self, count: int = 1, **figures: float) -> None:
        """Count ``count`` units as done and show ``figures`` behind the bar."""
        self._done += count
        if self._lines:
            self._say()
            return
        if self._whole is not None:
            self._whole.show(self._what, self.share)
            return
        if self._listener is not None:
            self._listener(self._what, self.share)
            return
        if figures:
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        self._bar.update(count)

    def _say(self) -> None:
        tenth, now = 10 * self._done // max(1, self._total), time.monotonic()
        if tenth <= self._tenth or now - self._said < QUIET:
            return
        left = (now - self._begun) / (self._done - self._before) * (self._total - self._done)
        rest = f", {duration(left)} left" if self._done < self._total else ""
        print(
            f"{self._what}: {100 * self.share:.0f} % ({self._done} of {self._total} {self._unit}s){rest}",
            file=sys.stderr,
            flush=True,
        )
        self._tenth, self._said = tenth, now

    @property
    def share(self) -> float:
        """How much of the work is done, in [0, 1]."""
        return self._done / self._total if self._total else 1.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def duration(seconds: float) -> str:
    """A length of time in words, such as ``40 s``, ``5 min``, ``2 h 10 min`` or ``3 days``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{round(hours / 24)} days"
