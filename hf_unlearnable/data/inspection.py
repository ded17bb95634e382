"""The passes over the images of a dataset before the work: headers, pixels, and a few that are written on trial."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.data.image_set import lonely_classes
from hf_unlearnable.data.pixels import DIGEST_BYTES, conversion, deep_mode, digest, encode, released_mode, to_image
from hf_unlearnable.data.reading import (
    UNREADABLE,
    image_mode,
    open_image,
    read_pixels,
    stored_files,
    turned_size,
    why_unreadable,
)
from hf_unlearnable.errors import causes, option
from hf_unlearnable.progress import Progress

_SAMPLE = 12  # images that are read and written on trial, for the time that all take

UNANSWERED = (ConnectionError, TimeoutError, socket.gaierror)  # an answer, such as 404, is of one address alone


class Broken(NamedTuple):
    """An image that cannot be read or protected.

    Attributes:
        row: of the dataset.
        path: its file; None where the dataset holds the bytes alone.
        why: in words.
    """

    row: int
    path: str | None
    why: str

    def __str__(self) -> str:
        return f"{self.path or f'row {self.row}'}: {self.why}"


def named(broken: Iterable[Broken], images: int) -> str:
    """All that are broken of so many images, and what to do, after "got "."""
    listing = [f"  {image}" for image in broken]
    return (
        f"{len(listing)} of {images} images that cannot be read:\n"
        + "\n".join(listing)
        + "\nRepair them, or leave them out on purpose, as protect does with "
        + option("skip_unreadable", True, "--skip-unreadable")
    )


class Inspection:
    """The passes over the rows, and what they find.

    Args:
        dataset: N rows.
        columns: its images and labels; the label is None where it has none.
        progress: show bars.
    """

    def __init__(self, dataset: Dataset, columns: Columns, progress: bool) -> None:
        self.dataset, self.columns, self.progress = dataset, columns, progress
        self.column = columns.image
        self.stored = stored_files(dataset, self.column)
        self.mode = image_mode(dataset, columns)
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.modes: Counter[str] = Counter()
        self.conversions: Counter[str] = Counter()
        self.broken: dict[int, Broken] = {}
        self.digests = np.zeros(len(dataset), dtype=f"V{DIGEST_BYTES}")
        self.pixels = self.file_bytes = 0
        self.silent: dict[str, str] = {}  # hosts that do not answer: why, once one of their addresses was tried

    def _rows(self, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
        with Progress(what, len(self.stored), unit="image", enabled=self.progress) as bar:
            for number, row in enumerate(self.stored):
                if number not in self.broken:
                    yield number, row[self.column] or {"bytes": None, "path": None}
                bar.advance()

    def read_headers(self) -> None:
        """Sizes, modes and what cannot even be opened."""
        for number, stored in self._rows("looking at images"):
            host = _host_of(stored)
            if host in self.silent:
                self.broken[number] = Broken(number, stored["path"], self.silent[host])
                continue
            try:
                with open_image(stored) as image:
                    shown = image.convert(self.mode) if self.mode else image
                    released_mode(shown)
                    size = turned_size(image)
                    change = conversion(shown, deep_mode(stored))
                    mode = image.mode
            except UNREADABLE as error:
                why = why_unreadable(error, stored)
                self.broken[number] = Broken(number, stored["path"], why)
                if host and any(isinstance(link, UNANSWERED) for link in causes(error)):
                    self.silent[host] = why
                continue
            self.sizes[size] += 1
            self.modes[mode] += 1
            self.conversions.update([change] if change else [])
            self.pixels += size[0] * size[1]
            self.file_bytes += _size_of(stored)

    def decode(self) -> None:
        """What is damaged behind its header, and which pixels are the same."""
        for number, stored in self._rows("checking images"):
            try:
                self.digests[number] = np.void(digest(read_pixels(stored, self.mode), 0))
            except UNREADABLE as error:
                self.broken[number] = Broken(number, stored["path"], why_unreadable(error, stored))

    @cached_property
    def classes(self) -> Classes | None:
        """Those of the labels; None without labels."""
        return Classes.of(self.dataset, self.columns) if self.columns.label and len(self.dataset) else None

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class number of each row, (N,); -1 where it has none."""
        labels = np.full(len(self.dataset), -1)
        if self.classes is not None:
            values = self.dataset.with_format(None).select_columns([self.columns.label])
            for row, value in enumerate(values):
                number = self.classes.number(value[self.columns.label])
                labels[row] = -1 if number is None else number
        return labels

    def count_classes(self) -> dict[str, int]:
        """How many images each class has."""
        if self.classes is None:
            return {}
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes.names))
        return dict(zip(self.classes.names, counts.tolist(), strict=True))

    def lonely(self) -> tuple[str, ...]:
        """Classes of several of which a single image can be read."""
        if self.classes is None:
            return ()
        labels = self.labels[self.whole]
        return tuple(lonely_classes(labels[labels >= 0], self.classes.names))

    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of rows with the same pixels in several classes, as their files are called; after ``decode``."""
        rows = self.whole
        _, group, count = np.unique(self.digests[rows], return_inverse=True, return_counts=True)
        members: dict[bytes, list[int]] = {}
        for row in rows[count[group] > 1]:
            members.setdefault(self.digests[row].tobytes(), []).append(int(row))
        return tuple(
            tuple(self.stored[row][self.column]["path"] or f"row {row}" for row in same)
            for same in members.values()
            if len(set(self.labels[same])) > 1
        )

    def time(self, image_format: str) -> float:
        """Seconds to read and to write all images as ``protect`` does, by a few; 0 where none can be read."""
        whole = self.whole
        pixels, reading, writing = 0, 0.0, 0.0
        for row in map(
            int, whole[np.unique(np.linspace(0, len(whole) - 1, _SAMPLE).astype(int))] if len(whole) else ()
        ):
            stored = self.stored[row][self.column]
            started = time.monotonic()
            try:
                array = read_pixels(stored, self.mode)
            except UNREADABLE as error:
                self.broken[row] = Broken(row, stored["path"], why_unreadable(error, stored))
                continue
            decoded = time.monotonic()
            encode(to_image(array), image_format)
            pixels += array.shape[1] * array.shape[2]
            reading, writing = reading + decoded - started, writing + time.monotonic() - decoded
        # Read by the fit, by map, and for the comparison with what was written, which is read too.
        return (4 * reading + writing) * self.pixels / max(1, pixels)

    @property
    def whole(self) -> NDArray[np.int64]:
        """The rows that are not known to be broken."""
        return np.setdiff1d(np.arange(len(self.dataset)), list(self.broken))


def _host_of(stored: dict[str, Any]) -> str:
    """Whom an address belongs to; empty for what lies here."""
    if stored["bytes"] is not None or "://" not in (stored["path"] or ""):
        return ""
    return str(stored["path"]).rpartition("://")[2].partition("/")[0]


def _size_of(stored: dict[str, Any]) -> int:
    if stored["bytes"] is not None:
        return len(stored["bytes"])
    return 0 if "://" in stored["path"] else Path(stored["path"]).stat().st_size
