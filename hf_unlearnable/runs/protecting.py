"""Protect a dataset from one end to the other: fit, release, read back, verify; go on where an earlier try ended."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from accelerate import Accelerator
from datasets import Dataset, DatasetDict

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import without_columns
from hf_unlearnable.data.disk_space import full_disk_told
from hf_unlearnable.data.intake import Intake
from hf_unlearnable.data.orientation import check_orientation
from hf_unlearnable.data.pixels import check_format
from hf_unlearnable.data.reading import unlabelled_rows
from hf_unlearnable.data.sources import ALL, Source, name_of
from hf_unlearnable.errors import CheckpointError, DataWarning, OutputError, RecipeError, warn
from hf_unlearnable.files import local_path, resumable, work_folders
from hf_unlearnable.methods.base import AnySurrogate, Method
from hf_unlearnable.methods.labelling import AUTO, Labels
from hf_unlearnable.progress import whole
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.unchanged import UNCHANGED
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.image_files import Names, check_names
from hf_unlearnable.runs.inputs import Inputs, Recipe, wants_two
from hf_unlearnable.runs.inspecting import clean_looked_at, looked_at, open_dataset
from hf_unlearnable.runs.lossy_copy import check_quality
from hf_unlearnable.runs.origin import Origin
from hf_unlearnable.runs.outputs import check_output, check_output_apart
from hf_unlearnable.runs.protected_run import ProtectedRun
from hf_unlearnable.runs.releasing import Files, write_released
from hf_unlearnable.runs.splits import Splits
from hf_unlearnable.runs.test_images import check_share, draw_held_out, keep_held_out
from hf_unlearnable.runs.written_files import keep_digests
from hf_unlearnable.settings import Count, NotNegative, Side, check_arguments
from hf_unlearnable.training.processes import default_accelerator, run_on_all


@check_arguments
def protect(
    dataset: Dataset | DatasetDict | Source | str | PathLike[str],
    output: str | PathLike[str],
    *,
    method: Recipe | str | None = None,
    budget: Budget | str | float = Budget(8),
    split: str = "train",
    keep_clean: Sequence[str] = (),
    config: str | None = None,
    class_depth: int | None = None,
    leave_out: bool = False,
    skip_unreadable: bool = False,
    drop_columns: Sequence[str] = (),
    hold_out: float | None = None,
    intake: Intake | None = None,
    origin: Origin | None = None,
    surrogate: AnySurrogate | Sequence[AnySurrogate] | None = None,
    labels: Labels | str = AUTO,
    image_column: str | None = None,
    label_column: str | None = None,
    others: Dataset | str | PathLike[str] | None = None,
    others_split: str | None = None,
    resolution: Side | None = None,
    on_unseen: Literal["error", "craft"] | None = None,
    unlabelled: Literal["error", "drop"] = "error",
    duplicates: Literal["apart", "share"] = "apart",
    cache: Literal["disk", "device"] = "disk",
    image_format: str = "png",
    image_files: bool | None = None,
    names: Names = "kept",
    also_jpeg: int | None = None,
    num_proc: Count | None = None,
    overwrite: bool = False,
    checkpoint_every: NotNegative = 300.0,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> ProtectedRun | None:
    """Protect a dataset into a folder, as ``hf-unlearnable protect`` does.

    ``output/dataset`` holds what is to be published, ``output/private`` what undoes the protection. ``output`` appears
    when it is whole. A call that was killed goes on where it was when it is made again with the same arguments, and
    ends with the same bytes; until then ``.OUTPUT.part`` beside the output holds what it needs, and is private.

    Args:
        dataset: one split or a dictionary of them in memory; or a Hub id, a ``save_to_disk`` folder, a parquet file, an
            image folder, or a zip or tar of one; or what ``open_dataset`` opened with the same choice of a split.
        output: the folder to write; must not hold anything yet.
        method: a recipe, or its name, also with settings: ``"beo:mode=self,steps=40"``. When left out ``"mi-ue"``, or
            ``"texture"`` for images of one class without any of others.
        budget: how far an image may be moved, see ``Method.fit``.
        split: of a dataset that has several. ``"train+validation"`` makes one of two; ``"all"`` keeps them apart in
            ``output/dataset``, a ``DatasetDict``, and fits them together: they must have the same columns and classes.
        keep_clean: with ``split="all"``: splits that go along unprotected, such as ``("test",)``. Their images keep
            their pixels and lose their metadata.
        config: of a dataset that is named, where it has several.
        class_depth: of an image folder: how many folders make the class; the whole path of an image's folder when left
            out.
        leave_out: leave files out that may be images and are not read, such as drawings, raw files and videos.
        skip_unreadable: leave images out that cannot be read, also of splits that stay clean.
        drop_columns: columns to leave out. One that can hold clean images must be.
        hold_out: a share of every class, such as 0.2, that is not protected and not published: its clean images stay in
            ``output/private`` for ``measure`` to test on.
        intake: what the function ``intake`` found for the same arguments; when left out it is called.
        origin: what ``measure`` and ``verify`` open as the originals of a dataset in memory; without one they must be
            told. Nothing else than the name of a dataset that is named.
        surrogate: see ``Method.fit``, like all that say "see there".
        labels: see there.
        image_column: see there.
        label_column: see there.
        others: see there; or where they are. They are never written to ``output``.
        others_split: of others that are named; ``train`` when left out.
        resolution: see there.
        on_unseen: see there.
        unlabelled: see there.
        duplicates: see there.
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
        DataError: files or images that would be left out in silence, all of them named; or images that an earlier
            ``protect`` wrote.
        PrivacyError: a column that can hold clean images, or a clean split with images of a protected one.
        UnlearnableError: as ``Method.fit`` raises them, or a process that wrote images was killed.

    Warns:
        DataWarning: as ``Method.fit`` does; images of a split that stays clean that are left out; and images that came
            out as they went in, of all that were read back.
    """
    given = method is None or (hasattr(method, "fit") and not isinstance(method, type))
    chosen = cast("Recipe | None", method) if given else Method.parse(cast("str", method))
    allowance, target = Budget.parse(budget), local_path(output)
    check_format(image_format)
    check_names(names)
    check_quality(also_jpeg)
    check_share(hold_out)
    name = "" if isinstance(dataset, (Dataset, DatasetDict)) else _name_of(dataset)
    for named in (name or (origin and origin.dataset), others if isinstance(others, (str, PathLike)) else None):
        if named:
            check_output_apart(named, target)
    check_output(target, overwrite)
    if name and origin is not None:
        raise RecipeError(f"got an origin for {name!r}, whose name says it; leave it out")
    accelerator = accelerator or default_accelerator()
    inputs = Inputs.open(
        dataset,
        split,
        config,
        class_depth,
        keep_clean=keep_clean,
        drop_columns=drop_columns,
        labels=labels,
        image_column=image_column,
        label_column=label_column,
        others=others,
        others_split=others_split,
    )
    class_depth = inputs.source.class_depth
    if name:
        origin = Origin.at(name, split=inputs.source.split, config=config, class_depth=class_depth)
    elif isinstance(dataset, DatasetDict):
        origin = origin and replace(origin, split=inputs.source.split)
    recipe: Recipe = chosen or inputs.default_method()
    inputs.check(recipe, surrogate, progress=progress and accelerator.is_main_process)
    note = check_orientation(inputs.dataset, inputs.columns.image)
    found, unreadable = looked_at(
        inputs.source,
        inputs.labelled_by,
        accelerator,
        allowed={
            "leave_out": leave_out,
            "skip_unreadable": skip_unreadable,
            "by_class": bool(inputs.labelled_by.label) and wants_two(recipe, hold_out),
        },
        intake=intake,
        image_files=image_files,
        source=name,
        notes=[note] if note else [],
        image_format=image_format,
        budget=allowance,
        output=target,
        progress=progress,
    )
    lost = list(unreadable)
    if unlabelled == "drop":
        lost += unlabelled_rows(inputs.dataset, inputs.labelled_by).tolist()
    rows = np.setdiff1d(np.arange(len(inputs.dataset)), lost)
    held_out = None
    if hold_out is not None:
        drawn = draw_held_out(inputs.dataset.select(rows), inputs.labelled_by, hold_out, recipe.seed)
        held_out, rows = inputs.dataset.select(rows[drawn]), rows[~drawn]
    data, skipped = inputs.dataset, ()
    if len(rows) < len(data):
        skipped = tuple(np.setdiff1d(np.arange(len(data)), rows).tolist())
        data = data.select(rows)
        origin = origin and replace(origin, skipped=skipped)
    splits = None
    if split == ALL:
        whole_set = name if isinstance(dataset, Source) else dataset
        clean = {part: open_dataset(whole_set, part, config, class_depth).dataset for part in keep_clean}
        clean = {part: without_columns(kept, drop_columns, inputs.columns) for part, kept in clean.items()}
        clean = clean_looked_at(clean, inputs.columns.image, skip_unreadable, accelerator, progress)
        splits = Splits.of(inputs.source, data, skipped, clean)
    options: dict[str, Any] = {
        "budget": allowance,
        "surrogate": surrogate,
        "labels": inputs.labels,
        "image_column": image_column,
        "label_column": label_column,
        "others": inputs.others,
        "resolution": resolution,
        "on_unseen": on_unseen,
        "duplicates": duplicates,
        "cache": cache,
        "accelerator": accelerator,
        "checkpoint_every": checkpoint_every,
        "progress": progress,
    }
    del inputs  # the names of a million files, which the fit needs no more
    if found is None:  # in all but the main process
        run_on_all(accelerator, lambda: None)  # until the main process holds the output, or cannot
        _fit(recipe, data, options, *work_folders(target), overwrite)
        return None
    fit = recipe.parts()
    parts = {"reading images": 0.2, **fit, "protecting images": 0.5, "comparing images": 0.8} if fit else {}
    with full_disk_told(target), ExitStack() as stack:
        held = resumable(target, overwrite=overwrite)
        result, checkpoints = run_on_all(accelerator, lambda: stack.enter_context(held))
        stack.enter_context(whole(f"protecting {len(data)} images", parts, enabled=progress))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", UNCHANGED, DataWarning)  # of a sample; said of all below
            protection = _fit(recipe, data, options, result, checkpoints, overwrite)
        files = Files(image_format, image_files, names, also_jpeg, num_proc, progress)
        made = write_released(protection, data, RunFolder(result), origin, splits, files)
        RunFolder(result).keep_intake(found)
        if held_out is not None:
            keep_held_out(RunFolder(result), held_out)
        keep_digests(RunFolder(result))
    run = ProtectedRun(RunFolder(target), intake=found, originals=data, **made._asdict())
    if run.warning:
        warn(run.warning, DataWarning)
    return run


def _name_of(dataset: Source | str | PathLike[str]) -> str:
    return dataset.name if isinstance(dataset, Source) else name_of(dataset)


def _fit(
    recipe: Recipe, data: Dataset, options: dict[str, Any], result: Path, checkpoints: Path, overwrite: bool
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
