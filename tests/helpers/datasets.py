"""Datasets, batches and outputs that tests of several rooms use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from torch.nn import functional as F

from hf_unlearnable import Budget, Protection
from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.protection.description import Description

ROOT = Path(__file__).parents[2]
COLUMNS = Columns("image", "label")
FASHION_MNIST = ROOT / "data" / "fashion-mnist"


def make_dataset(count: int = 48, channels: int = 1, side: int = 12, classes: int = 3, seed: int = 0) -> Dataset:
    """Images whose class is the position of a bright square on noise, with columns that must not be touched."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[: side // 2, label * side // classes : (label + 1) * side // classes] += 120
    features = Features(
        {
            "name": Value("string"),
            "image": ImageFeature(),
            "label": ClassLabel(names=[f"class {index}" for index in range(classes)]),
        }
    )
    columns = {
        "name": [f"row {index}" for index in range(count)],
        "image": [Image.fromarray(image[:, :, 0] if channels == 1 else image) for image in pixels],
        "label": labels.tolist(),
    }
    return Dataset.from_dict(columns, features=features)


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (90, 60)) -> dict[str, np.ndarray]:
    """Write colour pictures of smooth blots, ``0.png`` and so on; their pixels by name."""
    rng, written = np.random.default_rng(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        blots = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
        picture = blots.resize(size, Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
        written[f"{number}.png"] = np.asarray(picture)
    return written


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(
    count: int = 6, channels: int = 1, side: int = 16, classes: int = 3, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and one-hot targets, as a defence gets them."""
    pixels = torch.rand(count, channels, side, side, generator=generator(seed))
    return pixels, F.one_hot(torch.arange(count) % classes, classes).float()


def pixels_of(dataset) -> np.ndarray:
    """All images of a dataset as one array, (N, H, W[, C])."""
    return np.stack([np.asarray(row["image"]) for row in dataset])


def described(**changed) -> Description:
    """What a protection might say of itself."""
    given = {
        "method": {"name": "mi-ue", "seed": 987654, "epochs": 12},
        "budget": Budget(8),
        "surrogates": ("small-resnet",),
        "columns": COLUMNS,
        "image_mode": None,
        "classes": Classes(["boats", "planes"]),
        "image_shape": (1, 12, 12),
        "image_sizes": "12x12",
        "largest_image": 144,
        "resampled": 0,
        "conversions": {},
        "images": 48,
        "digest": "d1ce5701",
    }
    return Description(**{**given, **changed})


def make_output(folder: Path, data: Dataset, protection: Protection, origin: str, split: str = "train") -> Path:
    """What ``protect --output`` writes, with a protection that is there already."""
    protection.save_pretrained(folder / "private" / "protection")
    (folder / "private" / "origin.json").write_text(json.dumps({"dataset": origin, "split": split}))
    protected = data.map(protection)
    figures = protection.verify(data, protected).as_dict()
    (folder / "private" / "verification.json").write_text(json.dumps(figures))
    protected.save_to_disk(folder / "dataset")
    return folder
