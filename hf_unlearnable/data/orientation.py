"""Whether boxes and masks fit images as they are shown: EXIF may turn them, and what is released is turned for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from hf_unlearnable.data.annotations import Objects, are_corners, objects_of, other_images, values_of
from hf_unlearnable.data.reading import (
    NAMED,
    UNREADABLE,
    open_image,
    orientation_of,
    reading_row,
    stored_files,
    turned_size,
)
from hf_unlearnable.errors import DataError, some_of

SLACK = 1.0  # pixels that a box may reach beyond its image, by rounding


def check_orientation(dataset: Dataset, image_column: str) -> str:
    """Refuse boxes and masks that fit an image as its file stores it, and not as it is shown.

    ``datasets`` applies the EXIF orientation when it decodes, so whoever trains on the originals sees turned images. So
    does who trains on released ones, whose pixels are turned and which have no EXIF.

    Args:
        dataset: with images and perhaps boxes or masks.
        image_column: of it.

    Returns:
        What to say of images that are turned, where there are boxes or masks; empty if there is nothing to say.

    Raises:
        DataError: boxes or masks of another orientation, or a mask that cannot be read.
    """
    objects, masks = objects_of(dataset), other_images(dataset, image_column)
    if not objects and not masks:
        return ""
    corners = {
        found.column: are_corners([box for value in values_of(dataset, found.column) for box, *_ in found.read(value)])
        for found in objects
    }
    stored = stored_files(dataset, image_column, *masks, beside=[*corners])
    turned, wrong = 0, []
    for index, row in enumerate(stored):
        try:
            with open_image(row[image_column] or {"bytes": None, "path": None}) as image:
                if orientation_of(image) == 1:
                    continue
                as_stored, as_shown = image.size, turned_size(image)[::-1]
        except UNREADABLE:
            continue  # told elsewhere
        turned += 1
        boxes = [_extents(found, row[found.column], corners[found.column]) for found in objects]
        if as_stored != as_shown and (
            any(_fit(ends, as_stored) and not _fit(ends, as_shown) for ends in boxes)
            or any(_size(index, row[name], name) == as_stored for name in masks)
        ):
            wrong.append(index)
    if wrong:
        named = some_of(wrong, NAMED)
        raise DataError(
            f"got {len(wrong)} images that their EXIF turns, with boxes or masks that fit the image as it is stored "
            f"and not as it is shown: rows {named}; expected them to fit what datasets shows, and what is released. "
            f"Turn these boxes and masks, or write the images anew without the orientation in their EXIF"
        )
    if not turned:
        return ""
    return (
        f"Turned by their EXIF: {turned} of {len(dataset)} images. Their boxes and masks are taken to fit them as they "
        f"are shown; they are released that way."
    )


def _extents(objects: Objects, value: Any, corners: bool) -> list[tuple[float, float]]:
    """How far each box reaches to the right and down; nothing for boxes as shares of the image."""
    boxes = [box for box, *_ in objects.read(value)]
    ends = [(box[2], box[3]) if corners else (box[0] + box[2], box[1] + box[3]) for box in boxes]
    return ends if any(max(end) > 2 for end in ends) else []


def _fit(ends: Sequence[tuple[float, float]], size: tuple[int, int]) -> bool:
    return all(right <= size[0] + SLACK and down <= size[1] + SLACK for right, down in ends)


def _size(index: int, stored: Mapping[str, Any] | None, column: str) -> tuple[int, int] | None:
    if stored is None:
        return None
    with reading_row(index, stored, column=column), open_image(stored) as mask:
        return mask.size
