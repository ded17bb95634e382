"""What stands beside images in datasets of other tasks: boxes, masks, several labels, captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, Value
from datasets import Image as ImageFeature

from hf_unlearnable.data.columns import holds_texts, inside, is_missing
from hf_unlearnable.errors import DataError

# What the Hub calls them: in structures of objects, and as columns of their own.
BOXES = ("bbox", "bboxes", "box", "boxes")
CATEGORIES = ("category", "categories", "category_id", "label", "labels", "class", "classes")
TAGS = ("labels", "tags", "categories", "classes", "attributes", "label", "category")
CAPTIONS = ("caption", "captions", "text", "texts", "prompt", "description", "sentence", "sentences", "alt_text")

TASKS = {  # what is beside the images -> the task of the Hub that it is for
    "boxes": "object-detection",
    "masks": "image-segmentation",
    "captions": "image-to-text",
}


@dataclass(frozen=True)
class Objects:
    """A column with a box, and perhaps a category, for every object in an image.

    Attributes:
        column: a structure of lists, as ``Sequence`` makes it, or a list of structures.
        box: the part with the boxes, four numbers each.
        category: the part with the categories; empty where there is none.
        area: the part with the areas of the objects; empty where these are computed from the boxes.
    """

    column: str
    box: str
    category: str
    area: str

    @classmethod
    def of(cls, dataset: Dataset, column: str) -> Objects | None:
        """What the column holds, by its type; None where these are no objects."""
        parts = _parts(dataset.features[column])
        box = next((name for name in BOXES if _is_number(inside(_one(parts, name, dataset, column)))), "")
        if not box:
            return None
        category = next((name for name in CATEGORIES if _is_label(_one(parts, name, dataset, column))), "")
        return cls(column, box, category, "area" if "area" in parts else "")

    def category_of(self, dataset: Dataset) -> Any:
        """The type of a category."""
        return _one(_parts(dataset.features[self.column]), self.category, dataset, self.column)

    def read(self, value: Any) -> list[tuple[list[float], Any, float | None]]:
        """Box, category and area of every object in what the column holds for an image; None where not known.

        Raises:
            DataError: more of one than of another.
        """
        if value is None:
            return []
        rows = value
        if isinstance(value, Mapping):  # of lists
            names = filter(None, (self.box, self.category, self.area))
            lists = {name: value[name] for name in names if value.get(name) is not None}
            if len({*map(len, lists.values())}) > 1:
                told = ", ".join(f"{len(held)} in {name!r}" for name, held in lists.items())
                raise DataError(
                    f"got {told} for one image in the column {self.column!r}; expected one of each for every object"
                )
            rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        return [
            (list(row[self.box]), row.get(self.category), row.get(self.area))
            for row in rows
            if row.get(self.box) is not None
        ]


def objects_of(dataset: Dataset) -> list[Objects]:
    """The columns of objects with boxes."""
    return [found for column in dataset.features if (found := Objects.of(dataset, column)) is not None]


def tag_columns(dataset: Dataset) -> list[str]:
    """The columns that hold several labels an image: lists of ``ClassLabel``, or of plain values under a usual name."""
    return [
        column
        for column, feature in dataset.features.items()
        if isinstance(kind := inside(feature), ClassLabel) or (column in TAGS and _is_label(kind))
    ]


def other_images(dataset: Dataset, image_column: str) -> list[str]:
    """The further columns of images, which may hold masks."""
    return [
        column
        for column, feature in dataset.features.items()
        if column != image_column and isinstance(feature, ImageFeature)
    ]


def caption_columns(dataset: Dataset) -> list[str]:
    """The columns with texts about the images, or lists of them, under a usual name."""
    return [column for column, feature in dataset.features.items() if column in CAPTIONS and holds_texts(feature)]


def kinds_beside(dataset: Dataset, image_column: str) -> tuple[str, ...]:
    """What is beside the images, in words: ``"boxes"``, ``"masks"``, ``"several labels"``, ``"captions"``."""
    kinds = {
        "boxes": objects_of(dataset),
        "masks": other_images(dataset, image_column),  # nothing else passes ``privacy.check_other_columns``
        "several labels": tag_columns(dataset),
        "captions": caption_columns(dataset),
    }
    return tuple(kind for kind, columns in kinds.items() if columns)


def are_corners(boxes: Sequence[Sequence[float]]) -> bool:
    """Whether boxes are (x1, y1, x2, y2), and not (x, y, width, height): no right edge lies left of the left one."""
    return bool(boxes) and all(box[2] > box[0] and box[3] > box[1] for box in boxes)


def values_of(dataset: Dataset, column: str) -> Iterator[Any]:
    """What a column holds, row by row, as plain Python values."""
    for batch in dataset.with_format(None).select_columns([column]).iter(batch_size=1000):
        yield from batch[column]


def tags_in(value: Any) -> list[Any]:
    """The labels that a list holds, without those that are none."""
    return [tag for tag in value or [] if not is_missing(tag)]


def _parts(feature: Any) -> Mapping[str, Any]:
    """The fields of a structure, or of a list of structures."""
    held = feature if isinstance(feature, Mapping) else inside(feature)
    return held if isinstance(held, Mapping) else {}


def _one(parts: Mapping[str, Any], name: str, dataset: Dataset, column: str) -> Any:
    """The type that one object has in a field: structures of lists hold a list of it."""
    field = parts.get(name)
    return inside(field) if isinstance(dataset.features[column], Mapping) else field


def _is_number(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "float"))


def _is_label(feature: Any) -> bool:
    whole = isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "string", "large_string"))
    return isinstance(feature, ClassLabel) or whole
