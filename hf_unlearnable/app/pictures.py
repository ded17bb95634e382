"""What a visitor sends: names that stay below one folder, zips that are opened, and files that are no pictures."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hf_unlearnable.data.kinds import ARCHIVES, NEIGHBOURS
from hf_unlearnable.data.trees import DAMAGED
from hf_unlearnable.errors import DataError, first_line, in_words
from hf_unlearnable.progress import Progress

LONGEST = 200  # bytes of the name of a file or folder that every file system takes, with an ending put behind it
WHOLE = 800  # bytes of a path: with the folders of this machine before it, it stays below the 1,024 of macOS


def safe_name(name: str) -> PurePosixPath | None:
    """The path of a file below the folder of its visitor; None where it leads out of there, or is none or too long."""
    parts = [part.strip() for part in name.replace("\\", "/").split("/")]
    parts = [part for part in parts if part not in ("", ".")]
    plain = all(part != ".." and part.isprintable() and len(part.encode()) <= LONGEST for part in parts)
    return PurePosixPath(*parts) if parts and plain and len("/".join(parts).encode()) <= WHOLE else None


def place(folder: Path, name: PurePosixPath) -> Path:
    """Make an empty file and the folders that it lies in; two that are sent at once under one name are told apart.

    Raises:
        DataError: a name that was sent before, or one of both a file and a folder.
    """
    file = folder / name
    if file.is_file():
        raise DataError(f"got {str(name)!r} twice; expected every name once: give one of them another name")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(
            f"got {str(name)!r}, of which a part is the name of both a file and a folder; expected no such name: give "
            f"the file or the folder another one"
        ) from error
    return file


def is_refused(name: PurePosixPath) -> bool:
    """Whether a file is not even kept: tables name files of this machine as images, and archives other than zip."""
    lower = name.name.lower()
    return name.suffix.lower() in NEIGHBOURS or (lower.endswith(ARCHIVES) and not lower.endswith(".zip"))


def unpack(folder: Path, room: int) -> list[str]:
    """Replace every zip in a folder by a folder of what it holds.

    Args:
        folder: of a visitor.
        room: bytes that may be written.

    Returns:
        The names that were refused.

    Raises:
        DataError: a damaged or encrypted zip, one that holds too much, or names in it that clash. Nothing of it is left
            but the zip.
    """
    refused: list[str] = []
    for archive in sorted(folder.rglob("*")):
        if not archive.is_file() or archive.suffix.lower() != ".zip":
            continue
        target = archive.with_suffix("")
        while target.exists():
            target = target.with_name(target.name + "-zip")
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [member for member in opened.infolist() if not member.is_dir()]
                room -= sum(member.file_size for member in members)
                if room < 0:
                    raise DataError(
                        f"got the zip {archive.name!r}, whose files take more room than there is for one visitor; "
                        f"expected {in_words(room + sum(member.file_size for member in members))} at most"
                    )
                refused += _extract(opened, members, folder, PurePosixPath(target.relative_to(folder)))
        except (RuntimeError, *DAMAGED) as error:
            shutil.rmtree(target, ignore_errors=True)
            raise DataError(
                f"got the zip {archive.name!r}, which cannot be opened ({first_line(error)}); make it again, without a "
                f"password, or send the pictures themselves"
            ) from error
        except DataError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        archive.unlink()
    return refused


def _extract(
    opened: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path, below: PurePosixPath
) -> list[str]:
    """Write what a zip holds, every file no longer than it says to be; the names of those that are refused."""
    refused = []
    with Progress("unpacking", len(members), unit="file") as bar:
        for member in members:
            name = safe_name(member.filename)
            if name is None or is_refused(name) or name.suffix.lower() == ".zip":
                refused.append(member.filename)
            else:
                with opened.open(member) as source, place(folder, below / name).open("wb") as out:
                    left = member.file_size
                    while left > 0 and (block := source.read(min(left, 1 << 20))):
                        out.write(block)
                        left -= len(block)
            bar.advance()
    return refused
