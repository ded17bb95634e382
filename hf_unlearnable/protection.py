"""A fitted protection: the callable for ``dataset.map`` and the store of perturbations behind it.

The store undoes the protection (original = released - perturbation): it is private, and kept apart from what is
published.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import Budget
from hf_unlearnable.errors import DataError, SourceError, UnseenImageError
from hf_unlearnable.images import DIGEST_BYTES, Columns, digest, find_columns, rows, to_array, to_image
from hf_unlearnable.outputs import whole
from hf_unlearnable.verification import Pair, Verification, compare

STORE = "perturbations.arrow"
ABOUT = "protection.json"
FORMAT = 1

# One row an image: rows of different sizes fit, the file is written batch by batch and read through a memory map.
SCHEMA = pa.schema(
    [
        ("digest", pa.binary(DIGEST_BYTES)),
        ("shape", pa.list_(pa.int32(), 3)),
        ("levels", pa.large_binary()),
    ]
)


class Protection:
    """Adds to every image the perturbation that was fitted to it; pass it to ``dataset.map``.

    Images are recognised by their pixels and label, so any order, subset, batch or process will do:

        protected = dataset.map(protect)
        protected = dataset.shuffle().map(protect, batched=True, num_proc=4)

    Only the image column changes. Released images carry no metadata of their sources and are stored as PNG.

    Args:
        folder: where ``save_pretrained`` or ``Method.fit`` wrote it.

    Raises:
        SourceError: the folder holds no protection, or a damaged one.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        try:
            self.about: dict[str, Any] = json.loads((self.folder / ABOUT).read_text())
            self._table = pa.ipc.open_file(pa.memory_map(str(self.folder / STORE))).read_all()
        except FileNotFoundError as error:
            raise SourceError(
                f"got {str(folder)!r}; expected a folder with {ABOUT} and {STORE}, as save_pretrained writes it"
            ) from error
        except (pa.ArrowInvalid, json.JSONDecodeError) as error:
            raise SourceError(
                f"the protection in {str(folder)!r} is damaged ({error}); restore it from a copy"
            ) from error
        if self.about.get("format") != FORMAT or len(self._table) != self.about["images"]:
            raise SourceError(
                f"got a protection of format {self.about.get('format')!r} with {len(self._table)} images in "
                f"{str(folder)!r}; expected format {FORMAT} with {self.about.get('images')}"
            )
        self.budget = Budget.parse(self.about["budget"])
        self.columns = Columns(self.about["image_column"], self.about["label_column"])

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str]) -> Protection:
        """Open what ``save_pretrained`` wrote; perturbations stay on disk, mapped into memory.

        Raises:
            SourceError: the folder holds no protection, or a damaged one.
        """
        return cls(folder)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Copy the protection to a folder that does not exist yet. Keep it private: it undoes the protection.

        Raises:
            OutputError: the folder holds something already.
        """
        with whole(Path(folder)) as scratch:
            shutil.copyfile(self.folder / STORE, scratch / STORE)
            shutil.copyfile(self.folder / ABOUT, scratch / ABOUT)

    @classmethod
    def write(
        cls,
        folder: Path,
        batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[Any]]],
        about: Mapping[str, Any],
    ) -> Protection:
        """Write a protection to ``folder``, which must exist and be empty.

        Args:
            folder: where to.
            batches: (pixels, labels, levels) as ``Budget.quantise`` made the levels; every one is checked once more
                against the budget.
            about: the rest of ``protection.json``: ``budget``, ``image_column``, ``label_column``, method, recipe…
        """
        budget = Budget.parse(about["budget"])
        count = 0
        with pa.OSFile(str(folder / STORE), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for pixels, labels, levels in batches:
                budget.apply(pixels, levels)
                count += len(labels)
                writer.write_batch(
                    pa.record_batch(
                        [
                            pa.array([digest(*row) for row in zip(pixels, labels, strict=True)], SCHEMA.types[0]),
                            pa.array([row.shape for row in levels], SCHEMA.types[1]),
                            pa.array([row.tobytes() for row in levels], SCHEMA.types[2]),
                        ],
                        schema=SCHEMA,
                    )
                )
        described = {"format": FORMAT, "images": count, **about}
        hashed = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=DIGEST_BYTES)
        with (folder / STORE).open("rb") as store:
            while block := store.read(1 << 20):
                hashed.update(block)
        described["digest"] = hashed.hexdigest()
        (folder / ABOUT).write_text(json.dumps(described, indent=2) + "\n")
        return cls(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        # A path and a digest, not the perturbations: cheap for num_proc, and a stable fingerprint for the cache of map.
        return _reopen, (str(self.folder), self.digest)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"Protection({self.about['method']['name']}, {self.budget}, {len(self)} images, {str(self.folder)!r})"

    @property
    def digest(self) -> str:
        """Tells this protection from every other: a hash of its perturbations and its description."""
        return str(self.about["digest"])

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Protect one row, or a batch of rows as ``map(batched=True)`` passes them.

        Returns:
            The image column only: ``map`` keeps the others.

        Raises:
            DataError: the image or label column is missing.
            UnseenImageError: an image that was not fitted (never passed through clean).
        """
        for column in (self.columns.image, self.columns.label):
            if column not in row:
                raise DataError(
                    f"got a row with the columns {', '.join(row)}; expected {column!r}, as in the dataset that the "
                    f"protection was fitted to. Rename it with dataset.rename_column"
                )
        images, labels = row[self.columns.image], row[self.columns.label]
        if isinstance(labels, (list, np.ndarray)):
            protected: Any = [self.protect(*pair) for pair in zip(images, labels, strict=True)]
        else:
            protected = self.protect(images, labels)
        return {self.columns.image: protected}

    def protect(self, image: Image.Image | NDArray[np.uint8], label: int) -> Image.Image:
        """Add the fitted perturbation to one image.

        Args:
            image: as it was when ``fit`` saw it.
            label: its class number.

        Raises:
            UnseenImageError: no perturbation was fitted to this image with this label.
        """
        pixels = to_array(image)
        position = self._position(digest(pixels, label))
        if position is None:
            raise UnseenImageError(
                f"got an image (label {label}, {pixels.shape[2]}x{pixels.shape[1]} pixels) that is not among the "
                f"{len(self)} that this protection was fitted to; expected the same pixels and label. Was it fitted to "
                f"another dataset or split, was the image re-encoded, resized or protected before, or the label "
                f"renumbered? Fit again with the images that you want to protect"
            )
        return to_image(self.budget.apply(pixels[None], self._levels(position)[None])[0])

    def perturbation(self, image: Image.Image | NDArray[np.uint8], label: int) -> NDArray[np.int16]:
        """What ``protect`` adds to an image, (C, H, W) in levels; raises like it."""
        released = to_array(self.protect(image, label)).astype(np.int16)
        return released - to_array(image)

    def is_original(self, image: Image.Image | NDArray[np.uint8], label: int) -> bool:
        """Whether this is an image as ``fit`` saw it: one that must not be published."""
        return self._position(digest(to_array(image), label)) is not None

    def verify(self, original: Dataset, protected: Dataset) -> Verification:
        """Compare a protected dataset, as it was read back, with its originals row by row.

        Args:
            original: what was protected.
            protected: the same rows in the same order.

        Raises:
            DataError: other rows, labels or image sizes.
        """
        return compare(_pairs(original, protected, self.columns), self.budget)

    def _position(self, key: bytes) -> int | None:
        keys, order = self._index
        wanted = np.array([key], dtype=keys.dtype)  # an array on both sides: numpy drops trailing zero bytes of scalars
        found = int(np.searchsorted(keys, wanted)[0])
        return int(order[found]) if (keys[found : found + 1] == wanted).any() else None

    @cached_property
    def _index(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """Sorted digests and where each stands; a stable sort, so that the first of equal rows speaks for all."""
        keys = np.array(self._table["digest"].to_pylist(), dtype=f"S{DIGEST_BYTES}")
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def _levels(self, position: int) -> NDArray[Any]:
        shape = self._table["shape"][position].as_py()
        return np.frombuffer(self._table["levels"][position].as_buffer(), dtype=self.budget.dtype).reshape(shape)


def _reopen(folder: str, expected: str) -> Protection:
    protection = Protection(folder)
    if protection.digest != expected:
        raise SourceError(f"the protection in {folder!r} has changed since it was passed on; load it again")
    return protection


def _pairs(original: Dataset, protected: Dataset, columns: Columns) -> Iterator[Pair]:
    if len(original) != len(protected):
        raise DataError(f"got {len(protected)} protected rows; expected {len(original)}, those of the original dataset")
    sides = [rows(side, find_columns(side, columns.image, columns.label)) for side in (original, protected)]
    for index, ((before, label), (after, label_after)) in enumerate(zip(*sides, strict=True)):
        if label != label_after:
            raise DataError(f"row {index}: got the label {label_after}; expected {label}, as in the original dataset")
        yield before, after
