"""What a trained network says of a set of images: accuracy and features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.training.batches import load, row_chunks
from hf_unlearnable.training.micro_batches import retry_in_halves

AT_ONCE = 250  # images: of more, the activations fit neither a CPU's cache nor what an allocator keeps to hand


def accuracy(network: Network, images: ImageSet, device: torch.device, batch_size: int = AT_ONCE) -> float:
    """The share of images whose class the network names, in [0, 1]; the network is left in evaluation mode."""
    return float((classify(network, images, device, batch_size) == images.labels).mean())


def classify(network: Network, images: ImageSet, device: torch.device, batch_size: int = AT_ONCE) -> NDArray[np.int64]:
    """The class (N,) that the network names for each image; the network is left in evaluation mode."""
    return _of_all(lambda pixels: classes_of(network, pixels), network, images, device, batch_size).cpu().numpy()


def classes_of(network: Network, pixels: torch.Tensor) -> torch.Tensor:
    """The class (B,) that the network names for each of the pixels (B, C, H, W), in [0, 1], as they are."""
    return _in_parts(lambda some: network(some)[0].argmax(dim=1), pixels)


def embed(network: Network, images: ImageSet, device: torch.device, batch_size: int = AT_ONCE) -> torch.Tensor:
    """The features (N, D) of all images, float32 on ``device``; the network is left in evaluation mode."""
    return _of_all(lambda pixels: network(pixels)[1].float(), network, images, device, batch_size)


@torch.no_grad()
def _of_all(
    compute: Callable[[torch.Tensor], torch.Tensor],
    network: Network,
    images: ImageSet,
    device: torch.device,
    batch_size: int,
) -> torch.Tensor:
    """What ``compute``, which treats every row by itself, makes of all images, batch by batch."""
    network.eval()
    results = []
    for rows in row_chunks(len(images), batch_size):
        pixels, _ = load(images, rows, device)
        results.append(_in_parts(compute, pixels))
    return torch.cat(results)


def _in_parts(compute: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """What ``compute`` makes of pixels (B, C, H, W), in halves where they do not fit the device."""
    return retry_in_halves(lambda rows: compute(pixels[rows]), len(pixels))
