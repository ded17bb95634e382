"""PGD: untargeted adversarial poisoning (Fowl et al. 2021, arXiv 2106.10807)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.baselines.adversarial import AdversarialPoison


@dataclass(frozen=True, kw_only=True)
class PGD(AdversarialPoison, name="pgd"):
    """Make every image an adversarial example: perturbations climb the cross-entropy of their own class.

    The untargeted form of TAP, section 3.1 of the paper. ``BEO(objective="cross-entropy")`` climbs the same loss in the
    embeddings of BEO, an adversarially trained one among them: the control that BEO has to beat.
    """

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The cross-entropy, negative."""
        return -F.cross_entropy(logits, labels, reduction="sum")
