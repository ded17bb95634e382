"""What the hooks of a defence return, seen to when they are called: most of them are written by others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from PIL import Image

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.course import Course
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.models.surrogate import Surrogate

RETURNS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "image": ("an image of Pillow", lambda it: isinstance(it, Image.Image)),
    "prepare": ("an ImageSet", lambda it: isinstance(it, ImageSet)),
    "correction": ("a function or None", lambda it: it is None or callable(it)),
    "course": ("a Course or None", lambda it: it is None or isinstance(it, Course)),
    "start": ("a Surrogate", lambda it: isinstance(it, Surrogate)),
    "batch": ("images and targets", lambda it: isinstance(it, (tuple, list)) and len(it) == 2),
}


def check_hooks(kind: type) -> None:
    """Let every hook that a class defines refuse to return something else than the training can use.

    Raises:
        RecipeError: the hooks do, in the name of their defence.
    """
    for hook in RETURNS:
        if inspect.isfunction(own := vars(kind).get(hook)):
            setattr(kind, hook, _checked(hook, own))


def _checked(hook: str, own: Callable[..., Any]) -> Callable[..., Any]:
    expected, fits = RETURNS[hook]

    @wraps(own)
    def checked(defence: Any, *args: Any, **options: Any) -> Any:
        result = own(defence, *args, **options)
        if not fits(result):
            raise RecipeError(f"the defence {defence}: {hook} returned a {type(result).__name__}; expected {expected}")
        return result

    return checked
