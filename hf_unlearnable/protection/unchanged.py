"""Images that come out as they went in: they are published clean, so whoever protects has to know which they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from hf_unlearnable.data.reading import rows, stored_files
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection.protection import Protection

SHOWN = 5  # images at most that are named

UNCHANGED = r"\d+ of \d+ images( that were looked at)? stay as they are"  # how ``told_unchanged`` begins


def unchanged_rows(dataset: Dataset, protection: Protection, *, progress: bool = True) -> list[int]:
    """The rows of a released dataset whose images are as they were before they were protected."""
    found = []
    # A quarter of an hour for 1e5 of 224x224.
    with Progress("checking images", len(dataset), unit="image", enabled=progress) as bar:
        for index, row in enumerate(rows(dataset, protection.columns)):
            if protection.is_original(row.pixels, row.label):
                found.append(index)
            bar.advance()
    return found


def paths_of(dataset: Dataset, image_column: str, numbers: Sequence[int]) -> list[str | None]:
    """Where the images of some rows were read from, None where that is not known; no image is decoded."""
    return [row[image_column]["path"] for row in stored_files(dataset, image_column).select(numbers)]


def told_unchanged(
    dataset: Dataset, image_column: str, unchanged: Sequence[int], method: Mapping[str, Any], looked_at: int
) -> str:
    """Which images stay as they are, and what to do.

    Args:
        dataset: of originals or of released images.
        image_column: of it, for the names of its files.
        unchanged: rows of it, at least one.
        method: ``Description.method``.
        looked_at: so many rows.
    """
    paths = paths_of(dataset, image_column, unchanged[:SHOWN])
    names = [f"row {row}" + (f" ({path})" if path else "") for row, path in zip(unchanged, paths, strict=False)]
    named = ", ".join(names) + (", …" if len(unchanged) > SHOWN else "")
    sampled = " that were looked at" if looked_at < len(dataset) else ""
    more = " or more epochs" if "epochs" in method else ""
    return (
        f"{len(unchanged)} of {looked_at} images{sampled} stay as they are: nothing of their perturbations is left in "
        f"the pixels of {named}. Leave them out, or they are published clean; a larger budget{more} may change them"
    )
