"""Victims trained side by side: small networks leave most of two threads idle, two processes of one thread none."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from PIL import Image
from tqdm.auto import tqdm

from hf_unlearnable.errors import RecipeError, UnlearnableError, command_line_words, first_line, option, warn, worded
from hf_unlearnable.evaluation.opening import Opened
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.evaluation.victims import Trial
from hf_unlearnable.models.surrogate import load_transformers
from hf_unlearnable.progress import Progress
from hf_unlearnable.registry import load_plugin, loaded_plugins

MOST = 8  # processes that are chosen where nobody says how many: each imports torch and holds the images
MEMORY = 2 * 2**30  # bytes of images that they hold together then
LARGE = 10**8  # pixels to train on, from which on the seconds that they take to start are worth it
OFTEN = 1.0  # seconds between two words of a process about its progress

Group = list[tuple[int, Trial, bool]]  # what one process does in order: place among all, trial, whether to keep weights


@dataclass(frozen=True)
class Bench:
    """What a process needs to train victims by itself.

    Attributes:
        groups: the work in pieces, of which a process is told the numbers.
        opened: the sets.
        folder: where results are kept.
        cpu: whether to stay off a GPU.
        mixed_precision: as Accelerate calls it.
        at_the_command_line: whether messages speak of options.
        max_pixels: Pillow's limit for images that are read again, which is not that of Pillow itself where somebody
            has set another one.
    """

    groups: list[Group]
    opened: Opened
    folder: Path
    cpu: bool
    mixed_precision: str
    at_the_command_line: bool
    max_pixels: int | None

    @classmethod
    def of(cls, groups: list[Group], opened: Opened, folder: Path, accelerator: Accelerator) -> Bench:
        """What this process has."""
        return cls(
            groups,
            replace(opened, progress=False),
            folder,
            cpu=accelerator.device.type == "cpu",
            mixed_precision=accelerator.mixed_precision,
            at_the_command_line=bool(worded(python="", shell="yes")),
            max_pixels=Image.MAX_IMAGE_PIXELS,
        )


def chosen_count(opened: Opened, images: int, groups: int, accelerator: Accelerator) -> int:
    """How many processes suit a measurement: one for each thread on a CPU where there is much to train, else one.

    Args:
        opened: the sets.
        images: how many all victims together are shown.
        groups: how many pieces the work has.
        accelerator: one of several processes, or with a GPU, has no use for more.
    """
    may_start_some = not multiprocessing.current_process().daemon
    if accelerator.num_processes > 1 or accelerator.device.type != "cpu" or not may_start_some:
        return 1
    if images * opened.size[0] * opened.size[1] < LARGE:
        return 1
    held = sum(images.pixels.nbytes for images in opened.sets.values())
    return max(1, min(torch.get_num_threads(), MOST, groups, MEMORY // held))


def side_by_side(bench: Bench, count: int, bar: Progress) -> dict[int, Result]:
    """The result of every trial by its place, from ``count`` processes that take one group after the other.

    What one of them finishes is kept, as ``Victims.result`` does it, whatever becomes of the others.

    Raises:
        RecipeError: this process may start no other.
        UnlearnableError: as a victim raises it; something cannot be sent to a process; or one ended too early.
    """
    if multiprocessing.current_process().daemon:
        raise RecipeError(
            f"got {option('num_proc', count)} in a daemonic process, which may start no other; expected one process"
        )
    found: dict[int, Result] = {}
    waiting = iter(range(len(bench.groups)))
    begun: set[Connection] = set()
    told = _packed(bench)
    with _started(count) as workers:
        try:
            for connection in workers:
                connection.send(loaded_plugins())
                connection.send_bytes(told)
            while len(found) < sum(map(len, bench.groups)):
                for connection in cast("list[Connection]", wait(list(workers))):
                    kind, value = connection.recv()
                    if not begun:
                        bar.begin()
                    begun.add(connection)
                    if kind == "ready" and (number := next(waiting, None)) is not None:
                        connection.send(number)
                    elif kind == "steps":
                        bar.advance(value)
                    elif kind == "result":
                        found.update([value])
                    elif kind == "warning":
                        warn(value)
                    elif kind == "error":
                        raise value
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise _ended(workers, begun) from error
    return found


def _ended(workers: dict[Connection, SpawnProcess], begun: set[Connection]) -> UnlearnableError:
    """What to say where one does not answer any more."""
    for process in workers.values():
        process.join(1)
    which = f"one of the {len(workers)} processes that train"
    by_itself = {connection for connection, process in workers.items() if (process.exitcode or 0) > 0}
    if by_itself - begun:  # its own words stand above
        return UnlearnableError(
            f"{which} could not begin; expected a script in a file that starts several from below "
            f'`if __name__ == "__main__":`, since each of them imports it. Or use one process'
        )
    kept = "What is finished is kept where there is a folder for it, and the same call goes on"
    if by_itself:
        return UnlearnableError(f"{which} ended by itself; expected all to come to their end. {kept}")
    return UnlearnableError(
        f"{which} was killed; expected all to come to their end. {kept}. Where memory is short use fewer: a smaller "
        f"{worded(python='num_proc', shell='--num-proc')}"
    )


def _packed(bench: Bench) -> bytes:
    try:
        return pickle.dumps(bench)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _not_sent(error) from error


def _unpacked(told: bytes) -> Bench:
    try:
        return cast("Bench", pickle.loads(told))
    except (AttributeError, ImportError) as error:  # of a class that only the first process knows
        raise _not_sent(error) from error


def _not_sent(error: Exception) -> UnlearnableError:
    return UnlearnableError(
        f"got several processes for something that cannot be sent to another ({first_line(error)}); expected images "
        f"and thieves that can be pickled, whose classes stand in a module or in a file that is loaded as a plugin. Or "
        f"use one process"
    )


@contextmanager
def _started(count: int) -> Iterator[dict[Connection, SpawnProcess]]:
    """Processes that are ended when the block is left, and the line to each of them."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch, and stand still
    workers: dict[Connection, SpawnProcess] = {}
    try:
        with _for_children(OMP_NUM_THREADS=str(max(1, torch.get_num_threads() // count))):
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                workers[ours] = process
        yield workers
    finally:
        for process in workers.values():
            process.terminate()
        for connection, process in workers.items():
            process.join()
            connection.close()


@contextmanager
def _for_children(**environment: str) -> Iterator[None]:
    """Start processes with an environment, and deaf to Ctrl-C: the one that waits for them ends them."""
    before = {name: os.environ.get(name) for name in environment}
    resource_tracker.ensure_running()  # which the first of them would start, and that lets signals through again
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _work(connection: Connection) -> None:
    """Train what is asked for: after plugins and bench every message is the number of a group."""
    with suppress(BrokenPipeError, ConnectionResetError):  # the one that waits has ended, or was killed
        try:
            _answer(connection)
        except Exception as error:
            error.add_note(f"in one of the processes that train:\n{traceback.format_exc()}")  # pickled, it has no lines
            connection.send(("error", _sendable(error)))


def _answer(connection: Connection) -> None:
    def told(message: Warning | str, *_: Any) -> None:
        connection.send(("warning", str(message)))

    warnings.showwarning = told  # type: ignore[assignment]
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of all processes, which one that is ended leaves behind
    for plugin in connection.recv():  # first: the bench may hold something of theirs
        load_plugin(plugin)
    bench = _unpacked(connection.recv_bytes())
    Image.MAX_IMAGE_PIXELS = bench.max_pixels
    with command_line_words() if bench.at_the_command_line else nullcontext():
        accelerator = Accelerator(cpu=bench.cpu, mixed_precision=bench.mixed_precision)
        victims = bench.opened.victims(accelerator, bench.folder)
        bar = _Counter(lambda steps: connection.send(("steps", steps)))
        load_transformers()
        while True:
            connection.send(("ready", None))
            for place, trial, keep_weights in bench.groups[connection.recv()]:
                result = victims.result(trial, bar, keep_weights=keep_weights)
                bar.tell()
                connection.send(("result", (place, result)))


def _sendable(error: Exception) -> Exception:
    """The error itself where it survives the way; its words otherwise."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Counter(Progress):
    """Tells a function how many steps were done since it was told last."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__("victims", 0, enabled=False)
        self._tell, self._steps, self._told = tell, 0, time.monotonic()

    def advance(self, count: int = 1, **figures: float) -> None:
        self._steps += count
        if time.monotonic() - self._told > OFTEN:
            self.tell()

    def tell(self) -> None:
        """Say now what was not said yet."""
        self._tell(self._steps)
        self._steps, self._told = 0, time.monotonic()
