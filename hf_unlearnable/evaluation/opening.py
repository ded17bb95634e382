"""The sets of one measurement: opened, seen to belong together, and read as the victims see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from hf_unlearnable.data.columns import Columns, columns_of_others, find_columns, unlabelled
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.pairing import check_apart, check_images, check_match, count_seen, naming
from hf_unlearnable.data.reading import Survey
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import DataError
from hf_unlearnable.evaluation.owner import beside, hold_out
from hf_unlearnable.evaluation.victims import Victims

OTHERS = ("others", "others test")  # sets beside one owner's: to train on, to test on


@dataclass(frozen=True)
class Opened:
    """What belongs to one measurement.

    Attributes:
        datasets: ``"protected"``, ``"clean"`` and ``"test"``; beside one owner's images also those of ``OTHERS``.
        columns: of each of them.
        size: height and width that victims see.
        channels: 1 or 3.
        resized: whether that is another size than the images'.
        parts: each of them as the victims see it.
        sets: ``"protected"``, ``"clean"`` and ``"test"`` as victims are trained and tested: with the others' images.
        doubts: what does not look as it should, a sentence each.
        seen: how many of the test images are among those to train on.
        progress: whether bars are shown.
    """

    datasets: dict[str, Dataset]
    columns: dict[str, Columns]
    size: tuple[int, int]
    channels: int
    resized: bool
    parts: dict[str, ImageSet]
    sets: dict[str, ImageSet]
    doubts: tuple[str, ...]
    seen: int
    progress: bool

    @classmethod
    def of(
        cls,
        protected: Dataset,
        clean: Dataset,
        test: Dataset,
        *,
        largest: int,
        others: Dataset | None = None,
        others_test: Dataset | None = None,
        resolution: int | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        progress: bool = False,
    ) -> Opened:
        """Open and read them; arguments and errors are those of ``learnability``.

        Args:
            protected: see there, like all but the next.
            clean: see there.
            test: see there.
            largest: pixels a side of the largest images that the victims take.
            others: see there.
            others_test: see there.
            resolution: see there.
            image_column: see there.
            label_column: see there.
            progress: show bars.

        Raises:
            DataError: sets that do not belong together, or images of the owner among those of the others.
        """
        datasets, columns = {"protected": protected, "clean": clean, "test": test}, {}
        if others is not None:
            datasets |= _of_others(others, others_test, image_column)
        surveys = {}
        for name, dataset in datasets.items():
            with naming(name):
                if others is None:
                    columns[name] = find_columns(dataset, image_column, label_column)
                elif name in OTHERS:
                    columns[name] = columns_of_others(dataset, image_column)
                else:
                    columns[name] = unlabelled(dataset, image_column)
                surveys[name] = Survey.of(dataset, columns[name])
        check_images(surveys)
        all_clean = surveys["clean"] if others is None else surveys["clean"] | surveys["others"]
        size = (resolution, resolution) if resolution else all_clean.working_size(largest)
        parts = {
            name: _read(datasets[name], name, columns[name], size, all_clean.channels, progress) for name in datasets
        }
        doubts = check_match(parts["protected"], parts["clean"], parts["test"])
        sets = {name: parts[name] for name in ("protected", "clean", "test")}
        if others is not None:
            asked, taught = (parts[name].names for name in ("others test", "others"))
            if asked != taught:
                raise DataError(
                    f"got other classes to test on than to train on among the others: {', '.join(asked[:5])}; expected "
                    f"the same names in the same order: {', '.join(taught[:5])}"
                )
            _check_apart(parts)
            sets = {name: beside(parts[OTHERS[name == "test"]], own) for name, own in sets.items()}
        trained = [parts[name] for name in ("clean", "protected", "others") if name in parts]
        if seen := count_seen(parts["test"], trained):
            doubts.append(
                f"{seen} of {len(test)} test images are among those that models are trained on: of these the figures "
                f"tell how well they are remembered, and nothing of what is learned for new images"
            )
        return cls(
            datasets=datasets,
            columns=columns,
            size=size,
            channels=all_clean.channels,
            resized=any(list(survey.sizes) != [size] for survey in surveys.values()),
            parts=parts,
            sets=sets,
            doubts=tuple(doubts),
            seen=seen,
            progress=progress,
        )

    @property
    def owner(self) -> dict[str, int]:
        """Where one owner's class among others is measured, ``Report.owner``; else nothing."""
        if "others" not in self.parts:
            return {}
        counts = {"owner": len(self.parts["clean"]), "owner test": len(self.parts["test"])}
        counts |= {"classes": len(self.parts["others"].names)}
        return counts | {name: len(self.parts[name]) for name in OTHERS}

    @property
    def owner_class(self) -> int | None:
        """The number of the one owner's class, which is the last; None where there are no others."""
        return len(self.sets["test"].names) - 1 if self.owner else None

    @property
    def chance(self) -> float:
        """Test accuracy of naming the most frequent class always; of one owner the share of the training images."""
        return len(self.parts["clean"]) / len(self.sets["clean"]) if self.owner else self.sets["test"].chance

    def idle(self, defences: Sequence[Defence]) -> list[Defence]:
        """Those that act on images and leave them all as they are, as far as the first hundred tell."""
        some = [one for images in self.sets.values() for one in images.pixels[:100]]
        return [
            defence
            for defence in defences
            if defence.acts_on_images and all(np.array_equal(defence.changed(one), one) for one in some)
        ]

    def victims(self, accelerator: Accelerator, folder: Path | None = None) -> Victims:
        """What is trained on them, and what is kept of it in ``folder``."""
        return Victims(
            self.sets["clean"],
            self.sets["protected"],
            self.sets["test"],
            accelerator,
            folder,
            reread=self._reread if self.resized else None,
            owner=self.owner_class,
        )

    def _reread(self, name: str, defence: Defence) -> ImageSet:
        """A set as a defence leaves it that acts on images before they are shrunk."""

        def read(name: str) -> ImageSet:
            columns = self.columns[name]
            return _read(self.datasets[name], name, columns, self.size, self.channels, self.progress, defence)

        return beside(read(OTHERS[name == "test"]), read(name)) if self.owner else read(name)


def _check_apart(parts: dict[str, ImageSet]) -> None:
    """Refuse images of the owner among those of the others: models learn both, and neither answer says anything."""
    contents = {name: part.originals.contents for name, part in parts.items() if part.originals is not None}
    others = np.concatenate([contents[name] for name in OTHERS])
    for name in ("clean", "protected", "test"):
        check_apart(contents[name], others, f"{name} images of the owner")


def _read(
    dataset: Dataset,
    name: str,
    columns: Columns,
    size: tuple[int, int],
    channels: int,
    progress: bool,
    defence: Defence = NoDefence(),
) -> ImageSet:
    with naming(name):
        return ImageSet.read(
            dataset,
            columns,
            size=size,
            channels=channels,
            change=defence.changed if defence.acts_on_images else None,
            progress=progress,
        )


def _of_others(others: Dataset, others_test: Dataset | None, image_column: str | None) -> dict[str, Dataset]:
    """The images of others to train on, and to test on."""
    if others_test is not None:
        return {"others": others, "others test": others_test}
    with naming("others"):
        kept, held = hold_out(others, columns_of_others(others, image_column))
    return {"others": others.select(kept), "others test": others.select(held)}
