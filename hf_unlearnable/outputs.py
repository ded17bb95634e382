"""Folders that appear under their final name only when they are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_unlearnable.errors import OutputError


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something already: nothing is ever overwritten.

    Raises:
        OutputError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"got the output {str(folder)!r}, which exists already; name another one, or remove it first")


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
        umask = os.umask(0)
        os.umask(umask)
        scratch.chmod(0o777 & ~umask)
        scratch.replace(folder)  # replaces an empty folder too
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
