"""The settings of BEO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.information.kernel import OBJECTIVES
from hf_unlearnable.methods.base import Method
from hf_unlearnable.training.run import Training

CONTROL = "cross-entropy"


@dataclass(frozen=True, kw_only=True)
class BEORecipe(Method):
    """The settings of ``BEO``, which says what they are, and their checks."""

    mode: Literal["reference", "self"] = "reference"
    kernel: str = "rbf"
    sigma: float | str = "likelihood"
    objective: str | None = None
    steps: int = 20
    first_step: float | None = None
    optimiser: Literal["steepest", "adam"] = "steepest"
    augment: bool = False
    robust: bool = True
    epochs: int = 12
    stages: int = 1
    refresh: Literal["never", "continue", "retrain"] = "continue"
    refresh_epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 0.1
    embedding_batch_size: int = 256
    reference_size: int = 60_000

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", ("reference", "self")),
            ("objective", (None, *OBJECTIVES, CONTROL)),
            ("optimiser", ("steepest", "adam")),
            ("refresh", ("never", "continue", "retrain")),
        ):
            if getattr(self, name) not in allowed:
                options = ", ".join(repr(option) for option in allowed)
                raise RecipeError(f"got {name}={getattr(self, name)!r}; expected one of {options}")
        if self.sigma not in ("likelihood", "median") and not (isinstance(self.sigma, (int, float)) and self.sigma > 0):
            raise RecipeError(f"got sigma={self.sigma!r}; expected 'likelihood', 'median' or a number above zero")
        sizes = "batch_size", "embedding_batch_size", "reference_size"
        for name in ("steps", "epochs", "stages", "refresh_epochs", *sizes):
            if getattr(self, name) < 1:
                raise RecipeError(f"got {name}={getattr(self, name)}; expected at least 1")

    def step_size(self, step: int) -> float:
        """Of a step of the ascent, as a fraction of the radius."""
        return (self.first_step or 2.5 / self.steps) * (1 if step < 0.6 * self.steps else 0.5)

    def embeddings(self) -> list[tuple[int, bool]]:
        """The epochs of every embedding of a surrogate, and whether it is trained adversarially."""
        if self.mode == "self":
            return [(self.epochs, False)]
        stages = dict.fromkeys(max(1, self.epochs // 4**stage) for stage in range(self.stages))
        return [(epochs, False) for epochs in stages] + [(self.epochs, True)] * self.robust

    def training(self, epochs: int) -> Training:
        """How an embedding is trained."""
        return Training(epochs=epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)
