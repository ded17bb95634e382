"""The report of a run as one HTML page: a pure function from facts to text that loads nothing from anywhere."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hf_unlearnable.evaluation.cases import CLEAN, case_of
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
from hf_unlearnable.methods import find_paper
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.findings import Audit
from hf_unlearnable.protection.privacy import PRIVATE_PAGE
from hf_unlearnable.protection.public_names import public_description
from hf_unlearnable.reports.charts import change_histogram, learning_curves, missing
from hf_unlearnable.reports.images import Sample
from hf_unlearnable.reports.public import public_reports
from hf_unlearnable.reports.rendering import templates_of
from hf_unlearnable.version import __version__

templates = templates_of("hf_unlearnable.reports", escape=True)


@dataclass(frozen=True, kw_only=True)
class PageFacts:
    """All that the page says.

    Attributes:
        name: of the run.
        report: of ``learnability``; None if there is none.
        not_measured: why there is none, and what to do.
        protection: what it says of itself; None for a set that another tool made.
        images: rows of the protected set; None if that is not known.
        verification: ``Verification.as_dict()`` of the released images and their originals; None if not known.
        read_back: whether that is of all images as they were read back, else of a sample.
        samples: pictures of images; empty if there are none.
        shares: of ``charts.change_shares``; empty if the originals are not known.
        no_pictures: why pictures or the histogram are missing; empty if they are not.
        origin: what was protected.
        audit: what the set gives away by itself; None if nobody looked.
        findings: what the method found out about its result, as text.
        command: that made the page.
        public: whether all that is private was taken out.
    """

    name: str
    report: Report | None = None
    not_measured: str = ""
    protection: Description | None = None
    images: int | None = None
    verification: Mapping[str, Any] | None = None
    read_back: bool = True
    samples: tuple[Sample, ...] = ()
    shares: Mapping[int, float] = field(default_factory=dict)
    no_pictures: str = ""
    origin: str = ""
    audit: Audit | None = None
    findings: str = ""
    command: str = "hf-unlearnable report RUN"
    public: bool = False

    def for_the_public(self) -> PageFacts:
        """The same without clean pixels, perturbations, local names and paths, seeds and digests."""
        return replace(
            self,
            name="protected images",
            report=public_reports([self.report])[0] if self.report else None,
            protection=None if self.protection is None else public_description(self.protection),
            samples=tuple(replace(sample, clean=None, amplified=None, whole_clean=None) for sample in self.samples),
            # Why is told with the path where the originals were looked for.
            no_pictures="" if self.samples and self.shares else "Not all pictures could be made.",
            origin="",
            audit=None,  # it tells a thief what to try, and names files
            findings="",
            command="hf-unlearnable report RUN --public",
            public=True,
        )


def page(facts: PageFacts) -> str:
    """Render the page: HTML with its pictures inside, without scripts, that asks nobody for anything.

    Where matplotlib is not installed the page says so in the place of its charts.
    """
    report = facts.report if facts.report and facts.report.results else None
    verdicts = [Verdict.of(report, victim, defence) for victim, defence in report.pairs] if report else []
    baseline = baseline_defence([report]) if report else ""
    plain = [verdict for verdict in verdicts if verdict.defence == baseline]
    countered = [verdict for verdict in verdicts if verdict.defence != baseline]
    lines = report.table() if report else []
    described = facts.protection
    words = {
        "facts": facts,
        "mark": PRIVATE_PAGE if not facts.public else "",
        "version": __version__,
        "report": report,
        "baseline": baseline,
        "budget": described.budget if described else None,
        "paper": find_paper(described.method_name) if described else None,
        "recipe": described.settings if described else {},
        "pictures": [_pictures(sample) for sample in facts.samples],
        "no_charts": missing(),
        "histogram": _histogram(facts.shares),
        "headline": worst(plain) or worst(countered),
        "best": worst(verdicts),
        "untold": report.untold() if report else "",
        "weakest": worst(countered),
        "lucky": worst(plain, peak=True),
        "judged": [verdict for verdict in verdicts if judged(verdict.state)],
        "counter_broken": sum(verdict.state == "broken" for verdict in countered),
        "counter_judged": sum(judged(verdict.state) for verdict in countered),
        "blocks": [_block(report, victim, baseline) for victim in report.victims] if report else [],
        "curves": [_curves(report, *pair) for pair in report.pairs] if report else [],
        "table": _table(report, baseline) if report else [],
        "mixtures": [line for line in lines if line.defence == baseline and _adds(line)],
        "summary": [line for line in lines if line.seeds],
        "broken_from": BROKEN_FROM,
        "leaking_from": LEAKING_FROM,
        "clean_colour": case_of(CLEAN).colour,
    }
    return templates.get_template("report.html").render(words)


def _table(report: Report, baseline: str) -> list[dict[str, Any]]:
    """The countermeasures: a row each, a cell for every model."""
    return [
        {
            "defence": row_name(defence, stopped=stopped),
            "cells": [VerdictCell.of(report, victim, defence, stopped=stopped) for victim in report.victims],
        }
        for defence, stopped in table_rows(report.defences, baseline, add_stopped=not stops_early(report))
    ]


def _block(report: Report, victim: str, defence: str) -> dict[str, Any]:
    """The bars of one model."""
    clean = report.accuracy(CLEAN, victim, defence=defence)
    return {"victim": victim, "bars": report.table(victim, defence), "clean": clean}


def _curves(report: Report, victim: str, defence: str) -> dict[str, Any]:
    """The learning curves of one model that meets one countermeasure, also in words for who sees no pictures."""
    words = [
        f"{line.page}: last {100 * line.last.mean:.1f}, best {100 * line.peak.mean:.1f}"
        for line in report.table(victim, defence)
        if line.seeds
    ]
    picture = ""
    if words and not missing():
        stream = io.BytesIO()
        learning_curves(report, victim, defence, stream)
        picture = _uri(stream.getvalue(), "svg+xml")
    return {"victim": victim, "defence": defence, "picture": picture, "words": "; ".join(words)}


def _adds(line: Line) -> bool:
    """Whether a line tells what protected images add for a thief who has clean ones too."""
    return line.theft_gain is not None and not math.isnan(line.theft_gain)


def _pictures(sample: Sample) -> dict[str, Any]:
    whole = {"clean": sample.whole_clean, "protected": sample.whole}
    part = {"clean": sample.clean, "protected": sample.protected, "perturbation, amplified": sample.amplified}
    return {
        "name": sample.name,
        "size": sample.size,
        "whole": {kind: _uri(content, "jpeg") for kind, content in whole.items() if content is not None},
        "part": {kind: _uri(content, "png") for kind, content in part.items() if content is not None},
    }


def _histogram(shares: Mapping[int, float]) -> str:
    if not shares or missing():
        return ""
    stream = io.BytesIO()
    change_histogram(shares, stream)
    return _uri(stream.getvalue(), "svg+xml")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
