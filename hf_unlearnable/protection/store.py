"""The perturbations of a protection on disk: one Arrow row an image, looked up by digest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.pixels import DIGEST_BYTES
from hf_unlearnable.errors import BudgetError, DataError, first_line

# One row an image, at the surrogate's resolution, whatever the image's own: a photograph of 24 megapixels would take
# 72 MB at its own, and takes 3 kB at 32x32. ``resample_and_apply`` makes the same bytes of it on every machine. Rows of
# different sizes fit, the file is written batch by batch and read through a memory map.
SCHEMA = pa.schema(
    [
        ("digest", pa.binary(DIGEST_BYTES)),
        ("shape", pa.list_(pa.int32(), 3)),
        ("levels", pa.large_binary()),
    ]
)


class Store:
    """Reads a file that ``write`` made, through a memory map.

    Args:
        file: the Arrow file.
        dtype: of the levels, ``Budget.dtype``.
        shape: (C, H, W) of every perturbation.

    Raises:
        FileNotFoundError: there is none.
        DataError: it is damaged, or holds something else.
    """

    def __init__(self, file: Path, dtype: np.dtype[Any], shape: tuple[int, int, int]) -> None:
        self.dtype = dtype
        try:
            self._table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
            self._table.validate(full=True)  # offsets into the file: a wrong one would end the process
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file.name} cannot be read ({first_line(error)})") from error
        self._check(file.name, shape)
        # Batches and where each starts: to index a column of the table is to walk through all of its batches.
        self._batches = self._table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    def __len__(self) -> int:
        return len(self._table)

    def _check(self, name: str, shape: tuple[int, int, int]) -> None:
        """Refuse a table whose rows are not perturbations of ``shape``."""
        if self._table.schema != SCHEMA:
            raise DataError(f"{name} has the columns {', '.join(self._table.schema.names)} or others of these names")
        if any(column.null_count for column in self._table.columns):
            raise DataError(f"{name} has rows without a value")
        size = math.prod(shape) * self.dtype.itemsize
        for batch in self._table.to_batches():
            shapes = batch.column("shape").flatten().to_numpy().reshape(-1, 3)
            lengths = pc.binary_length(batch.column("levels")).to_numpy()
            if (shapes != shape).any() or (lengths != size).any():
                raise DataError(f"{name} has perturbations that are not of the shape {shape}")

    @staticmethod
    def write(file: Path, batches: Iterable[tuple[NDArray[np.void], NDArray[Any]]], budget: Budget) -> int:
        """Write batches of (digests, levels); every perturbation is checked once more.

        Returns:
            How many were written.

        Raises:
            BudgetError: levels outside the ball.
        """
        count = 0
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for digests, levels in batches:
                reached = float(budget.norm_of(levels).max(initial=0))
                if reached > budget.radius:
                    raise BudgetError(f"got a perturbation of {reached:g} levels to store; expected at most {budget}")
                count += len(levels)
                writer.write_batch(
                    pa.record_batch(
                        [
                            pa.array([bytes(key) for key in digests], SCHEMA.types[0]),
                            pa.array([row.shape for row in levels], SCHEMA.types[1]),
                            pa.array([row.tobytes() for row in levels], SCHEMA.types[2]),
                        ],
                        schema=SCHEMA,
                    )
                )
        return count

    def find(self, key: bytes) -> NDArray[Any] | None:
        """The levels (C, h, w) stored under a digest; None where there are none."""
        keys, order = self._index
        wanted = np.array([key], dtype=keys.dtype)  # an array on both sides: numpy drops trailing zero bytes of scalars
        found = int(np.searchsorted(keys, wanted)[0])
        if not (keys[found : found + 1] == wanted).any():
            return None
        position = int(order[found])
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        batch, place = self._batches[number], position - int(self._starts[number])
        shape = batch.column("shape")[place].as_py()
        return np.frombuffer(batch.column("levels")[place].as_buffer(), dtype=self.dtype).reshape(shape)

    @cached_property
    def _index(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """Sorted digests and where each stands; a stable sort, so that the first of equal rows speaks for all."""
        keys = np.array(self._table["digest"].to_pylist(), dtype=f"S{DIGEST_BYTES}")
        order = np.argsort(keys, kind="stable")
        return keys[order], order
