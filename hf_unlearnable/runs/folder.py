"""The folder that ``hf-unlearnable protect --output`` writes: one part to publish, one to keep."""

from __future__ import annotations

import json
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import PrivacyError, SourceError
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.protection.layout import MEASURED, ORIGIN, PRIVATE, PROTECTION, PUBLISH, REPORT, VERIFIED
from hf_unlearnable.protection.privacy import check_folder
from hf_unlearnable.protection.protection import ABOUT, STORE, Protection


class ProtectedFolder:
    """What ``protect`` wrote and ``measure`` added to.

    Args:
        folder: as it was given to ``--output``.

    Raises:
        SourceError: not such a folder.
        PrivacyError: the private part itself, or a public part with something private in it.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        if self.folder.name == PRIVATE or any((self.folder / name).exists() for name in (STORE, ABOUT, ORIGIN)):
            raise PrivacyError(
                f"got {str(folder)!r}, the private part of a protection; expected the folder around it, of which only "
                f"{PUBLISH}/ is ever published"
            )
        if not (self.folder / PUBLISH).is_dir() or not (self.folder / PRIVATE / PROTECTION).is_dir():
            raise SourceError(
                f"got {str(folder)!r}; expected the folder that hf-unlearnable protect --output wrote, with "
                f"{PUBLISH}/ and {PRIVATE}/{PROTECTION}/ in it"
            )
        check_folder(self.folder / PUBLISH)

    @property
    def dataset(self) -> Dataset:
        """The protected images: the only part that is published."""
        return load_from_disk(str(self.folder / PUBLISH))

    @cached_property
    def protection(self) -> Protection:
        """The private perturbations."""
        return Protection.from_pretrained(self.folder / PRIVATE / PROTECTION)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Where the originals are: ``dataset``, ``split`` and perhaps ``rows``; empty if nobody wrote it down."""
        file = self.folder / PRIVATE / ORIGIN
        return json.loads(file.read_text()) if file.exists() else {}

    @property
    def split(self) -> str:
        """Which split was protected."""
        return str(self.origin.get("split", "train"))

    @property
    def verification(self) -> tuple[dict[str, Any], bool]:
        """The figures of ``verify``, and whether they are of every image read back (else of a sample before)."""
        file = self.folder / PRIVATE / VERIFIED
        return (json.loads(file.read_text()), True) if file.exists() else (self.protection.about["verification"], False)

    @property
    def report(self) -> Report | None:
        """What ``measure`` found; None if it was not run."""
        file = self.folder / REPORT / MEASURED
        return Report.load(file) if file.exists() else None

    def originals(self, clean: str | None = None, split: str | None = None) -> Dataset:
        """Open the originals.

        Args:
            clean: another place than where they were.
            split: of it.

        Raises:
            SourceError: nothing there, or nobody wrote down where.
            DataError: there, but not readable.
        """
        known = self.origin.get("dataset")
        named = clean or known
        if named is None:
            raise SourceError(
                f"{str(self.folder)!r} does not say what was protected; name the originals with --clean DATASET"
            )
        data = load_source(named, split or self.split)
        if named == known and split is None and "rows" in self.origin:
            data = data.select(range(self.origin["rows"]))
        return data
