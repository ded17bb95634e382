"""What was brought to be protected, before the work: what is there, what is left out, and what cannot be read."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.data.folders import LeftOut
from hf_unlearnable.data.pixels import DIGEST_BYTES, conversion, digest, encode, released_mode, to_array, to_image
from hf_unlearnable.data.reading import UNREADABLE, open_image, turned_size, why_unreadable
from hf_unlearnable.data.sources import Source
from hf_unlearnable.errors import DataError
from hf_unlearnable.progress import Progress

FEW_PIXELS = 2_000_000_000  # of all images: up to here all are decoded unasked, in about half a minute

_SAMPLE = 12  # images that are written on trial, for the size of all
_GRAIN = 64  # pixels a side at which a trial's perturbation is drawn


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


class Estimate(NamedTuple):
    """What the protected images will take, by a sample that was written on trial.

    Attributes:
        image_format: as which they are written.
        written: bytes of all images.
        disk: bytes at the end of the work, when what is written is there twice, beside the perturbations.
        seconds: to read and to write all of them, without the optimisation.
    """

    image_format: str
    written: int
    disk: int
    seconds: float


@dataclass(frozen=True)
class Intake:
    """What a dataset holds, looked at row by row before the work.

    Attributes:
        source: what was named; empty for a dataset in memory.
        split: which split it is.
        images: rows of it.
        decoded: whether all images were decoded; else only their headers were read, which does not show every damaged
            image and no duplicates.
        file_bytes: of the images as they are, where that is known without reading them.
        sizes: how many images there are of each (height, width).
        modes: how many of each mode, as Pillow calls them.
        conversions: how many will be released in another mode, by what changes.
        classes: how many images each class has.
        unlabelled: rows without a class.
        other_splits: rows of the splits that are not protected with this one.
        other_images: further columns that hold images, which stay as they are.
        files: how many files were counted in the folder; None where there is none.
        left_out: those that are not protected.
        broken: all images that cannot be read or protected.
        duplicates: groups of files that hold the same pixels in several classes.
        notes: how folders were understood, and what is wrong with the columns.
        estimate: what the work will take beside the optimisation; None where nothing can be read.
    """

    source: str
    split: str
    images: int
    decoded: bool
    file_bytes: int
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    conversions: Counter[str]
    classes: dict[str, int]
    unlabelled: int
    other_splits: dict[str, int]
    other_images: tuple[str, ...]
    files: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    broken: tuple[Broken, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    estimate: Estimate | None = None

    @classmethod
    def of(
        cls,
        opened: Source,
        columns: Columns,
        *,
        source: str = "",
        notes: Sequence[str] = (),
        decode: bool | None = None,
        image_format: str = "png",
        budget: Budget = Budget(8),
        progress: bool = True,
    ) -> Intake:
        """Look at every row of a dataset: at the header of its image, and at its pixels where that is asked for.

        Args:
            opened: the dataset and what lies beside it.
            columns: its images and labels; the name of the labels is empty where it has none.
            source: what was named.
            notes: what else to say.
            decode: look at all pixels, which takes as long as one of the passes that protect makes over the images;
                by default where they are at most ``FEW_PIXELS``, or where their headers show one that is broken.
            image_format: as which the images are going to be written.
            budget: how far they are going to be moved, for the size of the files.
            progress: show bars.
        """
        looking = _Looking(opened.dataset, columns, progress)
        looking.read_headers()
        if decode is None:
            decode = looking.pixels <= FEW_PIXELS or bool(looking.broken)
        started = time.monotonic()
        if decode:
            looking.decode()
        contents = opened.contents
        classes, unlabelled = looking.count_classes()
        return cls(
            source=source,
            split=opened.split,
            images=len(opened.dataset),
            decoded=decode,
            file_bytes=looking.file_bytes,
            sizes=looking.sizes,
            modes=looking.modes,
            conversions=looking.conversions,
            classes=classes,
            unlabelled=unlabelled,
            other_splits={name: count for name, count in opened.splits.items() if name != opened.split},
            other_images=tuple(
                name
                for name, feature in opened.dataset.features.items()
                if isinstance(feature, ImageFeature) and name != columns.image
            ),
            files=contents.files if contents else None,
            left_out=contents.left_out if contents else (),
            broken=tuple(looking.broken[row] for row in sorted(looking.broken)),
            duplicates=looking.duplicates() if decode else (),
            notes=(*(contents.notes if contents else ()), *notes),
            estimate=looking.estimate(image_format, budget, time.monotonic() - started if decode else None),
        )

    @property
    def whole(self) -> NDArray[np.int64]:
        """The rows that can be read."""
        return np.setdiff1d(np.arange(self.images), [image.row for image in self.broken])

    def check(self, *, leave_out: bool = False, skip_unreadable: bool = False) -> None:
        """Refuse what would be lost in silence.

        Args:
            leave_out: files that may be images, and are not protected, are left out on purpose.
            skip_unreadable: so are images that cannot be read.

        Raises:
            DataError: naming all of them, by reason.
        """
        pictures = [file for file in self.left_out if file.picture]
        if pictures and not leave_out:
            raise DataError(
                f"got {_files(len(pictures))} in {self.source!r} that may be images and would not be protected:\n"
                f"{_listing(pictures)}\n"
                f"Mend that, or leave them out on purpose: leave_out=True, --leave-out on the command line"
            )
        if self.broken and not skip_unreadable:
            raise DataError(
                f"got {len(self.broken)} of {self.images} images that cannot be read:\n"
                + "\n".join(f"  {image}" for image in self.broken)
                + "\nRepair them, or leave them out on purpose: skip_unreadable=True, --skip-unreadable on the command "
                "line"
            )
        if len(self.broken) == self.images:
            raise DataError(f"got {self.images} images, of which none can be read; expected at least two of each class")

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; sizes as ``"WxH"``."""
        return {
            "source": self.source,
            "split": self.split,
            "images": self.images,
            "decoded": self.decoded,
            "file_bytes": self.file_bytes,
            "sizes": {f"{width}x{height}": count for (height, width), count in self.sizes.items()},
            "modes": dict(self.modes),
            "conversions": dict(self.conversions),
            "classes": self.classes,
            "unlabelled": self.unlabelled,
            "other_splits": self.other_splits,
            "other_images": list(self.other_images),
            "files": self.files,
            "left_out": [file._asdict() for file in self.left_out],
            "broken": [image._asdict() for image in self.broken],
            "duplicates": [list(group) for group in self.duplicates],
            "notes": list(self.notes),
            "estimate": self.estimate._asdict() if self.estimate else None,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        where = f" in {self.source}, split {self.split}" if self.source else ""
        yield f"Found: {self.images:,} images{where}" + (f", of {_files(self.files)}." if self.files else ".")
        yield from self.notes
        if self.sizes:
            ordered = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
            smallest, largest = (f"{width}x{height}" for height, width in (ordered[0], ordered[-1]))
            span = smallest if len(ordered) == 1 else f"{smallest} to {largest} ({len(ordered)} sizes)"
            yield f"Sizes: {span}. Modes: {_counts(self.modes)}."
        if self.conversions:
            yield f"Converted: {_counts(self.conversions)}."
        if self.classes:
            yield f"Classes: {len(self.classes)}: {_counts(self.classes, most=12)}."
        if self.unlabelled:
            yield f"Without a class: {self.unlabelled} rows."
        if self.other_splits:
            yield f"Not protected, other splits: {_counts(self.other_splits)}."
        if self.other_images:
            yield f"Not protected, other columns with images: {', '.join(self.other_images)}."
        if self.left_out:
            yield f"Left out: {_files(len(self.left_out))}:"
            yield _listing(self.left_out)
        if self.broken:
            yield f"Broken: {len(self.broken)} images:"
            yield from (f"  {image}" for image in self.broken)
        if self.duplicates:
            yield (
                f"The same image in several classes: {len(self.duplicates):,}. Each copy gets another perturbation, "
                f"and their mean undoes a part of both; keep one:"
            )
            yield from (f"  {' = '.join(group)}" for group in self.duplicates[:20])
            if len(self.duplicates) > 20:
                yield f"  and {len(self.duplicates) - 20} more"
        if not self.decoded:
            yield (
                "Only the headers were read: images that are damaged behind them, and the same image in several "
                "classes, were not looked for. A dry run decodes all."
            )
        if self.estimate:
            yield self._estimated(self.estimate)

    def _estimated(self, estimate: Estimate) -> str:
        now = f", {estimate.written / self.file_bytes:.1f} times as much as now" if self.file_bytes else ""
        return (
            f"Will take: {_bytes(estimate.written)} as {estimate.image_format}{now}; {_bytes(estimate.disk)} of disk "
            f"while it works; about {_time(estimate.seconds)} to read and write the images, without the optimisation."
        )


class _Looking:
    """The passes over the rows."""

    def __init__(self, dataset: Dataset, columns: Columns, progress: bool) -> None:
        self.dataset, self.columns, self.progress = dataset, columns, progress
        self.column = columns.image
        plain = dataset.with_format(None).select_columns([self.column])
        self.stored = plain.cast_column(self.column, ImageFeature(decode=False))
        self.mode = dataset.features[self.column].mode
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.modes: Counter[str] = Counter()
        self.conversions: Counter[str] = Counter()
        self.broken: dict[int, Broken] = {}
        self.digests = np.zeros(len(dataset), dtype=f"V{DIGEST_BYTES}")
        self.pixels = self.file_bytes = 0
        self.offline: str | None = None  # why addresses cannot be fetched, once one was tried

    def _rows(self, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
        with Progress(what, len(self.stored), unit="image", enabled=self.progress) as bar:
            for number, row in enumerate(self.stored):
                if number not in self.broken:
                    yield number, row[self.column] or {"bytes": None, "path": None}
                bar.advance()

    def read_headers(self) -> None:
        for number, stored in self._rows("looking at images"):
            remote = stored["bytes"] is None and "://" in (stored["path"] or "")
            if remote and self.offline:
                self.broken[number] = Broken(number, stored["path"], self.offline)
                continue
            try:
                with open_image(stored) as image:
                    shown = image.convert(self.mode) if self.mode else image
                    released_mode(shown)
                    size = turned_size(image)
                    change = conversion(shown)
                    mode = image.mode
            except UNREADABLE as error:
                why = why_unreadable(error, stored)
                self.broken[number] = Broken(number, stored["path"], why)
                self.offline = why if remote else None
                continue
            self.sizes[size] += 1
            self.modes[mode] += 1
            self.conversions.update([change] if change else [])
            self.pixels += size[0] * size[1]
            self.file_bytes += _size_of(stored)

    def decode(self) -> None:
        for number, stored in self._rows("checking images"):
            try:
                self.digests[number] = np.void(digest(self._pixels(stored), 0))
            except UNREADABLE as error:
                self.broken[number] = Broken(number, stored["path"], why_unreadable(error, stored))

    def _pixels(self, stored: dict[str, Any]) -> NDArray[np.uint8]:
        return to_array(ImageFeature(mode=self.mode).decode_example(stored))

    def count_classes(self) -> tuple[dict[str, int], int]:
        """How many images each class has, and how many have none."""
        if not self.columns.label or len(self.dataset) == 0:
            return {}, 0
        classes = Classes.of(self.dataset, self.columns)
        self.labels = np.full(len(self.dataset), -1)
        values = self.dataset.with_format(None).select_columns([self.columns.label])
        for row, value in enumerate(values):
            number = classes.number(value[self.columns.label])
            self.labels[row] = -1 if number is None else number
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(classes.names))
        return dict(zip(classes.names, counts.tolist(), strict=True)), int((self.labels < 0).sum())

    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of rows with the same pixels and not the same label."""
        if not self.columns.label or len(self.dataset) == 0:
            return ()
        rows = np.setdiff1d(np.arange(len(self.dataset)), list(self.broken))
        _, group, count = np.unique(self.digests[rows], return_inverse=True, return_counts=True)
        several = rows[count[group] > 1]
        members: dict[bytes, list[int]] = {}
        for row in several:
            members.setdefault(self.digests[row].tobytes(), []).append(int(row))
        return tuple(
            tuple(self.stored[row][self.column]["path"] or f"row {row}" for row in same)
            for same in members.values()
            if len(set(self.labels[same])) > 1
        )

    def estimate(self, image_format: str, budget: Budget, seconds: float | None) -> Estimate | None:
        """Write a few images with a perturbation drawn at random, and reckon from there."""
        whole = np.setdiff1d(np.arange(len(self.dataset)), list(self.broken))
        if not len(whole):
            return None
        rng = np.random.default_rng(0)
        pixels = written = 0
        reading = writing = 0.0
        for row in whole[np.unique(np.linspace(0, len(whole) - 1, _SAMPLE).astype(int))]:
            started = time.monotonic()
            array = self._pixels(self.stored[int(row)][self.column])
            reading += time.monotonic() - started
            pixels += array.shape[1] * array.shape[2]
            started = time.monotonic()
            written += len(encode(to_image(_moved(array, budget, rng)), image_format)[0])
            writing += time.monotonic() - started
        share = self.pixels / max(1, pixels)
        once = seconds if seconds is not None else reading * share
        total = int(written * share)
        # The fit keeps the pixels and the perturbations at the size that it works at.
        small = sum(3 * min(height, _GRAIN) * min(width, _GRAIN) * n for (height, width), n in self.sizes.items())
        # Read by the fit, by map, and for the comparison with what was written, which is read too.
        return Estimate(image_format, total, 2 * total + 2 * small, 4 * once + writing * share)


def _moved(array: NDArray[np.uint8], budget: Budget, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image with noise of the grain that perturbations have, which is what its file grows by."""
    height, width = array.shape[1:]
    radius = budget.radius if budget.norm == "linf" else budget.radius / math.sqrt(array.size)
    grain = rng.integers(0, 256, (min(height, _GRAIN), min(width, _GRAIN)), dtype=np.uint8)
    noise = np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.clip(np.rint(array + (noise / 127.5 - 1) * radius), 0, WHITE).astype(np.uint8)


def _size_of(stored: dict[str, Any]) -> int:
    if stored["bytes"] is not None:
        return len(stored["bytes"])
    return 0 if "://" in stored["path"] else Path(stored["path"]).stat().st_size


def _listing(files: Sequence[LeftOut]) -> str:
    """By reason: how many, of which endings, and the first names."""
    reasons: dict[tuple[bool, str], list[str]] = {}
    for file in files:
        reasons.setdefault((not file.picture, file.why), []).append(file.path)
    lines = []
    for (harmless, why), paths in sorted(reasons.items()):
        most = 3 if harmless else 20
        endings = Counter(PurePosixPath(path).suffix.lower() or "no ending" for path in paths)
        shown = ", ".join(paths[:most]) + (f", and {len(paths) - most:,} more" if len(paths) > most else "")
        lines.append(f"  {len(paths):,} ({_counts(endings)}), {why}: {shown}")
    return "\n".join(lines)


def _counts(counts: Counter[str] | dict[str, int], most: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1]) if isinstance(counts, Counter) else list(counts.items())
    rest = f", and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(f"{name} {count:,}" for name, count in ordered[:most]) + rest


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(seconds: float) -> str:
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "minutes"), (172800, 3600, "hours")):
        if seconds < limit:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{round(seconds / 86400)} days"
