"""What a folder or an archive of images holds: which files are images, their classes and splits, and what is left out.

``datasets`` has an image folder of its own, but it leaves files out without a word, takes words such as "test" in the
names of images for splits, and does not follow linked folders. So the files are chosen here, and it is handed the rows.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, Features, NamedSplit
from datasets import Image as ImageFeature

from hf_unlearnable.data.columns import LABEL_NAMES
from hf_unlearnable.data.kinds import METADATA, Kind, is_junk, register_heif, why_left_out
from hf_unlearnable.data.metadata import Table, read_metadata, read_sidecars
from hf_unlearnable.data.trees import CIRCLE, Entry, Reader, Tree, is_archive
from hf_unlearnable.errors import DataError, blank, number_of, option, worded

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}

_BESIDE = "beside the class folders: move each into one"
_UNREAD = Kind("beside the dataset that is read from this folder", True)


class LeftOut(NamedTuple):
    """A file that is not protected.

    Attributes:
        path: below the folder.
        why: in words.
        picture: whether it may show what somebody wants protected.
    """

    path: str
    why: str
    picture: bool


@dataclass(frozen=True)
class Contents:
    """What lies in a folder or an archive, every file counted once.

    Attributes:
        place: the folder or the archive.
        files: how many there are.
        left_out: those that are no row of any split, and no table that was read.
        splits: the rows of each split, ready to be made a dataset.
        notes: how folders were understood, in sentences.
    """

    place: Path
    files: int
    left_out: tuple[LeftOut, ...]
    splits: dict[str, Rows] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, place: Path, class_depth: int | None = None) -> Contents:
        """Look through a folder of images or an archive of such.

        Classes are folders: the whole path of a folder below the place, or below the folder of its split. Folders that
        everything lies in are no part of it. A metadata file gives columns instead.

        Args:
            place: a folder, a zip or a tar.
            class_depth: how many folders of that path make the class; all if left out. With 0 there are no classes, and
                images beside folders belong like those in them.

        Raises:
            DataError: no images, or metadata that cannot be read.
        """
        return _Sorting(Tree.of(place), class_depth).contents()

    @classmethod
    def around(cls, place: Path, taken: set[str]) -> Contents:
        """What lies in a folder that is opened as a dataset: tables are read, images count where rows name them."""
        tree = Tree.of(place)
        with Reader(tree.root) as reader:
            kinds = {entry.path: why_left_out(entry.path, partial(reader.open, entry)) for entry in tree.entries}
        left = [LeftOut(path, *(kind or _UNREAD)) for path, kind in kinds.items() if str(tree.root / path) not in taken]
        pictures = [file for file in left if file.picture and not is_archive(file.path)]  # the others make the dataset
        return cls(place, tree.files, (*pictures, *_closed(tree.closed)))

    @property
    def has_loose(self) -> bool:
        """Whether images are left out that lie beside class folders."""
        return any(file.why.startswith(_BESIDE) for file in self.left_out)

    @property
    def pictures_left_out(self) -> list[LeftOut]:
        """The files left out that may show what somebody wants protected."""
        return [file for file in self.left_out if file.picture]

    def dataset(self, split: str) -> Dataset:
        """The images of a split: files here stay where they are, those in an archive are copied into the cache."""
        register_heif()
        rows = self.splits[split]
        return Dataset.from_generator(
            rows.generate,
            features=rows.features,
            gen_kwargs={"root": str(self.place.absolute())},
            split=NamedSplit(split),
            fingerprint=rows.digest(self.place),
        )


@dataclass(frozen=True)
class Rows:
    """The rows of one split.

    Attributes:
        features: of their columns.
        files: for each row the files of its columns of images.
        others: for each row its other columns; None where there are none.
    """

    features: Features
    files: Sequence[Sequence[tuple[str, Entry]]]
    others: Sequence[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def generate(self, root: str) -> Iterator[dict[str, Any]]:
        """The rows as ``datasets`` stores them."""
        with Reader(Path(root)) as reader:
            for number, files in enumerate(self.files):
                row = {column: _stored(reader, entry) for column, entry in files}
                yield {**dict.fromkeys(self.features), **row, **(self.others[number] if self.others else {})}

    def digest(self, place: Path) -> str:
        """What changes when a file or anything that is known of it does: the name of the cache."""
        hashed = hashlib.blake2b(repr((str(place.absolute()), self.features)).encode(), digest_size=8)
        for number, files in enumerate(self.files):
            hashed.update(repr((files, self.others[number] if self.others else None)).encode())
        return hashed.hexdigest()


def _stored(reader: Reader, entry: Entry) -> dict[str, Any]:
    """An image; the mere path of one that is named in a table and not there, which is found out when it is read."""
    missing = entry == Entry(entry.path) and reader.root.is_file()
    return {"path": entry.path, "bytes": None} if missing else reader.stored(entry)


class _Sorting:
    """How the files of a tree are told apart."""

    def __init__(self, tree: Tree, class_depth: int | None) -> None:
        self.tree, self.class_depth = tree, class_depth
        self.left: list[LeftOut] = _closed(tree.closed)
        self.notes: list[str] = []
        self.files = tree.files

    def contents(self) -> Contents:
        with Reader(self.tree.root) as reader:
            entries, kinds = self._told_apart(self.tree.entries, reader)
            archives = [entry for entry in entries if is_archive(entry.path) and not is_junk(entry.path)]
            if archives and None not in kinds:
                self.notes.append(f"Read from {_some([archive.path for archive in archives])}.")
                inside = self.tree.unpacked()
                self.left += _closed(inside.closed)
                self.files += inside.files - len(archives)
                self._leave_out(pair for pair in zip(entries, kinds, strict=True) if pair[0] not in archives)
                entries, kinds = self._told_apart(inside.entries, reader)
            images = [entry for entry, kind in zip(entries, kinds, strict=True) if kind is None]
            table = read_metadata([entry for entry in entries if not is_junk(entry.path)], reader)
            table = table or read_sidecars(images, entries, reader)
        if table is not None:
            images = [entry for files in table.files for _, entry in files]
            kinds = _by_names(table, entries, kinds)
        self._leave_out(zip(entries, kinds, strict=True))
        if not images:
            raise DataError(self._nothing())
        splits = self._by_table(table) if table is not None else self._by_folder(images)
        return Contents(self.tree.root, self.files, tuple(self.left), splits, tuple(self.notes))

    def _told_apart(self, entries: list[Entry], reader: Reader) -> tuple[list[Entry], list[Kind | None]]:
        return entries, [why_left_out(entry.path, partial(reader.open, entry)) for entry in entries]

    def _leave_out(self, files: Iterable[tuple[Entry, Kind | None]]) -> None:
        """Note the files that are left out; tables of metadata are read."""
        named = ((entry, kind) for entry, kind in files if posixpath.basename(entry.path) not in METADATA)
        self.left += [LeftOut(entry.path, *kind) for entry, kind in named if kind is not None]

    def _nothing(self) -> str:
        counts = Counter(file.why for file in self.left)
        found = "; ".join(f"{number_of(count, 'file')}: {why}" for why, count in counts.most_common(3))
        return (
            f"got {str(self.tree.root)!r}, in which there is no image that can be read ({found or 'no files'}); "
            f"expected images such as PNG, JPEG or WebP, in one folder for each class"
        )

    def _by_table(self, table: Table) -> dict[str, Rows]:
        """The rows of a table, in the splits that their images' folders are."""
        paths = [files[0][1].path if files else "" for files in table.files]
        below, split_of = self._splits([path for path in paths if path], flat=True)
        self.notes.append(f"Columns and labels are from {table.said_by}.")
        folders = {posixpath.dirname(below(path)) for path in paths if path} - {""}
        if len(folders) > 1 and not set(LABEL_NAMES) & set(table.features):
            self.notes.append(
                f"The images lie in {number_of(len(folders), 'folder')} ({_some(sorted(folders))}), which are no "
                f"classes beside {table.said_by}, and it has no labels either: for classes, give it a column 'label'."
            )
        numbers: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            numbers.setdefault(split_of(path), []).append(number)
        return {
            split: Rows(table.features, [table.files[n] for n in chosen], [table.rows[n] for n in chosen])
            for split, chosen in _in_order(numbers).items()
        }

    def _by_folder(self, images: list[Entry]) -> dict[str, Rows]:
        """The images in the splits and classes that their folders are."""
        below, split_of = self._splits([entry.path for entry in images], flat=False)
        folders = {entry.path: posixpath.dirname(below(entry.path)) for entry in images}
        if self.class_depth is not None:
            folders = {path: "/".join(folder.split("/")[: self.class_depth]) for path, folder in folders.items()}
        classes = sorted({folder for folder in folders.values() if folder})
        loose = [path for path, folder in folders.items() if not folder]
        labelled = len(classes) > 1 or (len(classes) == 1 and bool(loose))
        if labelled and loose:
            together = worded(python="labels='none'", shell="--labels none", browser="")
            more = f", or take all images as one owner's: {together}" if together else ""
            beside = Kind(f"{_BESIDE}{more}", True)
            self._leave_out((entry, beside) for entry in images if not folders[entry.path])
            images = [entry for entry in images if folders[entry.path]]
        self._tell_classes(classes, folders, labelled)
        features: dict[str, Any] = {"image": ImageFeature()}
        if labelled:
            features["label"] = ClassLabel(names=classes)
        splits: dict[str, list[Entry]] = {}
        for entry in images:
            splits.setdefault(split_of(entry.path), []).append(entry)
        number = {name: index for index, name in enumerate(classes)}
        return {
            split: Rows(
                Features(features),
                [[("image", entry)] for entry in chosen],
                [{"label": number[folders[entry.path]]} for entry in chosen] if labelled else None,
            )
            for split, chosen in _in_order(splits).items()
        }

    def _tell_classes(self, classes: list[str], folders: dict[str, str], labelled: bool) -> None:
        if self.class_depth == 0:
            self.notes.append("No classes: all images belong, whatever folder they lie in.")
            return
        if not labelled:
            self.notes.append("No classes: the images do not lie in two folders or more.")
            return
        counts = Counter(folders.values())
        inner = [name for name in classes if any(name.startswith(f"{other}/") for other in classes)]
        if inner:
            deeper = [path for path, folder in folders.items() if folder in inner]
            self.notes.append(
                f"Folders in class folders are classes of their own: {_some(inner)}, such as for {deeper[0]}. "
                f"With {option('class_depth', 1)} the first folder is the class."
            )
        elif any("/" in name for name in classes):
            self.notes.append(
                f"A class is the whole path of its folder; {blank('class_depth', 'N')} takes N of its parts."
            )
        lonely = [path for path, folder in folders.items() if folder and counts[folder] == 1]
        if lonely:
            self.notes.append(f"Alone in their class folder: {_some(lonely)}.")

    def _splits(self, paths: list[str], *, flat: bool) -> tuple[Callable[[str], str], Callable[[str], str]]:
        """How a path becomes the one below the folder of its split, and its split.

        Folders are splits where all of them are called so, and never where a class stands beside: ``train``, ``car``.
        """
        start = 0
        while paths and all(len(parts := path.split("/")) > start + 2 for path in paths):
            first = {path.split("/")[start] for path in paths}
            if len(first) > 1 or _split_of(*first):
                break
            start += 1
        tops = sorted({parts[start] for path in paths if len(parts := path.split("/")) > start + 1})
        named = {top: _split_of(top) for top in tops}
        distinct = len(set(named.values())) == len(tops)  # two kinds of "… train" are classes
        loose = any(len(path.split("/")) == start + 1 for path in paths)
        deep = any(len(path.split("/")) > start + 2 for path in paths)
        if not tops or not all(named.values()) or not distinct or (loose and not deep and not flat):
            return (lambda path: "/".join(path.split("/")[start:])), (lambda path: "train")
        if not deep and not flat and self.class_depth != 0:
            self.notes.append(
                f"The folders {', '.join(tops)} are taken as splits. There are no class folders in them: put one for "
                f"each class into each split."
            )
        else:
            self.notes.append(f"The folders {', '.join(tops)} are splits.")
        inside = [path for path in paths if path.split("/")[start] in named]

        def below(path: str) -> str:
            return "/".join(path.split("/")[start + 1 :]) if path.split("/")[start] in named else ""

        def split_of(path: str) -> str:
            parts = path.split("/")
            return named.get(parts[start] if len(parts) > start else "") or "train"

        return (below if inside else (lambda path: path)), split_of


def _by_names(table: Table, entries: Sequence[Entry], kinds: Sequence[Kind | None]) -> list[Kind | None]:
    """Why files are left out, where a table says which are the images."""
    named = {entry for files in table.files for _, entry in files}
    unnamed = Kind(f"not named in {table.said_by}: add them there", True)
    kinds = [kind or (None if entry in named else unnamed) for entry, kind in zip(entries, kinds, strict=True)]
    used = set(table.used)
    return [None if entry in used else kind for entry, kind in zip(entries, kinds, strict=True)]


def _split_of(folder: str) -> str | None:
    """The split that a folder is called after; None if it is not."""
    if folder.lower() in _SPLIT_OF:
        return _SPLIT_OF[folder.lower()]
    found = {_SPLIT_OF[word] for word in re.split(r"[^a-z]+", folder.lower()) if word in _SPLIT_OF}
    return found.pop() if len(found) == 1 else None


def _in_order(splits: dict[str, Any]) -> dict[str, Any]:
    return {split: splits[split] for split in _SPLITS if split in splits}


def _closed(closed: dict[str, str]) -> list[LeftOut]:
    return [LeftOut(path, why, not is_junk(path) and why != CIRCLE) for path, why in closed.items()]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")
