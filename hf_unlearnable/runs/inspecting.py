"""Look at what is to be protected, before the work."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Literal

from accelerate import Accelerator
from datasets import Dataset, DatasetDict

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns, find_columns, image_candidates, image_feature, unnamed_candidates
from hf_unlearnable.data.inspection import Inspection, named
from hf_unlearnable.data.intake import Intake
from hf_unlearnable.data.orientation import check_orientation
from hf_unlearnable.data.pairing import naming
from hf_unlearnable.data.sources import ALL, Source, choose, open_source
from hf_unlearnable.errors import DataError, DataWarning, RecipeError, number_of, option, warn
from hf_unlearnable.files import local_path
from hf_unlearnable.methods.labelling import AUTO, NONE, Labels
from hf_unlearnable.protection.clean_split import clean_feature
from hf_unlearnable.runs.image_files import source_paths
from hf_unlearnable.runs.named_originals import check_not_protected
from hf_unlearnable.settings import IN_MEMORY, check_arguments, refuse_ignored
from hf_unlearnable.training.processes import broadcast, run_on_all


@check_arguments
def intake(
    dataset: Dataset | DatasetDict | Source | str | PathLike[str],
    *,
    split: str = "train",
    keep_clean: Sequence[str] = (),
    config: str | None = None,
    class_depth: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    labels: Labels | str = AUTO,
    decode: bool | None = True,
    image_format: Literal["png", "webp"] = "png",
    image_files: bool | None = None,
    output: str | PathLike[str] = "",
    budget: Budget | str | float = Budget(8),
    progress: bool = True,
) -> Intake:
    """Look at a dataset as ``protect`` does before it begins, and as ``hf-unlearnable protect --dry-run`` prints it.

    Args:
        dataset: see ``protect``, like the seven after it.
        split: see there.
        keep_clean: see there; these splits are opened, and looked through by ``protect`` alone.
        config: see there.
        class_depth: see there.
        image_column: see there.
        label_column: see there.
        labels: see there.
        decode: decode every image, which shows all that are damaged and the same image in several classes; with False
            only headers are read; with None all are decoded where they are few.
        image_format: of the files that ``protect`` is to write, for their size.
        image_files: whether it is to write them once more as files, see ``protect``.
        output: the folder that it is to write, for the room that is left there; the current one when left out.
        budget: how far it is to move an image, for the same.
        progress: show bars.

    Raises:
        SourceError: there is no such dataset.
        DataError: it cannot be opened, or has no column of images.
        RecipeError: splits to keep clean, but not all splits.
    """
    opened = open_dataset(dataset, split, config, class_depth, keep_clean, labels)
    columns, problem = known_columns(opened.dataset, image_column, label_column, labels)
    return Intake.of(
        opened,
        columns,
        source=opened.name,
        notes=[note for note in (problem, _orientation(opened.dataset, columns)) if note],
        decode=decode,
        image_format=image_format,
        budget=Budget.parse(budget),
        output=local_path(output),
        copies=copies_of(opened.dataset, columns.image, image_files),
        progress=progress,
    )


def open_dataset(
    dataset: Dataset | DatasetDict | Source | str | PathLike[str],
    split: str,
    config: str | None,
    class_depth: int | None,
    keep_clean: Sequence[str] = (),
    labels: Labels | str = AUTO,
) -> Source:
    """Open what is to be protected; a ``Dataset`` in memory is its own only split, and a ``Source`` is open.

    Where labels are not those of the folders, images that lie beside the folders belong to the others: then no image
    has one (``class_depth=0``).

    Raises:
        SourceError: there is no such dataset.
        DataError: it cannot be opened, is no folder of images and has a ``class_depth``, or was protected before.
        RecipeError: splits to keep clean, but not all splits; or what would be ignored.
    """
    if keep_clean and split != ALL:
        given = option("keep_clean", keep_clean[0])
        raise RecipeError(f"got {given} with {option('split', split)}; expected {option('split', ALL)}")
    if isinstance(dataset, Source):
        return dataset
    check_not_protected(dataset)
    if isinstance(dataset, (Dataset, DatasetDict)):
        refuse_ignored(IN_MEMORY, config=config)
    if isinstance(dataset, Dataset):
        if split == ALL:
            raise DataError("got one split and split='all'; expected a DatasetDict, or the name of a dataset")
        refuse_ignored(IN_MEMORY, split=split if split not in ("train", str(dataset.split)) else None)
        opened = Source(dataset, split, {split: len(dataset)})
    elif isinstance(dataset, DatasetDict):
        opened = choose(dataset, split, "the DatasetDict", keep_clean)
    else:
        opened = open_source(dataset, split, config, class_depth, keep_clean)
        if Labels.parse(labels).kind != AUTO and opened.contents and opened.contents.has_loose:
            opened = open_source(dataset, split, config, 0, keep_clean)
    if class_depth is not None and not (opened.contents and opened.contents.splits):
        raise DataError(
            f"got {option('class_depth', class_depth)} for a dataset whose labels are in a column; expected a "
            f"folder of images. Leave it out"
        )
    return opened


def looked_at(
    opened: Source,
    columns: Columns,
    accelerator: Accelerator,
    *,
    allowed: dict[str, bool],
    intake: Intake | None,
    image_files: bool | None,
    **options: Any,
) -> tuple[Intake | None, tuple[int, ...]]:
    """Look, in the main process of all, before a fit.

    Args:
        opened: what is to be protected.
        columns: of its images and labels.
        accelerator: of all processes.
        allowed: what may be left out, as ``Intake.check`` takes it.
        intake: what was found already.
        image_files: see ``protect``.
        options: of ``Intake.of``.

    Returns:
        What was found (None in all but the main process), and the rows whose images cannot be read.

    Raises:
        DataError: in all processes: something would be left out in silence.
    """

    def look() -> Intake | None:
        if not accelerator.is_main_process:
            return None
        copies = copies_of(opened.dataset, columns.image, image_files)
        decode = True if allowed["skip_unreadable"] else None
        found = intake or Intake.of(opened, columns, decode=decode, copies=copies, **options)
        found.check(**allowed)
        return found

    found = run_on_all(accelerator, look)
    return found, broadcast(accelerator, tuple(image.row for image in found.broken) if found else ())


def clean_looked_at(
    clean: Mapping[str, Dataset], image_column: str, skip_unreadable: bool, accelerator: Accelerator, progress: bool
) -> dict[str, Dataset]:
    """Look, in the main process of all, at the splits that stay clean, before a fit; none in all others.

    Raises:
        DataError: in all processes: a split has no such column, or images that cannot be read.
    """

    def look() -> dict[str, Dataset]:
        found = {}
        for name, data in clean.items() if accelerator.is_main_process else ():
            with naming(name):
                clean_feature(data, name, image_column)
                found[name] = readable(data, Columns(image_column, None), skip_unreadable, of=name, progress=progress)
        return found

    return run_on_all(accelerator, look)


def readable(
    data: Dataset,
    columns: Columns,
    skip_unreadable: bool,
    lost: Sequence[str] = (),
    *,
    of: str = "",
    progress: bool = False,
) -> Dataset:
    """The rows whose images can be read: all others are found and told, before anything is written.

    Args:
        data: what is looked at.
        columns: of it.
        skip_unreadable: whether the others may be left out.
        lost: in sentences, what else is left out and may not be.
        of: the split that it is, where there are several.
        progress: show bars.

    Raises:
        DataError: something would be left out in silence, or nothing can be read.

    Warns:
        DataWarning: what is left out, all of it named.
    """
    looking = Inspection(data, columns, progress=progress)
    looking.read_headers()
    looking.decode()
    broken = [looking.broken[row] for row in sorted(looking.broken)]
    if broken and not skip_unreadable:
        lost = [*lost, named(broken, len(data))]
    if lost:
        raise DataError("got " + "\nand ".join(lost))
    if not broken:
        return data
    if not len(looking.whole):
        raise DataError(f"got {number_of(len(data), 'picture')}, of which none can be read; expected at least one")
    listing = "\n".join(f"  {picture}" for picture in broken)
    pictures = number_of(len(broken), "picture") + (f" of the split {of!r}" if of else "")
    warn(f"{pictures} cannot be read and {'is' if len(broken) == 1 else 'are'} left out:\n{listing}", DataWarning)
    return data.select(looking.whole)


def columns_of(dataset: Dataset, image: str | None, label: str | None) -> Columns:
    """``find_columns`` without its warnings, which the fit gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return find_columns(dataset, image, label, needs_label=False)


