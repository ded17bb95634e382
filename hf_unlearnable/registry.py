"""Names that are open to others: methods, defences and models by name, and recipes as text.

What this package defines itself is found in its folders, what others define through entry points of installed packages
or by ``load_plugin``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from hf_unlearnable.errors import PluginError, RecipeError, UnlearnableError, first_line, warn, worded
from hf_unlearnable.files import local_path
from hf_unlearnable.settings import hints_of

T = TypeVar("T")

METHODS, DEFENCES, VICTIMS = GROUPS = ("hf_unlearnable.methods", "hf_unlearnable.defences", "hf_unlearnable.victims")


class Registry(Generic[T]):
    """Values by name: those that were added, and those that installed packages offer as entry points.

    An entry point has the name of the value. It is imported when that name, or the list of all, is asked for.

    Args:
        what: the values are, for messages: "method".
        group: of the entry points, one of ``GROUPS``.
        package: whose modules add values when they are imported, in sub-packages too; they are all imported the first
            time that a name is asked for which is not there yet. None if the values of this package are added by hand.
    """

    def __init__(self, what: str, group: str, package: str | None = None) -> None:
        self.what, self.group, self.package = what, group, package
        self._values: dict[str, T] = {}
        self._searched = package is None

    def add(self, name: str, value: T) -> None:
        """Make a value known.

        The same definition may be run twice, as in a notebook: the second one counts.

        Raises:
            RecipeError: the name is taken, or could not be written on a command line.
        """
        if not re.fullmatch(r"[\w.-]+", name):
            raise RecipeError(f"got the name {name!r} for a {self.what}; expected letters, digits, '-', '_' and '.'")
        if name in self._values and _definition(value) != _definition(self._values[name]):
            raise RecipeError(
                f"got a second {self.what} with the name {name!r}: {value} and {self._values[name]}; expected "
                f"another name"
            )
        self._values[name] = value

    def remove(self, name: str) -> None:
        """Forget it."""
        del self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in list(self)

    def __iter__(self) -> Iterator[str]:
        """All names, those of plugins last; no plugin is imported for it."""
        self._search()
        return iter(dict.fromkeys([*self._values, *sorted(entry.name for entry in self._entries)]))

    def names(self) -> list[str]:
        """The names of all that can be used, sorted.

        Warns:
            UserWarning: for each plugin that cannot be used, with its package; it is left out.
        """
        self._search()
        for entry in self._entries:
            try:
                self._load(entry)
            except UnlearnableError as error:
                warn(str(error))
        return sorted(self._values)

    def get(self, name: str) -> T:
        """The value of that name.

        Raises:
            RecipeError: there is none.
            PluginError: the plugin that offers it cannot be used.
        """
        if name not in self._values:
            self._search()
        if name not in self._values:
            for entry in self._entries:
                if entry.name == name:
                    self._load(entry)
        if name not in self._values:
            more = worded(python="load_plugin", shell="--plugin")
            raise RecipeError(
                f"got the {self.what} {name!r}; expected one of {', '.join(sorted(self))} ({more} brings further ones)"
            )
        return self._values[name]

    def find(self, name: str) -> T | None:
        """The value of that name, for pages and cards; None where it is not installed.

        Warns:
            UserWarning: the plugin that offers it cannot be used; None then, too.
        """
        if name not in self:
            return None
        try:
            return self.get(name)
        except UnlearnableError as error:
            warn(str(error))
            return None

    def accept(self, entry: EntryPoint, loaded: Any) -> None:
        """Take what an entry point named, where importing it has added nothing of its name.

        Raises:
            PluginError: it is not taken.
        """
        base = self.what.capitalize()
        raise PluginError(
            f"got {self._source(entry)}, which has no {self.what} of that name; expected a class with the same name as "
            f'the entry point, such as class My{base}({base}, name="{entry.name}")'
        )

    def _search(self) -> None:
        """Import all modules of the package, once."""
        if self._searched or self.package is None:
            return
        for module in pkgutil.walk_packages(import_module(self.package).__path__, f"{self.package}."):
            import_module(module.name)
        self._searched = True

    @cached_property
    def _entries(self) -> list[EntryPoint]:
        return list(entry_points(group=self.group))

    def _source(self, entry: EntryPoint) -> str:
        package = f" {entry.dist.name}" if entry.dist is not None else ""
        return f"the {self.what} {entry.name!r} of the installed package{package} ({entry.value})"

    def _load(self, entry: EntryPoint) -> None:
        """Import what an entry point names, and see that it is what it is called.

        Raises:
            PluginError: it cannot be imported, is something else, or has the name of another one.
        """
        try:
            loaded = entry.load()
        except Exception as error:  # whatever somebody else's code raises
            mend = f", or uninstall it: pip uninstall {entry.dist.name}" if entry.dist is not None else ""
            raise PluginError(
                f"got {self._source(entry)}, which cannot be imported ({type(error).__name__}: {first_line(error)}); "
                f"mend it{mend}"
            ) from error
        if entry.name not in self._values:
            self.accept(entry, loaded)
        elif not inspect.ismodule(loaded) and loaded is not self._values[entry.name]:
            raise PluginError(
                f"got {self._source(entry)}; expected another name, since {self._values[entry.name]} has that one"
            )


class Recipes(Registry[type[T]]):
    """Keyword-only dataclasses by name, read from text: ``jpeg:50``, ``beo:mode=self,steps=40``.

    Args:
        what: see ``Registry``.
        group: likewise; its name is that of the package whose modules define the classes.
        lone: whether a value without a name is one of the first setting.
    """

    def __init__(self, what: str, group: str, *, lone: bool = False) -> None:
        super().__init__(what, group, package=group)
        self.lone = lone

    def parse(self, text: str) -> T:
        """Read ``name`` or ``name:setting=value,setting=value``; ``name:value`` for the first setting where it may.

        Raises:
            RecipeError: no such name or setting, or a value that it does not take.
            PluginError: the plugin that offers the name cannot be used.
        """
        if not isinstance(text, str):
            raise RecipeError(f"got {text!r} for a {self.what}; expected its name, or one that was made")
        name, colon, rest = text.strip().partition(":")
        kind = self.get(name)
        hints, fields = hints_of(kind), {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        first = next(iter(fields), "")
        if not rest:
            given = []
        elif self.lone and (
            "=" not in rest or (rest.partition("=")[0] not in fields and str in _options(hints.get(first)))
        ):
            given = [(first, rest)]  # whatever it holds: a path may have commas and equals signs
        else:
            given = [(part.partition("=")[0], part.partition("=")[2]) for part in rest.split(",")]
        values: dict[str, Any] = {}
        for setting, value in given:
            if setting not in fields:
                raise RecipeError(
                    f"got the {self.what} {text!r}; expected for {name} "
                    + (f"settings among {', '.join(fields)}" if fields else "no settings")
                )
            if setting in values:
                raise RecipeError(f"got the {self.what} {text!r}; expected {setting} once")
            values[setting] = _read(value, hints[setting], f"the {self.what} {text!r}")
        for setting, field in fields.items():
            if field.default is field.default_factory is dataclasses.MISSING and setting not in values:
                form = setting.upper() if self.lone and setting == first else f"{setting}={setting.upper()}"
                raise RecipeError(f"got the {self.what} {text!r}, which needs {name}:{form}")
        if colon and not rest:
            raise RecipeError(f"got the {self.what} {text!r}; expected settings behind the colon, or {name} alone")
        return kind(**values)


def _definition(value: Any) -> tuple[str, str] | int:
    """Where a class or function was defined; two results of one factory are not told apart by their name.

    A file is one place, whether it was imported under its own name or by ``load_plugin``.
    """
    if "<" in (name := getattr(value, "__qualname__", "<")):
        return id(value)
    return getattr(sys.modules.get(value.__module__), "__file__", None) or value.__module__, name


def _read(text: str, hint: Any, where: str) -> Any:
    """A value of a type as recipes have it: a plain one, a choice, or a union of such."""
    kinds = list(_options(hint))
    if type(None) in kinds and text.lower() == "none":
        return None
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    if any(kind is str or get_origin(kind) is Literal for kind in kinds):
        return text  # the recipe itself knows its choices
    expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds if kind is not type(None))
    raise RecipeError(f"got {where}; expected {text!r} to be of type {expected}")


def _options(hint: Any) -> Iterator[Any]:
    """The types that a value may have."""
    if get_origin(hint) is Annotated:
        yield from _options(get_args(hint)[0])
    elif get_origin(hint) in (Union, types.UnionType):
        for option in get_args(hint):
            yield from _options(option)
    else:
        yield hint


_loaded: dict[str, None] = {}  # in order, each once


def loaded_plugins() -> list[str]:
    """What ``load_plugin`` has imported, as it takes it: for processes that are to know the same names."""
    return list(_loaded)


def load_plugin(module: str | PathLike[str]) -> types.ModuleType:
    """Import a module that defines methods, defences or victims, which can be used by name from then on.

    A file is imported once, however often it is asked for. Modules that are on Python's path may be imported in the
    ordinary way instead.

    Args:
        module: a dotted name, or the path to a .py file.

    Raises:
        PluginError: there is no such module or file, or it cannot be imported.
    """
    if not isinstance(module, (str, PathLike)):
        raise PluginError(f"got the plugin {module!r}; expected a module's name, or the path to a .py file")
    text = fspath(module)
    file = local_path(text).absolute() if isinstance(module, PathLike) or text.endswith(".py") else None
    if file is not None and not file.is_file():
        raise PluginError(f"got the plugin {text!r}, where there is no file; expected a .py file or a module's name")
    try:
        loaded = import_module(text) if file is None else _import_file(file)
        _loaded.setdefault(text if file is None else str(file))
        return loaded
    except Exception as error:  # whatever somebody else's code raises
        if isinstance(error, ModuleNotFoundError) and file is None and _is_below(text, error.name):
            here = f"; there is a file of that name here, write {text}.py" if Path(f"{text}.py").is_file() else ""
            raise PluginError(
                f"got the plugin {text!r}, which is not installed; expected the name of a module that Python finds, or "
                f"the path to a .py file{here}"
            ) from error
        raise PluginError(
            f"got the plugin {text!r}, which cannot be imported ({type(error).__name__}: {first_line(error)}); mend it"
        ) from error


def _is_below(module: str, missing: str | None) -> bool:
    """Whether a module that was not found is the one that was asked for, or a package that it would lie in."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _import_file(file: Path) -> types.ModuleType:
    """Under a name of its own: two files may have the same."""
    digest = hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()
    name = f"hf_unlearnable_plugin_{digest}_{re.sub(r'[^a-zA-Z0-9_]', '_', file.stem)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError("not a file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def installed_plugins() -> list[str]:
    """The installed packages that have entry points for this one, each with its version; nothing is imported."""
    packages = {entry.dist for group in GROUPS for entry in entry_points(group=group)}
    return sorted({f"{package.name} {package.version}" for package in packages if package is not None})
