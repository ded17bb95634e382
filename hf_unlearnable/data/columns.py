"""Which columns of a dataset hold the images and the labels, and which classes the labels mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict, Value
from datasets import Image as ImageFeature

from hf_unlearnable.errors import DataError, DataWarning, RecipeError, blank, option, some_of, warn, worded

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
        values: what the column holds for each class where that is not its number: strings, booleans, or whole numbers.
    """

    names: list[str]
    values: list[str] | list[int] | list[bool] | list[float] | None = None

    @classmethod
    def of(cls, dataset: Dataset, columns: Columns) -> Classes:
        """Read the classes of a ``ClassLabel`` column, or make them of the values of a plain one; one of no column.

        What ``is_missing`` calls no label is no class.

        Raises:
            DataError: the column holds numbers with a fraction.
        """
        if columns.label is None:
            return cls([EVERYTHING])
        feature = dataset.features[columns.label]
        if isinstance(feature, ClassLabel):
            return cls(list(feature.names))
        values = sorted(value for value in dataset.unique(columns.label) if not is_missing(value))
        if broken := [value for value in values if isinstance(value, float) and not value.is_integer()]:
            name = repr(columns.label)
            ranges = f"Make classes of ranges of them: dataset.map(lambda row: {{{name}: row[{name}] > LIMIT}})"
            raise DataError(
                f"got {option('label_column', columns.label)} with numbers such as {broken[0]:g}; expected classes. "
                + worded(python=ranges, shell="Make classes of ranges of them, or name another column")
            )
        return cls([str(int(value) if isinstance(value, float) else value) for value in values], values)

    def number(self, label: Any) -> int | None:
        """The class number in [0, K) of what a label column holds, in any format; None if it holds no class."""
        label = label.item() if hasattr(label, "item") else label
        if is_missing(label):
            return None
        values = self.names if isinstance(label, str) and self.values is None else self.values
        if values is not None:
            return values.index(label) if label in values else None
        return int(label) if 0 <= label < len(self.names) else None

    def own(self, label: Any, names: Sequence[str] | None) -> Any:
        """What this column holds for a label of another dataset, whose ``ClassLabel`` may number the classes otherwise.

        Args:
            label: in any format.
            names: of that ``ClassLabel``; None where the labels of the other dataset say themselves what they mean.

        Returns:
            The label; for a class that is not called so here its name, for which ``number`` knows none.
        """
        label = label.item() if hasattr(label, "item") else label
        if names is None or not isinstance(label, int) or not 0 <= label < len(names):
            return label
        name = names[label]
        return self.values[self.names.index(name)] if self.values is not None and name in self.names else name

    @property
    def expected(self) -> str:
        """What a label may be, in words."""
        if self.values is None:
            return f"0 to {len(self.names) - 1}"
        return some_of(list(map(repr, self.values)))

    def expected_for(self, label: Any) -> str:
        """What a label may be instead of this one, in words: names for a name."""
        return some_of(list(map(repr, self.names))) if isinstance(label, str) and self.values is None else self.expected


def is_missing(label: Any) -> bool:
    """Whether what a label column holds says that there is no label: null, NaN, or -1, as datasets on the Hub have it.

    One rule for all label columns: a -1 that is meant as a class must be a string.
    """
    return label is None or (isinstance(label, (int, float)) and (label == -1 or math.isnan(label)))


def names_of_labels(features: Mapping[str, Any] | None, column: str | None) -> list[str] | None:
    """How a ``ClassLabel`` column calls its classes, in the order of their numbers; None where it is no such."""
    feature = (features or {}).get(column or "")
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def image_feature(dataset: Dataset | IterableDataset, column: str) -> ImageFeature | None:
    """What the column of images decodes to; None where it holds no images.

    Beside an ``Image`` column these may be its untyped relatives in parquet files of other tools: structures of
    ``bytes`` and ``path``, and plain files of images.
    """
    feature = (dataset.features or {}).get(column)
    if isinstance(feature, ImageFeature):
        return feature
    untyped = isinstance(feature, Mapping) and set(feature) <= {"bytes", "path"} and _is_binary(feature.get("bytes"))
    return ImageFeature() if untyped or _is_binary(feature) else None


