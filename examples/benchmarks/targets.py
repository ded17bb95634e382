"""What the protection of photographs was to reach against each thief, and what it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import imagenet
import numpy as np
from common import ROOT
from numpy.typing import NDArray
from result_files import ResultFile
from selection import many, of_each_fit
from tables import NONE, markdown, told, way
from wording import PATCHES, recipe_called

from hf_unlearnable.benchmark.rows import Table, tables_of
from hf_unlearnable.defences import Defence
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED
from hf_unlearnable.evaluation.report import Report

CHANCE = 0.1
RECIPES = {"texture": "texture", "mi-ue-learned": "mi-ue"}  # as the benchmarks call them, and the leaderboard
DEFAULT = "mi-ue-learned"
LEADERBOARD, SET, HELD_BACK = ROOT / "docs" / "leaderboard", "photo-patches-4000", "photo-patches-2-4000"


@dataclass(frozen=True)
class Target:
    """What a thief was to learn at most of 4,000 photo patches at 8/255, in shares of the clean test images.

    Attributes:
        thief: in words.
        victim: with the name of its training, as reports have it.
        defence: as ``Defence.parse`` reads it.
        most: at the last epoch.
        most_at_peak: at the best one, if that was asked for.
        half: at most half of the way from chance to what clean images teach the same thief, instead of ``most``.
        below: at least so much below what clean images teach, instead of ``most``.
        epochs: of an ordinary training of the measurement.
    """

    thief: str
    victim: str = "small-resnet"
    defence: str = "none"
    most: float = 1.0
    most_at_peak: float = 1.0
    half: bool = False
    below: float = 0.0
    epochs: int = 12

    @property
    def called(self) -> str:
        """The defence, as it is compared."""
        return self.defence if self.defence in imagenet.DEFENCES else str(Defence.parse(self.defence))

    @property
    def wants(self) -> bool:
        """Whether anything was asked for."""
        return self.half or self.below > 0 or self.most < 1

    @property
    def asked(self) -> str:
        """In words."""
        if self.half:
            return "half of the way"
        if self.below:
            return f"{100 * self.below:.0f} below clean"
        if not self.wants:
            return "to be told"
        return f"{100 * self.most:.0f}" + (f" ({100 * self.most_at_peak:.0f})" if self.most_at_peak < 1 else "")

    def ways(self, clean: float) -> list[float]:
        """What was asked for at the last epoch, and at the best one if that was, as shares of the way to clean."""
        if self.half:
            return [0.5]
        most = [clean - self.below if self.below else self.most, self.most_at_peak]
        return [way(one, clean, CHANCE) for one in most if one < 1]

    def met(self, last: float, peak: float, clean: float) -> bool:
        """Whether figures are as low as was asked for."""
        return within([way(one, clean, CHANCE) for one in (last, peak)], self.ways(clean))


PLAIN = {"most": 0.18, "most_at_peak": 0.30}
TARGETS = (
    Target("small ResNet", **PLAIN),
    Target("small VGG", "small-vgg", **PLAIN),
    Target("ResNet with a 7x7 stem", "strided-resnet", **PLAIN),
    Target("a short training by AdamW", "small-resnet, short", **PLAIN),
    Target("four times as long", epochs=48, **PLAIN),
    Target("JPEG at quality 10", defence="jpeg:10", most=0.20),
    Target("JPEG at quality 50", defence="jpeg:50", most=0.20),
    Target("greyscale", defence="grayscale", most=0.20),
    Target("blur", defence="blur", most=0.20),
    Target("noise", defence="noise", most=0.20),
    Target("small ViT", "small-vit, adamw", most=0.25),
    Target("MLP", "mlp, adamw", most=0.30),
    Target("a new head on a network of ImageNet, 3 epochs", defence="imagenet-probe", epochs=3, most=0.22),
    Target("that network fine-tuned, 3 epochs", defence="imagenet-fine-tune", epochs=3, most=0.22),
    Target("two bits of depth", defence="bitdepth:2", half=True),
    Target("orthogonal projection", defence="orthogonal-projection", half=True),
    Target("UEraser's light form", defence="ueraser-lite", half=True),
    Target("adversarial training", defence="adversarial:4", below=0.10),
    Target("random features and ridge", "random-features"),
    Target("five nearest neighbours", "knn"),
)


def within(reached: list[float], asked: list[float]) -> bool:
    """Whether shares of the way, at the last epoch and at the best one, are at most those that were asked for."""
    return all(one <= most for one, most in zip(reached, asked, strict=False))


@cache
def leaderboard() -> list[Table]:
    """Its tables, read once."""
    return tables_of([LEADERBOARD])


def reports_of(recipe: str, epochs: int) -> list[list[Report]]:
    """What measured a recipe with victims of so many epochs: a list for each source, of the reports of its fits."""
    wanted = {"dataset": PATCHES, "recipe": recipe, "budget": "linf:8", "epochs": epochs}
    kinds: dict[object, list[ResultFile]] = {}
    for one in many("protection_strength", **wanted):
        kinds.setdefault(one.experiment.victims, []).append(one)
    fits = [one.report for results in kinds.values() for one in of_each_fit(results)]
    thieves: dict[int, list[Report]] = {}  # of every fit, by the number of victims
    for one in many("countermeasures", **wanted):
        thieves.setdefault(len(one.report.seeds), []).append(one.report)
    return [fits, *thieves.values(), on_leaderboard(SET, recipe, epochs)]


def on_leaderboard(dataset: str, recipe: str, epochs: int) -> list[Report]:
    """What the leaderboard has of a recipe at 8/255: one report of all fits, or none."""
    return [
        row.report
        for table in leaderboard()
        if table.dataset["name"] == dataset and table.dataset["epochs"] == epochs
        for row in table.rows
        if row.name == RECIPES[recipe] and row.budget == "linf:8"
    ]


def values_of(reports: list[Report], case: str, target: Target, figure: str) -> NDArray[np.float64]:
    """The accuracies of all fits and victims."""
    found = [
        one.values(case, target.victim, figure, defence=defence)
        for one in reports
        for defence in one.defences
        if (imagenet.named(defence) or defence) == target.called
    ]
    return np.concatenate(found or [[]])


def cell(sources: list[list[Report]], target: Target) -> tuple[str, NDArray[np.float64]]:
    """What the table says of one recipe against one thief, and what clean images teach that thief."""
    reports = max(sources, key=lambda one: len(values_of(one, PROTECTED, target, "last")))
    last, peak = (values_of(reports, PROTECTED, target, figure) for figure in ("last", "peak"))
    clean = values_of(reports, CLEAN, target, "last")
    if not len(last):
        return NONE, clean[:0]
    figures = f"{told(last)} ({100 * peak.mean():.1f})"
    met = target.wants and target.met(last.mean(), peak.mean(), clean.mean())
    return f"{figures}, {len(last)}{', met' if met else ''}", clean


def held_back() -> str:
    """How far up the default lets thieves of the photographs come that nothing was tuned on.

    What was asked for there is the share of the way that the targets of the other photographs are.
    """
    sources = {epochs: reports_of(DEFAULT, epochs) for epochs in {target.epochs for target in TARGETS}}
    rows = []
    for target in TARGETS:
        reports = on_leaderboard(HELD_BACK, DEFAULT, target.epochs)
        last, peak = (values_of(reports, PROTECTED, target, figure) for figure in ("last", "peak"))
        if not len(last):
            continue
        clean = values_of(reports, CLEAN, target, "last")
        asked = target.ways(cell(sources[target.epochs], target)[1].mean())
        reached = [way(one.mean(), clean.mean(), CHANCE) for one in (last, peak)]
        met = target.wants and within(reached, asked)
        figures = f"{told(last)} ({100 * peak.mean():.1f}), {len(last)}"
        rows.append([target.thief, _ways(asked), told(clean), figures, _ways(reached) + (", met" if met else "")])
    return markdown(["thief", "asked for", "clean", recipe_called(DEFAULT), "of the way"], rows)


def _ways(shares: list[float]) -> str:
    """In per cent: of the last epoch and, in brackets, of the best one."""
    last, *peak = (f"{100 * one:.0f} %" for one in shares) if shares else ("to be told",)
    return f"{last} ({peak[0]})" if peak else last


def shares() -> str:
    """How far up from chance to clean images thieves get, of sets of photographs with more and more classes."""
    found: dict[tuple[str, str, str], list[ResultFile]] = {}
    for one in many("protection_strength", budget="linf:8", epochs=12):
        about = one.experiment
        if (about.dataset or "").startswith(PATCHES) and about.recipe in RECIPES:
            for victim in one.report.victims:
                found.setdefault((about.dataset or "", about.recipe, victim), []).append(one)
    rows = []
    for (dataset, recipe, victim), results in sorted(
        found.items(), key=lambda item: (-item[1][0].report.chance, item[0])
    ):
        reports = [one.report for one in of_each_fit(results)]
        clean, last, peak = (
            np.concatenate([one.values(case, victim, figure) for one in reports])
            for case, figure in ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
        )
        chance = reports[0].chance
        share = way(last.mean(), clean.mean(), chance)
        figures = [f"{100 * chance:.0f}", told(clean), f"{told(last)} ({100 * peak.mean():.1f}), {len(last)}"]
        rows.append([dataset, recipe_called(recipe), victim, *figures, f"{100 * share:.0f} %"])
    return markdown(["set", "method", "thief", "chance", "clean", "protected", "of the way"], rows)


def table() -> str:
    """One row for each thief."""
    rows = []
    lengths = {target.epochs for target in TARGETS}
    sources = {(recipe, epochs): reports_of(recipe, epochs) for recipe in RECIPES for epochs in lengths}
    for target in TARGETS:
        cells = [cell(sources[recipe, target.epochs], target) for recipe in RECIPES]
        rows.append(
            [target.thief, target.asked, told(max((clean for _, clean in cells), key=len)), *(one for one, _ in cells)]
        )
    return markdown(["thief", "asked for", "clean", *map(recipe_called, RECIPES)], rows)
