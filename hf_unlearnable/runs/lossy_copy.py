"""A copy of the protected images as JPEG, for places that take nothing else, and what is left of the change in it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from datasets import Dataset
from PIL import Image

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pixels import colour_profile, on_white, to_array
from hf_unlearnable.data.reading import rows
from hf_unlearnable.errors import RecipeError, option
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection.remaining import Remaining
from hf_unlearnable.runs.folder import RunFolder


@dataclass(frozen=True)
class LossyCopy:
    """What a copy as JPEG is like, by its files as they were read back. It does not keep the budget.

    Attributes:
        quality: of JPEG.
        images: how many.
        outside: of them, with a pixel further from its original than the budget allows.
        flattened: of them, with transparency before, which JPEG does not have: they lie on white.
        left: the share of the change that is left, as ``Remaining`` counts it; None where nothing was changed.
    """

    quality: int
    images: int
    outside: int
    flattened: int
    left: float | None

    def as_dict(self) -> dict[str, Any]:
        """Names and values."""
        return asdict(self)

    def __str__(self) -> str:
        left = "" if self.left is None else f"{100 * self.left:.0f} % of the change is left in them; "
        flat = f"; {self.flattened} had transparency, which now is white" if self.flattened else ""
        return (
            f"{self.images} copies as JPEG of quality {self.quality}: {left}{self.outside} are further from their "
            f"originals than the budget, since JPEG changes pixels on its own{flat}"
        )


def check_quality(quality: int | None) -> None:
    """Refuse a quality that JPEG does not have.

    Raises:
        RecipeError: not 1 to 100.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise RecipeError(f"got {option('also_jpeg', quality)}; expected a quality from 1 to 100, such as 90")


def write_lossy_copy(
    run: RunFolder,
    originals: Dataset,
    columns: Columns,
    names: Sequence[str],
    quality: int,
    budget: Budget,
    *,
    progress: bool = True,
) -> LossyCopy:
    """Write the images of ``run.dataset`` to ``run.images_jpeg`` and read them back.

    Args:
        run: with its dataset.
        originals: of the same rows.
        columns: of both.
        names: of the lossless files; the ending becomes ``.jpg``.
        quality: 1 to 100, with Pillow's chroma subsampling (4:2:0).
        budget: of the protection.
        progress: show a bar.
    """
    shutil.rmtree(run.images_jpeg, ignore_errors=True)
    outside = flattened = 0
    counted = Remaining()
    released = run.dataset.with_format(None)
    with Progress(f"writing JPEG of quality {quality}", len(names), unit="image", enabled=progress) as bar:
        for name, row, original in zip(names, released, rows(originals, columns), strict=True):
            image = row[columns.image]
            transparent = image.mode in ("LA", "RGBA")
            stream = io.BytesIO()
            on_white(image).save(stream, "JPEG", quality=quality, icc_profile=colour_profile(image))
            file = run.images_jpeg / PurePosixPath(name).with_suffix(".jpg")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(stream.getvalue())
            flattened += transparent
            if not transparent:
                with Image.open(file) as stored:
                    later = to_array(stored)
                counted.add(original.pixels, to_array(image), later)
                outside += not budget.contains(original.pixels[None], later[None])[0]
            bar.advance()
    return LossyCopy(quality, len(names), outside + flattened, flattened, counted.share)
