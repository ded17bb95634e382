"""Pull a dataset from the Hub and check what is published there."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from huggingface_hub import HfFileSystem

from hf_unlearnable.data.pairing import aligned_pairs
from hf_unlearnable.data.sources import ALL
from hf_unlearnable.errors import DataError, RecipeError, SourceError
from hf_unlearnable.files import atomic_folder
from hf_unlearnable.hub.retry import CAUGHT, Retry, explain, is_transient
from hf_unlearnable.protection.clean_split import same_images
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.image_files import check_images


def pull(
    repo_id: str,
    folder: str | PathLike[str],
    *,
    config: str = "default",
    split: str = "train",
    revision: str | None = None,
    token: str | None = None,
    retry: Retry = Retry(),
) -> Dataset | DatasetDict:
    """Load one split, or all, from the Hub into a folder, as ``save_to_disk`` writes it.

    Args:
        repo_id: USER/NAME.
        folder: to write; must not hold anything yet.
        config: of the dataset.
        split: of the dataset; ``"all"`` for a ``DatasetDict`` of all.
        revision: branch, tag or commit.
        token: of the Hub; the one of ``hf auth login`` when left out.
        retry: how often and how patiently to try.

    Raises:
        OutputError: the folder holds something already.
        SourceError: no such repository, or none that this token may read.
        RecipeError: no such config or split.
        AccessError: a token that the Hub does not know.
        HubError: the Hub could not be reached or failed for good.
    """
    with atomic_folder(Path(folder)) as scratch:
        _load(repo_id, config, split, revision, token, retry).save_to_disk(scratch)
    return load_from_disk(str(folder))


def verify(
    output: str | PathLike[str],
    repo_id: str | None = None,
    *,
    config: str = "default",
    split: str | None = None,
    revision: str | None = None,
    clean: str | None = None,
    clean_split: str | None = None,
    token: str | None = None,
    retry: Retry = Retry(),
) -> Verification:
    """Check published images against the private protection, their originals and the local copy.

    Args:
        output: the folder that ``protect`` wrote.
        repo_id: USER/NAME; the local ``output/dataset`` alone is checked when left out.
        config: of the dataset on the Hub.
        split: of it; the one that was protected when left out.
        revision: branch, tag or commit.
        clean: the originals, where they are no longer where they were.
        clean_split: of the originals.
        token: of the Hub; the one of ``hf auth login`` when left out.
        retry: how often and how patiently to try.

    Returns:
        The distances; ``violations`` counts images outside the budget.

    Raises:
        DataError: other rows, labels or pixels than in ``output/dataset``; or other files than its own in
            ``output/images``.
        SourceError: nothing there.
        AccessError: a token that the Hub does not know.
        HubError: the Hub could not be reached or failed for good.
    """
    source = RunFolder.open(output)
    local = source.dataset
    check_images(source)
    if repo_id is None:
        return source.protection.verify(source.originals(clean, clean_split), local)
    published = _load(repo_id, config, split or source.split, revision, token, retry)
    assert isinstance(published, Dataset)  # the split is named
    try:
        for index, (here, there) in enumerate(aligned_pairs(local, published, source.protection.columns)):
            if (here != there).any():
                raise DataError(f"row {index}: got other pixels")
    except DataError as error:
        raise DataError(
            f"got images from {repo_id} that are not those of {str(source.published)!r} ({error}). Push again"
        ) from error
    for name in source.clean_splits:
        there = _load(repo_id, config, name, revision, token, retry)
        if not same_images(source.published_splits[name], there, source.protection.columns.image):
            raise DataError(
                f"got images from {repo_id} that are not those of the clean split {name!r} in "
                f"{str(source.published)!r}. Push again"
            )
    return source.protection.verify(source.originals(clean, clean_split), published)


def _load(
    repo_id: str, config: str, split: str, revision: str | None, token: str | None, retry: Retry
) -> Dataset | DatasetDict:
    if Path(repo_id).exists():  # datasets would open that instead
        raise RecipeError(
            f"got {repo_id!r}, which is a folder here too; go to another folder to get the one on the Hub"
        )

    def work() -> Dataset | DatasetDict:
        return load_dataset(repo_id, config, split=None if split == ALL else split, revision=revision, token=token)

    HfFileSystem.clear_instance_cache()
    try:
        return retry.run(work, f"pull of {repo_id}")
    except CAUGHT as error:
        # Not every one says that there is nothing: datasets raises it too for downloads that failed again and again.
        if isinstance(error, FileNotFoundError) and not is_transient(error):
            raise SourceError(
                f"got {repo_id!r}, which is not on the Hub, or not for this token; check the name, and log in: "
                f"hf auth login"
            ) from error
        raise explain(error, f"pull {repo_id}", "Nothing was written; repeat the command") from error
