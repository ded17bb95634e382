"""Comparing released images with their originals: budget, visibility, and what a downscale leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.pairing import Pair
from hf_unlearnable.data.pixels import resize, split_alpha
from hf_unlearnable.errors import DataError
from hf_unlearnable.protection.documents import check_keys, kinds_of

STRIP = 1 << 20  # pixels that are compared at once, so that a photograph does not take gigabytes

SSIM_STRIPS = 4  # of an image for its SSIM, the slowest part of comparing a photograph


@dataclass(frozen=True)
class Verification:
    """How far released images are from their originals.

    Attributes:
        images: compared.
        unchanged: of them, equal to their originals.
        violations: of them, outside the budget.
        alpha_changed: of them, with another alpha channel, or other colours where alpha is 0: none is expected.
        max_perturbation: largest norm of an image's change under the budget's norm, in levels.
        mean_perturbation: mean absolute change over all values of all images, in levels.
        psnr: mean peak signal-to-noise ratio of the changed images, in dB; None if there are none.
        ssim: mean structural similarity (Wang et al. 2004), 1 for equal images, over four even strips of a megapixel of
            images that have more; None for images under 3 pixels.
        surviving: of images larger than the resolution that the perturbation was optimised at, the mean absolute change
            that is left after both sides were downsized to it (bilinear, antialiased), as a share of the change before;
            None where nothing was resampled.
        budget: as text.
    """

    images: int
    unchanged: int
    violations: int
    alpha_changed: int
    max_perturbation: float
    mean_perturbation: float
    psnr: float | None
    ssim: float | None
    surviving: float | None
    budget: str

    def as_dict(self) -> dict[str, Any]:
        """Names and values."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Verification:
        """The inverse of ``as_dict``.

        Raises:
            DataError: a key that is missing or not known, or a value of another kind.
        """
        kinds = kinds_of(cls)
        check_keys(stored, kinds, (), "a verification", kinds)
        return cls(**stored)

    def __str__(self) -> str:
        psnr = "-" if self.psnr is None else f"{self.psnr:.1f} dB"
        ssim = "-" if self.ssim is None else f"{self.ssim:.3f}"
        alpha = f"{self.alpha_changed} with a changed alpha channel; " if self.alpha_changed else ""
        left = "" if self.surviving is None else f"; {100 * self.surviving:.0f} % of it left at the surrogate's size"
        return (
            f"{self.images} images, {self.unchanged} unchanged, {self.violations} outside the budget {self.budget}; "
            f"{alpha}largest perturbation {self.max_perturbation:g} levels, mean {self.mean_perturbation:.2f}{left}; "
            f"PSNR {psnr}, SSIM {ssim}"
        )


def compare(pairs: Iterable[Pair], budget: Budget, resolution: tuple[int, int] | None = None) -> Verification:
    """Measure pairs of (original, released) images, each (C, H, W) uint8 as ``to_array`` gives them.

    Args:
        pairs: read one after the other.
        budget: that the released images are to keep.
        resolution: (height, width) that the perturbations were optimised at, for ``surviving``.

    Raises:
        DataError: a pair of different sizes or modes, or no pair at all.
    """
    norms: list[float] = []
    means: list[float] = []
    psnrs: list[float] = []
    ssims: list[float] = []
    shares: list[float] = []
    alpha_changed = 0
    for index, (original, released) in enumerate(pairs):
        if original.shape != released.shape:
            raise DataError(f"row {index}: got a released image of {released.shape}; expected {original.shape}")
        (original, before), (released, after) = split_alpha(original), split_alpha(released)
        if before is not None and after is not None:
            invisible = before == 0
            same = np.array_equal(before, after) and np.array_equal(original[:, invisible], released[:, invisible])
            alpha_changed += not same
        norms.append(float(budget.measure(original[None], released[None])[0]))
        mean, square, similarity = _differences(original, released)
        means.append(mean)
        if square > 0:
            psnrs.append(10 * math.log10(WHITE**2 / square))
        if similarity is not None:
            ssims.append(similarity)
        if resolution is not None and mean > 0 and math.prod(resolution) < math.prod(original.shape[1:]):
            small = [resize(side, *resolution).astype(np.int16) for side in (original, released)]
            shares.append(float(np.abs(small[1] - small[0]).mean()) / mean)
    if not norms:
        raise DataError("got no images to compare; expected at least one")
    return Verification(
        images=len(norms),
        unchanged=norms.count(0.0),
        violations=sum(norm > budget.radius for norm in norms),
        alpha_changed=alpha_changed,
        max_perturbation=max(norms),
        mean_perturbation=float(np.mean(means)),
        psnr=float(np.mean(psnrs)) if psnrs else None,
        ssim=float(np.mean(ssims)) if ssims else None,
        surviving=float(np.mean(shares)) if shares else None,
        budget=str(budget),
    )


def _differences(original: NDArray[np.uint8], released: NDArray[np.uint8]) -> tuple[float, float, float | None]:
    """Mean absolute and mean squared change in levels, and SSIM: strip by strip the same as over the whole image."""
    height, width = original.shape[1:]
    window = min(7, *(side - 1 + side % 2 for side in (height, width)))
    lines = max(window, STRIP // width)
    total = squares = similarity = 0.0
    windows = 0
    tops = range(0, height, lines)
    for index, top in enumerate(tops):
        strip = slice(top, min(top + lines, height))
        change = released[:, strip].astype(np.int16) - original[:, strip]
        total += float(np.abs(change).sum())
        squares += float(np.square(change, dtype=np.float64).sum())
        if index % math.ceil(len(tops) / SSIM_STRIPS):
            continue
        # The windows that start in this strip; skimage leaves out those that reach over the border of what it is given.
        reach = slice(top, min(top + lines + window - 1, height))
        starts = reach.stop - top - window + 1
        if window >= 3 and starts > 0:
            sides = (original[:, reach], released[:, reach])
            part = structural_similarity(*sides, channel_axis=0, data_range=WHITE, win_size=window)
            similarity += float(part) * starts
            windows += starts
    return total / original.size, squares / original.size, similarity / windows if windows else None
