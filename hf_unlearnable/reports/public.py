"""A report as it may be shown: public names and numbered seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.protection.public_names import UNNAMED, public_name


def public_reports(reports: Sequence[Report]) -> list[Report]:
    """Models and countermeasures by names that anyone may know, seeds counted from 1: the same in all reports."""
    victims = _numbered({one: public_name(one).strip("`") for report in reports for one in report.victims})
    defences = _numbered({one: _public_defence(one) for report in reports for one in report.defences})
    numbers = {seed: index for index, seed in enumerate(dict.fromkeys(s for r in reports for s in r.seeds), 1)}
    told = []
    for report in reports:
        results = tuple(
            replace(one, victim=victims[one.victim], defence=defences[one.defence], seed=numbers[one.seed])
            for one in report.results
        )
        told.append(replace(report, results=results))
    return told


def _numbered(names: Mapping[str, str]) -> dict[str, str]:
    """Own name -> public name; a number keeps two models of the owner apart."""
    given: dict[str, str] = {}
    for own, public in names.items():
        taken = sum(other == public or other.startswith(f"{public} (") for other in given.values())
        given[own] = f"{public} ({taken + 1})" if taken else public
    return given


def _public_defence(defence: str) -> str:
    """As it was given if its settings are numbers or words of its own, never a path."""
    name, _, settings = defence.partition(":")
    plain = r"(\w+=)?(-?\d+(\.\d+)?(e-?\d+)?|true|false)"
    if not settings or all(re.fullmatch(plain, part, re.IGNORECASE) for part in settings.split(",")):
        return defence
    known = public_name(settings)
    return f"{name}:{known.strip('`')}" if known != UNNAMED else f"{name}: {UNNAMED}"
