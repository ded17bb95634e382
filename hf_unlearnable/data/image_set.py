"""Image datasets as one array, at the resolution that networks work at."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.data.pixels import DIGEST_BYTES, digest, match_channels, resize, split_alpha
from hf_unlearnable.data.reading import Survey, rows
from hf_unlearnable.errors import DataError, blank, option, some_of, worded
from hf_unlearnable.files import allocate_memmap
from hf_unlearnable.progress import Progress

if TYPE_CHECKING:
    import torch


COMPARABLE = f"S{DIGEST_BYTES}"  # numpy sorts strings and not V; all are of one length, so that no zero is lost


def chance_of(counts: NDArray[np.int64]) -> float:
    """The accuracy of always answering the most frequent class, in [0, 1].

    Args:
        counts: (K,) images of each class.
    """
    return float(counts.max() / counts.sum())


def draw_by_class(
    labels: NDArray[np.int64], count: Callable[[int], int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw some rows of every class: (N,) of whether a row was drawn.

    Args:
        labels: (N,) class numbers.
        count: how many to draw of a class of so many rows.
        rng: draws a permutation of each class, in the order of their numbers.
    """
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        drawn[members[: count(len(members))]] = True
    return drawn


def hold_out_by_class(
    labels: NDArray[np.int64], share: float, rng: np.random.Generator, left: int = 1
) -> NDArray[np.bool_]:
    """Draw a share of every class, rounded to the nearest row: (N,) of whether a row was drawn.

    At least one row of each, and so that some are left; this goes first.

    Args:
        labels: (N,) class numbers.
        share: in (0, 1).
        rng: as of ``draw_by_class``.
        left: so many rows of every class are not drawn.
    """
    return draw_by_class(labels, lambda members: max(0, min(members - left, max(1, round(share * members)))), rng)


@dataclass(frozen=True)
class Originals:
    """What is known of the images that an ``ImageSet`` was read from, row by row.

    Attributes:
        digests: (N,) of pixels at full size and label, 16 bytes each.
        contents: (N,) of pixels at full size alone, likewise.
        sizes: (N, 2) height and width.
        conversions: how many images need each conversion of their mode to be released.
    """

    digests: NDArray[np.void]
    contents: NDArray[np.void]
    sizes: NDArray[np.int32]
    conversions: dict[str, int]

    def first(self, count: int) -> Originals:
        """Of the first ``count`` rows alone; the conversions stay."""
        return replace(self, digests=self.digests[:count], contents=self.contents[:count], sizes=self.sizes[:count])

    @property
    def first_copies(self) -> NDArray[np.int64]:
        """(N,) for every image the number of the first row with the same pixels: its own where there is none before."""
        return _first_rows(self.contents)

    @property
    def first_twins(self) -> NDArray[np.int64]:
        """(N,) likewise, of the first row with the same pixels and the same label: a protection knows them as one."""
        return _first_rows(self.digests)

    @property
    def several_labels(self) -> NDArray[np.int64]:
        """The rows whose pixels another row has too, with another label."""
        first = self.first_copies
        digests = self.digests.view(COMPARABLE)
        other = np.flatnonzero(digests != digests[first])
        return np.flatnonzero(np.isin(first, first[other]))


def _first_rows(digests: NDArray[np.void]) -> NDArray[np.int64]:
    _, first, group = np.unique(digests.view(COMPARABLE), return_index=True, return_inverse=True)
    return np.asarray(first[group.reshape(-1)])


