"""One class an image, derived from what a dataset says of it otherwise: its objects, its mask, its several labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray

from hf_unlearnable.data.annotations import Objects, are_corners, objects_of, tag_columns, tags_in, values_of
from hf_unlearnable.data.columns import Columns, inside, is_missing
from hf_unlearnable.data.reading import image_mode, reading_row
from hf_unlearnable.errors import DataError, option

LARGEST, FREQUENT = "largest", "frequent"

OTHER = "other"  # the class of images without an object or label, and of those that would be alone in theirs

NO_OBJECT = (0, 255)  # values of a mask that stand for background and for what is not labelled, by convention


class Derived(NamedTuple):
    """A class for every image.

    Attributes:
        names: of the classes that there are.
        numbers: (N,) of the rows.
    """

    names: list[str]
    numbers: NDArray[np.int64]

    @property
    def rest(self) -> int:
        """How many images are ``OTHER``."""
        return int((self.numbers == self.names.index(OTHER)).sum()) if OTHER in self.names else 0


def source_of(dataset: Dataset, kind: str, column: str = "") -> str:
    """The column that a class can be derived from.

    Args:
        dataset: with it.
        kind: ``LARGEST`` or ``FREQUENT``.
        column: that somebody named; the only one there is when left out.

    Raises:
        DataError: there is none, or several, or another kind of column was named.
    """
    objects = [found.column for found in objects_of(dataset) if found.category]
    possible = objects if kind == LARGEST else [*tag_columns(dataset), *objects]
    masks = [name for name, feature in dataset.features.items() if isinstance(feature, ImageFeature)]
    if column in possible or (kind == LARGEST and column in masks):
        return column
    if not column and len(possible) == 1:
        return possible[0]
    expected = "objects with boxes and categories, or masks" if kind == LARGEST else "several labels an image"
    named = option("labels", f"{kind}:{column}" if column else kind)
    there = f"one of {', '.join(possible)}" if possible else f"none is among {', '.join(dataset.features)}"
    raise DataError(f"got {named}; expected a column of {expected}: {there}")


def automatic(dataset: Dataset) -> tuple[str, str] | None:
    """What to derive classes from where nobody has said so, as kind and column; None where nothing offers itself."""
    for kind in (LARGEST, FREQUENT):
        try:
            return kind, source_of(dataset, kind)
        except DataError:
            continue
    return None


def derive(dataset: Dataset, kind: str, column: str) -> Derived:
    """Derive the class of every image; arguments as of ``source_of``, which has found the column.

    Raises:
        DataError: a mask that cannot be read, or objects that do not go together.
    """
    objects = Objects.of(dataset, column)
    feature = dataset.features[column]
    named: Callable[[Any], str] = str
    if isinstance(feature, ImageFeature):
        values = [_most_pixels(mask) for mask in _masks(dataset, column)]
    elif objects is None:
        values, named = (
            _most_frequent([tags_in(value) for value in values_of(dataset, column)]),
            _names(inside(feature)),
        )
    else:
        read = [objects.read(value) for value in values_of(dataset, column)]
        named = _names(objects.category_of(dataset))
        if kind == LARGEST:
            values = _largest(read)
        else:
            values = _most_frequent([tags_in([category for _, category, _ in row]) for row in read])
    return _classes(values, named)


def _names(feature: Any) -> Callable[[Any], str]:
    if isinstance(feature, ClassLabel):
        return lambda value: str(feature.names[value]) if isinstance(value, int) else str(value)
    return str


def _largest(rows: list[list[tuple[list[float], Any, float | None]]]) -> list[Any]:
    """The category of the object with the largest area; the first of several."""
    corners = are_corners([box for row in rows for box, _, _ in row])

    def area(box: list[float], known: float | None) -> float:
        if known is not None:
            return known
        return (box[2] - box[0]) * (box[3] - box[1]) if corners else box[2] * box[3]

    values = []
    for row in rows:
        areas = {place: area(box, known) for place, (box, _, known) in enumerate(row) if not is_missing(row[place][1])}
        values.append(row[max(areas, key=areas.__getitem__)][1] if areas else None)
    return values


def _most_frequent(rows: list[list[Any]]) -> list[Any]:
    """The label that an image has most often; of several the one that most images have."""
    everywhere = Counter(tag for row in rows for tag in {*row})
    values = []
    for row in rows:
        here = Counter(row)
        values.append(max(here, key=lambda tag: (here[tag], everywhere[tag])) if here else None)
    return values


def _masks(dataset: Dataset, column: str) -> Iterator[NDArray[Any]]:
    decode = ImageFeature(mode=image_mode(dataset, Columns(column, None))).decode_example
    for index, mask in enumerate(values_of(dataset.cast_column(column, ImageFeature(decode=False)), column)):
        if mask is None:
            yield np.zeros(0, np.int64)
            continue
        with reading_row(index, mask, column=column):
            values = np.asarray(decode(mask))
        yield values


def _most_pixels(mask: NDArray[Any]) -> int | None:
    values, counts = np.unique(mask, return_counts=True)
    counts[np.isin(values, NO_OBJECT)] = 0
    return int(values[counts.argmax()]) if counts.any() else None


def _classes(values: list[Any], named: Callable[[Any], str]) -> Derived:
    """Number the values. Who is alone with one goes with those that have none, or else to the largest class."""
    counts = Counter(value for value in values if value is not None)
    kept = sorted(value for value, count in counts.items() if count > 1)
    places = {value: number for number, value in enumerate(kept)}
    numbers = np.array([places.get(value, len(kept)) for value in values], dtype=np.int64)
    rest = int((numbers == len(kept)).sum())
    names = [named(value) for value in kept]
    if rest == 1 and kept:
        numbers[numbers == len(kept)] = np.bincount(numbers[numbers < len(kept)]).argmax()
    elif rest:
        names.append(OTHER)
    return Derived(names, numbers)
