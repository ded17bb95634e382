"""Look over a protected set as a stranger would who wants the originals back, or to know whose they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.reading import Survey, rows
from hf_unlearnable.data.sources import ALL, load_source, open_source
from hf_unlearnable.errors import (
    DataError,
    PrivacyError,
    SourceError,
    UnlearnableError,
    blank,
    first_line,
    number_of,
    option,
    worded,
)
from hf_unlearnable.evaluation.estimation import ESTIMATORS, probe_accuracy, removal
from hf_unlearnable.files import atomic_write, private_folder
from hf_unlearnable.protection.findings import SEVERITIES, Audit, Finding, Severity
from hf_unlearnable.protection.near_copies import NearCopy, Place, find_near_copies
from hf_unlearnable.runs.audit_subject import Subject, images_of, open_subject, published_at
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.publication import Check, checks, private_words, told_names
from hf_unlearnable.runs.test_images import open_test_images
from hf_unlearnable.settings import check_arguments

SAMPLE = 2000  # images at most that estimators are fitted to
ROOM = 1 << 28  # bytes at most that they take
SIDE = 256  # pixels a side at most that they are looked at where nobody wrote down at which the change was made
LEAK_FROM, WARNING_FROM = 0.5, 0.25  # shares of the change's energy that the best estimator takes out
SHOWN = 10  # pairs that are told


@check_arguments
def audit(
    run: RunFolder | str | PathLike[str],
    *,
    clean: str | PathLike[str] | None = None,
    clean_split: str | None = None,
    test: str | PathLike[str] | None = None,
    test_split: str | None = None,
    also: Sequence[str | PathLike[str]] = (),
    budget: Budget | str | float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    progress: bool = True,
) -> Audit:
    """Look for what a protected set gives away by itself, before or after it is published.

    Looked at are clean pixels and copies of the same picture in any split, metadata, names and paths, and what can be
    computed from the images alone: how much of the change the best of several estimators takes out, and whether a
    linear probe knows that there is one. What takes the originals is left out, and said, where they are not there;
    but sets that are named must be there and fit, which is found out before anything is looked at. The audit of a
    folder that ``protect`` wrote is kept in ``RunFolder.audited`` for its report.

    Args:
        run: what ``protect`` returned or wrote, any protected dataset, or its id on the Hub.
        clean: the originals, row by row; what was protected when left out, where that is known.
        clean_split: of them.
        test: clean images of the same kind that were not protected; when left out clean splits, what was held out, or
            the split ``test`` of the originals, where that was not protected itself.
        test_split: of them; ``test`` when left out, or the only one.
        also: further sets of the same pictures that are published elsewhere, such as another fit.
        budget: of a set that does not say it; 8 levels when left out.
        image_column: of a set that does not say it; may be left out when there is exactly one.
        label_column: likewise.
        progress: show bars.

    Raises:
        SourceError: nothing there, or where something was named.
        DataError: a dataset that cannot be opened, or originals that are not those of the protected images.
        RecipeError: what would be ignored.
        OutputError: nothing can be kept in the folder.
    """
    try:
        subject = open_subject(run, clean, clean_split, budget, image_column, label_column)
    except PrivacyError as error:
        found = Finding(check="folder", severity="leak", says=str(error))
        return Audit(name=str(Path(run)), images=0, findings=(found,))
    opened = {str(other): open_source(published_at(other), ALL).dataset for other in also}
    others = {other: images_of(data, subject.columns.image) for other, data in opened.items()}
    tests = None if test is None and test_split is None else _held_out(subject, test, test_split)
    if subject.run is not None:
        private_folder(subject.run.report_folder)  # before the work: it may not be possible
    findings = list(_looks(subject, tests, others, progress))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    audited = Audit(name=subject.name, images=subject.images, findings=tuple(findings))
    if subject.run is not None:
        atomic_write(
            subject.run.audit_file, json.dumps(audited.as_dict(), indent=2, allow_nan=False) + "\n", private=True
        )
    return audited


def _looks(
    subject: Subject, tests: list[Dataset] | None, others: Mapping[str, Dataset], progress: bool
) -> Iterator[Finding]:
    """All checks.

    Args:
        subject: what is audited.
        tests: clean images that were not protected, where they were named.
        others: further sets of the same pictures.
        progress: show bars.
    """
    image, run = subject.columns.image, subject.run
    known = None
    if run is not None:
        verified = run.verification
        known = (run.dataset, run.protection, verified[0].unchanged if verified else 0)
    else:
        yield _missed("clean pixels", "the protection is not here, which knows the originals by their digests")
    published = {**subject.protected, **subject.clean}
    for check in checks(published, image, private_words(run), known, progress=progress):
        yield _tried(check)
    yield from told_names(published, image)
    yield _asked("copies", lambda: _copies(subject, others, progress))
    yield _asked("class patterns", lambda: _patterns(subject))
    yield _asked("probe", lambda: _probe(subject, tests))


def _tried(check: Check) -> Finding:
    """A check that refuses."""
    try:
        doubt = check.run()
    except PrivacyError as error:
        return Finding(check=check.name, severity="leak", says=str(error))
    except DataError as error:
        return Finding(check=check.name, severity="warning", says=str(error))
    return Finding(check=check.name, severity="warning" if doubt else "fine", says=doubt or check.fine)


def _asked(check: str, look: Callable[[], Finding]) -> Finding:
    """A check that may not be possible."""
    try:
        return look()
    except UnlearnableError as error:
        return _missed(check, first_line(error))


def _missed(check: str, why: str) -> Finding:
    return Finding(check=check, severity="not looked at", says=why)


# --- copies -----------------------------------------------------------------------------------------------------------


def _copies(subject: Subject, others: Mapping[str, Dataset], progress: bool) -> Finding:
    """The same picture clean beside protected, or protected in two ways."""
    parts, image = {**subject.protected, **subject.clean, **others}, subject.columns.image
    radius = subject.budget.radius
    pairs = list(find_near_copies(parts, image, subject.budget, 2 * radius, progress=progress))
    beside = [pair for pair in pairs if len(_clean_of(subject, pair)) == 1 and pair.distance <= radius]
    twice = [pair for pair in pairs if not _clean_of(subject, pair) and pair.distance > 0]
    same = sum(not _clean_of(subject, pair) and pair.distance == 0 for pair in pairs)
    known, left, maybe = _of_one_original(subject, twice)
    evidence = {
        "clean_beside_protected": len(beside),
        "protected_in_two_ways": len(known),
        "taken_out_by_their_mean": left,
        "perhaps_in_two_ways": maybe,
        "equal_pixels": same,
        "pairs": [str(pair) for pair in (beside or known or twice)[:SHOWN]],
    }
    if beside:
        return Finding(
            check="copies",
            severity="leak",
            says=f"{len(beside)} clean images are within the budget of a protected one ({beside[0].first} and "
            f"{beside[0].second}): the same picture, perhaps, whose clean copy gives it away. Take it out of one side",
            evidence=evidence,
        )
    if known:
        assert left is not None  # both copies were changed, or they would be equal
        return Finding(
            check="copies",
            severity="leak",
            says=f"{len(known)} pairs of images are one original that was protected in two ways ({known[0].first} and "
            f"{known[0].second}); their mean takes out {100 * left:.0f} % of the energy of the change. Keep one copy "
            f"of each, or protect again with {option('duplicates', 'share')}",
            evidence=evidence,
        )
    if maybe:
        return Finding(
            check="copies",
            severity="warning",
            says=f"within twice the budget of one another: {number_of(maybe, 'pair')} of images ({twice[0].first} and "
            f"{twice[0].second}): pictures that are alike, or one that was protected in two ways, whose mean undoes a "
            f"part of it",
            evidence=evidence,
        )
    alike = f"; as near as that are {number_of(len(twice), 'pair')} of different pictures" if twice else ""
    equal = f"; equal pixels are in {number_of(same, 'pair')}" if same else ""
    says = f"no picture is there clean and protected, or protected in two ways{alike}{equal}"
    return Finding(check="copies", severity="fine", says=says, evidence=evidence)


def _clean_of(subject: Subject, pair: NearCopy) -> list[Place]:
    """Which of a pair are in splits that are clean on purpose."""
    return [place for place in (pair.first, pair.second) if place.part in subject.clean]


def _of_one_original(subject: Subject, pairs: list[NearCopy]) -> tuple[list[NearCopy], float | None, int]:
    """Which pairs are one original that was protected in two ways.

    Returns:
        These pairs; the share of the change's energy that their means take out, None where there are none; and of how
        many pairs nobody can tell, since the originals of both are not known.
    """
    if subject.originals is None:
        return [], None, len(pairs)
    protected = subject.protected
    starts = dict(zip(protected, np.cumsum([0, *map(len, protected.values())]), strict=False))
    released = concatenate_datasets([*protected.values()])
    found, unknown, before, after = [], 0, 0.0, 0.0
    for pair in pairs:
        if not {pair.first.part, pair.second.part} <= set(starts):
            unknown += 1
            continue
        numbers = np.array([starts[place.part] + place.row for place in (pair.first, pair.second)])
        one, other = (row.pixels.astype(np.float64) for row in rows(subject.originals, subject.columns, numbers))
        if one.shape == other.shape and np.array_equal(one, other):
            first, second = (row.pixels - one for row in rows(released, subject.columns, numbers))
            before += (np.square(first).sum() + np.square(second).sum()) / 2
            after += np.square((first + second) / 2).sum()
            found.append(pair)
    return found, 1 - after / before if before else None, unknown


# --- what can be computed ---------------------------------------------------------------------------------------------


def _patterns(subject: Subject) -> Finding:
    """How much of the change the best estimator takes out."""
    if subject.originals is None:
        raise SourceError(f"how much an estimator takes out shows beside the originals only: {subject.no_originals}")
    released, originals = _read(subject, [*subject.protected.values()]), _read(subject, [subject.originals])
    if not np.array_equal(released.labels, originals.labels) or released.pixels.shape != originals.pixels.shape:
        raise DataError("got originals with other labels or sizes than the protected images; expected the same rows")
    classes = len(np.unique(released.labels))
    if classes == 1:  # beside an empty one, since estimators leave in what all classes share
        released = replace(released, names=[*released.names, "others"])
    found = sorted((removal(released, originals, name) for name in ESTIMATORS), key=lambda one: -one.at_best)
    best = found[0]
    severity: Severity = "leak" if best.at_best >= LEAK_FROM else "warning" if best.at_best >= WARNING_FROM else "note"
    others = ", ".join(f"{one.estimator} {100 * one.at_best:.0f} %" for one in found[1:])
    known, missed = "and their labels", ""
    if classes == 1:
        known = "as one class"
        missed = ". Not looked at: what they find beside images of other classes, and in groups that a thief makes"
    return Finding(
        check="class patterns",
        severity=severity,
        says=f"{best.estimator}, fitted to {len(released)} released images {known}, takes out "
        f"{100 * best.at_best:.0f} % of the energy of the change ({others}){missed}. Energy is not protection: see "
        f"what models learn then with {_measured_after(subject, best.estimator)}",
        evidence={
            "images": len(released),
            "classes": classes,
            "estimators": [asdict(one) for one in found],
        },
    )


def _measured_after(subject: Subject, estimator: str) -> str:
    """How to see what models learn of images that an estimator was at."""
    unlabelled = subject.run is not None and bool(subject.run.protection.description.labels)
    return worded(
        python=f"measure(run, {'owner=True, ' if unlabelled else ''}defences={[estimator]})",
        shell=f"hf-unlearnable measure OUT {'--owner ' if unlabelled else ''}--defences {estimator}",
    )


def _probe(subject: Subject, tests: list[Dataset] | None) -> Finding:
    """Whether a linear probe tells protected images from clean ones that were not protected."""
    held_out = _held_out(subject, None, None) if tests is None else tests
    released = _read(subject, [*subject.protected.values()])
    shape = released.pixels.shape[1:]
    clean = _read(subject, held_out, labelled=False, channels=shape[0], size=shape[1:])
    accuracy = probe_accuracy(released, clean)
    control = None
    if subject.originals is not None:
        control = probe_accuracy(_read(subject, [subject.originals], channels=shape[0], size=shape[1:]), clean)
    told = "" if control is None else f"; {100 * control:.0f} % for the originals, which are no other kind of images"
    return Finding(
        check="probe",
        severity="note",
        says=f"a linear probe knows protected images from clean ones in {100 * accuracy:.0f} % of cases (chance 50 %"
        f"{told}): {'that' if accuracy > 0.75 else 'hardly that'} the set is protected can be found out",
        evidence={"images": 2 * min(len(released), len(clean)), "accuracy": accuracy, "control": control},
    )


def _held_out(subject: Subject, test: str | PathLike[str] | None, test_split: str | None) -> list[Dataset]:
    if test is not None:
        return [images_of(load_source(test, test_split), subject.columns.image)]
    if subject.clean and test_split in (None, *subject.clean):
        return [part for name, part in subject.clean.items() if test_split in (None, name)]
    if subject.run is None:
        raise SourceError(f"there are no clean images beside it; name some with {blank('test', 'DATASET')}")
    try:
        return [open_test_images(subject.run, None, test_split)]
    except (SourceError, DataError) as error:
        raise SourceError(
            f"there are no clean images that were not protected ({first_line(error)}); name some with "
            f"{blank('test', 'DATASET')}"
        ) from error


def _read(
    subject: Subject,
    parts: list[Dataset],
    *,
    labelled: bool = True,
    channels: int | None = None,
    size: tuple[int, ...] = (),
) -> ImageSet:
    """Evenly spaced images of a set, at the size at which the change was made."""
    columns = subject.columns if labelled else replace(subject.columns, label=None)
    names = [name for name in asdict(columns).values() if name]
    data = concatenate_datasets([part.select_columns(names) for part in parts])
    survey = Survey.of(data, columns)
    if not size:
        size = subject.run.protection.description.image_shape[1:] if subject.run else survey.working_size(SIDE)
    channels = channels or survey.channels
    most = min(SAMPLE, max(1, ROOM // (channels * math.prod(size))))
    numbers = np.arange(0, len(data), math.ceil(len(data) / most))
    height, width = size
    return ImageSet.read(data, columns, size=(height, width), channels=channels, numbers=numbers)
