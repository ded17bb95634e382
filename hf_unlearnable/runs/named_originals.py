"""Originals that somebody names: whether they are those of the protected images."""

from __future__ import annotations

from datasets import Dataset

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pairing import naming, sampled_pairs
from hf_unlearnable.errors import DataError
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.verification import compare


def check_originals(
    originals: Dataset, protected: Dataset, columns: Columns, protection: Protection | None = None
) -> None:
    """Refuse images that are not the originals of the protected ones, as far as a sample tells.

    Args:
        originals: as they were named.
        protected: the images that they belong to.
        columns: of both.
        protection: of these, whose budget says how far they are from their originals; None where it is not known.

    Raises:
        DataError: other rows, labels or sizes, or other images: most are farther away than the budget. A few may be,
            where the protected set was damaged, which ``verify`` tells.
    """
    budget = Budget(WHITE) if protection is None else protection.budget
    size = None if protection is None else protection.description.image_shape[1:]
    with naming("clean"):
        found = compare(sampled_pairs(originals, protected, columns), budget, size)
        if found.violations > found.images / 2:
            raise DataError(
                f"{found.violations} of {found.images} images that were looked at are farther from the protected image "
                f"of their row than the budget {budget}; expected what was protected: the same rows in the same order"
            )
