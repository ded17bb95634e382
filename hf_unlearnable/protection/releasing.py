"""Releasing images as they came: decoded ones decoded, files as files, and datasets file by file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict
from datasets import Image as ImageFeature
from PIL import Image

from hf_unlearnable.data.columns import Classes, Columns, image_feature, names_of_labels
from hf_unlearnable.data.pixels import encode, file_name
from hf_unlearnable.errors import DataError
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection.description import Description
from hf_unlearnable.settings import refuse_ignored

ROOM = 1 << 28  # bytes of released images that are held in memory before they are written

AnyDataset = TypeVar("AnyDataset", Dataset, DatasetDict, IterableDataset, IterableDatasetDict)


class Protects(Protocol):
    """What is asked of a ``Protection`` here.

    Attributes:
        description: of it.
        image_format: of files.
        count: called for every file.
    """

    description: Description
    image_format: str
    count: Callable[[], object]

    @property
    def columns(self) -> Columns:
        """Of the dataset that was fitted."""

    @property
    def classes(self) -> Classes:
        """Of its label column."""

    def protect(self, image: Any, label: Any = None) -> Image.Image:
        """Add its perturbation to one decoded image."""

    def __call__(self, row: Any) -> Any:
        """Protect one row or a batch."""


def release(
    protect: Protects,
    dataset: AnyDataset,
    *,
    num_proc: int | None,
    progress: bool,
    **options: Any,
) -> AnyDataset:
    """Protect a dataset; arguments as of ``Protection.release``.

    Raises:
        DataError: as ``Protection.release`` does.
        UnseenImageError: likewise.
        RecipeError: processes for a stream.
    """
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        asked = {"num_proc": num_proc, "progress": progress, **options}
        return type(dataset)({name: release(protect, split, **asked) for name, split in dataset.items()})
    column, features = protect.columns.image, dataset.features
    feature = image_feature(dataset, column)
    if features is None or feature is None:
        raise DataError(
            f"got a dataset whose column {column!r} is not known to hold images; expected an Image column. Use "
            f"dataset.cast_column({column!r}, datasets.Image())"
        )
    files = as_files(dataset, column, feature)
    if isinstance(dataset, IterableDataset):
        refuse_ignored("which a stream has no use for", num_proc=num_proc)
        # The rows of a stream do not tell their types.
        named = _ByName(protect, names_of_labels(features, protect.columns.label))
        # Told the features afterwards: told before, datasets 5.2 would hand out the files undecoded.
        released = files.map(named, **options).cast(Features({**features, column: feature}))
        return released if dataset._formatting is None else released.with_format(dataset._formatting.format_type)
    rows = rows_in_memory(protect.description)
    # In batches: of small images, datasets spends a third of the time on handing over single rows.
    options = {"batched": True, "batch_size": rows, "writer_batch_size": rows, "num_proc": num_proc, **options}
    shown = progress and (num_proc or 1) == 1
    with Progress("protecting images", len(dataset), unit="image", enabled=shown) as bar:
        protect.count = bar.advance
        released = files.map(protect, **options).cast_column(column, feature)
    released.set_format(**dataset.format)
    return released


@dataclass(frozen=True)
class _ByName:
    """Protects rows of a stream.

    Attributes:
        protection: asked.
        names: of the classes, in the order in which the labels of the stream number them; None for labels that say
            themselves what they mean.
    """

    protection: Protects
    names: list[str] | None

    def __call__(self, row: Any) -> Any:
        column = self.protection.columns.label
        if self.names is None or column not in row:
            return self.protection(row)
        held, own = row[column], self.protection.classes.own
        labels = [own(one, self.names) for one in held] if isinstance(held, list) else own(held, self.names)
        return self.protection({**row, column: labels})


def as_files(dataset: AnyDataset, column: str, feature: ImageFeature) -> AnyDataset:
    """The dataset with its images as the files that they are stored as, whatever its format."""
    return dataset.with_format(None).cast_column(column, ImageFeature(mode=feature.mode, decode=False))


def rows_in_memory(description: Description) -> int:
    """How many released images at most are held in memory before they are written: up to a thousand."""
    largest = 4 * description.largest_image  # bytes: four channels
    return max(1, min(1000, ROOM // largest))


def protect_as_it_came(protection: Protects, image: Any, label: Any) -> Any:
    """One image: decoded, as bytes, or as ``{"bytes": …, "path": …}``; comes back as the same.

    Raises:
        DataError: neither bytes nor a path; or as ``Protection.protect`` does.
        UnseenImageError: likewise.
    """
    if isinstance(image, bytes):
        return protect_as_it_came(protection, {"bytes": image, "path": None}, label)["bytes"]
    if image is None or (isinstance(image, Mapping) and not any(image.values())):
        raise DataError(
            f"got a row (label {label}) without an image, neither bytes nor a path; expected one. Leave the row out"
        )
    if not isinstance(image, Mapping):
        return protection.protect(image, label)
    stored = {"bytes": image.get("bytes"), "path": image.get("path")}
    decoded = ImageFeature(mode=protection.description.image_mode).decode_example(stored)
    content, ending = encode(protection.protect(decoded, label), protection.image_format)
    protection.count()
    written = {"bytes": content, "path": file_name(stored["path"], ending)}
    return {name: written[name] for name in image}


def as_file(released: Any, image_format: str) -> Any:
    """What a table can hold, which is files only."""
    if isinstance(released, Image.Image):
        return {"bytes": encode(released, image_format)[0], "path": None}
    return released
