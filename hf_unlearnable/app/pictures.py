"""What a visitor sends: names that stay below one folder, zips that are opened, and files that are no pictures."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from hf_unlearnable.data.kinds import ARCHIVES, NEIGHBOURS
from hf_unlearnable.data.trees import DAMAGED
from hf_unlearnable.errors import DataError, first_line, in_words
from hf_unlearnable.progress import Progress

LONGEST = 200  # characters of a name that every file system takes, with an ending put behind it


def safe_name(name: str) -> PurePosixPath | None:
    """The path of a file below the folder of its visitor; None where it has no name or leads out of there."""
    parts = [part.strip() for part in name.replace("\\", "/").split("/")]
    parts = [part for part in parts if part not in ("", ".")]
    plain = all(part != ".." and part.isprintable() and len(part.encode()) <= LONGEST for part in parts)
    return PurePosixPath(*parts) if parts and plain else None


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
        DataError: a damaged or encrypted zip, or one that holds too much.
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
                with Progress("unpacking", len(members), unit="file") as bar:
                    for member in members:
                        refused += _extract(opened, member, target)
                        bar.advance()
        except (RuntimeError, *DAMAGED) as error:
            raise DataError(
                f"got the zip {archive.name!r}, which cannot be opened ({first_line(error)}); make it again, without a "
                f"password, or send the pictures themselves"
            ) from error
        archive.unlink()
    return refused


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> list[str]:
    """Write a member, no longer than it says to be; the name of one that is refused."""
    name = safe_name(member.filename)
    if name is None or is_refused(name) or name.suffix.lower() == ".zip":
        return [member.filename]
    file = target / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, file.open("wb") as out:
        left = member.file_size
        while left > 0 and (block := source.read(min(left, 1 << 20))):
            out.write(block)
            left -= len(block)
    return []
