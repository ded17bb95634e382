"""Pull a dataset from the Hub and check what is published there."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetBuilder, DatasetDict, DownloadMode, load_dataset_builder, load_from_disk
from datasets.exceptions import ChecksumVerificationError, SplitsVerificationError
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from hf_unlearnable.data.disk_space import full_disk_told
from hf_unlearnable.data.pairing import aligned_pairs
from hf_unlearnable.data.sources import ALL
from hf_unlearnable.errors import DataError, RecipeError, SourceError, first_line, option
from hf_unlearnable.files import atomic_folder, local_path
from hf_unlearnable.hub.repository import check_name
from hf_unlearnable.hub.retry import CAUGHT, Retry, explain, is_transient, patiently, require_network, status_of
from hf_unlearnable.protection.clean_split import same_images
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.named_originals import check_clean, check_originals, those_of_a_run
from hf_unlearnable.runs.written_files import check_files
from hf_unlearnable.settings import check_arguments, refuse_ignored


@patiently
@check_arguments
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

    The files are compared with the digests that the repository states for them, and the number of rows with that in
    its description.

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
        DataError: other files or rows than the repository says that it has.
        AccessError: a token that the Hub does not know.
        HubError: the Hub could not be reached or failed for good.
    """
    place = local_path(folder)
    with full_disk_told(place), atomic_folder(place) as scratch:
        _load(repo_id, config, split, revision, token, retry).save_to_disk(scratch)
    return load_from_disk(str(place))


@patiently
@check_arguments
def verify(
    output: RunFolder | str | PathLike[str],
    repo_id: str | None = None,
    *,
    config: str = "default",
    split: str | None = None,
    revision: str | None = None,
    clean: str | PathLike[str] | None = None,
    clean_split: str | None = None,
    token: str | None = None,
    retry: Retry = Retry(),
) -> Verification:
    """Check published images against the private protection, their originals and the local copy, and all local files.

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
        The distances; ``ok`` says whether all images keep the budget and their alpha channel.

    Raises:
        DataError: other rows, labels or pixels than in ``output/dataset``; originals that are protected; or, where
            that is so, a file that is not as ``protect`` wrote it, in the dataset, the copies as files, or what was
            held out.
        SourceError: nothing there.
        RecipeError: what is to be looked for on the Hub, and not where.
        AccessError: a token that the Hub does not know.
        HubError: the Hub could not be reached or failed for good.
    """
    source = RunFolder.open(output)
    check_clean(clean, clean_split)
    if repo_id is None:
        named = None if config == "default" else config
        refuse_ignored("of a dataset on the Hub, and no USER/NAME", config=named, split=split, revision=revision)
        published = source.dataset
    else:
        published = _published(source, repo_id, config, split, revision, token, retry)
    found = _compared(source, source.originals(clean, clean_split), published, named=bool(clean or clean_split))
    if found.ok:  # faults say more
        check_files(source)
    return found


def _compared(source: RunFolder, originals: Dataset, published: Dataset, *, named: bool) -> Verification:
    """How far images are from their originals.

    Raises:
        DataError: other rows; or images that do not keep the budget or their alpha channel, where the run is as it was
            written. Then it kept both, and it is the originals that are others: those of the run all, of those that
            somebody named most, as ``check_originals`` has it.
    """
    own = source.protection
    try:
        found = own.verify(originals, published)
    except DataError:
        if _is_as_written(source):
            check_originals(originals, published, own.columns, own.budget, named=named)
            if not named:
                with those_of_a_run():
                    raise
        raise
    if not found.ok and _is_as_written(source):  # every file is read again: only where it matters
        check_originals(originals, published, own.columns, own.budget, named=named)
        if not named:
            with those_of_a_run():
                raise DataError(f"there are {found.faults}, and {source.published.name}/ is as it was written")
    return found


def _is_as_written(source: RunFolder) -> bool:
    try:
        return check_files(source, source.published) > 0
    except DataError:
        return False


def _published(
    source: RunFolder,
    repo_id: str,
    config: str,
    split: str | None,
    revision: str | None,
    token: str | None,
    retry: Retry,
) -> Dataset:
    """The protected images on the Hub, once they and the clean splits beside them are those of the run."""
    if split == ALL:
        raise RecipeError(f"got {option('split', ALL)}; expected the split that was protected: leave it out")
    published = _load(repo_id, config, split or source.split, revision, token, retry)
    assert isinstance(published, Dataset)  # the split is named
    try:
        for index, (here, there) in enumerate(aligned_pairs(source.dataset, published, source.protection.columns)):
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
    return published


