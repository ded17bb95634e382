"""What ``protect`` made, and what it says of it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from datasets import Dataset

from hf_unlearnable.data.intake import Intake
from hf_unlearnable.errors import blank, number_of, option, some_of
from hf_unlearnable.methods.base import describe_findings
from hf_unlearnable.methods.labelling import NONE, Labels
from hf_unlearnable.methods.others import OTHERS
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.unchanged import told_unchanged
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.lossy_copy import LossyCopy
from hf_unlearnable.runs.test_images import held_out_images


@dataclass(frozen=True)
class ProtectedRun(PathLike[str]):
    """What ``protect`` made: a path to its folder that ``push``, ``verify``, ``measure`` and ``write_report`` take.

    Attributes:
        folder: of the run.
        verification: all images as they were read back, compared with their originals.
        intake: what was found before the work.
        originals: the images that were protected, as they were: without those that were left out or held out.
        unchanged: rows of them that came out as they went in.
        image_files: how many lie in ``RunFolder.images``.
        lossy: what the copy in ``RunFolder.images_jpeg`` is like; None where there is none.
    """

    folder: RunFolder
    verification: Verification
    intake: Intake
    originals: Dataset
    unchanged: tuple[int, ...] = ()
    image_files: int = 0
    lossy: LossyCopy | None = None

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def in_memory(self) -> Dataset:
        """The originals, for all that takes this instead of a folder."""
        return self.originals

    @property
    def dataset(self) -> Dataset:
        """The protected images, which may be published."""
        return self.folder.dataset

    @property
    def protection(self) -> Protection:
        """The private perturbations, which undo the protection."""
        return self.folder.protection

    @property
    def warning(self) -> str:
        """What ``protect`` warns of: which images came out as they went in; empty where all changed."""
        described = self.protection.description
        given = (described.columns.image, self.unchanged, described.method, self.verification.images)
        return told_unchanged(self.originals, *given) if self.unchanged else ""

    def __str__(self) -> str:
        lossy = [] if self.lossy is None else [f"{self.lossy}."]
        return "\n".join([*self.notes(), f"Read back from disk: {self.verification}.", *lossy])

    def notes(self) -> list[str]:
        """What became of labels, sizes and modes, where that was no matter of course, and what the method found."""
        described = self.protection.description
        classes, lines = described.classes, []
        if described.labels == NONE:
            lines.append(
                f"Labels: none. All images are taken as one owner's. For classes put them into a folder for each, "
                f"name a column ({blank('label_column', 'NAME')}), or let them be made "
                f"({option('labels', 'clusters:10')})."
            )
        elif described.labels:
            names = some_of(classes.names)
            lines.append(
                f"Labels: made, {described.labels}, {Labels.parse(described.labels).meaning}: {len(classes.names)} "
                f"classes, {names}. The columns of the dataset stay as they are."
            )
        if classes.values is not None:
            names = some_of(classes.names)
            lines.append(
                f"Labels: the column {described.columns.label!r} was taken as {len(classes.names)} classes: {names}."
            )
        if others := described.findings.get(OTHERS):
            lines.append(f"Others: {others} clean images of others were learned beside; none of them is written.")
        if held_out := len(held_out_images(self.folder) or ()):
            lines.append(f"Held out: {held_out} images stay clean to test on, and are not published.")
        if left_out := self.intake.images - described.images - held_out:
            lines.append(f"Left out, as told: {left_out} of {self.intake.images} rows, unreadable or without a label.")
        if clean := self.folder.clean_splits:
            protected = ", ".join(self.folder.protected_splits)
            lines.append(f"Splits: protected together: {protected}; kept clean: {', '.join(clean)}.")
        if described.resampled:
            height, width = described.image_shape[1:]
            lines.append(
                f"Sizes: {described.resampled} of {described.images} images ({described.image_sizes}) keep theirs; "
                f"their perturbations were optimised at {width}x{height} and resampled."
            )
        lines += [
            f"Converted: {count} of {number_of(described.images, 'image')}: {change}."
            for change, count in described.conversions.items()
        ]
        return [*lines, *filter(None, [describe_findings(described.method_name, described.findings)])]
