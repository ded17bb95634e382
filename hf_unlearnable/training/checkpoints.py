"""What a fit keeps while it runs, so that a process that was killed is no loss: the same call goes on.

A checkpoint is one file of each process and a description that the main process writes last: without it, or where it
names other files, the checkpoint before is the one that counts. It holds perturbations and is never published.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hf_unlearnable.errors import CheckpointError, DataError, first_line, worded
from hf_unlearnable.files import atomic_write, file_digest, private_opener
from hf_unlearnable.protection.documents import check_keys, read_json
from hf_unlearnable.training.processes import Shard, broadcast, from_main, gather_objects, run_on_all

logger = logging.getLogger(__name__)

DESCRIPTION = "checkpoint.json"

KINDS = {"number": (int,), "digests": (list,), "identity": (dict,)}  # of its entries

MADE_LABELS = "made labels"  # among what a result depends on

FINISHED, ANNOUNCED, THREADS = "finished", "announced", "threads"

MOST_THREADS = 4096  # of any processor: more is damage

ASK_EVERY = 10  # steps between two looks at the main process's clock, where there are several processes


class Checkpoints:
    """Keeps the states of a fit's parts in a folder, and gives back what an earlier process kept there.

    On a CPU the bytes depend on the number of threads, which share out sums in another order. A fit that goes on does
    so with as many as the one that was stopped (``torch.set_num_threads``), whatever this process has; who makes one
    puts the number back afterwards.

    Args:
        folder: where to; None keeps nothing.
        identity: all that the result depends on, ready for JSON: a checkpoint of another one is refused. Not looked at
            without a folder.
        shard: of this process.
        every: seconds between two checkpoints.

    Raises:
        CheckpointError: a checkpoint of another recipe, data or version, or a damaged one.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any], shard: Shard, every: float) -> None:
        self.folder, self.shard, self.every = folder, shard, every
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.number = 0
        self.finished: str | None = None
        self.announced: str | None = None
        self._digests: list[str] = []
        self._parts: dict[str, Callable[[], Any]] = {}
        self._saved: dict[str, Any] = {}
        self._steps = 0
        if folder is not None:
            described = from_main(shard.accelerator, self._description)
            run_on_all(shard.accelerator, lambda: self._open(described))
        self._threads = torch.get_num_threads()
        self._last = time.monotonic()

    def keep(self, name: str, state: Callable[[], Any]) -> Any:
        """Keep what ``state`` returns from the next checkpoint on, instead of what was kept under ``name`` before.

        Args:
            name: of a part of the fit; the same in every process that goes on.
            state: returns nested dictionaries and lists of tensors, numbers and text.

        Returns:
            What the checkpoint that the fit goes on from has under this name; None if it has none. Tensors are mapped
            from the file: copy them.
        """
        self._parts[name] = state
        return self._saved.pop(name, None)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Keep what parts ask for within the block, and no longer: afterwards others may use their names."""
        before = set(self._parts)
        yield
        for name in self._parts.keys() - before:
            del self._parts[name]

    def saved(self, name: str) -> Any:
        """What ``keep`` will return."""
        return self._saved.get(name)

    def tick(self) -> None:
        """Between two steps: write a checkpoint if it is time."""
        if self.folder is None:
            return
        self._steps += 1
        if self.shard.count > 1 and self._steps % ASK_EVERY:
            return
        if broadcast(self.shard.accelerator, time.monotonic() - self._last >= self.every):
            self.save()

    def save(self) -> None:
        """Write a checkpoint now; the one before stays until this one is whole.

        Raises:
            OSError: no room, or not writable. The checkpoint before is left as it was.
        """
        assert self.folder is not None
        accelerator, before = self.shard.accelerator, self.number
        file = self._file(before + 1)
        try:
            digest = run_on_all(accelerator, lambda: self._write(file))
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        self.number, self._digests = before + 1, gather_objects(accelerator, digest)
        self._describe_from_main()
        self._file(before).unlink(missing_ok=True)
        self._last = time.monotonic()

    def _write(self, file: Path) -> str:
        """Write the part of this process, and return its digest."""
        try:
            with open(file, "wb", opener=private_opener) as stream:
                # With what an earlier process kept for parts that this one has not come to again.
                torch.save({**self._saved, **{name: state() for name, state in self._parts.items()}}, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except RuntimeError as error:
            # On a full disk torch raises that it could not finish the file, on top of the reason.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        return file_digest(file)

    def announce(self, result: str) -> None:
        """Note the digest of a result that is about to be moved to its place, so that it is known if it is found there.

        For the main process only.
        """
        if self.folder is not None:
            self._describe(**{ANNOUNCED: result})

    def finish(self, result: str) -> None:
        """Note that the fit is finished, with the digest of its result, and drop what only an unfinished one needs."""
        if self.folder is None:
            return
        self._describe_from_main(**{FINISHED: result})
        self._file(self.number).unlink(missing_ok=True)

    def _describe_from_main(self, **more: Any) -> None:
        """Let the main process describe the checkpoint; all others go on when it has."""
        run_on_all(self.shard.accelerator, lambda: self._describe(**more) if self.shard.is_main else None)

    def _describe(self, **more: Any) -> None:
        assert self.folder is not None
        content = {"number": self.number, "digests": self._digests, "identity": self.identity}
        content |= {THREADS: self._threads, **more}
        atomic_write(self.folder / DESCRIPTION, json.dumps(content, indent=2) + "\n", private=True)

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number}-of-process-{self.shard.rank}"

    def _open(self, described: Mapping[str, Any] | None) -> None:
        """Look what is there, as the main process has found it described."""
        assert self.folder is not None
        if described is not None:
            self._compare(described["identity"])
            self.number, self._digests = described["number"], described["digests"]
            self.finished, self.announced = described.get(FINISHED), described.get(ANNOUNCED)
            if self.finished is None and self._digests:
                self._saved = self._load()
                self._go_on_with(described.get(THREADS))
        for file in self.folder.glob(f"*-of-process-{self.shard.rank}"):
            if file != self._file(self.number):
                file.unlink()  # of a checkpoint that was never completed

    def _go_on_with(self, threads: int | None) -> None:
        here = torch.get_num_threads()
        if self.shard.accelerator.device.type != "cpu" or threads in (None, here):
            return  # a version before wrote none
        if not 1 <= threads <= MOST_THREADS:
            raise self._damaged(f"{threads} threads")
        torch.set_num_threads(threads)
        if self.shard.is_main:
            logger.warning(
                "The fit goes on with %d threads, as it began, and not with the %d of this process: the bytes depend "
                "on it. To use %d, start afresh.",
                threads,
                here,
                here,
            )

    def _description(self) -> dict[str, Any] | None:
        assert self.folder is not None
        file = self.folder / DESCRIPTION
        if not file.exists():
            return None
        try:
            content = read_json(file)
            more = {FINISHED: (str,), ANNOUNCED: (str,), THREADS: (int,)}
            check_keys(content, KINDS, tuple(more), file.name, {**KINDS, **more})
        except (DataError, OSError) as error:
            raise self._damaged(first_line(error)) from error
        return content

    def _load(self) -> dict[str, Any]:
        file = self._file(self.number)
        if not file.exists():
            raise self._damaged(
                f"{file.name} is missing; if there are several machines, the folder must be on a disk "
                f"that all of them see"
            )
        if self._digests[self.shard.rank : self.shard.rank + 1] != [file_digest(file)]:
            raise self._damaged(f"{file.name} has changed")
        # No arbitrary objects, and mapped into memory: perturbations can be larger than it.
        try:
            saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
            raise self._damaged(f"{file.name} holds something else than numbers") from error
        return saved

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(f"the checkpoint in {str(self.folder)!r} is damaged ({why}); {start_afresh()}")

    def _compare(self, theirs: Mapping[str, Any]) -> None:
        if told := _differences(theirs, self.identity):
            raise CheckpointError(
                f"the checkpoint in {str(self.folder)!r} is of another fit: {'; '.join(told)}. Undo that to go on, or "
                f"{start_afresh()}"
            )


def start_afresh() -> str:
    """What to do where a checkpoint is of no use, in the words of the surface."""
    return worded(
        python="remove the folder to start afresh, as protect does with overwrite=True",
        shell="start afresh: with --overwrite, under another --output, or after you removed the folder",
    )


# What follows from the images, and is not told where these are others.
_FOLLOWS = {"image_mode", "image_sizes", "image_shape", "largest_image", "resampled", "conversions"}
_FOLLOWS |= {"classes", "label_values", "data", MADE_LABELS}

# What people give, by the name of what it becomes.
_GIVEN = {
    **{name: name for name in ("budget", "duplicates", "image_column", "label_column", "labels")},
    "surrogates": "surrogate",
    "image_shape": "resolution",
    "on_unseen": "on_unseen",
    "method name": "method",
    "method seed": "seed",
    "method epochs": "epochs",
}
_SHELL = {"on_unseen": "--craft-unseen"}


_ABSENT = object()  # of another version, which is not to be taken for a setting that is open


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Each in words: of a dictionary the entries that differ, and of another method its name alone."""
    differing = [name for name in {**theirs, **ours} if theirs.get(name, _ABSENT) != ours.get(name, _ABSENT)]
    told = []
    if {"data", MADE_LABELS} & set(differing):
        told = ["the images or their labels are not those that it began with"]
        differing = [name for name in differing if name not in _FOLLOWS]
    for name in differing:
        before, now = theirs.get(name, _ABSENT), ours.get(name, _ABSENT)
        if not isinstance(before, dict) or not isinstance(now, dict):
            told.append(_difference(name, before, now))
            continue
        keys = [key for key in {**before, **now} if before.get(key, _ABSENT) != now.get(key, _ABSENT)]
        keys = ["name"] if name == "method" and "name" in keys else keys
        told += [_difference(f"{name} {key}", before.get(key, _ABSENT), now.get(key, _ABSENT)) for key in keys]
    return told


def _difference(name: str, before: Any, now: Any) -> str:
    given = _GIVEN.get(name)
    if given is not None:
        name = worded(python=given, shell=_SHELL.get(given, f"--{given.replace('_', '-')}"))
    was, now_is = ("not there" if one is _ABSENT else repr(one) for one in (before, now))
    return f"{name} was {was} and is {now_is}"
