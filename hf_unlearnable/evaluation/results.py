"""What was found with one victim."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet

from hf_unlearnable.errors import DataError, UnlearnableError
from hf_unlearnable.evaluation.cases import case_of
from hf_unlearnable.protection.documents import check_keys, kinds_of

if TYPE_CHECKING:
    from hf_unlearnable.defences import Defence


def accuracies(stored: Sequence[Any], *, missing: bool = False) -> tuple[float, ...]:
    """What was kept of a victim's epochs.

    Args:
        stored: one an epoch.
        missing: whether None, for what is not a number, may be among them.

    Raises:
        DataError: nothing, or something else than numbers in [0, 1].
    """
    if missing:
        return tuple(math.nan if one is None else accuracies([one])[0] for one in stored)
    if not stored or not all(isinstance(one, (int, float)) and 0 <= one <= 1 for one in stored):
        raise DataError(f"got the epochs {str(stored)[:80]}; expected an accuracy in [0, 1] after each")
    return tuple(stored)


def check_picked(picked: int | None, epochs: int) -> None:
    """See that an epoch that was picked is one of so many.

    Raises:
        DataError: it is not.
    """
    if picked is not None and not 1 <= picked <= epochs:
        raise DataError(f"got the picked epoch {picked} of {epochs}; expected a number from 1 to {epochs}")


def as_measured(defence: Defence | str | None, measured: Sequence[str]) -> str:
    """A defence as results have it, however it was written.

    Args:
        defence: as ``Defence.parse`` reads it; the first one that was measured when left out.
        measured: those of the results.
    """
    if not defence:
        return measured[0]
    if isinstance(defence, str) and defence in measured:
        return defence
    from hf_unlearnable.defences import Defence  # imports torch, without which reports are read

    try:
        return str(Defence.parse(defence))
    except UnlearnableError:  # misspelt, or of a plugin that is not loaded: either way not measured
        return str(defence)


def as_csv(table: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as a table of text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def as_parquet(table: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of the same keys as a file of columns."""
    columns = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), columns)
    return columns.getvalue()


@dataclass(frozen=True)
class Result:
    """One victim.

    Attributes:
        victim: the model, as given, with the name of its recipe where that is not the one of the report.
        case: what it was trained on, the key of one of ``CASES``.
        ratio: the share of the rows that is protected, in [0, 1]; that of its mixture for ``CLEAN_PART``.
        defence: what the thief did against the protection.
        seed: of its weights, order, augmentation and of the split of a mixture.
        epochs: clean test accuracy in [0, 1] after every epoch, the last of them after the last step; where one owner's
            class was measured, its recall.
        precision: there, of the test images that were named as the owner's, the share that is; not a number, None in
            files, where none was. Empty elsewhere.
        others: there, the accuracy on the test images of all other classes.
        picked: the number of the epoch, from 1 on, that the thief kept by images that he held out; None for the last.
    """

    victim: str
    case: str
    ratio: float
    defence: str
    seed: int
    epochs: tuple[float, ...]
    precision: tuple[float, ...] = ()
    others: tuple[float, ...] = ()
    picked: int | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Result:
        """The inverse of ``asdict``, as JSON has it.

        Raises:
            DataError: a key that is missing or not known, a value of another kind, a case that is not known, or an
                epoch that was not.
        """
        kinds = kinds_of(cls)
        if not isinstance(stored, dict):
            raise DataError(f"got {stored!r} as a result; expected the keys {', '.join(kinds)}")
        later = ("precision", "others")
        check_keys(stored, set(kinds) - {*later, "picked"}, (*later, "picked"), "a result", kinds)
        case_of(stored["case"])
        read = {name: accuracies(stored[name], missing=True) for name in later if name in stored}
        read["epochs"] = accuracies(stored["epochs"])
        check_picked(stored.get("picked"), len(read["epochs"]))
        return cls(**{**stored, **read})

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, without what was not measured."""
        told = {name: value for name, value in asdict(self).items() if value not in ((), None)}
        if self.precision:
            told["precision"] = [None if math.isnan(value) else value for value in self.precision]
        return told

    @property
    def last_epoch(self) -> int:
        """The number, from 1 on, of the epoch that the thief ends up with: the last one, or the one that was picked."""
        return self.picked or len(self.epochs)

    @property
    def last(self) -> float:
        """Clean test accuracy after the last step; of a thief who picks an epoch after that one."""
        return self.epochs[self.last_epoch - 1]

    @property
    def last_precision(self) -> float:
        """That of the owner's class then."""
        return self.precision[self.last_epoch - 1] if self.precision else math.nan

    @property
    def last_others(self) -> float:
        """The accuracy on all other classes then."""
        return self.others[self.last_epoch - 1] if self.others else math.nan

    def named_wrong(self, owner: Mapping[str, int]) -> float:
        """The share of the images of others, in [0, 1], that are named as the owner's after the last step.

        Args:
            owner: ``Report.owner``, how many there are.
        """
        if math.isnan(self.last_precision):  # none was named so
            return 0.0
        right = self.last * owner["owner test"]
        return right * (1 / self.last_precision - 1) / owner["others test"] if right else math.nan

    @property
    def peak(self) -> float:
        """The highest after any epoch: what a thief gets who stops early and happens to be lucky."""
        return max(self.epochs)

    def row(self, *, owner: bool, picked: bool) -> dict[str, Any]:
        """A row of the tidy table of a report.

        Args:
            owner: whether one owner's class was measured there.
            picked: whether a thief picks an epoch there: then every row tells which one the figure ``last`` is of.
        """
        told: dict[str, Any] = {
            "victim": self.victim,
            "defence": self.defence,
            "case": self.case,
            "ratio": self.ratio,
            "seed": self.seed,
            "last": round(self.last, 6),
            "peak": round(self.peak, 6),
            "peak_epoch": 1 + self.epochs.index(self.peak),
        }
        told |= {"last_epoch": self.last_epoch} if picked else {}
        return told | ({"precision": self.last_precision, "others": self.last_others} if owner else {})
