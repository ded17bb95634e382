"""Training a classifier the ordinary way: what victims do, and what surrogates imitate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.budget import to_unit
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.images import ImageSet
from hf_unlearnable.surrogate import Network, Surrogate


def random_crop_flip(images: torch.Tensor, generator: torch.Generator, padding: int = 4) -> torch.Tensor:
    """Shift every image by up to ``padding`` pixels (zeros move in) and mirror half of them: the usual augmentation.

    A gather, so that gradients flow back to the pixels that were seen.

    Args:
        images: (B, C, H, W).
        generator: on the CPU, whatever the device of the images, so that devices draw alike.
        padding: largest shift in pixels.
    """
    count, channels, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = offsets[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = offsets[1] + torch.where(mirrored, width - 1 - columns, columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = F.pad(images, (padding,) * 4)
    return padded[
        torch.arange(count, device=images.device)[:, None, None, None],
        torch.arange(channels, device=images.device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """One epoch of shuffled row numbers in batches of ``size``; a remainder joins the last batch.

    Batch normalisation needs more than one row, and a dropped remainder would be images not trained on.
    """
    order = rng.permutation(count)
    whole = max(1, count // size)
    for index in range(whole):
        yield order[index * size : (index + 1) * size if index + 1 < whole else count]


def paired_batches(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """One epoch of shuffled row numbers in which no class stands alone in a batch.

    Rows are drawn in pairs of one class (a triple where a class is odd), so that a loss between images of one class has
    something to compare even with more classes than rows in a batch.

    Args:
        labels: (N,), every class at least twice.
        size: rows of a batch, met to within two.
        rng: draws the pairs and their order.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    groups: list[NDArray[np.int64]] = []
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        # Cut before every second member, but never so that the last one is left alone.
        groups += np.split(members, range(2, len(members) - 1, 2))
    result: list[list[NDArray[np.int64]]] = [[]]
    filled = 0
    for index in rng.permutation(len(groups)):
        if filled >= size:
            result.append([])
            filled = 0
        result[-1].append(groups[index])
        filled += len(groups[index])
    return [np.concatenate(batch) for batch in result]


@dataclass(frozen=True)
class Training:
    """The recipe of a victim: SGD with Nesterov momentum, cosine decay to zero, random crop and flip.

    Args:
        epochs: passes over a set of the full size.
        batch_size: images a step.
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: of SGD.
        augment: random crop (4 pixels) and flip.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True

    def iterations(self, count: int) -> int:
        """Optimiser steps for a set of ``count`` images."""
        return self.epochs * max(1, count // self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Field names and values."""
        return asdict(self)


def train(
    surrogate: Surrogate,
    images: ImageSet,
    training: Training,
    *,
    iterations: int,
    seed: int,
    accelerator: Accelerator,
    defence: Defence = NoDefence(),
    after_step: Callable[[int, float, Network], None] | None = None,
) -> Network:
    """Train a classifier from the weights that ``surrogate`` builds.

    Args:
        surrogate: what to train.
        images: the training set.
        training: how.
        iterations: optimiser steps; the cosine ends there, however many epochs of this set that makes.
        seed: of the weights, the order and the augmentation.
        accelerator: device and precision.
        defence: what is done to the images, the batches and the starting weights on top of ``training``.
        after_step: called with the number of steps done, the loss and the network.

    Returns:
        The trained network, in evaluation mode.
    """
    images = defence.prepare(images, seed=seed)
    network = defence.start(surrogate).build(len(images.names), images.pixels.shape[1], seed)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.momentum > 0,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    network, optimiser = accelerator.prepare(network, optimiser)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    done = 0
    while done < iterations:
        for batch in batches(len(images), training.batch_size, rng):
            pixels, labels = load(images, batch, accelerator.device)
            if training.augment:
                pixels = random_crop_flip(pixels, generator)
            if defence.acts_on_batches:
                soft = F.one_hot(labels, len(images.names)).float()
                pixels, labels = defence.batch(pixels, soft, accelerator.unwrap_model(network), generator)
            network.train()
            loss = F.cross_entropy(network(pixels)[0].float(), labels)  # of classes, or of their probabilities
            optimiser.zero_grad()
            accelerator.backward(loss)
            optimiser.step()
            schedule.step()
            done += 1
            if after_step is not None:
                after_step(done, loss.item(), network)
            if done == iterations:
                break
    result: Network = accelerator.unwrap_model(network).eval()
    return result


def load(images: ImageSet, rows: NDArray[np.int64], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring rows to a device: (B, C, H, W) floats in [0, 1] and (B,) labels."""
    pixels = torch.from_numpy(images.pixels[rows]).to(device)
    return to_unit(pixels), torch.from_numpy(images.labels[rows]).to(device)


@torch.no_grad()
def accuracy(network: Network, images: ImageSet, device: torch.device, batch_size: int = 500) -> float:
    """The share of images whose class the network names, in [0, 1]; the network is left in evaluation mode."""
    network.eval()
    right = 0
    for start in range(0, len(images), batch_size):
        pixels, labels = load(images, np.arange(start, min(start + batch_size, len(images))), device)
        right += int((network(pixels)[0].argmax(dim=1) == labels).sum())
    return right / len(images)


@torch.no_grad()
def embed(network: Network, images: ImageSet, device: torch.device, batch_size: int = 500) -> torch.Tensor:
    """The features (N, D) of all images, float32 on ``device``."""
    network.eval()
    parts = [
        network(load(images, np.arange(start, min(start + batch_size, len(images))), device)[0])[1].float()
        for start in range(0, len(images), batch_size)
    ]
    return torch.cat(parts)
