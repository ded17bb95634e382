"""Recipes of the leaderboard beside one another: what each thief who met two of them learns of one set at 8/255."""

from __future__ import annotations

import math

from measured import EIGHTEEN, EPOCHS, Measured, on_leaderboard
from tables import NONE, markdown, told
from targets import TARGETS

from hf_unlearnable.evaluation.report import Report

IN_WORDS = {(one.victim, one.called): one.thief for one in reversed(TARGETS) if one.epochs == EPOCHS}


def compared(dataset: str, *recipes: str) -> str:
    """One row for each thief, one column for each recipe, called as on the leaderboard."""
    reports = {recipe: on_leaderboard(dataset, recipe, EPOCHS) for recipe in recipes}
    every = [one for fits in reports.values() for one in fits]
    rows = []
    for victim, defence in _thieves(every):
        found = [Measured.of(fits, victim, defence) for fits in reports.values()]
        if sum(map(bool, found)) > 1:
            everyone = Measured.of(every, victim, defence)  # most clean models stand beside several recipes
            rows.append([_in_words(victim, defence), told(everyone.clean), *map(_cell, found)])
    heads = [f"`{recipe}`".replace(f":{EIGHTEEN}`", "`, 18 passes") for recipe in recipes]
    return markdown(["thief", "clean", *heads], rows)


def _thieves(reports: list[Report]) -> list[tuple[str, str]]:
    """Victim and defence, those with targets first and in their order."""
    met = {(victim, defence) for one in reports for victim in one.victims for defence in one.defences}
    known = list(reversed(IN_WORDS))
    return [*(one for one in known if one in met), *sorted(met.difference(known))]


def _in_words(victim: str, defence: str) -> str:
    return IN_WORDS.get((victim, defence)) or (f"`{victim}`" if defence == "none" else f"`{victim}` with `{defence}`")


def _cell(own: Measured) -> str:
    """The mean over fits, their spread, the peak in brackets, and how many models that is."""
    if not own:
        return NONE
    last, peak = own.means
    spread = "" if math.isnan(own.over_fits) else f" ± {100 * own.over_fits:.1f}"
    return f"{100 * last:.1f}{spread} ({100 * peak:.1f}), {own.effort}"
