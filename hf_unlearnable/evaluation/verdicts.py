"""What a thief regains, and from when on a protection is called broken: one rule for all pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.evaluation.printed import CANNOT
from hf_unlearnable.evaluation.report import NO_DEFENCE, Report

BROKEN_FROM, LEAKING_FROM = 0.5, 0.25  # shares regained from which on a protection is called broken, or leaking

UNKNOWN = "not measured"


@dataclass(frozen=True)
class Verdict:
    """What a thief with one model and one countermeasure regains, in [0, 1] and of what clean images would give.

    Clean images would give what the best of the thieves that were tried gets from them.

    Attributes:
        victim: the model.
        defence: the countermeasure.
        clean: last-epoch clean test accuracy after training on clean data under the countermeasure.
        protected: the same on protected data.
        peak: of the protected data at the best epoch.
        spread: standard deviation of ``protected`` over seeds; not a number for a single one.
        best: the highest that any model reaches on clean data, with whatever countermeasure: a thief chooses both.
        regained: (protected - chance) / (best - chance), last epoch; not a number where something was not measured.
        regained_at_peak: the same of the best epoch.
        untold: whether the model was trained on clean images, and what it learned there tells nothing: see
            ``Report.untold``.
    """

    victim: str
    defence: str
    clean: float
    protected: float
    peak: float
    spread: float
    best: float
    regained: float
    regained_at_peak: float
    untold: bool

    @classmethod
    def of(cls, report: Report, victim: str, defence: str) -> Verdict:
        """From the results of ``learnability``."""
        best = report.ceiling()
        # A model that learns nothing from clean images tells nothing about what protected ones teach.
        untold = bool(report.untold(victim))
        room = math.nan if untold else best - report.chance
        protected, peak = (report.accuracy(PROTECTED, victim, figure, defence=defence) for figure in ("last", "peak"))
        return cls(
            victim=victim,
            defence=defence,
            clean=report.accuracy(CLEAN, victim, defence=defence),
            protected=protected,
            peak=peak,
            spread=report.spread(PROTECTED, victim, defence=defence),
            best=best,
            regained=(protected - report.chance) / room,
            regained_at_peak=(peak - report.chance) / room,
            untold=untold,
        )

    @property
    def state(self) -> str:
        """``"broken"``, ``"leaks"`` or ``"holds"``; else ``"cannot be measured"`` or ``"not measured"``."""
        return _state(self.regained, self.untold)

    @property
    def state_at_peak(self) -> str:
        """The same for a thief who stops at the best epoch."""
        return _state(self.regained_at_peak, self.untold)


@dataclass(frozen=True)
class VerdictCell:
    """A field in a table of countermeasures.

    Attributes:
        accuracy: clean test accuracy after training on protected data, in [0, 1]; not a number if not measured.
        spread: its standard deviation over seeds; not a number for a single one.
        regained: that of ``Verdict``.
        clean: the accuracy after training on clean data under the same countermeasure, last epoch.
        state: that of ``Verdict``.
    """

    accuracy: float
    spread: float
    regained: float
    clean: float
    state: str

    @property
    def judged(self) -> bool:
        """Whether the state says something about the protection."""
        return judged(self.state)

    @classmethod
    def of(cls, report: Report, victim: str, defence: str, *, stopped: bool = False) -> VerdictCell:
        """Of the last epoch, or of the best one for a thief who stopped there."""
        verdict = Verdict.of(report, victim, defence)
        if not stopped:
            return cls(verdict.protected, verdict.spread, verdict.regained, verdict.clean, verdict.state)
        spread = report.spread(PROTECTED, victim, "peak", defence=defence)
        return cls(verdict.peak, spread, verdict.regained_at_peak, verdict.clean, verdict.state_at_peak)


def judged(state: str) -> bool:
    """Whether a state says something about the protection."""
    return state not in (UNKNOWN, CANNOT)


def _state(regained: float, untold: bool) -> str:
    if math.isnan(regained):
        return CANNOT if untold else UNKNOWN
    return "broken" if regained >= BROKEN_FROM else "leaks" if regained >= LEAKING_FROM else "holds"


def best_thief(report: Report) -> Verdict | None:
    """The one that regains most of all that were measured: the verdict on the protection; None if there is none."""
    return worst(Verdict.of(report, *pair) for pair in report.pairs)


def verdict_in_words(report: Report) -> str:
    """The verdict on the protection, with the thief that it is by, as one line; or why there is none."""
    best = best_thief(report)
    if why := report.untold():
        return f"Verdict: none. What the protection does {CANNOT}: {why}"
    if best is None:
        return (
            "No verdict: that takes a model that learned from clean images, and one that was trained on protected ones"
        )
    words = {"holds": "the protection holds", "leaks": "the protection leaks", "broken": "the protection is broken"}
    how = "" if best.defence == NO_DEFENCE else f" with {best.defence}"
    others = f", the best of {len(report.pairs)} thieves," if len(report.pairs) > 1 else ""
    return (
        f"Verdict: {words[best.state]}. {best.victim}{how}{others} regains {100 * max(best.regained, 0):.0f} % of the "
        f"way from chance to what clean images give ({100 * best.protected:.1f} of {100 * best.best:.1f})"
    )


def baseline_defence(reports: Sequence[Report]) -> str:
    """What a thief does without countermeasure, to be compared with: no defence, where that was measured.

    Else it is the first one of the first report.

    Args:
        reports: at least one, each with results.
    """
    measured = {defence for report in reports for defence in report.defences}
    return NO_DEFENCE if NO_DEFENCE in measured else reports[0].defences[0]


def stops_early(report: Report) -> bool:
    """Whether stopping at the best epoch was measured as a countermeasure of its own."""
    return any(defence.startswith("early-stopping") for defence in report.defences)


def row_name(defence: str, *, stopped: bool = False) -> str:
    """What the row of a countermeasure is called in a table."""
    name = "no countermeasure" if defence == NO_DEFENCE else defence
    if not stopped:
        return name
    return "stopping at the best epoch" if defence == NO_DEFENCE else f"{name}, and stopping at the best epoch"


def table_rows(defences: Iterable[str], baseline: str, *, add_stopped: bool) -> list[tuple[str, bool]]:
    """The rows of a table of countermeasures: each one, and whether it is read off for a thief who stopped early.

    Args:
        defences: those that were measured.
        baseline: that of ``baseline_defence``, which comes first.
        add_stopped: let who stopped early follow it, where that was measured as no countermeasure of its own.
    """
    rows = [(defence, False) for defence in sorted(defences, key=lambda defence: defence != baseline)]
    return [*rows[:1], (baseline, True), *rows[1:]] if add_stopped else rows


def worst(verdicts: Iterable[Verdict], *, peak: bool = False) -> Verdict | None:
    """The one that regains most; None if of none that is known."""
    figure = "regained_at_peak" if peak else "regained"
    known = [verdict for verdict in verdicts if not math.isnan(getattr(verdict, figure))]
    return max(known, key=lambda verdict: getattr(verdict, figure), default=None)
