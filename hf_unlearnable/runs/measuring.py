"""Measure a run: open what belongs together, train the victims, and keep what they learn beside the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from datasets import ClassLabel, Dataset

from hf_unlearnable.data.columns import unlabelled
from hf_unlearnable.data.neutral import neutral_pictures
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import RecipeError, SourceError, UnlearnableError, blank, option, warn
from hf_unlearnable.evaluation.owner import hold_out_own
from hf_unlearnable.evaluation.protocol import learnability
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.evaluation.thieves import DEFAULT_SUITE
from hf_unlearnable.files import private_folder
from hf_unlearnable.methods import find_method, methods_used
from hf_unlearnable.protection.description import Description
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.named_originals import check_clean, open_originals
from hf_unlearnable.runs.test_images import open_test_images
from hf_unlearnable.settings import IN_MEMORY, check_arguments, refuse_ignored
from hf_unlearnable.training.processes import default_accelerator

GENERATED = (
    "no images of others were named, so the owner's were measured among generated ones, which a model tells from "
    "pictures at a glance: name real ones of the same kind"
)


@check_arguments
def measure(
    run: RunFolder | str | PathLike[str],
    *,
    clean: Dataset | str | PathLike[str] | None = None,
    clean_split: str | None = None,
    test: Dataset | str | PathLike[str] | None = None,
    test_split: str | None = None,
    owner: bool = False,
    others: Dataset | str | PathLike[str] | None = None,
    others_split: str | None = None,
    others_test: Dataset | str | PathLike[str] | None = None,
    others_test_split: str | None = None,
    **options: Any,
) -> Report:
    """Train fresh models on a protected set and keep what they learn, as ``hf-unlearnable measure`` does.

    A measurement that was stopped goes on where it was: what is finished is kept in ``RunFolder.victims``.

    Args:
        run: what ``protect`` returned or wrote, or any protected dataset.
        clean: the originals, or where they are; what was protected when left out.
        clean_split: of originals that are named; what was protected when left out.
        test: clean images that nobody trained on, or where they are. When left out those that ``protect`` held out or
            kept clean, else a split of the originals.
        test_split: of test images that are named, or the only one of ``test``; of the originals ``test``.
        owner: ask instead whether a model learns these images, as one class, when they lie among clean ones of others
            (see ``learnability``). Where ``test`` and ``test_split`` are left out, a fifth of the run's images is kept
            from the thieves, and its clean form is what they are tested on.
        others: with ``owner``: clean images of other people, or where they are; ``data.neutral.neutral_pictures`` when
            left out, which a model tells from photographs by much more than the protection: a hint, no measurement.
        others_split: of others that are named; ``train`` when left out.
        others_test: further ones to test on, or where they are; the same dataset when left out.
        others_test_split: of it; a fifth of the others where this and ``others_test`` are left out.
        options: of ``learnability``: victims, defences, trainings, suite, ratios, sequential, training, seeds… The
            suite is ``"quick"`` where none of the first four is given; its ``attack`` that of the run's method.

    Returns:
        The report, which also lies in ``RunFolder.measured`` and, as a table, in ``learnability.csv`` beside it.

    Raises:
        SourceError: originals that nobody wrote down, or a dataset that is not there.
        DataError: originals that are not those of the run, as far as a sample tells.
        OutputError: nothing can be kept in the folder.
        UnlearnableError: as ``learnability`` raises them.
    """
    opened = Measurement.open(
        RunFolder(run),
        clean,
        clean_split,
        test,
        test_split,
        owner=owner,
        others=others,
        others_split=others_split,
        others_test=others_test,
        others_test_split=others_test_split,
        image_column=options.get("image_column"),
        label_column=options.get("label_column"),
    )
    return opened.measure(**options)


@dataclass(frozen=True)
class Measurement:
    """What a run is measured with, opened and seen to belong together: that takes a while.

    Attributes:
        run: the folder.
        protected: its images.
        originals: the same rows.
        tests: clean images that nobody trains on.
        others: images of others, as options of ``learnability``; none where the run is no one owner's.
        generated: whether those stand in where none were named.
    """

    run: RunFolder
    protected: Dataset
    originals: Dataset
    tests: Dataset
    others: Mapping[str, Dataset]
    generated: bool

    @classmethod
    def open(
        cls,
        run: RunFolder,
        clean: Dataset | str | PathLike[str] | None = None,
        clean_split: str | None = None,
        test: Dataset | str | PathLike[str] | None = None,
        test_split: str | None = None,
        *,
        owner: bool = False,
        others: Dataset | str | PathLike[str] | None = None,
        others_split: str | None = None,
        others_test: Dataset | str | PathLike[str] | None = None,
        others_test_split: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> Measurement:
        """Open it; arguments and errors are those of ``measure``."""
        named_others = (others, others_split, others_test, others_test_split)
        _check_owner(owner, *named_others)
        if owner:
            there = _options_of_others(*named_others)
            sets = _open_own(run, clean, clean_split, test, test_split, image_column)
            return cls(run, *sets, others=there, generated=others is None)
        _check_labelled(run, label_column)
        return cls(run, *open_sets(run, clean, clean_split, test, test_split), others={}, generated=False)

    def measure(self, **options: Any) -> Report:
        """Train models on it and keep what they learn; options are those of ``learnability``."""
        accelerator = options.pop("accelerator", None) or default_accelerator()
        options = with_suite(options, self.run)
        private_folder(self.run.report_folder)  # before the work: it may not be possible
        report = learnability(
            self.protected,
            clean=self.originals,
            test=self.tests,
            keep_in=self.run.victims,
            accelerator=accelerator,
            **self.others,
            **options,
        )
        if self.generated:
            report = replace(report, doubts=(*report.doubts, GENERATED))
            if accelerator.is_main_process:
                warn(GENERATED)
        if accelerator.is_main_process:
            report.save(self.run.measured, private=True)
            report.save(self.run.beside("learnability.csv"), private=True)
        return report


def _check_owner(owner: bool, *others: Any) -> None:
    """Refuse images of others, or their splits, where nobody asks whether one owner's are learned among them.

    Raises:
        RecipeError: they are given all the same.
    """
    if not owner and any(given is not None for given in others):
        raise RecipeError(
            f"got images of others without {option('owner', True, '--owner')}; expected both: they are what the "
            f"owner's lie among"
        )


def _check_labelled(run: RunFolder, label_column: str | None) -> None:
    """Refuse a run whose images have no labels of their own: models learn no classes of them.

    Raises:
        RecipeError: it is one, and no column is named.
    """
    described = _description(run)
    if label_column is not None or described is None or not described.labels:
        return
    if not any(isinstance(feature, ClassLabel) for feature in run.dataset.features.values()):
        raise RecipeError(
            f"got {str(run)!r}, images that have no labels of their own; expected {option('owner', True, '--owner')}: "
            f"whether a model learns them as one owner's, among images of others ({blank('others', 'DATASET')})"
        )


def _description(run: RunFolder) -> Description | None:
    """How a run was protected; None where nobody wrote it down, or it is damaged: a measurement can do without."""
    try:
        return run.description
    except UnlearnableError:
        return None


def with_suite(options: Mapping[str, Any], run: RunFolder) -> dict[str, Any]:
    """Options of ``learnability`` with the default suite where no thief was chosen, and with the attack of a suite."""
    chosen = any(options.get(name) is not None for name in ("victims", "defences", "trainings"))
    suite = options.get("suite") or (None if chosen else DEFAULT_SUITE)
    attack = options.get("attack") or (attack_on(run) if suite else None)
    return {**options, "suite": suite, "attack": attack}


def attack_on(run: RunFolder) -> str | None:
    """The best attack on how a run was protected that the method's author knows; None where none is named.

    That is so of perturbations that another tool made, and of a method that is not installed here.
    """
    if (described := _description(run)) is None:
        return None
    used = [find_method(name) for name in methods_used(described.method_name, described.findings)]
    # One that chose another names what fits all that it may choose: the other's own attack fits it better.
    return next((method.adaptive for method in reversed(used) if method is not None and method.adaptive), None)


def _open_own(
    run: RunFolder,
    clean: Dataset | str | PathLike[str] | None = None,
    clean_split: str | None = None,
    test: Dataset | str | PathLike[str] | None = None,
    test_split: str | None = None,
    image_column: str | None = None,
) -> tuple[Dataset, Dataset, Dataset]:
    """``open_sets`` of one owner's images, of which a part is held out where no test images are named.

    Raises:
        DataError: too few images to hold some out.
    """
    if test is not None or test_split is not None or run.held_out.is_dir():
        return open_sets(run, clean, clean_split, test, test_split)
    protected, originals = _both(run, clean, clean_split)
    kept, held = hold_out_own(originals, unlabelled(originals, image_column))
    return protected.select(kept), originals.select(kept), originals.select(held)


def _options_of_others(
    others: Dataset | str | PathLike[str] | None,
    split: str | None = None,
    test: Dataset | str | PathLike[str] | None = None,
    test_split: str | None = None,
) -> dict[str, Dataset]:
    """The images of others, as options of ``learnability``; arguments as of ``measure``.

    Raises:
        RecipeError: a split or a test set of others that are not named, or of others in memory.
        SourceError: nothing there.
    """
    if others is None:
        if (split, test, test_split) != (None, None, None):
            raise RecipeError("got a split or a test set of others and no others; expected both, or neither")
        return {"others": neutral_pictures()}
    if isinstance(others, Dataset):
        refuse_ignored(IN_MEMORY, others_split=split)
    if isinstance(test, Dataset):
        refuse_ignored(IN_MEMORY, others_test_split=test_split)
    opened = {"others": others if isinstance(others, Dataset) else load_source(others, split or "train")}
    if isinstance(test, Dataset):
        opened["others_test"] = test
    elif test is not None or test_split is not None:
        if test is None and isinstance(others, Dataset):
            raise RecipeError("got a test split of others in memory; expected the test images themselves")
        opened["others_test"] = load_source(test if test is not None else others, test_split)
    return opened


def open_sets(
    run: RunFolder,
    clean: Dataset | str | PathLike[str] | None = None,
    clean_split: str | None = None,
    test: Dataset | str | PathLike[str] | None = None,
    test_split: str | None = None,
) -> tuple[Dataset, Dataset, Dataset]:
    """The protected images of a run, their originals, and clean images to test on; arguments as of ``measure``."""
    if isinstance(test, Dataset):
        refuse_ignored(IN_MEMORY, test_split=test_split)
    check_clean(test, test_split)
    protected, originals = _both(run, clean, clean_split)
    if isinstance(test, Dataset):
        return protected, originals, test
    if test is not None:
        depth = run.origin.class_depth if run.origin else None
        return protected, originals, load_source(test, test_split, class_depth=depth)
    return protected, originals, open_test_images(run, clean, test_split)


def _both(
    run: RunFolder, clean: Dataset | str | PathLike[str] | None, clean_split: str | None
) -> tuple[Dataset, Dataset]:
    """The protected images of a run and their originals.

    Raises:
        SourceError: there are none, or nobody wrote down where the originals are.
        DataError: what is there are not the originals, as far as a sample tells; of a set of another tool only their
            number is compared.
    """
    if clean is None and not run.root.is_dir():
        raise SourceError(
            f"got {str(run)!r}; expected the folder that hf-unlearnable protect --output wrote, or, with "
            f"{blank('clean', 'DATASET')}, any protected dataset"
        )
    protected = run.dataset
    if (described := _description(run)) is None:
        return protected, open_originals(run, clean, clean_split, protected, None)
    # The labels of what was named may have another column here, or none, and are compared later, row by row.
    named = clean is not None or clean_split is not None
    columns = replace(described.columns, label=None) if named else described.columns
    return protected, open_originals(run, clean, clean_split, protected, columns, described.budget)
