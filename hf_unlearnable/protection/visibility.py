"""How visible a change is to people who look at the whole picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from hf_unlearnable.budget import VIEW
from hf_unlearnable.data.pairing import Pair

OCTAVES = 5  # at which two pictures are compared: every pixel of the view, and means over 2, 4, 8 and 16 a side
MIN_SIDE = 8  # pixels: means over more leave no picture


def colour_differences(pairs: Sequence[Pair]) -> list[float]:
    """The mean colour difference CIEDE2000 of each pair over several scales, from fine grain to blotches.

    Both pictures are averaged down to about ``VIEW`` pixels a side, as they are looked at, and further by halves. The
    result is the mean over all these scales: grain vanishes on the coarse ones, as it does for the eye, and blotches
    stay. 0 for equal pictures; a change of the whole picture by 1 is just about seen where both lie side by side.
    Sharma, Wu and Dalal (2005), Color Research & Application 30(1), as scikit-image computes it, for sRGB.

    Args:
        pairs: at least one, of pictures (C, H, W) uint8, C 1 or 3. All are computed at once: colours are converted one
            by one, and of small pictures the calls are most of the time.
    """
    kept = [_factors(original) for original, _ in pairs]
    before, after = (
        [_colours(pair[side], factor) for pair, factors in zip(pairs, kept, strict=True) for factor in factors]
        for side in (0, 1)
    )
    differences = deltaE_ciede2000(rgb2lab(np.concatenate(before)), rgb2lab(np.concatenate(after)))
    scales = iter(np.split(differences, np.cumsum([len(scale) for scale in before])[:-1]))
    return [float(np.mean([next(scales).mean() for _ in factors])) for factors in kept]


def _factors(picture: NDArray[np.uint8]) -> list[int]:
    """How many pixels a side become one, at each scale."""
    least = max(1, round(max(picture.shape[1:]) / VIEW))
    factors = [least * 2**octave for octave in range(OCTAVES)]
    return [one for one in factors if min(picture.shape[1:]) >= MIN_SIDE * one] or factors[:1]


def _colours(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Means of ``factor`` x ``factor`` pixels, one a row: (N, 3)."""
    planes = [np.asarray(Image.fromarray(plane).reduce(factor)).ravel() for plane in picture]
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=-1)
