"""LSP: linearly separable perturbations, drawn without a network (Yu et al. 2022, arXiv 2111.00898)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.methods.baselines.batchwise import Batchwise, Make, of_length
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.settings import Count, Positive

MOST_VALUES = 12_288  # of a mosaic: the matrix of a class has the square of it


@dataclass(frozen=True, kw_only=True)
class LSP(Batchwise, name="lsp"):
    """Add to every image a coarse mosaic, drawn from the Gaussian blob of its class.

    Section 4 of the paper. The blob of class k has its centre in a corner of a hypercube, ``s`` times a vector of signs
    of its own, and a covariance of its own: a mosaic of n values is ``s signs_k + A_k z`` with z standard normal and
    the entries of the n x n matrix A_k uniform in [-1, 1]. The values become squares of ``patch`` pixels, a channel
    each, and the mosaic is scaled to one L2 norm.

    That norm is ``sqrt(n pixels) 6/255`` in the paper, 1.30 for colour images of 32 pixels a side; at a budget of 8/255
    it is the same here (``strength``), and what then lies beyond the budget is cut off, which the paper does not do.
    Under an L2 budget it is the radius.

    Args:
        patch: side of a square in pixels; 8 in the paper.
        separation: s, the distance of the centres from the origin along every axis.
        strength: the root mean square of a mosaic as a fraction of an L-inf radius, before it is cut off.

    Raises:
        RecipeError: fewer corners than classes, or squares so small that a covariance does not fit into memory.
    """

    uses_surrogates: ClassVar[bool] = False
    one_class: ClassVar[bool] = True
    blind: ClassVar[bool] = True
    finest: ClassVar[int] = 256  # costs nothing here
    adaptive: ClassVar[str] = "orthogonal-projection"
    citation = Paper(
        key="yu2022availability",
        title="Availability Attacks Create Shortcuts",
        authors=("Yu, Da", "Zhang, Huishuai", "Chen, Wei", "Yin, Jian", "Liu, Tie-Yan"),
        year=2022,
        arxiv="2111.00898",
    )

    patch: Count = 8
    separation: Positive = 10.0
    strength: Positive = 6 / 8

    def maker(self, task: Task) -> Make:
        """Draw the blobs, alike in every process.

        Raises:
            RecipeError: fewer corners than classes, or squares so small that a covariance does not fit into memory.
        """
        classes, (channels, height, width) = len(task.images.names), task.images.pixels.shape[1:]
        rows, columns = -(-height // self.patch), -(-width // self.patch)
        count = channels * rows * columns
        bits = min(count, 20)
        if count > MOST_VALUES or classes > 2**bits:
            raise RecipeError(
                f"lsp: got mosaics of {count} squares for {classes} classes; expected at most {MOST_VALUES}, and at "
                f"least {max(1, (classes - 1).bit_length())}. Use {'larger' if count > MOST_VALUES else 'smaller'} "
                f"ones: patch is {self.patch}"
            )
        shared = torch.Generator().manual_seed(self.seed)
        corners = torch.randint(0, 2, (classes, count), generator=shared)
        distinct = torch.randperm(2**bits, generator=shared)[:classes, None]
        corners[:, :bits] = distinct >> torch.arange(bits) & 1
        centres = self.separation * (2.0 * corners - 1)
        # One matrix at a time, by its class: all of them would not fit for many classes of large images.
        seeds = torch.randint(0, 2**62, (classes,), generator=shared).tolist()

        def make(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            mosaics = torch.randn(len(images), count, generator=generator)
            for label in labels.unique().tolist():
                own = (labels == label).cpu()
                drawn = torch.Generator().manual_seed(seeds[label])
                spread = 2 * torch.rand(count, count, generator=drawn) - 1
                mosaics[own] = centres[label] + mosaics[own] @ spread
            squares = mosaics.view(len(images), channels, rows, columns)
            squares = squares.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)
            return of_length(squares[:, :, :height, :width], task.budget, self.strength).to(images.device)

        return make
