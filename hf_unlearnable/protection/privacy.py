"""What must not be published: looked for before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hf_unlearnable.data.annotations import other_images
from hf_unlearnable.data.masks import why_no_masks
from hf_unlearnable.data.pixels import METADATA
from hf_unlearnable.data.profiles import is_own
from hf_unlearnable.data.reading import open_image, reading_row, stored_files
from hf_unlearnable.errors import DataError, PrivacyError, worded
from hf_unlearnable.files import SCRATCH, WORK
from hf_unlearnable.protection.class_patterns import FILE as PATTERNS
from hf_unlearnable.protection.description import DESCRIPTION
from hf_unlearnable.protection.layout import ORIGIN, PRIVATE
from hf_unlearnable.protection.protection import STORE, Protection
from hf_unlearnable.protection.store import SCHEMA
from hf_unlearnable.protection.unchanged import told_unchanged, unchanged_rows

PRIVATE_NAMES = {STORE, DESCRIPTION, PATTERNS, ORIGIN, PRIVATE}

WEIGHTS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npy", ".npz", WORK, SCRATCH}

PAGES = {".html", ".htm"}

LOSSLESS = {"PNG", "WEBP", "TIFF", "BMP"}

PRIVATE_PAGE = "private-report-with-clean-images"  # stands in the head of such a page

SAMPLE = 10  # rows that are looked at for what a column holds

LONG = 64  # numbers in a list: more than the corners of a box, less than the features of any network

LONG_TEXT = 1000  # letters without a space: more than a checksum, less than the file of an image in base 64

LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)

BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is, or holds, something private: perturbations, weights, where the originals are.

    Raises:
        PrivacyError: it does.
    """
    for path in [folder, *folder.rglob("*")]:
        if (
            path.name in PRIVATE_NAMES
            or path.suffix in WEIGHTS
            or (path.suffix == ".arrow" and _is_store(path))
            or (path.suffix in PAGES and _is_private_page(path))
        ):
            raise PrivacyError(
                f"got {str(folder)!r} to publish, with {path.name!r} in it; expected a folder without private parts. "
                f"Perturbations, surrogates and reports with clean images undo the protection: move them out of the "
                f"folder, and push the folder that hf-unlearnable protect --output wrote"
            )


def _is_store(path: Path) -> bool:
    try:
        with pa.memory_map(str(path)) as source:
            try:
                schema = pa.ipc.open_file(source).schema
            except pa.ArrowInvalid:
                schema = pa.ipc.open_stream(source).schema
    except (pa.ArrowInvalid, OSError):
        return False
    return set(SCHEMA.names) <= set(schema.names)


def _is_private_page(path: Path) -> bool:
    with path.open("rb") as stream:
        return PRIVATE_PAGE.encode() in stream.read(1 << 12)


def check_dataset(dataset: Dataset, image_column: str, private: Iterable[str], *, progress: bool = False) -> None:
    """Refuse a dataset that carries more than its protected images.

    Args:
        dataset: what is to be published.
        image_column: with the protected images.
        private: words that must stand nowhere, such as the paths of the originals.
        progress: show bars.

    Raises:
        PrivacyError: another column with images or raw bytes, a local path, or metadata (EXIF) in an image.
        DataError: an image that cannot be read, or is not stored lossless, so that the budget cannot hold.
    """
    check_other_columns(dataset, image_column, progress=progress)
    words = sorted({word for word in private if len(word) > 1})
    for name, values in texts(dataset.data.table):
        for word in words:
            if pc.any(pc.match_substring(values, word)).as_py():
                raise PrivacyError(
                    f"got the local path {word!r} in the column {name!r}; expected none in what is published. "
                    f"{_leave_out(name.split('.')[0])}"
                )
    for index, row in enumerate(stored_files(dataset, image_column)):
        _check_image(row[image_column], index)


def check_other_columns(dataset: Dataset, image_column: str, *, progress: bool = False) -> None:
    """Refuse other columns that can hold the images, or tell what a model learns from them.

    These are images, arrays and raw bytes; text that is a file in base 64; and long lists of numbers, such as pixels or
    the features that a network makes of them; also within lists and structures. Masks are no such images: in one plane,
    of large areas of one value, and nothing like the image.

    Args:
        dataset: with all columns.
        image_column: the one that is protected.
        progress: show bars.

    Raises:
        PrivacyError: there is one.
        DataError: a mask that cannot be read.
    """
    images = other_images(dataset, image_column)
    others = [column for column in dataset.column_names if column not in (image_column, *images)]
    first = dataset.with_format(None).select_columns(others)[:SAMPLE] if others else {}
    for column in others:
        if _holds_pixels(dataset.features[column]) or _embeds(first[column]):
            raise PrivacyError(
                f"got the column {column!r}, which can hold images or other bytes that are not protected, or what a "
                f"network made of them; expected them in {image_column!r} only. {_leave_out(column)}"
            )
    for column in images:
        if reason := why_no_masks(dataset, image_column, column, progress=progress):
            raise PrivacyError(
                f"got the column {column!r}, whose images are no masks and can be clean copies ({reason}); expected "
                f"images in {image_column!r} only, and masks beside them. {_leave_out(column)}"
            )


