"""The report of a run as one HTML page: a pure function from facts to text that loads nothing from anywhere."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_unlearnable.evaluation.report import CLEAN, CLEAN_PART, MIX, PROTECTED, RATIO, SEQUENTIAL, Report
from hf_unlearnable.evaluation.verdicts import (
    BROKEN,
    LEAKING,
    UNKNOWN,
    Cell,
    Verdict,
    baseline_defence,
    row_name,
    stops_early,
    worst,
)
from hf_unlearnable.methods import find_paper
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.privacy import PRIVATE_PAGE
from hf_unlearnable.protection.public_names import public_description
from hf_unlearnable.reports.charts import COLOURS, change_histogram, learning_curves
from hf_unlearnable.reports.images import Sample
from hf_unlearnable.reports.public import public_reports
from hf_unlearnable.version import __version__

CASE_WORDS = {
    CLEAN: "clean images",
    PROTECTED: "protected images",
    MIX: "{:.0%} protected, the rest clean",
    CLEAN_PART: "that clean part alone",
    SEQUENTIAL: "that clean part first, then its protected part",
}

templates = Environment(
    loader=PackageLoader("hf_unlearnable.reports"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=True,
)


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
        shares: of ``report.change_shares``; empty if the originals are not known.
        no_pictures: why pictures or the histogram are missing; empty if they are not.
        origin: what was protected.
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
            samples=tuple(replace(sample, clean=None, amplified=None) for sample in self.samples),
            # Why is told with the path where the originals were looked for.
            no_pictures="" if self.samples and self.shares else "Not all pictures could be made.",
            origin="",
            findings="",
            command="hf-unlearnable report RUN --public",
            public=True,
        )


def page(facts: PageFacts) -> str:
    """Render the page: HTML with its pictures inside, without scripts, that asks nobody for anything.

    Raises:
        RecipeError: matplotlib is not installed.
    """
    report = facts.report if facts.report and facts.report.results else None
    verdicts = [Verdict.of(report, victim, defence) for victim, defence in _pairs(report)] if report else []
    book = baseline_defence([report]) if report else ""
    by_the_book = [verdict for verdict in verdicts if verdict.defence == book]
    described = facts.protection
    words = {
        "facts": facts,
        "mark": PRIVATE_PAGE if not facts.public else "",
        "version": __version__,
        "report": report,
        "book": book,
        "budget": described.budget if described else None,
        "paper": find_paper(described.method_name) if described else None,
        "recipe": described.settings if described else {},
        "pictures": [_pictures(sample) for sample in facts.samples],
        "histogram": _histogram(facts.shares),
        "headline": worst(by_the_book),
        "weakest": worst([verdict for verdict in verdicts if verdict.defence != book]),
        "lucky": worst(by_the_book, peak=True),
        "judged": [verdict for verdict in verdicts if verdict.state != UNKNOWN],
        "counter_broken": sum(v.state == "broken" for v in verdicts if v.defence != book),
        "counter_judged": sum(v.state != UNKNOWN for v in verdicts if v.defence != book),
        "blocks": [_block(report, victim, book) for victim in report.victims] if report else [],
        "curves": [_curves(report, *pair) for pair in _pairs(report)] if report else [],
        "table": _table(report, book) if report else [],
        "mixtures": _mixtures(report, book) if report else [],
        "summary": _summary(report) if report else [],
        "broken_from": BROKEN,
        "leaking_from": LEAKING,
        "colours": COLOURS,
    }
    return templates.get_template("report.html").render(words)


def _pairs(report: Report) -> list[tuple[str, str]]:
    return [(victim, defence) for victim in report.victims for defence in report.defences]


def _table(report: Report, book: str) -> list[dict[str, Any]]:
    """The countermeasures: a row each, a cell for every model; stopping early is read off the thief by the book."""
    rows = [
        {"defence": row_name(defence), "cells": [Cell.of(report, victim, defence) for victim in report.victims]}
        for defence in sorted(report.defences, key=lambda defence: defence != book)
    ]
    if not stops_early(report):
        cells = [Cell.of(report, victim, book, stopped=True) for victim in report.victims]
        rows.insert(1, {"defence": row_name(book, stopped=True), "cells": cells})
    return rows


def _block(report: Report, victim: str, defence: str) -> dict[str, Any]:
    """The bars of one model."""
    bars = []
    for case, ratio in report.lines():
        choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
        mean, spread = report.accuracy(case, victim, **choice), report.spread(case, victim, **choice)
        alone = report.accuracy(CLEAN_PART, victim, **choice) if case in (MIX, SEQUENTIAL) else math.nan
        bars.append(
            {
                "case": case,
                "words": CASE_WORDS[case].format(ratio),
                "mean": mean,
                "spread": spread,
                "peak": report.accuracy(case, victim, "peak", **choice),
                "low": max(0.0, mean - spread),
                "high": min(1.0, mean + spread),
                "alone": alone,
                "seeds": len(report.values(case, victim, **choice)),
            }
        )
    return {"victim": victim, "bars": bars, "clean": report.accuracy(CLEAN, victim, defence=defence)}


def _curves(report: Report, victim: str, defence: str) -> dict[str, Any]:
    said = []
    for case, ratio in report.lines():
        choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
        if len(report.values(case, victim, **choice)):
            last, peak = (report.accuracy(case, victim, figure, **choice) for figure in ("last", "peak"))
            said.append(f"{CASE_WORDS[case].format(ratio)}: last {100 * last:.1f}, best {100 * peak:.1f}")
    if not said:
        return {"victim": victim, "defence": defence, "picture": "", "said": ""}
    stream = io.BytesIO()
    learning_curves(report, victim, defence, stream)
    return {
        "victim": victim,
        "defence": defence,
        "picture": _uri(stream.getvalue(), "svg+xml"),
        "said": "; ".join(said),
    }


def _mixtures(report: Report, defence: str) -> list[dict[str, Any]]:
    """What protected images add for a thief who has clean ones too."""
    found = []
    for victim in report.victims:
        for case, ratio in report.lines():
            if case in (MIX, SEQUENTIAL):
                choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
                gain = report.theft_gain(victim, case=case, **choice)
                if not math.isnan(gain):
                    alone = report.accuracy(CLEAN_PART, victim, **choice)
                    together = report.accuracy(case, victim, **choice)
                    found.append(
                        {"victim": victim, "case": case, "ratio": ratio, "alone": alone, "with": together, "gain": gain}
                    )
    return found


def _summary(report: Report) -> list[dict[str, Any]]:
    """Every figure that was measured, averaged over the seeds."""
    lines = []
    for victim, defence in _pairs(report):
        for case, ratio in report.lines():
            choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
            if count := len(report.values(case, victim, **choice)):
                figures = {
                    figure: tuple(of(case, victim, figure, **choice) for of in (report.accuracy, report.spread))
                    for figure in ("last", "peak")
                }
                words = case if case in RATIO else f"{case}, {ratio:.0%} protected"
                lines.append({"victim": victim, "defence": defence, "case": words, "seeds": count, **figures})
    return lines


def _pictures(sample: Sample) -> dict[str, Any]:
    kinds = {"clean": sample.clean, "protected": sample.protected, "perturbation, amplified": sample.amplified}
    return {
        "name": sample.name,
        "size": sample.size,
        "kinds": {kind: _uri(content, "png") for kind, content in kinds.items() if content is not None},
    }


def _histogram(shares: Mapping[int, float]) -> str:
    if not shares:
        return ""
    stream = io.BytesIO()
    change_histogram(shares, stream)
    return _uri(stream.getvalue(), "svg+xml")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
