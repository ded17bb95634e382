"""Waves that survive what happens to published images, and which class gets which."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.data.image_set import draw_by_class
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.methods.task import Task
from hf_unlearnable.training.processes import broadcast

BLOCK = 8  # pixels a side of a block of JPEG, whose cosine transform the waves are basis functions of
# (down, across) half-periods a block. Lower ones drown in what images hold themselves, higher ones in JPEG.
FREQUENCIES = ((0, 2), (2, 0), (2, 1), (1, 2), (3, 0), (0, 3), (2, 2), (1, 3), (3, 1), (0, 4))
# Of a class that is alone among images of others: the finest that JPEG leaves down to a quality of about 25.
LONE = ((0, 4), (4, 0))
MOST = 2 ** len(FREQUENCIES) - 1  # sets of frequencies
Code = tuple[tuple[int, int], ...]


def wave(code: Code, height: int, width: int) -> NDArray[np.float32]:
    """The wave of a class, (H, W) of -1 and 1.

    Args:
        code: the frequencies of the class; several take turns along the diagonals of the blocks.
        height: in pixels; need not be a multiple of ``BLOCK``.
        width: likewise.
    """
    rows, columns = np.arange(height), np.arange(width)
    turn = (rows[:, None] // BLOCK + columns[None, :] // BLOCK) % len(code)
    result = np.zeros((height, width), dtype=np.float32)
    for place, (down, across) in enumerate(code):
        lines, posts = (
            np.cos((2 * places + 1) * frequency * np.pi / (2 * BLOCK))
            for places, frequency in ((rows, down), (columns, across))
        )
        result = np.where(turn == place, np.where(np.outer(lines, posts) >= 0, 1, -1), result)
    return result.astype(np.float32)


def class_codes(count: int, rng: np.random.Generator) -> list[Code]:
    """A set of frequencies for each of ``count`` classes: single ones as far as they go, then pairs, and so on.

    A single class gets one of ``LONE``: nothing has to be told apart from it but what images show themselves.

    Raises:
        RecipeError: more classes than sets.
    """
    if count == 1:
        return [(LONE[rng.integers(len(LONE))],)]
    codes: list[Code] = []
    for size in range(1, len(FREQUENCIES) + 1):
        sets = list(itertools.combinations(FREQUENCIES, size))
        codes += [sets[index] for index in rng.permutation(len(sets))]
        if len(codes) >= count:
            return codes[:count]
    raise RecipeError(f"got {count} classes, one wave each; expected at most {MOST}")


def class_waves(count: int, channels: int, height: int, width: int, rng: np.random.Generator) -> torch.Tensor:
    """The waves of classes, (K, C, H, W) of -1 and 1; in colour images blue has that of the next one.

    Args:
        count: K.
        channels: C, one or three.
        height: in pixels.
        width: likewise.
        rng: draws which class gets which.

    Raises:
        RecipeError: more classes than sets of frequencies.
    """
    drawn = torch.from_numpy(np.stack([wave(code, height, width) for code in class_codes(count, rng)]))
    waves = drawn[:, None].repeat(1, channels, 1, 1)
    if channels > 1:
        waves[:, -1] = drawn.roll(-1, dims=0)
    return waves


def balanced_signs(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """A sign for every row (N,), as many of each as a class allows."""
    return np.where(draw_by_class(labels, lambda members: members // 2, rng), -1, 1).astype(np.float32)


def private_generator(seed: int, task: Task) -> np.random.Generator:
    """Draws what nobody can guess who does not have the clean images; the same in all processes."""
    own = hashlib.blake2b(str(seed).encode(), key=task.images.digest, digest_size=16).digest()
    return np.random.default_rng(list(broadcast(task.accelerator, own)))
