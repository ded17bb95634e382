"""Orthogonal projection: take out what a linear model tells the classes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Correction, Defence, unit_chunks
from hf_unlearnable.settings import Count, Weight


@dataclass(frozen=True, kw_only=True)
class OrthogonalProjection(Defence, name="orthogonal-projection"):
    """Take out of the images what a linear model tells their classes by.

    Sandoval-Segura et al. 2023, arXiv 2305.19254. A softmax regression on the pixels is fitted to the released set;
    its K weight vectors span a space (of K - 1 dimensions, since those of a softmax sum to zero), and what an image has
    in that space beyond the mean image is removed. (The paper removes the mean's share too, which is one constant
    image.) The images stay floats: rounded and clipped to 8 bits they keep enough of what was removed to make this a
    much weaker defence.

    Args:
        iterations: of L-BFGS, over the whole set each; enough to converge.
        l2: penalty on half of the squared weights.
    """

    revision = 3  # fitted until it converges, and not rounded: 82 instead of 72 % where a network is misled to 30
    iterations: Count = 60
    l2: Weight = 1e-3

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Fit, and project."""
        mean = torch.zeros(images.pixels.shape[1:])
        for pixels, _ in unit_chunks(images):
            mean += pixels.sum(dim=0) / len(images)

        def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return ((pixels - mean, labels) for pixels, labels in unit_chunks(images))

        weights, _ = softmax_regression(batches, len(images.names), iterations=self.iterations, l2=self.l2)
        basis = _span(weights)

        def correct(seen: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
            directions = basis.to(seen.device)
            flat = (seen - mean.to(seen.device)).flatten(1)
            return seen - (flat @ directions @ directions.T).view(seen.shape)

        return correct


def softmax_regression(
    batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]],
    classes: int,
    *,
    iterations: int = 60,
    l2: float = 1e-3,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a linear model to all rows at once by L-BFGS: the mean cross-entropy and a penalty on the weights.

    Args:
        batches: gives all rows, in parts: (B, ...) floats and (B,) labels. It is called for every look at them.
        classes: K.
        iterations: of L-BFGS; enough to converge.
        l2: penalty on half of the squared weights, for rows whose values are about one.

    Returns:
        Weights (D, K), D the size of a row, and bias (K,).
    """
    count = size = 0
    for rows, labels in batches():
        count, size = count + len(labels), rows[0].numel()
    weights = torch.zeros(size, classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        penalty = l2 / 2 * weights.square().sum()
        penalty.backward()
        total = penalty.item()
        for rows, labels in batches():
            loss = F.cross_entropy(rows.flatten(1) @ weights + bias, labels, reduction="sum") / count
            loss.backward()
            total += loss.item()
        return total

    with torch.enable_grad():
        optimiser.step(closure)
    return weights.detach(), bias.detach()


def _span(vectors: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis (D, R) of the span of vectors (D, K), R their rank."""
    directions, lengths, _ = torch.linalg.svd(vectors.double(), full_matrices=False)
    # What is left of float32 rounding errors in a direction that the vectors do not have.
    return directions[:, lengths > lengths.max() * max(vectors.shape) * torch.finfo(vectors.dtype).eps].to(vectors)