def _is_binary(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")


def without_columns(dataset: Dataset, names: Sequence[str], keep: Columns) -> Dataset:
    """Leave columns out.

    Raises:
        RecipeError: one that is not there, or of ``keep``.
    """
    return _leave_out(dataset, names, {keep.image, keep.label})


def columns_left(dataset: Dataset, names: Sequence[str], image: str | None, label: str | None) -> Dataset:
    """Leave columns out before that of the images and that of the labels are looked for among the others.

    Args:
        dataset: with all columns.
        names: to leave out.
        image: as of ``find_columns``.
        label: likewise.

    Raises:
        RecipeError: one that is not there, or without which there are no images, or no labels any more.
    """
    left = dataset.remove_columns([name for name in dataset.column_names if name in names])
    needed = {image, label}
    for candidates in (image_candidates, label_candidates):
        needed |= set() if candidates(left) else set(candidates(dataset))
    return _leave_out(dataset, names, needed)


def _leave_out(dataset: Dataset, names: Sequence[str], needed: Collection[str | None]) -> Dataset:
    optional = [name for name in dataset.column_names if name not in needed]
    if wrong := [name for name in names if name not in optional]:
        raise RecipeError(
            f"got the columns {', '.join(wrong)} to leave out; expected some of {', '.join(optional) or '(none)'}"
        )
    return dataset.remove_columns(list(names))


def find_columns(
    dataset: Dataset, image: str | None = None, label: str | None = None, *, needs_label: bool = True
) -> Columns:
    """Find the image and the label column of a dataset, or check the ones that were named.

    Labels may be a ``ClassLabel``, or strings, booleans or whole numbers, which are turned into classes: with a
    warning where the column was not named. The dataset keeps the values that it has.

    Args:
        dataset: with a column that ``image_feature`` knows, and a label column.
        image: name of the image column; may be left out when there is exactly one of type ``Image``, or none and
            exactly one with files.
        label: name of the label column; may be left out when there is exactly one ``ClassLabel``, or none and exactly
            one column of strings, booleans or numbers named label, labels, class, category or target.
        needs_label: whether a set without anything to take for labels is an error; else it is one class.

    Raises:
        DataError: not a ``Dataset``, a missing column, one of another type, or several candidates.
    """
    found = unlabelled(dataset, image)
    if label is None and not needs_label and not label_candidates(dataset):
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
            "got an IterableDataset; expected a Dataset, whose images are read more than once. Take the first n rows: "
            "hf_unlearnable.data.sources.first_rows(dataset, n); a fit with on_unseen='craft' then knows what to do "
            "with the others"
        )
    if not isinstance(dataset, Dataset):
        fix = f". Open it: hf_unlearnable.data.sources.load_source({dataset!r})" if isinstance(dataset, str) else ""
        raise DataError(f"got {type(dataset).__name__}; expected a datasets.Dataset{fix}")
    return Columns(_find_image(dataset, image), None)


def columns_of_others(dataset: Dataset, image: str | None) -> Columns:
    """``find_columns`` of images of other people, by the name of the image column if they have one of that name."""
    named = image if isinstance(dataset, Dataset) and image in dataset.column_names else None
    return find_columns(dataset, named, needs_label=False)


def with_image_column(dataset: Dataset, name: str) -> Dataset:
    """The same dataset with the name that another one gives to its column of images.

    Raises:
        DataError: it has none, or several of other names.
    """
    own = unlabelled(dataset, name if name in dataset.column_names else None).image
    return dataset if own == name else dataset.rename_column(own, name)


def _find_image(dataset: Dataset, name: str | None) -> str:
    if name is None:
        found = image_candidates(dataset)
        untyped = any(not isinstance(dataset.features[column], ImageFeature) for column in found)
        return _only(dataset, found, "image", "binary" if untyped else "Image")
    _check_there(dataset, name, "image")
    if image_feature(dataset, name) is None:
        raise DataError(
            f"got {option('image_column', name)} of type {_type(dataset, name)}; expected Image. "
            f"{_fix(dataset, 'image', name)}"
        )
    return name


def image_candidates(dataset: Dataset) -> list[str]:
    """What may be meant as images where nobody has named a column: those of the type, or else files."""
    possible = [column for column in dataset.features if image_feature(dataset, column) is not None]
    typed = [column for column in possible if isinstance(dataset.features[column], ImageFeature)]
    return typed or possible