def _load(
    repo_id: str, config: str, split: str, revision: str | None, token: str | None, retry: Retry
) -> Dataset | DatasetDict:
    if Path(repo_id).exists():  # datasets would open that instead
        raise RecipeError(
            f"got {repo_id!r}, which is a folder here too; go to another folder to get the one on the Hub"
        )

    check_name(repo_id)
    require_network(f"pull {repo_id}")

    def work() -> Dataset | DatasetDict:
        with suppress(HfHubHTTPError):  # an answer: what it means, the loading says
            HfApi(token=token).dataset_info(repo_id, revision=revision)  # else datasets asks on for half a minute
        builder = load_dataset_builder(repo_id, config, revision=revision, token=token)
        _check_split(builder, repo_id, split)
        _check_files(builder, HfApi(token=token))
        # What an earlier load made of these files may be of files that were damaged.
        builder.download_and_prepare(download_mode=DownloadMode.REUSE_CACHE_IF_EXISTS)
        return builder.as_dataset(None if split == ALL else split)

    HfFileSystem.clear_instance_cache()
    try:
        return retry.run(work, f"pull of {repo_id}")
    except (SplitsVerificationError, ChecksumVerificationError) as error:
        raise DataError(
            f"got other rows from {repo_id} than its description says ({first_line(error)}). Nothing was written. "
            f"Its owner can push it again"
        ) from error
    except CAUGHT as error:
        # Not every one says that there is nothing: datasets raises it too for downloads that failed again and again.
        if isinstance(error, FileNotFoundError) and not is_transient(error):
            raise SourceError(
                f"got {repo_id!r}{_of(revision)}, which is not on the Hub, or not for this token; check the name"
                f"{' and the revision' if revision else ''}, and log in: hf auth login"
            ) from error
        again = "" if isinstance(error, ValueError) and status_of(error) is None else "; repeat the command"
        raise explain(error, f"pull {repo_id}", f"Nothing was written{again}") from error


def _of(revision: str | None) -> str:
    return f" with the revision {revision!r}" if revision else ""


def _check_split(builder: DatasetBuilder, repo_id: str, split: str) -> None:
    """See that a split, each of several (``train+test``), or that of a slice (``train[:10]``) has files.

    Raises:
        RecipeError: it is not.
    """
    names = [str(name) for name in builder.config.data_files or {}]
    asked = [part.split("[")[0].strip() for part in split.split("+")]
    if names and split != ALL and not set(asked) <= set(names):
        raise RecipeError(
            f"got {option('split', split)} of {repo_id!r}; expected one of {', '.join(names)}, or {ALL}. Nothing was "
            f"written"
        )


def _check_files(builder: DatasetBuilder, api: HfApi) -> None:
    """Download what the configuration is made of and compare it with the digests that the repository states.

    Raises:
        DataError: another file, twice.
    """
    files: list[Any] = [
        HfFileSystem().resolve_path(url) for urls in (builder.config.data_files or {}).values() for url in urls
    ]
    stated: dict[str, RepoFile] = {}
    for start in range(0, len(files), 256):
        names = [file.path_in_repo for file in files[start : start + 256]]
        found = api.get_paths_info(files[0].repo_id, names, revision=files[0].revision, repo_type="dataset")
        stated |= {entry.path: entry for entry in found if isinstance(entry, RepoFile)}
    for file in files:
        expected = stated[file.path_in_repo]
        for again in (False, True):
            try:
                there = api.hf_hub_download(
                    file.repo_id, file.path_in_repo, repo_type="dataset", revision=file.revision, force_download=again
                )
            except CAUGHT as error:  # 416: what is there in part is no part of it, and goes when it is forced
                if again or status_of(error) != 416:
                    raise
                continue
            if _is(Path(there), expected):
                break
        else:
            raise DataError(
                f"got the file {file.path_in_repo} from {file.repo_id}, which is not the one that the repository "
                f"states, twice. Nothing was written. Something on the way changes it, or keeps an old one: try "
                f"another connection"
            )


def _is(file: Path, stated: RepoFile) -> bool:
    """Whether a file has the SHA-256 of large files, or the SHA-1 that git gives the others."""
    hashed = hashlib.sha256() if stated.lfs else hashlib.sha1(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest() == (stated.lfs.sha256 if stated.lfs else stated.blob_id)
