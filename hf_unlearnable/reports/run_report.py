"""What a report can say of a run: read from its folder, with a reason for everything that is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Columns, find_columns
from hf_unlearnable.data.pairing import sampled_pairs
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import DataError, PrivacyError, SourceError, first_line
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.files import atomic_write
from hf_unlearnable.protection.layout import MEASURED, PRIVATE, PROTECTION, PUBLISH, REPORT, VICTIMS, report_folder
from hf_unlearnable.protection.verification import compare
from hf_unlearnable.reports.charts import accuracy_chart, change_histogram, change_shares, learning_curves
from hf_unlearnable.reports.images import image_grid, samples
from hf_unlearnable.reports.run_page import PageFacts, page
from hf_unlearnable.runs.folder import ProtectedFolder

PAGE, PUBLIC_PAGE = "report.html", "report-public.html"


def write_report(
    run: str | PathLike[str],
    *,
    public: bool = False,
    clean: str | None = None,
    clean_split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    command: str = "hf-unlearnable report RUN",
) -> list[Path]:
    """Write what is known of a run as one HTML page, and, unless it is for the public, its pictures as PNG files.

    Args:
        run: the folder that ``protect --output`` wrote (the page goes into ``run/report``), another protected dataset
            with a folder ``report`` in it, or a ``learnability.json`` (the page goes beside it).
        public: leave out clean pixels, perturbations, local names and paths and seeds.
        clean: the originals, where nobody wrote down what they are or they were moved.
        clean_split: of them.
        image_column: for a set of another tool; may be left out when there is exactly one.
        label_column: likewise.
        command: as the page tells it.

    Returns:
        What was written, the page first.

    Raises:
        SourceError: nothing there to report on.
        DataError: a ``learnability.json`` of another kind.
        RecipeError: matplotlib is not installed.
    """
    source = Run.find(Path(run))
    facts = source.facts(clean, clean_split, image_column, label_column, command)
    file = source.named(PUBLIC_PAGE if public else PAGE)
    atomic_write(file, page(facts.for_the_public() if public else facts))
    return [file] if public else [file, *source.write_pictures(facts)]


@dataclass
class Run:
    """Where the parts of a run lie.

    Attributes:
        measured: what ``measure`` wrote, if it did; the page goes beside it.
        folder: what ``protect`` wrote; None where only the measurement is known.
        images: the protected images; None if they are not there.
        originals: as they were opened; None if they could not be.
        columns: of both.
    """

    measured: Path
    folder: Path | None = None
    images: Dataset | None = None
    originals: Dataset | None = None
    columns: Columns | None = None

    @classmethod
    def find(cls, run: Path) -> Run:
        """What a command may call a run: a folder, or a measurement alone.

        Raises:
            SourceError: nothing there to report on.
            PrivacyError: the private part of a run.
        """
        if run.is_file():
            return cls(run)
        if (run / MEASURED).exists():
            return cls(run / MEASURED)
        if run.name == PRIVATE:
            raise PrivacyError(f"got {str(run)!r}, the private part of a run; expected the folder around it")
        if not run.is_dir():
            raise SourceError(
                f"got {str(run)!r}; expected the folder that hf-unlearnable protect --output wrote, or a {MEASURED}"
            )
        ours = (run / PRIVATE / PROTECTION).is_dir()
        theirs = (run / "dataset_info.json").exists() or (run / PUBLISH / "dataset_info.json").exists()
        measured = report_folder(run) / MEASURED
        if not ours and not theirs and not measured.exists():
            raise SourceError(
                f"got {str(run)!r}, where there is neither a protected dataset nor {REPORT}/{MEASURED}; expected the "
                f"folder that hf-unlearnable protect --output wrote"
            )
        return cls(measured, run)

    def named(self, name: str) -> Path:
        """A file beside the measurement; one of another name than usual gives its name to what is made of it."""
        return self.measured.with_name(name if self.measured.name == MEASURED else f"{self.measured.stem}-{name}")

    def facts(
        self, clean: str | None, clean_split: str | None, image: str | None, label: str | None, command: str
    ) -> PageFacts:
        """Read everything; what cannot be read is told in words."""
        known: dict[str, Any] = {"name": str(self.folder or self.measured), "command": command, **self._measured()}
        if self.folder is None:
            return PageFacts(
                **known, no_pictures=f"Only {MEASURED} was given. For pictures name the folder that protect wrote."
            )
        private: ProtectedFolder | None = None
        if (self.folder / PRIVATE / PROTECTION).is_dir() and (self.folder / PUBLISH).is_dir():
            private = ProtectedFolder(self.folder)
            self.images, self.columns = private.dataset, private.protection.columns
            known["about"] = private.protection.about
            known["verification"], known["read_back"] = private.verification
            known["findings"] = _findings(private.protection.about)
            known["origin"] = clean or " ".join(str(value) for value in private.origin.values() if value is not None)
        else:
            place = self.folder / PUBLISH if (self.folder / PUBLISH).is_dir() else self.folder
            if not (place / "dataset_info.json").exists():
                return PageFacts(**known, no_pictures=f"There is no protected dataset in {str(self.folder)!r}.")
            self.images = load_source(str(place))
            self.columns = find_columns(self.images, image, label)
            known["origin"] = clean or ""
        known["images"] = len(self.images)
        try:
            if private is not None:
                self.originals = private.originals(clean, clean_split)
            elif clean is not None:
                self.originals = load_source(clean, clean_split or "train")
            else:
                raise SourceError("nobody wrote down what the originals are; name them with --clean DATASET")
            known["shares"] = change_shares(sampled_pairs(self.originals, self.images, self.columns))
            known["samples"] = samples(self.images, self.columns, self.originals)
            if private is None:
                pairs = sampled_pairs(self.originals, self.images, self.columns)
                known["verification"], known["read_back"] = compare(pairs, Budget(WHITE)).as_dict(), False
        except (SourceError, DataError) as error:
            # A report without originals says so; an unreadable protected set ends here with the error.
            self.originals = None
            known["shares"] = {}
            known["samples"] = samples(self.images, self.columns)
            known["no_pictures"] = (
                f"Neither clean images nor the perturbation are shown, since the originals could not be used: {error}. "
                f"If they are elsewhere now: hf-unlearnable report RUN --clean DATASET"
            )
        return PageFacts(**known)

    def write_pictures(self, facts: PageFacts) -> list[Path]:
        """The pictures of the page as PNG files."""
        written: list[Path] = []
        if self.originals is not None and self.images is not None and self.columns is not None:
            written += [self.named("images.png"), self.named("histogram.png")]
            image, label = self.columns.image, self.columns.label
            image_grid(self.originals, self.images, written[0], image_column=image, label_column=label)
            change_histogram(facts.shares, written[1], "png")
        if facts.report is not None and facts.report.results:
            written.append(self.named("accuracy.png"))
            accuracy_chart(facts.report, written[-1])
            for index, victim in enumerate(facts.report.victims, 1):
                written.append(self.named(f"curves-{index}.png"))
                learning_curves(facts.report, victim, facts.report.defences[0], written[-1], "png")
        return written

    @property
    def not_measured(self) -> str:
        """Why there is no measurement, and what to do; empty if there is one."""
        if self.measured.exists():
            return ""
        finished = len(list((self.measured.parent / VICTIMS).glob("*.json")))
        begun = (
            f"A measurement was begun: {finished} models are trained and kept, the rest is missing. The same command "
            f"goes on from there."
            if finished
            else "No model was trained on these images yet."
        )
        return f"{begun} To measure: hf-unlearnable measure RUN"

    def _measured(self) -> dict[str, Any]:
        return {"not_measured": self.not_measured} if self.not_measured else {"report": read_report(self.measured)}


def _findings(about: Mapping[str, Any]) -> str:
    if not about.get("findings"):
        return ""
    from hf_unlearnable.methods import describe_findings

    return describe_findings(about["method"]["name"], about["findings"])


def read_report(file: Path) -> Report:
    """Open what ``measure`` wrote.

    Raises:
        DataError: a file of another kind, such as the one that a Trainer callback writes under the same name.
    """
    try:
        return Report.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"got {str(file)!r}, which cannot be read ({type(error).__name__}: {first_line(error)}); expected the "
            f"{MEASURED} that hf-unlearnable measure wrote"
        ) from error
