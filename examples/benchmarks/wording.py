"""What sets, recipes and budgets are called on the pages."""

from __future__ import annotations

from result_files import ResultFile
from tables import NONE

FASHION, PATCHES = "fashion-mnist", "photo-patches"
SETS = {FASHION: "Fashion-MNIST", PATCHES: "photo patches"}
CALLED = {
    "mi-ue": "`MIUE`, 18 passes",
    "mi-ue-from-waves": "`MIUE()`",
    "mi-ue-learned": "`MIUE(from_waves=False)`",
    "mi-ue-variants": "`MIUE(variants=4, from_waves=False)`",
    "mi-ue-waves": "`MIUE` from waves of drawn signs",
    "mi-ue-paper": "`MIUE.paper(epochs=15, inner_steps=5)`",
    "mi-ue-short": "`MIUE`, 6 passes",
    "mi-ue-long": "`MIUE`, 36 passes",
    "mi-ue-untargeted": "`MIUE`, 18 passes without guides",
    "em": "`EM`, 18 passes",
    "em-from-waves": "`EM()`",
    "em-learned": "`EM(from_waves=False)`",
    "em-long": "`EM`, 36 passes",
    "beo": "`BEO()`",
    "beo-self": '`BEO(mode="self")`',
    "beo-paper": "`BEO.paper(steps=19, first_step=0.32, epochs=15, refresh_epochs=15)`",
    "beo-self-frozen": '`BEO(mode="self", refresh="never")`',
    "untargeted-pgd": '`BEO(objective="cross-entropy")`, untargeted PGD: the control',
    "texture": "`Texture()`",
    "texture-one": '`Texture(signs="one")`',
    "noise": "uniform noise: the control",
    "worst": "an attacker who knows the victim at every step",
    "opposing": "such an attacker, against the step that clean images ask for",
    "exchanged": "no budget: half of the images get labels at random",
}


def budget(result: ResultFile) -> str:
    """As people write it: ``8/255``, ``8/255:adaptive``."""
    if not result.experiment.budget:
        return NONE
    radius, *visibility = result.experiment.budget.removeprefix("linf:").split(":")
    return ":".join([f"{radius}/255", *visibility])


def data(result: ResultFile) -> str:
    """The set and how many images of it are trained on."""
    return f"{SETS.get(result.experiment.dataset or '', result.experiment.dataset)}, {result.experiment.images:,}"


def called(result: ResultFile) -> str:
    """The recipe, as it is called in Python where the package has it."""
    return recipe_called(result.experiment.recipe or "")


def recipe_called(recipe: str) -> str:
    """The same of the name of a recipe."""
    return CALLED.get(recipe, f"`{recipe}`")
