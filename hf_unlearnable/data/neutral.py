"""Generated pictures that are nobody's: to stand beside one owner's where no pictures of others are at hand.

Nothing is shipped or fetched: they are drawn when they are needed, 2,000 of 64x64 pixels in two seconds, and no licence
holds for them. Both kinds have the statistics of photographs to second order, and networks learn useful features from
them (Baradad et al. 2021, "Learning to See by Looking at Noise", arXiv 2106.05963), but they show nothing.
"""

from __future__ import annotations

import numpy as np
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hf_unlearnable.budget import WHITE

KINDS = ("discs", "boxes", "fine noise", "coarse noise")

SLOPES = {"fine noise": 1.0, "coarse noise": 1.7}  # amplitude falls with frequency to this power


def neutral_pictures(count: int = 2000, side: int = 64, seed: int = 0) -> Dataset:
    """Draw dead leaves (Lee, Mumford & Huang 2001) and coloured noise, in four classes of equal size.

    Args:
        count: of pictures.
        side: of each, in pixels.
        seed: the same pictures for the same seed.

    Returns:
        A dataset with the columns ``image`` (RGB) and ``label``.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(KINDS)
    images = [
        coloured_noise(side, SLOPES[kind], rng) if (kind := KINDS[label]) in SLOPES else dead_leaves(side, kind, rng)
        for label in labels
    ]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(KINDS))})
    return Dataset.from_dict({"image": images, "label": labels.tolist()}, features=features)


def dead_leaves(side: int, kind: str, rng: np.random.Generator) -> Image.Image:
    """Discs or boxes of random colours, each over the ones before, with as much area of every size."""
    image = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(image)
    shape = draw.ellipse if kind == "discs" else draw.rectangle
    # Sizes with a density that falls with their third power look the same at every scale.
    radii = np.clip(side / 32 / np.sqrt(rng.uniform(0.005, 1, 400)), 1, side / 2)
    for radius, (x, y), colour in zip(radii, rng.uniform(0, side, (400, 2)), _palette(rng, 400), strict=True):
        shape((x - radius, y - radius, x + radius, y + radius), fill=tuple(map(int, colour)))
    return image


def coloured_noise(side: int, slope: float, rng: np.random.Generator) -> Image.Image:
    """Noise whose amplitude falls with the frequency to the power ``slope``, in correlated channels."""
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequencies[0, 0] = np.inf  # no mean
    white = rng.normal(size=(3, side, side))
    noise = np.stack([np.fft.irfft2(np.fft.rfft2(plane) / frequencies**slope, (side, side)) for plane in white])
    noise /= noise.std(axis=(1, 2), keepdims=True)
    shared = noise[:1] * rng.uniform(0.5, 1) + noise * rng.uniform(0.1, 0.5)
    pixels = rng.uniform(80, 175) + rng.uniform(25, 55) * shared
    return Image.fromarray(np.clip(np.rint(pixels), 0, WHITE).astype(np.uint8).transpose(1, 2, 0))


def _palette(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Colours (count, 3) around one of their own."""
    return np.clip(rng.uniform(60, 195, 3) + rng.normal(0, 1, (count, 3)) * rng.uniform(15, 60), 0, WHITE)
