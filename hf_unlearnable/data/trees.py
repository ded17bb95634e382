"""The files of a folder or of archives, in one order and with one way to read them."""

from __future__ import annotations

import lzma
import os
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from PIL import Image

from hf_unlearnable.data.kinds import ARCHIVES, is_junk
from hf_unlearnable.errors import DataError, first_line, in_words, worded

DEEPEST = 8  # bytes of a pixel at most: four channels of 16 bits

# What reading an archive raises where it is damaged or packed in a way that Python does not know; bz2 and gzip raise
# OSError, too.
DAMAGED = (EOFError, NotImplementedError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)

CIRCLE = "a link to a folder that it lies in"
SPECIAL = "a pipe, socket or device and no file"
NO_TEXT = "a name that is not UTF-8: rename it"
LEADS_OUT = "a link to no file in its archive: put the file itself in"


class Entry(NamedTuple):
    """One file.

    Attributes:
        path: below the root, with ``/`` between its parts; below the archive's own name where there are several.
        size: in bytes.
        stamp: changes when the file does: when it was written, or its checksum.
        archive: the archive that holds it; None for a file in a folder.
        member: what it is called in there.
    """

    path: str
    size: int = 0
    stamp: int = 0
    archive: str | None = None
    member: str = ""


class Tree(NamedTuple):
    """All files below a place.

    Attributes:
        root: the folder, or the archive.
        entries: in the order of their paths; those of a tar in its own.
        closed: what cannot be looked into, and why: folders, links in a circle or out of an archive, names that are no
            text, pipes.
    """

    root: Path
    entries: list[Entry]
    closed: dict[str, str]

    @property
    def files(self) -> int:
        """How many files there are, with those whose names are no text and with links that lead nowhere."""
        return len(self.entries) + sum(why in (NO_TEXT, CIRCLE, SPECIAL, LEADS_OUT) for why in self.closed.values())

    @classmethod
    def of(cls, root: Path) -> Tree:
        """List a folder or an archive.

        Links to files and folders are followed, except in a circle; in a tar those to files in it.

        Raises:
            DataError: a file that is no archive, a damaged one, or one with a password.
        """
        root = root.absolute()
        closed: dict[str, str] = {}
        if root.is_file():
            return cls(root, _members(root, closed), closed)
        files = _walk(root, "", (), closed)
        return cls(root, sorted(files, key=lambda entry: entry.path), closed)

    def unpacked(self) -> Tree:
        """The files in the archives of a folder; each as a folder of its name, numbers of shards left away.

        Raises:
            DataError: the tree is an archive itself, or one in it is damaged or needs a password.
        """
        if self.root.is_file():
            raise DataError(
                f"got {str(self.root)!r}, in which there are archives and no images; expected images. Unpack it, and "
                f"name the folder"
            )
        entries, closed = [], dict[str, str]()
        for entry in self.entries:
            if not is_junk(entry.path) and is_archive(entry.path):
                folder = re.sub(r"([-_.]\d+(-of-\d+)?)?(\.[a-z0-9]+|\.tar\.[a-z0-9]+)$", "", entry.path, flags=re.I)
                shut = dict[str, str]()
                inside = _members(self.root / entry.path, shut)
                entries += [member._replace(path=f"{folder}/{member.path}") for member in inside]
                closed |= {f"{entry.path}/{path}": why for path, why in shut.items()}
        return self._replace(entries=entries, closed=closed)


def is_archive(path: str) -> bool:
    """Whether the name of a file is that of an archive that can be opened."""
    return path.lower().endswith(ARCHIVES)


