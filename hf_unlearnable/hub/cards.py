"""Dataset and model cards: pure functions from facts to the text of README.md.

A card has three zones. What its owner wrote is everything outside of marked parts, and every key of the YAML header
that stands there already: it is kept. What is filled in (about, sources) and what is computed (one part for each config
and split) is written anew by every push.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData
from huggingface_hub.repocard_data import CardData

from hf_unlearnable.data.annotations import TASKS
from hf_unlearnable.defences.base import public_defence
from hf_unlearnable.errors import DataError
from hf_unlearnable.evaluation.lines import Line
from hf_unlearnable.evaluation.report import NO_DEFENCE, Report
from hf_unlearnable.evaluation.verdicts import best_thief, verdict_in_words
from hf_unlearnable.hub.card_header import EMPTY, licence_name, merge, rename, set_licence
from hf_unlearnable.methods import find_paper, methods_used
from hf_unlearnable.methods.labelling import AUTO, Labels
from hf_unlearnable.models.public_names import public_name
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.public_names import SECRET, public_description
from hf_unlearnable.reports.public import public_reports
from hf_unlearnable.reports.rendering import plain_markdown, templates_of
from hf_unlearnable.version import __version__

TAG = "hf-unlearnable:"  # what follows is the method of a dataset, or the role of a model

# From the papers, on CIFAR-10, or measured by this project on other images (docs/results.md): nothing here was measured
# for the dataset of a card.
COUNTERMEASURES = (
    ("finding what the images of a class share, and taking it out (`class-clusters:1`, `principal-directions:2`)",
     "measured by the authors of `hf_unlearnable` on 4,000 photo patches at 8/255: models learn as much as from clean "
     "images of `mi-ue` (61.1 %), `texture` (61.3 %; three fits of three victims each) and `em` (63.3 %, of one each)"),
    ("JPEG compression at quality 10, or greyscale conversion", "known from the literature, not measured here: brings "
     "models back to 80 % and more on CIFAR-10 against every method, MI-UE too (arXiv 2603.03725). Of 4,000 photo "
     "patches at 8/255 `mi-ue` left 20.3 % of 59.0 and 13.9 of 47.2, of other photographs more"),
    ("diffusion purification", "known from the literature, not measured here: likewise 80 % and more"),
    ("adversarial training", "known from the literature, not measured here: 70.6 % on CIFAR-10 at radius 8/255 "
     "against MI-UE at the same budget, 17.4 % at radius 2/255 (arXiv 2603.03725). Of 4,000 photo patches `mi-ue` left "
     "53.4 % of 65.3 to it, at radius 4/255 (three fits of three victims)"),
    ("fine-tuning a model trained on other images", "known from the literature, not measured here: weakens unlearnable "
     "examples (arXiv 2603.04731, 2605.05224). Of 4,000 photo patches `mi-ue` left 31.0 % of 61.6 to a new head on a "
     "network of ImageNet, and 14.7 of 44.2 where that was fine-tuned for three epochs"),
    ("some clean images of the same kind", "protected images spoil nothing that a thief has clean: compare the mixture "
     "with its clean half alone, where it was measured"),
    ("stopping at the right epoch", "early epochs can do better than the last one: compare last and best epoch, where "
     "they were measured"),
)  # fmt: skip

LEARNERS = {  # what is beside the images -> who learns from it
    "boxes": "a detector",
    "masks": "a model that segments",
    "several labels": "a model that names several things in one image",
    "captions": "a model of images and text, such as CLIP or a diffusion model,",
}

_templates = templates_of("hf_unlearnable.hub", escape=False)


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """All that a dataset card says.

    Attributes:
        repo_id: USER/NAME.
        images: how many are published.
        protection: what it says of itself; seed, digest and anything local in it are left out of the card.
        verification: ``Verification.as_dict()`` of released images and their originals.
        read_back: whether those are all images as they were read back, else a sample at fitting.
        config: of the dataset.
        split: of the dataset, ``"train+validation"`` for several.
        clean_splits: published with it, unprotected.
        report: of ``learnability``; None if it was not measured.
        licence: a licence identifier of the Hub, or the name of another one; takes the place of any other.
        carried: licence keys of the dataset that was protected, for a card that states none.
        source: Hub id of the dataset that was protected, if anyone may know it.
        title: given by the user; takes the place of an earlier one.
        description: given by the user; for a card that does not exist yet.
        preview: path of the picture in the repository.
        beside: what the dataset holds beside images and labels, as ``kinds_beside`` words it.
    """

    repo_id: str
    images: int
    protection: Description
    verification: Mapping[str, Any]
    read_back: bool = True
    config: str = "default"
    split: str = "train"
    clean_splits: tuple[str, ...] = ()
    report: Report | None = None
    licence: str | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    title: str | None = None
    description: str | None = None
    preview: str | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """All that the card of a surrogate or a victim says.

    Attributes:
        repo_id: USER/NAME.
        role: a surrogate was there when perturbations were made; a victim measured them.
        architecture: class name.
        parameters: how many.
        classes: how many.
        built_in: whether this package defines the architecture.
        method: name of the method of the protection.
        case: what a victim was trained on, as ``Report.cases`` names it.
        accuracy: on clean test images, in [0, 1].
        licence: a licence identifier of the Hub, or the name of another one.
        title: given by the user; takes the place of an earlier one.
        description: given by the user; for a card that does not exist yet.
    """

    repo_id: str
    role: Literal["surrogate", "victim"]
    architecture: str
    parameters: int
    classes: int
    built_in: bool = False
    method: str | None = None
    case: str | None = None
    accuracy: float | None = None
    licence: str | None = None
    title: str | None = None
    description: str | None = None


def dataset_card(facts: DatasetFacts, existing: str | None = None) -> str:
    """Render the card of a protected dataset.

    Args:
        facts: what to say.
        existing: the card that is there; what its owner wrote in it is kept.

    Raises:
        DataError: the existing card has a marked part that begins and does not end.
        RecipeError: a description for a card that is there and does not have it.
    """
    name = facts.repo_id.split("/")[-1]
    methods = methods_used(facts.protection.method_name, facts.protection.findings)
    words = {
        **_shared(facts.repo_id, facts.title, facts.description),
        **{key: getattr(facts, key) for key in ("config", "split", "clean_splits", "preview", "source")},
        "method": _in_code(facts.protection.method_name),
        "made_elsewhere": facts.protection.made_elsewhere,
        "countermeasures": COUNTERMEASURES,
    }
    parts = {
        "about": _render("dataset_about", words),
        f"split {facts.config}/{facts.split}": _render("dataset_split", {**words, **_protection_words(facts)}),
    }
    card = DatasetCard(_unix(existing))
    given = DatasetCardData(
        pretty_name=facts.title or name,
        task_categories=[TASKS[kind] for kind in facts.beside if kind in TASKS] or ["image-classification"],
        tags=["unlearnable-examples", "hf-unlearnable", *(f"{TAG}{_in_code(method)}" for method in methods)],
        source_datasets=[f"extended|{facts.source}"] if facts.source else None,
    )
    rename(card, facts.title, facts.description)
    merge(card, given.to_dict())
    set_licence(card, facts.licence, facts.carried)
    parts["sources"] = _render("sources", {**words, **_sources(card.data)})
    card.text = _assemble(card.text, "dataset_given", words, parts)
    return str(card)


def model_card(facts: ModelFacts, existing: str | None = None) -> str:
    """Render the card of a surrogate or victim that somebody chose to publish; see ``dataset_card``."""
    words = {
        **_shared(facts.repo_id, facts.title, facts.description),
        **{key: getattr(facts, key) for key in ("role", "architecture", "classes", "built_in", "method", "case")},
        "parameters": f"{facts.parameters:,}",
        "accuracy": facts.accuracy,
        "source": None,
    }
    card = ModelCard(_unix(existing))
    given = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["unlearnable-examples", "hf-unlearnable", f"{TAG}{facts.role}"],
    )
    rename(card, facts.title, facts.description)
    merge(card, given.to_dict())
    set_licence(card, facts.licence, {})
    parts = {
        "about": _render("model_about", words),
        "sources": _render("sources", {**words, **_sources(card.data, facts.method)}),
    }
    card.text = _assemble(card.text, "model_given", words, parts)
    return str(card)


def _unix(existing: str | None) -> str:
    return (existing or EMPTY).replace("\r\n", "\n")


def _shared(repo_id: str, title: str | None, description: str | None) -> dict[str, Any]:
    return {
        "repo_id": repo_id,
        "title": title or repo_id.split("/")[-1],
        "description": description,
        "version": __version__,
    }


def _sources(header: CardData, *methods: str | None) -> dict[str, Any]:
    """The licence, and the papers to cite: of these methods, and of those that the tags of a header name."""
    tags = header.to_dict().get("tags") or []
    tagged = [str(tag).removeprefix(TAG) for tag in tags if str(tag).startswith(TAG)]
    papers = [find_paper(method) for method in [*methods, *tagged]]
    return {"licence": licence_name(header), "papers": list(dict.fromkeys(filter(None, papers)))}


def _render(template: str, words: Mapping[str, Any]) -> str:
    return _templates.get_template(f"{template}.md").render(words).strip() + "\n"


def _protection_words(facts: DatasetFacts) -> dict[str, Any]:
    described, figures, report = facts.protection, facts.verification, facts.report
    blocks = [report.table(*pair) for pair in report.pairs] if report else []
    budget = described.budget
    return {
        "paper": find_paper(described.method_name),
        "budget": f"`{budget}`: {budget.meaning}",
        "surrogates": ", ".join(public_name(name) for name in described.surrogates) or "none",
        "images": facts.images,
        "classes": len(described.classes.names),
        "labels": (labels := Labels.parse(public_description(described).labels or AUTO)).kind,
        "meaning": plain_markdown(labels.meaning),
        "beside": facts.beside,
        "models": [LEARNERS[kind] for kind in facts.beside],
        "others": [line for line in blocks[0] if line.others and line.seeds] if blocks else [],
        "recipe": plain_markdown(
            ", ".join(
                f"{key} {value}"
                for key, value in {"name": described.method_name, **described.settings}.items()
                if key not in SECRET
            )
        ),
        "verification": figures,
        "verified": "all images, as they were read back" if facts.read_back else "a sample, when they were made",
        "psnr": "not defined" if figures["psnr"] is None else f"{figures['psnr']:.1f} dB",
        "delta_e": "" if figures.get("delta_e") is None else f"{figures['delta_e']:.2f}",
        "report": report,
        "untold": report.untold() if report else "",
        "judged": best_thief(report) is not None if report else False,
        "verdict": plain_markdown(verdict_in_words(public_reports([report])[0])) if report else "",
        "columns": [line.card for line in blocks[0]] if blocks else [],
        "rows": [_row(lines) for lines in blocks],
        "mixtures": any(line.case.mixture for lines in blocks for line in lines),
    }


def _in_code(method: str) -> str:
    """A method's name without what would end the code or the tag that it stands in: a damaged file may hold any."""
    return re.sub(r"[^\w.-]+", "-", method)


