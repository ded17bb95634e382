"""Write what is released, and read it back: the dataset, its splits, and the images as files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_unlearnable.errors import (
    DataError,
    UnlearnableError,
    first_line,
    worded,
)
from hf_unlearnable.files import make_private, private_folder
from hf_unlearnable.protection.clean_split import release_clean, same_images
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.unchanged import unchanged_rows
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.image_files import (
    Names,
    endings_of,
    names_of,
    numbered,
    source_paths,
    with_file_names,
    write_images,
)
from hf_unlearnable.runs.lossy_copy import LossyCopy, write_lossy_copy
from hf_unlearnable.runs.origin import Origin
from hf_unlearnable.runs.splits import Splits

MAPPED = "map*.arrow"  # in the private folder while the images are written


@dataclass(frozen=True)
class Files:
    """How the images are written; see ``protect``."""

    image_format: str
    image_files: bool | None
    names: Names
    also_jpeg: int | None
    num_proc: int | None
    progress: bool


class Released(NamedTuple):
    """What was written; the fields are those of ``ProtectedRun``."""

    verification: Verification
    unchanged: tuple[int, ...]
    image_files: int
    lossy: LossyCopy | None


def write_released(
    protection: Protection,
    data: Dataset,
    run: RunFolder,
    origin: Origin | None,
    splits: Splits | None,
    files: Files,
) -> Released:
    """Write the protected images, read them back and compare them with their originals.

    Args:
        protection: of the images.
        data: the originals, N rows.
        run: where to; what an earlier try left there is used, or replaced.
        origin: where the originals are; None where nobody knows.
        splits: of which ``data`` was made, with those that stay clean; None for a single one.
        files: how they are written.

    Raises:
        DataError: what an earlier try left is damaged, and gone now; or the disk gives back other images.
        PrivacyError: a clean split has an image of a protected one.
        UnlearnableError: a process that wrote images was killed.
    """
    private_folder(run.private)
    if origin is not None:
        run.keep_origin(origin)
    if splits is not None:
        run.keep_splits(splits)
    try:
        verification = protection.verify(data, _written(protection, data, run, splits, files), progress=files.progress)
        verification.check_read_back()
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
    # Images are looked at once more only where some must be named.
    unchanged = unchanged_rows(run.dataset, protection, progress=files.progress) if verification.unchanged else []
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
    return Released(verification, tuple(unchanged), len(data) if wanted else 0, lossy)


def _names(
    protection: Protection, released: Dataset, paths: list[str] | None, origin: Origin | None, kind: Names
) -> list[str]:
    """Of the files: those of the originals where they are known and may be told, else numbers."""
    endings = endings_of(released, protection.columns.image)
    if paths is None or kind == "numbers":
        return numbered(released, protection.columns.label, endings)
    return names_of(paths, endings, origin.dataset if origin is not None else None)


def _written(protection: Protection, data: Dataset, run: RunFolder, splits: Splits | None, files: Files) -> Dataset:
    """The protected images, as they are read back from where they are published from."""

    # A cache of our own: the default one lies beside the source, where nobody looks for protected images. It is private
    # too while it exists, so that a kill in the middle leaves it among private files; what is finished of it is used.
    def cache(part: Dataset) -> Path:
        return run.private / f"map-{part._fingerprint}-{files.image_format}.arrow"

    def named(part: Dataset) -> Dataset:
        if files.names != "numbers":
            return part
        image, label = protection.columns.image, protection.columns.label
        return with_file_names(part, image, numbered(part, label, endings_of(part, image)))

    def protected(part: Dataset) -> Dataset:
        return protection.release(
            part,
            image_format=files.image_format,
            num_proc=files.num_proc,
            progress=files.progress,
            cache_file_name=str(cache(part)),
        )

    def clean(part: Dataset, name: str) -> Dataset:
        given: dict[str, Any] = {"image_format": files.image_format, "num_proc": files.num_proc}
        return release_clean(protection, part, name, cache=cache(part), **given)

    released: Dataset | DatasetDict
    try:
        if splits is None:
            released = named(protected(data))
        else:
            parts = {name: protected(part) for name, part in splits.protected.items()}
            parts |= {name: clean(part, name) for name, part in splits.clean.items()}
            released = DatasetDict({name: named(part) for name, part in parts.items()})
    except RuntimeError as error:
        if "abruptly died" not in str(error):
            raise
        raise UnlearnableError(
            f"one of the {files.num_proc} processes that write the images was killed; expected all to come to their "
            f"end. Where memory is short use fewer: a smaller {worded(python='num_proc', shell='--num-proc')}"
        ) from error
    make_private(run.private)  # what map wrote
    shutil.rmtree(run.published, ignore_errors=True)  # half of it, from a process that was killed
    released.save_to_disk(run.published)
    if splits is not None:
        written = run.published_splits
        for name, part in splits.clean.items():
            if not same_images(part, written[name], protection.columns.image):
                raise DataError(
                    f"got other images than were written when the split {name!r} was read back; expected the same "
                    f"pixels. Is the disk sound?"
                )
    return run.dataset
