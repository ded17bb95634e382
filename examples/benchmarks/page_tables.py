"""The tables of docs/results.md and of the README, each from the files of results alone."""

from __future__ import annotations

from collections.abc import Callable

import speed_targets
import targets
from measured import EPOCHS, Measured, on_leaderboard
from recipes_compared import compared
from result_files import ResultFile
from selection import by_fit, fit_seconds, many, mean, only, share
from tables import NONE, differences, markdown, percent, told
from wording import FASHION, PATCHES, budget, called, data

from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL

HALF = 0.5  # of the rows, in tables of mixtures
LIMITS = ("worst", "opposing", "exchanged")  # of mixture_limit.py, in the order of the rows


def strength() -> str:
    """Everything protected, one row for each fit and victim; the sets of 5,000 images are among the mixtures."""
    head = ["data", "budget", "recipe", "fit", "victim", "clean", "protected", "protected, peak epoch", "fit, s"]
    rows = []
    for one in many("protection_strength"):
        if one.experiment.images == 5000 or PROTECTED not in one.report.cases:
            continue
        for victim in one.report.victims:
            cells = [share(one, CLEAN, victim), share(one, PROTECTED, victim), share(one, PROTECTED, victim, "peak")]
            longer = f", {one.experiment.epochs} epochs" if one.experiment.epochs != EPOCHS else ""
            first = [data(one), budget(one), called(one), one.experiment.fit, f"`{victim}`{longer}"]
            row = [*first, *cells, f"{one.figures['fit_seconds']:.0f}"]
            if row not in rows:  # some fits were measured again, beside mixtures
                rows.append(row)
    return markdown(head, rows)


def compute() -> str:
    """What a fit costs and what it reaches, beside the authors' recipe: means over fits and victims."""
    head = ["data", "recipe", "fits", "processor time of a fit, s", "of the authors' recipe", "protected", "peak epoch"]
    rows = []
    for dataset, images in ((FASHION, 3000), (PATCHES, 4000)):
        found = {
            recipe: many(
                "protection_strength", dataset=dataset, images=images, recipe=recipe, budget="linf:8", epochs=12
            )
            for recipe in (
                "mi-ue-paper",
                "mi-ue",
                "mi-ue-short",
                "mi-ue-long",
                "mi-ue-learned",
                "mi-ue-from-waves",
                "mi-ue-variants",
                "em",
                "em-long",
                "em-learned",
                "em-from-waves",
                "texture",
            )
        }
        seconds = {recipe: fit_seconds(results) for recipe, results in found.items() if results}
        for recipe, spent in seconds.items():
            results = found[recipe]
            part = f"{spent / seconds['mi-ue-paper']:.2f}" if "mi-ue-paper" in seconds else NONE
            reached = [by_fit(results, PROTECTED, figure)[0] for figure in ("last", "peak")]
            fits = len({one.experiment.fit for one in results})
            rows.append([data(results[0]), called(results[0]), fits, f"{spent:.0f}", part, *reached])
    return markdown(head, rows)


def mixtures(dataset: str, epochs: int) -> str:
    """How far victims end from their clean half alone, one row for each fit, and what bounds it from below."""
    head = ["budget", "recipe", "fit", "victims", "all protected", "clean half alone", "half protected", "afterwards"]
    rows = []
    found = many("protection_strength", dataset=dataset, epochs=epochs)
    found += many("mixture_ideas", dataset=dataset, epochs=epochs, recipe="beo-stages")
    for one in found:
        report, about = one.report, one.experiment
        if HALF not in report.ratios or (dataset == FASHION and about.images != 5000):
            continue
        recipe = "`BEO(stages=3)`" if about.recipe == "beo-stages" else called(one)
        cells = [percent(report, None, PROTECTED), percent(report, None, CLEAN_PART)]
        cells += [told(differences(report, case), "+.1f") for case in (MIX, SEQUENTIAL)]
        rows.append([budget(one), recipe, about.fit, len(report.seeds), *cells])
    return markdown(head, rows + limits(dataset, epochs))


def limits(dataset: str, epochs: int) -> list[list[object]]:
    """The rows of mixture_limit.py: against the clean half alone of the same seeds, as the control has it."""
    rows: list[list[object]] = []
    found = {recipe: many("mixture_limit", dataset=dataset, epochs=epochs, recipe=recipe) for recipe in LIMITS}
    for one in (one for results in found.values() for one in results):
        # Labels at random know no budget; they were measured beside what is at 8/255.
        alone, where = clean_half(dataset, epochs, one.experiment.budget or "linf:8")
        reached = {each["seed"]: each["reached"][-1] for each in one.figures["victims"]}
        below = [reached[seed] - alone[seed] for seed in reached]
        rows.append([budget(one), called(one), NONE, len(below), NONE, f"{where}\\*", told(below, "+.1f"), NONE])
    return rows


