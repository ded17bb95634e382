"""The protected sets of a comparison: fitted, fitted again where their images are gone, and looked at."""

from __future__ import annotations

import shutil

from accelerate import Accelerator
from datasets import Dataset

from hf_unlearnable.benchmark.cells import Elsewhere, Protected
from hf_unlearnable.benchmark.datasets import digest_of
from hf_unlearnable.benchmark.records import SetRecord
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.pairing import aligned_pairs
from hf_unlearnable.errors import BudgetError, DataError
from hf_unlearnable.protection.verification import Verification, compare
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.protecting import protect

AGAIN = ".again"  # behind the name of a folder, until its images are known to be the earlier ones


def fit(folder: RunFolder, one: Protected, train: Dataset, accelerator: Accelerator, progress: bool) -> None:
    """Fit and release; nothing to do for a set of elsewhere, or if that is finished; goes on with what was killed."""
    if isinstance(one.method, Elsewhere) or folder.is_complete:
        return
    protect(
        train,
        folder.root,
        method=one.method,
        budget=one.budget,
        image_column=one.data.image_column,
        label_column=one.data.label_column,
        image_files=False,
        checkpoint_every=60.0,
        accelerator=accelerator,
        progress=progress,
    )


def fit_again(
    folder: RunFolder, one: Protected, earlier: SetRecord, train: Dataset, accelerator: Accelerator, progress: bool
) -> None:
    """Fit a set whose images are gone, so that further cells can be trained on them; see that they are the same.

    Raises:
        DataError: others came of it, since another processor or version rounds otherwise. They are no part of the run.
    """
    again = RunFolder(folder.root.with_suffix(AGAIN))
    fit(again, one, train, accelerator, progress)
    if digest_released(one, again.dataset) != earlier.released:
        raise DataError(
            f"the images that finished cells were trained on are not in {str(folder)!r} any more, and the same fit "
            f"gives others here: another processor or version rounds otherwise (then: {earlier.machine}). Go on where "
            f"they are, name another output, or fit with another seed, such as {1 + (earlier.seed or 0)}, behind the "
            f"name {one.method.name} in the configuration"
        )
    shutil.rmtree(folder.root, ignore_errors=True)  # parts of a run
    again.root.rename(folder.root)


def digest_released(one: Protected, released: Dataset) -> str:
    """Of the pixels and labels of released images."""
    return digest_of(released, find_columns(released, one.data.image_column, one.data.label_column))


def verified(one: Protected, train: Dataset, released: Dataset) -> Verification:
    """Compare released images with their originals.

    Raises:
        DataError: they are not of the same rows.
        BudgetError: some leave the budget or have another alpha channel.
    """
    columns = find_columns(train, one.data.image_column, one.data.label_column)
    verification = compare(aligned_pairs(train, released, columns), one.budget)
    if not verification.ok:
        raise BudgetError(
            f"got, as {one.name}, {verification.faults} (the largest change is {verification.max_perturbation:g}); "
            f"expected none. Name the budget that they keep, and leave transparency as it is"
        )
    return verification
