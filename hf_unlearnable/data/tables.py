"""Rows as ``dataset.with_format("arrow" | "pandas" | "polars")`` passes them to ``map``: tables of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from hf_unlearnable.data.columns import Classes, names_of_labels
from hf_unlearnable.errors import DataError

MAX_CHANNELS = 4  # of an image as an array


def is_table(rows: Any) -> bool:
    """Whether rows come as a table of pyarrow, pandas or polars."""
    return isinstance(rows, pa.Table) or (not isinstance(rows, Mapping) and hasattr(rows, "columns"))


def column_names(rows: Any) -> list[str]:
    """The columns of a table or a mapping."""
    if isinstance(rows, pa.Table):
        return list(rows.column_names)
    return list(map(str, rows.columns if is_table(rows) else rows))


def check_alone(more: Sequence[Any]) -> None:
    """Refuse what ``map`` passes beside a row where it is told to.

    Raises:
        DataError: there is some.
    """
    if more:
        raise DataError(
            f"got {1 + len(more)} arguments; expected a row alone. Leave with_indices, with_rank and input_columns of "
            f"map out, or call protection.protect(image, label)"
        )


def check_columns(rows: Any, wanted: Sequence[str]) -> None:
    """See that something is a row, a batch or a table, with the columns that a protection was fitted to.

    Raises:
        DataError: it is not.
    """
    if not isinstance(rows, Mapping) and not is_table(rows):
        raise DataError(
            f"got {type(rows).__name__}; expected a row of the dataset (a dict, such as dataset[0]) or a Pillow image. "
            f"All rows are protected with dataset.map(protection)"
        )
    held = column_names(rows)
    if absent := [column for column in wanted if column not in held]:
        raise DataError(
            f"got a row with the columns {', '.join(held)}; expected {absent[0]!r}, as in the dataset that the "
            f"protection was fitted to. Rename it with dataset.rename_column"
        )


def images_and_labels_of(
    rows: Any, image: str, label: str | None, classes: Classes
) -> tuple[list[Any], list[Any], bool]:
    """The images and the labels of a row, a batch or a table, and whether it is a single row.

    A label is one where it has no length; images do not tell, since some formats pass them as lists of numbers. Where
    ``map`` passes the types of the columns along, labels are those of ``classes``, by their names.
    """
    images, labels, single = _columns_of(rows, image, label)
    names = names_of_labels(getattr(getattr(rows, "formatter", None), "features", None), label)
    return images, [classes.own(one, names) for one in labels] if names else labels, single


def _columns_of(rows: Any, image: str, label: str | None) -> tuple[list[Any], list[Any], bool]:
    if label is None:
        images = rows[image].to_pylist() if isinstance(rows, pa.Table) else rows[image]
        single = not isinstance(rows, pa.Table) and _is_single(images)
        return ([images], [None], True) if single else (list(images), [None] * len(images), False)
    if isinstance(rows, pa.Table):
        return rows[image].to_pylist(), rows[label].to_pylist(), False
    labels = rows[label]
    if not hasattr(labels, "__len__") or isinstance(labels, str) or getattr(labels, "ndim", 1) == 0:
        return [rows[image]], [labels], True
    return list(rows[image]), list(labels), False


def _is_single(images: Any) -> bool:
    """Whether this is one image and not a batch, where no label tells: arrays of one are (H, W) or (H, W, C)."""
    if isinstance(images, np.ndarray):
        return images.dtype != object and (images.ndim == 2 or (images.ndim == 3 and images.shape[2] <= MAX_CHANNELS))
    return isinstance(images, (Image.Image, Mapping, bytes)) or not hasattr(images, "__len__")


def with_files(table: Any, name: str, files: list[Any]) -> Any:
    """The same table with other files in one column.

    Args:
        table: of pyarrow, pandas or polars.
        name: of the column.
        files: ``{"bytes": …, "path": …}`` or bytes, one a row.
    """
    if isinstance(table, pa.Table):
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(files, table.schema.field(place).type))
    # No path is an empty one: a column of None alone is of another type than that of images, which would be lost.
    files = [
        {**file, "path": file["path"] or ""} if isinstance(file, dict) and "path" in file else file for file in files
    ]
    if hasattr(table, "with_columns"):  # polars
        return table.with_columns(type(table)({name: files})[name])
    return table.assign(**{name: files})
