"""Checking a row before it is sent: anybody's, also one's own."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from hf_unlearnable.benchmark.cells import Cell, Elsewhere, Protected
from hf_unlearnable.benchmark.config import Config
from hf_unlearnable.benchmark.fits import digest_released, verified
from hf_unlearnable.benchmark.protocol import NONE, VERSION, protocol_digest
from hf_unlearnable.benchmark.records import CELLS, CONFIG, SETS, CellRecord, SetRecord
from hf_unlearnable.benchmark.running import Work
from hf_unlearnable.errors import DataError, SourceError, UnlearnableError
from hf_unlearnable.files import local_path
from hf_unlearnable.training.processes import default_accelerator

APART = 0.1  # of accuracy: how far another machine, or other versions, may end from what was told


@dataclass(frozen=True)
class Submission:
    """What is to be sent.

    Attributes:
        files: relative to the folder of the run.
        sets: how many protected sets there are.
        cells: how many cells.
        missing: how many cells of the configuration are not measured: gaps of the row.
        repeated: what was measured again, a sentence each.
        command: that repeats all of it.
    """

    files: tuple[str, ...]
    sets: int
    cells: int
    missing: int
    repeated: tuple[str, ...]
    command: str

    def __str__(self) -> str:
        gaps = f"\n{self.missing} cells of the configuration were not measured; the table will show gaps." * bool(
            self.missing
        )
        return "\n".join(
            [
                f"{self.sets} protected sets and {self.cells} cells are as the protocol asks for.{gaps}",
                *self.repeated,
                f"To repeat all: {self.command}",
                "Nothing was sent. To submit, open a request at the repository with these files:",
                *(f"  {file}" for file in self.files),
            ]
        )


def check(row: str | PathLike[str], *, repeat: int = 1, progress: bool = True) -> Submission:
    """Check the rows of a run: protocol, data, budget on the released bytes, digests, and some cells by repeating them.

    Args:
        row: the folder of a run; or the document of one protected set in it, ``RUN/sets/DIGEST.json``.
        repeat: how many cells, drawn at random, are trained again and compared.
        progress: show bars.

    Raises:
        SourceError: not the folder of a run.
        DataError: something is not as it was told; all of it is named.
        UnlearnableError: the configuration, or a dataset, cannot be used.
    """
    path = local_path(row)
    folder = path.parent.parent if path.is_file() else path
    if not (folder / CONFIG).is_file():
        raise SourceError(
            f"got {str(row)!r}; expected the folder that hf-unlearnable benchmark --output wrote, with {CONFIG} in it, "
            f"or a file of its {SETS}/"
        )
    config = Config.read(folder / CONFIG)
    if config.protocol == NONE:
        raise DataError(
            f"got a run of the protocol {NONE!r}, which stands in no common table; expected protocol: {VERSION}"
        )
    work = Work.plan(config, folder.absolute())
    chosen = [one for one in work.protected if not path.is_file() or work.set_file(one).name == path.name]
    faults: list[str] = []
    sets = [one for one in chosen if _is_there(work.set_file(one)) and not _of_set(work, one, faults)]
    cells = [cell for cell in work.cells if cell.protected is None or cell.protected in chosen]
    measured = [cell for cell in cells if _is_there(work.cell_file(cell))]
    # Who trains on other images is tested on the same, and luck gets as much.
    chances = {name: work.opened(name, None).chance for name in dict.fromkeys(cell.data.name for cell in measured)}
    records = {
        cell: record
        for cell in measured
        if (record := _of_cell(work, cell, chances[cell.data.name], faults)) is not None
    }
    known = {file.name for file in map(work.cell_file, work.cells)} | {file.name for file in map(work.set_file, chosen)}
    strangers = [
        f"{kind}/{file.name}: not a part of what {CONFIG} compares"
        for kind in (CELLS, SETS)
        if not path.is_file()
        for file in sorted((folder / kind).glob("*.json"))
        if file.name not in known
    ]
    faults += strangers
    if not sets and not faults:
        faults.append("no protected set is finished")
    if not any(cell.protected for cell in records) and not faults:
        faults.append("no model was trained on protected images")
    repeated = [] if faults else _repeat(work, records, repeat, faults, progress)
    if faults:
        raise DataError(
            f"got {str(row)!r}, which cannot be taken as it is: " + "; ".join(faults) + ". Measure again what is named"
        )
    files = [
        CONFIG,
        *(f"{SETS}/{one.digest}.json" for one in sets),
        *(f"{CELLS}/{cell.digest}.json" for cell in records),
    ]
    return Submission(
        files=tuple(files),
        sets=len(sets),
        cells=len(records),
        missing=len(cells) - len(measured),
        repeated=tuple(repeated),
        command=shlex.join(["hf-unlearnable", "benchmark", CONFIG, "--output", "again"]),
    )


def _is_there(file: Path) -> bool:
    return file.is_file()


def _of_set(work: Work, one: Protected, faults: list[str]) -> bool:
    """Whether a protected set is not what its document tells; then it is named."""
    file, before = f"{SETS}/{one.digest}.json", len(faults)
    try:
        record = SetRecord.read(work.set_file(one))
        _same_protocol(work, record.protocol)
        released = work.released(one)
        if digest_released(one, released) != record.released:
            faults.append(f"{file}: the released images are not those that it was made of")
        found = verified(one, work.sets[one.data.name].train, released).as_dict()
        if (found["violations"], found["images"]) != (0, record.images) or found != record.verification:
            faults.append(f"{file}: the released images compare otherwise with their originals than it tells")
        if isinstance(one.method, Elsewhere) and not one.method.public:
            faults.append(f"{file}: its released images lie in a folder here; publish them, and name their Hub id")
        told = (record.elsewhere, record.name, record.adaptive, record.seed)
        seed = None if isinstance(one.method, Elsewhere) else one.method.seed
        if told != (isinstance(one.method, Elsewhere), one.name, one.adaptive, seed):
            faults.append(f"{file}: it names another method, attack or seed")
    except UnlearnableError as error:
        faults.append(f"{file}: {error}")
    return len(faults) > before


def _of_cell(work: Work, cell: Cell, chance: float, faults: list[str]) -> CellRecord | None:
    """The document of a cell; None if it is not what it should be, which is named."""
    try:
        record = CellRecord.read(work.cell_file(cell))
        _same_protocol(work, record.protocol)
    except UnlearnableError as error:
        faults.append(f"{CELLS}/{cell.digest}.json: {error}")
        return None
    sets = work.sets[cell.data.name]
    told = (record.images, record.test_images, record.victim, record.defence)
    if told != (len(sets.train), len(sets.test), cell.trial.thief.name, str(cell.trial.thief.defence)):
        faults.append(f"{CELLS}/{cell.digest}.json: it tells of other images, or of another thief")
        return None
    if record.chance != chance:
        faults.append(f"{CELLS}/{cell.digest}.json: it tells of a chance of {record.chance:.3f}; expected {chance:.3f}")
        return None
    return record


def _same_protocol(work: Work, digest: str) -> None:
    if digest != protocol_digest(work.config.protocol):
        raise DataError(f"it was measured under another protocol than {work.config.protocol} as this version has it")


def _repeat(work: Work, records: dict[Cell, CellRecord], count: int, faults: list[str], progress: bool) -> list[str]:
    """Train some cells again."""
    told, accelerator = [], default_accelerator()
    for cell in secrets.SystemRandom().sample(list(records), min(count, len(records))):
        again = work.measured(cell, work.opened(cell.data.name, cell.protected), accelerator, progress)
        record = records[cell]
        apart = abs(again.result.last - record.result.last)
        same = (again.versions, again.machine) == (record.versions, record.machine)
        where = "the same" if same else "another machine or other versions"
        if (again.epochs, again.picked) == (record.epochs, record.picked):
            told.append(f"Repeated, and equal: {cell}.")
        elif apart > APART or (same and again.device_memory is None):
            faults.append(
                f"{CELLS}/{cell.digest}.json: repeated on {where}, it ends at {again.result.last:.3f} instead of "
                f"{record.result.last:.3f}"
            )
        else:
            told.append(f"Repeated on {where}, {100 * apart:.1f} points apart: {cell}.")
    return told
