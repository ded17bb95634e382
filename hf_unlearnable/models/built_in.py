"""The models that have a name: those of this package, which are imported when one is built, and those of plugins."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, TypeVar

from hf_unlearnable.errors import PluginError, RecipeError
from hf_unlearnable.registry import VICTIMS, Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BuildModel = Callable[[int, int], "PreTrainedModel"]

B = TypeVar("B", bound=BuildModel)


def _small_resnet(widths: tuple[int, ...], depths: tuple[int, ...]) -> BuildModel:
    def build(num_labels: int, channels: int) -> PreTrainedModel:
        from hf_unlearnable.modeling.small_resnet import SmallResNetConfig, SmallResNetForImageClassification

        return SmallResNetForImageClassification(
            SmallResNetConfig(widths=widths, depths=depths, num_labels=num_labels, num_channels=channels)
        )

    return build


def _small_vgg(num_labels: int, channels: int) -> PreTrainedModel:
    from hf_unlearnable.modeling.small_vgg import SmallVGGConfig, SmallVGGForImageClassification

    return SmallVGGForImageClassification(SmallVGGConfig(num_labels=num_labels, num_channels=channels))


def _small_vit(num_labels: int, channels: int) -> PreTrainedModel:
    from hf_unlearnable.modeling.small_vit import small_vit

    return small_vit(num_labels, channels)


def _strided_resnet(num_labels: int, channels: int) -> PreTrainedModel:
    from hf_unlearnable.modeling.strided_resnet import strided_resnet

    return strided_resnet(num_labels, channels)


def _small_mlp(widths: tuple[int, ...]) -> BuildModel:
    def build(num_labels: int, channels: int) -> PreTrainedModel:
        from hf_unlearnable.modeling.small_mlp import SmallMLPConfig, SmallMLPForImageClassification

        return SmallMLPForImageClassification(
            SmallMLPConfig(widths=widths, num_labels=num_labels, num_channels=channels)
        )

    return build


BUILT_IN: dict[str, BuildModel] = {
    "small-resnet": _small_resnet((8, 16, 32, 64), (1, 1, 1, 1)),
    "resnet-18": _small_resnet((64, 128, 256, 512), (2, 2, 2, 2)),
    "small-vgg": _small_vgg,
    "small-vit": _small_vit,
    "strided-resnet": _strided_resnet,
    "mlp": _small_mlp((256, 128)),
    "linear": _small_mlp(()),
}


# Victims that are fitted in one go, by name: see ``classical.CLASSICAL``, which imports this module.
FITTED_AT_ONCE = ("hog", "hog-knn", "hog-svm", "knn", "random-features", "simclr", "svm")


class Models(Registry[BuildModel]):
    """Functions that build models, by name; an entry point names one."""

    def add(self, name: str, value: BuildModel) -> None:
        """Make a function known.

        Raises:
            RecipeError: the name is taken, or could not be written on a command line; or no function.
        """
        if name in FITTED_AT_ONCE:
            raise RecipeError(
                f"got a second {self.what} with the name {name!r}, which is one of this package; expected another name"
            )
        if not callable(value):
            raise RecipeError(
                f"got {value!r} for the {self.what} {name!r}; expected a function (num_labels, channels) -> "
                f"PreTrainedModel"
            )
        super().add(name, value)

    def accept(self, entry: EntryPoint, loaded: Any) -> None:
        """Take a function under the name of the entry point."""
        if not callable(loaded):
            raise PluginError(
                f"got the {self.what} {entry.name!r} ({entry.value}), which is a {type(loaded).__name__}; expected a "
                f"function (num_labels, channels) -> PreTrainedModel"
            )
        self.add(entry.name, loaded)


MODELS = Models("victim", VICTIMS)
for _name, _build in BUILT_IN.items():
    MODELS.add(_name, _build)


def register_victim(name: str) -> Callable[[B], B]:
    """Give a model a name, under which it can be a victim and a surrogate: a decorator.

        @register_victim("wide-resnet")
        def wide_resnet(num_labels: int, channels: int) -> PreTrainedModel: ...

    The function makes a classifier with new weights, for images of ``channels`` channels and up to 64 pixels a side. An
    installed package names it in the entry-point group ``hf_unlearnable.victims`` instead.

    Args:
        name: letters, digits, '-', '_' and '.'.

    Raises:
        RecipeError: the name is taken, or has other characters; or what is decorated is no function.
    """
    if not isinstance(name, str):
        raise RecipeError(
            f"got {name} for a name; expected text: write @register_victim('my-model') above the function"
        )

    def register(build: B) -> B:
        MODELS.add(name, build)
        return build

    return register


def available_victims() -> list[str]:
    """The names of models that ``Surrogate`` takes, those of installed plugins among them.

    ``victims=`` takes these, and besides what is fitted in one go: ``"hog"``, ``"hog-knn"``, ``"hog-svm"``,
    ``"knn"``, ``"random-features"``, ``"simclr"`` and ``"svm"``.

    Warns:
        UserWarning: for each plugin that cannot be used.
    """
    return MODELS.names()
