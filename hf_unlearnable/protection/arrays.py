"""Perturbations that another tool made, as one array: what its numbers mean, and the levels that they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.reading import NAMED, Survey, image_mode
from hf_unlearnable.errors import BudgetError, DataError, RecipeError, option, some_of
from hf_unlearnable.files import allocate_memmap, chunks
from hf_unlearnable.protection.description import IMPORTED, Description
from hf_unlearnable.protection.sample import compare_sample
from hf_unlearnable.version import versions

Layout = Literal["nchw", "nhwc"]
Scale = Literal[1, 255]
Per = Literal["image", "class"]

ROUNDING = 1e-3  # by how much, relative to a radius, the half precision of a float misses it at most


@dataclass(frozen=True)
class ImportedNoise:
    """Perturbations and what their numbers mean.

    Attributes:
        values: (M, H, W, C) or (M, C, H, W) as ``layout`` says.
        layout: the order of the axes.
        scale: what white is in the scale of the values: 1, or 255, so that they are levels.
        per: whether there is one for each image, in the order of the rows, or for each class, in that of the numbers.
    """

    values: NDArray[Any]
    layout: Layout
    scale: Scale
    per: Per

    @classmethod
    def of(
        cls,
        values: Any,
        *,
        images: int,
        classes: int,
        layout: Layout | None = None,
        scale: Scale | None = None,
        per: Per | None = None,
    ) -> ImportedNoise:
        """Find out what was not told, where there is only one way to understand it.

        Args:
            values: an array of numpy, or a tensor, of any type of numbers. Without channels, (M, H, W), it is grey.
            images: rows of the dataset.
            classes: of it.
            layout: see above.
            scale: likewise.
            per: likewise.

        Raises:
            DataError: no perturbations, or not as many as images or classes.
            RecipeError: what may be understood in two ways, with the parameter that says which is meant; or one that
                cannot be.
        """
        values = _array(values, layout)
        layout = layout or _layout(values.shape)
        per = per or _per(len(values), images, classes)
        expected = images if per == "image" else classes
        if len(values) != expected:
            raise DataError(
                f"got {len(values)} perturbations with {option('per', per)}; expected {expected}, one for each {per} "
                f"of the dataset, in their order"
            )
        noise = cls(values, layout, scale or 255, per)
        if noise.shape[0] not in (1, 3):
            raise DataError(
                f"got perturbations of {noise.shape[0]} channels ({values.shape} with {option('layout', layout)}); "
                f"expected 1 or 3, colour without alpha"
            )
        return noise if scale else cls(values, layout, _scale(values), per)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of each."""
        first, second, third = self.values.shape[1:]
        return (first, second, third) if self.layout == "nchw" else (third, first, second)

    def levels(self, numbers: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """Some of them in levels, (B, C, H, W)."""
        chosen = np.asarray(self.values[numbers], dtype=np.float64) * (WHITE / self.scale)
        return chosen if self.layout == "nchw" else chosen.transpose(0, 3, 1, 2)

    def check(self, budget: Budget) -> None:
        """Refuse perturbations that are larger than the budget by more than ``ROUNDING`` of the radius.

        Raises:
            BudgetError: with the largest that was found.
        """
        if budget.adaptive:
            raise BudgetError(
                f"got the budget {budget}, which allows less where an image is smooth; expected one that the "
                f"perturbations were made for, or that they are brought into it: {option('clip', True, '--clip')}"
            )
        norms = np.concatenate([_norms(self.levels(part), budget) for part in chunks(len(self.values), self.shape)])
        over = np.flatnonzero(norms > budget.radius * (1 + ROUNDING))
        if len(over):
            unsigned = (
                " Its numbers have no sign: were they negative once? Then noise.view(numpy.int8) brings that back."
            )
            raise BudgetError(
                f"got perturbations of up to {norms.max():.4g} levels (number {norms.argmax()}), {len(over)} of "
                f"{len(norms)} outside the budget {budget}; expected none. Name the budget that they were made for, or "
                f"let them be brought into this one: {option('clip', True, '--clip')}."
                + (unsigned if self.values.dtype == np.uint8 else "")
            )


def described(
    noise: ImportedNoise, dataset: Dataset, columns: Columns, budget: Budget, scratch: Path, *, progress: bool
) -> tuple[Description, Iterator[tuple[NDArray[np.void], NDArray[Any]]]]:
    """What ``Protection.write`` takes: the description, and batches of digests and levels.

    Args:
        noise: in the budget, or to be brought into it.
        dataset: N images, of any sizes; perturbations of another size are resampled as those of a fit are.
        columns: of it.
        budget: that the result keeps.
        scratch: a folder for pixels and levels.
        progress: show a bar.

    Raises:
        DataError: images that cannot be read, of other channels than the perturbations, or that nothing would change;
            or perturbations that differ for one and the same image.
    """
    import torch  # here, so that a process that only protects does not load it

    survey = Survey.of(dataset, columns)
    channels, *size = noise.shape
    if channels != survey.channels:
        kinds = {1: "greyscale", 3: "colour"}
        raise DataError(
            f"got perturbations with a channel axis of {channels} for {kinds[survey.channels]} images; expected "
            f"{survey.channels}"
        )
    height, width = size
    images = ImageSet.read(
        dataset, columns, size=(height, width), channels=channels, scratch=scratch, progress=progress
    )
    originals = images.originals
    assert originals is not None  # they were read
    levels = allocate_memmap(scratch / "levels", images.pixels.shape, budget.dtype)
    parts = list(chunks(len(images), noise.shape))
    for part in parts:
        exact = noise.levels(part if noise.per == "image" else images.labels[part])
        levels[part] = budget.quantise(torch.from_numpy(exact / WHITE), images.pixels[part])
    if not any(levels[part].any() for part in parts):
        raise DataError(
            "got perturbations of which nothing is left in images of 8 bits; expected some of half a level or more. "
            f"Are they of another scale? {option('scale', 1)} is for images from 0 to 1, {option('scale', 255)} for "
            f"levels"
        )
    _check_copies(levels, originals.first_twins)
    description = Description(
        method={"name": IMPORTED, "per": noise.per},
        budget=budget,
        surrogates=(),
        columns=columns,
        image_mode=image_mode(dataset, columns),
        classes=Classes.of(dataset, columns),
        image_shape=noise.shape,
        image_sizes=str(survey),
        largest_image=int(originals.sizes.prod(axis=1).max()),
        resampled=int((originals.sizes != noise.shape[1:]).any(axis=1).sum()),
        conversions=originals.conversions,
        images=len(dataset),
        verification=compare_sample(dataset, columns, levels, budget, survey)[0],
        labels="" if columns.label else "none",
        versions=versions(),
    )
    return description, ((originals.digests[part], levels[part]) for part in parts)


def _check_copies(levels: NDArray[Any], first: NDArray[np.int64]) -> None:
    """Refuse several perturbations of one image: it is recognised by its pixels and label, and can only get one."""
    copies = np.flatnonzero(first != np.arange(len(first)))
    differ = [row for row in copies if not np.array_equal(levels[row], levels[first[row]])]
    if differ:
        named = some_of([f"{row} ({first[row]})" for row in differ], NAMED)
        raise DataError(
            f"got other perturbations for {len(differ)} rows than for an earlier row with the same image and label: "
            f"{named}; expected the same, since images are recognised by them. Leave the copies out, with their "
            f"perturbations"
        )


def _array(values: Any, layout: Layout | None) -> NDArray[Any]:
    if type(values).__module__.startswith("torch"):
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values  # numpy has no such type
        values = values.detach().cpu().numpy()
    values = np.asanyarray(values)
    if values.dtype.kind not in "iuf" or values.ndim not in (3, 4) or not values.size:
        raise DataError(
            f"got perturbations as {values.dtype} {values.shape}; expected numbers, (N, height, width, channels) or "
            f"(N, channels, height, width)"
        )
    if not np.isfinite([values.min(), values.max()]).all():
        raise DataError("got perturbations that are not all finite numbers; expected NaN and infinity nowhere")
    if values.ndim == 4:
        return values
    return values[..., None] if layout == "nhwc" else values[:, None]


def _layout(shape: tuple[int, ...]) -> Layout:
    """By which axis has one or three entries."""
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        told = (
            f"{option('layout', 'nchw')} for (N, channels, height, width), {option('layout', 'nhwc')} for channels last"
        )
        raise RecipeError(
            f"got perturbations of shape {shape}, where {'both ends' if first else 'no end'} may be channels (1 or 3); "
            f"expected to be told: {told}"
        )
    return "nchw" if first else "nhwc"


def _per(count: int, images: int, classes: int) -> Per:
    if count not in (images, classes):
        raise DataError(
            f"got {count} perturbations; expected {images}, one for each image of the dataset, or {classes}, one for "
            f"each class"
        )
    if images == classes:
        told = f"{option('per', 'image')} or {option('per', 'class')}"
        raise RecipeError(f"got as many perturbations as images and as classes ({count}); expected to be told: {told}")
    return "image" if count == images else "class"


def _scale(values: NDArray[Any]) -> Scale:
    """Levels where values are whole or above 1; of images from 0 to 1 where nothing would be left of levels."""
    reach = max(float(values.max()), -float(values.min()))
    if values.dtype.kind in "iu" or reach > 1:
        return 255
    if reach < 0.5:
        return 1
    raise RecipeError(
        f"got perturbations of up to {reach:.3g}, which may be meant for images from 0 to 1 or from 0 to 255; expected "
        f"to be told: {option('scale', 1)} or {option('scale', 255)}"
    )


def _norms(levels: NDArray[np.float64], budget: Budget) -> NDArray[np.float64]:
    flat = levels.reshape(len(levels), -1)
    norms: NDArray[np.float64] = np.linalg.norm(flat, axis=1) if budget.norm == "l2" else np.abs(flat).max(axis=1)
    return norms