@dataclass(frozen=True)
class ImageSet:
    """A decoded data set at one size, on disk where it was read into a scratch folder.

    Attributes:
        pixels: (N, C, H, W) uint8, C 1 or 3: colour without alpha.
        labels: (N,) int64 in [0, K).
        names: the K class names.
        originals: the images at full size; None for sets that were not read from a dataset.
        cached: ``pixels`` on a device, to be copied there once and not batch by batch; None where they are not.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]
    originals: Originals | None = None
    cached: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def chance(self) -> float:
        """That of its classes, as ``chance_of`` computes it."""
        return chance_of(np.bincount(self.labels))

    @cached_property
    def digest(self) -> bytes:
        """Of shape, pixels and labels."""
        hashed = hashlib.blake2b(repr(self.pixels.shape).encode(), digest_size=DIGEST_BYTES)
        hashed.update(np.ascontiguousarray(self.pixels).data)
        hashed.update(self.labels.tobytes())
        return hashed.digest()

    def to(self, device: torch.device) -> ImageSet:
        """The same with its pixels on a device too."""
        import torch  # here, so that a process that only protects does not load it

        return replace(self, cached=torch.from_numpy(np.array(self.pixels)).to(device))

    def select(self, indices: NDArray[np.int64]) -> ImageSet:
        """The rows ``indices``, copied into memory."""
        return ImageSet(self.pixels[indices], self.labels[indices], self.names)

    @classmethod
    def read(
        cls,
        dataset: Dataset,
        columns: Columns,
        *,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        scratch: Path | None = None,
        numbers: NDArray[np.int64] | None = None,
        change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        progress: bool = False,
        what: str = "reading images",
    ) -> ImageSet:
        """Decode every image of a dataset.

        Args:
            dataset: rows, at least one.
            columns: as ``find_columns`` gives them.
            size: the side, or height and width, that images are brought to (bilinear, antialiased); when left out they
                must be of one size already.
            channels: 1 or 3; when left out 1 where all images are greyscale, else 3.
            scratch: a folder for a memory-mapped file that holds the pixels; in memory if left out.
            numbers: the N rows to decode; all if left out.
            change: of the (C, H, W) pixels of each image at full size, before they are resampled.
            progress: show a bar.
            what: its name.

        Raises:
            DataError: an empty set, an unreadable image, a missing label, or images of several sizes without ``size``.
        """
        if channels is None or size is None:
            survey = Survey.of(dataset, columns, numbers)
            channels = channels or survey.channels
            if size is None and len(survey.sizes) > 1:
                resize = (
                    f"Say which they are to be brought to (size=32), or resize them: dataset.map(lambda row: "
                    f"{{{columns.image!r}: row[{columns.image!r}].resize((W, H))}})"
                )
                raise DataError(
                    f"got images of {len(survey.sizes)} sizes, {survey}; expected one size. "
                    + worded(python=resize, shell="Bring copies of them to one size")
                )
            size = next(iter(survey.sizes)) if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        count = len(dataset) if numbers is None else len(numbers)
        shape = (count, channels, height, width)
        pixels = np.empty(shape, np.uint8) if scratch is None else allocate_memmap(scratch / "pixels", shape, np.uint8)
        labels = np.empty(count, dtype=np.int64)
        digests = np.empty(count, dtype=f"V{DIGEST_BYTES}")  # S would cut trailing zeros off
        contents = np.empty_like(digests)
        sizes = np.empty((count, 2), dtype=np.int32)
        conversions: Counter[str] = Counter()
        with Progress(what, count, unit="image", enabled=progress) as bar:
            for index, row in enumerate(rows(dataset, columns, numbers)):
                seen = row.pixels if change is None else change(row.pixels)
                pixels[index], labels[index] = thumbnail(seen, channels, (height, width)), row.label
                digests[index], contents[index] = digest(row.pixels, row.label), digest(row.pixels)
                sizes[index] = row.pixels.shape[1:]
                conversions.update([row.conversion] if row.conversion else [])
                bar.advance()
        originals = Originals(digests, contents, sizes, dict(sorted(conversions.items())))
        return cls(pixels, labels, Classes.of(dataset, columns).names, originals)


def thumbnail(pixels: NDArray[np.uint8], channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What a network sees of an image: its colour, (channels, *size) uint8, whatever the image's own size and mode."""
    return match_channels(resize(split_alpha(pixels)[0], *size), channels)


def check_classes(labels: NDArray[np.int64], names: list[str], one_class: bool = False) -> None:
    """Refuse a set that cannot be protected class by class.

    Args:
        labels: (N,) in [0, K).
        names: of the K classes.
        one_class: whether all images may be of one class; then a single image will do.

    Raises:
        DataError: fewer than two classes, or classes with a single image.
    """
    present = np.unique(labels)
    if len(present) < 2:
        if one_class:
            return
        raise DataError(f"got images of one class only ({names[present[0]]!r}); {several_expected()}")
    if lonely := lonely_classes(labels, names):
        raise DataError(f"got {alone_told(lonely)}")


def lonely_classes(labels: NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """The classes with a single image, where images are of several: labels (N,) in [0, K), and K names."""
    counts = np.bincount(labels, minlength=len(names))
    if np.count_nonzero(counts) < 2:
        return []
    return [names[number] for number in np.flatnonzero(counts == 1).tolist()]


def alone_told(names: Sequence[str]) -> str:
    """Classes with a single image, why these are refused, and what to do, after "got "."""
    depth = f" (with {option('class_depth', 1)} the first folder is the class)"
    nested = depth if any("/" in name for name in names) else ""
    return (
        f"classes with a single image: {some_of(names)}; expected at least two "
        f"of each, since a change that no other image carries says nothing about its class. Add images, merge these "
        f"classes{nested}, or leave them out"
    )


def several_expected() -> str:
    """What is expected, and what to do, where images of one class are brought to a method that cannot do with one."""
    return (
        f"expected at least two, since this method works by what tells classes apart. For one owner's images use the "
        f"method texture, or show images of others: {blank('others', 'DATASET')}; or let classes be made of images "
        f"that look alike: {option('labels', 'clusters:10')}"
    )
