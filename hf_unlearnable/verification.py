"""Comparing released images with their originals: budget and visibility."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.errors import DataError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class Verification:
    """How far released images are from their originals.

    Attributes:
        images: compared.
        unchanged: of them, equal to their originals.
        violations: of them, outside the budget.
        max_perturbation: largest norm of an image's change under the budget's norm, in levels.
        mean_perturbation: mean absolute change over all values of all images, in levels.
        psnr: mean peak signal-to-noise ratio of the changed images, in dB; None if there are none.
        ssim: mean structural similarity (Wang et al. 2004), 1 for equal images; None for images under 3 pixels.
        budget: as text.
    """

    images: int
    unchanged: int
    violations: int
    max_perturbation: float
    mean_perturbation: float
    psnr: float | None
    ssim: float | None
    budget: str

    def as_dict(self) -> dict[str, Any]:
        """Names and values."""
        return asdict(self)

    def __str__(self) -> str:
        psnr = "-" if self.psnr is None else f"{self.psnr:.1f} dB"
        ssim = "-" if self.ssim is None else f"{self.ssim:.3f}"
        return (
            f"{self.images} images, {self.unchanged} unchanged, {self.violations} outside the budget {self.budget}; "
            f"largest perturbation {self.max_perturbation:g} levels, mean {self.mean_perturbation:.2f}; "
            f"PSNR {psnr}, SSIM {ssim}"
        )


def compare(pairs: Iterable[Pair], budget: Budget) -> Verification:
    """Measure pairs of (original, released) images, each (C, H, W) uint8.

    Raises:
        DataError: a pair of different sizes, or no pair at all.
    """
    norms: list[float] = []
    means: list[float] = []
    psnrs: list[float] = []
    ssims: list[float] = []
    for index, (original, released) in enumerate(pairs):
        if original.shape != released.shape:
            raise DataError(f"row {index}: got a released image of {released.shape}; expected {original.shape}")
        norms.append(float(budget.measure(original[None], released[None])[0]))
        means.append(float(np.abs(released.astype(np.int16) - original).mean()))
        if norms[-1] > 0:
            psnrs.append(float(peak_signal_noise_ratio(original, released, data_range=WHITE)))
        window = min(7, *(side - 1 + side % 2 for side in original.shape[1:]))
        if window >= 3:
            ssims.append(
                float(structural_similarity(original, released, channel_axis=0, data_range=WHITE, win_size=window))
            )
    if not norms:
        raise DataError("got no images to compare; expected at least one")
    return Verification(
        images=len(norms),
        unchanged=norms.count(0.0),
        violations=sum(norm > budget.radius for norm in norms),
        max_perturbation=max(norms),
        mean_perturbation=float(np.mean(means)),
        psnr=float(np.mean(psnrs)) if psnrs else None,
        ssim=float(np.mean(ssims)) if ssims else None,
        budget=str(budget),
    )
