"""What is named beside a run: originals, which must be those of what is protected, and what it knows itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from datasets import Dataset, DatasetDict

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Columns, with_image_column
from hf_unlearnable.data.pairing import naming, sampled_pairs
from hf_unlearnable.data.pixels import split_alpha
from hf_unlearnable.data.sources import name_of
from hf_unlearnable.errors import DataError, blank, worded
from hf_unlearnable.files import local_path
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.settings import IN_MEMORY, refuse_ignored

TWICE = "another change on top of that one would be outside the budget"


def open_originals(
    run: RunFolder,
    clean: Dataset | str | PathLike[str] | None,
    split: str | None,
    protected: Dataset,
    columns: Columns | None,
    budget: Budget | None = None,
) -> Dataset:
    """Open the originals of protected images, and refuse others.

    Args:
        run: of the protected images; of another tool's nobody knows more than is named.
        clean: the originals, or where they are; where the run has them from when left out.
        split: of them; what was protected when left out.
        protected: the images that they belong to.
        columns: of these; None where nobody knows them: then only the number of the images is compared.
        budget: of these; None where it is not known.

    Returns:
        The originals, whose column of images is called as that of the protected images.

    Raises:
        SourceError: nothing there, or nobody wrote down where they are.
        DataError: there, but not readable; protected themselves; or not those of the protected images, as far as a
            sample tells.
        RecipeError: a split that would be ignored.
    """
    if isinstance(clean, Dataset):
        refuse_ignored(IN_MEMORY, clean_split=split)
    if clean is None and run.origin is None:
        refuse_ignored("and no originals of which it is the split", clean_split=split)
    check_clean(clean, split)
    originals = clean if isinstance(clean, Dataset) else run.originals(clean, split)
    named = clean is not None or split is not None
    if columns is None:
        with naming("clean"):
            _check_count(originals, protected)
        return originals
    if named:
        with naming("clean"):
            originals = with_image_column(originals, columns.image)
    check_originals(originals, protected, columns, budget, named=named)
    return originals


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
        _check_count(originals, protected)
        for pair in sampled_pairs(originals, protected, columns):
            (before, _), (after, _) = map(split_alpha, pair)
            looked, far = looked + 1, far + (not budget.contains(before[None], after[None])[0])
        if far > (looked / 2 if named else 0):
            raise DataError(
                f"{far} of {looked} images that were looked at are farther from the protected image of their row than "
                f"the budget {budget}; expected what was protected: the same rows in the same order"
            )


def _check_count(originals: Dataset, protected: Dataset) -> None:
    if len(originals) != len(protected):
        raise DataError(f"got {len(originals)} originals; expected {len(protected)}, as many as protected")


def refuse_others_than_its_own(
    protection: Protection,
    image_column: str | None,
    label_column: str | None,
    budget: Budget | str | float | None = None,
) -> None:
    """Refuse columns, or a budget, that are named beside a run which knows its own.

    Raises:
        RecipeError: they are others, and would be ignored.
    """
    own, kept_to = protection.columns, protection.budget
    refuse_ignored(
        f"and a run of the columns {own.image} and {own.label} under the budget {kept_to}",
        budget=None if budget is None or Budget.parse(budget) == kept_to else budget,
        image_column=image_column if image_column != own.image else None,
        label_column=label_column if label_column != own.label else None,
    )


@contextmanager
def those_of_a_run() -> Iterator[None]:
    """Say what to do where the originals of a run are no longer those that were protected.

    Raises:
        DataError: the block raised it.
    """
    try:
        yield
    except DataError as error:
        raise DataError(
            f"the originals are no longer those that were protected ({error}). Were images added, removed, renamed or "
            f"edited since? Put them back as they were, or name a copy of them with {blank('clean', 'DATASET')}. "
            f"Images that came later are protected by {worded(python='runs.protect_like', shell='protect --like RUN')}"
        ) from error


def check_not_protected(
    dataset: Dataset | DatasetDict | str | PathLike[str], split: str | None = None, why: str = TWICE
) -> None:
    """Refuse images that an earlier ``protect`` wrote, as long as its private folder lies beside them.

    A second change on top of the first would be within the budget of the protected images, and twice as far from the
    originals. Splits that were kept clean, and images that were held out, are none of these.

    Args:
        dataset: the images, or where they are.
        split: of it, where one is named.
        why: originals are expected.

    Raises:
        DataError: they are, or lie in, the folder of a run.
    """
    if isinstance(dataset, (Dataset, DatasetDict)):
        parts = dataset.values() if isinstance(dataset, DatasetDict) else [dataset]
        places = [Path(file["filename"]) for part in parts for file in part.cache_files]
    else:
        places = [local_path(name_of(dataset))]
    for place in (place.resolve() for place in places if place.exists()):
        for run in (RunFolder(folder) for folder in (place, *place.parents) if folder.name):  # without the root
            if run.is_complete and _is_protected(place, run) and split not in run.clean_splits:
                origin = run.origin
                named = f" ({origin.dataset})" if origin else ""
                raise DataError(
                    f"got the images in {str(place)!r}, which an earlier protect wrote; expected originals: {why}. "
                    f"Name the originals{named}"
                )


def _is_protected(place: Path, run: RunFolder) -> bool:
    if any(place.is_relative_to(run.published / name) for name in run.clean_splits):
        return False
    parts = (run.published, run.images, run.images_jpeg)
    return place == run.root or any(place.is_relative_to(part) for part in parts)


def check_clean(clean: Dataset | str | PathLike[str] | None, split: str | None = None) -> None:
    """Refuse images that ``protect`` wrote where clean ones are named to compare with: nothing would seem changed.

    Raises:
        DataError: as ``check_not_protected`` does.
    """
    if clean is not None:
        check_not_protected(clean, split, "what is protected is compared with clean images")
