"""Thieves: which model, trained by which recipe, with which defence; and the suites of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

from torch import nn

from hf_unlearnable.defences import Defence
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.models.classical import CLASSICAL, Classical
from hf_unlearnable.models.surrogate import Surrogate, refuse_misspelt
from hf_unlearnable.training.run import Training

Victim = Surrogate | Classical

Model = Surrogate | Classical | nn.Module | PathLike[str] | str

# Model, training, defence. The first thief of a suite is the ordinary one, who also meets mixtures.
_QUICK = (
    ("small-resnet", "sgd", "none"),
    ("strided-resnet", "sgd", "none"),
    ("small-resnet", "short", "none"),
    ("small-resnet", "sgd", "jpeg:10"),
    ("random-features", "", "none"),
    ("small-resnet", "sgd", "validation:0.1"),
)
_STANDARD = (
    *_QUICK,
    ("small-vgg", "sgd", "none"),
    ("small-vit", "adamw", "none"),
    ("mlp", "adamw", "none"),
    ("linear", "adamw", "none"),
    ("small-resnet", "strong", "none"),
    ("hog", "", "none"),
    ("knn", "", "none"),
    ("small-resnet", "sgd", "resize:0.5"),
    ("small-resnet", "sgd", "grayscale"),
    ("small-resnet", "sgd", "bitdepth:2"),
    ("small-resnet", "sgd", "colour-floor:8"),
    ("small-resnet", "sgd", "pattern-subtraction"),
    ("small-resnet", "sgd", "spectral-peak"),
    ("small-resnet", "sgd", "principal-directions"),
    ("small-resnet", "sgd", "orthogonal-projection"),
    ("small-resnet", "sgd", "class-clusters:1"),
    ("small-resnet", "sgd", "principal-directions:2"),
)
_FULL = (
    *_STANDARD,
    ("svm", "", "none"),
    ("simclr", "", "none"),
    ("small-resnet", "adamw", "none"),
    ("small-resnet", "long", "none"),
    ("small-resnet", "short", "jpeg:10"),
    ("random-features", "", "jpeg:10"),
    ("small-resnet", "sgd", "jpeg:50"),
    ("small-resnet", "sgd", "blur"),
    ("small-resnet", "sgd", "noise"),
    ("small-resnet", "sgd", "cutout"),
    ("small-resnet", "sgd", "mixup"),
    ("small-resnet", "sgd", "cutmix"),
    ("small-resnet", "sgd", "ueraser-lite"),
    ("small-resnet", "sgd", "ueraser-max"),
    ("small-resnet", "sgd", "staged"),
    ("small-resnet", "sgd", "recovery"),
    ("small-resnet", "sgd", "adversarial:4"),
    ("small-resnet", "sgd", "adversarial:8"),
)

SUITES = {"quick": _QUICK, "standard": _STANDARD, "full": _FULL}

DEFAULT_SUITE = "quick"

BEST_KNOWN = "class-clusters:1"  # gets most out of the default method, of all attacks that were measured on it


@dataclass(frozen=True)
class Thief:
    """Somebody who trains on the images: a model, a recipe and a defence.

    Attributes:
        victim: the model.
        defence: what is done against the protection.
        training: the recipe, as long as the defence needs it; a model that is fitted in one go has no use for it.
        named: the name of the recipe; empty where it is that of the whole measurement.
    """

    victim: Victim
    defence: Defence
    training: Training
    named: str = ""

    @property
    def name(self) -> str:
        """The model and the name of the recipe, as reports have it."""
        return f"{self.victim}, {self.named}" if self.named else str(self.victim)

    def require(self) -> None:
        """See that all is there that it needs.

        Raises:
            RecipeError: something is not installed.
            SourceError: no such model.
        """
        self.defence.require()
        self.victim.require()

    @classmethod
    def of(cls, victim: Victim, training: str, defence: Defence, base: Training) -> Thief:
        """With a recipe by name that takes its epochs from ``base``, or with ``base`` itself if the name is empty."""
        recipe = Training.named(training, base) if training else base
        named = "" if recipe == base or isinstance(victim, Classical) else training
        return cls(victim, defence, replace(recipe, epochs=recipe.epochs * defence.epochs_factor), named)


def find_victim(model: Model) -> Victim:
    """A model of ``Surrogate``, or one of ``CLASSICAL`` by its name.

    Raises:
        RecipeError: what looks like a misspelt name.
    """
    if not isinstance(model, str):
        return model if isinstance(model, Classical) else Surrogate.of(model)
    if model in CLASSICAL:
        return CLASSICAL[model]()
    refuse_misspelt("victim", model, list(CLASSICAL))
    return Surrogate.of(model)


def thieves_of_suite(name: str, training: Training = Training(), attack: Defence | str | None = None) -> list[Thief]:
    """The thieves of a suite.

    ``quick`` holds an ordinary training, another architecture, a short training, JPEG compression, features that
    nothing was trained for, somebody who picks the epoch by images that he holds out, and a thief who knows how the
    images were protected (``attack``). ``standard`` adds further networks, recipes and classical models, and more
    thieves who look for the perturbation. ``full`` adds the slow ones, and one who has a hundred clean images. The last
    two need the extras ``thieves`` and ``thieves,defences``. None holds a pre-trained network: its weights would have
    to be fetched.

    Args:
        name: of the suite.
        training: the recipe from which the others take their epochs and batch size.
        attack: what the thief does who knows the method, as ``Method.adaptive`` names it. Where it is left out, or is
            in the suite already, that thief takes the best attack that is known, ``BEST_KNOWN``.

    Raises:
        RecipeError: no such suite, or no such attack.
    """
    if name not in SUITES:
        raise RecipeError(f"got the suite {name!r}; expected one of {', '.join(SUITES)}")

    def tries(model: str, recipe: str, defence: Defence | str) -> Thief:
        return Thief.of(find_victim(model), recipe, Defence.parse(defence), training)

    thieves, (model, recipe, _) = [tries(*entry) for entry in SUITES[name]], SUITES[name][0]
    knowing = [tries(model, recipe, known) for known in (attack, BEST_KNOWN) if known]
    return thieves + [thief for thief in knowing if thief not in thieves][:1]


def crossed_thieves(
    victims: Sequence[Model], trainings: Sequence[str], defences: Sequence[Defence | str], training: Training
) -> tuple[list[Thief], list[str]]:
    """Every model with every recipe and every defence, and a sentence for each two that do not go together.

    Models that are fitted in one go take no recipe, and no defence that acts on the training of a network.

    Args:
        victims: models, each called otherwise than the others: by their names reports know them.
        trainings: names of recipes; ``training`` itself if there are none.
        defences: as ``Defence.parse`` reads them.
        training: the recipe from which the others take their epochs and batch size.

    Raises:
        RecipeError: an unknown name, one name for two models, or nothing is left.
    """
    thieves, left_out = [], []
    parsed = [Defence.parse(defence) for defence in defences]
    for recipe in trainings:
        Training.named(recipe, training)  # refuses an unknown name where nobody takes a recipe, too
    known: dict[str, Victim] = {}
    for victim in map(find_victim, victims):
        if known.setdefault(str(victim), victim) != victim:
            raise RecipeError(
                f"got two victims that are both called {str(victim)!r}; expected another name for each, since their "
                f"figures would be taken for those of one. Measure them one by one, or name them: "
                f"model.name_or_path = 'mine'"
            )
        classical = isinstance(victim, Classical)
        for recipe in [""] if classical else trainings or [""]:
            for defence in parsed:
                if classical and defence.needs_network:
                    left_out.append(
                        f"the victim {victim} was not tried with {defence}, which acts on a network's training"
                    )
                else:
                    thieves.append(Thief.of(victim, recipe, defence, training))
    if victims and parsed and not thieves:
        raise RecipeError(f"got nothing to measure: {'; '.join(left_out)}. Expected a defence on images, or a network")
    return thieves, left_out
