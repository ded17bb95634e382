"""What the app does with the pictures of a visitor, each in a process of its own: see ``jobs``.

``home`` is the folder of the visitor: ``pictures`` are theirs, ``run`` is what ``runs.protect`` makes of them.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature

from hf_unlearnable.app.pictures import unpack
from hf_unlearnable.app.preview import Preview, Scene
from hf_unlearnable.budget import Budget
from hf_unlearnable.data.folders import Contents
from hf_unlearnable.data.intake import Intake
from hf_unlearnable.data.pixels import to_image
from hf_unlearnable.data.reading import Survey, class_numbers, open_image, read_pixels, stored_files, turned_size
from hf_unlearnable.errors import DataError
from hf_unlearnable.hub.publish import push as push_to_hub
from hf_unlearnable.hub.repository import Pushed
from hf_unlearnable.methods.base import Method
from hf_unlearnable.methods.labelling import AUTO, NONE
from hf_unlearnable.methods.mi_ue import MIUE
from hf_unlearnable.methods.texture import Texture
from hf_unlearnable.models.surrogate import load_transformers
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection.unchanged import paths_of
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.runs.inspecting import columns_of, intake, open_dataset
from hf_unlearnable.runs.protecting import protect as protect_run

PICTURES, RUN, ZIP, SCENE = "pictures", "run", "protected.zip", "largest.npz"

TRIAL = 32  # images of the trial by which the time of an optimised method is estimated
TEXTURE = 4 / 3  # the time of the method texture, in that of reading and writing


@dataclass(frozen=True)
class Looked:
    """What is in the pictures of a visitor.

    Attributes:
        intake: as ``protect`` finds it.
        survey: the sizes of the pictures that can be protected.
        refused: names of files that were not kept.
        kinds: how many classes of two pictures and more there are; 0 where some class has fewer.
        pictures: how many can be protected.
        folders: how many of them each folder has; one without a name where there are none.
    """

    intake: Intake
    survey: Survey
    refused: tuple[str, ...]
    kinds: int
    pictures: int
    folders: dict[str, int]

    @property
    def lost(self) -> int:
        """How many files may be pictures and will not be protected."""
        return len(self.intake.broken) + sum(file.picture for file in self.intake.left_out)


@dataclass(frozen=True)
class Made:
    """What was protected.

    Attributes:
        verification: as it was read back.
        pictures: files in the zip.
        zip_bytes: its size.
        unchanged: names of those that came out as they went in.
    """

    verification: Verification
    pictures: int
    zip_bytes: int
    unchanged: tuple[str, ...] = ()


def look(home: Path, room: int, refused: Sequence[str]) -> Looked:
    """Open zips, look at every picture, and keep what is needed to preview the largest.

    Args:
        home: of the visitor.
        room: bytes that zips may take.
        refused: names that were not even kept.

    Raises:
        DataError: no pictures, or a zip that cannot be opened.
    """
    pictures = home / PICTURES
    refused = [*refused, *unpack(pictures, room)]
    if not any(file.is_file() for file in pictures.rglob("*")):
        got = f"{', '.join(sorted(refused)[:5])}, which is not read here" if refused else "nothing"
        raise DataError(f"got {got}; expected pictures such as PNG, JPEG or WebP, a folder of them, or a zip")
    contents = Contents.of(pictures)
    if others := sorted(contents.splits.keys() - {"train"}):
        raise DataError(
            f"got folders that are taken for parts of a dataset, here {' and '.join(others)}, of which one alone would "
            f"be protected; expected folders of other names: rename them, and send the pictures again"
        )
    looked = _look(home, refused, AUTO)
    if looked.kinds == 0 and contents.has_loose:  # where folders are no kinds, pictures beside them belong too
        return _look(home, refused, NONE)
    return looked


def _look(home: Path, refused: Sequence[str], labels: str) -> Looked:
    """Look at the pictures as they are protected with ``labels``."""
    opened = open_dataset(home / PICTURES, "train", None, None, labels=labels)
    found = intake(opened, decode=True, image_files=True, output=home)
    whole_rows = np.setdiff1d(np.arange(found.images), [image.row for image in found.broken])
    if not len(whole_rows):
        told = "; ".join(str(image) for image in found.broken[:5])
        raise DataError(
            f"got {found.images} picture{'' if found.images == 1 else 's'}, of which none can be read ({told}); "
            f"expected pictures such as PNG, JPEG or WebP"
        )
    columns = columns_of(opened.dataset, None, None)
    readable = opened.dataset.select(whole_rows)
    survey = Survey.of(readable, columns)
    largest = max(survey.sizes, key=lambda size: size[0] * size[1])
    for row in stored_files(readable, columns.image):
        with open_image(row[columns.image]) as image:
            if turned_size(image) != largest:
                continue
        pixels = read_pixels(row[columns.image])
        break
    Scene.of(pixels, survey.working_size(Texture.finest)).save(home / SCENE)
    names = list(found.classes) or [""]
    counts = np.bincount(class_numbers(readable, columns), minlength=len(names)).tolist()
    kinds = len(counts) if len(counts) > 1 and min(counts) > 1 else 0
    folders = dict(zip(names, counts, strict=True))
    return Looked(found, survey, tuple(sorted(refused)), kinds, len(whole_rows), folders)


def preview(home: Path, budget: Budget) -> Preview:
    """The largest picture under a budget."""
    scene = Scene.load(home / SCENE)
    return scene.preview(budget, scene.levels(budget))


def estimate(looked: Looked, method: str) -> float:
    """About how many seconds a method takes for these pictures on this machine.

    An optimised one is tried on a few images of noise of the size at which it would work; its cost grows with images
    and epochs.
    """
    if method == Texture.name:
        return looked.intake.seconds * TEXTURE + 2
    size = looked.survey.working_size(MIUE.finest)
    noise = np.random.default_rng(0).integers(0, 256, (TRIAL, 3, *size), dtype=np.uint8)
    images = Dataset.from_dict(
        {"image": [to_image(image) for image in noise], "label": [row % 2 for row in range(TRIAL)]},
        features=Features({"image": ImageFeature(), "label": ClassLabel(num_classes=2)}),
    )
    trial = MIUE(epochs=2, guides=1, guide_epochs=1)
    load_transformers()
    with TemporaryDirectory() as scratch:
        begun = time.monotonic()
        trial.fit(images, output_dir=f"{scratch}/fitted", progress=False)
        taken = time.monotonic() - begun
    an_image = taken / sum(trial.parts().values()) / TRIAL
    return looked.intake.seconds + an_image * sum(MIUE().parts().values()) * looked.pictures


def protect(home: Path, looked: Looked, method: str, budget: Budget, *, by_folder: bool) -> Made:
    """Protect the pictures, and put the files into a zip under their own names.

    Files that were named to the visitor as left out, or broken, are left out; but pictures beside folders belong where
    folders are no kinds.

    Raises:
        UnlearnableError: as ``runs.protect`` raises them.
    """
    labels = AUTO if by_folder else NONE
    opened = open_dataset(home / PICTURES, "train", None, None, labels=labels)
    run = protect_run(
        opened,
        home / RUN,
        method=Method.parse(method),
        budget=budget,
        labels=labels,
        leave_out=True,
        skip_unreadable=True,
        intake=looked.intake if opened.class_depth is None else None,  # of more pictures than were looked at
        image_files=True,
        overwrite=True,
    )
    assert run is not None  # there is one process
    images = run.folder.images
    files = sorted(file for file in images.rglob("*") if file.is_file())
    result = home / ZIP
    with (
        zipfile.ZipFile(result, "w") as archive,  # stored as they are: PNG is compressed already
        Progress("making the zip", len(files), unit="file") as bar,
    ):
        for file in files:
            archive.write(file, file.relative_to(images).as_posix())
            bar.advance()
    paths = paths_of(run.originals, run.protection.columns.image, run.unchanged)
    return Made(run.verification, len(files), result.stat().st_size, tuple(map(str, paths)))


def push(home: Path, repo_id: str, token: str, *, private: bool) -> Pushed:
    """Push the protected pictures to the Hub with a token that is used for nothing else.

    Raises:
        UnlearnableError: as ``hub.push`` raises them.
    """
    return push_to_hub(home / RUN, repo_id, private=private, token=token)
