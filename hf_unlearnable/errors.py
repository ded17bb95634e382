"""The errors of the package: each says what was got, what was expected and what to do.

Every class is also a builtin error, so that callers who do not know this package can still catch it.

Whoever reads a message sits at Python, at the command line or at the page of the app, and can do other things there:
``worded`` and ``option`` take the words of that surface when the message is made.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

_surface: Literal["python", "shell", "browser"] = "python"

SHELL_NAMES = {"config": "subset"}  # there --config names a file of options


@contextmanager
def command_line_words() -> Iterator[None]:
    """Let messages speak of options instead of parameters while the block runs, in processes that it forks too."""
    with _words_of("shell"):
        yield


@contextmanager
def browser_words() -> Iterator[None]:
    """Let messages speak of what is pressed on the page of the app while the block runs."""
    with _words_of("browser"):
        yield


@contextmanager
def _words_of(surface: Literal["shell", "browser"]) -> Iterator[None]:
    global _surface
    before, _surface = _surface, surface
    try:
        yield
    finally:
        _surface = before


def worded(*, python: str, shell: str, browser: str | None = None) -> str:
    """What to do, in the words of the surface that somebody sits at; those of Python where a page has none."""
    if _surface == "browser" and browser is not None:
        return browser
    return shell if _surface == "shell" else python


def option(parameter: str, value: Any, shell: str | None = None) -> str:
    """A parameter with its value, as it is given in Python or on the command line.

    Args:
        parameter: such as ``"label_column"``, which is the option ``--label-column``.
        value: of it.
        shell: the option, where it has another name or no value.
    """
    name = SHELL_NAMES.get(parameter, parameter)
    return worded(python=f"{parameter}={value!r}", shell=shell or f"--{name.replace('_', '-')} {value}")


def blank(parameter: str, name: str) -> str:
    """A parameter as ``option`` writes it, with a name such as ``DATASET`` where somebody has to fill in the value."""
    return worded(python=f"{parameter}={name}", shell=option(parameter, name))


class UnlearnableError(Exception):
    """Base class of everything that this package raises on purpose."""


class BudgetError(UnlearnableError, ValueError):
    """A perturbation budget that is not one, or that was exceeded."""


class DataError(UnlearnableError, ValueError):
    """A dataset, column, label or image that cannot be protected or measured as it is."""


class SourceError(UnlearnableError, FileNotFoundError):
    """A dataset, model or protection that is not where it was said to be."""


class RecipeError(UnlearnableError, ValueError):
    """A method, surrogate or setting that does not exist or contradicts another one."""


class MissingExtraError(RecipeError, ImportError):
    """Something that needs a package of an extra (``hf-unlearnable[figures]``) that is not installed."""


class PluginError(UnlearnableError, ImportError):
    """Somebody else's methods, defences or victims that cannot be imported, or are not what they are called."""


class UnseenImageError(UnlearnableError, LookupError):
    """An image (with its label) for which no perturbation was fitted."""


class DivergenceError(UnlearnableError, ArithmeticError):
    """An optimisation that left the finite numbers."""


class OutputError(UnlearnableError, FileExistsError):
    """A place to write to that already holds something."""


class CheckpointError(UnlearnableError, RuntimeError):
    """What a stopped fit left behind, but of another fit, or damaged."""


class PrivacyError(UnlearnableError, PermissionError):
    """Something private that was about to be published, or to be published to more people than was asked."""


class AccessError(UnlearnableError, PermissionError):
    """A token that the Hub does not know, or that may not do this; or none at all."""


class HubError(UnlearnableError, ConnectionError):
    """A push or pull that did not come to its end: says what is there, what is not, and how to go on."""


class DataWarning(UserWarning):
    """Something that is done to a dataset's images or labels and that its owner should know."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called the package, however deep in it the reason was found."""
    stack = [frame for frame, _ in traceback.walk_stack(sys._getframe())]
    rooms = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in stack]
    last = max(place for place, room in enumerate(rooms) if room == __package__)
    line = stack[min(last + 1, len(stack) - 1)]
    known = line.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, line.f_code.co_filename, line.f_lineno, registry=known)


def number_of(count: int, noun: str) -> str:
    """A number of things, such as ``1 image`` and ``3,000 images``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some_of(things: Sequence[object], most: int = 5) -> str:
    """The first of several things, to name them in a message: ``a, b, …``."""
    return ", ".join(map(str, things[:most])) + (", …" if len(things) > most else "")


def in_words(size: int) -> str:
    """Bytes in words: 1.2 GB."""
    number, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.1f} {unit}" if unit != "B" else f"{size} B"


def where_raised(error: Exception) -> str:
    """Somebody else's error as one line, with the place in the code that it comes from."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({place.filename}, line {place.lineno})"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and behind it those that led to it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def first_line(error: Exception) -> str:
    """The first line of another library's message, to quote in one of ours; its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
