"""A report as it may be shown: public names and numbered seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hf_unlearnable.defences.base import public_defence
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.models.public_names import public_name


def public_reports(reports: Sequence[Report]) -> list[Report]:
    """Models and countermeasures by names that anyone may know, seeds counted from 1: the same in all reports."""
    victims = _numbered(
        {victim: public_name(victim).replace("`", "") for report in reports for victim in report.victims}
    )
    defences = _numbered({defence: public_defence(defence) for report in reports for defence in report.defences})
    numbers = {seed: index for index, seed in enumerate(dict.fromkeys(s for r in reports for s in r.seeds), 1)}
    public = []
    for report in reports:
        results = tuple(
            replace(
                result,
                victim=victims[result.victim],
                defence=defences[result.defence],
                seed=numbers[result.seed],
            )
            for result in report.results
        )
        doubts = tuple(_renamed(doubt, defences) for doubt in report.doubts)
        factors = {public_defence(name): factor for name, factor in report.epochs_factors.items()}
        public.append(replace(report, results=results, doubts=doubts, epochs_factors=factors))
    return public


def _renamed(sentence: str, names: Mapping[str, str]) -> str:
    """A sentence with public names for the owner's; the longest first, since one may be a part of another."""
    for own in sorted(names, key=len, reverse=True):
        if names[own] != own:
            sentence = sentence.replace(own, names[own])
    return sentence


def _numbered(names: Mapping[str, str]) -> dict[str, str]:
    """Own name -> public name; a number keeps two models of the owner apart."""
    given: dict[str, str] = {}
    for own, public in names.items():
        taken = sum(other == public or other.startswith(f"{public} (") for other in given.values())
        given[own] = f"{public} ({taken + 1})" if taken else public
    return given
