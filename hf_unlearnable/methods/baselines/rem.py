"""REM: robust error-minimising noise (Fu et al. 2022, arXiv 2203.14533), and its cheaper form SEM (2311.13091)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch.nn import functional as F

from hf_unlearnable.budget import Budget
from hf_unlearnable.defences.adversarial import ascend
from hf_unlearnable.methods.em import EM
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.models.surrogate import Network, evaluating
from hf_unlearnable.settings import Count, Few, Range, Share, refuse


@dataclass(frozen=True, kw_only=True)
class REM(EM, name="rem"):
    """EM against adversarial training: perturbations that make images easy even where somebody makes them hard.

    The min-min-max problem of the paper: between the protected image, seen through a random crop and flip, and the
    network, an adversary moves the image by at most a share of the budget up the cross-entropy; the network learns what
    the adversary leaves, and perturbations descend the loss there (the adversary's move counts as a constant).

    The loop is that of ``EM`` and not that of the paper, which takes 10 steps of a batch at a time and averages five
    crops a step (EOT); here every step of the alternation sees one crop, and there are many. And an adversary of the
    paper makes 10 steps, in which a fit costs eight times as much as here with one, the step of fast adversarial
    training (arXiv 2001.03994). Without any step, ``attack_steps=0``, it is noise from the adversary's ball: SEM
    (Liu et al. 2024, arXiv 2311.13091), for the cost of 18 passes of EM.

    Args:
        attack_radius: of the adversary, as a share of the budget's radius; 1/2 in the paper's main table.
        attack_steps: of the adversary; 10 in the paper, 0 for SEM.

    Raises:
        RecipeError: another schedule than the shared one.
    """

    adaptive: ClassVar[str] = "orthogonal-projection"
    citation = Paper(
        key="fu2022robust",
        title="Robust Unlearnable Examples: Protecting Data Against Adversarial Learning",
        authors=("Fu, Shaopeng", "He, Fengxiang", "Liu, Yang", "Shen, Li", "Tao, Dacheng"),
        year=2022,
        arxiv="2203.14533",
    )

    epochs: Count | None = 18
    copies: Few | None = 2
    grain: Few | None = 1
    compressed: Share | None = 0.0
    from_waves: bool | None = False
    guide_accuracy: Share = 2 / 3  # of no effect: nothing is targeted
    attack_radius: Share = 0.5
    attack_steps: Annotated[int, Range(least=0, most=1000)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule != "shared":
            refuse(self, f"schedule={self.schedule!r}", "'shared': there is no adversary in the other one")

    def disturbed(
        self, images: torch.Tensor, labels: torch.Tensor, network: Network, budget: Budget, generator: torch.Generator
    ) -> torch.Tensor:
        """What the adversary makes of the images."""
        # What an L2 ball gives each value on average, where that is the norm.
        radius = budget.epsilon if budget.norm == "linf" else budget.epsilon / images[0].numel() ** 0.5
        eps = self.attack_radius * radius
        with evaluating(network):
            moved = ascend(
                images.detach(),
                lambda seen: F.cross_entropy(network(seen)[0].float(), labels),
                eps=eps,
                step=eps * min(1.25, 2 / max(1, self.attack_steps)),
                steps=self.attack_steps,
                generator=generator,
            )
        return images + (moved - images).detach()
