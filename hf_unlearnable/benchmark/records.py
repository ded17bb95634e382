"""The folder of a run, and what is kept in it of finished work: a JSON document for each protected set and cell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hf_unlearnable.benchmark.protocol import digest_of_json
from hf_unlearnable.errors import DataError, OutputError, warn
from hf_unlearnable.evaluation.cases import case_of
from hf_unlearnable.evaluation.results import Result, accuracies, check_picked
from hf_unlearnable.files import atomic_write, entries, require_writable
from hf_unlearnable.protection.documents import check_keys, kinds_of, read_json
from hf_unlearnable.protection.verification import Verification

SEAL = "seal"

CONFIG = "config.yaml"
CELLS, SETS, CLAIMS, PROTECTED = "cells", "sets", "claims", "protected"

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every document has.

    Attributes:
        identity: all that the figures depend on; its digest is the file's name.
        protocol: the digest of what the version froze when this was measured; empty under the protocol ``none``.
        seconds: of wall-clock time; None, as the next three, for a fit that a process had begun that was killed.
        processor_seconds: of all threads.
        peak_memory: of the process, in bytes, at its highest meanwhile; None where the system does not tell.
        device_memory: of the GPU, likewise; None without one.
        machine: the processor and threads, or the GPU.
        versions: of the packages that figures depend on.
    """

    identity: dict[str, Any]
    protocol: str
    seconds: float | None
    processor_seconds: float | None
    peak_memory: int | None
    device_memory: int | None
    machine: str
    versions: dict[str, str] = field(default_factory=dict)

    later: ClassVar[tuple[str, ...]] = ()  # entries that older files lack, and that are left out where they say nothing

    @property
    def digest(self) -> str:
        """The stem of its file."""
        return digest_of_json(self.identity)

    def write(self, folder: Path) -> None:
        """Keep it: whole or not at all."""
        told = {name: value for name, value in asdict(self).items() if name not in self.later or value is not None}
        told[SEAL] = digest_of_json(told)
        atomic_write(folder / f"{self.digest}.json", json.dumps(told, indent=1) + "\n")

    @classmethod
    def read(cls: type[R], file: Path) -> R:
        """Read it, and see that nobody has changed it by hand.

        Raises:
            FileNotFoundError: there is none.
            DataError: it is damaged, of another kind, under another name, or not as it was written.
        """
        stored = read_json(file)
        seal = stored.pop(SEAL, None)
        kinds = kinds_of(cls)
        check_keys(stored, set(kinds) - set(cls.later), cls.later, f"{str(file)!r}", kinds)
        try:
            as_written = seal == digest_of_json(stored)
        except ValueError:  # NaN, which json reads and no document of ours holds
            as_written = False
        if not as_written:
            raise DataError(f"got {str(file)!r}, whose figures are not those that were written; measure it again")
        record = cls(**stored)
        if file.stem != record.digest:
            raise DataError(f"got {str(file)!r}, which holds what belongs into {record.digest}.json; call it so")
        record.check()
        return record

    def check(self) -> None:
        """See that the figures can be."""

    @property
    def dataset(self) -> Mapping[str, Any]:
        """What identifies the dataset."""
        return self.identity["dataset"]


@dataclass(frozen=True, kw_only=True)
class CellRecord(Record):
    """A cell.

    Attributes:
        victim: the model and its recipe, as reports name them.
        defence: likewise, as text.
        epochs: clean test accuracy after each epoch.
        chance: of naming the most frequent class of the test images.
        images: to train on.
        test_images: to test on.
        test_seen: how many of these are among those to train on.
        set: the digest of the protected set; empty where no protected image was seen.
        place: of the thief in the list of those that were sent, 0 for the ordinary one; None for one that is not in it,
            and tries what the author of a method named as the best attack on it.
        picked: that of ``Result``.
    """

    later = ("picked",)

    seconds: float  # a cell is the work of one process
    processor_seconds: float
    victim: str
    defence: str
    epochs: list[float]
    chance: float
    images: int
    test_images: int
    test_seen: int
    set: str
    place: int | None
    picked: int | None = None

    def check(self) -> None:
        """See that the figures can be.

        Raises:
            DataError: they cannot.
        """
        accuracies(self.epochs)
        check_picked(self.picked, len(self.epochs))
        case_of(self.identity["case"])

    @property
    def result(self) -> Result:
        """As reports have it."""
        identity = self.identity
        place = (identity["case"], identity["ratio"], self.defence, identity["seed"])
        return Result(self.victim, *place, tuple(self.epochs), picked=self.picked)


@dataclass(frozen=True, kw_only=True)
class SetRecord(Record):
    """A protected set.

    Attributes:
        name: of the method with its settings, as tables have it.
        seed: of the fit; None for a set of elsewhere.
        adaptive: the best attack on it that its author knows; empty if there is none.
        released: the digest of the released images.
        images: how many.
        verification: the released images, read back, compared with the originals.
        theory: the quantities of theory, None where one cannot be computed; empty where they were not asked for.
        elsewhere: whether another tool made it.
    """

    name: str
    seed: int | None
    adaptive: str
    released: str
    images: int
    verification: dict[str, Any]
    theory: dict[str, float | None]
    elsewhere: bool

    def check(self) -> None:
        """See that the figures can be.

        Raises:
            DataError: they cannot.
        """
        Verification.of(self.verification)


def read_all(folder: Path, kind: type[R]) -> Iterator[R]:
    """Every document of a folder; what is damaged is told and left out.

    Warns:
        UserWarning: a damaged one.
    """
    for file in sorted(folder.glob("*.json")):
        if (record := kept(file, kind)) is not None:
            yield record


def kept(file: Path, kind: type[R]) -> R | None:
    """What a file holds; None if there is none, or, with a warning, if it is damaged."""
    try:
        return kind.read(file) if file.exists() else None
    except (DataError, KeyError, TypeError) as error:
        warn(f"{error}; it is not counted, and measured again by the next run")
        return None


def require_config(folder: Path, text: str) -> None:
    """Refuse the folder of a run of another configuration than this text, one of something else, or no folder.

    Raises:
        OutputError: it is.
    """
    require_writable(folder)
    file = folder / CONFIG
    held_there = {entry.name for entry in entries(folder)} if folder.is_dir() else set()
    if held_there and held_there.isdisjoint((CONFIG, CELLS, SETS, CLAIMS, PROTECTED)):
        raise OutputError(
            f"got the output {str(folder)!r}, which holds something else than a run of benchmark "
            f"({', '.join(sorted(held_there)[:3])}); name another one"
        )
    if file.exists() and text and file.read_text(encoding="utf-8") != text:
        raise OutputError(
            f"got {str(folder)!r}, the run of another configuration (see {CONFIG} in it); name another output. Where "
            f"yours only adds to it, remove that file: what is finished is kept, and both stand together"
        )
