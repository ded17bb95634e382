"""One way to say what is going on and how long it will take."""

from __future__ import annotations

from types import TracebackType

from tqdm.auto import tqdm


class Progress:
    """A tqdm bar that is erased when its work is done, so that results stand alone on the screen.

    Args:
        what: a few words in front of the bar.
        total: the number of units.
        unit: what is counted, in the singular.
        done: units that were done before.
        enabled: show nothing if false.
    """

    def __init__(self, what: str, total: int, *, unit: str = "step", done: int = 0, enabled: bool = True) -> None:
        self._done, self._total = done, total
        self._bar = tqdm(
            total=total, desc=what, unit=unit, initial=done, disable=not enabled, leave=False, dynamic_ncols=True
        )

    def advance(self, count: int = 1, **figures: float) -> None:
        """Count ``count`` units as done and show ``figures`` behind the bar."""
        self._done += count
        if figures:
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        self._bar.update(count)

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
