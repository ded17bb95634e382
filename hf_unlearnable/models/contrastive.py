"""Features that are learned without labels: SimCLR (Chen et al. 2020, arXiv 2002.05709), at the size of a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from hf_unlearnable.models.augmentation import strong_augmentation
from hf_unlearnable.models.surrogate import Network, Surrogate
from hf_unlearnable.progress import Progress

EPOCHS = 40
BATCH = 256  # images a step, each seen twice: the others of a batch are what it is told from
TEMPERATURE = 0.5  # as published for images of 32 pixels
LEARNING_RATE = 2e-3
GREY = 0.5  # of the views are without colour, 0.2 as published: else little but hue is learned of photographs

Features = Callable[[torch.Tensor], torch.Tensor]


def contrastive_features(images: torch.Tensor, *, seed: int, epochs: int = EPOCHS, progress: bool = False) -> Features:
    """Teach ``small-resnet`` to find the second of two views of an image among those of all images of a batch.

    With z the normalised projections of 2B views, the loss of view i, whose second view is j, is
    ``-log( exp(z_i . z_j / t) / sum_{k != i} exp(z_i . z_k / t) )`` (equation 1 of the paper).

    Args:
        images: (N, C, H, W) in [0, 1] on the CPU, N at least two.
        seed: of weights, order and views.
        epochs: passes over the images.
        progress: show a bar.

    Returns:
        A function of images (B, C, H, W) that gives what the network knows of them, (B, D), without gradients.
    """
    network = Surrogate("small-resnet").build(2, images.shape[1], seed)
    with torch.no_grad():
        _, known = network.eval()(images[:1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = known.shape[1]
        projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    size = min(BATCH, len(images))
    steps = max(1, len(images) // size)
    optimiser = torch.optim.AdamW([*network.parameters(), *projection.parameters()], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    with Progress("features without labels", epochs * steps, enabled=progress) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(images), generator=generator)
            for rows in order[: steps * size].split(size):
                views = [_view(images[rows], generator) for _ in range(2)]
                optimiser.zero_grad()
                loss = simclr_loss(projection(network(torch.cat(views))[1]))
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.advance(loss=loss.item())
    return _known_to(network.eval())


def simclr_loss(projections: torch.Tensor) -> torch.Tensor:
    """The mean over all views, a scalar; rows (2B, D) of which i and i + B are of one image."""
    normalised = F.normalize(projections, dim=1)
    alike = normalised @ normalised.T / TEMPERATURE
    alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool), -torch.inf)
    partners = torch.arange(len(alike)).roll(len(alike) // 2)
    return F.cross_entropy(alike, partners)


def _view(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Strongly augmented, and some of them grey."""
    seen = strong_augmentation(images, generator)
    grey = torch.rand(len(images), 1, 1, 1, generator=generator) < GREY
    return torch.where(grey, seen.mean(dim=1, keepdim=True), seen)


def _known_to(network: Network) -> Features:
    @torch.no_grad()
    def features(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([network(part)[1] for part in images.split(BATCH)])

    return features
