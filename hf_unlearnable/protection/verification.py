"""Comparing released images with their originals: budget, visibility, and what a downscale leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.pairing import Pair
from hf_unlearnable.data.pixels import resize, split_alpha
from hf_unlearnable.errors import DataError, number_of
from hf_unlearnable.protection.documents import check_keys, kinds_of
from hf_unlearnable.protection.visibility import colour_differences

STRIP = 1 << 20  # pixels that are compared at once, so that a photograph does not take gigabytes
SMALL = 1 << 13  # pixels of small images whose colours are compared at once: more leave the processor's caches


@dataclass(frozen=True)
class Verification:
    """How far released images are from their originals.

    Attributes:
        images: compared.
        unchanged: of them, equal to their originals.
        violations: of them, outside the budget.
        alpha_changed: of them, with another alpha channel: none is expected.
        max_perturbation: largest norm of an image's change under the budget's norm, in levels.
        mean_perturbation: mean absolute change over all values of all images, in levels.
        psnr: mean peak signal-to-noise ratio of the changed images, in dB; None if there are none.
        surviving: of images larger than the resolution that the perturbation was optimised at, the mean absolute change
            that is left after both sides were downsized to it (bilinear, antialiased), as a share of the change before;
            None where nothing was resampled.
        budget: as text.
        delta_e: mean of ``colour_differences``, 0 for equal images; None in what an earlier version wrote, which had
            the structural similarity instead. That falls with the fineness of a pattern: it called the coarsest
            blotches the least visible.
    """

    images: int
    unchanged: int
    violations: int
    alpha_changed: int
    max_perturbation: float
    mean_perturbation: float
    psnr: float | None
    surviving: float | None
    budget: str
    delta_e: float | None = None

    @property
    def ok(self) -> bool:
        """Whether all images keep the budget and their alpha channel; a verification itself is always true."""
        return not self.violations and not self.alpha_changed

    @property
    def faults(self) -> str:
        """How many images do not keep one or the other, in words; empty where all do."""
        counts = {
            f"outside the budget {self.budget}": self.violations,
            "with a changed alpha channel": self.alpha_changed,
        }
        images = f"of {number_of(self.images, 'image')}"
        return " and ".join(f"{count} {images} {fault}" for fault, count in counts.items() if count)

    def check_read_back(self) -> None:
        """Refuse images that were just written and came back as others.

        Raises:
            DataError: some do not keep the budget or their alpha channel.
        """
        if not self.ok:
            raise DataError(
                f"got {self.faults} when the protected images were read back; expected none. Is the disk sound?"
            )

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
        own = {name: value for name, value in stored.items() if name != "ssim"}
        check_keys(own, kinds.keys() - {"delta_e"}, ("delta_e",), "a verification", kinds)
        return cls(**own)

    def __str__(self) -> str:
        psnr = "-" if self.psnr is None else f"{self.psnr:.1f} dB"
        seen = "-" if self.delta_e is None else f"{self.delta_e:.2f}"
        alpha = f"{self.alpha_changed} with a changed alpha channel; " if self.alpha_changed else ""
        left = "" if self.surviving is None else f"; {100 * self.surviving:.0f} % of it left at the surrogate's size"
        return (
            f"{number_of(self.images, 'image')}, {self.unchanged} unchanged, {self.violations} outside the budget "
            f"{self.budget}; {alpha}largest perturbation {self.max_perturbation:g} levels, mean "
            f"{self.mean_perturbation:.2f}{left}; PSNR {psnr}, colour difference {seen}"
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
    seen: list[float] = []
    waiting: list[Pair] = []
    shares: list[float] = []
    alpha_changed = violations = 0
    for index, (original, released) in enumerate(pairs):
        if original.shape != released.shape:
            raise DataError(f"row {index}: got a released image of {released.shape}; expected {original.shape}")
        (original, before), (released, after) = split_alpha(original), split_alpha(released)
        if before is not None and after is not None:
            alpha_changed += not np.array_equal(before, after)
        norms.append(float(budget.measure(original[None], released[None])[0]))
        violations += not budget.contains(original[None], released[None])[0]
        mean, square = _differences(original, released)
        means.append(mean)
        if square > 0:
            psnrs.append(10 * math.log10(WHITE**2 / square))
        waiting.append((original, released))
        if sum(one[0].size for one, _ in waiting) >= SMALL:
            seen += colour_differences(waiting)
            waiting = []
        if resolution is not None and mean > 0 and math.prod(resolution) < math.prod(original.shape[1:]):
            small = [resize(side, *resolution).astype(np.int16) for side in (original, released)]
            shares.append(float(np.abs(small[1] - small[0]).mean()) / mean)
    if not norms:
        raise DataError("got no images to compare; expected at least one")
    if waiting:
        seen += colour_differences(waiting)
    return Verification(
        images=len(norms),
        unchanged=norms.count(0.0),
        violations=violations,
        alpha_changed=alpha_changed,
        max_perturbation=max(norms),
        mean_perturbation=float(np.mean(means)),
        psnr=float(np.mean(psnrs)) if psnrs else None,
        surviving=float(np.mean(shares)) if shares else None,
        budget=str(budget),
        delta_e=float(np.mean(seen)),
    )


def _differences(original: NDArray[np.uint8], released: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean absolute and mean squared change in levels."""
    total = squares = 0.0
    lines = max(1, STRIP // original.shape[2])
    for top in range(0, original.shape[1], lines):
        strip = slice(top, top + lines)
        change = released[:, strip].astype(np.int16) - original[:, strip]
        total += float(np.abs(change).sum())
        squares += float(np.square(change, dtype=np.float64).sum())
    return total / original.size, squares / original.size
