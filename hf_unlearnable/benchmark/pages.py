"""The pages of a comparison: the leaderboard as Markdown and as one HTML file, and what theory says of its rows."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from hf_unlearnable.benchmark.correlations import FEWEST, plots_of
from hf_unlearnable.benchmark.protocol import NONE, REPORTED
from hf_unlearnable.benchmark.records import CELLS, SETS
from hf_unlearnable.benchmark.rows import Row, Table, tables_of, thief_name
from hf_unlearnable.errors import DataError, in_words
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, case_of
from hf_unlearnable.evaluation.report import NO_DEFENCE
from hf_unlearnable.evaluation.verdicts import worst
from hf_unlearnable.files import atomic_write, local_path
from hf_unlearnable.reports.rendering import plain_markdown, templates_of
from hf_unlearnable.version import __version__

MARKDOWN, HTML, THEORY = "leaderboard.md", "leaderboard.html", "theory.html"


def write_pages(runs: Iterable[str | PathLike[str]] | str | PathLike[str], output: str | PathLike[str]) -> list[Path]:
    """Make the pages from the finished cells of some runs, which go along as files that the pages link to.

    Args:
        runs: folders of runs, or one.
        output: a folder: one of them, or another one.

    Returns:
        The pages.

    Raises:
        DataError: not a single row can be told.
    """
    listed = [runs] if isinstance(runs, (str, PathLike)) else runs
    folders, target = [local_path(run) for run in listed], local_path(output)
    tables = tables_of(folders)
    if not tables:
        raise DataError(
            f"got no row to show in {', '.join(map(str, folders))}; expected the folder of a run of hf-unlearnable "
            f"benchmark in which a protected set and a model trained on it are finished"
        )
    for table in tables:
        for record in {record.digest: record for row in table.rows for record in (*row.cells, *row.clean)}.values():
            if not (target / CELLS / f"{record.digest}.json").exists():
                record.write(target / CELLS)
        for one in (one for row in table.rows for one in row.sets):
            if not (target / SETS / f"{one.digest}.json").exists():
                one.write(target / SETS)
    own = templates_of("hf_unlearnable.benchmark", "hf_unlearnable.reports", escape=True)
    text = templates_of("hf_unlearnable.benchmark", escape=False)
    facts: dict[str, Any] = {
        "tables": [_shown(number, table) for number, table in enumerate(tables)],
        "reported": REPORTED,
        "version": __version__,
        "none": NONE,
    }
    look = {"mark": "", "clean_colour": case_of(CLEAN).colour}
    made = {
        MARKDOWN: text.get_template("leaderboard.md").render(**facts, plain=plain_markdown),
        HTML: own.get_template("leaderboard.html").render(**facts, **_script(), **look),
    }
    several = [table for table in tables if len(table.rows) > 1]  # a single point says nothing
    plots = [(table, found) for table in several if (found := plots_of(table))]
    if plots:
        made[THEORY] = own.get_template("theory.html").render(plots=plots, fewest=FEWEST, version=__version__, **look)
    for name, content in made.items():
        atomic_write(target / name, content)
    return [target / name for name in made]


def _script() -> dict[str, str]:
    """What sorts and filters, and the hash by which the page allows this script alone."""
    text = (files("hf_unlearnable.benchmark") / "templates" / "leaderboard.js").read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"script": text, "script_hash": f"sha256-{hashed}"}


def _shown(number: int, table: Table) -> dict[str, Any]:
    """A table as the templates take it."""
    report = table.report
    return {
        "number": number,
        "of": table,
        "name": table.dataset["name"],
        "budget": table.budget,
        "chance": report.chance,
        "ceiling": report.ceiling(),
        "images": report.images,
        "test_images": report.test_images,
        "untold": report.untold(),
        "victims": list(dict.fromkeys(victim for victim, _ in table.pairs)),
        "defences": list(dict.fromkeys(defence for _, defence in table.pairs)),
        "rows": [_row(table, row) for row in table.rows],
        "lines": [line for row in table.rows for line in _lines(table, row)],
        "gaps": table.gaps,
    }


def _row(table: Table, row: Row) -> dict[str, Any]:
    best, attack = row.best, worst(row.attacks)
    memory = [one.peak_memory for one in row.sets if one.peak_memory]
    seconds = [one.seconds for one in row.sets if one.seconds is not None]
    mixture = row.mixture
    return {
        "of": row,
        "name": row.name,
        "tried": len(row.measured),
        "missing": table.missing(row),
        "elsewhere": row.sets[0].elsewhere,
        "best": best,
        "thief": "" if best is None else thief_name(best.victim, best.defence),
        "fits_spread": math.nan if best is None else row.spread_over_fits((best.victim, best.defence)),
        "ordinary": row.ordinary,
        "range": row.range_over_thieves,
        "attack": attack,
        "mix": mixture[MIX],
        "alone": mixture[CLEAN_PART],
        "effort": row.effort((best.victim, best.defence)) if best else (0, 0),
        "seconds": sum(seconds) / len(seconds) if seconds else math.nan,
        "memory": in_words(max(memory)) if memory else "",
        "change": row.largest_change,
        "images_changed": row.sets[0].images - row.sets[0].verification["unchanged"],
        "files": [one.digest for one in row.sets],
    }


def _lines(table: Table, row: Row) -> list[dict[str, Any]]:
    """What every thief of the table did with a row; what was not measured is a gap."""
    found = []
    for victim, defence in table.pairs:
        measured = (victim, defence) in row.measured
        if not measured and (victim, defence) not in table.common:
            continue  # an attack on another method, which nobody has to try on this one
        found.append(
            {
                "row": row,
                "victim": victim,
                "defence": defence,
                "verdict": row.verdict((victim, defence)) if measured else None,
                "plain": row.report.accuracy(CLEAN, victim, defence=NO_DEFENCE),
                "clean": row.report.accuracy(CLEAN, victim, defence=defence),
                "fits_spread": row.spread_over_fits((victim, defence)),
                "files": [cell.digest for cell in row.files((victim, defence))],
                "adaptive": bool(row.adaptive) and defence == row.adaptive,
            }
        )
    return found
