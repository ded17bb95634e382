"""Several processes that fit one protection: which rows each owns, and what they tell one another.

Every row is owned by exactly one process, which alone reads its image and moves its perturbation. (The data loaders of
Accelerate repeat rows so that all processes get equally many; a row that two processes moved would have two
perturbations.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from numpy.typing import NDArray

from hf_unlearnable.errors import RecipeError, UnlearnableError, worded
from hf_unlearnable.files import chunks

T = TypeVar("T")


def owners(labels: NDArray[np.int64], processes: int) -> NDArray[np.int64]:
    """The process that owns each row: (N,) in [0, ``processes``).

    Two rows of a class are dealt out together (three where a class is odd), so that no process gets a class with a
    single image, and shares of a class differ by three at most.

    Args:
        labels: (N,), every class at least twice.
        processes: how many.
    """
    if processes == 1:
        return np.zeros(len(labels), dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a row within its class
    pair = np.minimum(place // 2, np.repeat(np.maximum(counts // 2 - 1, 0), counts))
    pairs = np.maximum(counts // 2, 1)
    result = np.empty(len(labels), dtype=np.int64)
    result[order] = (np.repeat(np.cumsum(pairs) - pairs, counts) + pair) % processes
    return result


def world_size() -> int:
    """How many processes whoever started this one has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ordinary_torch() -> Iterator[None]:
    """Gradients and float32 while the block runs, whatever the caller has set in this process."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def default_accelerator() -> Accelerator:
    """What is used where nobody passes one.

    Without a GPU Accelerate takes each of several processes for a single one, unless it is told to use the CPU.
    """
    return Accelerator(cpu=True) if world_size() > 1 and not torch.cuda.is_available() else Accelerator()


def share_of(batch_size: int, processes: int) -> int:
    """What is left for each process of a batch that all make together; at least two rows, to be compared."""
    return batch_size if processes == 1 else max(2, batch_size // processes)


def numpy_generator(seed: int, rank: int) -> np.random.Generator:
    """What a process draws rows with; the main one's does not depend on how many there are."""
    return np.random.default_rng([seed, rank] if rank else seed)


def torch_generator(seed: int, rank: int) -> torch.Generator:
    """What a process draws crops, flips and noise with, on the CPU; likewise."""
    return torch.Generator().manual_seed(seed + 7919 * rank)


