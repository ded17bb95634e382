"""Rows that are written down beside images: metadata files in folders, and the neighbours of a name in a tar."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
from datasets import Features, List, Value
from datasets import Image as ImageFeature

from hf_unlearnable.data.kinds import METADATA
from hf_unlearnable.data.trees import DAMAGED, Entry, Reader
from hf_unlearnable.errors import DataError, first_line

_SIDECARS = (".cls", ".json", ".txt")  # of WebDataset: a number, columns, a caption


class Table(NamedTuple):
    """What is written down.

    Attributes:
        rows: one for each image, in columns.
        features: of the columns; those that name files are images.
        files: for each row the files that it names, with the column that names them: the images first.
        said_by: in words, such as ``"metadata.csv"``.
        used: the files that it was read from.
    """

    rows: list[dict[str, Any]]
    features: Features
    files: list[list[tuple[str, Entry]]]
    said_by: str
    used: Sequence[Entry]


def read_metadata(entries: Sequence[Entry], reader: Reader) -> Table | None:
    """Read the metadata files among ``entries``; None if there are none.

    Raises:
        DataError: one that cannot be read, has other columns than the first, or names no files below its folder.
    """
    found = [entry for entry in entries if posixpath.basename(entry.path) in METADATA]
    if not found:
        return None
    here = {(entry.archive, entry.path): entry for entry in entries}
    times = Counter(entry.path for entry in entries)
    alone = {entry.path: entry for entry in entries if times[entry.path] == 1}
    names: dict[str, str] = {}
    tables: list[pa.Table] = []
    files = []
    for entry in found:
        table = _table(entry, reader)
        if tables and table.schema.names != tables[0].schema.names:
            raise DataError(
                f"got {entry.path} with the columns {', '.join(table.schema.names)}, and {found[0].path} with "
                f"{', '.join(tables[0].schema.names)}; expected the same in all metadata files"
            )
        names = names or _file_columns(table.schema, entry.path)
        folder = posixpath.dirname(entry.path)
        for row in table.select(list(names)).to_pylist():
            named = [(names[name], _below(folder, value, entry.path)) for name, value in row.items() if value]
            # Shards of one name may have paths in common: then a row names what lies in its own.
            files.append(
                [(column, here.get((entry.archive, path)) or alone.get(path, Entry(path))) for column, path in named]
            )
        tables.append(table)
    try:
        whole = pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"got metadata files that disagree about a column ({first_line(error)}); expected values of one kind in "
            f"all of them, such as the names of classes in each. Write them alike"
        ) from error
    plain = Features.from_arrow_schema(whole.schema)
    features = Features(
        {names.get(name, name): ImageFeature() if name in names else feature for name, feature in plain.items()}
    )
    rows = whole.drop_columns(list(names)).to_pylist()
    return Table(rows, features, files, ", ".join(sorted({posixpath.basename(entry.path) for entry in found})), found)


def read_sidecars(images: Sequence[Entry], entries: Sequence[Entry], reader: Reader) -> Table | None:
    """Read what a WebDataset says of its images: files of the same name in the same tar, ``.cls``, ``.json``, ``.txt``.

    Columns are ``image``, ``__key__``, ``label`` (from ``.cls``), ``text`` (from ``.txt``) and those of the ``.json``.

    Returns:
        None where there are none, or several images of one name, which no row of one image can hold.

    Raises:
        DataError: a neighbour that is not what its ending says.
    """
    tars = [entry for entry in entries if entry.archive and not entry.archive.lower().endswith(".zip")]
    beside: dict[tuple[str | None, str], list[Entry]] = {}
    for entry in tars:
        if posixpath.splitext(entry.path)[1].lower() in _SIDECARS:
            beside.setdefault((entry.archive, _key(entry)), []).append(entry)
    keys = [(entry.archive, _key(entry)) for entry in images]
    if not beside.keys() & set(keys) or len(set(keys)) < len(keys):
        return None
    rows, used = [], []
    for place in keys:
        row: dict[str, Any] = {"__key__": place[1]}
        for entry in beside.get(place, []):
            row |= _sidecar(entry, reader)
            used.append(entry)
        rows.append(row)
    # Columns of all rows: from_pylist looks at the first alone.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"got files beside the images that disagree about a column ({first_line(error)}); expected values of one "
            f"kind in all of them. Write them alike"
        ) from error
    features = Features({"image": ImageFeature(), **Features.from_arrow_schema(table.schema)})
    return Table(
        table.to_pylist(), features, [[("image", entry)] for entry in images], "the files beside the images", used
    )


def _key(entry: Entry) -> str:
    """The part of a path that the files of one WebDataset sample share: up to the first dot of the name."""
    folder, name = posixpath.split(entry.path)
    return posixpath.join(folder, name.split(".")[0])


def _sidecar(entry: Entry, reader: Reader) -> Mapping[str, Any]:
    content = reader.read(entry)
    ending = posixpath.splitext(entry.path)[1].lower()
    try:
        if ending == ".cls":
            return {"label": int(content)}
        if ending == ".txt":
            return {"text": content.decode()}
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"got {entry.path}, which is not what its ending says ({first_line(error)}); expected a whole number in "
            f".cls, JSON in .json, text in UTF-8 in .txt. Mend it, or leave it out"
        ) from error
    return (
        {name: value for name, value in told.items() if name != "image"} if isinstance(told, dict) else {"json": told}
    )


def _table(entry: Entry, reader: Reader) -> pa.Table:
    ending = PurePosixPath(entry.path).suffix
    try:
        with reader.open(entry) as file:
            if ending == ".csv":  # as datasets does, NA and its like for missing values too
                return pa.Table.from_pandas(pd.read_csv(file), preserve_index=False)
            if ending == ".parquet":
                return pyarrow.parquet.read_table(file)
            return pyarrow.json.read_json(file, pyarrow.json.ReadOptions(block_size=max(1 << 20, entry.size)))
    except (OSError, ValueError, pa.ArrowException, *DAMAGED) as error:
        kinds = {".csv": "text in UTF-8 with commas between its columns", ".jsonl": "a JSON object in each line"}
        raise DataError(
            f"got {entry.path}, which cannot be read as a table ({first_line(error)}); expected "
            f"{kinds.get(ending, 'a whole parquet file')}. Save it so, or move it elsewhere to protect the images alone"
        ) from error


def _file_columns(schema: pa.Schema, path: str) -> dict[str, str]:
    """The columns that name one file each, and what the columns of images are called instead."""
    features = Features.from_arrow_schema(schema)
    lists = [name for name, feature in features.items() if name.endswith("file_names") and isinstance(feature, List)]
    names = {
        name: name.removesuffix("file_name").removesuffix("_") or "image"
        for name, feature in features.items()
        if name.endswith("file_name") and feature in (Value("string"), Value("large_string"))
    }
    if lists:
        raise DataError(f"got {path} with {lists[0]}, several images in a row; expected one, in a column file_name")
    if not names:
        raise DataError(
            f"got {path} with the columns {', '.join(schema.names) or '(none)'}; expected a column file_name with the "
            f"name of each image, relative to the folder of {posixpath.basename(path)}"
        )
    return names


def _below(folder: str, name: str, said_by: str) -> str:
    """The path below the root of a file that a metadata file names."""
    if "://" in name:
        raise DataError(
            f"got {said_by}, which names the address {name}; expected files beside it. Download the images first, and "
            f"name them relative to the folder"
        )
    path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
    if posixpath.isabs(path) or path.startswith("..") or not f"{path}/".startswith(f"{folder}/" if folder else ""):
        raise DataError(f"got {said_by}, which names {name!r}; expected a path below the folder that it lies in")
    return path
