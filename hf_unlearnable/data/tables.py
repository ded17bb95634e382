"""Rows as ``dataset.with_format("arrow" | "pandas" | "polars")`` passes them to ``map``: tables of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa


def is_table(rows: Any) -> bool:
    """Whether rows come as a table of pyarrow, pandas or polars."""
    return isinstance(rows, pa.Table) or (not isinstance(rows, Mapping) and hasattr(rows, "columns"))


def column_names(rows: Any) -> list[str]:
    """The columns of a table or a mapping."""
    if isinstance(rows, pa.Table):
        return list(rows.column_names)
    return list(map(str, rows.columns if is_table(rows) else rows))


def column_values(table: Any, name: str) -> list[Any]:
    """A column of a table as Python values."""
    return table[name].to_pylist() if isinstance(table, pa.Table) else list(table[name])


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
    if hasattr(table, "with_columns"):  # polars
        return table.with_columns(type(table)({name: files})[name])
    return table.assign(**{name: files})
