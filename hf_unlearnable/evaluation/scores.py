"""The figures that every measurement shares, as plain functions."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_unlearnable.errors import DataError

LUCK = 0.025  # share of measurements in which models that only guess may pass for models that learned something

MOST_CLASSES = 1 << 15  # their table takes 8 GiB


@functools.cache
def guessing(chance: float, images: int, tries: int = 1) -> float:
    """How far models that only guess get by luck: an accuracy in [0, 1] that says nothing, and all below it.

    The smallest ``k / images`` that the best of ``tries`` guessing models passes with a probability of ``LUCK`` at most
    (binomial, by Bonferroni's bound): two standard deviations above chance for many images and one model.

    Args:
        chance: of naming the most frequent class always, in [0, 1].
        images: in the test set.
        tries: models of which the best is taken.
    """
    from scipy.special import bdtr  # here, so that a command that needs none of it starts quickly

    below = bdtr(np.arange(images + 1, dtype=np.float64), images, chance)  # P(at most k right)
    return float(np.argmax(below >= 1 - LUCK / tries)) / images


def protection_score(accuracy: float, baseline: float, chance: float, images: int, tries: int = 1) -> float:
    """(baseline - accuracy) / (baseline - chance): 1 when protected data teach nothing, 0 when they teach all.

    Args:
        accuracy: clean test accuracy after training on protected data, in [0, 1].
        baseline: the same after training on the clean data.
        chance: of naming the most frequent class always.
        images: in the test set.
        tries: as of ``guessing``.

    Returns:
        At most 1 but for accuracies below chance; negative where protected data teach more than clean ones. Not a
        number when the baseline is no better than ``guessing``: a share of what may be luck says nothing.
    """
    return (baseline - accuracy) / (baseline - chance) if baseline > guessing(chance, images, tries) else math.nan


def confusion(predictions: ArrayLike, references: ArrayLike, classes: int | None = None) -> NDArray[np.int64]:
    """Count how often each class was named for each class.

    Args:
        predictions: (N,) classes that were named.
        references: (N,) true classes.
        classes: K; one more than the largest that occurs when left out.

    Returns:
        (K, K) counts, one row for each true class. Matrices of disjoint parts of a set add up to that of the set.

    Raises:
        DataError: no rows, rows that do not belong together, or classes that are not whole numbers from 0 to K - 1.
    """
    named, true = np.asarray(predictions), np.asarray(references)
    if named.shape != true.shape or named.ndim != 1 or not len(named):
        raise DataError(
            f"got predictions of shape {named.shape} and references of shape {true.shape}; expected one class for each "
            f"of N > 0 images. Of logits (N, K) take argmax(axis=-1)"
        )
    if not (np.issubdtype(named.dtype, np.integer) and np.issubdtype(true.dtype, np.integer)):
        raise DataError(f"got classes as {named.dtype} and {true.dtype}; expected whole numbers")
    count = classes or int(max(named.max(), true.max())) + 1
    for what, values in (("predictions", named), ("references", true)):
        if values.min() < 0 or values.max() >= count:
            raise DataError(f"got {what} from {values.min()} to {values.max()}; expected classes from 0 to {count - 1}")
    if count > MOST_CLASSES:
        raise DataError(
            f"got classes up to {count - 1:,}; expected them to be numbered from 0, at most {MOST_CLASSES:,}"
        )
    return np.bincount(true * count + named, minlength=count**2).reshape(count, count).astype(np.int64)


def owner_figures(counts: NDArray[np.int64], owner: int) -> tuple[float, float, float]:
    """Recall and precision of one owner's class, and the accuracy on the images of all others, each in [0, 1].

    Args:
        counts: (K, K) as ``confusion`` gives them, with images of the owner and of others.
        owner: the number of the class.

    Returns:
        The precision is not a number where no image was named as the owner's.
    """
    own, named = counts[owner, owner], counts[:, owner].sum()
    rest = counts.sum() - counts[owner].sum()
    return (
        float(own / counts[owner].sum()),
        float(own / named) if named else math.nan,
        float((counts.trace() - own) / rest),
    )


def class_accuracies(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the images of each class, the share that was named right: (K,) in [0, 1], not a number where there are none.

    Args:
        counts: (K, K) as ``confusion`` gives them.
    """
    totals = counts.sum(axis=1)
    return np.where(totals > 0, counts.diagonal() / np.maximum(totals, 1), np.nan)
