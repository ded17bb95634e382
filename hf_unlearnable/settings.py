"""Settings and arguments: what types and ranges their annotations allow, checked in one place."""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from os import PathLike
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from hf_unlearnable.errors import RecipeError, option, worded


@dataclass(frozen=True)
class Range:
    """The numbers that a setting takes: ``share: Annotated[float, Range(above=0, most=1)] = 0.5``.

    Args:
        least: the smallest.
        most: the largest.
        above: a number that all are larger than.
        below: a number that all are smaller than.
        words: what to call it in messages.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    words: str = ""

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        if self.words:
            return self.words
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"{self.least:,} to {self.most:,}"
        limits = {"at least": self.least, "more than": self.above, "at most": self.most, "less than": self.below}
        return " and ".join(f"{words} {limit:,}" for words, limit in limits.items() if math.isfinite(limit))


class OneOf(tuple[Any, ...]):
    """The values that a setting takes: ``kernel: Annotated[str, OneOf(KERNELS)]``, where ``Literal`` cannot say it."""

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self))}"


# Seeds of parts are some thousands above that of the whole, and torch takes them up to 2^64 - 1.
Seed = Annotated[int, Range(least=0, most=2**63 - 1)]
Count = Annotated[int, Range(least=1, most=10**9)]
Few = Annotated[int, Range(least=1, most=100)]  # of what each takes the memory or the time of all images
Share = Annotated[float, Range(least=0, most=1, words="a share in [0, 1]")]
Positive = Annotated[float, Range(above=0, most=10**9)]
NotNegative = Annotated[float, Range(least=0, most=10**9)]
Rate = Annotated[float, Range(above=0)]  # of learning, and of other steps: a large one diverges, which is told
Step = Annotated[float, Range(least=0, most=100)]  # as a fraction of the radius
Weight = Annotated[float, Range(least=0, most=1e4)]  # of a term of a loss, and of decay
Levels = Annotated[float, Range(above=0, most=255, words="more than 0 and at most 255 levels")]
Side = Annotated[int, Range(least=8, most=4096, words="8 to 4096 pixels a side")]
Momentum = Annotated[float, Range(least=0, below=1)]

_PLAIN = {bool: "True or False", int: "a whole number", float: "a number", str: "text", type(None): "None"}


def check_fields(recipe: Any) -> None:
    """Refuse a setting that its annotation does not allow; for ``__post_init__`` of a dataclass.

    Numbers, text, paths, booleans, None, ``Literal``, tuples and unions of them are checked, and ``Range`` and
    ``OneOf`` in ``Annotated``, and other dataclasses; annotations of other kinds are not.

    Raises:
        RecipeError: the first setting of another type, out of range, or not finite; with what it may be.
    """
    kind: Any = type(recipe)
    hints = hints_of(kind)
    for field in dataclasses.fields(recipe):
        value = plain(given := getattr(recipe, field.name), hints[field.name])
        if value is not given:
            object.__setattr__(recipe, field.name, value)  # it may be frozen
        if expected := _expected(value, hints[field.name]):
            refuse(recipe, f"{field.name}={value!r}", expected)


def check_recipe(recipe: Any) -> None:
    """``check_fields`` for a recipe that is known by its name.

    Raises:
        RecipeError: it has no name; or as ``check_fields``.
    """
    if not hasattr(recipe, "name"):
        kind = type(recipe)
        raise RecipeError(
            f"got {kind}, which has no name; expected one in the class statement, such as class {kind.__name__}(..., "
            f'name="mine")'
        )
    check_fields(recipe)


def check_first(kind: type) -> None:
    """Let ``check_recipe`` come before the ``__post_init__`` of a class, which may forget to call that of its base."""
    own: Callable[..., None] | None = vars(kind).get("__post_init__")
    if own is None:
        return

    @wraps(own)
    def checked(recipe: Any, *initial: Any) -> None:
        check_recipe(recipe)
        own(recipe, *initial)

    kind.__post_init__ = checked  # type: ignore[attr-defined]


def check_members(kind: type, base: type) -> None:
    """Refuse a class variable that its annotation in ``base`` does not allow, when a subclass is defined.

    Raises:
        RecipeError: the first of them, with what it may be.
    """
    for name, hint in hints_of(base).items():
        value = getattr(kind, name, None)
        told = get_origin(hint) is ClassVar and hasattr(kind, name) and not isinstance(value, property)
        if told and (expected := _expected(value, get_args(hint)[0])):
            raise RecipeError(f"got {name} = {value!r} in {kind}; expected {expected}")


P = ParamSpec("P")
T = TypeVar("T")


def check_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Refuse an argument that its annotation does not allow, before the function begins: a decorator.

    Raises:
        RecipeError: as for ``check_fields``; the returned function does.
    """
    signature = inspect.signature(function)
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> T:
        hints = _hints_of_function(function)
        try:
            bound = signature.bind(*args, **options)
        except TypeError:  # whose words would not name the function
            return function(*args, **options)
        for name, given in bound.arguments.items():
            value = bound.arguments[name] = plain(given, hints.get(name))
            if name in hints and (expected := _expected(value, hints[name])):
                raise RecipeError(
                    f"{worded(python=f'{called}: ', shell='')}got {option(name, value)}; expected {expected}"
                )
        return function(*bound.args, **bound.kwargs)

    return checked


