"""One way to say what is going on and how long it will take: a bar on a terminal, a line every tenth in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tqdm.auto import tqdm

QUIET = 1.0  # seconds between two lines of a log, and before the first: what is done by then needs no word

_hidden = False


@contextmanager
def no_progress() -> Iterator[None]:
    """Show nothing while the block runs, whoever asks for it."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


def on_a_terminal() -> bool:
    """Whether somebody sees bars move: in a terminal or a notebook, not in a file or another program."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Progress:
    """A tqdm bar that is erased when its work is done, so that results stand alone on the screen.

    Where nobody sees it move, a line is written for every tenth instead, and none for work of a second.

    Args:
        what: a few words in front of the bar.
        total: the number of units.
        unit: what is counted, in the singular.
        done: units that were done before.
        enabled: show nothing if false.
    """

    def __init__(self, what: str, total: int, *, unit: str = "step", done: int = 0, enabled: bool = True) -> None:
        self._what, self._unit, self._done, self._total = what, unit, done, total
        shown = enabled and not _hidden
        self._lines = shown and not on_a_terminal()
        self._begun = self._said = time.monotonic()
        self._before, self._tenth = done, -1
        self._bar = tqdm(
            total=total,
            desc=what,
            unit=unit,
            initial=done,
            disable=not shown or self._lines,
            leave=False,
            dynamic_ncols=True,
        )

    def advance(self, count: int = 1, **figures: float) -> None:
        """Count ``count`` units as done and show ``figures`` behind the bar."""
        self._done += count
        if self._lines:
            self._say()
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
        return self._done / self._total

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def duration(seconds: float) -> str:
    """A length of time in words, such as ``40 s``, ``5 min`` or ``2 h 10 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