def clean_half(dataset: str, epochs: int, of_budget: str) -> tuple[dict[int, float], str]:
    """What the clean half alone gives by seed, in the run of ``EM`` at that budget, and mean with spread."""
    result = only("protection_strength", dataset=dataset, epochs=epochs, recipe="em", budget=of_budget, sequential=True)
    cells = [one for one in result.report.results if one.case == CLEAN_PART]
    return {one.seed: one.last for one in cells}, share(result, CLEAN_PART)


def ideas() -> str:
    """Recipes that the package does not hold: what all protected teach, and what a mixture and a later half lose."""
    wanted = ((FASHION, "linf:16"), (PATCHES, "linf:8"))
    found: dict[str, dict[str, ResultFile]] = {}
    for dataset, of_budget in wanted:
        for one in many("mixture_ideas", dataset=dataset, budget=of_budget):
            if len(one.report.seeds) == 3:
                found.setdefault(one.experiment.recipe or "", {})[dataset] = one
    rows = []
    for recipe, by_set in sorted(found.items()):
        cells = []
        for dataset, _ in wanted:
            one = by_set.get(dataset)
            cells += [percent(one.report, None, PROTECTED) if one else ""]
            cells += [told(differences(one.report, case), "+.1f") if one else "" for case in (MIX, SEQUENTIAL)]
        rows.append([f"`{recipe}`", *cells])
    of_clothes, of_patches = "Fashion-MNIST, 16/255: all protected", "photo patches, 8/255: all protected"
    return markdown(["idea", of_clothes, "mixed", "afterwards", of_patches, "mixed", "afterwards"], rows)


def readme() -> str:
    """The table of the README: photographs first, since they are the judge of strength."""
    chosen = {target.thief: targets.measured(target, targets.DEFAULT) for target in targets.TARGETS}
    sets = (targets.LOOKED_AT, targets.HELD_BACK, targets.CLOTHES)
    beside, held_back, clothes = (on_leaderboard(one, targets.DEFAULT, EPOCHS) for one in sets)
    mixtures = [one for one in many("protection_strength", dataset=PATCHES, recipe=targets.DEFAULT) if _is_mixed(one)]
    mixed = Measured.of([one.report for one in mixtures], "small-resnet", case=MIX, beside=CLEAN_PART)
    victim, attack = "a small ResNet", "who knows the method (`class-clusters:1`)"
    of_patches: list[tuple[str, Measured]] = [
        (victim, chosen["small ResNet"]),
        ("a ResNet with a 7x7 stem", chosen["ResNet with a 7x7 stem"]),
        ("a small ViT", chosen["small ViT"]),
        ("who compresses to JPEG at quality 10", chosen["JPEG at quality 10"]),
        ("who picks the epoch by images held out", chosen["who picks the epoch by a tenth that he holds out"]),
        ("who trains a new head on a network of ImageNet", chosen["a new head on a network of ImageNet, 3 epochs"]),
        ("who projects class patterns out", chosen["orthogonal projection"]),
        (attack, chosen[attack]),
    ]
    rows: list[list[object]] = [["photo patches, 4,000", thief, *own.cells] for thief, own in of_patches]
    *cells, alone = mixed.cells
    rows.append(["photo patches, 4,000", "who has half of the images clean", *cells, f"{alone}, that half alone"])
    rows += [
        [name, thief, *Measured.of(fits, "small-resnet", defence).cells]
        for name, fits, thief, defence in (
            ("other photographs, 4,000", beside, victim, "none"),
            ("held back, 4,000", held_back, victim, "none"),
            ("held back, 4,000", held_back, "who compresses to JPEG at quality 10", "jpeg:10"),
            ("Fashion-MNIST, 3,000", clothes, victim, "none"),
        )
    ]
    return markdown(["data", "thief", "protected", "fits x victims", "spread over fits, over victims", "clean"], rows)


def _is_mixed(one: ResultFile) -> bool:
    return HALF in one.report.ratios and MIX in one.report.cases


TABLES: dict[str, Callable[..., str]] = {
    "strength": strength,
    "mixtures": mixtures,
    "ideas": ideas,
    "targets": targets.table,
    "learns": targets.learns,
    "elsewhere": targets.elsewhere,
    "compared": compared,
    "clothes": targets.clothes,
    "shares": targets.shares,
    "speed_targets": speed_targets.table,
    "compute": compute,
}
__all__ = ["TABLES", "mean", "readme"]