class Reader:
    """Reads files of a tree one after the other; an archive stays open until one of another is wanted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._name: str | None = None
        self._archive: zipfile.ZipFile | tarfile.TarFile | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()
        self._name = self._archive = None

    def open(self, entry: Entry) -> BinaryIO:
        """Open a file for reading bytes."""
        if entry.archive is None:
            return (self.root / entry.path).open("rb")
        if self._name != entry.archive:
            self.__exit__()
            self._name, self._archive = entry.archive, _opened(Path(entry.archive))
        if isinstance(self._archive, zipfile.ZipFile):
            return cast(BinaryIO, self._archive.open(entry.member))
        assert self._archive is not None
        extracted = self._archive.extractfile(entry.member)
        assert extracted is not None, "only files are listed"
        return cast(BinaryIO, extracted)

    def read(self, entry: Entry) -> bytes:
        """A whole file.

        Raises:
            DataError: it lies in an archive and is larger unpacked than any image that is read, or it is damaged. An
                archive of 1.5 MB can hold 1.5 GB.
        """
        if entry.archive and Image.MAX_IMAGE_PIXELS and entry.size > DEEPEST * Image.MAX_IMAGE_PIXELS:
            raise DataError(
                f"got {entry.path!r} of {in_words(entry.size)} in {entry.archive!r}, more than an image of "
                f"{Image.MAX_IMAGE_PIXELS:,} pixels takes; expected a smaller file. Take it out of the archive, or "
                f"allow more pixels: {worded(python='PIL.Image.MAX_IMAGE_PIXELS', shell='--max-pixels')}"
            )
        try:
            with self.open(entry) as file:
                return file.read()
        except (OSError, *DAMAGED) as error:
            if entry.archive is None:
                raise
            raise DataError(
                f"got {entry.path!r} in {entry.archive!r}, which cannot be unpacked ({first_line(error)}); expected a "
                f"whole archive"
            ) from error

    def stored(self, entry: Entry) -> dict[str, Any]:
        """An image as ``datasets.Image`` stores it: a path here, or the bytes where it lies in an archive."""
        if entry.archive is None:
            return {"path": str(self.root / entry.path), "bytes": None}
        name = Path(entry.archive).name
        kind = "zip" if name.lower().endswith(".zip") else "tar"
        return {"path": f"{kind}://{entry.path}::{name}", "bytes": self.read(entry)}  # as fsspec writes it


def _walk(root: Path, below: str, around: tuple[tuple[int, int], ...], closed: dict[str, str]) -> Iterator[Entry]:
    """The files below a folder; ``around`` are the folders that it lies in, which a link may lead back to."""
    folder = root / below
    try:
        here = folder.stat()
        children = list(os.scandir(folder))
    except OSError as error:
        closed[_shown(below) or "."] = f"a folder that cannot be read ({error.strerror})"
        return
    if (here.st_dev, here.st_ino) in around:
        closed[_shown(below)] = CIRCLE
        return
    for child in children:
        path = f"{below}/{child.name}" if below else child.name
        try:
            if child.is_dir():
                yield from _walk(root, path, (*around, (here.st_dev, here.st_ino)), closed)
                continue
            if not _is_text(path, closed):
                continue
            known = child.stat()
            if not stat.S_ISREG(known.st_mode):  # who opens a pipe waits for ever
                closed[path] = SPECIAL
                continue
            yield Entry(path, known.st_size, known.st_mtime_ns)
        except OSError:
            yield Entry(path)  # a link to nowhere: found to be broken when it is read


def _is_text(path: str, closed: dict[str, str]) -> bool:
    """Whether a name can be written down; if not it is noted."""
    if (shown := _shown(path)) != path:
        closed[shown] = NO_TEXT
    return shown == path


def _shown(path: str) -> str:
    """A path as it can be printed and stored: bytes that are not UTF-8 as their numbers."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _opened(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(archive) if archive.suffix.lower() == ".zip" else tarfile.open(archive)


def _members(archive: Path, closed: dict[str, str]) -> list[Entry]:
    """The files in an archive; of several of one name the last, as they would be unpacked."""
    try:
        with _opened(archive) as opened:
            if isinstance(opened, tarfile.TarFile):
                found = _in_tar(opened, archive, closed)
            else:
                packed = {info.filename: info for info in opened.infolist() if not info.is_dir()}.values()
                if any(info.flag_bits & 1 for info in packed):
                    raise DataError(f"got {str(archive)!r}, which needs a password; unpack it and name the folder")
                found = sorted(
                    Entry(_clean(info.filename), info.file_size, info.CRC, str(archive), info.filename)
                    for info in packed
                )
    except (OSError, *DAMAGED) as error:
        raise DataError(
            f"got {str(archive)!r}, which cannot be read as an archive ({first_line(error)}); expected a whole zip or "
            f"tar file"
        ) from error
    return [entry for entry in found if _is_text(entry.path, closed)]


def _in_tar(opened: tarfile.TarFile, archive: Path, closed: dict[str, str]) -> list[Entry]:
    """The files in a tar; a link is a file that is read as the one in there that it leads to."""
    stamp = archive.stat().st_mtime_ns  # a tar has no checksums of its files
    members = {posixpath.normpath(info.name): info for info in opened}
    found = []
    for info in members.values():
        file = _led_to(info, members)
        if file.isfile():
            found.append(Entry(_clean(info.name), file.size, stamp, str(archive), file.name))
        elif not info.isdir():
            closed[_shown(_clean(info.name))] = LEADS_OUT if _is_link(info) else SPECIAL
    return found


def _led_to(info: tarfile.TarInfo, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    """The member that a link leads to, over others; a link itself where there is none, or where they go in a circle."""
    passed = set()
    while _is_link(info) and info.name not in passed:
        passed.add(info.name)
        beside = "" if info.islnk() else posixpath.dirname(info.name)
        info = members.get(posixpath.normpath(posixpath.join(beside, info.linkname)), info)
    return info


def _is_link(info: tarfile.TarInfo) -> bool:
    return info.islnk() or info.issym()


def _clean(name: str) -> str:
    """The name of a member as a path below the archive; nothing is ever written to it."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or name
