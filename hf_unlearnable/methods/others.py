"""Clean images of other people, which a method sees beside those that it protects, and never moves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Classes, Columns, columns_of_others
from hf_unlearnable.data.image_set import ImageSet, Originals
from hf_unlearnable.data.pairing import check_apart, naming
from hf_unlearnable.data.reading import class_numbers
from hf_unlearnable.errors import DataWarning
from hf_unlearnable.files import allocate_memmap

OTHERS = "others"  # how many there were, among what a fit found


@dataclass(frozen=True)
class OtherImages:
    """The further classes of a fit.

    Attributes:
        dataset: M rows.
        columns: of it; without labels all are one class.
        names: of their classes, as they are told apart from the protected ones.
        numbers: (M,) of their classes, from 0 on.
        first: the row of the whole set at which they begin, behind those that are protected.
    """

    dataset: Dataset
    columns: Columns
    names: list[str]
    numbers: NDArray[np.int64]
    first: int

    @classmethod
    def of(cls, dataset: Dataset, first: int, image_column: str | None) -> OtherImages:
        """Find their columns and classes.

        Args:
            dataset: of the others.
            first: how many images are protected.
            image_column: of the protected images; of the others too, if they have a column of this name.

        Raises:
            DataError: columns or labels that cannot be used.
        """
        with naming(OTHERS), warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # which of their columns is taken for labels changes little
            columns = columns_of_others(dataset, image_column)
            numbers = class_numbers(dataset, columns)
            return cls(
                dataset, columns, [f"others: {name}" for name in Classes.of(dataset, columns).names], numbers, first
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def read_behind(self, images: ImageSet, rows: NDArray[np.int64], scratch: Path) -> ImageSet:
        """One set of both.

        Args:
            images: the protected ones of this process.
            rows: of the whole set, ascending, that this process owns.
            scratch: a folder for their pixels.

        Raises:
            DataError: an image that cannot be read.
        """
        place = scratch / "others"
        place.mkdir()
        with naming(OTHERS):
            _, channels, *size = images.pixels.shape
            others = ImageSet.read(
                self.dataset,
                self.columns,
                size=(size[0], size[1]),
                channels=channels,
                scratch=place,
                numbers=rows[rows >= self.first] - self.first,
            )
        pixels = allocate_memmap(place / "all", (len(rows), channels, *size), np.uint8)
        pixels[: len(images)], pixels[len(images) :] = images.pixels, others.pixels
        before, after = images.originals, others.originals
        assert before is not None
        assert after is not None
        originals = Originals(
            np.concatenate([before.digests, after.digests]),
            np.concatenate([before.contents, after.contents]),
            np.concatenate([before.sizes, after.sizes]),
            before.conversions,
        )
        return replace(images, pixels=pixels, originals=originals)

    def check_apart(self, originals: Originals) -> None:
        """Refuse images that are both: their clean form would teach what the protection is to hide.

        Args:
            originals: of the whole set.

        Raises:
            DataError: there are some.
        """
        own, others = originals.contents[: self.first], originals.contents[self.first :]
        check_apart(own, others, "images to protect", name_rows=True)
