"""Outputs that appear under their final name only when they are whole, and arrays on disk that have room."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hf_unlearnable.errors import OutputError

# What `protect` writes below its output folder: one part to publish, one to keep.
PUBLISH, PRIVATE, REPORT = "dataset", "private", "report"
MEASURED = "learnability.json"  # below REPORT: what `measure` found
CELLS = "victims"  # below REPORT: what is finished of a measurement
PROTECTION, ORIGIN, VERIFIED = "protection", "origin.json", "verification.json"


def allocate(file: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
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


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something already: nothing is ever overwritten.

    Raises:
        OutputError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"got the output {str(folder)!r}, which exists already; name another one, or remove it first")


def write_whole(file: Path, content: str | bytes) -> None:
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
def whole(folder: Path) -> Iterator[Path]:
    """Give a scratch folder beside ``folder`` and rename it to ``folder`` when the block ends without an error.

    After an error, a full disk or Ctrl-C nothing is left under either name.

    Raises:
        OutputError: ``folder`` holds something already.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    try:
        yield scratch
        # mkdtemp makes folders that only the owner may read; the final one gets the usual permissions.
        scratch.chmod(0o777 & ~_umask())
        scratch.replace(folder)  # replaces an empty folder too
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
