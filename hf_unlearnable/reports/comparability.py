"""Whether the figures of several runs may be laid side by side: what was not equal, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hf_unlearnable.errors import worded
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.evaluation.verdicts import row_name

SAME = 0.0005  # accuracies that differ by less are one number for a reader: half of the last digit of a per cent

Reports = Mapping[str, Report]  # by the name of the run


@dataclass(frozen=True)
class Difference:
    """Something that ought to be equal in all runs, and is not.

    Attributes:
        what: it is.
        values: every value, with the runs that have it in words.
        means: what follows for the reader.
    """

    what: str
    values: tuple[tuple[str, str], ...]
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

    def longer(report: Report) -> str:
        return ", ".join(f"{name} {factor} times" for name, factor in report.epochs_factors.items()) or "none"

    keys = dict.fromkeys(key for report in reports.values() for key in report.training)
    differing = [key for key in keys if len({str(report.training.get(key)) for report in reports.values()}) > 1]
    checked = [
        _difference(
            reports,
            "what was measured",
            lambda report: report.figure,
            "Accuracy over all classes and the recall of one do not compare.",
        ),
        _difference(
            reports,
            "test images",
            lambda report: str(report.test_images),
            "Figures of other test images do not compare.",
        ),
        _difference(
            reports,
            "chance",
            lambda report: f"{100 * report.chance:.2f} %",
            "The test images are others: their classes are not of the same sizes.",
        ),
        _difference(reports, "training images", lambda report: str(report.images), "More images teach more."),
        _difference(
            reports, "training steps", lambda report: str(report.iterations), "Longer training may learn more."
        ),
        _difference(reports, "training recipe", recipe, "The models were not trained in the same way."),
        _difference(
            reports,
            "longer trainings",
            longer,
            "A defence that learns slowly does more in a longer training.",
        ),
        _difference(
            reports,
            "seeds",
            seeds,
            "The models began and met the images in other ways; luck does not cancel out.",
            lambda report: frozenset(report.seeds),
        ),
        _clean(reports),
    ]
    return [difference for difference in checked if difference is not None]


def _difference(
    reports: Reports,
    what: str,
    text: Callable[[Report], str],
    means: str,
    value: Callable[[Report], Hashable] | None = None,
) -> Difference | None:
    """None where the value (the text, if nothing else is said) is the same in all runs."""
    runs_by_value: dict[Hashable, list[str]] = {}
    for name, report in reports.items():
        runs_by_value.setdefault((value or text)(report), []).append(name)
    if len(runs_by_value) < 2:
        return None
    return Difference(
        what, values_in_words([(text(reports[names[0]]), names) for names in runs_by_value.values()]), means
    )


def values_in_words(groups: Sequence[tuple[str, list[str]]]) -> tuple[tuple[str, str], ...]:
    """Values with the names of the runs that have them; the largest group is not listed but called the others.

    Args:
        groups: each value with the names of its runs, at least one.
    """
    largest = max(range(len(groups)), key=lambda index: len(groups[index][1]))
    if len(groups) == 1 or len(groups[largest][1]) == 1:
        return tuple((value, _and(names)) for value, names in groups)
    value_of_most, _ = groups[largest]
    few = [(value, _and(names)) for index, (value, names) in enumerate(groups) if index != largest]
    return (*few, (value_of_most, "all others"))


def grouped(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The same, from the value of every run."""
    runs_by_value: dict[str, list[str]] = {}
    for name, value in values.items():
        runs_by_value.setdefault(value, []).append(name)
    return values_in_words(list(runs_by_value.items()))


def _clean(reports: Reports) -> Difference | None:
    """Models that learned differently from the clean images, which are to be the same ones in all runs."""
    baselines = _baselines(reports)
    gap = {trained: max(by_run.values()) - min(by_run.values()) for trained, by_run in baselines.items()}
    differing = [trained for trained in baselines if gap[trained] > SAME]
    if not differing:
        return None
    most = max(differing, key=lambda trained: gap[trained])
    victim, defence = most
    return Difference(
        f"accuracy after clean images ({victim}, {row_name(defence)})",
        grouped({name: f"{100 * accuracy:.1f} %" for name, accuracy in baselines[most].items()}),
        f"They differ in {len(differing)} of {len(baselines)} comparisons, most in this one. Equal images, recipe, "
        f"seeds and versions on one machine give equal models: some of that was not equal, most likely the images.",
    )


