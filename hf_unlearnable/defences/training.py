"""Trainings that leave the images alone: the ordinary one, the best epoch, pre-trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from hf_unlearnable.defences.base import Defence
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.models.built_in import MODELS
from hf_unlearnable.models.public_names import UNNAMED, public_name
from hf_unlearnable.models.surrogate import Surrogate
from hf_unlearnable.settings import Range


@dataclass(frozen=True, kw_only=True)
class NoDefence(Defence, name="none"):
    """An ordinary training: what every other one is compared with."""


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(Defence, name="early-stopping"):
    """Keep the best epoch, as a thief with clean test images could: models may learn before a shortcut takes over."""

    figure: ClassVar[Literal["last", "peak"]] = "peak"


@dataclass(frozen=True, kw_only=True)
class Validation(Defence, name="validation"):
    """Hold out a share of what one has, train on the rest, and keep the epoch that names most of the former right.

    What ``early-stopping`` does by clean test images, which a thief does not have, is done by those that he has: of a
    protected set protected ones, of a mixture some of either. Of several epochs that are equally good the latest is
    kept: held-out images with the perturbations of their classes are soon all named right, which tells nothing for any
    epoch, and then the thief is the ordinary one. It trains for as many steps as others do, on fewer images.

    Args:
        share: of every class, in (0, 1); to the nearest image, but one at least is held out and one trained on. The
            only image of a class is trained on.
    """

    share: Annotated[float, Range(above=0, below=1)] = 0.1

    @property
    def held_out(self) -> float:
        """``share``."""
        return self.share


@dataclass(frozen=True, kw_only=True)
class PretrainedStart(Defence, name="pretrained"):
    """Fine-tune a published model instead of training from scratch: the ordinary workflow on the Hub.

    The victim is then that model, whatever the victim was, with a new head where the number of classes differs.

    Args:
        model: Hub id or folder of an image classifier that was trained on other data or classes.
    """

    model: str

    def require(self) -> None:
        """See that the model is a published one that is there: names of this package and plugins build new weights.

        Raises:
            RecipeError: it is not published, or needs a package that is not installed.
            SourceError: no such folder or Hub id.
        """
        if self.model in MODELS:
            raise RecipeError(
                f"got the defence {self}, but {self.model!r} has no trained weights to start from: it is built anew; "
                f"expected the folder or Hub id (OWNER/NAME) of an image classifier that was trained"
            )
        Surrogate(self.model).require("the folder or Hub id (OWNER/NAME) of an image classifier that was trained")

    def public_name(self) -> str:
        """With a model that anyone may know, else with the word that there is one."""
        model = public_name(self.model).strip("`")
        return f"{self.name}: {UNNAMED}" if model == UNNAMED else f"{self.name}:{model}"

    def start(self, victim: Surrogate) -> Surrogate:
        """The published weights."""
        return Surrogate(self.model)  # with the normalisation that it was trained with, not the victim's


@dataclass(frozen=True, kw_only=True)
class Probe(PretrainedStart, name="probe"):
    """Train a new head on a published model whose other weights stay as they are: a linear probe.

    Args:
        model: as of ``PretrainedStart``.
    """

    frozen = True
