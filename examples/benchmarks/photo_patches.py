"""Build a small colour data set from the photographs of Debian's package ``mate-backgrounds``.

Fashion-MNIST's black background clips half of every perturbation, so nothing should be judged on it alone. This set
behaves like natural images and needs no network beyond Debian's packages: 32x32 RGB patches, the class being the
photograph that a patch was cut from.

* Patches are cut at several scales (24 to 64 source pixels a side) and only where there is texture.
* Hue, saturation and contrast are jittered per patch, so that a colour histogram does not tell the class.
* Training and test patches come from disjoint cells of a grid laid over each photograph.

    python examples/benchmarks/photo_patches.py --output data/photo-patches     # writes a DatasetDict (train, test)
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from hf_unlearnable.data.debian import unpack_package
from hf_unlearnable.errors import SourceError

PACKAGE = "mate-backgrounds"
INSTALLED = Path("/usr/share/backgrounds/mate/nature")
PHOTOGRAPHS = (
    "Aqua",
    "Blinds",
    "Dune",
    "FreshFlower",
    "Garden",
    "GreenMeadow",
    "LadyBird",
    "RainDrops",
    "TwoWings",
    "YellowFlower",
)
SIDE = 32  # pixels of a patch
CELL = 160  # source pixels of a train or test cell: wider than the largest patch
SCALES = (24, 32, 48, 64)  # source pixels that become one patch
MIN_STD = 16.0  # of the luminance in 8-bit levels: smooth sky tells nothing


def photographs(folder: Path | None = None) -> dict[str, Image.Image]:
    """Open the ten photographs from ``folder``, or from the Debian package fetched without root.

    Raises:
        SourceError: a photograph is missing, or the package could not be fetched.
    """
    if folder is None:
        folder = INSTALLED
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix="mate-backgrounds-") as scratch:
                return photographs(unpack_package(PACKAGE, Path(scratch)) / INSTALLED.relative_to("/"))
    missing = [name for name in PHOTOGRAPHS if not (folder / f"{name}.jpg").is_file()]
    if missing:
        raise SourceError(
            f"{folder} lacks {', '.join(missing)}; expected the JPEG photographs of Debian's package {PACKAGE}"
        )
    return {name: Image.open(folder / f"{name}.jpg").convert("RGB") for name in PHOTOGRAPHS}


def _jitter(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the hue by a random angle, scale saturation, contrast and brightness: (H, W, 3) float in [0, 255]."""
    luminance = patch.mean(axis=2, keepdims=True)
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    chroma = (patch - luminance) @ turn.T * rng.uniform(0.3, 1.2)
    centre = luminance.mean()
    return (luminance - centre) * rng.uniform(0.7, 1.3) + centre + rng.uniform(-20, 20) + chroma


def _cut(photo: Image.Image, cells: list[tuple[int, int]], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    patches: list[np.ndarray] = []
    for _ in range(count * 100):
        column, row = cells[rng.integers(len(cells))]
        side = int(rng.choice(SCALES))
        x = column * CELL + int(rng.integers(CELL - side + 1))
        y = row * CELL + int(rng.integers(CELL - side + 1))
        patch = photo.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.BOX)
        pixels = np.asarray(patch, dtype=np.float64)
        if pixels.mean(axis=2).std() >= MIN_STD:
            patches.append(np.clip(np.rint(_jitter(pixels, rng)), 0, 255).astype(np.uint8))
            if len(patches) == count:
                return patches
    raise ValueError(f"too little texture: found {len(patches)} of {count} patches")


def build(
    train: int = 4000, test: int = 2000, seed: int = 0, folder: Path | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cut the patches.

    Returns:
        ``{"train": (images, labels), "test": ...}``: uint8 (N, 32, 32, 3) and int64 (N,), shuffled, classes balanced.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for photo in photographs(folder).values():
        cells = [(c, r) for c in range(photo.width // CELL) for r in range(photo.height // CELL)]
        rng.shuffle(cells)
        held_out = max(1, len(cells) // 3)
        parts["test"] += _cut(photo, cells[:held_out], test // len(PHOTOGRAPHS), rng)
        parts["train"] += _cut(photo, cells[held_out:], train // len(PHOTOGRAPHS), rng)
    result = {}
    for name, patches in parts.items():
        labels = np.repeat(np.arange(len(PHOTOGRAPHS)), len(patches) // len(PHOTOGRAPHS))
        order = rng.permutation(len(patches))
        result[name] = (np.stack(patches)[order], labels[order])
    return result


def build_dataset(train: int = 4000, test: int = 2000, seed: int = 0, folder: Path | None = None) -> DatasetDict:
    """The same as a ``DatasetDict`` with the columns ``image`` and ``label``."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(PHOTOGRAPHS))})
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {"image": [Image.fromarray(x) for x in images], "label": labels.tolist()}, features=features
            )
            for split, (images, labels) in build(train, test, seed, folder).items()
        }
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, help="folder with the JPEG files (default: the Debian package)")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build_dataset(arguments.train, arguments.test, arguments.seed, arguments.photographs).save_to_disk(arguments.output)
    print(f"wrote {arguments.train} training and {arguments.test} test patches to {arguments.output}")