def _baselines(reports: Reports) -> dict[tuple[str, str], dict[str, float]]:
    """Model and countermeasure -> accuracy after clean images by run, where at least two runs have it."""
    baselines: dict[tuple[str, str], dict[str, float]] = {}
    trained = dict.fromkeys((result.victim, result.defence) for report in reports.values() for result in report.results)
    for victim, defence in trained:
        accuracies = {name: report.accuracy(CLEAN, victim, defence=defence) for name, report in reports.items()}
        measured = {name: accuracy for name, accuracy in accuracies.items() if not math.isnan(accuracy)}
        if len(measured) > 1:
            baselines[victim, defence] = measured
    return baselines


def baselines_met(reports: Reports) -> bool:
    """Whether every run shares a model that learned from clean images with another: only then can its figure tell."""
    met = (
        name
        for known in _baselines(reports).values()
        for name, accuracy in known.items()
        if accuracy > reports[name].guessing
    )
    return set(met) == set(reports)


def learned(report: Report, victim: str) -> bool | None:
    """Whether a model learned anything from clean images, with whatever countermeasure; None if it had none."""
    return None if math.isnan(report.ceiling(victim)) else not report.untold(victim)


def gaps(reports: Reports) -> list[str]:
    """What was measured for some runs only, and runs that look wrong or say nothing: a sentence each."""
    sentences = [
        f"Something is odd about {name}: {doubt}." for name, report in reports.items() for doubt in report.doubts
    ]
    if unknown := [name for name, report in reports.items() if CLEAN not in report.cases]:
        sentences.append(
            f"No model was trained on the clean images for {_and(unknown)}. So it cannot be said what share of their "
            f"lesson gets through there, nor whether they are the images of the other runs. To measure that: "
            f"hf-unlearnable measure RUN --ratios 0,1"
        )
    for victim in dict.fromkeys(victim for report in reports.values() for victim in report.victims):
        if in_vain := [name for name, report in reports.items() if learned(report, victim) is False]:
            why = reports[in_vain[0]].untold(victim)
            longer_training = worded(python="Training(epochs=30)", shell="--epochs 30")
            sentences.append(
                f"{victim} cannot tell for {_and(in_vain)} what protection takes away: {why}. Longer "
                f"training ({longer_training}), more images, or other test images may help."
            )
    victims = {name: report.victims for name, report in reports.items()}
    defences = {
        name: [row_name(result.defence) for result in report.results if result.case == PROTECTED]
        for name, report in reports.items()
    }
    return [*sentences, *_not_in_all(victims, "Models"), *_not_in_all(defences, "Countermeasures")]


def _not_in_all(measured: Mapping[str, Sequence[str]], what: str) -> Iterator[str]:
    """A sentence for all that the same runs lack; it names the runs that lack it, or those that have it if fewer.

    Args:
        measured: the name of a run -> the names of what was measured for it.
        what: these are, in the plural: "Models".
    """
    runs_with: dict[str, list[str]] = {}
    for run, names in measured.items():
        for name in dict.fromkeys(names):
            runs_with.setdefault(name, []).append(run)
    names_by_runs: dict[tuple[str, ...], list[str]] = {}
    for name, runs in runs_with.items():
        names_by_runs.setdefault(tuple(runs), []).append(name)
    for having, names in names_by_runs.items():
        lacking = [run for run in measured if run not in having]
        if not lacking:
            continue
        if len(having) < len(lacking):
            yield f"{what} measured for {_and(having)} only: {', '.join(names)}."
        else:
            yield f"{what} not measured for {_and(lacking)}: {', '.join(names)}."


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
