"""EM: error-minimising noise (Huang et al. 2021, arXiv 2101.04898), in the loop of MI-UE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.alternating.alternating import Alternating
from hf_unlearnable.methods.paper import Paper


@dataclass(frozen=True, kw_only=True)
class EM(Alternating, name="em"):
    """Make every image so easy for its class that nothing is left to learn: perturbations descend the cross-entropy.

    The min-min problem of the paper, solved by the same alternation as MI-UE: what differs between the two is the loss
    of the perturbations alone.
    """

    citation = Paper(
        key="huang2021unlearnable",
        title="Unlearnable Examples: Making Personal Data Unexploitable",
        authors=("Huang, Hanxun", "Ma, Xingjun", "Erfani, Sarah Monazam", "Bailey, James", "Wang, Yisen"),
        year=2021,
        arxiv="2101.04898",
    )

    adaptive: ClassVar[str] = "class-clusters:1"
    loss_is_the_surrogates: ClassVar[bool] = True

    def perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the logits."""
        return F.cross_entropy(logits, labels)
