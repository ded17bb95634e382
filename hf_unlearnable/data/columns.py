"""Which columns of a dataset hold the images and the labels, and which classes the labels mean."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict, Value
from datasets import Image as ImageFeature

from hf_unlearnable.errors import DataError, DataWarning, option, worded

EVERYTHING = "all images"  # the only class of a set without labels

LABEL_NAMES = ("label", "labels", "class", "category", "target")  # of columns with plain values, where none is named


@dataclass(frozen=True)
class Columns:
    """The names of the column with the images and of the one with their class labels.

    Attributes:
        image: of the images.
        label: of their classes; None where nobody says what tells them apart: then they are one class, ``EVERYTHING``.
    """

    image: str
    label: str | None

    def of(self, dataset: Dataset) -> Columns:
        """The same columns of another dataset.

        Raises:
            DataError: it has none of these names, or of another type.
        """
        return find_columns(dataset, self.image, self.label) if self.label else unlabelled(dataset, self.image)


@dataclass(frozen=True)
class Classes:
    """The classes of a label column.

    Attributes:
        names: the K names, in the order of the class numbers.
        values: what the column holds for each class where that is not its number: strings or plain integers.
    """

    names: list[str]
    values: list[str] | list[int] | None = None

    @classmethod
    def of(cls, dataset: Dataset, columns: Columns) -> Classes:
        """Read the classes of a ``ClassLabel`` column, or make them of the values of a plain one; one of no column.

        Raises:
            DataError: there are none.
        """
        if columns.label is None:
            return cls([EVERYTHING])
        feature = dataset.features[columns.label]
        if isinstance(feature, ClassLabel):
            return cls(list(feature.names))
        found = [value for value in dataset.unique(columns.label) if value is not None]
        return cls([str(value) for value in sorted(found)], sorted(found))

    def number(self, label: Any) -> int | None:
        """The class number in [0, K) of what a label column holds; None if it holds no class."""
        if label is None:
            return None
        values = self.names if isinstance(label, str) and self.values is None else self.values
        if values is not None:
            return values.index(label) if label in values else None
        return int(label) if 0 <= label < len(self.names) else None

    @property
    def expected(self) -> str:
        """What a label may be, in words."""
        if self.values is None:
            return f"0 to {len(self.names) - 1}"
        return ", ".join(map(repr, self.values[:5])) + (", …" if len(self.values) > 5 else "")


def find_columns(
    dataset: Dataset, image: str | None = None, label: str | None = None, *, needs_label: bool = True
) -> Columns:
    """Find the image and the label column of a dataset, or check the ones that were named.

    Labels may be a ``ClassLabel``, or strings or integers, which are turned into classes: with a warning where the
    column was not named. The dataset keeps the values that it has.

    Args:
        dataset: with an ``Image`` and a label column.
        image: name of the image column; may be left out when there is exactly one.
        label: name of the label column; may be left out when there is exactly one ``ClassLabel``, or none and exactly
            one column of strings or integers named label, labels, class, category or target.
        needs_label: whether a set without anything to take for labels is an error; else it is one class.

    Raises:
        DataError: not a ``Dataset``, a missing column, one of another type, or several candidates.
    """
    found = unlabelled(dataset, image)
    if label is None and not needs_label and not _label_candidates(dataset):
        return found
    return Columns(found.image, _find_label(dataset, label))


def unlabelled(dataset: Dataset, image: str | None = None) -> Columns:
    """The image column alone: all images are one class, whatever else there is.

    Raises:
        DataError: as ``find_columns`` does for the image column.
    """
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        raise DataError(
            f"got a {type(dataset).__name__} with the splits {', '.join(map(str, dataset))}; expected one split. "
            f"Pass dataset[{next(map(str, dataset), 'train')!r}]"
        )
    if isinstance(dataset, IterableDataset):
        raise DataError(
            "got an IterableDataset; expected a Dataset, since perturbations are fitted to known images. Fit on the "
            "first n rows, hf_unlearnable.sources.first_rows(dataset, n), with on_unseen='craft' for the others"
        )
    if not isinstance(dataset, Dataset):
        raise DataError(f"got {type(dataset).__name__}; expected a datasets.Dataset")
    return Columns(_find_image(dataset, image), None)


def _find_image(dataset: Dataset, name: str | None) -> str:
    candidates = [column for column, feature in dataset.features.items() if isinstance(feature, ImageFeature)]
    if name is None:
        return _only(dataset, candidates, "image", "Image")
    _check_there(dataset, name, "image")
    if name not in candidates:
        raise DataError(
            f"got {option('image_column', name)} of type {_type(dataset, name)}; expected Image. {_fix('image')}"
        )
    return name


def _find_label(dataset: Dataset, name: str | None) -> str:
    candidates = [column for column, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    if name is None:
        plain = _label_candidates(dataset)
        if candidates or len(plain) != 1:
            return _only(dataset, candidates, "label", "ClassLabel")
        listing = Classes.of(dataset, Columns("", plain[0]))
        warnings.warn(
            f"the labels in the column {plain[0]!r} are no ClassLabel: taken as {len(listing.names)} classes, "
            f"{listing.expected}. Name the column to say so: {option('label_column', plain[0])}",
            DataWarning,
            stacklevel=4,
        )
        return plain[0]
    _check_there(dataset, name, "label")
    if name not in candidates and not _is_plain(dataset.features[name]):
        raise DataError(
            f"got {option('label_column', name)} of type {_type(dataset, name)}; expected ClassLabel, strings or "
            f"integers. {_fix('label')}"
        )
    return name


def _label_candidates(dataset: Dataset) -> list[str]:
    """What may be meant as labels where nobody has named a column: classes, or values under a usual name."""
    classes = [column for column, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    plain = [column for column in LABEL_NAMES if column in dataset.features and _is_plain(dataset.features[column])]
    return classes or plain


def _is_plain(feature: Any) -> bool:
    return isinstance(feature, Value) and (feature.dtype in ("string", "large_string") or "int" in feature.dtype)


def _only(dataset: Dataset, candidates: list[str], what: str, kind: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DataError(
            f"got {len(candidates)} columns of type {kind}: {', '.join(candidates)}; expected one. "
            f"Name it: {option(f'{what}_column', candidates[0])}"
        )
    raise DataError(f"got a dataset without a column of type {kind}: {_listing(dataset) or 'no columns'}. {_fix(what)}")


def _check_there(dataset: Dataset, name: str, what: str) -> None:
    if name not in dataset.features:
        raise DataError(
            f"got {option(f'{what}_column', name)}; expected one of the dataset's columns: {_listing(dataset)}"
        )


def _listing(dataset: Dataset) -> str:
    return ", ".join(f"{column} ({_type(dataset, column)})" for column in dataset.features)


def _type(dataset: Dataset, column: str) -> str:
    feature = dataset.features[column]
    return f"Value({feature.dtype!r})" if isinstance(feature, Value) else type(feature).__name__


def _fix(what: str) -> str:
    """What to do about a dataset without a column of images or of labels."""
    if what == "image":
        return worded(
            python="Turn the paths or bytes into images with dataset.cast_column(NAME, datasets.Image())",
            shell="Paths or bytes are turned into images in Python: dataset.cast_column(NAME, datasets.Image()), then "
            "save_to_disk. A folder of images needs no such column",
        )
    encode = worded(python=", or turn it into classes with dataset.class_encode_column(NAME)", shell="")
    return (
        f"Name a column of strings or integers with {option('label_column', 'NAME')}{encode}. A folder of images needs "
        f"one folder a class, or a metadata.jsonl with a label for each file_name. Without labels: the method "
        f"texture takes all images as one owner's, and {option('labels', 'clusters:10')} makes classes of images that "
        f"look alike"
    )
