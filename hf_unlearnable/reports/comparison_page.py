"""Several runs on one HTML page, side by side: a pure function from what was measured to text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED, case_of
from hf_unlearnable.evaluation.lines import Line
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.evaluation.verdicts import (
    BROKEN_FROM,
    LEAKING_FROM,
    Verdict,
    VerdictCell,
    baseline_defence,
    judged,
    row_name,
    stops_early,
    table_rows,
    worst,
)
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.privacy import PRIVATE_PAGE
from hf_unlearnable.protection.public_names import public_description
from hf_unlearnable.reports.comparability import SAME, baselines_met, differences, gaps, grouped, learned
from hf_unlearnable.reports.public import public_reports
from hf_unlearnable.reports.run_page import templates
from hf_unlearnable.version import __version__


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A column of the page.

    Attributes:
        name: unlike that of every other run.
        report: of ``learnability``, with results.
        file: where that was read; empty where nobody is to know.
        protection: what it says of itself; None if it is not known.
        verification: ``Verification.as_dict()`` of the released images and their originals; None if not known.
        named: whether the name was chosen for the page, and may be shown to anyone.
    """

    name: str
    report: Report
    file: str = ""
    protection: Description | None = None
    verification: Mapping[str, Any] | None = None
    named: bool = False


def unique(names: Sequence[str]) -> list[str]:
    """The same names, with a number where one was there before."""
    given: list[str] = []
    for name in names:
        number, chosen = 1, name
        while chosen in given:
            number += 1
            chosen = f"{name} ({number})"
        given.append(chosen)
    return given


