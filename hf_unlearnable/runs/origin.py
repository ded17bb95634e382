"""Where the originals of a run are: what was protected, as somebody can open it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
from datasets import Dataset

from hf_unlearnable.data.sources import name_of, open_source
from hf_unlearnable.errors import DataError
from hf_unlearnable.files import local_path
from hf_unlearnable.protection.documents import check_keys, kinds_of


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was protected.

    Attributes:
        dataset: a Hub id, or the absolute path of a folder or file.
        split: of it, ``"train+validation"`` for several.
        config: of it, where it has several.
        rows: how many were protected, from the first on; None for all.
        class_depth: of a folder of images, as ``load_source`` takes it.
        skipped: numbers of the rows that were left out: unreadable, unlabelled, or held out to test on.
    """

    dataset: str
    split: str = "train"
    config: str | None = None
    rows: int | None = None
    class_depth: int | None = None
    skipped: tuple[int, ...] = ()

    @classmethod
    def at(cls, dataset: str | PathLike[str], **choice: Any) -> Origin:
        """The origin that somebody named: a path here becomes absolute, a Hub id stays."""
        path = local_path(name_of(dataset))
        return cls(dataset=str(path.absolute()) if path.exists() else fspath(dataset), **choice)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Origin:
        """The inverse of ``as_dict``.

        Raises:
            DataError: a key that is missing or not known, or a value of another kind.
        """
        told = {name: value for name, value in stored.items() if value is not None}
        optional = ("split", "config", "rows", "class_depth", "skipped")
        check_keys(told, ("dataset",), optional, "a record of the originals", kinds_of(cls))
        return cls(**{**told, "skipped": tuple(told.get("skipped", ()))})

    def as_dict(self) -> dict[str, Any]:
        """Names and values, ready for JSON; without what is not known."""
        told = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        return {**told, "skipped": list(self.skipped)} if self.skipped else told

    def __str__(self) -> str:
        """In words, such as ``user/animals, config cats, split train, the first 300 rows``."""
        parts = [self.dataset, f"config {self.config}" if self.config else "", f"split {self.split}"]
        parts += [f"the first {self.rows} rows"] if self.rows is not None else []
        parts += [f"without {len(self.skipped)} that were left out or held out"] if self.skipped else []
        return ", ".join(filter(None, parts))

    def open(self, split: str | None = None) -> Dataset:
        """Open it.

        Args:
            split: another one than was protected; all of its rows.

        Raises:
            SourceError: nothing there.
            DataError: there, but not readable, without this split or with fewer rows.
        """
        # What is left out of a folder was said, and meant, when it was protected.
        data = open_source(self.dataset, split or self.split, self.config, self.class_depth).dataset
        if split is not None and split != self.split:
            return data
        count = len(data) if self.rows is None else self.rows
        if len(data) < max(count, max(self.skipped, default=-1) + 1):
            raise DataError(f"got {len(data)} rows of {self}; expected the {count} that were protected")
        if self.skipped:
            return data.select(np.setdiff1d(np.arange(count), self.skipped))
        return data if self.rows is None else data.select(range(count))
