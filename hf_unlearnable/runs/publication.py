"""What is looked at before images are sent anywhere: each check refuses what must not be published."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
from datasets import Dataset
from datasets import Image as ImageFeature

from hf_unlearnable.errors import worded
from hf_unlearnable.protection.findings import Finding
from hf_unlearnable.protection.privacy import check_dataset, check_protected, texts
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.runs.folder import RunFolder

# What cameras, programs and hands call files that say nothing of anybody.
PLAIN_NAME = re.compile(
    r"(img|image|dscn?|dscf|dsc|pict?|photo|picture|screenshot|frame|page|scan|p|row|train|test|val)?[-_ ()\d]*",
    re.IGNORECASE,
)
HOME = r"(^|[\s\"'=(:])((/home|/Users|/root)/|[A-Za-z]:\\Users\\)"  # where people's own folders are
SHOWN = 5  # examples that a finding gives


class Check(NamedTuple):
    """One check.

    Attributes:
        name: of it.
        fine: what to say where nothing was found.
        run: raises PrivacyError for a leak, and DataError for what cannot be published as it is; may return what the
            owner should know.
    """

    name: str
    fine: str
    run: Callable[[], str | None]


def checks(
    parts: Mapping[str, Dataset],
    image_column: str,
    words: list[str],
    protected: tuple[Dataset, Protection, int] | None,
    *,
    progress: bool,
) -> Iterator[Check]:
    """The checks that ``push`` makes before it sends anything, and ``audit`` among others.

    Args:
        parts: the splits that are published, clean ones too.
        image_column: of them.
        words: that must stand nowhere, such as the paths of the originals.
        protected: the protected images, their protection, and how many are known to be as they were; None where the
            protection is not known.
        progress: show bars.
    """
    for name, part in parts.items():
        yield Check(
            f"files and columns of {name}",
            "no image with EXIF, XMP or a foreign colour profile, none that lost anything, no other column that can "
            "hold images, no path of this machine",
            partial(check_dataset, part, image_column, words, progress=progress),
        )
    if protected is not None:
        looked_at = partial(check_protected, *protected, progress=progress)
        yield Check("clean pixels", "no image is one of the originals", looked_at)


def private_words(run: RunFolder | None) -> list[str]:
    """Paths that must stand nowhere in what is published: of the run, its originals, and one's own folder."""
    home = str(Path.home())
    words = [] if home == "/" else [home]
    if run is None:
        return words
    known = run.origin.dataset if run.origin else ""
    return [str(run), *words, *([known] if Path(known).is_absolute() else [])]


def told_names(parts: Mapping[str, Dataset], image_column: str) -> Iterator[Finding]:
    """What the names of files tell, and paths that somebody's text holds."""
    names: dict[str, str] = {}
    folders: dict[str, str] = {}
    homes: dict[str, str] = {}
    for part, data in parts.items():
        for row, path in enumerate(_paths(data, image_column)):
            if path and re.search(r"[/\\]", path):
                folders.setdefault(path, f"{part}, row {row}")
            elif path and not PLAIN_NAME.fullmatch(Path(path).stem):
                names.setdefault(path, f"{part}, row {row}")
        for column, values in texts(data.data.table):
            if column.split(".")[0] == image_column:
                continue  # looked at above
            found = values.filter(pc.match_substring_regex(values, HOME).fill_null(False))
            if len(found):
                homes[f"{part}, column {column}"] = str(found[0].as_py())
    yield _named(
        "file names",
        names,
        "{count} different names of files go along, such as {some}; expected names that say nothing of anybody, such "
        "as 0001.png. Leave them if they are meant to be read, or rename the files and protect again",
        "the names of the image files say nothing",
    )
    yield _named(
        "folders",
        {**folders, **homes},
        f"{{count}} paths go along, such as {{some}}; expected names alone. Leave the column out with "
        f"{worded(python='drop_columns', shell='--drop-column')}, or protect again",
        "no path of a folder is in the images' names or in a column of text",
    )


def _paths(data: Dataset, image_column: str) -> Iterator[str | None]:
    """The name that goes along with every image: of a file that lies in a folder, without the folder.

    The pixels stay on disk.
    """
    feature = data.features[image_column]
    if not isinstance(feature, ImageFeature) and not (isinstance(feature, Mapping) and "path" in feature):
        return  # files without names
    for table in data.with_format("arrow").select_columns([image_column]).iter(batch_size=1000):
        for chunk in table.column(image_column).chunks:
            held = chunk.field("bytes").is_valid()
            path = chunk.field("path")
            yield from pc.if_else(held, path, pc.replace_substring_regex(path, r"^.*[/\\]", "")).to_pylist()


def _named(check: str, found: Mapping[str, str], told: str, fine: str) -> Finding:
    if not found:
        return Finding(check=check, severity="fine", says=fine)
    some = dict(list(found.items())[:SHOWN])
    says = told.format(count=len(found), some=", ".join(map(repr, list(some)[:2])))
    return Finding(check=check, severity="warning", says=says, evidence={"count": len(found), "examples": some})
