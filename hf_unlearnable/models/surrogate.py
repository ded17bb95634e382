"""Surrogates: the models that a method optimises against, and the victims that measure it.

A ``Surrogate`` is only a specification; ``build`` makes a ``Network``, which takes images in [0, 1] and gives logits
and features whatever model is inside.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional as F

from hf_unlearnable.data.patience import only_here
from hf_unlearnable.errors import PluginError, RecipeError, SourceError, first_line, some_of, warn
from hf_unlearnable.files import local_path
from hf_unlearnable.models.architectures import channels_of, heads_of, sides_of, size_insisted_on, size_told
from hf_unlearnable.models.built_in import MODELS, available_victims
from hf_unlearnable.models.processors import as_numbers, normalisation_of, processor_of
from hf_unlearnable.models.timm_models import building, config_of, is_timm, pixels_of
from hf_unlearnable.progress import kept_back
from hf_unlearnable.settings import Positive, check_fields, refuse

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMAGE_SIZE = 64  # pixels a side of what models with a name are for, and of models that do not say


@dataclass(frozen=True)
class Surrogate:
    """A specification of a classifier of images; nothing is loaded before ``build``.

    Args:
        model: the name of a built-in model (``small-resnet``, about 80,000 parameters, the default on a CPU;
            ``resnet-18``, the default on a GPU; ``small-vgg``; ``small-vit``; ``strided-resnet``, with a stem of 7x7
            pixels; ``mlp``; ``linear``), which starts from random weights; or the Hub id or folder of any
            ``*ForImageClassification``, which starts from its published weights with a new head where the number of
            classes differs; or an instance of one, which is copied. Further names come from ``register_victim`` and
            from installed plugins.
        image_mean: what the model expects to be subtracted from pixels in [0, 1], one number a channel; read from the
            checkpoint's image processor when left out (0.5 if it has none).
        image_std: what the model expects pixels to be divided by after that; likewise (0.5 if it has none).

    Raises:
        RecipeError: none of these.
    """

    model: str | PathLike[str] | nn.Module = "small-resnet"  # a PreTrainedModel: see is_pretrained
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[Positive, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        expected = f"one of {', '.join(MODELS)}, a folder, a Hub id or a model"
        if isinstance(self.model, nn.Module) and not is_pretrained(self.model):
            refuse(self, f"a {type(self.model).__name__} as model", f"{expected} of transformers")
        if isinstance(self.model, (bool, int, float, bytes)) or not self.model:
            refuse(self, f"model={self.model!r}", expected)
        if str(named := self.model if isinstance(self.model, (str, PathLike)) else "").startswith("~"):
            object.__setattr__(self, "model", str(local_path(named)))

    @classmethod
    def of(cls, model: Surrogate | str | PathLike[str] | nn.Module) -> Surrogate:
        """Take a surrogate as it is; make one of anything that names a model."""
        return model if isinstance(model, Surrogate) else cls(model)

    @classmethod
    def default(cls, device: torch.device) -> Surrogate:
        """``small-resnet`` on a CPU, ``resnet-18`` on anything faster."""
        return cls("small-resnet" if device.type == "cpu" else "resnet-18")

    def __str__(self) -> str:
        if is_pretrained(self.model):
            return self.model.name_or_path or type(self.model).__name__
        return str(self.model)

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that the model is meant for: its config's, its processor's, or 64.

        Raises:
            SourceError: no such folder or Hub id, or its image processor could not be read.
        """
        if not is_pretrained(self.model) and str(self.model) in MODELS:
            return IMAGE_SIZE
        try:
            if is_pretrained(self.model):
                config, source = self.model.config, self.model.name_or_path or ""
            else:
                config, source = _config(str(self.model)), str(self.model)
            if is_timm(config):
                return pixels_of(config, self.model if is_pretrained(self.model) else None).side
        except OSError as error:  # also of a Hub that is silent now, and answers when the model is built
            raise _no_model(str(self), error) from error
        except ValueError:
            return IMAGE_SIZE  # whatever is wrong with the model, build says it
        size = size_told(config)
        if size is None and source:
            size = processor_of(source).get("size")
        return max(sides_of(size), default=IMAGE_SIZE)

    def build(self, num_labels: int, channels: int, seed: int) -> Network:
        """Make the network, its new weights drawn from ``seed`` without touching the global random state.

        Args:
            num_labels: K classes.
            channels: of the images that it will be given, 1 or 3.
            seed: of the initialisation.

        Raises:
            SourceError: no such built-in model, folder or Hub id, or its image processor could not be read.
            RecipeError: a model without a linear head on K classes, or one that takes other channels than these.
            MissingExtraError: a model of timm, which is not installed.
            PluginError: the plugin that offers a model of this name cannot be used, or builds something else.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if is_pretrained(self.model):
                model: Any = copy.deepcopy(self.model).float()  # half precision is for inference: see _load
                mean, std = self._normalisation(model, self.model.name_or_path or "")
            elif (name := str(self.model)) in MODELS:
                model = MODELS.get(name)(num_labels, channels)
                if not is_pretrained(model):
                    raise PluginError(
                        f"got the victim {name!r}, which builds a {type(model).__name__}; expected a PreTrainedModel "
                        f"of transformers"
                    )
                mean, std = self._normalisation(model, "")
            else:
                model = self._load(name, num_labels)
                mean, std = self._normalisation(model, name)
        return Network(model, num_labels, channels, mean, std)

    def require(self, expected: str = "") -> None:
        """See that there is such a model, without loading its weights.

        Args:
            expected: what to name in an error; the names of ours, a folder or a Hub id when left out.

        Raises:
            RecipeError: what looks like a misspelt name, or a model of timm that cannot be built.
            MissingExtraError: a model of timm, which is not installed.
            SourceError: no such built-in model, folder or Hub id.
        """
        if not is_pretrained(self.model) and str(self.model) not in MODELS:
            if not expected:
                refuse_misspelt("model", str(self.model))
            try:
                _config(str(self.model))
            except RecipeError:
                raise
            except (OSError, ValueError) as error:
                raise _no_model(str(self.model), error, expected) from error

    @staticmethod
    def _load(name: str, num_labels: int) -> PreTrainedModel:
        try:
            here = only_here(name)
            config = _config(name, here, num_labels=num_labels)
            # The report is of a new head, as other classes need.
            with kept_back("transformers.modeling_utils", "LOAD REPORT"), building(name, config):
                loaded = load_transformers().AutoModelForImageClassification.from_pretrained(
                    name,
                    config=config,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    dtype=torch.float32,  # else that of the file: half precision learns badly, or refuses images
                    local_files_only=here,
                    trust_remote_code=False,  # else transformers asks on a terminal, and runs what came with the model
                )
            model: PreTrainedModel = loaded[0]
        except RecipeError:
            raise
        except (OSError, ValueError) as error:
            raise _no_model(name, error) from error
        _warn_of_new_weights(model, name, num_labels, loaded[1])
        return model

    def _normalisation(self, model: PreTrainedModel, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What the model wants pixels to be centred and divided by: given, in its config, in its processor, or 0.5."""
        if is_timm(model.config):
            expected = pixels_of(model.config, model)
            return self.image_mean or expected.mean, self.image_std or expected.std
        own = [getattr(model.config, name, None) for name in ("image_mean", "image_std")]
        told = (self.image_mean and self.image_std) or None not in own
        mean, std = normalisation_of(processor_of(source) if source and not told else {})
        return self.image_mean or as_numbers(own[0], mean), self.image_std or as_numbers(own[1], std)


