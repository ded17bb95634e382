"""What was brought to be protected, before the work: what is there, what is left out, and what cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Image as ImageFeature

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.disk_space import DiskSpace, expected_space
from hf_unlearnable.data.folders import LeftOut
from hf_unlearnable.data.image_set import alone_told
from hf_unlearnable.data.inspection import Broken, Inspection, named
from hf_unlearnable.data.reading import UNREADABLE
from hf_unlearnable.data.sources import Source
from hf_unlearnable.errors import DataError, number_of, option
from hf_unlearnable.progress import duration

FEW_PIXELS = 2_000_000_000  # of all images: up to here all are decoded unasked, in about half a minute


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
        lonely: classes of several of which a single image can be read.
        unlabelled: rows without a class.
        other_splits: rows of the splits that are not protected with this one.
        other_images: further columns that hold images, which stay as they are.
        files: how many files were counted in the folder; None where there is none.
        left_out: those that are not protected.
        broken: all images that cannot be read or protected.
        duplicates: groups of files that hold the same pixels in several classes.
        notes: how folders were understood, and what is wrong with the columns.
        seconds: to read and write the images as often as it is done, without the optimisation.
        space: what the protected images will take; None where nothing can be read.
        image_format: as which they are to be written.
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
    lonely: tuple[str, ...] = ()
    files: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    broken: tuple[Broken, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    space: DiskSpace | None = None
    image_format: str = "png"

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
        output: Path = Path(),
        copies: int = 1,
        progress: bool = True,
    ) -> Intake:
        """Look at every row of a dataset: at the header of its image, and at its pixels where that is asked for.

        Args:
            opened: the dataset and what lies beside it.
            columns: its images and labels; the label is None where it has none.
            source: what was named.
            notes: what else to say.
            decode: look at all pixels, which takes as long as one of the passes that protect makes over the images;
                by default where they are at most ``FEW_PIXELS``, or where their headers show one that is broken.
            image_format: as which the images are going to be written.
            budget: how far they are going to be moved, for the size of the files.
            output: where they are going to lie.
            copies: how often they are going to be written.
            progress: show bars.
        """
        looking = Inspection(opened.dataset, columns, progress)
        looking.read_headers()
        seconds = looking.time(image_format)
        if decode is None:
            decode = looking.pixels <= FEW_PIXELS or bool(looking.broken)
        if decode:
            looking.decode()
        space = None
        if len(looking.whole):
            with suppress(*UNREADABLE):  # one of those of which the header alone was read
                whole = opened.dataset.select(looking.whole)
                known = {"pixels": looking.pixels, "now": looking.file_bytes or None}
                space = expected_space(whole, columns.image, budget, output, copies, **known)
        contents = opened.contents
        return cls(
            source=source,
            split=opened.split,
            images=len(opened.dataset),
            decoded=decode,
            file_bytes=looking.file_bytes,
            sizes=looking.sizes,
            modes=looking.modes,
            conversions=looking.conversions,
            classes=looking.count_classes(),
            lonely=looking.lonely(),
            unlabelled=int((looking.labels < 0).sum()) if columns.label else 0,
            other_splits={name: count for name, count in opened.splits.items() if name not in opened.split.split("+")},
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
            seconds=seconds,
            space=space,
            image_format=image_format,
        )

    def check(self, *, leave_out: bool = False, skip_unreadable: bool = False, by_class: bool = True) -> None:
        """Refuse what would be lost in silence, what no method protects, and what there is no room for.

        Args:
            leave_out: files that may be images, and are not protected, are left out on purpose.
            skip_unreadable: so are images that cannot be read.
            by_class: what is done needs two images of each class: a method, and not noise of another tool. Where images
                are held out, three are needed, and that is said there.

        Raises:
            DataError: naming all of them, by reason.
            OutputError: the disk of the output has less than half of the room that will be needed.
        """
        pictures = [file for file in self.left_out if file.picture]
        lost = []
        if pictures and not leave_out:
            lost.append(not_protected(pictures, self.source))
        if self.broken and not skip_unreadable:
            lost.append(named(self.broken, self.images))
        if self.lonely and by_class:
            lost.append(alone_told(self.lonely))
        if lost:
            raise DataError("got " + "\nand ".join(lost))
        if len(self.broken) == self.images:
            raise DataError(
                f"got {number_of(self.images, 'image')}, of which none can be read; expected at least two of each class"
            )
        if self.space:
            self.space.check(self.image_format)

    def needed(
        self, *, leave_out: bool = False, skip_unreadable: bool = False, drop_unlabelled: bool = False
    ) -> dict[str, int]:
        """What ``protect`` must be told before it does what was looked at, and for how many files, images or rows.

        Args:
            leave_out: what it is told, see ``check``.
            skip_unreadable: likewise.
            drop_unlabelled: rows without a class are left out.
        """
        pictures = sum(file.picture for file in self.left_out)
        told = {
            option("leave_out", True, "--leave-out"): not leave_out and pictures,
            option("skip_unreadable", True, "--skip-unreadable"): not skip_unreadable and len(self.broken),
            option("unlabelled", "drop", "--drop-unlabelled"): not drop_unlabelled and self.unlabelled,
        }
        return {name: count for name, count in told.items() if count}

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
            "lonely": list(self.lonely),
            "unlabelled": self.unlabelled,
            "other_splits": self.other_splits,
            "other_images": list(self.other_images),
            "files": self.files,
            "left_out": [file._asdict() for file in self.left_out],
            "broken": [image._asdict() for image in self.broken],
            "duplicates": [list(group) for group in self.duplicates],
            "notes": list(self.notes),
            "seconds": self.seconds,
            "space": self.space.as_dict() if self.space else None,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        where = f" in {self.source}, split {self.split}" if self.source else ""
        files = f", of {number_of(self.files, 'file')}" if self.files else ""
        yield f"Found: {number_of(self.images, 'image')}{where}{files}."
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
            yield f"Without a class: {number_of(self.unlabelled, 'row')}."
        if self.other_splits:
            yield f"Not protected, other splits: {_counts(self.other_splits)}."
        if self.other_images:
            yield f"Not protected, other columns with images: {', '.join(self.other_images)}."
        if self.left_out:
            yield f"Left out: {number_of(len(self.left_out), 'file')}:"
            yield _listing(self.left_out)
        if self.broken:
            yield f"Broken: {number_of(len(self.broken), 'image')}:"
            yield from (f"  {image}" for image in self.broken)
        if self.duplicates:
            yield (
                f"The same image in several classes: {len(self.duplicates):,}. The mean of two copies undoes a part of "
                f"their perturbations, unless they share one; keep one, or {option('duplicates', 'share')}:"
            )
            yield from (f"  {' = '.join(group)}" for group in self.duplicates[:20])
            if len(self.duplicates) > 20:
                yield f"  and {len(self.duplicates) - 20} more"
        if not self.decoded:
            yield (
                "Only the headers were read: images that are damaged behind them, and the same image in several "
                "classes, were not looked for. A dry run decodes all."
            )
        if self.space:
            yield self.space.told(self.image_format)
            seconds = max(1.0, self.seconds)
            yield f"Reading and writing them takes about {duration(seconds)}; the optimisation comes on top."


def not_protected(files: Sequence[LeftOut], source: str) -> str:
    """Files that may be images and are left out, and what to do, after "got "."""
    return (
        f"{number_of(len(files), 'file')} in {source!r} that may be images and would not be protected:\n"
        f"{_listing(files)}\n"
        f"Mend that, or leave them out on purpose: {option('leave_out', True, '--leave-out')}"
    )


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
