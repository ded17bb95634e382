"""Images that are nearly the same: the same picture twice, protected in two ways or once not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pixels import match_channels, split_alpha
from hf_unlearnable.data.reading import image_mode, read_pixels, reading_row, stored_files
from hf_unlearnable.progress import Progress

COARSE, FINE = 4, 16  # squares a side whose means are compared before pixels are
QUERIES = 1024  # images that are looked up at once
ROUNDING = 1e-3  # levels, of means in single precision
HELD = 512  # decoded images that are kept for the next comparison


@dataclass(frozen=True)
class Place:
    """A row of one of several datasets.

    Attributes:
        part: what the dataset is called.
        row: the number of the row in it.
    """

    part: str
    row: int

    def __str__(self) -> str:
        return f"{self.part}, row {self.row}"


@dataclass(frozen=True)
class NearCopy:
    """Two images of one size whose difference is within a radius.

    Attributes:
        first: the one.
        second: the other.
        distance: in levels, by the norm of the budget; 0 for equal pixels.
    """

    first: Place
    second: Place
    distance: float

    def __str__(self) -> str:
        return f"{self.first} and {self.second}: {self.distance:g} levels"


def find_near_copies(
    parts: Mapping[str, Dataset], image_column: str, budget: Budget, radius: float, *, progress: bool = False
) -> Iterator[NearCopy]:
    """All pairs of images of one size and mode that are at most so far apart.

    The means over squares of an image are no further apart than its pixels are, so that pairs whose means are can be
    passed over: a tree finds those whose 4x4 means are near, 16x16 means and then the pixels decide.

    Args:
        parts: datasets, by what to call them.
        image_column: of all of them.
        budget: whose norm measures.
        radius: in its levels.
        progress: show a bar.

    Raises:
        DataError: an image that cannot be read.
    """
    places = [Place(name, row) for name, data in parts.items() for row in range(len(data))]
    readers = {name: _reader(data, image_column) for name, data in parts.items()}
    kinds: dict[tuple[int, ...], list[int]] = {}
    coarse, fine = (np.empty((len(places), side**2), np.float32) for side in (COARSE, FINE))
    with Progress("looking for copies", len(places), unit="image", enabled=progress) as bar:
        for number, place in enumerate(places):
            pixels = readers[place.part](place.row)
            kinds.setdefault(pixels.shape, []).append(number)
            coarse[number], fine[number] = _means(pixels, COARSE), _means(pixels, FINE)
            bar.advance()
    reads = lru_cache(HELD)(lambda place: split_alpha(readers[place.part](place.row))[0][None])
    for members in kinds.values():
        for one, other in _candidates(np.array(members), coarse, fine, radius):
            distance = float(budget.measure(reads(places[one]), reads(places[other]))[0])
            if distance <= radius:
                yield NearCopy(places[one], places[other], distance)


def _reader(data: Dataset, image_column: str) -> Callable[[int], NDArray[np.uint8]]:
    """Rows of a dataset as (C, H, W)."""
    mode = image_mode(data, Columns(image_column, None))
    stored = stored_files(data, image_column)

    def read(row: int) -> NDArray[np.uint8]:
        image = stored[row][image_column]
        with reading_row(row, image):
            return read_pixels(image, mode)

    return read


def _means(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """(side * side,) means of the brightness over squares of about one size; of a smaller image, its pixels."""
    grey = match_channels(split_alpha(pixels)[0].astype(np.float64), 3).mean(axis=0)
    for axis in (0, 1):
        edges = np.linspace(0, grey.shape[axis], side + 1).astype(int)
        lengths = np.maximum(np.diff(edges), 1)
        sums = np.add.reduceat(grey, np.minimum(edges[:-1], grey.shape[axis] - 1), axis=axis)
        grey = sums / (lengths[:, None] if axis == 0 else lengths)
    return grey.reshape(-1)


def _candidates(
    members: NDArray[np.int64], coarse: NDArray[np.float32], fine: NDArray[np.float32], radius: float
) -> Iterator[Sequence[int]]:
    """Pairs of members whose means are at most so far apart."""
    tree = cKDTree(coarse[members])
    for start in range(0, len(members), QUERIES):
        near = tree.query_ball_point(coarse[members[start : start + QUERIES]], radius + ROUNDING, p=np.inf)
        for offset, found in enumerate(near):
            own = start + offset
            later = np.array([index for index in found if index > own], dtype=np.int64)
            far = np.abs(fine[members[later]] - fine[members[own]]).max(axis=1, initial=0) > radius + ROUNDING
            for index in later[~far]:
                yield int(members[own]), int(members[index])