def plain(value: Any, hint: Any = None) -> Any:
    """Numbers of numpy as those of Python, alone or in a list, so that digests and JSON are the same; others as are.

    Args:
        value: as it was given.
        hint: the annotation; an array becomes a list where it allows lists and not arrays.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 1 and _expected(value, hint):
        return value.tolist()
    if type(value) in (list, tuple) and any(isinstance(member, np.generic) for member in value):
        return type(value)(map(plain, value))
    return value


@cache
def _hints_of_function(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function, include_extras=True)


IN_MEMORY = "which a dataset in memory does not have"


def refuse_ignored(why: str, **given: Any) -> None:
    """Refuse arguments that would be ignored.

    Args:
        why: they would be; completes "got ..., ".
        given: by the names of their parameters; None is none.

    Raises:
        RecipeError: there is one.
    """
    if told := [option(name, value) for name, value in given.items() if value is not None]:
        raise RecipeError(f"got {' and '.join(told)}, {why}; leave {'it' if len(told) == 1 else 'them'} out")


def refuse(recipe: Any, got: str, expected: str) -> NoReturn:
    """Raise the error of a setting that cannot be.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(f"{getattr(recipe, 'name', type(recipe).__name__)}: got {got}; expected {expected}")


def _expected(value: Any, hint: Any) -> str:
    """What a value should have been; empty if it fits, or if nothing is known of such values."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, *allowed = arguments
        allowed = [values for values in allowed if isinstance(values, (Range, OneOf))]
        if expected := _expected(value, kind):
            return ", ".join([expected, *map(str, allowed)])
        return " and ".join(str(values) for values in allowed if value not in values)
    if origin in (Union, types.UnionType):
        options = [_expected(value, option) for option in arguments]
        nested = any(" or " in option for option in options)
        return (", or " if nested else " or ").join(options) if all(options) else ""
    if origin is Literal:
        return "" if value in arguments else str(OneOf(arguments))
    if origin is tuple and arguments[1:] == (...,):
        if not isinstance(value, (tuple, list)):
            return "a tuple"
        found = (_expected(member, arguments[0]) for member in value)
        return next((f"a tuple whose members are each {expected}" for expected in found if expected), "")
    if origin is Sequence:
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            return "a list or a tuple"
        found = (_expected(member, arguments[0]) for member in value)
        return next((f"a list whose members are each {expected}" for expected in found if expected), "")
    if origin is PathLike:
        return "" if isinstance(value, PathLike) else "a path"
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if dataclasses.is_dataclass(hint):
        return "" if isinstance(value, cast("type", hint)) else f"a {cast('type', hint).__name__}"
    if hint is int or hint is float:
        kinds: tuple[type, ...] = (int,) if hint is int else (int, float)
        fits = isinstance(value, kinds) and not isinstance(value, bool)
    else:
        fits = hint not in _PLAIN or isinstance(value, hint)
    return "" if fits else _PLAIN[hint]


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass by name.

    Raises:
        RecipeError: one that names nothing, or settings of a class that was not made a dataclass.
    """
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise RecipeError(
            f"got {kind}, whose annotations cannot be resolved ({error}); expected what they name to be imported, not "
            f"only under TYPE_CHECKING"
        ) from error
    if "__dataclass_params__" not in vars(kind):
        fields = {field.name for field in dataclasses.fields(kind)}
        for name in inspect.get_annotations(kind):
            if name not in fields and ClassVar not in (hints[name], get_origin(hints[name])):
                raise RecipeError(
                    f"got {kind}, whose setting {name!r} would be ignored; expected it to be decorated with "
                    f"@dataclass(frozen=True, kw_only=True)"
                )
    return hints
