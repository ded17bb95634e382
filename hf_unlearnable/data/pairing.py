"""Whether a protected, a clean and a test set belong together, so that measuring them says something."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.image_set import COMPARABLE, ImageSet
from hf_unlearnable.data.reading import NAMED, Survey, rows
from hf_unlearnable.errors import DataError, some_of, worded

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

SAMPLE = 1000  # pairs that stand for all where looking at all would take too long
FAR = 32  # levels: what no perturbation that anybody would publish reaches, and two photographs hardly stay below

MANY = 0.05  # of the images: a few, such as black ones, may be left as they are


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which data set it is that something is wrong with.

    Raises:
        DataError: the block raised it; with the name in front.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"the {name} dataset: {error}") from error


def check_images(surveys: Mapping[str, Survey]) -> None:
    """Refuse sets of other counts, sizes or channels, by what the headers of their images tell.

    Args:
        surveys: of the sets ``"protected"``, ``"clean"`` and ``"test"``.

    Raises:
        DataError: they do not belong together.
    """
    clean, counts = surveys["clean"], {name: survey.sizes.total() for name, survey in surveys.items()}
    if counts["protected"] != counts["clean"]:
        raise DataError(
            f"got {counts['protected']} protected and {counts['clean']} clean images; expected the same rows"
        )
    if (sizes := surveys["protected"].sizes) != clean.sizes:
        raise DataError(
            f"got images of {surveys['protected']} pixels in the protected set and of {clean} in the clean one "
            f"({(sizes - clean.sizes).total()} differ); expected the same rows, of the same sizes"
        )
    for name in ("protected", "test"):
        if surveys[name].channels != clean.channels:
            kinds = {1: "greyscale", 3: "colour"}
            raise DataError(
                f"got {kinds[surveys[name].channels]} images in the {name} set and {kinds[clean.channels]} ones in the "
                f"clean set; expected the same kind"
            )


def check_match(protected: ImageSet, clean: ImageSet, test: ImageSet) -> list[str]:
    """Refuse sets whose labels or classes differ.

    Returns:
        What does not look as it should, a sentence each: most protected images are other images than the clean ones,
        all or many are the same, or classes that no test image shows.

    Raises:
        DataError: they differ.
    """
    differing = np.flatnonzero(protected.labels != clean.labels)
    if len(differing):
        raise DataError(
            f"got another label in row {differing[0]} of the protected set than in the clean one (and in "
            f"{len(differing) - 1} more); expected the same rows in the same order"
        )
    for name, other in (("protected", protected), ("test", test)):
        if other.names != clean.names:
            raise DataError(
                f"got the classes {other.names[:5]} in the {name} set and {clean.names[:5]} in the clean one; expected "
                f"the same names in the same order. "
                + worded(
                    python="Use dataset.cast_column(LABEL, ClassLabel(names=[...]))",
                    shell="Name the folders of the classes alike, with one folder for every class in both",
                )
            )
    doubts = []
    far = sum(
        np.abs(after.astype(np.int16) - before).mean() > FAR
        for after, before in zip(protected.pixels, clean.pixels, strict=True)
    )
    if far > len(clean) / 2:
        doubts.append(
            f"{far} of {len(clean)} protected images are more than {FAR} of 255 levels away from the clean image of "
            f"the same row, on average over their pixels; expected the same images in the same order, or mixtures of "
            f"the two hold some images twice and others not at all"
        )
    same = sum(np.array_equal(after, before) for after, before in zip(protected.pixels, clean.pixels, strict=True))
    if same == len(clean):
        doubts.append("the protected images are identical to the clean ones: nothing is protected")
    elif same > MANY * len(clean):
        doubts.append(
            f"{same} of {len(clean)} protected images are identical to the clean ones: the figures are of images that "
            f"are protected in part"
        )
    taught, asked = (np.bincount(one.labels, minlength=len(clean.names)) for one in (clean, test))
    if len(untested := np.flatnonzero((taught > 0) & (asked == 0))):
        named = some_of([clean.names[number] for number in untested], NAMED)
        doubts.append(
            f"no test image shows {named}, {len(untested)} of the {np.count_nonzero(taught)} classes that models "
            f"learn: the figures say nothing of these"
        )
    return doubts


def count_seen(test: ImageSet, trained: Sequence[ImageSet]) -> int:
    """How many test images are, pixel by pixel at full size, among those that models are trained on.

    Args:
        test: read from a dataset.
        trained: likewise.
    """
    known = [images.originals.contents for images in (test, *trained) if images.originals is not None]
    own, *others = (contents.view(COMPARABLE) for contents in known)
    return int(np.isin(own, np.concatenate(others)).sum())


def check_apart(own: NDArray[np.void], others: NDArray[np.void], what: str, *, name_rows: bool = False) -> None:
    """Refuse images that are one owner's and other people's: their clean form teaches what the protection is to hide.

    Args:
        own: ``Originals.contents`` of the owner's images.
        others: those of the others.
        what: to call the owner's in the message.
        name_rows: whether their numbers are those of a dataset that somebody knows.

    Raises:
        DataError: there are some.
    """
    both = np.flatnonzero(np.isin(own.view(COMPARABLE), others.view(COMPARABLE)))
    if len(both):
        named = some_of(both.tolist(), NAMED)
        raise DataError(
            f"got {len(both)} of the {len(own)} {what} among the others too{f': rows {named}' if name_rows else ''}; "
            f"expected images of other people. Take them out of the others"
        )


def aligned_pairs(
    clean: Dataset, protected: Dataset, columns: Columns, picked: Sequence[int] | None = None
) -> Iterator[Pair]:
    """Pairs of (original, released) images, each (C, H, W) uint8: here it is checked that they are of the same rows.

    Args:
        clean: the originals.
        protected: the same rows in the same order.
        columns: of both.
        picked: the numbers of rows; all when left out.

    Raises:
        DataError: other columns, another number of rows, or a row with another label or an image of another size.
    """
    if len(clean) != len(protected):
        raise DataError(f"got {len(protected)} protected rows; expected {len(clean)}, those of the clean dataset")
    numbers = np.arange(len(clean)) if picked is None else np.asarray(picked)
    sides = [rows(side, columns.of(side), numbers) for side in (clean, protected)]
    for number, (before, after) in zip(numbers, zip(*sides, strict=True), strict=True):
        if before.label != after.label:
            raise DataError(
                f"row {number}: got the label {after.label}; expected {before.label}, as in the clean dataset: the "
                f"same rows in the same order"
            )
        if before.pixels.shape != after.pixels.shape:
            raise DataError(
                f"row {number}: got a protected image of {after.pixels.shape}; expected {before.pixels.shape}, as in "
                f"the clean dataset: the same rows in the same order"
            )
        yield before.pixels, after.pixels


def sampled_pairs(clean: Dataset, protected: Dataset, columns: Columns) -> Iterator[Pair]:
    """Up to ``SAMPLE`` evenly spaced pairs of ``aligned_pairs``, which raises likewise."""
    return aligned_pairs(clean, protected, columns, range(0, len(clean), math.ceil(max(1, len(clean)) / SAMPLE)))
