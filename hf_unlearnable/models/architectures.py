"""What models of transformers say of the images that they take; those of timm are in ``timm_models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from hf_unlearnable.models.timm_models import classifiers_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Parameters of which a model has one for each place of an image, so that it takes images of one size.
_BY_PLACE = ("position_embedding", "attention_biases")


def sides_of(size: Any) -> list[int]:
    """The sides in pixels that a file gives for a size: as a number, a pair, or by name."""
    sides = size.values() if isinstance(size, dict) else size if isinstance(size, (list, tuple)) else [size]
    return [side for side in sides if isinstance(side, int)]


def size_told(config: Any) -> Any:
    """The size of images in a config, as it stands there; None where it has none."""
    return getattr(_of_images(config), "image_size", None)


def size_insisted_on(model: PreTrainedModel) -> tuple[int, int] | None:
    """Height and width of the images that a model with weights for their places insists on; None for the others."""
    sides = sides_of(size_told(model.config))
    by_place = any(part in name for name, _ in model.named_parameters() for part in _BY_PLACE)
    return (sides[0], sides[-1]) if by_place and sides else None


def channels_of(model: PreTrainedModel, otherwise: int) -> int:
    """How many channels a model takes: as its config says, else as its first convolution does."""
    told = getattr(_of_images(model.config), "num_channels", None)
    convolutions = (layer.in_channels for layer in model.modules() if isinstance(layer, nn.Conv2d))
    return told or next(convolutions, otherwise)


def heads_of(model: PreTrainedModel, num_labels: int) -> dict[str, nn.Module]:
    """The layers that may be the head on K classes, by their names; the last of them is.

    A hidden layer may happen to have K outputs too. Those of the body, a model by itself within the classifier, are
    none, nor is anything but what timm calls the classifier of a model of its own.
    """
    from transformers import PreTrainedModel

    inner = [f"{name}." for name, part in model.named_modules() if name and isinstance(part, PreTrainedModel)]
    layers = classifiers_of(model) or [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and not name.startswith(tuple(inner))
    ]
    # Of a linear layer, or of a convolution: timm has these too.
    outputs = {id(one): getattr(one, "out_features", getattr(one, "out_channels", None)) for one in layers}
    return {name: layer for name, layer in model.named_modules() if outputs.get(id(layer)) == num_labels}


def _of_images(config: Any) -> Any:
    """The part of a config that is of images, where another part is of text, as in CLIP's."""
    return getattr(config, "vision_config", None) or config
