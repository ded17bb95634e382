"""What somebody finds out who has the released images alone: the change itself, and that there is one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Defence, unit_chunks
from hf_unlearnable.errors import DataError

# Countermeasures that estimate the change of every image and take it out; ``measure`` trains models on the result.
ESTIMATORS = (
    "class-mean",
    "spectral-peak",
    "principal-directions",
    "class-clusters:1",
    "class-clusters:2",
    "pattern-subtraction",
    "orthogonal-projection",
)

BLOCK = 8  # pixels a side of the blocks whose cosine transforms the probe looks at
FOLDS = 5
SEED = 0  # of the folds
RIDGE = 1.0  # penalty of the probe, whose inputs have unit variance


@dataclass(frozen=True)
class Removal:
    """How much of the change of a set an estimator takes out.

    With d the change of an image and e what the estimator takes out of it, summed over all images:

    Attributes:
        estimator: its name.
        removed: 1 - |d - e|^2 / |d|^2; negative where it does more harm than good, since it takes image content too.
        at_best: <d, e>^2 / (|d|^2 |e|^2): the same where a thief guesses the one strength that suits all images best.
    """

    estimator: str
    removed: float
    at_best: float


def removal(released: ImageSet, originals: ImageSet, estimator: str) -> Removal:
    """Fit an estimator to released images and their labels, and compare what it takes out with what was added.

    Args:
        released: N images.
        originals: the same rows, of the same shape.
        estimator: one of ``ESTIMATORS``, or another ``Defence`` with a ``correction``.

    Raises:
        DataError: no image was changed.
    """
    correct = Defence.parse(estimator).correction(released)
    assert correct is not None
    change = taken = both = 0.0
    for (after, labels), (before, _) in zip(unit_chunks(released, 256), unit_chunks(originals, 256), strict=True):
        added, found = (after - before).double(), (after - correct(after, labels)).double()
        change += float(added.square().sum())
        taken += float(found.square().sum())
        both += float((added * found).sum())
    if not change:
        raise DataError("got released images that are equal to their originals; expected a change to estimate")
    return Removal(estimator, (2 * both - taken) / change, both**2 / (change * taken) if taken else 0.0)


def probe_accuracy(some: ImageSet, others: ImageSet) -> float:
    """The accuracy of a linear probe that tells two sets of images apart, cross-validated; 0.5 is chance.

    It sees the logarithm of the mean power of every frequency of the cosine transform of blocks of 8x8 pixels, which
    is where steganalysis looks: 64 numbers a channel. The classifier is a ridge regression on -1 and 1.

    Args:
        some: images of the one kind; as many of each are taken.
        others: of the other, of the same shape.

    Raises:
        DataError: fewer than ``FOLDS`` images of one kind.
    """
    count = min(len(some), len(others))
    if count < FOLDS:
        raise DataError(f"got {count} images of one kind; expected at least {FOLDS}")
    rng = np.random.default_rng(SEED)
    sides = [side.pixels[rng.permutation(len(side))[:count]] for side in (some, others)]
    inputs = np.concatenate([_block_powers(pixels) for pixels in sides])
    targets = np.repeat([-1.0, 1.0], count)
    fold = np.tile(np.arange(count) % FOLDS, 2)  # both kinds are equally frequent in every fold
    right = 0
    for left_out in range(FOLDS):
        known, asked = fold != left_out, fold == left_out
        mean, spread = inputs[known].mean(axis=0), inputs[known].std(axis=0) + 1e-6
        seen, new = (inputs[known] - mean) / spread, (inputs[asked] - mean) / spread
        weights = np.linalg.solve(seen.T @ seen + RIDGE * np.eye(seen.shape[1]), seen.T @ targets[known])
        right += int((np.sign(new @ weights) == targets[asked]).sum())
    return right / (2 * count)


def _block_powers(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, C * 64) logarithms of the mean power of every frequency in the blocks of (N, C, H, W) images."""
    count, channels, height, width = pixels.shape
    rows, columns = height // BLOCK, width // BLOCK
    powers = np.empty((count, channels * BLOCK * BLOCK))
    for index, image in enumerate(pixels):
        cut = image[:, : rows * BLOCK, : columns * BLOCK].astype(np.float64)
        blocks = cut.reshape(channels, rows, BLOCK, columns, BLOCK)
        found = np.square(dctn(blocks, axes=(2, 4), norm="ortho")).mean(axis=(1, 3))
        powers[index] = np.log(found + 1).reshape(-1)  # one level squared: what rounding leaves
    return powers
