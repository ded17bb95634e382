"""Models of timm, which transformers wraps: what they expect of pixels is in a config of timm's own, or in the model.

timm is no extra of this package: it needs torchvision, whose builds fit one torch each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError
from torch import nn

from hf_unlearnable.errors import MissingExtraError, RecipeError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KIND = "timm_wrapper"  # the model_type that transformers gives to every config of timm's

# What timm takes for a config that does not say: the statistics of ImageNet, and the usual input.
MEAN, STD, INPUT_SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (3, 224, 224)

# Arguments that the wrapper gives to timm itself, though timm writes its own into model_args too; and files of the
# machine on which the config was written, which are not looked for here.
LEFT_OUT = {"model_name", "num_classes", "pretrained", "checkpoint_path", "cache_dir"}

# What layers raise that are given what does not suit them; OSError is not among them: it is of what is not there.
_FAILURES = (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Pixels:
    """What a model of timm expects of pixels.

    Args:
        mean: subtracted from values in [0, 1], one number a channel or one for all.
        std: divides them after that; likewise.
        channels: 1 or 3.
        size: height and width that it insists on; None if it takes any.
        side: in pixels, of the images that it is meant for.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    size: tuple[int, int] | None
    side: int


def is_timm(config: object) -> bool:
    """Whether a config of transformers is that of a model of timm."""
    return getattr(config, "model_type", "") == KIND


def pixels_of(config: Any, model: PreTrainedModel | None = None) -> Pixels:
    """Read what a model of timm expects: from the weights' own config, and what that leaves out from the built model.

    Args:
        config: of which ``is_timm``.
        model: that was built of it, which knows more (the size of a transformer's patches' grid).

    Raises:
        RecipeError: a value of the config that is none of its kind.
    """
    inner = getattr(model, "timm_model", None)
    args: dict[str, Any] = getattr(config, "model_args", None) or {}
    built = _known(getattr(inner, "pretrained_cfg", None))  # the architecture's: transformers builds it by this one
    known = {**built, **_known(getattr(config, "pretrained_cfg", None))}
    meant = known.get("input_size", INPUT_SIZE)
    made_for = built.get("input_size", meant)
    for name, value in (("input_size", meant), ("input_size", made_for)):
        if not (isinstance(value, Sequence) and len(value) == 3 and all(_is_count(one) for one in value)):
            raise _wrong(name, value, "channels, height and width")
    channels = args.get("in_chans") or made_for[0]
    embedding = getattr(inner, "patch_embed", None)
    # Of what is built: some configs call its size free, which then must be a multiple of its patches' at least.
    size = getattr(embedding, "img_size", None)
    # Images below a least size are enlarged to that of the training, which is not much more.
    insists = known.get("fixed_input_size") or known.get("min_input_size")
    size = size or args.get("img_size") or (tuple(made_for[1:]) if insists else None)
    pair = None if size is None else _pair(size)
    return Pixels(
        mean=_by_channel("mean", known.get("mean", MEAN), channels),
        std=_by_channel("std", known.get("std", STD), channels, above=0),
        channels=channels,
        size=pair,
        side=max(pair or meant[1:]),
    )


def classifiers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that a model of timm calls its classifier, linear or convolutions; none of what is not timm's."""
    inner: Any = getattr(model, "timm_model", None)
    found = inner.get_classifier() if is_timm(model.config) and hasattr(inner, "get_classifier") else ()
    layers = found if isinstance(found, (tuple, list, nn.ModuleList)) else (found,)  # a distilled one has two
    return [layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv2d))]


def config_of(name: str, load: Callable[[], Any]) -> Any:
    """Read a config, of timm's or not, so that the wrapper of transformers can build a model of it.

    Args:
        name: of the model.
        load: reads it.

    Raises:
        MissingExtraError: it is of timm's, and timm or torchvision is not there.
        RecipeError: it is of timm's, and names an architecture that this timm does not have, or holds a wrong value.
        ValueError: it is no config.
        Exception: what ``load`` raises otherwise.
    """
    from transformers.utils.import_utils import is_timm_available

    try:
        config = load()
    except (ImportError, RuntimeError) as error:  # a torchvision that was built for another torch says the latter
        if not any(package in str(error) for package in ("timm", "torchvision")):
            raise
        raise _no_timm(name, f" ({first_line(error)})" * is_timm_available()) from error
    except (TypeError, StrictDataclassError) as error:  # a value of another type than the field's
        raise ValueError(" ".join(str(error).split())) from error
    if not is_timm(config):
        return config
    if not is_timm_available():
        raise _no_timm(name)
    if not import_module("timm").is_model(config.architecture):  # nor does timm look for it elsewhere ("hf-hub:…")
        raise RecipeError(
            f"got the model {name!r} of the architecture {config.architecture!r}, which timm {version('timm')} does "
            f"not have; expected one that it has. Update timm: pip install -U timm"
        )
    try:
        pixels_of(config)
    except RecipeError as error:
        raise RecipeError(f"the model {name!r} cannot be used: {error}") from error
    if isinstance(config.model_args, dict):
        config.model_args = {name: value for name, value in config.model_args.items() if name not in LEFT_OUT}
    return config


@contextmanager
def building(name: str, config: Any) -> Iterator[None]:
    """Say in our words that timm cannot build what a config says: it raises whatever its layers do.

    Args:
        name: of the model.
        config: its.

    Raises:
        RecipeError: a model of timm whose building in the block raised something else than that a file is not there.
    """
    try:
        yield
    except _FAILURES as error:
        if not is_timm(config):
            raise
        raise RecipeError(
            f"got the model {name!r}, which timm {version('timm')} cannot build as its config.json says (architecture "
            f"{config.architecture!r}, model_args {config.model_args or {}}): {first_line(error)}; expected the folder "
            f"or Hub id of a classifier that it can. Update timm (pip install -U timm), or mend the config.json"
        ) from error


def _no_timm(name: str, why: str = "") -> MissingExtraError:
    return MissingExtraError(
        f"got the model {name!r}, which is one of timm; expected timm and torchvision to be here, built for the torch "
        f"that is{why}; install them: pip install timm torchvision"
    )


def _known(config: object) -> dict[str, Any]:
    """What a config of timm's says; None stands for what it does not."""
    return {name: value for name, value in config.items() if value is not None} if isinstance(config, dict) else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _pair(size: object) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else size
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(_is_count(one) for one in pair)):
        raise _wrong("img_size", size, "a side, or height and width")
    return pair[0], pair[1]


def _by_channel(name: str, value: Any, channels: int, above: float = float("-inf")) -> tuple[float, ...]:
    """One number a channel or one for all; the mean of three for a model of one channel, as timm has it."""
    values = value if isinstance(value, Sequence) else [value]
    if not values or not all(isinstance(one, (int, float)) and one > above for one in values):
        raise _wrong(name, value, "one number a channel" + (f" above {above:g}" if above == 0 else ""))
    same = len(values) in (1, channels)
    return tuple(float(one) for one in values) if same else (sum(values) / len(values),)


def _wrong(name: str, value: object, expected: str) -> RecipeError:
    return RecipeError(f"got {name}={value!r} in its config.json, which is timm's; expected {expected}")
