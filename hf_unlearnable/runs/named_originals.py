"""Originals that are opened again: whether they are those of the protected images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datasets import Dataset

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pairing import naming, sampled_pairs
from hf_unlearnable.data.pixels import split_alpha
from hf_unlearnable.errors import DataError, option, worded


def check_originals(
    originals: Dataset,
    protected: Dataset,
    columns: Columns,
    budget: Budget | None = None,
    *,
    named: bool = True,
) -> None:
    """Refuse images that are not the originals of the protected ones, as far as a sample tells.

    Args:
        originals: as they were named, or found where they were when they were protected.
        protected: the images that they belong to.
        columns: of both.
        budget: of these: how far they are from their originals; None where it is not known.
        named: whether somebody named them. Then a few may be farther away than the budget: the protected set may be
            damaged, which ``verify`` tells. Those of a run keep it, unless their folder has changed since.

    Raises:
        DataError: other rows, labels or sizes, or other images.
    """
    budget = budget or Budget(WHITE)
    looked = far = 0
    with naming("clean") if named else those_of_a_run():
        if len(originals) != len(protected):
            raise DataError(f"got {len(originals)} originals; expected {len(protected)}, as many as protected")
        for pair in sampled_pairs(originals, protected, columns):
            (before, _), (after, _) = map(split_alpha, pair)
            looked, far = looked + 1, far + (not budget.contains(before[None], after[None])[0])
        if far > (looked / 2 if named else 0):
            raise DataError(
                f"{far} of {looked} images that were looked at are farther from the protected image of their row than "
                f"the budget {budget}; expected what was protected: the same rows in the same order"
            )


@contextmanager
def those_of_a_run() -> Iterator[None]:
    """Say what to do where the originals of a run are no longer those that were protected."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"the originals are no longer those that were protected ({error}). Were images added, removed, renamed or "
            f"edited since? Put them back as they were, or name a copy of them with {option('clean', 'DATASET')}. "
            f"Images that came later are protected by {worded(python='runs.protect_like', shell='protect --like RUN')}"
        ) from error
