"""Photographs in the forms that datasets of other tasks have on the Hub."""

from __future__ import annotations

import io

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw

CATEGORIES = ["Coverall", "Face_Shield", "Gloves", "Goggles", "Mask"]


def photograph(rng: np.random.Generator, width: int = 64, height: int = 48) -> Image.Image:
    """What has the texture of one: a landscape of noise whose power falls with the frequency."""
    spectrum = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    spectrum[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(3, height, width))) / spectrum, (height, width))
    pixels = 128 + 45 * noise / noise.std() + rng.normal(0, 4, noise.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def as_file(image: Image.Image, kind: str = "JPEG", **options) -> dict:
    """As a dataset stores it."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return {"bytes": stream.getvalue(), "path": None}


def _boxes(rng: np.random.Generator, count: int, width: int = 64, height: int = 48) -> list[list[float]]:
    corner = rng.uniform(0, 0.5, (count, 2)) * (width, height)
    size = rng.uniform(0.1, 0.45, (count, 2)) * (width, height)
    return np.concatenate([corner, size], axis=1).round(2).tolist()


def detection(count: int = 24, *, listed: bool = False, seed: int = 0) -> Dataset:
    """As cppe-5: ``objects`` is a structure of lists, or, ``listed``, a list of structures; boxes are x, y, w, h.

    The largest object of row i is of category i % 3, and the last row has no object.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        boxes = _boxes(rng, int(rng.integers(1, 5))) if index < count - 1 else []
        areas = [box[2] * box[3] for box in boxes]
        kinds = rng.integers(0, len(CATEGORIES), len(boxes)).tolist()
        if boxes:
            kinds[int(np.argmax(areas))] = index % 3
        rows.append({"id": list(range(len(boxes))), "area": areas, "bbox": boxes, "category": kinds})
    one = {
        "id": Value("int64"),
        "area": Value("float64"),
        "bbox": List(Value("float32"), length=4),
        "category": ClassLabel(names=CATEGORIES),
    }
    kind = List(one) if listed else {name: List(part) for name, part in one.items()}
    objects = [[dict(zip(row, each, strict=True)) for each in zip(*row.values(), strict=True)] for row in rows]
    features = {
        "image_id": Value("int64"),
        "image": ImageFeature(),
        "width": Value("int32"),
        "height": Value("int32"),
        "objects": kind,
    }
    return Dataset.from_dict(
        {
            "image_id": list(range(count)),
            "image": [as_file(photograph(rng)) for _ in range(count)],
            "width": [64] * count,
            "height": [48] * count,
            "objects": objects if listed else rows,
        },
        features=Features(features),
    )


def segmentation(count: int = 12, mode: str = "L", seed: int = 0) -> Dataset:
    """As ADE20k for scene parsing: ``annotation`` has a number of a class for every pixel, 0 for none.

    Most pixels of row i are of class 1 + i % 2.
    """
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for index in range(count):
        mask = Image.new("I" if mode == "I;16" else mode, (64, 48))
        draw = ImageDraw.Draw(mask)
        draw.rectangle((4, 4, 54, 40), fill=1 + index % 2)
        draw.ellipse((30, 20, 46, 34), fill=7)
        if mode == "P":
            mask.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        if mode == "I;16":
            mask = Image.fromarray(np.asarray(mask).astype(np.uint16))
        images.append(as_file(photograph(rng)))
        masks.append(as_file(mask, "PNG"))
    features = Features({"image": ImageFeature(), "annotation": ImageFeature()})
    return Dataset.from_dict({"image": images, "annotation": masks}, features=features)


def captioned(count: int = 12, seed: int = 0) -> Dataset:
    """As COCO captions: several sentences an image."""
    rng = np.random.default_rng(seed)
    features = Features({"image": ImageFeature(), "cocoid": Value("int64"), "captions": List(Value("string"))})
    return Dataset.from_dict(
        {
            "image": [as_file(photograph(rng)) for _ in range(count)],
            "cocoid": list(range(count)),
            "captions": [[f"A hill, seen from place {index}.", "Weather, mostly."] for index in range(count)],
        },
        features=features,
    )


def tagged(count: int = 12, plain: bool = False, seed: int = 0) -> Dataset:
    """Several labels an image: one of three on each, and sky on every second one, which therefore most images have."""
    rng = np.random.default_rng(seed)
    names = ["sky", "hill", "lake", "tree"]
    numbers = [[1 + index % 3, *([0] if index % 2 == 0 else [])] for index in range(count)]
    kind = Value("string") if plain else ClassLabel(names=names)
    return Dataset.from_dict(
        {
            "image": [as_file(photograph(rng)) for _ in range(count)],
            "tags": [[names[number] for number in row] if plain else row for row in numbers],
        },
        features=Features({"image": ImageFeature(), "tags": List(kind)}),
    )
