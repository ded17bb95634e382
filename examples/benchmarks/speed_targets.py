"""What speed was to reach, and what it reaches: each figure from the file of the benchmark that measured it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fit_speed
import map_speed
from result_files import read_results
from selection import fit_seconds, many, span
from tables import markdown
from wording import FASHION, PATCHES, SETS, data

FAST = {FASHION: "mi-ue-short", PATCHES: "texture"}  # what gets past the authors' recipe soonest

Row = tuple[str, str, str, bool]


def table() -> str:
    """One row for each figure; the last column says whether it is as good as was asked for."""
    rows = [*_strength(), *_fits(), *_bayes_error(), *_map(), *_commands()]
    cells = [(what, asked, reached, "yes" if met else "no") for what, asked, reached, met in rows]
    return markdown(["what", "asked for", "reached", "met"], cells)


def _strength() -> Iterator[Row]:
    for dataset, recipe in FAST.items():
        wanted = {"dataset": dataset, "budget": "linf:8", "epochs": 12}
        paper, ours = (many("protection_strength", recipe=one, **wanted) for one in ("mi-ue-paper", recipe))
        ours = [one for one in ours if one.experiment.images == paper[0].experiment.images]
        share = fit_seconds(ours) / fit_seconds(paper)
        yield (
            f"computing for the protection of the paper's recipe, {SETS[dataset]}",
            "0.05",
            f"{share:.2f}",
            share <= 0.05,
        )


def _fits() -> Iterator[Row]:
    results = read_results("fit_speed")
    for one in results:
        epochs = fit_speed.epochs_of(one, "`MIUE()`")
        yield f"a fit of `MIUE()` in plain training epochs, {data(one)}", "12", f"{epochs:.0f}", epochs <= 12
    for zeta, least in ((0.0, 1.5), (fit_speed.ZETA, 5.0)):
        ratios = [fit_speed.recipe_ratio(one, zeta) for one in results]
        words = "with" if zeta else "without"
        yield (
            f"the paper's recipe, plain / ours, {words} the distance term",
            f"{least}",
            span(ratios, ".1f"),
            min(ratios) >= least,
        )
    alone = [one.figures["losses"] for one in results]
    times = [fit_speed.losses_ratio(one) for one in results]
    memory = [one["plain"]["MiB_over_base"] / max(1.0, one["ours"]["MiB_over_base"]) for one in alone]
    yield "its losses, B = D = 512, plain / ours: time", "50", span(times), min(times) >= 50
    yield "the same: memory", "50", span(memory), min(memory) >= 50


def _bayes_error() -> Iterator[Row]:
    (result,) = read_results("bayes_error_speed")
    cases: list[dict[str, Any]] = result.figures["cases"]

    def of(who: str, rows: int, width: int) -> list[dict[str, Any]]:
        return [one for one in cases if (one["who"], one["rows"], one["width"]) == (who, rows, width)]

    for width in (64, 512):
        share = max(one["share_of_sgemm"] for one in of("ours", 5000, width))
        what = f"gradient of the Bayes error, N = 5,000, D = {width}: share of the rate of matrix products"
        yield what, "70 %", f"{100 * share:.0f} %", share >= 0.7
    pairs = zip(of("bayeslap", 5000, 64), of("ours", 5000, 64), strict=True)
    times = [theirs["seconds"] / ours["seconds"] for theirs, ours in pairs]
    yield (
        "the same, D = 64: bayeslap / ours, an allocator that keeps memory and one that does not",
        "40",
        span(times),
        min(times) >= 40,
    )


def _map() -> Iterator[Row]:
    for way, least in (("per image", 0.85), ("batched", 0.9)):
        for one in read_results("map_speed"):
            ratio = map_speed.of_identity(map_speed.processor_times(one), "protect", f"{way}, num_proc=1")
            size = map_speed.size_of(one)
            yield f"`map(protect)`, of the identity's rate, {way}, {size}", f"{least}", f"{ratio:.2f}", ratio >= least


def _commands() -> Iterator[Row]:
    (measured,) = read_results("measure_speed")
    share = measured.figures["costs"]["2"]["wall"] / measured.figures["costs"]["1"]["wall"]
    yield "`measure`, suite `quick`: time, of that of one process", "0.5", f"{share:.2f}", share <= 0.5
    (started,) = read_results("start_up")
    seconds = started.figures["costs"]["--help"]["processor"]
    yield "`--help`, processor time, s", "0.3", f"{seconds:.2f}", seconds < 0.3
