"""Recipes that are found by name and written on a command line: ``jpeg:50``, ``beo:mode=self,steps=40``."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hf_unlearnable.errors import RecipeError

T = TypeVar("T")


class Registry(Generic[T]):
    """Keyword-only dataclasses by name.

    Args:
        what: they are, for messages: "method".
        lone: whether a value without a name is one of the first setting.
    """

    def __init__(self, what: str, *, lone: bool = False) -> None:
        self.what, self.lone = what, lone
        self._kinds: dict[str, type[T]] = {}

    def add(self, name: str, kind: type[T]) -> None:
        """Make a class known.

        Raises:
            RecipeError: the name is taken.
        """
        if name in self._kinds:
            raise RecipeError(f"got a second {self.what} with the name {name!r}: {kind} and {self._kinds[name]}")
        self._kinds[name] = kind

    def remove(self, name: str) -> None:
        """Forget it."""
        del self._kinds[name]

    def names(self) -> list[str]:
        """All, sorted."""
        return sorted(self._kinds)

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            RecipeError: there is none.
        """
        if name not in self._kinds:
            raise RecipeError(f"got the {self.what} {name!r}; expected one of {', '.join(self.names())}")
        return self._kinds[name]

    def parse(self, text: str) -> T:
        """Read ``name`` or ``name:setting=value,setting=value``; ``name:value`` for the first setting where it may.

        Raises:
            RecipeError: no such name or setting, or a value that it does not take.
        """
        name, _, rest = text.strip().partition(":")
        kind = self.get(name)
        types_of, settings = get_type_hints(kind), [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        # A lone value belongs to the first setting, whatever it holds: a path may have commas and equals signs.
        named = not self.lone or ("=" in rest and rest.partition("=")[0] in settings)
        for part in rest.split(",") if named and rest else [rest] * bool(rest):
            setting, _, value = part.partition("=") if named else ((settings or [""])[0], "", part)
            if setting not in settings:
                raise RecipeError(
                    f"got the {self.what} {text!r}; expected for {name} "
                    + (f"settings among {', '.join(settings)}" if settings else "no settings")
                )
            values[setting] = _read(value, types_of[setting], f"the {self.what} {text!r}")
        try:
            return kind(**values)
        except TypeError as error:
            raise RecipeError(f"got the {self.what} {text!r}, which needs {name}:{settings[0].upper()}") from error


def _read(value: str, kind: Any, where: str) -> Any:
    """A value of a type as recipes have it: a plain one, a choice, or a union of such."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if type(None) in kinds and value.lower() == "none":
        return None
    for one in (bool, int, float):
        if one in kinds:
            try:
                return {"true": True, "false": False}[value.lower()] if one is bool else one(value)
            except (ValueError, KeyError):
                continue
    if any(one is str or get_origin(one) is Literal for one in kinds):
        return value  # the recipe itself knows its choices
    expected = " or ".join(one.__name__ for one in kinds if one is not type(None))
    raise RecipeError(f"got {where}; expected {value!r} to be of type {expected}")
