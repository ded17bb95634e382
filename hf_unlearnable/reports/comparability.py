"""Whether the figures of several runs may be laid side by side: what was not equal, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hf_unlearnable.evaluation.report import CLEAN, PROTECTED, Report
from hf_unlearnable.evaluation.verdicts import Verdict, row_name

SAME = 0.0005  # accuracies that differ by less are one number for a reader: half of the last digit of a per cent

Reports = Mapping[str, Report]  # by the name of the run


@dataclass(frozen=True)
class Difference:
    """Something that ought to be equal in all runs, and is not.

    Attributes:
        what: it is.
        found: every value, with the runs that have it in words.
        means: what follows for the reader.
    """

    what: str
    found: tuple[tuple[str, str], ...]
    means: str


def differences(reports: Reports, *, public: bool = False) -> list[Difference]:
    """What keeps the figures of several runs from being compared; empty where nothing does.

    Args:
        reports: by the name of the run, at least one.
        public: tell of seeds only how many there are.
    """

    def recipe(report: Report) -> str:
        return ", ".join(f"{key.replace('_', ' ')} {report.training.get(key, 'unknown')}" for key in differing)

    def seeds(report: Report) -> str:
        return f"{len(report.seeds)} of its own" if public else ", ".join(map(str, sorted(report.seeds)))

    keys = dict.fromkeys(key for report in reports.values() for key in report.training)
    differing = [key for key in keys if len({str(report.training.get(key)) for report in reports.values()}) > 1]
    told = [
        _difference(
            reports, "test images", lambda one: str(one.test_images), "Figures of other test images do not compare."
        ),
        _difference(
            reports,
            "chance",
            lambda one: f"{100 * one.chance:.2f} %",
            "The test images are others: their classes are not of the same sizes.",
        ),
        _difference(reports, "training images", lambda one: str(one.images), "More images teach more."),
        _difference(reports, "training steps", lambda one: str(one.iterations), "Longer training may learn more."),
        _difference(reports, "training recipe", recipe, "The models were not trained in the same way."),
        _difference(
            reports,
            "seeds",
            seeds,
            "The models began and met the images in other ways; luck does not cancel out.",
            lambda one: frozenset(one.seeds),
        ),
        _clean(reports),
    ]
    return [one for one in told if one is not None]


def _difference(
    reports: Reports,
    what: str,
    text: Callable[[Report], str],
    means: str,
    value: Callable[[Report], Hashable] | None = None,
) -> Difference | None:
    """None where the value (the text, if nothing else is said) is the same in all runs."""
    groups: dict[Hashable, list[str]] = {}
    for name, report in reports.items():
        groups.setdefault((value or text)(report), []).append(name)
    found = [(text(reports[names[0]]), names) for names in groups.values()]
    return Difference(what, in_words(found), means) if len(found) > 1 else None


def in_words(found: Sequence[tuple[str, list[str]]]) -> tuple[tuple[str, str], ...]:
    """Values with the names of the runs that have them; the largest group is not listed but called the others."""
    most = max(range(len(found)), key=lambda index: len(found[index][1]))
    others = len(found) > 1 and len(found[most][1]) > 1
    told = [
        (value, "all others" if others and index == most else _and(names)) for index, (value, names) in enumerate(found)
    ]
    return tuple(sorted(told, key=lambda one: one[1] == "all others"))


def grouped(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The same of a value a run."""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return in_words(list(groups.items()))


def _clean(reports: Reports) -> Difference | None:
    """Models that learned differently from the clean images, which are to be the same ones in all runs."""
    baselines = _baselines(reports)
    apart = {trained: max(known.values()) - min(known.values()) for trained, known in baselines.items()}
    differing = [trained for trained, gap in apart.items() if gap > SAME]
    if not differing:
        return None
    victim, defence = most = max(differing, key=lambda trained: apart[trained])
    return Difference(
        f"accuracy after clean images ({victim}, {row_name(defence)})",
        grouped({name: f"{100 * value:.1f} %" for name, value in baselines[most].items()}),
        f"They differ in {len(differing)} of {len(baselines)} comparisons, most in this one. Equal images, recipe, "
        f"seeds and versions on one machine give equal models: some of that was not equal, most likely the images.",
    )


def _baselines(reports: Reports) -> dict[tuple[str, str], dict[str, float]]:
    """Model and countermeasure -> accuracy after clean images by run, where at least two runs have it."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for trained in dict.fromkeys((one.victim, one.defence) for report in reports.values() for one in report.results):
        victim, defence = trained
        reached = {name: report.accuracy(CLEAN, victim, defence=defence) for name, report in reports.items()}
        known = {name: value for name, value in reached.items() if not math.isnan(value)}
        if len(known) > 1:
            found[trained] = known
    return found


def baselines_met(reports: Reports) -> bool:
    """Whether every run shares a model that learned from clean images with another: only then can its figure tell."""
    met = (
        name
        for known in _baselines(reports).values()
        for name, accuracy in known.items()
        if accuracy > reports[name].chance
    )
    return set(met) == set(reports)


def learned(report: Report, victim: str) -> bool | None:
    """Whether a model learned anything from clean images, with whatever countermeasure; None if it had none."""
    best = Verdict.of(report, victim, report.defences[0]).best
    return None if math.isnan(best) else best > report.chance


def gaps(reports: Reports) -> list[str]:
    """What was measured for some runs only, and runs that look wrong or say nothing: a sentence each."""
    found = [f"Something is odd about {name}: {doubt}." for name, report in reports.items() for doubt in report.doubts]
    if unknown := [name for name, report in reports.items() if CLEAN not in report.cases]:
        found.append(
            f"No model was trained on the clean images for {_and(unknown)}. So it cannot be said what share of their "
            f"lesson gets through there, nor whether they are the images of the other runs. To measure that: "
            f"hf-unlearnable measure RUN --ratios 0,1"
        )
    for victim in dict.fromkeys(victim for report in reports.values() for victim in report.victims):
        if in_vain := [name for name, report in reports.items() if learned(report, victim) is False]:
            found.append(
                f"{victim} learned nothing from the clean images for {_and(in_vain)}, so it cannot tell there what "
                f"protection takes away. Longer training may help: hf-unlearnable measure RUN --epochs 30"
            )
    victims = {name: report.victims for name, report in reports.items()}
    defences = {
        name: dict.fromkeys(row_name(one.defence) for one in report.results if one.case == PROTECTED)
        for name, report in reports.items()
    }
    return [*found, *_only(victims, "Models"), *_only(defences, "Countermeasures")]


def _only(measured: Mapping[str, Iterable[str]], what: str) -> Iterator[str]:
    """What not every run has, told by the fewer of those that have it and those that have not."""
    by_runs: dict[tuple[str, ...], list[str]] = {}
    for one in dict.fromkeys(one for ones in measured.values() for one in ones):
        by_runs.setdefault(tuple(name for name, ones in measured.items() if one in ones), []).append(one)
    for runs, ones in by_runs.items():
        lacking = [name for name in measured if name not in runs]
        if lacking:
            few = f"measured for {_and(runs)} only" if len(runs) < len(lacking) else f"not measured for {_and(lacking)}"
            yield f"{what} {few}: {', '.join(ones)}."


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
