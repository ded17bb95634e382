"""Masks beside images: recognised by what they are, and told from copies of the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hf_unlearnable.data.pixels import METADATA, SIXTEEN_BIT
from hf_unlearnable.data.reading import UNREADABLE, open_image, reading_row, stored_files
from hf_unlearnable.progress import Progress

PLANES = ("1", "L", "P", "I", *SIXTEEN_BIT)

ALIKE = 0.75  # of neighbouring pixels: so many are of one value in a mask; a tenth in a photograph

LIKE = 0.97  # correlation with the brightness of the image: what a copy of few colours reaches

SIDE = 256  # pixels at most at which they are compared: noise and dots are averaged out


def why_no_masks(dataset: Dataset, image_column: str, column: str, *, progress: bool = False) -> str:
    """Look at every row of a column of images; what forbids to take it for masks, or nothing.

    Args:
        dataset: with both columns.
        image_column: of the images that the masks are of.
        column: that may hold masks.
        progress: show a bar.

    Raises:
        DataError: a mask that cannot be read.
    """
    stored = stored_files(dataset, image_column, column)
    with Progress(f"looking at {column}", len(stored), unit="image", enabled=progress) as bar:
        for index, row in enumerate(stored):
            if row[column] is not None:
                with reading_row(index, row[column], column=column):
                    reason = _why_no_mask(row[column], row[image_column])
                if reason:
                    return f"row {index}: {reason}"
            bar.advance()
    return ""


def _why_no_mask(mask: Mapping[str, Any], image: Mapping[str, Any] | None) -> str:
    with open_image(mask) as opened:
        if opened.mode not in PLANES:
            return f"the mode {opened.mode}, expected one of {', '.join(PLANES)}"
        if METADATA & set(opened.info) or dict(opened.getexif()):
            return "metadata such as EXIF"
        values = np.asarray(opened)
        shown = np.asarray(opened.convert("L") if opened.mode == "P" else opened, dtype=np.float32)
    if (alike := _alike(values)) < ALIKE:
        return f"only {alike:.0%} of neighbouring pixels are of one value, expected {ALIKE:.0%} and more"
    if image is not None and (likeness := _likeness(shown, image)) > LIKE:
        return f"it looks like its image: correlation {likeness:.2f}, expected at most {LIKE}"
    return ""


def _alike(values: NDArray[Any]) -> float:
    """The share of neighbours, to the right and below, that are equal."""
    pairs = (values[:, 1:] == values[:, :-1], values[1:] == values[:-1])
    count = sum(pair.size for pair in pairs)
    return sum(int(pair.sum()) for pair in pairs) / count if count else 1.0


def _likeness(shown: NDArray[np.float32], image: Mapping[str, Any]) -> float:
    """The correlation, without its sign, of a mask as it is shown with the brightness of its image."""
    height, width = shown.shape
    size = min(width, SIDE), min(height, SIDE)
    try:
        with open_image(image) as opened:
            bright = ImageOps.exif_transpose(opened).convert("L").resize(size, Image.Resampling.BOX)
    except UNREADABLE:
        return 0.0  # an image that is broken is told elsewhere
    both = [np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BOX)), np.asarray(bright)]
    deviations = [side.astype(np.float64) - side.mean() for side in both]
    lengths = float(np.linalg.norm(deviations[0])) * float(np.linalg.norm(deviations[1]))
    return abs(float((deviations[0] * deviations[1]).sum())) / lengths if lengths else 0.0
