"""How much of a perturbation is left in images that were compressed or resampled after their release."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hf_unlearnable.data.pixels import split_alpha


class Remaining:
    """Counts, image by image, how much of a change is still there.

    The share is that of the change's own direction: with the change d of a released image and the difference e between
    what was made of it and the original, the sum of e·d over that of d·d. What compression adds on its own points
    anywhere, so that it counts neither as change nor against it; the mean absolute difference, which grows with every
    artefact, would call a ruined perturbation whole.
    """

    def __init__(self) -> None:
        self._kept = self._whole = 0.0

    def add(self, original: NDArray[np.uint8], released: NDArray[np.uint8], later: NDArray[np.uint8]) -> None:
        """Count one image: three arrays (C, H, W) of one size; alpha is left out, and grey compares with grey."""
        first, second, third = (split_alpha(side)[0].astype(np.float64) for side in (original, released, later))
        change = second - first
        self._kept += float(((third - first) * change).sum())
        self._whole += float(np.square(change).sum())

    @property
    def share(self) -> float | None:
        """1 where all is left, 0 where nothing is, over all images together; None where none was changed."""
        return self._kept / self._whole if self._whole else None