def _find_label(dataset: Dataset, name: str | None) -> str:
    candidates = [column for column, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    if name is None:
        plain = label_candidates(dataset)
        if candidates or len(plain) != 1:
            return _only(dataset, candidates, "label", "ClassLabel")
        listing = Classes.of(dataset, Columns("", plain[0]))
        warn(
            f"the labels in the column {plain[0]!r} are no ClassLabel: taken as {len(listing.names)} classes, "
            f"{listing.expected}. Name the column to say so: {option('label_column', plain[0])}",
            DataWarning,
        )
        return plain[0]
    _check_there(dataset, name, "label")
    if name not in candidates and not _is_plain(dataset.features[name]):
        raise DataError(
            f"got {option('label_column', name)} of type {_type(dataset, name)}; expected ClassLabel, strings, "
            f"booleans or whole numbers. {_fix(dataset, 'label', name)}"
        )
    return name


def label_candidates(dataset: Dataset) -> list[str]:
    """What may be meant as labels where nobody has named a column: classes, or values under a usual name."""
    classes = [column for column, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    plain = [column for column in LABEL_NAMES if column in dataset.features and _is_plain(dataset.features[column])]
    return classes or plain


def unnamed_candidates(dataset: Dataset) -> list[str]:
    """What may be meant as labels though nothing says so: columns of strings, each of which occurs more than once."""
    strings = [column for column, kind in dataset.features.items() if is_text(kind)]
    counts = {column: Counter(value for value in dataset[column] if value is not None) for column in strings}
    return [column for column, values in counts.items() if len(values) > 1 and min(values.values()) > 1]


def is_text(feature: Any) -> bool:
    """Whether a column holds a text in every row."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def holds_texts(feature: Any) -> bool:
    """Whether a column holds a text in every row, or a list of them."""
    inner = inside(feature)
    return is_text(feature if inner is None else inner)


def _is_plain(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith(
        ("string", "large_string", "bool", "int", "uint", "float")
    )


def _only(dataset: Dataset, candidates: list[str], what: str, kind: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DataError(
            f"got {len(candidates)} columns of type {kind}: {', '.join(candidates)}; expected one. "
            f"Name it: {option(f'{what}_column', candidates[0])}"
        )
    raise DataError(
        f"got a dataset without a column of type {kind}: {_listing(dataset) or 'no columns'}. {_fix(dataset, what)}"
    )


def _check_there(dataset: Dataset, name: str, what: str) -> None:
    if name not in dataset.features:
        raise DataError(
            f"got {option(f'{what}_column', name)}; expected one of the dataset's columns: {_listing(dataset)}"
        )


def _listing(dataset: Dataset) -> str:
    return ", ".join(f"{column} ({_type(dataset, column)})" for column in dataset.features)


def _type(dataset: Dataset, column: str) -> str:
    return _in_words(dataset.features[column])


def _in_words(feature: Any) -> str:
    if isinstance(feature, Value):
        return f"Value({feature.dtype!r})"
    if isinstance(feature, Mapping):
        return "a structure of " + ", ".join(f"{name}: {_in_words(part)}" for name, part in feature.items())
    inner = inside(feature)
    return type(feature).__name__ + ("" if inner is None else f"({_in_words(inner)})")


def inside(feature: Any) -> Any:
    """What a list is a list of; None for what is no list."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def _fix(dataset: Dataset, what: str, name: str | None = None) -> str:
    """What to do where a column was not found: with images or labels that lie in lists or structures, get them out."""
    kind = ImageFeature if what == "image" else ClassLabel
    for column, feature in dataset.features.items():
        if name not in (None, column):
            continue
        inner = feature if isinstance(feature, Mapping) else {}
        if part := next((part for part, held in inner.items() if isinstance(held, kind)), None):
            taken = option(f"{what}_column", f"{column}.{part}")
            return f"Take {part!r} out of its structure: dataset.flatten(), then {taken}"
        if isinstance(inside(feature), kind):
            return _FIX_LISTS[what].format(column=repr(column))
    if what == "image":
        return worded(
            python="Turn the paths or bytes into images with dataset.cast_column(NAME, datasets.Image())",
            shell="Paths are turned into images in Python: dataset.cast_column(NAME, datasets.Image()), then "
            "save_to_disk. A folder of images needs no such column",
        )
    encode = worded(python=", or turn it into classes with dataset.class_encode_column(NAME)", shell="")
    return (
        f"Name a column of strings, booleans or whole numbers with {blank('label_column', 'NAME')}{encode}. A "
        f"folder of images needs one folder a class, or a metadata.jsonl with a label for each file_name. "
        f"Without labels: the method texture takes all images as one owner's; so do the others beside images of other "
        f"people, {blank('others', 'DATASET')}; and {option('labels', 'clusters:10')} makes classes of images that "
        f"look alike"
    )


_FIX_LISTS = {  # in Python only: the command line cannot take rows apart
    "image": "Give every image of a list a row of its own: dataset.map(lambda batch: {{'image': [image for images in "
    "batch[{column}] for image in images], 'label': [label for images, label in zip(batch[{column}], batch['label']) "
    "for _ in images]}}, batched=True, remove_columns=dataset.column_names)",
    "label": "A protection belongs to one class an image. Choose one of the labels, such as the first: "
    "dataset.map(lambda row: {{'label': str(row[{column}][0])}})",
}
