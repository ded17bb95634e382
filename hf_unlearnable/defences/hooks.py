"""What the hooks of a defence return, seen to when they are called: most of them are written by others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from PIL import Image

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.course import Course
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.models.surrogate import Surrogate


def _is_prepared(it: Any, given: ImageSet) -> bool:
    """Whether victims can be trained on it: bytes, since others would be read on another scale, each with a class."""
    return (
        isinstance(it, ImageSet)
        and it.pixels.dtype == np.uint8
        and it.pixels.shape[1:] == given.pixels.shape[1:]
        and it.names == given.names
        and it.labels.shape == it.pixels.shape[:1] != (0,)
        and bool(np.isin(it.labels, np.arange(len(given.names))).all())
    )


def _is_batch(it: Any, given: torch.Tensor) -> bool:
    if not isinstance(it, (tuple, list)) or len(it) != 2 or not all(isinstance(part, torch.Tensor) for part in it):
        return False
    images, targets = it
    return images.shape[1:] == given.shape[1:] and images.dtype == given.dtype and len(images) == len(targets)


def _is_corrected(it: Any, given: torch.Tensor) -> bool:
    return isinstance(it, torch.Tensor) and it.shape == given.shape and it.dtype == given.dtype


# What a hook is to return, and whether something is that, beside the first argument of the hook.
RETURNS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "image": ("an image of Pillow", lambda it, given: isinstance(it, Image.Image)),
    "prepare": ("an ImageSet of uint8 pixels, of the same size and classes, with a label each", _is_prepared),
    "correction": ("a function or None", lambda it, given: it is None or callable(it)),
    "course": ("a Course or None", lambda it, given: it is None or isinstance(it, Course)),
    "start": ("a Surrogate", lambda it, given: isinstance(it, Surrogate)),
    "batch": ("images of the same size and type, and as many targets", _is_batch),
}


def check_hooks(kind: type) -> None:
    """Let every hook that a class defines refuse to return something else than the training can use.

    Raises:
        RecipeError: the hooks do, in the name of their defence; and where ``prepare`` changes what it is given, which
            others are trained on, too.
    """
    for hook in RETURNS:
        if inspect.isfunction(own := vars(kind).get(hook)):
            setattr(kind, hook, _checked(hook, own))


def _checked(hook: str, own: Callable[..., Any]) -> Callable[..., Any]:
    expected, fits = RETURNS[hook]

    @wraps(own)
    def checked(defence: Any, *args: Any, **options: Any) -> Any:
        given: Any = args[0] if args else next(iter(options.values()), None)
        before = given.digest if hook == "prepare" else b""
        result = own(defence, *args, **options)
        if not fits(result, given):
            raise RecipeError(f"the defence {defence}: {hook} returned {_described(result)}; expected {expected}")
        if hook == "prepare" and ImageSet(given.pixels, given.labels, given.names).digest != before:
            raise RecipeError(
                f"the defence {defence}: prepare changed the images that it was given, on which others are trained "
                f"too; expected a new ImageSet. Begin with a copy of images.pixels"
            )
        return _checked_correction(defence, result) if hook == "correction" and result is not None else result

    return checked


def _checked_correction(defence: Any, correct: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(correct, updated=())
    def checked(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = correct(images, labels)
        if not _is_corrected(result, images):
            raise RecipeError(
                f"the defence {defence}: what correction returned made {_described(result)} of "
                f"{_described(images)}; expected the same shape and type"
            )
        return result

    return checked


def _described(it: Any) -> str:
    if isinstance(it, ImageSet):
        return f"an ImageSet of {it.pixels.dtype} pixels {it.pixels.shape} and {len(it.labels)} labels"
    if isinstance(it, torch.Tensor):
        return f"a tensor of {str(it.dtype).removeprefix('torch.')} {tuple(it.shape)}"
    if isinstance(it, (tuple, list)) and len(it) == 2:
        return " and ".join(map(_described, it))
    return f"a {type(it).__name__}"
