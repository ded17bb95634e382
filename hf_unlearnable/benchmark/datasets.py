"""The datasets of a comparison: opened, cut to their rows, and told by a digest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset, DatasetDict

from hf_unlearnable.benchmark.protocol import Data
from hf_unlearnable.data.columns import Classes, Columns, find_columns
from hf_unlearnable.data.fashion_mnist import fashion_mnist
from hf_unlearnable.data.photo_patches import photo_patches
from hf_unlearnable.data.photographs import PHOTO_SETS
from hf_unlearnable.data.pixels import digest
from hf_unlearnable.data.reading import rows
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import DataError
from hf_unlearnable.runs.named_originals import check_clean

FASHION_MNIST = "fashion-mnist"


class Sets(NamedTuple):
    """A dataset, open.

    Attributes:
        data: with its digests.
        train: to protect.
        test: clean images.
    """

    data: Data
    train: Dataset
    test: Dataset


def kept_in() -> Path:
    """The folder of sets that are made once: ``data`` here, or what ``BENCHMARK_DATA`` names."""
    return Path(os.environ.get("BENCHMARK_DATA", "data"))


def pinned_sets(data: Data) -> Sets:
    """Open a dataset, and see that it is the one whose digest is pinned.

    Raises:
        SourceError: it is not there.
        DataError: other pixels or labels than were pinned, or fewer rows.
    """
    if data.source == FASHION_MNIST or data.source in PHOTO_SETS:
        splits = _made(data.source, kept_in() / data.source)
        train, test = splits[data.split], splits[data.test_split]
    else:
        places = (data.source, data.split), (data.test_source or data.source, data.test_split)
        for source, split in places:
            check_clean(source, split)
        train, test = (load_source(source, split) for source, split in places)
    train, test = _first(train, data.rows, data.name), _first(test, data.test_rows, data.name)
    found = {name: digest_of(part, _columns(part, data)) for name, part in (("train", train), ("test", test))}
    for name, pinned in (("train", data.digest), ("test", data.test_digest)):
        if pinned and pinned != found[name]:
            raise DataError(
                f"got the {name} images of {data.name} with the digest {found[name]}; expected {pinned}, on which the "
                f"protocol's figures are measured. Remove {str(kept_in() / data.source)!r} to make it anew; another "
                f"version of Pillow may decode JPEG files to other pixels"
            )
    return Sets(replace(data, digest=found["train"], test_digest=found["test"]), train, test)


def _made(source: str, folder: Path) -> DatasetDict:
    """One of the sets that are made once, and kept in a folder."""
    return fashion_mnist(folder) if source == FASHION_MNIST else photo_patches(source, folder)


def digest_of(dataset: Dataset, columns: Columns) -> str:
    """32 hexadecimal digits of the class names and, row by row, of pixels at full size and label."""
    hashed = hashlib.blake2b(repr(Classes.of(dataset, columns).names).encode(), digest_size=16)
    for row in rows(dataset, columns):
        hashed.update(digest(row.pixels, row.label))
    return hashed.hexdigest()


def _columns(dataset: Dataset, data: Data) -> Columns:
    return find_columns(dataset, data.image_column, data.label_column)


def _first(dataset: Dataset, count: int | None, name: str) -> Dataset:
    if count is None:
        return dataset
    if count > len(dataset):
        raise DataError(f"got {len(dataset)} images of {name}; expected at least {count}")
    return dataset.select(range(count))
