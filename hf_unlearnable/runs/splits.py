"""A dataset of several splits that comes out whole: some protected with one fit, others kept clean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from hf_unlearnable.data.sources import Source
from hf_unlearnable.errors import DataError, number_of, option


@dataclass(frozen=True)
class Splits:
    """The splits of a dataset, by name.

    Attributes:
        protected: in the order in which they are fitted together.
        clean: those that stay as they are.
    """

    protected: Mapping[str, Dataset]
    clean: Mapping[str, Dataset] = field(default_factory=dict)

    @classmethod
    def of(cls, opened: Source, data: Dataset, skipped: Sequence[int], clean: Mapping[str, Dataset]) -> Splits:
        """Take apart again what was opened one split after the other.

        Args:
            opened: all splits to protect.
            data: its rows without those that are left out.
            skipped: the numbers of those.
            clean: the others.

        Raises:
            DataError: a split of which all rows are left out.
        """
        names = opened.split.split("+")
        ends = np.cumsum([opened.splits[name] for name in names])
        ends -= np.searchsorted(np.sort(np.asarray(skipped, dtype=np.int64)), ends)
        starts = [0, *ends[:-1]]
        bounds = {name: (start, end) for name, start, end in zip(names, starts, ends, strict=True)}
        if empty := [name for name, (start, end) in bounds.items() if start == end and opened.splits[name]]:
            others = "+".join(name for name in names if name not in empty)
            fix = f". Leave the split out: {option('split', others)}" if others else ""
            raise DataError(
                f"got the split {empty[0]!r}, of which all {number_of(opened.splits[empty[0]], 'row')} are left out; "
                f"expected at least one that is protected{fix}"
            )
        # A split that never had a row: ``datasets`` takes no range that begins behind the last one.
        parts = {name: data.select(range(*ends) if len(range(*ends)) else []) for name, ends in bounds.items()}
        return cls(parts, clean)

    def as_dict(self) -> dict[str, list[str]]:
        """Their names, ready for JSON."""
        return {"protected": list(self.protected), "clean": list(self.clean)}