def for_the_public(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The same without local names and paths and seeds: a run of no known method is called by its number."""
    methods = [str(run.protection) if run.protection else f"run {index}" for index, run in enumerate(runs, 1)]
    names = unique([run.name if run.named else method for run, method in zip(runs, methods, strict=True)])
    reports = public_reports([run.report for run in runs])
    return [
        replace(
            run,
            name=name,
            report=report,
            file="",
            protection=public_description(run.protection) if run.protection else None,
        )
        for run, name, report in zip(runs, names, reports, strict=True)
    ]


def comparison_page(runs: Sequence[ComparedRun], *, command: str, public: bool = False) -> str:
    """Render the page: HTML without scripts or pictures, that asks nobody for anything.

    Args:
        runs: at least two, in the order of the columns.
        command: that made the page.
        public: leave out local names and paths and seeds.
    """
    if public:
        runs, command = for_the_public(runs), "hf-unlearnable report RUN RUN --public"
    reports = {run.name: run.report for run in runs}
    baseline = baseline_defence(list(reports.values()))
    victims = list(dict.fromkeys(victim for report in reports.values() for victim in report.victims))
    tiles = [_tile(run, baseline) for run in runs]
    mixtures = [_mixtures(list(reports.values()), victim, baseline) for victim in victims]
    words = {
        "runs": runs,
        "public": public,
        "mark": "" if public else PRIVATE_PAGE,
        "version": __version__,
        "command": command,
        "baseline": row_name(baseline),
        "tiles": tiles,
        "judged": [tile for tile in tiles if tile["judged"]],
        "unbroken": [tile["name"] for tile in tiles if tile["judged"] and not tile["fell"]],
        "differences": differences(reports, public=public),
        "baselines_met": baselines_met(reports),
        "all_new": all(report.test_seen == 0 for report in reports.values()),
        "gaps": gaps(reports),
        "picks": any(report.picks for report in reports.values()),
        "chances": grouped({name: f"{100 * report.chance:.1f}" for name, report in reports.items()}),
        "tables": [_table(list(reports.values()), victim, baseline) for victim in victims],
        "mixtures": [table for table in mixtures if table["rows"]],
        "details": _details(runs, public),
        "broken_from": BROKEN_FROM,
        "leaking_from": LEAKING_FROM,
        "clean_colour": case_of(CLEAN).colour,
    }
    return templates.get_template("comparison.html").render(words)


def _tile(run: ComparedRun, baseline: str) -> dict[str, Any]:
    """One run in a few words."""
    report = run.report
    verdicts = [Verdict.of(report, victim, defence) for victim, defence in report.pairs]
    known = [verdict for verdict in verdicts if judged(verdict.state)]
    counter = [verdict for verdict in known if verdict.defence != baseline]
    broken = [verdict for verdict in counter if verdict.state == "broken"]
    passed = []
    for defence in dict.fromkeys(verdict.defence for verdict in broken):
        by = [verdict.victim for verdict in broken if verdict.defence == defence]
        tried = sum(verdict.defence == defence for verdict in counter)
        passed.append(defence + (f" (for {', '.join(by)})" if len(by) < tried else ""))
    return {
        "name": run.name,
        "headline": worst(verdict for verdict in known if verdict.defence == baseline),
        "weakest": worst(counter),
        "known": bool(known),
        "in_vain": any(learned(report, victim) is False for victim in report.victims),
        "several": len(report.victims) > 1,
        "fell": any(verdict.state == "broken" for verdict in known),
        "broken": len(broken),
        "judged": len(counter),
        "tried": any(result.case == PROTECTED and result.defence != baseline for result in report.results),
        "passed": passed,
    }


def _table(reports: Sequence[Report], victim: str, baseline: str) -> dict[str, Any]:
    """The countermeasures of one model: a row each, the ceiling of clean images, then a cell for every run."""
    known = dict.fromkeys(defence for report in reports for defence in report.defences if _has(report, victim, defence))
    add_stopped = baseline in known and not all(stops_early(report) for report in reports)
    rows = [
        _row(reports, victim, defence, stopped=stopped)
        for defence, stopped in table_rows(known, baseline, add_stopped=add_stopped)
    ]
    states = [{defence: VerdictCell.of(report, victim, defence).state for defence in known} for report in reports]
    tries = [
        {defence for defence, state in of_run.items() if defence != baseline and judged(state)} for of_run in states
    ]
    shared = set[str].intersection(*filter(None, tries)) if any(tries) else set()
    counts = []
    for of_run, tried in zip(states, tries, strict=True):
        broken = {defence for defence in tried if of_run[defence] == "broken"}
        counts.append({"broken": len(broken), "judged": len(tried), "of_shared": len(broken & shared)})
    return {
        "victim": victim,
        "rows": rows,
        "counts": counts if any(tries) else [],
        "shared": len(shared) if sum(map(bool, tries)) > 1 and any(tried > shared for tried in tries) else None,
    }


def _has(report: Report, victim: str, defence: str) -> bool:
    return any((result.victim, result.defence) == (victim, defence) for result in report.results)


def _row(reports: Sequence[Report], victim: str, defence: str, *, stopped: bool) -> dict[str, Any]:
    figure = "peak" if stopped else "last"
    ceilings = [
        (report.accuracy(CLEAN, victim, figure, defence=defence), report.spread(CLEAN, victim, figure, defence=defence))
        for report in reports
    ]
    known = [ceiling for ceiling in ceilings if not math.isnan(ceiling[0])]
    low, high = min(known, default=(math.nan, math.nan)), max(known, default=(math.nan, math.nan))
    return {
        "name": row_name(defence, stopped=stopped),
        "stopped": stopped,
        "low": low[0],
        "high": high[0],
        "spread": known[0][1] if known else math.nan,
        "differ": bool(known) and high[0] - low[0] > SAME,
        "cells": [
            {
                "own": ceiling[0],
                "learned": learned(report, victim),
                "measured": bool(len(report.values(PROTECTED, victim, defence=defence))),
                "of": VerdictCell.of(report, victim, defence, stopped=stopped),
            }
            for ceiling, report in zip(ceilings, reports, strict=True)
        ],
    }


def _mixtures(reports: Sequence[Report], victim: str, baseline: str) -> dict[str, Any]:
    """What protected images add for a thief who has clean ones too: a row each mixture, a line or None for every run.

    None stands for what was not measured.
    """
    measured: dict[tuple[float, int], dict[int, Line]] = {}  # by ratio and case, then by column
    for column, report in enumerate(reports):
        for line in report.table(victim, baseline):
            if line.case.mixture and line.seeds:
                measured.setdefault((line.ratio, line.case.place), {})[column] = line
    rows = []
    for _, lines in sorted(measured.items()):
        name = next(iter(lines.values())).comparison
        rows.append({"name": name, "cells": [lines.get(column) for column in range(len(reports))]})
    return {"victim": victim, "rows": rows}


def _details(runs: Sequence[ComparedRun], public: bool) -> list[dict[str, Any]]:
    """What is known of every run, a line each; the last ones are to be equal for all."""
    told = [
        ("measurement", [run.file for run in runs], False),
        ("recipe", [_recipe(run.protection) for run in runs], False),
        ("surrogates", [_joined(run.protection.surrogates) if run.protection else "" for run in runs], False),
        ("visibility", [_visibility(run.verification) for run in runs], False),
        ("models", [", ".join(run.report.victims) for run in runs], True),
        ("training images", [str(run.report.images) for run in runs], True),
        ("test images", [str(run.report.test_images) for run in runs], True),
        ("chance", [f"{100 * run.report.chance:.1f} %" for run in runs], True),
        ("steps", [str(run.report.iterations) for run in runs], True),
        ("training", [_listed(run.report.training) for run in runs], True),
        ("seeds", [str(len(run.report.seeds)) if public else _joined(run.report.seeds) for run in runs], True),
        ("versions", [_listed(run.report.versions) for run in runs], True),
    ]
    return [
        {"what": what, "values": values, "equal": len(set(values)) == 1, "expected": expected}
        for what, values, expected in told
        if any(values)
    ]


def _recipe(protection: Description | None) -> str:
    return _joined([protection.method_name, _listed(protection.settings)]) if protection else ""


def _visibility(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return ""
    parts = [f"change at most {figures['max_perturbation']:g}, mean {figures['mean_perturbation']:.2f} levels of 255"]
    parts += [f"PSNR {figures['psnr']:.1f} dB"] if figures["psnr"] is not None else []
    parts += [f"colour difference {figures['delta_e']:.2f}"] if figures.get("delta_e") is not None else []
    return "; ".join(parts)


def _listed(settings: Mapping[str, Any]) -> str:
    return _joined([f"{key.replace('_', ' ')} {value}" for key, value in settings.items()])


def _joined(words: Sequence[object]) -> str:
    return ", ".join(str(word) for word in words if word != "")
