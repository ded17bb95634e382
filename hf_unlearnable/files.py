"""Outputs that appear under their final name only when they are whole, and arrays on disk that have room."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hf_unlearnable.errors import DataError, OutputError, first_line

try:
    import fcntl
except ImportError:  # Windows: two commands with one output are not kept apart there
    fcntl = None  # type: ignore[assignment]


ROOM = 1 << 22  # values of a set that are brought into memory at once


def allocate_memmap(file: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A memory-mapped array of zeros in a new file, with its room on disk taken at once.

    A file that only promises its size would end the process without a word (SIGBUS) where the disk turns out full.

    Raises:
        OSError: no room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with file.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:  # macOS, Windows
            for start in range(0, size, 1 << 20):
                stream.write(bytes(min(1 << 20, size - start)))
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def chunks(count: int, shape: Sequence[int]) -> Iterator[slice]:
    """Cut ``count`` rows of ``shape`` into stretches that may be brought into memory at once.

    Of ``ROOM`` values or one row: 4,096 rows are 50 MB of doubles at 32x32 in grey, but 5 GB at 224x224 in colour.
    """
    rows = max(1, ROOM // max(1, math.prod(shape)))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def require_empty(folder: Path) -> None:
    """Refuse a folder that holds something already: nothing is ever overwritten.

    Raises:
        OutputError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"got the output {str(folder)!r}, which exists already; name another one, or remove it first")


def atomic_write(file: Path, content: str | bytes) -> None:
    """Write a file that others find as it was before or as it is now, never in part; text as UTF-8."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", suffix=".part", delete=False) as stream:
        scratch = Path(stream.name)
        try:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
            scratch.chmod(0o666 & ~_umask())
            scratch.replace(file)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def read_json(file: Path) -> dict[str, Any]:
    """Read a document of ours: a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it holds something else.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8
        raise DataError(
            f"got {str(file)!r}, which is damaged ({first_line(error)}); expected a JSON document"
        ) from error
    if not isinstance(stored, dict):
        raise DataError(f"got {str(file)!r}, which holds a {type(stored).__name__}; expected a JSON object")
    return stored


Kinds = Mapping[str, tuple[type, ...]]  # key of a document -> what its value may be, as ``json`` reads it


def check_keys(
    stored: Mapping[str, Any], required: Collection[str], optional: Collection[str], what: str, kinds: Kinds
) -> None:
    """Refuse a document that lacks a key, has one that nobody reads, or a value of another kind.

    Args:
        stored: what was read.
        required: keys that it must have.
        optional: keys that it may have, which older versions did not write.
        what: names the document in the message.
        kinds: of its values; those of keys that are not there are not looked for.

    Raises:
        DataError: it does.
    """
    missing = sorted(set(required) - set(stored))
    unknown = sorted(set(stored) - set(required) - set(optional))
    wrong = sorted(key for key, kind in kinds.items() if key in stored and not _is_of(stored[key], kind))
    if missing or unknown or wrong:
        faults = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(unknown)}"] * bool(unknown)
        faults += [f"with a value of another kind in {', '.join(wrong)}"] * bool(wrong)
        raise DataError(
            f"got {what} {' and '.join(faults)}; expected the keys {', '.join(sorted(required))}. It is damaged, or "
            f"another version of hf_unlearnable wrote it"
        )


def kinds_of(described: type) -> Kinds:
    """What the fields of a dataclass are in JSON, or in ``asdict``, by their annotations."""
    hints = get_type_hints(described)
    in_json = {float: (float, int), tuple: (list, tuple), Mapping: (dict,)}
    found = {}
    for one in fields(described):
        hint = hints[one.name]
        plain = [get_origin(part) or part for part in (get_args(hint) if get_origin(hint) is UnionType else (hint,))]
        found[one.name] = tuple(kind for part in plain for kind in in_json.get(part, (part,)))
    return found


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def known_digest(file: Path, start: bytes = b"") -> str:
    """The ``file_digest`` of a file, which this process, and what it forks, reads once while the file stays the same.

    Raises:
        FileNotFoundError: there is none.
    """
    found = file.stat()
    stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _digest_as_of(stamp, file, start)


@lru_cache(maxsize=256)
def _digest_as_of(stamp: tuple[int, ...], file: Path, start: bytes) -> str:
    return file_digest(file, start)


def file_digest(file: Path, start: bytes = b"") -> str:
    """A hash, in 32 hexadecimal digits, of ``start`` and what is in a file."""
    hashed = hashlib.blake2b(start, digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder beside ``folder`` and rename it to ``folder`` when the block ends without an error.

    After an error, a full disk or Ctrl-C nothing is left under either name.

    Raises:
        OutputError: ``folder`` holds something already.
    """
    require_empty(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    try:
        yield scratch
        # mkdtemp makes folders that only the owner may read; the final one gets the usual permissions.
        scratch.chmod(0o777 & ~_umask())
        scratch.replace(folder)  # replaces an empty folder too
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def work_folders(folder: Path) -> tuple[Path, Path]:
    """What ``resumable`` gives for an output."""
    work = folder.parent / f".{folder.name}.part"
    return work / "result", work / "checkpoints"


@contextmanager
def resumable(folder: Path, *, overwrite: bool = False) -> Iterator[tuple[Path, Path]]:
    """Give a folder for the result and one for what helps to go on; what is in them outlives an error and a kill.

    Both lie in a hidden folder beside ``folder``, which only its owner may read. When the block ends without an error
    the first is renamed to ``folder`` and the rest removed. Nobody else gets the same two while the block runs.

    Args:
        folder: the output.
        overwrite: replace what ``folder`` holds, at the end and not before.

    Yields:
        The folder of the result, which may not exist yet, and the one for the rest.

    Raises:
        OutputError: ``folder`` holds something already, or another process writes to it.
    """
    result, rest = work_folders(folder)
    work, before = result.parent, result.parent / "before"
    if before.exists() and not folder.exists():
        before.replace(folder)  # a process was killed between two renames
    if not overwrite:
        require_empty(folder)
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(work):
        rest.mkdir(exist_ok=True)
        try:
            yield result, rest
        except BaseException:
            if not result.exists() and not any(rest.iterdir()):
                shutil.rmtree(work, ignore_errors=True)
            raise
        result.chmod(0o777 & ~_umask())
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)
            folder.replace(before)
        result.replace(folder)
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; the system lets go of it when this one ends, however it does.

    Raises:
        OutputError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"got an output for which another process is at work in {str(folder)!r}; wait for it, or name another"
            ) from error
        yield
    finally:
        os.close(descriptor)
