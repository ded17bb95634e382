"""How much room the protected images will take, before the work: lossless files are several times as large as JPEG."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pixels import encode, split_alpha, to_image
from hf_unlearnable.data.reading import image_mode, read_pixels, reading_row, stored_files
from hf_unlearnable.errors import OutputError, in_words, option
from hf_unlearnable.files import home_of, place_of, work_folders

SAMPLE = 8  # images
CROP = 512  # pixels a side of what is encoded of each

FULL = {errno.ENOSPC: "a full disk", errno.EDQUOT: "a quota that is used up"}


@dataclass(frozen=True)
class DiskSpace:
    """Bytes, by a sample of the images.

    Attributes:
        now: of the originals as they are stored.
        png: of the protected images.
        webp: likewise.
        copies: how often they are written: as a dataset, and perhaps as files.
        free: on the disk of the output, with what an unfinished run left there to go on from.
        place: the folder of the output.
    """

    now: int
    png: int
    webp: int
    copies: int
    free: int
    place: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Names and values."""
        return asdict(self)

    def needed(self, image_format: str) -> int:
        """Bytes of all that is written."""
        return self.copies * (self.png if image_format == "png" else self.webp)

    def check(self, image_format: str) -> None:
        """Refuse to begin where there is less than half of the room that will be needed, by the estimate.

        Raises:
            OutputError: there is.
        """
        if 2 * self.free < self.needed(image_format):
            raise OutputError(
                f"got the output {self.place!r}, on a disk with {in_words(self.free)} free; expected about "
                f"{in_words(self.needed(image_format))} for the protected images. Make room there, or name an output "
                f"on another disk"
            )

    def told(self, image_format: str) -> str:
        """What to expect, and what would take less."""
        size = self.png if image_format == "png" else self.webp
        twice = ", written twice, as a dataset and as files" if self.copies == 2 else ""
        lines = [
            f"The protected images will take about {in_words(size)} as {image_format.upper()} without loss, "
            f"{size / max(1, self.now):.1f} times the {in_words(self.now)} of the originals{twice}."
        ]
        if image_format == "png" and self.webp < 0.9 * self.png:
            lines.append(f"{option('image_format', 'webp')} takes about {in_words(self.webp)}, and longer to write.")
        if self.needed(image_format) > self.free:
            lines.append(f"Only {in_words(self.free)} are free on the disk of {self.place!r}.")
        return " ".join(lines)


def expected_space(
    data: Dataset,
    image_column: str,
    budget: Budget,
    output: Path,
    copies: int,
    pixels: int | None = None,
    now: int | None = None,
) -> DiskSpace:
    """Estimate it: a part of some images is encoded with noise of half the budget, as hard to pack as most fits.

    Args:
        data: the originals.
        image_column: of them.
        budget: how far they are going to be moved.
        output: where the protected images are going to lie.
        copies: how often they are going to be written.
        pixels: of all images, where that is known; else the sample's sizes are taken for all.
        now: bytes of all originals, where that is known.

    Raises:
        DataError: an image of the sample that cannot be read.
    """
    mode = image_mode(data, Columns(image_column, None))
    files = stored_files(data, image_column)
    picked = sorted({int(row) for row in np.linspace(0, len(data) - 1, min(SAMPLE, len(data)))})
    rng = np.random.default_rng(0)
    stored, seen, sizes = 0.0, 0, {"png": 0.0, "webp": 0.0}
    for row in picked:
        file = files[row][image_column]
        stored += os.stat(file["path"]).st_size if file["bytes"] is None else len(file["bytes"])
        with reading_row(row, file):
            whole = read_pixels(file, mode)
        top, left = (max(0, side - CROP) // 2 for side in whole.shape[1:])
        seen += whole[0].size
        part = whole[:, top : top + CROP, left : left + CROP].copy()
        colour, _ = split_alpha(part)
        level = budget.radius if budget.norm == "linf" else budget.radius / np.sqrt(whole[0].size * len(colour))
        level = max(1, int(level * 0.5))  # about the mean absolute change that fits leave
        noisy = colour + rng.integers(-level, level + 1, colour.shape)
        part[: len(colour)] = np.clip(noisy, 0, WHITE)
        for kind in sizes:
            sizes[kind] += len(encode(to_image(part), kind)[0]) * whole[0].size / part[0].size
    scale = len(data) / max(1, len(picked)) if pixels is None else pixels / max(1, seen)
    place = place_of(output)
    home = next(one for one in (home_of(place), *place.parents) if one.exists())
    return DiskSpace(
        now=int(stored * scale) if now is None else now,
        png=int(sizes["png"] * scale),
        webp=int(sizes["webp"] * scale),
        copies=copies,
        free=shutil.disk_usage(home).free + sum(file.stat().st_size for file in _left(place)),
        place=str(output),
    )


def _left(place: Path) -> Iterator[Path]:
    """The files of an unfinished run, which are taken on or replaced."""
    return (file for file in work_folders(place)[0].parent.rglob("*") if file.is_file())


@contextmanager
def full_disk_told(output: Path) -> Iterator[None]:
    """Say of a disk that turns out full while an output is made which one it may be, and what to do.

    Raises:
        OutputError: there is no room left, on the disk or of a quota, or a file may not be so large.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise OutputError(
                f"got a file that would be larger than the system allows while the output {str(output)!r} was made; "
                f"expected a disk and a shell without such a limit (FAT has one of 4 GB, ulimit -f tells the shell's). "
                f"Name an output on another disk, or lift the limit"
            ) from error
        if error.errno not in FULL:
            raise
        places = (home_of(place_of(output)), Path(datasets.config.HF_DATASETS_CACHE), Path(tempfile.gettempdir()))
        there = {str(one): in_words(shutil.disk_usage(one).free) for one in places if one.exists()}
        room = ", ".join(f"{free} in {one}" for one, free in there.items())
        raise OutputError(
            f"got {FULL[error.errno]} while the output {str(output)!r} was made; expected room where it and what is "
            f"cached on the way are written. Now there are free: {room}. Make room where there is little, or name an "
            f"output on another disk"
        ) from error
