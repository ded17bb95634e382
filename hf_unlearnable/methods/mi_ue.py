"""MI-UE: lower the mutual information between clean and protected features (arXiv 2603.03725)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from hf_unlearnable.information.losses import contrastive_loss, distance_loss
from hf_unlearnable.methods.alternating.alternating import Alternating
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.settings import Rate, Weight


@dataclass(frozen=True, kw_only=True)
class MIUE(Alternating, name="mi-ue"):
    """Draw the features of every protected class together, so that they say little about the images.

    Perturbations descend ``contrastive_loss + distance_weight * distance_loss`` of the surrogate's features (equations
    of arXiv 2603.03725). The defaults are this package's own recipe, which reaches more in less time on small sets,
    with the targeted term of ``Alternating`` beside the loss of the paper (``targeted_weight=0`` leaves it out);
    ``MIUE.paper()`` is the recipe of the authors' experiments.

    Args:
        targeted_weight: as of ``Alternating``; 0 leaves the guides out.
        temperature: of the contrastive loss.
        distance_weight: zeta, of the distance term; 0.1 in the paper, 0 is its ablation, 10 and more ruin the result.
        denominator: pairs in the denominator of the contrastive loss, see ``contrastive_loss``.
    """

    citation = Paper(
        key="zhu2026unlearnable",
        title="Why Do Unlearnable Examples Work: A Novel Perspective of Mutual Information",
        authors=("Zhu, Yifan", "Miao, Yibo", "Dong, Yinpeng", "Gao, Xiao-Shan"),
        year=2026,
        arxiv="2603.03725",
    )

    adaptive: ClassVar[str] = "class-clusters:1"

    targeted_weight: Weight = 0.5
    temperature: Rate = 0.1
    distance_weight: Weight = 0.1
    denominator: Literal["all", "cross-class"] = "all"

    @classmethod
    def paper(cls, **changes: Any) -> MIUE:
        """The recipe of the authors' experiments, at a budget of 8/255 to the number.

        E = 100 epochs; in each a pass of SGD (batches of 128, learning rate 0.1 by a cosine to 1e-6, momentum 0.9,
        weight decay 1e-4), then T = 10 sign steps for every batch of 512. In epoch e = 0 ... E - 1 each of them is
        ``(0.2 + (4 / T - 0.2) e / E) / 255``: from 0.2/255 towards 4/(255 T), which would be that of an epoch more;
        0.398/255 in the last. Meant for ``Surrogate("resnet-18")``.

        Args:
            changes: fields to set otherwise; ``inner_steps=T`` changes what the steps grow towards, too.
        """
        inner_steps = cls(inner_steps=changes.get("inner_steps", 10)).inner_steps  # a number of steps, or an error
        recipe: dict[str, Any] = {
            "schedule": "paper",
            "epochs": 100,
            "copies": 1,
            "batch_size": 128,
            "weight_decay": 1e-4,
            "first_step": 0.2 / 8,
            "last_step": 4 / inner_steps / 8,
            "inner_steps": inner_steps,
            "targeted_weight": 0.0,
        }
        return cls(**{**recipe, **changes})

    def perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Contrastive and distance term of the features."""
        loss = contrastive_loss(features, labels, temperature=self.temperature, denominator=self.denominator)
        if self.distance_weight:
            loss = loss + self.distance_weight * distance_loss(features, labels)
        return loss
