"""Who is there: a private folder and the work that goes on for each visitor, gone when they leave."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hf_unlearnable.app.jobs import Job, ready
from hf_unlearnable.app.pictures import LONGEST, WHOLE, is_refused, place, safe_name
from hf_unlearnable.app.work import PICTURES, Looked, Made
from hf_unlearnable.errors import DataError
from hf_unlearnable.files import private_folder, scratch_folder

FORGOTTEN = 12 * 3600  # seconds without a sign of life after which a visit ends, whatever the browser said


@dataclass
class Visit:
    """One open page.

    Attributes:
        home: its folder, which only the owner of the process may read.
        key: what sends and fetches pictures; nobody can guess it.
        room: bytes that may still be sent, or unpacked; all that were ``granted`` once everything is deleted.
        refused: names of files that were not kept.
        looked: what was found in the pictures.
        made: of them.
        coming: files that are being sent, and the bytes that each will have.
        seen: when something was last asked for, on the clock of ``time.monotonic``.
        jobs: the works that were begun and may go on.
        lock: held while files and the room for them are counted.
    """

    home: Path
    room: int
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    refused: list[str] = field(default_factory=list)
    looked: Looked | None = None
    made: Made | None = None
    seen: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    coming: dict[Path, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.granted = self.room

    def job(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Job:
        """Begin a work."""
        self.seen = time.monotonic()
        scratch = self.home / "scratch"
        private_folder(scratch)
        job = Job(partial(function, *arguments, **named), scratch)
        self.jobs = [*(other for other in self.jobs if other.goes_on), job]
        return job

    def stop(self) -> None:
        """End the work that goes on."""
        for job in self.jobs:
            job.stop()

    def place(self, name: str, size: int) -> Path | None:
        """Where to write a file that is sent; None for one that is not kept.

        Raises:
            DataError: a name that leads elsewhere or is too long, one that was sent before or that clashes with one, or
                more than there is room for.
        """
        self.seen = time.monotonic()
        path = safe_name(name)
        if path is None:
            raise DataError(
                f"got a file of the name {name!r}; expected a plain name below one folder, and none of more than "
                f"{LONGEST} bytes or {WHOLE} with its folders"
            )
        if is_refused(path):
            self.refused.append(str(path))
            return None
        with self.lock:
            if size > self.room:
                raise DataError("got more than there is room for; expected less: protect a part at a time")
            file = place(self.home / PICTURES, path)
            self.coming[file] = size
            self.room -= size
        return file

    def arrived(self, file: Path) -> None:
        """Take note that a file is there in full."""
        with self.lock:
            self.coming.pop(file, None)

    def give_up(self, file: Path, size: int) -> None:
        """Forget a file that did not arrive; its room is there for others."""
        file.unlink(missing_ok=True)
        with self.lock:
            self.coming.pop(file, None)
            self.room = min(self.room + size, self.granted)

    def recount(self) -> None:
        """Count the room again by the files that are there: what zips were unpacked to, and no zip any more.

        What still comes takes the room that it will need.
        """
        with self.lock, suppress(FileNotFoundError):  # deleted meanwhile
            files = [file for file in (self.home / PICTURES).rglob("*") if file.is_file()]
            self.room = self.granted - sum(self.coming.get(file, file.stat().st_size) for file in files)

    def clear(self) -> None:
        """Delete everything."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        private_folder(self.home)
        self.refused, self.coming, self.looked, self.made, self.room = [], {}, None, None, self.granted


class Visits:
    """All open pages.

    Args:
        home: a folder for their folders.
        room: bytes that a visitor may send.
    """

    def __init__(self, home: Path, room: int) -> None:
        self.home, self._room = home, room
        self._of: dict[str, Visit] = {}

    def begin(self, session: str) -> Visit:
        """Of a page that was opened."""
        now = time.monotonic()
        for other in [name for name, visit in list(self._of.items()) if now - visit.seen > FORGOTTEN]:
            self.end(other)
        home = self.home / secrets.token_hex(8)
        private_folder(home)
        self._of[session] = visit = Visit(home, self._room)
        return visit

    def of(self, session: str) -> Visit | None:
        """The visit of a page."""
        return self._of.get(session)

    def by_key(self, key: str) -> Visit | None:
        """The visit of a key."""
        return next((visit for visit in list(self._of.values()) if secrets.compare_digest(visit.key, key)), None)

    def end(self, session: str) -> None:
        """Stop the work of a page that was closed, and delete its pictures."""
        if visit := self._of.pop(session, None):
            visit.clear()
            shutil.rmtree(visit.home, ignore_errors=True)


@contextmanager
def visits(room: int, home: Path) -> Iterator[Visits]:
    """Visits that leave nothing behind: their folders go when the block ends.

    Args:
        room: bytes that a visitor may send.
        home: where a private folder is made for them; what a killed app left there goes too.
    """
    with scratch_folder(home, "unlearnable-app") as scratch, ready(scratch):
        all_of_them = Visits(scratch, room)
        try:
            yield all_of_them
        finally:
            for session in list(all_of_them._of):
                all_of_them.end(session)
