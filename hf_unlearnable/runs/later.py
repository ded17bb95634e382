"""Pictures that came later: protected as those of a run, with what that run keeps for images it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from hf_unlearnable.data.columns import names_of_labels, with_image_column
from hf_unlearnable.data.disk_space import full_disk_told
from hf_unlearnable.data.intake import not_protected
from hf_unlearnable.data.pairing import Pair
from hf_unlearnable.data.pixels import IMAGE_FORMATS, check_format, encode, to_array
from hf_unlearnable.data.reading import NAMED, stored_files
from hf_unlearnable.data.sources import Source, open_source
from hf_unlearnable.errors import DataError, RecipeError, UnseenImageError, number_of, option, some_of
from hf_unlearnable.files import atomic_folder, local_path, require_empty
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.verification import Verification, compare
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.image_files import names_of, numbered, source_paths
from hf_unlearnable.runs.inspecting import readable
from hf_unlearnable.runs.named_originals import check_not_protected
from hf_unlearnable.settings import check_arguments


@check_arguments
def protect_like(
    run: RunFolder | str | PathLike[str],
    pictures: Dataset | str | PathLike[str],
    output: str | PathLike[str],
    *,
    split: str = "train",
    config: str | None = None,
    leave_out: bool = False,
    skip_unreadable: bool = False,
    image_format: str = "png",
) -> Verification:
    """Protect pictures with the protection of an earlier run, and write them as files.

    Nothing is fitted: a picture of the run gets its own perturbation once more, any other one the pattern of the run,
    in a variant that depends on its pixels. The same picture always gets the same bytes.

    Args:
        run: what ``protect`` made of one owner's images, or with ``on_unseen="craft"``.
        pictures: a dataset, or what ``protect`` can open: a picture, a folder, a Hub id. Labels of the same name as
            the run's, where that has any, and classes that are called alike: their numbers may be others.
        output: a folder that holds nothing yet: files get the names that the pictures had, or numbers.
        split: of pictures that are named.
        config: likewise.
        leave_out: leave files out that may be pictures and are not read, such as drawings and raw files.
        skip_unreadable: leave pictures out that cannot be read.
        image_format: ``"png"`` or ``"webp"``, without loss.

    Returns:
        The files as they were read back, compared with the pictures.

    Raises:
        RecipeError: the run keeps nothing for images that it has not seen.
        DataError: pictures that cannot be read, or would be left out in silence, all of them named; that an earlier
            ``protect`` wrote; or without the labels that the run goes by. Or the disk gives back other images.
        UnseenImageError: pictures that would come out as they are, all of them named.
        OutputError: ``output`` holds something.

    Warns:
        DataWarning: pictures that are left out, all of them named.
    """
    check_format(image_format)
    protection = RunFolder.open(run).protection
    require_empty(local_path(output))
    check_not_protected(pictures)
    if protection.description.patterns is None:
        raise RecipeError(
            f"got {str(run)!r}, which keeps nothing for images that it has not seen; expected a run of one owner's "
            f"images, or one that was protected with {option('on_unseen', 'craft', '--craft-unseen')}. Protect the new "
            f"pictures by a run of their own, or all of them again so"
        )
    depth = 0 if protection.columns.label is None else None  # of one owner's pictures folders are no classes
    opened = (
        Source(pictures, split, {}) if isinstance(pictures, Dataset) else open_source(pictures, split, config, depth)
    )
    lost = opened.contents.pictures_left_out if opened.contents else []
    told = [not_protected(lost, str(pictures))] if lost and not leave_out else []
    data = readable(_columns_of(opened.dataset, protection), protection.columns, skip_unreadable, told)
    _check_labels(data, protection)
    with full_disk_told(local_path(output)), atomic_folder(local_path(output)) as folder:
        verification = compare(_written(protection, data, folder, image_format), protection.budget)
        verification.check_read_back()
    return verification


def _columns_of(data: Dataset, protection: Protection) -> Dataset:
    """The same with the names that the run's columns have."""
    wanted = protection.columns
    if wanted.label is not None and wanted.label not in data.features:
        raise DataError(
            f"got pictures without the column {wanted.label!r}, by which the run tells its classes apart; expected it. "
            f"Protect them anew, or with a run of one owner's images"
        )
    return with_image_column(data, wanted.image)


def _check_labels(data: Dataset, protection: Protection) -> None:
    """Refuse pictures whose label is no class of the run, before anything is written."""
    image, label = protection.columns.image, protection.columns.label
    if label is None:
        return
    stored = stored_files(data, image, beside=[label])
    classes, names = protection.classes, names_of_labels(data.features, label)
    wrong = [
        (row[image]["path"] or f"row {number}", own)
        for number, row in enumerate(stored)
        if classes.number(own := classes.own(row[label], names)) is None
    ]
    if wrong:
        named = some_of([f"{picture} ({own!r})" for picture, own in wrong], NAMED)
        raise DataError(
            f"got {len(wrong)} of {number_of(len(data), 'picture')} with a label of no class of the run: {named}; "
            f"expected {classes.expected_for(wrong[0][1])}. Name their classes, of a folder by renaming it, or take "
            f"them out and protect them by a run of their own"
        )


def _written(protection: Protection, data: Dataset, folder: Path, image_format: str) -> Iterator[Pair]:
    """Write every picture, and read it back: (original, released) pixels."""
    image, label = protection.columns.image, protection.columns.label
    decode = ImageFeature(mode=protection.description.image_mode).decode_example
    endings = [IMAGE_FORMATS[image_format]] * len(data)
    paths = source_paths(data, image)
    names = names_of(paths, endings) if paths else numbered(data, label, endings)
    refused, called = [], names_of_labels(data.features, label)
    stored = stored_files(data, image, beside=[label] if label else [])
    for name, row in zip(names, stored, strict=True):
        original = decode(row[image])
        try:
            protected = protection.protect(original, label and protection.classes.own(row[label], called))
        except UnseenImageError as error:
            refused.append(f"{row[image]['path'] or name}: {error}")
            continue
        content, ending = encode(protected, image_format)
        file = (folder / name).with_suffix(ending)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        with Image.open(file) as released:
            yield to_array(original), np.array(to_array(released))
    if refused:
        listing = "\n".join(f"  {one}" for one in refused)
        raise UnseenImageError(f"got {len(refused)} of {len(data)} pictures that cannot be protected so:\n{listing}")
