"""What an audit looks at: a run with all that belongs to it, or any other protected dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike

from datasets import Dataset, concatenate_datasets

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.sources import ALL, open_source
from hf_unlearnable.errors import DataError, SourceError
from hf_unlearnable.files import local_path
from hf_unlearnable.protection.layout import MEASURED
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.inspecting import columns_of, known_columns
from hf_unlearnable.runs.named_originals import open_originals, refuse_others_than_its_own
from hf_unlearnable.runs.splits import Splits


@dataclass
class Subject:
    """What is audited.

    Attributes:
        name: as it was given.
        protected: splits with protected images; those of ``also`` are not among them.
        clean: splits that are clean on purpose.
        columns: of them.
        budget: of the change.
        run: its folder; None for a dataset without one.
        originals: of the protected splits, in the same order; None where they are not there.
        no_originals: why.
    """

    name: str
    protected: dict[str, Dataset]
    columns: Columns
    budget: Budget
    clean: dict[str, Dataset] = field(default_factory=dict)
    run: RunFolder | None = None
    originals: Dataset | None = None
    no_originals: str = ""

    @property
    def images(self) -> int:
        """How many protected images there are."""
        return sum(map(len, self.protected.values()))


def open_subject(
    run: str | PathLike[str],
    clean: str | PathLike[str] | None,
    clean_split: str | None,
    budget: Budget | str | float | None,
    image_column: str | None,
    label_column: str | None,
) -> Subject:
    """Open what is audited, and its originals; arguments are those of ``audit``.

    Raises:
        SourceError: nothing there, or no originals where they are said to be.
        DataError: a dataset that cannot be opened, or originals that are named and do not fit.
        RecipeError: what would be ignored.
        PrivacyError: the private part of a run, or something private among what is published.
    """
    ours = _ours(run)
    if ours is not None:
        own, kept_to = ours.protection.columns, ours.protection.budget
        refuse_others_than_its_own(ours.protection, image_column, label_column, budget)
        splits = {name: ours.published_splits[name] for name in ours.protected_splits or [ours.split]}
        kept = {name: ours.published_splits[name] for name in ours.clean_splits}
        subject = Subject(str(ours.given), splits, own, kept_to, kept, ours)
    else:
        opened = open_source(published_at(run), ALL)
        if label_column is None:
            columns, _ = known_columns(opened.dataset, image_column, None)
        else:
            columns = columns_of(opened.dataset, image_column, label_column)
        splits = dict(Splits.of(opened, opened.dataset, (), {}).protected)
        subject = Subject(str(run), splits, columns, Budget.parse(8 if budget is None else budget))
    protected = concatenate_datasets([*splits.values()])
    known_to_keep = None if ours is None else subject.budget
    try:
        subject.originals = open_originals(
            ours or RunFolder(run), clean, clean_split, protected, subject.columns, known_to_keep
        )
    except (SourceError, DataError) as error:
        if clean is not None or clean_split is not None:
            raise
        subject.no_originals = str(error)
    return subject


def _ours(run: str | PathLike[str]) -> RunFolder | None:
    """The folder that ``protect`` wrote; None for any other dataset, such as the images in it.

    Raises:
        SourceError: what is left of such a folder, or a measurement.
        PrivacyError: the private part of one, or something private among what is published.
    """
    folder, path = RunFolder(run), local_path(run)
    if (path.is_file() and path.suffix == ".json") or (path / MEASURED).exists():
        RunFolder.find(path).root  # noqa: B018 - there is none, which it says
    if not path.is_dir():
        return None
    try:
        return RunFolder.open(folder)
    except SourceError:
        if folder.perturbations.is_dir():
            raise
        return None


def published_at(other: str | PathLike[str]) -> str:
    """Where the images of a set lie."""
    run = RunFolder(other)
    return str(run.published if run.is_complete or (run.published.is_dir() and run.holds_dataset) else other)


def images_of(data: Dataset, name: str) -> Dataset:
    """The images of another set alone, under the name that they have in this one.

    Raises:
        DataError: it has none.
    """
    own = known_columns(data, name if name in data.column_names else None, None)[0].image
    return data.select_columns([own]).rename_columns({own: name} if own != name else {})
