"""Publishing on the Hub: push a protected dataset with its card, and never what is private.

Everything that is sent goes through ``datasets`` and ``huggingface_hub``; what is added here is what must not be sent,
the card, repetition after transient faults, and errors that say how things stand.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

from datasets import Dataset, DatasetDict
from datasets.info import DatasetInfosDict
from datasets.naming import INVALID_WINDOWS_CHARACTERS_IN_PATH
from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi

from hf_unlearnable.data.annotations import kinds_beside
from hf_unlearnable.data.columns import without_columns
from hf_unlearnable.errors import DataError, DataWarning, RecipeError, SourceError, blank, option, warn, worded
from hf_unlearnable.hub.card_header import EMPTY, carried
from hf_unlearnable.hub.cards import DatasetFacts, dataset_card
from hf_unlearnable.hub.repository import README, Pushed, Repository
from hf_unlearnable.hub.retry import CAUGHT, Retry, describe, explain, patiently
from hf_unlearnable.reports.images import contact_sheet
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.publication import checks, private_words, told_names
from hf_unlearnable.runs.written_files import check_files
from hf_unlearnable.settings import check_arguments

PREVIEW = "preview.png"


@patiently
@check_arguments
def push(
    output: RunFolder | str | PathLike[str],
    repo_id: str,
    *,
    private: bool = True,
    config: str = "default",
    split: str | None = None,
    revision: str | None = None,
    max_shard_size: str | int | None = None,
    licence: str | None = None,
    title: str | None = None,
    description: str | None = None,
    drop_columns: Sequence[str] = (),
    token: str | None = None,
    retry: Retry = Retry(),
    progress: bool = True,
) -> Pushed:
    """Push what ``hf-unlearnable protect --output`` wrote: the protected images and their card, never the private part.

    Pushing again changes nothing where nothing changed, and keeps what was written into the card by hand.

    Args:
        output: the folder that ``protect`` wrote; ``report/learnability.json`` goes into the card where it exists.
        repo_id: USER/NAME, created if it does not exist.
        private: whether others must not see it. A repository that is otherwise is refused, not pushed to.
        config: of the dataset, for several in one repository.
        split: name to publish it under; the one that was protected when left out.
        revision: branch to push to, created if it does not exist.
        max_shard_size: of one parquet file, such as ``"500MB"``.
        licence: an identifier of the Hub (``cc-by-4.0``) or the name of another licence; that of the dataset that was
            protected, where it has one, when left out.
        title: of the card; takes the place of an earlier one.
        description: of a new card, in Markdown; refused where there is one with another text.
        drop_columns: columns to leave out.
        token: of the Hub; the one of ``hf auth login`` when left out.
        retry: how often and how patiently to try.
        progress: show bars; those of ``datasets`` have a switch of their own, ``datasets.disable_progress_bars()``.

    Returns:
        What is there now.

    Warns:
        DataWarning: images that go out clean; images of another run, or other columns, that this push replaced.

    Raises:
        SourceError: ``output`` is not such a folder.
        DataError: a file of ``output/dataset`` is damaged.
        PrivacyError: something private would be published, or private images in a public repository.
        AccessError: no token, a wrong one, or one that may not write there.
        RecipeError: a name, split or licence that the Hub does not take.
        HubError: the Hub could not be reached or failed for good; says what is there and how to go on.
    """
    source = RunFolder.open(output)
    if split and source.protected_splits:
        raise RecipeError(
            f"got {option('split', split)} for a whole dataset, whose splits keep their names; leave it out"
        )
    protection, split = source.protection, split or source.split
    if "+" in split and not source.protected_splits:
        name_it = blank("split", "NAME")
        raise RecipeError(f"got the splits {split} in one; expected a name to publish it under: {name_it}")
    _check_words(config, source.protected_splits or (split,), revision, max_shard_size)
    named = None if source.protected_splits else split
    options: dict[str, str | int | None] = {"--subset": None if config == "default" else config, "--split": named}
    options |= {"--revision": revision, "--max-shard-size": max_shard_size, "--licence": licence, "--title": title}
    options |= {"--description": "FILE" if description else None}  # with that text
    again = _command(output, repo_id, private, options, drop_columns)
    repository = Repository("dataset", repo_id, private, revision, token, again)
    columns = protection.columns
    dataset = without_columns(source.dataset, drop_columns, columns)
    clean = {
        name: without_columns(source.published_splits[name], drop_columns, columns) for name in source.clean_splits
    }
    verified = source.verification
    if verified is None:
        raise SourceError(
            f"got {str(source)!r}, whose images were never compared with their originals; expected the "
            f"figures that protect writes. Protect again"
        )
    figures, read_back = verified
    check_files(source, source.published)
    published, known = {split: dataset, **clean}, (dataset, protection, figures.unchanged)
    for check in checks(published, columns.image, private_words(source), known, progress=progress):
        if doubt := check.run():
            warn(doubt, DataWarning)
    for finding in told_names(published, columns.image):
        if finding.severity == "warning":
            warn(finding.says)
    keys, origin = _carried(source, repository.api)
    if licence is None and "-nd" in str(keys.get("license", "")):
        warn(
            f"the licence of the originals, {keys['license']}, does not allow sharing changed versions, which "
            f"protected images are; publish them only if they are yours",
        )
    facts = DatasetFacts(
        repo_id=repo_id,
        images=len(dataset),
        protection=protection.description,
        verification=figures.as_dict(),
        read_back=read_back,
        config=config,
        split=split,
        clean_splits=source.clean_splits,
        report=source.report,
        licence=licence,
        carried=keys,
        source=origin,
        title=title,
        description=description,
        preview=PREVIEW,
        beside=kinds_beside(dataset, columns.image),
    )
    preview = io.BytesIO()
    contact_sheet(dataset, preview, columns)
    parts = _parts(source, dataset, clean)

    def work() -> None:
        # What the card says is checked by the Hub, and how it fits into the one that is there, before anything is sent.
        repository.validate(dataset_card(facts))
        repository.open()
        dataset_card(facts, repository.card(repository.head()))
        options: dict[str, Any] = {} if isinstance(parts, DatasetDict) else {"split": split}
        parts.push_to_hub(
            repo_id,
            config_name=config,
            revision=revision,
            max_shard_size=max_shard_size,
            token=token,
            commit_message=f"Upload protected images ({config}, {split})",
            **options,
        )
        repository.data_is_there = True
        # The card comes last, as one commit with its picture: what datasets wrote above is only its header.
        parent = repository.head()
        text = dataset_card(facts, repository.card(parent))
        repository.api.create_commit(
            repo_id,
            [
                CommitOperationAdd(README, text.encode()),
                CommitOperationAdd(PREVIEW, preview.getvalue()),
            ],
            commit_message="Describe the protection",
            repo_type="dataset",
            revision=revision,
            parent_commit=parent,
        )

    pushed = repository.run(retry, work)
    with suppress(*CAUGHT):  # it came to its end, whatever can be said of it
        if repository.replaced(pushed.commit):
            pushed = replace(pushed, warning=_told_replaced(repository, config, len(dataset)))
            warn(pushed.warning, DataWarning)
    return pushed


def _told_replaced(repository: Repository, config: str, images: int) -> str:
    """That a push took the place of other images, and how to get at those."""
    before = str(repository.before)
    infos = DatasetInfosDict.from_dataset_card_data(DatasetCard(repository.card(before) or EMPTY).data)
    known = infos[config].splits if config in infos else None
    there = ", ".join(f"{name} {split.num_examples:,}" for name, split in (known or {}).items())
    had = f" (rows before: {there})" if there else ""
    command = shlex.join(["hf-unlearnable", "pull", repository.repo_id, "--revision", before, "--output", "FOLDER"])
    get = worded(python=command, shell=command, browser=f"commit {before[:8]} in its history on the Hub")
    return (
        f"{repository.repo_id} had other images or columns{had}, which were replaced by these {images:,} images. They "
        f"are still in its earlier commits: {get}"
    )


def _parts(source: RunFolder, dataset: Dataset, clean: Mapping[str, Dataset]) -> Dataset | DatasetDict:
    """What is pushed: the only split, or all of a whole dataset, which must have the same columns and classes."""
    if not source.protected_splits:
        return dataset
    saved = source.published_splits
    protected = {name: saved[name].select_columns(dataset.column_names) for name in source.protected_splits}
    for name, part in clean.items():
        if part.features != dataset.features:
            raise DataError(
                f"got the split {name!r} with {part.features}; expected {dataset.features}, as in the protected "
                f"splits, since the Hub shows all as one table. Leave columns out with "
                f"{worded(python='drop_columns', shell='--drop-column')}, or cast the originals and protect again"
            )
    return DatasetDict({**protected, **clean})


@patiently
@check_arguments
def check_login(repo_id: str, *, token: str | None = None, retry: Retry = Retry()) -> None:
    """Find out before something slow whether a push to ``repo_id`` could begin; nothing is created.

    Raises:
        RecipeError: not USER/NAME.
        AccessError: no token, or one that the Hub does not accept.
        HubError: the Hub cannot be reached.
    """
    repository = Repository("dataset", repo_id, True, None, token, "")
    try:
        retry.run(repository.api.whoami, f"push to {repo_id}")
    except CAUGHT as error:
        raise explain(error, f"push to {repo_id}", "Nothing was done yet") from error


def _check_words(config: str, splits: Sequence[str], revision: str | None, max_shard_size: str | int | None) -> None:
    """Refuse the names and sizes that datasets or git would refuse only when the repository has been made."""
    if not config or config == "data" or set(config) & set(INVALID_WINDOWS_CHARACTERS_IN_PATH + "`\n"):
        raise RecipeError(
            f"got the config {config!r}; expected a name other than 'data', without any of "
            f"{' '.join(INVALID_WINDOWS_CHARACTERS_IN_PATH)}"
        )
    if wrong := [split for split in splits if not re.fullmatch(r"\w+(\.\w+)*", split)]:
        raise RecipeError(f"got the split {wrong[0]!r}; expected letters, digits, '_' and single dots, such as 'train'")
    if revision is not None and not re.fullmatch(r"(?!.*(\.\.|//|/$|\.lock$))[\w][\w./+-]*", revision):
        raise RecipeError(f"got the revision {revision!r}; expected the name of a branch, such as 'main'")
    if isinstance(max_shard_size, int):
        fits = max_shard_size > 0
    else:
        fits = max_shard_size is None or bool(re.fullmatch(r"0*[1-9]\d*[KMGTP]I?B", max_shard_size, re.IGNORECASE))
    if not fits:
        raise RecipeError(f"got the shard size {max_shard_size!r}; expected a whole number and a unit, such as '500MB'")


def _carried(source: RunFolder, api: HfApi) -> tuple[dict[str, Any], str | None]:
    if source.origin is None:
        return {}, None
    known = source.origin.dataset
    try:
        return carried(known, api)
    except CAUGHT as error:
        named = worded(python="licence", shell="--licence")
        warn(f"the licence of {known} could not be looked up ({describe(error)}); state it with {named}")
        return {}, None


def _command(
    output: str | PathLike[str],
    repo_id: str,
    private: bool,
    options: Mapping[str, str | int | None],
    drop_columns: Sequence[str],
) -> str:
    words = ["hf-unlearnable", "push", fspath(output), repo_id, "--private" if private else "--public"]
    for name, value in options.items():
        words += [] if value is None else [name, str(value)]
    for column in drop_columns:
        words += ["--drop-column", column]
    command = shlex.join(words)
    return worded(python=command, shell=command, browser="press Push again before you close the page")
