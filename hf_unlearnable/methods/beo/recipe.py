"""The settings of BEO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from hf_unlearnable.information.kernel import KERNELS, OBJECTIVES
from hf_unlearnable.methods.base import Method
from hf_unlearnable.settings import Count, Few, OneOf, Range, Rate, Weight, refuse
from hf_unlearnable.training.run import Training

CONTROL = "cross-entropy"


@dataclass(frozen=True, kw_only=True)
class BEORecipe(Method):
    """The settings of ``BEO``, which says what they are, and what each may be."""

    mode: Literal["reference", "self"] = "reference"
    kernel: Annotated[str, OneOf(KERNELS)] = "rbf"
    sigma: float | str = "likelihood"
    sigma_of: Literal["clean", "current"] = "clean"
    objective: Annotated[str | None, OneOf((None, *OBJECTIVES, CONTROL))] = None
    steps: Count = 20
    start: Literal["uniform", "clean"] = "uniform"
    first_step: Rate | None = None
    step_decay: Annotated[float, Range(above=0, most=1)] = 0.5
    optimiser: Literal["steepest", "adam", "adamw"] = "steepest"
    pixel_decay: Weight = 0.01
    augment: bool = False
    robust: bool = True
    epochs: Count = 12
    stages: Few = 1
    refresh: Literal["never", "continue", "retrain"] = "continue"
    refresh_epochs: Count = 1
    batch_size: Count = 64
    learning_rate: Rate = 0.1
    training_augment: bool = True
    embedding_batch_size: Count = 256
    reference_size: Count = 60_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma not in ("likelihood", "median") and (isinstance(self.sigma, str) or self.sigma <= 0):
            refuse(self, f"sigma={self.sigma!r}", "'likelihood', 'median' or a number above zero")
        if self.sigma_of == "current" and isinstance(self.sigma, str):
            refuse(
                self, f"sigma_of='current' with sigma={self.sigma!r}", "a number for sigma: rules look at clean images"
            )

    def step_size(self, step: int) -> float:
        """Of a step of the ascent, as a fraction of the radius."""
        return (self.first_step or 2.5 / self.steps) * (1 if step < 0.6 * self.steps else self.step_decay)

    def embeddings(self) -> list[tuple[int, bool]]:
        """The epochs of every embedding of a surrogate, and whether it is trained adversarially."""
        if self.mode == "self":
            return [(self.epochs, False)]
        stages = dict.fromkeys(max(1, self.epochs // 4**stage) for stage in range(self.stages))
        return [(epochs, False) for epochs in stages] + [(self.epochs, True)] * self.robust

    def training(self, epochs: int) -> Training:
        """How an embedding is trained."""
        return Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augment=self.training_augment,
        )
