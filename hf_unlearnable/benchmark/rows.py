"""The rows of a table: what the cells say of each method on each dataset at each budget."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hf_unlearnable.benchmark.cells import not_default, told_apart
from hf_unlearnable.benchmark.protocol import DATASETS, VERSION, thieves_of
from hf_unlearnable.benchmark.records import CELLS, SETS, CellRecord, SetRecord, read_all
from hf_unlearnable.budget import Budget
from hf_unlearnable.defences import Defence
from hf_unlearnable.errors import UnlearnableError, warn
from hf_unlearnable.evaluation.cases import CLEAN_PART, MIX, PROTECTED
from hf_unlearnable.evaluation.lines import Accuracy
from hf_unlearnable.evaluation.report import NO_DEFENCE, Report
from hf_unlearnable.evaluation.verdicts import Verdict, worst
from hf_unlearnable.methods import find_method
from hf_unlearnable.training.run import Training

Pair = tuple[str, str]  # victim with its recipe, defence
Key = tuple[str, str]  # version of the protocol; protocol and dataset as JSON


@dataclass(frozen=True)
class Row:
    """One method on one dataset at one budget, over all fits and victims' seeds.

    Attributes:
        name: of the method.
        budget: of the change.
        sets: the documents of its fits.
        cells: of its protected images.
        clean: all cells of the dataset that saw no protected image; those of all methods, so that the ceiling is one.
        ordinary_thief: who alone meets mixtures and tries the attacks that authors name.
    """

    name: str
    budget: str
    sets: tuple[SetRecord, ...]
    cells: tuple[CellRecord, ...]
    clean: tuple[CellRecord, ...]
    ordinary_thief: Pair

    @cached_property
    def report(self) -> Report:
        """All fits together, as a measurement."""
        return report_of([*self.clean, *self.cells])

    @cached_property
    def reports(self) -> list[Report]:
        """A measurement for each fit."""
        return [report_of([*self.clean, *(cell for cell in self.cells if cell.set == one.digest)]) for one in self.sets]

    @cached_property
    def measured(self) -> list[Pair]:
        """The thieves that tried the protected images."""
        return [pair for pair in self.report.pairs if len(self.report.values(PROTECTED, pair[0], defence=pair[1]))]

    def verdict(self, pair: Pair) -> Verdict:
        """What a thief regains, the mean over fits and seeds."""
        return Verdict.of(self.report, *pair)

    @cached_property
    def best(self) -> Verdict | None:
        """The best thief; None where no share can be told."""
        return worst(map(self.verdict, self.measured))

    @property
    def ordinary(self) -> Verdict:
        """What the ordinary thief regains."""
        return self.verdict(self.ordinary_thief)

    def effort(self, pair: Pair) -> tuple[int, int]:
        """How many fits a thief tried, and by how many victims each at most."""
        seeds = Counter(cell.set for cell in self.files(pair))
        return len(seeds), max(seeds.values(), default=0)

    def spread_over_fits(self, pair: Pair) -> float:
        """The sample standard deviation over fits of what a thief reaches; not a number for a single one."""
        means = [one.accuracy(PROTECTED, pair[0], defence=pair[1]) for one in self.reports]
        return Accuracy.of(np.array(means, dtype=np.float64)).spread

    @property
    def range_over_thieves(self) -> tuple[float, float]:
        """The smallest and the largest accuracy of all thieves; not numbers where there is none."""
        reached = [self.verdict(pair).protected for pair in self.measured]
        return (min(reached), max(reached)) if reached else (math.nan, math.nan)

    @property
    def adaptive(self) -> str:
        """The attack that the author of the method named, as cells have it; empty if there is none."""
        named = self.sets[0].adaptive
        try:
            return str(Defence.parse(named)) if named else ""
        except UnlearnableError:  # of a plugin that is not installed here
            return named

    @property
    def attacks(self) -> list[Verdict]:
        """What who tried it regains."""
        return [self.verdict(pair) for pair in self.measured if self.adaptive and pair[1] == self.adaptive]

    @property
    def mixture(self) -> dict[str, Accuracy]:
        """Of the ordinary thief with a part of the rows protected: ``mix`` and ``clean part alone``."""
        victim, defence = self.ordinary_thief
        return {case: Accuracy.of(self.report.values(case, victim, defence=defence)) for case in (MIX, CLEAN_PART)}

    def files(self, pair: Pair) -> list[CellRecord]:
        """The cells of a thief on the protected images alone."""
        return [
            cell for cell in self.cells if (cell.victim, cell.defence) == pair and cell.identity["case"] == PROTECTED
        ]

    def theory(self, quantity: str) -> float:
        """A quantity of theory, the mean over fits; not a number where it was not computed."""
        found = [value for one in self.sets if (value := one.theory.get(quantity)) is not None]
        return float(np.mean(found)) if found else math.nan

    @property
    def largest_change(self) -> float:
        """The largest norm of a change, in levels."""
        return max(one.verification["max_perturbation"] for one in self.sets)


@dataclass(frozen=True)
class Table:
    """Rows that may be compared: one version of the protocol, one dataset, one budget.

    Attributes:
        version: of the protocol.
        dataset: what identifies it.
        budget: of every row.
        rows: the one whose best thief gets least comes first; after those that all of ``common`` have tried the others,
            whose place nobody knows, and last those without a share.
    """

    version: str
    dataset: dict[str, Any]
    budget: str
    rows: tuple[Row, ...]

    @cached_property
    def pairs(self) -> list[Pair]:
        """All thieves that tried any of its rows, in the order of the first."""
        return list(dict.fromkeys(pair for row in self.rows for pair in row.measured))

    @property
    def report(self) -> Report:
        """Of its clean cells."""
        return self.rows[0].report

    @cached_property
    def common(self) -> list[Pair]:
        """The thieves that every row has to meet: those of the protocol, and who was sent to all and not only to some.

        An attack that the author of one method named is sent to that method alone.
        """
        sent = {
            (cell.victim, cell.defence): None
            for row in self.rows
            for cell in (*row.cells, *row.clean)
            if cell.place is not None
        }
        frozen = _frozen(self.version, self.dataset["name"])
        return list(dict.fromkeys([*(pair for pair in self.pairs if pair in sent), *sent, *frozen]))

    def missing(self, row: Row) -> list[Pair]:
        """Those among them that have not tried a row, whose share may be larger therefore."""
        return [pair for pair in self.common if pair not in row.measured]

    @property
    def gaps(self) -> list[str]:
        """What was not measured, or for some rows only, a sentence each."""
        nobody = [pair for pair in self.common if pair not in self.pairs]
        found = [f"no row was tried by {_listed(nobody)}"] * bool(nobody)
        found += [
            f"{row.name}: not tried by {_listed(missing)}"
            for row in self.rows
            if (missing := [pair for pair in self.missing(row) if pair not in nobody])
        ]
        efforts = [(row.name, {pair: row.effort(pair) for pair in row.measured}) for row in self.rows]
        for name, of_row in efforts:
            most = max((fits for fits, _ in of_row.values()), default=0)
            if fewer := [pair for pair, (fits, _) in of_row.items() if fits < most]:
                found.append(f"{name}: of its {most} fits not all were tried by {_listed(fewer)}")
        for place, what in enumerate(("fits", "victims of each kind")):
            counts = {effort[place] for _, of_row in efforts for effort in of_row.values()}
            found += [f"thieves tried rows by {min(counts)} to {max(counts)} {what}"] * (len(counts) > 1)
        return found


def _listed(pairs: Iterable[Pair]) -> str:
    return "; ".join(thief_name(*pair) for pair in pairs)  # a thief may have a comma


def thief_name(victim: str, defence: str) -> str:
    """Such as ``small-resnet with jpeg:10``."""
    return victim if defence == NO_DEFENCE else f"{victim} with {defence}"


def report_of(cells: Sequence[CellRecord]) -> Report:
    """Cells of one dataset as a measurement."""
    first, training = cells[0], Training(epochs=cells[0].dataset["epochs"])
    return Report(
        results=tuple(cell.result for cell in cells),
        chance=first.chance,
        images=first.images,
        test_images=first.test_images,
        iterations=training.iterations(first.images),
        training=training.as_dict(),
        versions=first.versions,
        test_seen=first.test_seen,
    )


def tables_of(folders: Iterable[Path]) -> list[Table]:
    """All tables that the finished cells of some runs make; a cell that two runs have counts once.

    Args:
        folders: of runs.

    Warns:
        UserWarning: a damaged document, which is left out; or a set that an earlier run made otherwise, since another
            processor or version rounds otherwise. What was trained on that is left out too: it is no part of its row.
    """
    cells: dict[str, CellRecord] = {}
    sets: dict[str, SetRecord] = {}
    listed: dict[tuple[Key, Pair], None] = {}  # the thieves of each table, as the run that comes first has them
    for folder in folders:
        found = {one.digest: one for one in read_all(folder / SETS, SetRecord)}
        other = {digest for digest, one in found.items() if one.released != sets.get(digest, one).released}
        for digest in other:
            one = found.pop(digest)
            warn(
                f"{str(folder)!r} holds other images of {one.name} (fit {one.seed}, {one.identity['budget']}) than a "
                f"run before it, and is left out there: another processor or version rounds otherwise. Fit with "
                f"another seed, and both count",
            )
        sets |= found
        own = [cell for cell in read_all(folder / CELLS, CellRecord) if cell.set not in other]
        for cell in sorted(own, key=_place):
            listed.setdefault((_table_of(cell), (cell.victim, cell.defence)))
        cells |= {cell.digest: cell for cell in own}
    groups: dict[Key, list[CellRecord]] = {}
    for cell in cells.values():
        groups.setdefault(_table_of(cell), []).append(cell)
    tables = []
    for (version, key), members in sorted(groups.items(), key=lambda item: item[1][0].dataset["name"]):
        frozen = _frozen(version, members[0].dataset["name"])
        thieves = list(dict.fromkeys([*frozen, *(pair for table, pair in listed if table == (version, key))]))
        rows = _rows(members, sets, thieves)
        for budget in sorted({row.budget for row in rows}, key=_by_radius):
            chosen = tuple(row for row in rows if row.budget == budget)
            tables.append(_ordered(Table(version, dict(members[0].dataset), budget, chosen)))
    return tables


def _ordered(table: Table) -> Table:
    """Its rows as ``Table`` has them: what few thieves have tried would lead by what was not measured."""

    def place(row: Row) -> tuple[bool, bool, float]:
        share = _share(row.best)
        return math.isinf(share), bool(table.missing(row)), share

    return replace(table, rows=tuple(sorted(table.rows, key=place)))


def _by_radius(budget: str) -> tuple[str, float, str]:
    """Budgets of one norm beside each other, the smallest first."""
    parsed = Budget.parse(budget)
    return parsed.norm, parsed.radius, budget


def _frozen(version: str, name: str) -> list[Pair]:
    """The thieves that a version of the protocol sends against a dataset, the ordinary one first."""
    data = DATASETS.get(name) if version == VERSION else None
    return [(thief.name, str(thief.defence)) for thief in thieves_of(data)] if data else []


def _table_of(record: CellRecord | SetRecord) -> Key:
    """Which table a document belongs to: of its protocol, as it was then, and of its dataset."""
    return record.identity["protocol"], json.dumps([record.protocol, record.dataset], sort_keys=True)


def _rows(cells: Sequence[CellRecord], sets: dict[str, SetRecord], thieves: Sequence[Pair]) -> list[Row]:
    """All rows of some tables, with their cells in the order of the thieves, of whom the first is the ordinary one."""
    cells = sorted(cells, key=lambda cell: (thieves.index((cell.victim, cell.defence)), cell.digest))
    clean = tuple(cell for cell in cells if not cell.set)
    fits: dict[tuple[str, str], list[SetRecord]] = {}
    for digest in dict.fromkeys(cell.set for cell in cells if cell.set in sets):
        one = sets[digest]
        recipe = {name: value for name, value in one.identity["method"].items() if name != "seed"}
        fits.setdefault((json.dumps(recipe, sort_keys=True), one.identity["budget"]), []).append(one)
    rows = []
    for name, members in zip(_names([members[0] for members in fits.values()]), fits.values(), strict=True):
        own = {one.digest for one in members}
        chosen = tuple(cell for cell in cells if cell.set in own)
        members.sort(key=lambda one: one.seed or 0)
        rows.append(Row(name, members[0].identity["budget"], tuple(members), chosen, clean, thieves[0]))
    return rows


def _names(recipes: Sequence[SetRecord]) -> list[str]:
    """What tables call some recipes: rounded, but for those that would have one name then."""
    short, whole = ([_called(one, rounded=rounded) for one in recipes] for rounded in (True, False))
    count = Counter(name for name, _ in set(zip(short, whole, strict=True)))
    return [name if count[name] == 1 else exact for name, exact in zip(short, whole, strict=True)]


def _called(one: SetRecord, *, rounded: bool) -> str:
    """A method with the settings that are not its defaults now: these may be others than when the set was made."""
    recipe = one.identity["method"]
    kind = find_method(recipe.get("name"))
    if kind is None:
        return one.name
    return told_apart(kind.name, not_default(kind, recipe), recipe.get("revision", 1), rounded=rounded)


def _place(cell: CellRecord) -> tuple[Any, ...]:
    """Thieves as they stand in their list, the ordinary one first; attacks on single methods last."""
    return (cell.place is None, cell.place or 0, cell.victim, cell.defence, cell.digest)


def _share(verdict: Verdict | None) -> float:
    return math.inf if verdict is None or math.isnan(verdict.regained) else verdict.regained
