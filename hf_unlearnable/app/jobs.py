"""Work in a process of its own, which tells how far it is, and which can be stopped at any moment by ending it."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from hf_unlearnable.errors import UnlearnableError, browser_words, first_line
from hf_unlearnable.progress import heard_by

ROUND = 0.25  # seconds between two signs of life
WORK = "hf_unlearnable.app.work"
NETWORKS = "hf_unlearnable.modeling"  # which the former leaves for those that train one

_server = "forkserver" in multiprocessing.get_all_start_methods()
_context: Any = multiprocessing.get_context("forkserver" if _server else "spawn")


class Stopped(Exception):
    """Somebody stopped the work."""


class Step(NamedTuple):
    """How far a work is.

    Attributes:
        what: the part that is going on; empty before the first.
        share: what is done of all, in [0, 1].
        seconds: since the beginning.
    """

    what: str
    share: float
    seconds: float

    @property
    def left(self) -> float | None:
        """Seconds, as the part that is done lets expect; None in the first moments."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0.02 and self.seconds > 1 else None


@contextmanager
def ready(home: Path) -> Iterator[None]:
    """Load what jobs need once, in a process from which all are forked; what libraries keep goes below ``home``.

    Those processes see no token of whoever started the app, and send nothing about its use.
    """
    changed = {"HF_HOME": str(home / "huggingface"), "TMPDIR": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    gone = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_XET_CACHE")
    before = {name: os.environ.get(name) for name in (*changed, *gone)}
    os.environ.update(changed)
    for name in gone:
        os.environ.pop(name, None)
    try:
        if _server:
            _context.set_forkserver_preload([WORK, NETWORKS])
            forkserver.ensure_running()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class Job:
    """A function of ``work`` in a process of its own.

    Args:
        work: what to do, with its arguments; pickled.
        scratch: a folder for what libraries write on the way; exists.
    """

    def __init__(self, work: Callable[[], Any], scratch: Path) -> None:
        self._connection, other = _context.Pipe(duplex=False)
        self._process = _context.Process(target=_work, args=(other, scratch, work), daemon=True)
        self._stopped = False
        self._begun = time.monotonic()
        self._process.start()
        other.close()

    def steps(self) -> Iterator[Step]:
        """How far it is, a few times a second, until it has ended; then ``result`` is there.

        Raises:
            Stopped: by ``stop``.
            UnlearnableError: as the function raised it, or the process was killed.
        """
        what, share = "", 0.0
        try:
            while True:
                if self._connection.poll(ROUND):
                    kind, *told = self._told()
                    if kind == "done":
                        self.result = told[0]
                        return
                    if kind == "failed":
                        raise told[0]
                    what, share = told
                yield Step(what, share, time.monotonic() - self._begun)
        finally:
            self.stop()
            self._connection.close()

    def _told(self) -> Any:
        """The next word of the process."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            if self._stopped:
                raise Stopped from error
            raise UnlearnableError(
                "the work was ended from outside, most likely for want of memory; expected it to come to its end. Try "
                "fewer or smaller pictures"
            ) from error

    def wait(self) -> Any:
        """The result, when it is there; errors are those of ``steps``."""
        for _ in self.steps():
            pass
        return self.result

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return bool(self._process.is_alive())

    def stop(self) -> None:
        """End the process at once; nothing happens where it has ended."""
        self._stopped = True
        self._process.kill()
        self._process.join()


def _work(connection: Connection, scratch: Path, work: Callable[[], Any]) -> None:
    """What happens in the process."""
    import datasets

    for stream in (1, 2):  # what is printed may name pictures
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    tempfile.tempdir = str(scratch)
    datasets.config.HF_DATASETS_CACHE = scratch
    tqdm.set_lock(threading.RLock())  # its own one is shared between processes, and stays behind when one is ended
    said = 0.0

    def tell(what: str, share: float) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > ROUND / 2 or share in (0, 1):
            said = now
            connection.send(("at", what, share))

    try:
        with browser_words(), heard_by(tell):
            result = work()
    except UnlearnableError as error:
        connection.send(("failed", error))
    except Exception as error:  # whatever a library thinks of somebody's pictures is told to them alone
        connection.send(("failed", UnlearnableError(f"{type(error).__name__}: {first_line(error)}")))
    else:
        connection.send(("done", result))
