"""What the perturbations of a class share: enough to protect images that ``fit`` has not seen.

A fresh model learns first what all images of a class share, and the default recipes end with perturbations that are
hardly anything else (0.94 of their energy on Fashion-MNIST). An unseen image gets the pattern of its class. Sign steps
against the frozen surrogate from there on made it worse: 38 % accuracy of a victim without, 46 % with four small and
56 % with five large ones (1,500 crafted images of Fashion-MNIST, one victim each; the same images fitted 33 %, clean
77 %). The surrogate knows the pattern already, and steps of single images trade what is shared for what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.pixels import conversion, digest
from hf_unlearnable.errors import (
    DataError,
    DataWarning,
    RecipeError,
    SourceError,
    UnseenImageError,
    first_line,
    option,
    warn,
    worded,
)
from hf_unlearnable.files import file_digest, known_digest

if TYPE_CHECKING:
    import torch


FILE = "patterns.safetensors"

MIN_SHARED = 0.5

CHUNK = 256  # perturbations that are brought into memory at once


def class_patterns(
    perturbations: torch.Tensor,
    labels: NDArray[np.int64],
    classes: int,
    total: Callable[[torch.Tensor], torch.Tensor] = lambda own: own,
    device: torch.device | str = "cpu",
) -> tuple[torch.Tensor, float]:
    """The mean perturbation of every class, and how much of single perturbations it is.

    Args:
        perturbations: (N, C, H, W), on disk or in memory.
        labels: (N,), two or more of each class that occurs.
        classes: K.
        total: adds up what several processes, each with rows of its own, found, as tensors on ``device``.
        device: see there.

    Returns:
        (K, C, H, W), zeros for a class that does not occur; and the mean inner product of two perturbations of one
        class as a share of their mean square: 1 where they are all the same, about 0 where they are independent.
    """
    import torch  # here, so that a process that only protects does not load it

    sums = torch.zeros(classes, *perturbations.shape[1:], dtype=torch.float64)
    squares = torch.zeros(classes, dtype=torch.float64)
    for start in range(0, len(labels), CHUNK):
        part = perturbations[start : start + CHUNK].cpu().double()
        rows = torch.from_numpy(labels[start : start + CHUNK])
        sums.index_add_(0, rows, part)
        squares.index_add_(0, rows, part.square().flatten(1).sum(dim=1))
    counts = torch.from_numpy(np.bincount(labels, minlength=classes))
    sums, squares, counts = (total(one.to(device)).cpu() for one in (sums, squares, counts))
    pairs = (sums.square().flatten(1).sum(dim=1) - squares) / (counts - 1).clamp_min(1)
    shared = float(pairs.sum() / squares.sum().clamp_min(1e-30))
    return (sums / counts.clamp_min(1).view(-1, 1, 1, 1)).float(), shared


def write_patterns(folder: Path, patterns: torch.Tensor, shared: float, budget: Budget) -> str:
    """Store the patterns in whole levels.

    Args:
        folder: where to.
        patterns: (K, S, C, H, W), S variants for each class.
        shared: how much of single perturbations they are, as ``class_patterns`` tells it.
        budget: that they keep.

    Returns:
        A digest of the file.

    Raises:
        RecipeError: the perturbations of a class share too little for their mean to protect anything.
    """
    if shared < MIN_SHARED:
        raise RecipeError(
            f"got {option('on_unseen', 'craft', '--craft-unseen')} for perturbations that share {100 * shared:.0f} % "
            f"of their energy with those of their class; expected at least {100 * MIN_SHARED:.0f} %, since an unseen "
            f"image gets what they share. Use a method that fits class patterns "
            + worded(python="(MIUE or EM with pattern_share > 0)", shell="(--method mi-ue, or em)")
            + ", more epochs, or fit all images"
        )
    several = patterns.flatten(0, 1)
    grey = np.full(several.shape, 128, dtype=np.uint8)  # far from black and white: clipped for each image later
    whole = replace(budget, visibility="uniform")  # grey is smooth everywhere, which says nothing of images to come
    levels = whole.quantise(several, grey)
    save_file({"levels": levels if patterns.shape[1] == 1 else levels.reshape(patterns.shape)}, folder / FILE)
    return file_digest(folder / FILE)


def check_patterns(folder: Path, digest: str) -> None:
    """Look whether the patterns are as ``write_patterns`` stored them.

    Raises:
        SourceError: they are missing or not the same any more.
    """
    try:
        found = known_digest(folder / FILE)
    except OSError as error:
        raise SourceError(
            f"the protection in {str(folder)!r} lacks {FILE} ({first_line(error)}); restore it from a copy"
        ) from error
    if found != digest:
        raise SourceError(f"{FILE} in {str(folder)!r} is damaged; restore it from a copy, or fit again")


def read_patterns(folder: Path, digest: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The patterns in levels that ``write_patterns`` stored, (K, S, C, H, W).

    Args:
        folder: where they are.
        digest: of the file.
        shape: (K, C, H, W).

    Raises:
        SourceError: they are missing, not the same any more, or of another shape.
    """
    check_patterns(folder, digest)
    patterns: NDArray[Any] = load_file(folder / FILE)["levels"]
    patterns = patterns[:, None] if patterns.ndim == len(shape) else patterns
    if patterns.shape[:1] + patterns.shape[2:] != shape or not patterns.shape[1]:
        raise SourceError(f"got patterns of {patterns.shape} in {str(folder / FILE)!r}; expected {shape}. Fit again")
    return patterns


def pattern_for(
    image: Any, pixels: NDArray[np.uint8], label: int, patterns: NDArray[Any], names: Sequence[str]
) -> NDArray[Any]:
    """The pattern that an image gets which ``fit`` has not seen: of the variants of its class always the same one.

    Args:
        image: a Pillow image.
        pixels: its (C, H, W).
        label: the number of its class.
        patterns: (K, S, C, H, W).
        names: of the classes.

    Raises:
        DataError: an array instead of an image.
        UnseenImageError: ``fit`` saw no image of the class.

    Warns:
        DataWarning: an image that is converted.
    """
    if not isinstance(image, Image.Image):
        # with_format("numpy") hands out palette images as their indices: nobody could tell them from greyscale.
        raise DataError("got an unseen image as an array; expected a Pillow image. Use dataset.with_format(None)")
    if change := conversion(image):
        warn(
            f"an image that cannot be released in its mode, depth or colour profile is converted: {change}",
            DataWarning,
        )
    variants = patterns[label]
    pattern: NDArray[Any] = variants[digest(pixels, label)[0] % len(variants)]
    if not pattern.any():
        raise UnseenImageError(
            f"got an unseen image of the class {names[label]!r}, of which fit saw no image; expected a class that it "
            f"saw. Fit again with images of it"
        )
    return pattern
