"""Sets of images that are fetched or cut once and kept in a folder, whichever of several processes comes first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets import DatasetDict, load_from_disk

from hf_unlearnable.errors import OutputError, SourceError
from hf_unlearnable.files import atomic_folder


def made_once(folder: Path, make: Callable[[], DatasetDict], name: str) -> DatasetDict:
    """Load what lies in ``folder``, and put it there first where nothing does.

    Args:
        folder: where it is kept.
        make: fetches or makes it.
        name: of the set, for the error.

    Raises:
        SourceError: something else lies in the folder.
    """
    if not folder.exists():
        made = make()
        try:
            with atomic_folder(folder) as scratch:
                made.save_to_disk(scratch)
        except OutputError:
            if not folder.exists():  # else another process made it meanwhile
                raise
    try:
        loaded = load_from_disk(str(folder))
    except FileNotFoundError:
        loaded = None
    if not isinstance(loaded, DatasetDict):
        raise SourceError(
            f"got {str(folder)!r}, which is not {name} that was put there; remove it, and it is made anew"
        )
    return loaded
