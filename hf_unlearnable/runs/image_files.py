"""The protected images as files again, for those who brought files: the bytes of the dataset under the old names."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa
from datasets import ClassLabel, Dataset
from datasets.table import InMemoryTable

from hf_unlearnable.data.columns import Columns, is_missing
from hf_unlearnable.data.pixels import IMAGE_FORMATS, plain_path
from hf_unlearnable.data.reading import stored_files
from hf_unlearnable.errors import RecipeError, option
from hf_unlearnable.progress import Progress
from hf_unlearnable.runs.folder import RunFolder

Names = Literal["kept", "numbers"]

KINDS = ("kept", "numbers")  # of names

LONGEST = 255  # bytes of a name that a disk takes; archives hold longer ones


def check_names(names: str) -> None:
    """Refuse a kind of names that there is not.

    Raises:
        RecipeError: it is none of ``KINDS``.
    """
    if names not in KINDS:
        raise RecipeError(f"got {option('names', names)}; expected {' or '.join(KINDS)}")


def source_paths(data: Dataset, image_column: str) -> list[str] | None:
    """Where the image of every row was read from; None where they did not all come as files of their own."""
    paths = []
    for image in _files(data, image_column):
        path = image and image["path"]
        if not path or not ("://" in path or (image["bytes"] is None and os.path.isabs(path))):
            return None
        paths.append(path)
    return paths or None


def names_of(paths: Sequence[str], endings: Sequence[str], root: str | None = None) -> list[str]:
    """What every released file is called below the folder of images: as before, but for its ending.

    Args:
        paths: of the originals, absolute, or of members of an archive.
        endings: of the released files.
        root: the folder that they were found in, or the only picture itself; the deepest folder that they share when
            left out, or when they do not all lie in it.

    Returns:
        Relative paths with slashes. Where two would be one, on a disk that does not tell capitals too, or one a folder
        of others, the old ending stays in the name (``x.jpg.png``), and a number is added where that is not enough.
        Names longer than ``LONGEST`` are cut.
    """
    inner = [plain_path(path).replace(os.sep, "/") for path in paths]
    folders = [str(PurePosixPath(path).parent) for path in inner]
    base = str(root).replace(os.sep, "/") if root is not None else ""
    if not base or base in inner or not all(PurePosixPath(path).is_relative_to(base) for path in inner):
        base = os.path.commonpath(folders)
    found = [PurePosixPath(path).relative_to(base) for path in inner]
    below = [PurePosixPath(*(_first(folder, LONGEST) for folder in path.parts[:-1]), path.name) for path in found]
    short = [str(path.with_suffix(ending)) for path, ending in zip(below, endings, strict=True)]
    often = Counter(name.lower() for name in short)
    taken = {str(folder).lower() for path in below for folder in path.parents}
    names = []
    for path, name, ending in zip(below, short, endings, strict=True):
        own = name if often[name.lower()] == 1 or path.suffix == ending else f"{path}{ending}"
        stem, number = own.removesuffix(ending), 1
        own = _joined(stem, ending)
        while own.lower() in taken:
            number += 1
            own = _joined(stem, f"-{number}{ending}")
        taken.add(own.lower())
        names.append(own)
    return names


def _joined(stem: str, end: str) -> str:
    """A path whose name is as long as a disk takes."""
    folder, slash, name = stem.rpartition("/")
    return f"{folder}{slash}{_first(name, LONGEST - len(end.encode()))}{end}"


def _first(name: str, size: int) -> str:
    """The start of a name, of at most so many bytes."""
    return name.encode()[:size].decode(errors="ignore")


def numbered(data: Dataset, label_column: str | None, endings: Sequence[str]) -> list[str]:
    """Names that tell no more than the dataset does: a folder for the class if there is one, and the row's number."""
    width = max(6, len(str(len(data))))
    names = [f"{row:0{width}}{end}" for row, end in enumerate(endings)]
    if label_column not in data.features:
        return names
    feature = data.features[label_column]
    labels = data.with_format(None)[label_column]
    return [f"{_class_folder(feature, label)}{name}" for label, name in zip(labels, names, strict=True)]


def _class_folder(feature: Any, label: Any) -> str:
    """The folder of a class, with its slash; empty where there is no label, as in the test splits of the Hub."""
    if is_missing(label):
        return ""
    name = feature.int2str(label) if isinstance(feature, ClassLabel) else str(label)
    return (_first(re.sub(r"[^\w. -]+", "_", name).strip(" ."), LONGEST) or "_") + "/"


def with_file_names(data: Dataset, image_column: str, names: Sequence[str]) -> Dataset:
    """The same rows whose images are files of other names; no image is copied."""
    table = data.data.table
    chunks, start = [], 0
    for chunk in table[image_column].chunks:
        new = pa.array([PurePosixPath(name).name for name in names[start : start + len(chunk)]], pa.string())
        chunks.append(pa.StructArray.from_arrays([chunk.field("bytes"), new], ["bytes", "path"]))
        start += len(chunk)
    place = table.column_names.index(image_column)
    changed = table.set_column(place, table.schema.field(image_column), pa.chunked_array(chunks))
    return Dataset(InMemoryTable(changed), info=data.info, split=data.split)


def endings_of(data: Dataset, image_column: str) -> list[str]:
    """The ending that the file of every row should have, by what is in it."""
    png, webp = IMAGE_FORMATS["png"], IMAGE_FORMATS["webp"]
    return [png if image["bytes"].startswith(b"\x89PNG") else webp for image in _files(data, image_column)]


def write_images(run: RunFolder, columns: Columns, names: Sequence[str], *, progress: bool = True) -> None:
    """Write the images of ``run.dataset`` to ``run.images``, byte for byte.

    What a process that was killed left of them goes first.
    """
    shutil.rmtree(run.images, ignore_errors=True)
    with Progress("writing image files", len(names), unit="image", enabled=progress) as bar:
        for name, image in zip(names, _files(run.dataset, columns.image), strict=True):
            file = run.images / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image["bytes"])
            bar.advance()


def _files(data: Dataset, image_column: str) -> Iterator[Any]:
    for row in stored_files(data, image_column):
        yield row[image_column]
