"""The settings of the alternation that MI-UE and EM share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class AlternatingRecipe(Method):
    """The settings of ``Alternating``, which says what they are, and their checks."""

    schedule: Literal["shared", "paper"] = "shared"
    epochs: int = 18
    pattern_share: float = 2 / 3
    copies: int = 2
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    pattern_momentum: float = 0.9
    first_step: float = 1 / 8
    last_step: float = 1 / 32
    targeted_weight: float = 0.0
    guides: int = 3
    guide_epochs: int = 6
    guide_accuracy: float = 2 / 3
    inner_steps: int = 1
    perturbation_batch_size: int = 512
    gather_features: bool = False

    def __post_init__(self) -> None:
        if self.schedule not in ("shared", "paper"):
            raise RecipeError(f"got the schedule {self.schedule!r}; expected 'shared' or 'paper'")
        if not 0 <= self.pattern_share <= 1:
            raise RecipeError(f"got pattern_share={self.pattern_share}; expected a share in [0, 1]")
        if not 0 <= self.guide_accuracy <= 1:
            raise RecipeError(f"got guide_accuracy={self.guide_accuracy}; expected a share in [0, 1]")
        if not self.targeted_weight >= 0:
            raise RecipeError(f"got targeted_weight={self.targeted_weight}; expected 0 or more")
        for name in (
            "epochs",
            "copies",
            "batch_size",
            "guides",
            "guide_epochs",
            "inner_steps",
            "perturbation_batch_size",
        ):
            if getattr(self, name) < 1:
                raise RecipeError(f"got {name}={getattr(self, name)}; expected at least 1")

    @abstractmethod
    def perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What perturbations descend, a scalar of features (B, D), logits (B, K) and labels (B,)."""

    def step_size(self, share: float) -> float:
        """A perturbation step when ``share`` in [0, 1] of the run is done, as a fraction of the radius."""
        return self.first_step + (self.last_step - self.first_step) * share
