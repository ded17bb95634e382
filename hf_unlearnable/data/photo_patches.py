"""Small colour data sets cut from photographs in Debian's packages.

Fashion-MNIST's black background clips half of every perturbation, so nothing should be judged on it alone. These sets
behave like natural images and need no network beyond Debian's packages: RGB patches, 32x32 where nothing else is said,
the class being the photograph that a patch was cut from.

* Patches are cut at several scales (32x32 from 24 to 64 source pixels a side) and only where there is texture.
* Hue, saturation and contrast are jittered per patch, so that a colour histogram does not tell the class.
* Training and test patches come from disjoint cells of a grid laid over each photograph.

Which photographs the sets are made of, and what they may be used for: ``photographs.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.data.made_once import made_once
from hf_unlearnable.data.photographs import PHOTO_SETS, PhotoSet, photographs
from hf_unlearnable.errors import DataError

MIN_STD = 16.0  # of the luminance in 8-bit levels: smooth sky tells nothing


def _jitter(patch: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Turn the hue by a random angle, scale saturation, contrast and brightness: (H, W, 3) float in [0, 255]."""
    luminance = patch.mean(axis=2, keepdims=True)
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    chroma = (patch - luminance) @ turn.T * rng.uniform(0.3, 1.2)
    centre = luminance.mean()
    return (luminance - centre) * rng.uniform(0.7, 1.3) + centre + rng.uniform(-20, 20) + chroma


def _cut(
    kind: PhotoSet, name: str, photo: Image.Image, cells: list[tuple[int, int]], count: int, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    patches: list[NDArray[np.uint8]] = []
    for _ in range(count * 100 if cells else 0):
        column, row = cells[rng.integers(len(cells))]
        side = int(rng.choice(kind.scales))
        x = column * kind.cell + int(rng.integers(kind.cell - side + 1))
        y = row * kind.cell + int(rng.integers(kind.cell - side + 1))
        patch = photo.crop((x, y, x + side, y + side)).resize((kind.side, kind.side), Image.Resampling.BOX)
        pixels = np.asarray(patch, dtype=np.float64)
        if pixels.mean(axis=2).std() >= MIN_STD:
            patches.append(np.clip(np.rint(_jitter(pixels, rng)), 0, 255).astype(np.uint8))
            if len(patches) == count:
                return patches
    raise DataError(
        f"got too little texture for {count} patches of {name} ({len(patches)} found); expected another photograph"
    )


def build(
    kind: PhotoSet, photos: dict[str, Image.Image], train: int, test: int, seed: int = 0
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Cut the patches.

    Args:
        kind: how they are cut.
        photos: the picture of each class, by its name.
        train: patches to train on, of all classes together.
        test: patches to test on, likewise.
        seed: of all draws.

    Returns:
        ``{"train": (images, labels), "test": ...}``: uint8 (N, side, side, 3) and int64 (N,), shuffled, classes
        balanced.

    Raises:
        DataError: a picture with too little texture.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    for name, photo in photos.items():
        train_cells, test_cells = split_cells(photo, kind.cell, rng)
        parts["test"] += _cut(kind, name, photo, test_cells, test // len(photos), rng)
        parts["train"] += _cut(kind, name, photo, train_cells, train // len(photos), rng)
    result = {}
    for name, patches in parts.items():
        labels = np.repeat(np.arange(len(photos)), len(patches) // len(photos))
        order = rng.permutation(len(patches))
        result[name] = (np.stack(patches)[order], labels[order])
    return result


def split_cells(
    photo: Image.Image, cell: int, rng: np.random.Generator
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Deal out the cells of a photograph: two thirds for training patches, the others for test patches."""
    cells = [(c, r) for c in range(photo.width // cell) for r in range(photo.height // cell)]
    rng.shuffle(cells)
    held_out = max(1, len(cells) // 3)
    return cells[held_out:], cells[:held_out]


def build_dataset(
    name: str = "photo-patches",
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> DatasetDict:
    """Make a set: a ``DatasetDict`` with the columns ``image`` and ``label``.

    Args:
        name: one of ``PHOTO_SETS``.
        train: patches; the set's own number if left out.
        test: likewise.
        seed: of all draws.
        folder: of the photographs, as ``photographs`` takes it.

    Raises:
        SourceError: the photographs are not there.
        DataError: they have too little texture.
    """
    own, photos = PHOTO_SETS[name], photographs(name, folder)
    parts = build(own, photos, own.train if train is None else train, own.test if test is None else test, seed)
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(photos))})
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {"image": [Image.fromarray(x) for x in images], "label": labels.tolist()}, features=features
            )
            for split, (images, labels) in parts.items()
        }
    )


def photo_patches(name: str, folder: Path) -> DatasetDict:
    """Load a set of its own size: made once, and kept.

    Args:
        name: one of ``PHOTO_SETS``.
        folder: where it is kept.

    Raises:
        SourceError: the photographs are not there, or something else lies in the folder.
    """
    return made_once(folder, lambda: build_dataset(name), f"the set {name}")
