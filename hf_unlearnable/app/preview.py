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
from hf_unlearnable.data.pixels import match_channels, on_white, resize, split_alpha, to_array, to_image
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
        height, width = pixels.shape[1:]
        factor = max(1, round(max(height, width) / VIEW))
        rows, columns = smoothest_part(_seen(pixels))
        return cls(
            small=resize(split_alpha(pixels)[0], *working_size),
            view=np.stack([np.asarray(Image.fromarray(plane).reduce(factor)) for plane in pixels]),
            part=pixels[:, rows, columns],
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
        colour, alpha = split_alpha(self.part)
        change = match_channels(self._cut(levels), len(colour))
        if alpha is not None:
            change = change * (alpha > 0)
        radii = None
        if budget.adaptive:  # by what the picture is like as people look at it
            top, left = self.place
            wide = budget.radii(split_alpha(self.view)[0][None]).repeat(self.factor, axis=2).repeat(self.factor, axis=3)
            radii = wide[:, :, top : top + colour.shape[1], left : left + colour.shape[2]]
        part = self.part.copy()
        part[: len(colour)] += budget.limit(change[None], colour[None], radii)[0].astype(np.uint8)  # modulo 256
        height, width = map(int, self.size)
        parts = (as_png(_seen(self.part)), as_png(_seen(part)))
        return Preview((_jpeg(self.view), _jpeg(view)), parts, (width, height))

    def _cut(self, levels: NDArray[np.int16]) -> NDArray[np.int16]:
        """The perturbation of ``part``: what ``resample`` makes of the whole, cut out."""
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


def _seen(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as people see it, on white paper: (C, H, W) without alpha."""
    return to_array(on_white(to_image(pixels)))


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Of good quality and without coarser colours, which would hide blotches."""
    stream = io.BytesIO()
    on_white(to_image(pixels)).convert("RGB").save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()