def _leave_out(column: str) -> str:
    return "Leave the column out: " + worded(python=f"drop_columns=[{column!r}]", shell=f"--drop-column {column}")


def _embeds(values: Sequence[Any], least: int = 1) -> bool:
    """Whether values are files as text, or ``least`` long lists of numbers of one length; or hold such, however deep.

    A single list within others says nothing of lengths: it may be the outline of the one object in ten images.
    """
    texts = [value for value in values if isinstance(value, str) and len(value) > LONG_TEXT]
    if texts and all(value.startswith("data:image/") or BASE64.fullmatch(value) for value in texts):
        return True
    lists = [value for value in values if isinstance(value, list)]
    lengths = set(map(_count, lists))
    if len(lists) >= least and len(lengths) == 1 and lengths.pop() >= LONG:
        return True
    structures = [value for value in values if isinstance(value, Mapping)]
    inside = [[one[name] for one in structures] for name in (structures[0] if structures else ())]
    return any(_embeds(held, least=2) for held in (*inside, [item for items in lists for item in items]) if held)


def _count(value: Any) -> int:
    """How many numbers are in a list, however deep."""
    if isinstance(value, list):
        return sum(map(_count, value))
    return int(isinstance(value, (int, float)))


def check_protected(dataset: Dataset, protection: Protection, unchanged: int, *, progress: bool = False) -> str:
    """Refuse a dataset with images that are as they were before they were protected.

    Args:
        dataset: what is to be published.
        protection: of it.
        unchanged: so many images are equal to their originals, since nothing was added to them.
        progress: show a bar.

    Returns:
        Which these are; empty where there are none.

    Raises:
        PrivacyError: more than those.
    """
    found = unchanged_rows(dataset, protection, progress=progress)
    if len(found) > unchanged:
        raise PrivacyError(
            f"got {len(found)} original images to publish, such as row {found[0]}; expected {unchanged}, those that "
            f"the protection left as they are. Is this the dataset that hf-unlearnable protect wrote?"
        )
    method = protection.description.method
    return told_unchanged(dataset, protection.columns.image, found, method, len(dataset)) if found else ""


def _holds_pixels(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return any(_holds_pixels(part) for part in feature.values())
    if isinstance(feature, (list, tuple)):
        return any(_holds_pixels(part) for part in feature)
    if hasattr(feature, "feature"):  # List, Sequence
        return _holds_pixels(feature.feature)
    if hasattr(feature, "shape"):  # Array2D and its like
        return True
    # Image, Video, Audio; a Value of raw bytes
    return not hasattr(feature, "names") and not str(getattr(feature, "dtype", "")).startswith(
        ("int", "uint", "float", "bool", "string", "large_string", "date", "time", "timestamp", "duration", "decimal")
    )


def texts(table: pa.Table) -> Iterable[tuple[str, pa.ChunkedArray]]:
    """Every column of text, however deep in structures and lists."""
    for name, values in zip(table.column_names, table.columns, strict=True):
        yield from _flat(name, values)


def _flat(name: str, values: pa.ChunkedArray) -> Iterable[tuple[str, pa.ChunkedArray]]:
    kind = values.type
    if pa.types.is_string_view(kind):
        yield name, values.cast(pa.large_string())  # nothing can be looked for in views
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield name, values
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _flat(f"{name}.{field.name}", pc.struct_field(values, field.name))
    elif pa.types.is_dictionary(kind):
        yield from _flat(name, values.cast(kind.value_type))
    elif any(is_kind(kind) for is_kind in LISTS):
        yield from _flat(name, pc.list_flatten(values))


def _check_image(stored: Mapping[str, Any] | None, index: int) -> None:
    with reading_row(index, stored), open_image(stored) as image:
        kind, carried = image.format, METADATA & set(image.info) or dict(image.getexif())
        profile = image.info.get("icc_profile")
    if kind not in LOSSLESS:
        raise DataError(
            f"row {index}: got an image stored as {kind}; expected {', '.join(sorted(LOSSLESS))}, since lossy "
            f"compression leaves the budget and weakens the protection. {_made()}"
        )
    if profile and not is_own(profile):
        raise PrivacyError(
            f"row {index}: got an image with a colour profile of its own; expected none, or one that protect writes, "
            f"since profiles can name people and devices. Protect the dataset again"
        )
    if carried:
        raise PrivacyError(
            f"row {index}: got an image with metadata ({', '.join(map(str, carried))}); expected none, since EXIF can "
            f"tell who took it and where. {_made()}"
        )


def _made() -> str:
    return worded(python="Publish what map(protect) gave", shell="Publish what hf-unlearnable protect wrote")
