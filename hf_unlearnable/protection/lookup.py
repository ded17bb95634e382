"""Which label an image was fitted with, and why an image may not be found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.data.columns import Classes
from hf_unlearnable.data.pixels import digest
from hf_unlearnable.errors import DataError, UnseenImageError, option
from hf_unlearnable.protection.store import Store


def fitted_label(store: Store, classes: Classes, pixels: NDArray[np.uint8]) -> int:
    """The class number that an image was fitted with.

    Args:
        store: of the perturbations.
        classes: of the labels.
        pixels: (C, H, W) of the image.

    Raises:
        DataError: several, with a perturbation each.
        UnseenImageError: none.
    """
    found = {label: store.find(digest(pixels, label)) for label in range(len(classes.names))}
    levels = {label: stored.tobytes() for label, stored in found.items() if stored is not None}
    if len(set(levels.values())) == 1:
        return next(iter(levels))
    if levels:
        raise DataError(
            f"got an image that was fitted with {len(levels)} labels: "
            f"{', '.join(classes.names[label] for label in levels)}; expected one. Say which: "
            f"protection.protect(image, label)"
        )
    raise UnseenImageError(
        f"{describe_image(pixels)} that is not among the {len(store)} that this protection was fitted to; expected the "
        f"same pixels. For another image of a known class: protection.protect(image, label). {why_unseen()}"
    )


def describe_image(pixels: NDArray[np.uint8], label: Any = None) -> str:
    """An image as the begin of a message."""
    named = "" if label is None else f"label {label}, "
    return f"got an image ({named}{pixels.shape[2]}x{pixels.shape[1]} pixels)"


def why_unseen(image: Any = None) -> str:
    """What to ask and to do where an image is not found.

    Args:
        image: as it was given: an array cannot tell all that a Pillow image does.
    """
    asked = (
        f"Was it fitted to another dataset or split, was the image re-encoded, resized or protected before, or the "
        f"label renumbered? Fit again with the images that you want to protect, or with "
        f"{option('on_unseen', 'craft', '--craft-unseen')}"
    )
    if image is None or isinstance(image, Image.Image):
        return asked
    return (
        f"{asked}. Or does the array not tell its colours (a palette, a colour profile, 16 bits)? Then use "
        f"dataset.with_format(None)"
    )
