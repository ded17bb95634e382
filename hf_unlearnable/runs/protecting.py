"""Protect a dataset from one end to the other: fit, release, read back, verify; go on where an earlier try ended."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from accelerate import Accelerator
from datasets import Dataset

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.pixels import check_format
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import (
    CheckpointError,
    DataError,
    OutputError,
    RecipeError,
    UnlearnableError,
    first_line,
    worded,
)
from hf_unlearnable.files import make_private, place_of, private_folder, require_empty, resumable, work_folders
from hf_unlearnable.methods.base import AnySurrogate, Method, describe_findings
from hf_unlearnable.methods.labelling import AUTO, NONE, Labels, is_one_class
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.image_files import (
    Names,
    check_names,
    endings_of,
    names_of,
    numbered,
    renamed,
    source_paths,
    write_images,
)
from hf_unlearnable.runs.lossy_copy import LossyCopy, check_quality, write_lossy_copy
from hf_unlearnable.runs.origin import Origin
from hf_unlearnable.training.processes import default_accelerator

MAPPED = "map*.arrow"  # in the private folder while the images are written


@dataclass(frozen=True)
class ProtectedRun(PathLike[str]):
    """What ``protect`` made: a path to its folder that ``push``, ``verify``, ``measure`` and ``write_report`` take.

    Attributes:
        folder: of the run.
        verification: all images as they were read back, compared with their originals.
        image_files: how many lie in ``RunFolder.images``.
        lossy: what the copy in ``RunFolder.images_jpeg`` is like; None where there is none.
    """

    folder: RunFolder
    verification: Verification
    image_files: int = 0
    lossy: LossyCopy | None = None

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def dataset(self) -> Dataset:
        """The protected images, which may be published."""
        return self.folder.dataset

    @property
    def protection(self) -> Protection:
        """The private perturbations, which undo the protection."""
        return self.folder.protection

    def __str__(self) -> str:
        lossy = [] if self.lossy is None else [f"{self.lossy}."]
        return "\n".join([*self.notes(), f"Read back from disk: {self.verification}.", *lossy])

    def notes(self) -> list[str]:
        """What became of labels, sizes and modes, where that was no matter of course, and what the method found."""
        described = self.protection.description
        classes, lines = described.classes, []
        if described.labels == NONE:
            lines.append(
                "Labels: none. All images are taken as one owner's. For classes name a column (--label-column), or let "
                "them be made (--labels clusters:10)."
            )
        elif described.labels:
            lines.append(f"Labels: made, {described.labels}; the columns of the dataset stay as they are.")
        if classes.values is not None:
            names = ", ".join(classes.names[:5]) + (", …" if len(classes.names) > 5 else "")
            lines.append(
                f"Labels: the column {described.columns.label!r} was taken as {len(classes.names)} classes: {names}."
            )
        if described.resampled:
            height, width = described.image_shape[1:]
            lines.append(
                f"Sizes: {described.resampled} of {described.images} images ({described.image_sizes}) keep theirs; "
                f"their perturbations were optimised at {width}x{height} and resampled."
            )
        lines += [
            f"Modes: {count} of {described.images} images go from {change}: theirs cannot carry a perturbation."
            for change, count in described.conversions.items()
        ]
        return [*lines, *filter(None, [describe_findings(described.method_name, described.findings)])]


def protect(
    dataset: Dataset | str | PathLike[str],
    output: str | PathLike[str],
    *,
    method: Method | str | None = None,
    budget: Budget | str | float = Budget(8),
    split: str = "train",
    config: str | None = None,
    origin: Origin | None = None,
    surrogate: AnySurrogate | Sequence[AnySurrogate] | None = None,
    labels: Labels | str = AUTO,
    image_column: str | None = None,
    label_column: str | None = None,
    resolution: int | None = None,
    on_unseen: Literal["error", "craft"] | None = None,
    cache: Literal["disk", "device"] = "disk",
    image_format: str = "png",
    image_files: bool | None = None,
    names: Names = "kept",
    also_jpeg: int | None = None,
    num_proc: int | None = None,
    overwrite: bool = False,
    checkpoint_every: float = 300.0,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> ProtectedRun | None:
    """Protect a dataset into a folder, as ``hf-unlearnable protect`` does.

    ``output/dataset`` holds what is to be published, ``output/private`` what undoes the protection. ``output`` appears
    when it is whole. A call that was killed goes on where it was when it is made again with the same arguments, and
    ends with the same bytes; until then ``.OUTPUT.part`` beside the output holds what it needs, and is private.

    Args:
        dataset: one split in memory; or a Hub id, a ``save_to_disk`` folder, a parquet file or an image folder.
        output: the folder to write; must not hold anything yet.
        method: a recipe, or its name, also with settings: ``"beo:mode=self,steps=40"``. When left out ``"mi-ue"``, or
            ``"texture"`` for images of one class.
        budget: how far an image may be moved, see ``Method.fit``.
        split: of a dataset that is named.
        config: of a dataset that is named, where it has several.
        origin: what ``measure`` and ``verify`` open as the originals of a dataset in memory; without one they must be
            told. Nothing else than the name of a dataset that is named.
        surrogate: see ``Method.fit``, like the five after it.
        labels: see there.
        image_column: see there.
        label_column: see there.
        resolution: see there.
        on_unseen: see there.
        cache: see there.
        image_format: of the files that are written, without loss: ``"png"`` or ``"webp"``.
        image_files: also write the released images as files to ``output/images``, byte for byte as in the dataset; when
            left out, where every image came as a file.
        names: of these files, and of the images in the dataset: ``"kept"``, with the folders below ``dataset``, or
            ``"numbers"`` of the rows in a folder for each class, where names or folders would tell something.
        also_jpeg: also write copies with losses to ``output/images-jpeg``, of this quality from 1 to 100. They do not
            keep the budget; ``ProtectedRun.lossy`` says what is left of the change in them.
        num_proc: processes that write the images.
        overwrite: replace what ``output`` holds, at the end and not before, and what another unfinished run left.
        checkpoint_every: seconds between two checkpoints.
        accelerator: device, precision and processes; a fresh one when left out.
        progress: show bars.

    Returns:
        What was made; None in all but the main process, which alone writes it.

    Raises:
        OutputError: ``output`` holds something already, lies in the dataset or around it, or cannot be written; or
            another process writes to it.
        SourceError: there is no such dataset.
        RecipeError: a method or setting that does not exist, or an origin for a dataset that is named.
        UnlearnableError: as ``Method.fit`` raises them, or a process that wrote images was killed.

    Warns:
        DataWarning: as ``Method.fit`` does.
    """
    given, allowance, target = method and Method.parse(method), Budget.parse(budget), Path(output)
    labels = Labels.parse(labels)
    check_format(image_format)
    check_names(names)
    check_quality(also_jpeg)
    if named := dataset if not isinstance(dataset, Dataset) else origin and origin.dataset:
        check_apart(named, target)
    if not overwrite:
        require_empty(target)
    if not isinstance(dataset, Dataset):
        if origin is not None:
            raise RecipeError(f"got an origin for {str(dataset)!r}, whose name says it; leave it out")
        origin = Origin.at(dataset, split=split, config=config)
        data = load_source(str(dataset), split, config)
    else:
        data = dataset
    recipe = given or default_method(data, labels, image_column, label_column)
    accelerator = accelerator or default_accelerator()
    options: dict[str, Any] = {
        "budget": allowance,
        "surrogate": surrogate,
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
        "resolution": resolution,
        "on_unseen": on_unseen,
        "cache": cache,
        "accelerator": accelerator,
        "checkpoint_every": checkpoint_every,
        "progress": progress,
    }
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()  # until the main process holds the output
        _fit(recipe, data, options, *work_folders(target), overwrite)
        return None
    with resumable(target, overwrite=overwrite) as (result, checkpoints):
        accelerator.wait_for_everyone()
        protection = _fit(recipe, data, options, result, checkpoints, overwrite)
        files = _Files(image_format, image_files, names, also_jpeg, num_proc, progress)
        made = _release(protection, data, RunFolder(result), origin, files)
    return replace(made, folder=RunFolder(target))


def default_method(
    data: Dataset, labels: Labels | str = AUTO, image_column: str | None = None, label_column: str | None = None
) -> Method:
    """What protects images where nobody has chosen: MI-UE, or the texture where they are of one class.

    Raises:
        DataError: columns or labels that cannot be used.
    """
    return Method.parse("texture" if is_one_class(data, Labels.parse(labels), image_column, label_column) else "mi-ue")


def check_apart(dataset: str | PathLike[str], output: str | PathLike[str]) -> None:
    """Refuse an output in the folder that is protected, whose pictures would count as its images, or around it.

    Raises:
        OutputError: it is one of these.
    """
    there, here = Path(dataset).expanduser().resolve(), place_of(Path(output)).resolve()
    if there.exists() and (here == there or there in here.parents or here in there.parents):
        raise OutputError(
            f"got the output {str(output)!r} for the images in {str(there)!r}; expected neither to lie in the other: "
            f"what is written would count as further images, or replace them. Name a folder beside it"
        )


def unfinished(output: str | PathLike[str]) -> Path | None:
    """The private folder that an unfinished ``protect`` left to go on from; None if there is none."""
    _, checkpoints = work_folders(Path(output))
    return checkpoints.parent if any(checkpoints.glob("*.json")) else None


def _fit(
    recipe: Method, data: Dataset, options: dict[str, Any], result: Path, checkpoints: Path, overwrite: bool
) -> Protection:
    """Fit, or go on; with ``overwrite`` anew where what is there is of another fit."""
    folders: dict[str, Any] = {"output_dir": RunFolder(result).perturbations, "checkpoint_dir": checkpoints}
    accelerator = options["accelerator"]
    try:
        return recipe.fit(data, **options, **folders)
    except (CheckpointError, OutputError):
        if not overwrite:
            raise
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for folder in (result, checkpoints):
                shutil.rmtree(folder, ignore_errors=True)
        accelerator.wait_for_everyone()
        return recipe.fit(data, **options, **folders)


@dataclass(frozen=True)
class _Files:
    """How the images are written; see ``protect``."""

    image_format: str
    image_files: bool | None
    names: Names
    also_jpeg: int | None
    num_proc: int | None
    progress: bool


def _release(
    protection: Protection, data: Dataset, run: RunFolder, origin: Origin | None, files: _Files
) -> ProtectedRun:
    """Write the protected images, read them back and compare them with their originals."""
    private_folder(run.private)
    if origin is not None:
        run.keep_origin(origin)
    try:
        verification = protection.verify(data, _written(protection, data, run, files))
    except (pa.ArrowException, DataError) as error:
        for file in run.private.glob(MAPPED):  # or the next try would meet the same
            file.unlink()
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"the images that an earlier run left are damaged ({first_line(error)}) and were removed; the fit is kept: "
            f"give the same command again"
        ) from error
    for file in run.private.glob(MAPPED):
        file.unlink()
    run.keep_verification(verification)
    paths = source_paths(data, protection.columns.image)
    wanted = paths is not None if files.image_files is None else files.image_files
    lossy = None
    if wanted or files.also_jpeg is not None:
        names = _names(protection, run.dataset, paths, origin, files.names)
        if wanted:
            write_images(run, protection.columns, names, progress=files.progress)
        if files.also_jpeg is not None:
            given = (names, files.also_jpeg, protection.budget)
            lossy = write_lossy_copy(run, data, protection.columns, *given, progress=files.progress)
    return ProtectedRun(run, verification, len(data) if wanted else 0, lossy)


def _names(
    protection: Protection, released: Dataset, paths: list[str] | None, origin: Origin | None, kind: Names
) -> list[str]:
    """Of the files: those of the originals where they are known and may be told, else numbers."""
    endings = endings_of(released, protection.columns.image)
    if paths is None or kind == "numbers":
        return numbered(released, protection.columns.label, endings)
    return names_of(paths, endings, origin.dataset if origin is not None else None)


def _written(protection: Protection, data: Dataset, run: RunFolder, files: _Files) -> Dataset:
    """The protected images, as they are read back from where they are published from."""
    # A cache of our own: the default one lies beside the source, where nobody looks for protected images. It is private
    # too while it exists, so that a kill in the middle leaves it among private files; what is finished of it is used.
    cache = run.private / f"map-{data._fingerprint}-{files.image_format}.arrow"
    try:
        released = protection.release(
            data,
            image_format=files.image_format,
            num_proc=files.num_proc,
            progress=files.progress,
            cache_file_name=str(cache),
        )
    except RuntimeError as error:
        if "abruptly died" not in str(error):
            raise
        raise UnlearnableError(
            f"one of the {files.num_proc} processes that write the images was killed; expected all to come to their "
            f"end. Where memory is short use fewer: a smaller {worded(python='num_proc', shell='--num-proc')}"
        ) from error
    make_private(run.private)  # what map wrote
    shutil.rmtree(run.published, ignore_errors=True)  # half of it, from a process that was killed
    if files.names == "numbers":
        column = protection.columns
        released = renamed(released, column.image, numbered(released, column.label, endings_of(released, column.image)))
    released.save_to_disk(run.published)
    return run.dataset
