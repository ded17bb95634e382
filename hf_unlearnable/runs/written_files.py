"""Every file that ``protect`` wrote beside the protection, by its digest: what ``verify`` looks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hf_unlearnable.data.kinds import is_junk
from hf_unlearnable.errors import DataError, first_line
from hf_unlearnable.files import atomic_write, file_digest
from hf_unlearnable.protection.documents import check_keys, read_json
from hf_unlearnable.runs.folder import RunFolder


def keep_digests(run: RunFolder) -> None:
    """Write down what the files of a run are, once they are all written.

    The names go to the private part, since those of image files may tell something. The perturbations are not among
    them: their description has their digest, and they are compared whenever they are opened.
    """
    found = {_name(file, run): file_digest(file) for folder in _folders(run) for file in _files(folder)}
    atomic_write(run.file_digests, json.dumps({"digests": found}, ensure_ascii=False) + "\n", private=True)


def check_files(run: RunFolder, part: Path | None = None) -> int:
    """Look whether the files of a run, or of one of its folders, are as ``protect`` wrote them.

    A folder of copies that is gone as a whole was removed, as ``clean --images`` does; nothing is lost with it.

    Returns:
        How many are; 0 for a run of version 0.1.0, which kept no digests and wrote no copies.

    Raises:
        DataError: some are damaged or missing, or lie in a folder of copies and are not of this run; or the digests
            themselves are damaged or missing.
    """
    copies = (run.images, run.images_jpeg)
    try:
        stored = read_json(run.file_digests)
        check_keys(stored, ("digests",), (), "the digests of files", {"digests": (dict,)})
    except (FileNotFoundError, DataError) as error:
        if not run.file_digests.exists() and not any(folder.exists() for folder in (*copies, run.held_out)):
            return 0
        raise DataError(
            f"got {str(run)!r} whose {run.private.name}/{run.file_digests.name} is damaged or missing "
            f"({first_line(error)}); expected the digests of its files. Restore it from a copy, or protect again"
        ) from error
    folders = [one for one in _folders(run) if part in (None, one) and (one not in copies or one.exists())]
    below = tuple(f"{_name(folder, run)}/" for folder in folders)
    known = {name: kept for name, kept in stored["digests"].items() if name.startswith(below)}
    damaged = [name for name, kept in known.items() if _digest_of(run.root / name) != kept]
    there = [_name(file, run) for folder in folders if folder in copies for file in _files(folder)]
    more = [name for name in there if name not in known]
    if damaged or more:
        told = [f"{len(damaged)} of {len(known)} are damaged or missing, such as {damaged[0]}"] if damaged else []
        told += [f"{len(more)} are not of this protection, such as {more[0]}"] if more else []
        raise DataError(
            f"got files in {str(run)!r} that are not those that protect wrote: {'; '.join(told)}. Restore them from a "
            f"copy, or protect again; {run.images.name}/ and {run.images_jpeg.name}/ may be removed as a whole, since "
            f"{run.published.name}/ has all images too"
        )
    return len(known)


def _folders(run: RunFolder) -> tuple[Path, ...]:
    return (run.published, run.images, run.images_jpeg, run.held_out)


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder, but for those that systems leave behind when somebody looks into it."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and not is_junk(file.name))


def _name(path: Path, run: RunFolder) -> str:
    return path.relative_to(run.root).as_posix()


def _digest_of(file: Path) -> str | None:
    try:
        return file_digest(file)
    except OSError:  # missing, or on a disk that cannot read it any more
        return None
