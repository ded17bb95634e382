"""The largest picture as it is and as it would be, quickly enough to follow a slider."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import VIEW, Budget
from hf_unlearnable.data.pixels import match_channels, resize, split_alpha, to_image
from hf_unlearnable.errors import DataWarning
from hf_unlearnable.methods.texture import Texture
from hf_unlearnable.protection.resample import resample_and_apply
from hf_unlearnable.reports.images import as_png, smoothest_part


@dataclass(frozen=True)
class Preview:
    """Pictures of one picture, before and after.

    Attributes:
        whole: clean and protected, as people look at it: JPEG, about ``VIEW`` pixels a side.
        part: the smoothest part at full size, where a change is seen first: PNG.
        size: width and height of the picture.
    """

    whole: tuple[bytes, bytes]
    part: tuple[bytes, bytes]
    size: tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """What of a picture is kept to preview it.

    Attributes:
        small: (C, h, w) uint8, as a method sees it.
        view: (C, h, w) uint8, reduced by ``factor``.
        part: (C, h, w) uint8 of the picture at full size.
        place: top and left of ``part``.
        size: height and width of the picture.
        factor: by which ``view`` is smaller.
    """

    small: NDArray[np.uint8]
    view: NDArray[np.uint8]
    part: NDArray[np.uint8]
    place: NDArray[np.int64]
    size: NDArray[np.int64]
    factor: NDArray[np.int64]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], working_size: tuple[int, int]) -> Scene:
        """Of a picture (C, H, W); ``working_size`` is what perturbations of its set are made at."""
        colour, alpha = split_alpha(pixels)
        if alpha is not None:  # what is seen through is shown as on white paper
            share = alpha.astype(np.float32) / 255
            colour = np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)
        height, width = colour.shape[1:]
        factor = max(1, round(max(height, width) / VIEW))
        view = np.stack([np.asarray(Image.fromarray(plane).reduce(factor)) for plane in colour])
        rows, columns = smoothest_part(colour)
        return cls(
            small=resize(colour, *working_size),
            view=view,
            part=colour[:, rows, columns],
            place=np.array([rows.start, columns.start]),
            size=np.array([height, width]),
            factor=np.array(factor),
        )

    def save(self, file: Path) -> None:
        """Write it."""
        np.savez(file, **vars(self))

    @classmethod
    def load(cls, file: Path) -> Scene:
        """Read what ``save`` wrote."""
        with np.load(file) as stored:
            return cls(**stored)

    def levels(self, budget: Budget) -> NDArray[np.int16]:
        """The perturbation of ``small`` under a budget, (C, h, w): a wave of the method ``texture`` of its own.

        The wave that the whole set will get is drawn from all its pictures; it is as strong and as fine as this one.
        """
        image = to_image(self.small)
        with TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            data = Dataset.from_dict({"image": [image]})
            fitted = Texture().fit(data, budget=budget, labels="none", output_dir=f"{scratch}/fitted", progress=False)
            return fitted.perturbation(image)

    def preview(self, budget: Budget, levels: NDArray[np.int16]) -> Preview:
        """What a perturbation of ``small`` makes of the picture."""
        view = resample_and_apply(self.view, levels, budget)
        change = match_channels(self._cut(levels), len(self.part))[None]
        radii = None
        if budget.adaptive:  # by what the picture is like as people look at it
            top, left = self.place
            height, width = self.part.shape[1:]
            wide = budget.radii(self.view[None]).repeat(self.factor, axis=2).repeat(self.factor, axis=3)
            radii = wide[:, :, top : top + height, left : left + width]
        after = (self.part + budget.limit(change, self.part[None], radii)[0]).astype(np.uint8)
        height, width = map(int, self.size)
        return Preview((_jpeg(self.view), _jpeg(view)), (as_png(self.part), as_png(after)), (width, height))

    def _cut(self, levels: NDArray[np.int16]) -> NDArray[np.int16]:
        """The perturbation of ``part``: what ``enlarge`` makes of all, cut out."""
        height, width = self.size
        if levels.shape[1:] == (height, width):
            return levels[:, : self.part.shape[1], : self.part.shape[2]]
        (top, left), (tall, broad) = self.place, self.part.shape[1:]
        down, across = levels.shape[1] / height, levels.shape[2] / width
        box = (left * across, top * down, (left + broad) * across, (top + tall) * down)
        planes = [Image.fromarray(plane.astype(np.int32)) for plane in levels]
        return np.stack(
            [np.asarray(plane.resize((broad, tall), Image.Resampling.BICUBIC, box=box)) for plane in planes]
        ).astype(np.int16)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Of good quality and without coarser colours, which would hide blotches."""
    stream = io.BytesIO()
    to_image(pixels).convert("RGB").save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()
