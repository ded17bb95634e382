"""Measure a run: open what belongs together, train the victims, and keep what they learn beside the run."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from datasets import Dataset

from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import SourceError, option
from hf_unlearnable.evaluation.protocol import learnability
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.evaluation.thieves import DEFAULT_SUITE
from hf_unlearnable.files import private_folder
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.training.processes import default_accelerator


def measure(
    run: str | PathLike[str],
    *,
    clean: Dataset | str | None = None,
    clean_split: str | None = None,
    test: Dataset | str | None = None,
    test_split: str | None = None,
    **options: Any,
) -> Report:
    """Train fresh models on a protected set and keep what they learn, as ``hf-unlearnable measure`` does.

    A measurement that was stopped goes on where it was: what is finished is kept in ``RunFolder.victims``.

    Args:
        run: what ``protect`` returned or wrote, or any protected dataset.
        clean: the originals, or where they are; what was protected when left out.
        clean_split: of originals that are named; what was protected when left out.
        test: clean images that nobody trained on, or where they are; the same dataset as the originals when left out.
        test_split: of test images that are named; ``test`` when left out, or the only one of ``test``.
        options: of ``learnability``: victims, defences, trainings, suite, ratios, sequential, training, seeds… The
            suite is ``"quick"`` where none of the first four is given.

    Returns:
        The report, which also lies in ``RunFolder.measured`` and, as a table, in ``learnability.csv`` beside it.

    Raises:
        SourceError: originals that nobody wrote down, or a dataset that is not there.
        UnlearnableError: as ``learnability`` raises them.
    """
    folder = RunFolder(run)
    protected, originals, tests = open_sets(folder, clean, clean_split, test, test_split)
    accelerator = options.pop("accelerator", None) or default_accelerator()
    options = with_suite(options)
    private_folder(folder.report_folder)  # before the work: it may not be possible
    report = learnability(
        protected, clean=originals, test=tests, keep_in=folder.victims, accelerator=accelerator, **options
    )
    if accelerator.is_main_process:
        report.save(folder.measured, private=True)
        report.save(folder.beside("learnability.csv"), private=True)
    return report


def with_suite(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``learnability`` with the default suite where no thief was chosen."""
    chosen = any(options.get(name) is not None for name in ("victims", "defences", "trainings", "suite"))
    return dict(options) if chosen else {**options, "suite": DEFAULT_SUITE}


def open_sets(
    run: RunFolder,
    clean: Dataset | str | None = None,
    clean_split: str | None = None,
    test: Dataset | str | None = None,
    test_split: str | None = None,
) -> tuple[Dataset, Dataset, Dataset]:
    """The protected images of a run, their originals, and clean images to test on; arguments as of ``measure``."""
    origin = run.origin
    if clean is None and origin is None:
        if not run.root.is_dir():
            raise SourceError(
                f"got {str(run)!r}; expected the folder that hf-unlearnable protect --output wrote, or, with "
                f"{option('clean', 'DATASET')}, any protected dataset"
            )
        raise SourceError(
            f"{str(run)!r} does not say what was protected; name the originals with {option('clean', 'DATASET')}"
        )
    protected = run.dataset
    originals = clean if isinstance(clean, Dataset) else run.originals(clean, clean_split)
    if isinstance(test, Dataset):
        return protected, originals, test
    if test is not None:
        return protected, originals, load_source(test, test_split, class_depth=origin.class_depth if origin else None)
    if isinstance(clean, Dataset):
        raise SourceError("got originals in memory and no test images; expected both, or the names of both")
    return protected, originals, run.originals(clean, test_split or "test")