@dataclass(frozen=True)
class Shard:
    """The part of a data set that one process owns.

    Attributes:
        accelerator: of all processes.
        labels: (N,) of the whole set.
    """

    accelerator: Accelerator
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.count == 1 and world_size() > 1:
            raise RecipeError(
                f"got an accelerator that knows of one process where {world_size()} were started; expected it to know "
                f"all, or each would protect everything. On a machine without GPUs use "
                + worded(python="Accelerator(cpu=True)", shell="accelerate launch --cpu")
            )
        if self.count > 1 and min(map(len, self._all)) == 0:
            raise RecipeError(
                f"got {self.count} processes for {len(self.labels)} images; expected at least one pair of images of a "
                f"class for each process. Start fewer"
            )

    @property
    def count(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Which of them this is."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether it is the one that prints and writes what all share."""
        return bool(self.accelerator.is_main_process)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows of the whole set that this process owns, ascending."""
        return self._all[self.rank]

    @cached_property
    def _all(self) -> list[NDArray[np.int64]]:
        owner = owners(self.labels, self.count)
        return [np.flatnonzero(owner == rank) for rank in range(self.count)]

    def share(self, batch_size: int) -> int:
        """``share_of`` a batch for each of these processes."""
        return share_of(batch_size, self.count)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes of tensors of one shape."""
        return tensor if self.count == 1 else self.accelerator.reduce(tensor, reduction="sum")

    def mean(self, value: float) -> float:
        """The mean over all rows of what is ``value`` on average over the rows of each process."""
        if self.count == 1:
            return value
        total = torch.tensor([value * len(self.rows)], device=self.accelerator.device, dtype=torch.float32)
        return float(self.sum(total)) / len(self.labels)

    def largest(self, number: int) -> int:
        """The largest of one number of each process."""
        return number if self.count == 1 else max(gather_object([number]))

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """One entry for each own row (n, ...) -> one for each row of the whole set (N, ...), on every process."""
        if self.count == 1:
            return part
        result = part.new_empty(len(self.labels), *part.shape[1:])
        for rows, entries in self._travel(lambda rows: part[rows], part.shape[1:]):
            result[torch.from_numpy(rows).to(part.device)] = entries
        return result

    def gather_with_grad(self, batch: torch.Tensor) -> torch.Tensor:
        """The batches (B, ...) of all processes, one behind the other; gradients flow back to this process's own."""
        if self.count == 1:
            return batch
        counts = gather_object([len(batch)])
        filled = batch.new_zeros(max(counts), *batch.shape[1:])
        filled[: len(batch)] = batch.detach()
        parts = list(self.accelerator.gather(filled).split(max(counts)))
        parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
        parts[self.rank] = batch
        return torch.cat(parts)

    def write(self, read: Callable[[slice], NDArray[Any]], target: NDArray[Any] | None, shape: Sequence[int]) -> None:
        """Collect arrays of the own rows in an array of the whole set, which only the main process has.

        Args:
            read: entries of the own rows in a slice of their places, one byte or number each.
            target: (N, ...), where the main process puts all of them; None on the others.
            shape: of one entry.
        """
        if self.count == 1:
            assert target is not None
            for rows in chunks(len(target), shape):
                target[rows] = read(rows)
            return
        device = self.accelerator.device
        for places, entries in self._travel(lambda rows: torch.from_numpy(read(rows)).to(device), shape):
            if target is not None:
                target[places] = entries.cpu().numpy()

    def _travel(
        self, read: Callable[[slice], torch.Tensor], shape: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Row numbers of the whole set and their entries, from every process in turn, in pieces of bounded size."""
        for piece in chunks(max(map(len, self._all)), shape):
            parts = [rows[piece] for rows in self._all]
            longest = max(map(len, parts))
            entries = read(slice(piece.start, piece.start + len(parts[self.rank])))
            filled = entries.new_zeros(longest, *entries.shape[1:])
            filled[: len(entries)] = entries
            everything = self.accelerator.gather(filled)
            for rank, rows in enumerate(parts):
                yield rows, everything[rank * longest : rank * longest + len(rows)]

    def equal_batch_counts(self, batches: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """The same number of batches on every process, since they take each step together: the largest are halved."""
        missing = self.largest(len(batches)) - len(batches)
        for _ in range(missing):
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            batches[largest : largest + 1] = np.array_split(batches[largest], 2)
        return batches


def run_on_all(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Do what every process does by itself; an error of one is raised by all, or the others would wait for it forever.

    Args:
        accelerator: of all processes.
        work: must not wait for other processes itself: one that has failed does not come there.

    Raises:
        UnlearnableError: of this process, or the first of another.
        OSError: likewise, such as a full disk.
    """
    if accelerator.num_processes == 1:
        return work()
    result, error = None, None
    try:
        result = work()
    except (UnlearnableError, OSError) as raised:
        error = raised
    errors = [one for one in gather_object([_for_others(error)]) if one is not None]
    if error is not None:
        raise error
    if errors:
        raise errors[0]
    return result  # type: ignore[return-value]


def _for_others(error: Exception | None) -> Exception | None:
    """An error such that other processes can read it: those of other libraries hold more than can be sent."""
    if isinstance(error, UnlearnableError) or not isinstance(error, OSError):
        return error
    return OSError(str(error)) if error.errno is None else OSError(error.errno, error.strerror, error.filename)


def from_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What the main process makes, for all of them; ``run_on_all`` says what is raised."""
    made = run_on_all(accelerator, lambda: work() if accelerator.is_main_process else None)
    return broadcast(accelerator, made)  # type: ignore[return-value]


def broadcast(accelerator: Accelerator, value: T) -> T:
    """What the main process has for ``value``."""
    if accelerator.num_processes == 1:
        return value
    told = [value]
    broadcast_object_list(told, from_process=0)
    return told[0]


def gather_objects(accelerator: Accelerator, value: T) -> list[T]:
    """``value`` of every process, in the order of their ranks."""
    return [value] if accelerator.num_processes == 1 else gather_object([value])
