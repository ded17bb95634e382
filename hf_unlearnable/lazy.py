"""What is imported when it is first used: names of packages, from their files; and packages that may be missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hf_unlearnable.errors import MissingExtraError

# Every package that a plain installation lacks, and the extra that brings it.
EXTRAS = {"evaluate": "metrics", "kornia": "defences", "matplotlib": "figures", "sklearn": "thieves"}

OTHER_NAMES = {"sklearn": "scikit-learn"}  # under which people know and install them


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make ``__getattr__`` and ``__dir__`` of a package (PEP 562), so that importing it loads no torch.

    Args:
        package: its ``__name__``.
        homes: each public name -> the module below ``package`` that defines it, such as ``"publish"``.

    Raises:
        AttributeError: by the first of the two, for a name that the package does not have.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(homes)


def import_extra(module: str, what: str) -> Any:
    """Import a module of one of ``EXTRAS``.

    Args:
        module: such as ``"matplotlib.figure"``.
        what: needs it, for the message.

    Raises:
        MissingExtraError: the package is not installed.
    """
    require_extra(package := module.partition(".")[0], what)
    try:
        return import_module(module)
    except ImportError as error:  # there, and broken, or without this module
        raise MissingExtraError(
            f"{what} needs {package}, which cannot be imported ({error}); {_remedy(package)}"
        ) from error


def require_extra(package: str, what: str) -> None:
    """Find out, without importing it, whether a package of one of ``EXTRAS`` is there.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec(package) is None:
        raise MissingExtraError(f"{what} needs {OTHER_NAMES.get(package, package)}; {_remedy(package)}")


def _remedy(package: str) -> str:
    return f"install it: pip install 'hf-unlearnable[{EXTRAS[package]}]'"
