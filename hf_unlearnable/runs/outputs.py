"""Where a run is written: refused where something would be lost, and what an unfinished one left there."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from hf_unlearnable.data.kinds import is_junk
from hf_unlearnable.data.sources import name_of
from hf_unlearnable.errors import OutputError
from hf_unlearnable.files import entries, local_path, place_of, require_empty, work_folders
from hf_unlearnable.protection.layout import IMAGES, IMAGES_JPEG, PRIVATE, PUBLISH, REPORT


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse an output that holds something, unless that is an earlier run which is to be overwritten.

    Whoever mistypes a folder would lose all that is in it.

    Raises:
        OutputError: it does, or nothing can be written there.
    """
    place = place_of(output)
    held = sorted(one.name for one in entries(place) if not is_junk(one.name)) if place.is_dir() else []
    foreign = [name for name in held if name not in (PUBLISH, PRIVATE, REPORT, IMAGES, IMAGES_JPEG)]
    ours = place.is_dir() and (not held or (not foreign and (place / PRIVATE).is_dir()))
    if overwrite and held and not ours:
        raise OutputError(
            f"got the output {str(output)!r}, which holds {(foreign or held)[0]!r}; expected nothing, or only what an "
            f"earlier protect wrote, since all of it would be removed. Name another one, or move that away"
        )
    if not overwrite or not place.is_dir():
        require_empty(output, replaceable=ours)


def check_output_apart(dataset: str | PathLike[str], output: str | PathLike[str]) -> None:
    """Refuse an output in the folder that is protected, whose pictures would count as its images, or around it.

    Raises:
        OutputError: it is one of these.
    """
    there, here = local_path(name_of(dataset)).resolve(), place_of(local_path(output)).resolve()
    if there.exists() and (here == there or there in here.parents or here in there.parents):
        raise OutputError(
            f"got the output {str(output)!r} for the images in {str(there)!r}; expected neither to lie in the other: "
            f"what is written would count as further images, or replace them. Name a folder beside it"
        )


def unfinished(output: str | PathLike[str]) -> Path | None:
    """The private folder that an unfinished ``protect`` left to go on from; None if there is none."""
    _, checkpoints = work_folders(local_path(output))
    return checkpoints.parent if any(checkpoints.glob("*.json")) else None
