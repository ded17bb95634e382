"""Orthogonal projection: take out what a linear model tells the classes by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from hf_unlearnable.budget import WHITE, to_unit
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Defence
from hf_unlearnable.settings import Count, Positive


@dataclass(frozen=True, kw_only=True)
class OrthogonalProjection(Defence, name="orthogonal-projection"):
    """Take out of the images what a linear model tells their classes by.

    Sandoval-Segura et al. 2023, arXiv 2305.19254. A softmax regression on the pixels is fitted to the released set;
    its K weight vectors span a space (of K - 1 dimensions, since those of a softmax sum to zero), and what an image has
    in that space beyond the mean image is removed. (The paper removes the mean's share too, which is one constant
    image; it is kept here, since 8-bit pixels clip and much of an image without it would lie below zero.)

    Args:
        epochs: passes of SGD.
        learning_rate: at the start, decayed by a cosine.
        batch_size: images a step.
    """

    revision = 2  # K - 1 directions; the K-th was rounding errors, and took out whatever lay there
    epochs: Count = 20
    learning_rate: Positive = 0.1
    batch_size: Count = 128

    def prepare(self, images: ImageSet, *, seed: int = 0) -> ImageSet:
        """Fit, project, round to 8 bits."""
        flat = torch.from_numpy(np.ascontiguousarray(images.pixels)).flatten(1)
        labels = torch.from_numpy(images.labels)
        mean = torch.zeros(flat.shape[1])
        for part in flat.split(4096):
            mean += to_unit(part).sum(dim=0) / len(flat)
        basis = _span(self._fit(flat, labels, mean, len(images.names), seed))
        cleaned = torch.empty_like(flat)
        for start in range(0, len(flat), 4096):
            part = to_unit(flat[start : start + 4096]) - mean
            projected = mean + part - part @ basis @ basis.T
            cleaned[start : start + 4096] = (projected * WHITE).round().clamp(0, WHITE).to(torch.uint8)
        return ImageSet(cleaned.reshape(images.pixels.shape).numpy(), images.labels, images.names)

    def _fit(
        self, flat: torch.Tensor, labels: torch.Tensor, mean: torch.Tensor, classes: int, seed: int
    ) -> torch.Tensor:
        """(pixels, K) weights of the linear model, on centred pixels."""
        weights = torch.zeros(flat.shape[1], classes, requires_grad=True)
        bias = torch.zeros(classes, requires_grad=True)
        optimiser = torch.optim.SGD([weights, bias], lr=self.learning_rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(flat), generator=generator).split(self.batch_size):
                loss = F.cross_entropy((to_unit(flat[rows]) - mean) @ weights + bias, labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()
        return weights.detach()


def _span(vectors: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis (D, R) of the span of vectors (D, K), R their rank."""
    directions, lengths, _ = torch.linalg.svd(vectors.double(), full_matrices=False)
    # What is left of float32 rounding errors in a direction that the vectors do not have.
    return directions[:, lengths > lengths.max() * max(vectors.shape) * torch.finfo(vectors.dtype).eps].to(vectors)
