"""TAP: targeted adversarial poisoning (Fowl et al. 2021, arXiv 2106.10807)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.alternating.networks import targets_of
from hf_unlearnable.methods.baselines.adversarial import AdversarialPoison


@dataclass(frozen=True, kw_only=True)
class TAP(AdversarialPoison, name="tap"):
    """Make every image an adversarial example of another class, which is one and the same for all images of a class.

    Perturbations descend the cross-entropy of the class three further on, ``(y + 3) mod K`` (the next class where there
    are three or fewer): section 3.2 of the paper, whose map of the labels is any fixed permutation; the authors' code
    takes ``(y + 1) mod K``. A victim learns the features of that other class for the label.
    """

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the other class."""
        return F.cross_entropy(logits, targets_of(labels, logits.shape[1]), reduction="sum")
