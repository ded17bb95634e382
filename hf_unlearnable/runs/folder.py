"""The folder of a run: the only code that knows where its parts lie."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from hf_unlearnable.data.intake import Intake
from hf_unlearnable.data.sources import load_saved, load_source
from hf_unlearnable.errors import DataError, PrivacyError, RecipeError, SourceError, blank
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.files import atomic_write, local_path
from hf_unlearnable.protection.description import DESCRIPTION, Description
from hf_unlearnable.protection.documents import read_json
from hf_unlearnable.protection.findings import Audit
from hf_unlearnable.protection.layout import (
    AUDITED,
    DIGESTS,
    HELD_OUT_FOLDER,
    IMAGES,
    IMAGES_JPEG,
    INTAKE,
    MEASURED,
    ORIGIN,
    PRIVATE,
    PROTECTION,
    PUBLISH,
    REPORT,
    SPLITS,
    VERIFIED,
    VICTIMS,
)
from hf_unlearnable.protection.privacy import check_folder
from hf_unlearnable.protection.protection import STORE, Protection
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.origin import Origin
from hf_unlearnable.runs.splits import Splits


class RunFolder(PathLike[str]):
    """Where the parts of a run lie, and what they hold.

    A run is the folder that ``protect`` wrote and ``measure`` added to; or a protected dataset of another tool, whose
    measurement lies beside it; or a measurement alone, a ``learnability.json`` of any name. Making one looks at
    nothing: ``open`` and ``find`` do.

    Args:
        folder: of the run, or what ``protect`` returned; None where only the measurement is known.
        measured: the file that ``measure`` writes; in the folder or beside it when left out.

    Attributes:
        in_memory: the originals, where what ``protect`` returned was given, which holds them.

    Raises:
        RecipeError: neither a folder nor what ``protect`` returned.
    """

    def __init__(self, folder: str | PathLike[str] | None, measured: str | PathLike[str] | None = None) -> None:
        if not isinstance(folder, (str, PathLike)) and (folder is not None or measured is None):
            raise RecipeError(f"got a {type(folder).__name__}; expected the folder of a run, or what protect returned")
        self.in_memory: Dataset | None = getattr(folder, "in_memory", None)
        self.given = local_path(folder if folder is not None else measured or ".")
        self.folder = None if folder is None else self.given.absolute()
        if measured is not None:
            self.measured = local_path(measured)
        else:
            self.measured = _report_folder(self.given) / MEASURED

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> RunFolder:
        """The folder that ``protect`` wrote, checked.

        Raises:
            SourceError: not such a folder.
            PrivacyError: the private part itself, or a public part with something private in it.
        """
        run = cls(folder)
        if run.root.name == PRIVATE or any((run.root / name).exists() for name in (STORE, DESCRIPTION, ORIGIN)):
            raise PrivacyError(
                f"got {str(folder)!r}, the private part of a protection; expected the folder around it, of which only "
                f"{PUBLISH}/ is ever published"
            )
        parts = {f"{PUBLISH}/": run.published, f"{PRIVATE}/{PROTECTION}/": run.perturbations}
        if missing := [name for name, part in parts.items() if not part.is_dir()]:
            raise SourceError(
                f"got {str(folder)!r}, without {' and '.join(missing)}; expected the folder that hf-unlearnable "
                f"protect --output wrote, with {PUBLISH}/ and {PRIVATE}/{PROTECTION}/ in it"
            )
        check_folder(run.published)
        return run

    @classmethod
    def find(cls, run: str | PathLike[str]) -> RunFolder:
        """What a command may call a run: a folder, or a measurement alone.

        Raises:
            SourceError: nothing there to report on.
            PrivacyError: the private part of a run.
        """
        found = cls(run)
        path = local_path(run)
        if path.is_file():
            return cls(None, path)
        if (path / MEASURED).exists():
            return cls(None, path / MEASURED)
        if path.name == PRIVATE:
            raise PrivacyError(f"got {str(path)!r}, the private part of a run; expected the folder around it")
        if not path.is_dir():
            raise SourceError(
                f"got {str(path)!r}; expected the folder that hf-unlearnable protect --output wrote, or a {MEASURED}"
            )
        if not found.perturbations.is_dir() and not found.holds_dataset and not found.measured.exists():
            raise SourceError(
                f"got {str(path)!r}, where there is neither a protected dataset nor {REPORT}/{MEASURED}; expected the "
                f"folder that hf-unlearnable protect --output wrote"
            )
        return found

    def __fspath__(self) -> str:
        return str(self.folder or self.measured)

    def __str__(self) -> str:
        return self.__fspath__()

    def __repr__(self) -> str:
        return f"RunFolder({self.__fspath__()!r})"

    @property
    def root(self) -> Path:
        """The folder of the run, absolute.

        Raises:
            SourceError: only the measurement is known.
        """
        if self.folder is None:
            raise SourceError(f"got {str(self.measured)!r}, a measurement alone; expected the folder of a run")
        return self.folder

    @property
    def around(self) -> Path | None:
        """The folder of the run, also where only the measurement in it was named; None if there is none."""
        measured = self.measured.resolve()
        inside = measured.name == MEASURED and measured.parent.name == REPORT
        return self.folder or (measured.parent.parent if inside else None)

    @property
    def name(self) -> str:
        """What to call it: the stem of its measurement, or its folder where every measurement is called the same."""
        measured = self.measured.resolve()
        return measured.stem if measured.name != MEASURED else (self.around or measured.parent).resolve().name

    # The parts, whether they are there or not.

    @property
    def published(self) -> Path:
        """The protected images: the only part that is ever published."""
        return self.root / PUBLISH

    @property
    def images(self) -> Path:
        """The same images as files, where they came as files."""
        return self.root / IMAGES

    @property
    def images_jpeg(self) -> Path:
        """Copies of them with losses, where they were asked for."""
        return self.root / IMAGES_JPEG

    @property
    def file_digests(self) -> Path:
        """What the files are that ``protect`` wrote."""
        return self.private / DIGESTS

    @property
    def private(self) -> Path:
        """What undoes the protection, or tells where the originals are."""
        return self.root / PRIVATE

    @property
    def perturbations(self) -> Path:
        """The protection."""
        return self.private / PROTECTION

    @property
    def held_out(self) -> Path:
        """Clean images that were kept back to test on."""
        return self.private / HELD_OUT_FOLDER

    @property
    def report_folder(self) -> Path:
        """The measurement with its pictures and pages."""
        return self.measured.parent

    @property
    def victims(self) -> Path:
        """What is finished of a measurement."""
        return self.report_folder / VICTIMS

    @property
    def audit_file(self) -> Path:
        """What ``audit`` found."""
        return self.report_folder / AUDITED

    def beside(self, name: str) -> Path:
        """A file beside the measurement, called after it where the measurement has another name than usual."""
        return self.measured.with_name(name if self.measured.name == MEASURED else f"{self.measured.stem}-{name}")

    # What they hold.

    @property
    def is_complete(self) -> bool:
        """Whether ``protect`` wrote it: it has the part to publish and the one to keep."""
        return self.published.is_dir() and self.perturbations.is_dir()

    @property
    def holds_dataset(self) -> bool:
        """Whether there are protected images, of this package or another tool."""
        names = ("dataset_info.json", "dataset_dict.json")
        return any((place / name).exists() for place in (self.published, self.root) for name in names)

    @property
    def dataset(self) -> Dataset:
        """The protected images, of several splits one after the other; without those that were kept clean.

        Raises:
            DataError: they cannot be read.
            SourceError: there are none.
        """
        if self.is_complete:
            saved = self.published_splits
            return concatenate_datasets([saved[name] for name in self.protected_splits or saved])
        return load_source(str(self.published if self.published.is_dir() else self.given))  # given may be a Hub id

    @property
    def published_splits(self) -> dict[str, Dataset]:
        """Everything that is published, by the name of its split: several where a whole dataset was protected.

        Raises:
            DataError: they cannot be read, or are not those that ``protect`` wrote.
        """
        loaded = load_saved(self.published)
        saved = {self.split: loaded} if isinstance(loaded, Dataset) else {str(name): loaded[name] for name in loaded}
        names = [*self.protected_splits, *self.clean_splits] or [self.split]
        if sorted(names) != sorted(saved):
            raise DataError(
                f"got the splits {', '.join(saved)} in {str(self.published)!r}; expected {', '.join(names)}"
            )
        return {name: saved[name] for name in names}

    @property
    def protected_splits(self) -> tuple[str, ...]:
        """The names of the protected splits, where a whole dataset was protected; else none.

        Raises:
            DataError: the list of them is damaged.
        """
        return self._split_names("protected")

    @property
    def clean_splits(self) -> tuple[str, ...]:
        """The names of the splits that were kept clean, likewise."""
        return self._split_names("clean")

    def _split_names(self, kind: str) -> tuple[str, ...]:
        file = self.private / SPLITS
        if not file.exists():
            return ()
        names = read_json(file).get(kind)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"got {str(file)!r} without {kind} splits; expected those that protect wrote")
        return tuple(names)

    @cached_property
    def protection(self) -> Protection:
        """The private perturbations.

        Raises:
            SourceError: there are none, or damaged ones.
        """
        return Protection(self.perturbations)

    @property
    def description(self) -> Description | None:
        """How the images were protected, without opening the perturbations; None if nobody wrote that down.

        Raises:
            DataError: it is damaged.
        """
        folder = self.around and self.around / PRIVATE / PROTECTION
        return Description.read(folder) if folder and (folder / DESCRIPTION).exists() else None

    @property
    def origin(self) -> Origin | None:
        """Where the originals are; None if nobody wrote it down.

        Raises:
            DataError: it is damaged.
        """
        file = self.private / ORIGIN
        return Origin.of(read_json(file)) if file.exists() else None

    @property
    def split(self) -> str:
        """Which split was protected, ``"train+validation"`` for several."""
        return "+".join(self.protected_splits) or (self.origin.split if self.origin else "train")

    @property
    def verification(self) -> tuple[Verification, bool] | None:
        """The figures of ``verify``, and whether they are of every image read back (else of a sample before).

        Raises:
            DataError: they are damaged.
        """
        file = self.around and self.around / PRIVATE / VERIFIED
        if file and file.exists():
            return Verification.of(read_json(file)), True
        description = self.description
        return (description.verification, False) if description and description.verification else None

    @property
    def report(self) -> Report | None:
        """What ``measure`` found; None if it was not run.

        Raises:
            DataError: a file of another kind, such as the one that a Trainer callback writes under the same name.
        """
        return Report.load(self.measured) if self.measured.exists() else None

    @property
    def audited(self) -> Audit | None:
        """What ``audit`` found; None if it was not run.

        Raises:
            DataError: it is damaged.
        """
        return Audit.of(read_json(self.audit_file)) if self.audit_file.exists() else None

    def originals(self, clean: str | PathLike[str] | None = None, split: str | None = None) -> Dataset:
        """Open the originals.

        Args:
            clean: another place than where they were.
            split: of it.

        Raises:
            SourceError: nothing there, or nobody wrote down where.
            DataError: there, but not readable.
        """
        origin = self.origin if self.folder else None
        name_them = f"name the originals with {blank('clean', 'DATASET')}"
        if origin is not None and (clean is None or Origin.at(clean).dataset == origin.dataset):
            try:
                return origin.open(split)
            except SourceError as error:
                if clean is not None:
                    raise
                raise SourceError(
                    f"the originals are not where they were when they were protected: {error}. If they are elsewhere "
                    f"now, {name_them}"
                ) from error
        if clean is None and split is None and self.in_memory is not None:
            return self.in_memory
        if clean is None:
            raise SourceError(f"{str(self.given)!r} does not say what was protected; {name_them}")
        if origin is not None:
            return replace(origin, dataset=Origin.at(clean).dataset, config=None).open(split)
        return load_source(clean, split or self.split)

    def keep_origin(self, origin: Origin) -> None:
        """Write down where the originals are."""
        atomic_write(self.private / ORIGIN, json.dumps(origin.as_dict(), indent=2) + "\n", private=True)

    def keep_intake(self, intake: Intake) -> None:
        """Write down what was found before the work; without time and room, which never are the same."""
        told = {name: value for name, value in intake.as_dict().items() if name not in ("seconds", "space")}
        atomic_write(self.private / INTAKE, json.dumps(told, indent=2, ensure_ascii=False) + "\n", private=True)

    def keep_splits(self, splits: Splits) -> None:
        """Write down which splits are protected and which were kept clean."""
        atomic_write(self.private / SPLITS, json.dumps(splits.as_dict(), indent=2) + "\n", private=True)

    def keep_verification(self, verification: Verification) -> None:
        """Write down how the images that were read back compare with the originals."""
        atomic_write(self.private / VERIFIED, json.dumps(verification.as_dict(), indent=2) + "\n", private=True)


def _report_folder(run: Path) -> Path:
    """In the run, or beside a folder that is nothing but somebody's images; in the current folder for a Hub id."""
    if not run.exists():
        return Path(f"{run.name}-{REPORT}")
    if (run / PUBLISH).is_dir() or (run / PRIVATE).is_dir():
        return run / REPORT
    run = run if run.name else run.absolute()  # "."
    return run.with_name(f"{run.name}-{REPORT}")
