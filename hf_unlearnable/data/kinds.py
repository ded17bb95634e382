"""What a file is, by the ending of its name, and by its first bytes where that says nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

from PIL import Image, features

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # as ``datasets`` reads them beside images

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # those that are opened

# Pillow opens these too, but they hold no picture of pixels, or it has to start another program to draw it.
_NO_PIXELS = {".eps", ".ps", ".wmf", ".emf", ".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".grib", ".bufr"}

_HEIF = {".heic", ".heics", ".heif", ".heifs", ".hif"}

_SNIFFED = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF")  # looked for in files of unknown endings


# The usual neighbours of images, whose first bytes are not looked at.
NEIGHBOURS = {".txt", ".cls", ".md", ".json", ".jsonl", ".csv", ".xml", ".html", ".parquet", ".arrow", ".wav", ".ogg"}


class Kind(NamedTuple):
    """Why files of a kind are left out.

    Attributes:
        why: what they are, and what to do.
        picture: whether they may show what somebody wants protected; junk, sounds and texts do not.
    """

    why: str
    picture: bool


JUNK = Kind("hidden, or written by the system", False)
OTHER = Kind("not an image", False)

_LEFT_OUT = {
    Kind("drawings or documents: export them as PNG", True): ".svg .svgz .eps .ps .pdf .ai .wmf .emf .cdr .indd",
    Kind("raw files of a camera: develop them to TIFF, PNG or JPEG", True): (
        ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .srw .pef .x3f .iiq .3fr .erf .mrw .rwl .dcr .kdc"
    ),
    Kind("videos: only still images are protected", True): (
        ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .3gp .wmv .flv .mts .m2ts .gifv"
    ),
    Kind("images of a format that is not read: convert them to PNG", True): (
        ".jxl .jxr .hdp .wdp .xcf .kra .psb .exr .hdr .bpg .clip .procreate .raw .heic .heics .heif .heifs .hif .avif"
    ),
    Kind("archives: unpack them, or protect each by itself", True): (
        " ".join(ARCHIVES) + " .tbz2 .txz .gz .bz2 .xz .zst .7z .rar"
    ),
}

_BY_ENDING = {ending: kind for kind, endings in _LEFT_OUT.items() for ending in endings.split()}

_NEEDS_HEIF = Kind("HEIC images: pip install 'hf-unlearnable[heif]' reads them, or convert them to PNG", True)
_NEEDS_AVIF = Kind("AVIF images, which this Pillow cannot read: install a newer one, or convert them to PNG", True)


@cache
def register_heif() -> bool:
    """Let Pillow open HEIC in this process, where the extra ``heif`` is installed; return whether it can."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        return True
    return False


@cache
def _read() -> frozenset[str]:
    """The endings of the images that are read here."""
    heif = _HEIF if register_heif() else set()
    known = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    without = _NO_PIXELS if features.check("avif") else _NO_PIXELS | {".avif", ".avifs"}
    return frozenset((known - without - _HEIF) | heif)


def is_junk(path: str) -> bool:
    """Whether a file, or a folder around it, is hidden or one of those that systems leave behind."""
    parts = PurePosixPath(path).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1].lower() in (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    )


def why_left_out(path: str, opened: Callable[[], BinaryIO]) -> Kind | None:
    """Why a file is no image to protect; None if it is one.

    Args:
        path: below the folder, with ``/`` between its parts.
        opened: opens it, for the first bytes of a file with an ending that is not known.
    """
    if is_junk(path):
        return JUNK
    ending = PurePosixPath(path).suffix.lower()
    if ending in _read():
        return None
    if ending in _HEIF:
        return _NEEDS_HEIF
    if ending == ".avif":
        return _NEEDS_AVIF
    if ending in _BY_ENDING:
        return _BY_ENDING[ending]
    if ending in NEIGHBOURS:
        return OTHER
    with suppress(Exception), opened() as file, Image.open(file, formats=[f for f in _SNIFFED if f in Image.OPEN]):
        return None  # an image by its content: names without an ending, .jpg_large
    return OTHER
