"""The settings of the alternation that MI-UE and EM share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import torch

from hf_unlearnable.budget import Budget
from hf_unlearnable.methods.base import Method
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.settings import Count, Few, Momentum, Rate, Share, Step, Weight

FEW = 10  # classes at most whose patterns begin at waves or at nothing; those of more begin apart, at squares
# What settings are that were left open: where guides know the images, and where none do.
OPEN: dict[str, tuple[Any, Any]] = {
    "epochs": (18, None),
    "copies": (2, 1),
    "grain": (1, 2),
    "compressed": (0.0, 0.5),
    "from_waves": (False, True),
}

R = TypeVar("R", bound="AlternatingRecipe")


@dataclass(frozen=True, kw_only=True)
class AlternatingRecipe(Method):
    """The settings of ``Alternating``, which says what they are, and what each may be."""

    loss_is_the_surrogates: ClassVar[bool] = False  # then one backward pass serves both in the shared schedule

    schedule: Literal["shared", "paper"] = "shared"
    epochs: Count | None = None
    pattern_share: Share = 2 / 3
    variants: Few = 1
    copies: Few | None = None
    grain: Few | None = None
    compressed: Share | None = None
    from_waves: bool | None = None
    batch_size: Count = 64
    learning_rate: Rate = 0.1
    momentum: Momentum = 0.9
    weight_decay: Weight = 5e-4
    pattern_momentum: Momentum = 0.9
    first_step: Step = 1 / 8
    last_step: Step = 1 / 32
    targeted_weight: Weight = 0.0
    guides: Few = 3
    guide_epochs: Count = 6
    guide_accuracy: Share = 3 / 4
    inner_steps: Count = 1
    perturbation_batch_size: Count = 512
    gather_features: bool = False

    @property
    def guided(self) -> bool:
        """Whether guides are asked for."""
        return self.schedule == "shared" and self.targeted_weight > 0

    def settled(self: R, guided: bool, classes: int = FEW) -> R:
        """This recipe without open settings.

        Args:
            guided: whether there are guides that know the images.
            classes: that have patterns.
        """
        known = guided or self.schedule == "paper"
        settled = replace(
            self, **{name: values[not known] for name, values in OPEN.items() if getattr(self, name) is None}
        )
        if self.from_waves is None and (classes > FEW or settled.passes[0] == 0):  # no patterns are asked for, or many
            return replace(settled, from_waves=False)
        return settled

    @property
    def passes(self) -> tuple[int | None, int]:
        """Passes over the patterns of the classes, and over single images.

        None: until the patterns are learned, after which single images gain nothing (``examples/benchmarks/NOTES.md``).
        """
        if self.epochs is None:
            return None, 0
        of_patterns = round(self.epochs * self.pattern_share)
        return of_patterns, self.epochs - of_patterns

    @abstractmethod
    def perturbation_loss(self, features: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What perturbations descend, a scalar of features (B, D), logits (B, K) and labels (B,)."""

    def disturbed(
        self, images: torch.Tensor, labels: torch.Tensor, network: Network, budget: Budget, generator: torch.Generator
    ) -> torch.Tensor:
        """What surrogate and perturbations see of protected images (B, C, H, W) in the shared schedule: just these.

        Args:
            images: protected, cropped and flipped.
            labels: (B,).
            network: the surrogate whose turn it is, bare.
            budget: of the perturbations.
            generator: of every random draw, on the CPU.
        """
        return images

    def step_size(self, share: float) -> float:
        """A perturbation step when ``share`` in [0, 1] of the run is done, as a fraction of the radius."""
        return self.first_step + (self.last_step - self.first_step) * share
