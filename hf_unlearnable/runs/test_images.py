"""Clean images to test on: held out of what is protected, kept clean beside it, or another split of the originals."""

from __future__ import annotations

import shlex
import shutil
import warnings
from os import PathLike

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.data.image_set import hold_out_by_class
from hf_unlearnable.data.reading import NAMED, class_numbers, unlabelled_rows
from hf_unlearnable.data.sources import load_saved
from hf_unlearnable.errors import DataError, RecipeError, SourceError, blank, option, some_of
from hf_unlearnable.evaluation.owner import FEW
from hf_unlearnable.files import make_private
from hf_unlearnable.protection.documents import read_json
from hf_unlearnable.protection.layout import INTAKE
from hf_unlearnable.runs.folder import RunFolder

SPLITS = ("test", "validation", "valid", "val", "dev")  # which a dataset may have to test on, the best first

TOO_FEW = f"What it does cannot be measured: a model does not learn fewer than {FEW} images of one owner."


def check_share(share: float | None) -> None:
    """Refuse a share that leaves nothing on one of both sides.

    Raises:
        RecipeError: not between 0 and 1.
    """
    if share is not None and not 0 < share < 1:
        raise RecipeError(f"got {option('hold_out', share)}; expected a share of every class, such as 0.2")


def draw_held_out(data: Dataset, columns: Columns, share: float, seed: int) -> NDArray[np.bool_]:
    """Draw the rows that stay clean to test on: (N,), the same ``share`` of every class.

    At least one of every class, and so that two of it are left to protect.

    Args:
        data: N rows, all with a label where there are labels.
        columns: of it.
        share: more than 0 and less than 1.
        seed: of the draw.

    Raises:
        RecipeError: another share.
        DataError: classes of fewer than three images.
    """
    check_share(share)
    labels = class_numbers(data, columns)
    if len(small := np.flatnonzero(((counts := np.bincount(labels)) > 0) & (counts < 3))):
        names = Classes.of(data, columns).names
        named = some_of([names[number] for number in small], NAMED)
        raise DataError(
            f"got {option('hold_out', share)} with classes of fewer than three images: {named}; "
            f"expected three or more, one of which is held out. Add images, or merge these classes"
        )
    return hold_out_by_class(labels, share, np.random.default_rng(seed), left=2)


def keep_held_out(run: RunFolder, held_out: Dataset) -> None:
    """Write the clean images that were held out among what is private."""
    shutil.rmtree(run.held_out, ignore_errors=True)  # half of it, from a process that was killed
    held_out.save_to_disk(run.held_out)
    make_private(run.held_out)


def held_out_images(run: RunFolder) -> Dataset | None:
    """The clean images that were held out; None where none were.

    Raises:
        DataError: they cannot be read.
    """
    held = load_saved(run.held_out) if run.held_out.is_dir() else None
    if held is not None and not isinstance(held, Dataset):
        raise DataError(f"got {str(run.held_out)!r} with several splits; expected the one that protect wrote")
    return held


def open_test_images(
    run: RunFolder, clean: Dataset | str | PathLike[str] | None = None, split: str | None = None
) -> Dataset:
    """The clean images that a run is tested on where none were named.

    Args:
        run: what ``protect`` wrote, or another tool.
        clean: the originals, where somebody named them.
        split: to test on; when left out what was held out, what was kept clean, or ``test``.

    Raises:
        SourceError: there are none.
        DataError: there, but not readable.
    """
    if split is None and (held := held_out_images(run)) is not None:
        return held
    kept = run.clean_splits
    if split in kept or (split is None and kept):
        return run.published_splits[split or ("test" if "test" in kept else kept[0])]
    other = (
        f"Name clean images that nobody trained on with {blank('test', 'DATASET')}, another split with "
        f"{blank('test_split', 'NAME')}, or protect again with {option('hold_out', 0.2)}, which keeps some back"
    )
    if isinstance(clean, Dataset):
        raise SourceError(f"got originals in memory and no test images; expected both, or the names of both. {other}")
    wanted = split or "test"
    if run.origin is not None and wanted in run.split.split("+"):
        raise SourceError(f"got no images to test on: the split {wanted!r} was protected itself. {other}")
    try:
        return run.originals(clean, wanted)
    except DataError as error:
        if split is not None:
            raise
        raise SourceError(f"got no images to test on: {error}. {other}") from error


def how_to_measure(run: RunFolder, called: str, others: str | None = None) -> str:
    """The command that measures a run, with what it needs beside the run; empty where its images are too few.

    Args:
        run: what ``protect`` wrote.
        called: the run in the command.
        others: images of other people that the run was fitted beside.
    """
    words = ["hf-unlearnable", "measure", called]
    described = run.description
    words += [] if run.origin or described is None else ["--clean", "DATASET"]
    if described is not None and described.labels:
        if described.images < FEW and not run.held_out.is_dir():
            return ""
        return shlex.join([*words, "--owner", *(["--others", others] if others else [])])
    if described is None or run.held_out.is_dir() or run.clean_splits:
        return shlex.join(words)
    usable = next((name for name in SPLITS if _is_usable(run, name)), None)
    if usable is None:
        return (
            f"{shlex.join([*words, '--test', 'DATASET'])}  (clean images that were not protected; protect "
            f"--hold-out 0.2 keeps some back)"
        )
    return shlex.join([*words, *([] if usable == "test" else ["--test-split", usable])])


def next_step(run: RunFolder, called: str, others: str | None = None) -> str:
    """What to do with a run, in a sentence; arguments as of ``how_to_measure``."""
    command = how_to_measure(run, called, others)
    return f"Now see what it does:  {command}" if command else TOO_FEW


def not_measured(run: RunFolder, called: str = "RUN") -> str:
    """Why there is no measurement, and what to do; empty if there is one.

    Args:
        run: whatever a page is made of.
        called: see ``how_to_measure``.
    """
    if run.measured.exists():
        return ""
    finished = len(list(run.victims.glob("*.json")))
    begun = (
        f"A measurement was begun: {finished} models are trained and kept, the rest is missing. The same command "
        f"goes on from there."
        if finished
        else "No model was trained on these images yet."
    )
    command = how_to_measure(run, called)
    return f"{begun} To measure: {command}" if command else f"{begun} {TOO_FEW}"


def _is_usable(run: RunFolder, split: str) -> bool:
    """Whether a split of the originals has the labels that a test needs, and was not protected."""
    file = run.private / INTAKE
    described = run.description
    if described is None or not file.exists() or split not in read_json(file)["other_splits"]:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said where the images are used
        try:
            data = run.originals(split=split)
            columns = described.columns.of(data)
            same = Classes.of(data, columns).names == described.classes.names
            return same and not len(unlabelled_rows(data, columns))
        except (DataError, SourceError):
            return False