def _row(lines: list[Line]) -> list[str]:
    """The model, what was done against the protection where that was measured, and every case."""
    victim, defence = lines[0].victim, lines[0].defence
    name = public_name(victim) + ("" if defence == NO_DEFENCE else f", with {plain_markdown(public_defence(defence))}")
    return [name, *(_cell(line) for line in lines)]


def _cell(line: Line) -> str:
    if not line.seeds:
        return "–"
    spread = "" if math.isnan(line.last.spread) else f" ± {100 * line.last.spread:.1f}"
    return f"{100 * line.last.mean:.1f}{spread} ({100 * line.peak.mean:.1f})"


def _assemble(text: str, given: str, words: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    """Put every part between its marks: where they are already, else before the sources, else at the end."""
    if not text.strip():
        text = "\n" + _render(given, words)
    for key, content in parts.items():
        begin = f"<!-- hf-unlearnable: begin {key}; written anew by every push, edit outside -->"
        end = f"<!-- hf-unlearnable: end {key} -->"
        block = f"{begin}\n{content}{end}"
        if (text.count(begin), text.count(end)) not in ((0, 0), (1, 1)):
            raise DataError(
                f"got a card with {text.count(begin)} times {begin!r} and {text.count(end)} times {end!r}; expected "
                f"one of each or none. Repair README.md in the repository, or take out both lines"
            )
        sources = text.find("<!-- hf-unlearnable: begin sources")
        if begin in text:
            start, stop = text.index(begin), text.index(end) + len(end)
            text = text[:start] + block + text[stop:]
        elif sources >= 0:
            text = f"{text[:sources]}{block}\n\n{text[sources:]}"
        else:
            text = f"{text.rstrip()}\n\n{block}\n"
    return text