def copies_of(dataset: Dataset, image_column: str, image_files: bool | None) -> int:
    """How often ``protect`` writes the images: as a dataset, and perhaps as files."""
    return 1 + (source_paths(dataset, image_column) is not None if image_files is None else image_files)


def _orientation(dataset: Dataset, columns: Columns) -> str:
    try:
        return check_orientation(dataset, columns.image)
    except DataError as error:
        return f"Cannot be protected as it is: {error}."


def known_columns(
    dataset: Dataset, image: str | None, label: str | None, labels: Labels | str = AUTO
) -> tuple[Columns, str]:
    """The columns to look at; without labels, and with what is wrong, where they cannot be found."""
    try:
        columns, labels = columns_of(dataset, image, label), Labels.parse(labels)
        if columns.label and labels.kind == AUTO:
            return columns, ""
        columns, found = replace(columns, label=None), labels.found_in(dataset, label)
        if found.kind in (AUTO, NONE):
            maybe = unnamed_candidates(dataset) if found.kind == AUTO else []
            hint = f" If {maybe[0]!r} is the label: {option('label_column', maybe[0])}." if maybe else ""
            return columns, f"No labels: all images are taken as one owner's.{hint}"
        return columns, f"Labels: made, {found}: {found.meaning}."
    except DataError as error:
        candidates = image_candidates(dataset)
        if not candidates or (image is not None and image_feature(dataset, image) is None):
            raise
        return Columns(image or candidates[0], None), f"Cannot be protected as it is: {error}."