def refuse_misspelt(what: str, name: str, others: Sequence[str] = ()) -> None:
    """See that an unknown name without an owner is not nearly one of ours: the Hub would be asked for it at length.

    Args:
        what: it is a name of, as a message says it.
        name: that was given.
        others: that may stand there beside those of built-in models and plugins.

    Raises:
        RecipeError: it is.
    """
    if "/" in name or name in MODELS or Path(name).exists():
        return
    known = [*others, *available_victims()]
    for close in get_close_matches(name, known, 1, 0.75):
        raise RecipeError(
            f"got the {what} {name!r}; did you mean {close!r}? Expected one of {', '.join(known)}, or the folder or "
            f"Hub id (OWNER/NAME) of an image classifier"
        )


def is_pretrained(model: object) -> TypeGuard[PreTrainedModel]:
    """Whether something is a model of transformers; whatever is no module of torch is none, without importing it."""
    if not isinstance(model, nn.Module):
        return False
    from transformers import PreTrainedModel

    return isinstance(model, PreTrainedModel)


def load_transformers() -> Any:
    """Import the package, whose Auto classes know the architectures of this one from here on.

    Where the time of work with networks is taken this comes first, or the first of them would count two seconds more.
    """
    import transformers

    from hf_unlearnable.modeling import small_mlp, small_resnet, small_vgg  # noqa: F401

    return transformers


def _config(source: str, here: bool | None = None, **changes: Any) -> Any:
    """That of a folder or Hub id, with changes; ``here`` is ``only_here`` of it, if that is known."""
    given = {"local_files_only": only_here(source) if here is None else here, "trust_remote_code": False, **changes}
    return config_of(source, lambda: load_transformers().AutoConfig.from_pretrained(source, **given))


