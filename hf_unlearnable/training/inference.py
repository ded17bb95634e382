"""What a trained network says of a set of images: accuracy and features."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.modeling.surrogate import Network
from hf_unlearnable.training.batches import load
from hf_unlearnable.training.micro_batches import retry_in_halves


@torch.no_grad()
def accuracy(network: Network, images: ImageSet, device: torch.device, batch_size: int = 500) -> float:
    """The share of images whose class the network names, in [0, 1]; the network is left in evaluation mode."""
    named = torch.cat([one.argmax(dim=1) for one in _outputs(network, images, device, batch_size, 0)])
    return float((named.cpu() == torch.from_numpy(images.labels)).double().mean())


@torch.no_grad()
def embed(network: Network, images: ImageSet, device: torch.device, batch_size: int = 500) -> torch.Tensor:
    """The features (N, D) of all images, float32 on ``device``; the network is left in evaluation mode."""
    return torch.cat([one.float() for one in _outputs(network, images, device, batch_size, 1)])


def _outputs(
    network: Network, images: ImageSet, device: torch.device, batch_size: int, which: int
) -> Iterator[torch.Tensor]:
    """Logits (0) or features (1) of all images, batch by batch."""
    network.eval()
    for start in range(0, len(images), batch_size):
        pixels, _ = load(images, np.arange(start, min(start + batch_size, len(images))), device)
        yield retry_in_halves(functools.partial(_output, network, pixels, which), len(pixels))


def _output(network: Network, pixels: torch.Tensor, which: int, part: slice) -> torch.Tensor:
    return network(pixels[part])[which]