def _no_model(name: str, error: Exception, expected: str = "") -> SourceError:
    where = (
        "a folder without an image classifier" if Path(name).is_dir() else "neither a folder nor reachable on the Hub"
    )
    expected = expected or f"one of {', '.join(MODELS)}, or the folder or Hub id of an image classifier"
    return SourceError(f"got the model {name!r}, {where} ({first_line(error)}); expected {expected}")


def _warn_of_new_weights(model: PreTrainedModel, name: str, num_labels: int, loading: dict[str, Any]) -> None:
    """Say which weights start at random though no head has them."""
    heads = tuple(f"{place}." for place in heads_of(model, num_labels) if place)
    mismatched = [one[0] if isinstance(one, tuple) else one for one in loading["mismatched_keys"]]
    new = sorted(key for key in {*loading["missing_keys"], *mismatched} if not key.startswith(heads))
    if new:
        warn(
            f"the model {name!r} holds no weights for {len(new)} of its parts beside the head, which start at random: "
            + some_of(new)
        )


def _other_classes(model: PreTrainedModel, num_labels: int, has: str) -> RecipeError:
    return RecipeError(
        f"got {type(model).__name__}, which has {has}; expected a classifier of {num_labels} classes. Load it with "
        f"num_labels={num_labels}"
    )


class Network(nn.Module):
    """A classifier that takes images in [0, 1], of any size, and gives logits and features.

    Args:
        model: a ``*ForImageClassification``.
        num_labels: K.
        channels: of the images; one channel is repeated for a model that wants three.
        mean: see ``Surrogate.image_mean``.
        std: see ``Surrogate.image_std``.

    Raises:
        RecipeError: a model without a linear head on K classes, or one that takes other channels than these.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, model: PreTrainedModel, num_labels: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        from hf_unlearnable.modeling.base import SmallImageClassifier

        super().__init__()
        heads = list(heads_of(model, num_labels).values())
        if not heads:
            raise _other_classes(model, num_labels, f"no linear layer with {num_labels} outputs as its head")
        pixels = pixels_of(model.config, model) if is_timm(model.config) else None
        wanted = pixels.channels if pixels else channels_of(model, channels)
        if wanted != channels and channels != 1:
            raise RecipeError(
                f"got images of {channels} channels for a model that takes {wanted}; expected a model of {channels} "
                f"channels, or images of {wanted}"
            )
        self.model: PreTrainedModel = model
        if isinstance(model, SmallImageClassifier):
            # 1.4 times as fast on a CPU; not for the others, whose layers have not been tried (see small_resnet.py).
            nn.Module.to(model, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.num_labels, self.channels = num_labels, wanted
        self.size = pixels.size if pixels else size_insisted_on(model)  # height, width; None: any size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self._head = [heads[-1]]  # in a list, so that it is not registered as a second child
        self._frozen = False

    def freeze_body(self) -> None:
        """Let nothing but the head learn from here on, and keep all statistics as they are."""
        self.requires_grad_(False)
        self._head[0].requires_grad_(True)
        self._frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Training mode, or evaluation mode; a frozen body stays in the latter."""
        super().train(mode)
        if self._frozen:
            self.model.eval()
        return self

    def layers(self) -> list[nn.Module]:
        """What holds weights, the head left out; in nearly all models images pass in this order."""
        from hf_unlearnable.modeling.base import weighted_layers

        return [layer for layer in weighted_layers(self.model) if layer is not self._head[0]]

    def feed(self, hashed: hashlib.blake2b) -> None:
        """Update a hash with the names and values of all weights and statistics."""
        for name, tensor in self.state_dict().items():
            hashed.update(name.encode())
            hashed.update(tensor.detach().float().cpu().numpy().tobytes())

    def as_surrogate(self) -> Surrogate:
        """The network as it is now, as the start of another training."""
        mean, std = (tuple(buffer.flatten().tolist()) for buffer in (self.mean, self.std))
        return Surrogate(copy.deepcopy(self.model).requires_grad_(True), mean, std)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify images.

        Args:
            images: (B, C, H, W) in [0, 1]; resized (bilinear) for models that take one size only.

        Returns:
            Logits (B, K) and features (B, D): what enters the classifier head.
        """
        if self.size is not None and images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        pixel_values = ((images - self.mean) / self.std).expand(-1, self.channels, -1, -1)
        entered: list[torch.Tensor] = []
        hook = self._head[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
        try:
            logits = self.model(pixel_values=pixel_values).logits
        finally:
            hook.remove()
        if logits.shape[1] != self.num_labels:
            raise _other_classes(self.model, self.num_labels, f"{logits.shape[1]} classes")
        return logits, entered[-1].flatten(1)


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Keep a network in evaluation mode inside the block, so that its statistics stay those of training."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
