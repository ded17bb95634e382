"""The option ``--plugin``: further methods, defences and victims for a command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def _load(modules: list[str] | None) -> list[str] | None:
    """Import them before the command reads any name; modules may lie in the folder where the command is given."""
    if not modules:
        return modules
    from hf_unlearnable.registry import load_plugin

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that no file there takes the place of an installed package
    for module in modules:
        load_plugin(module)
    return modules


Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        callback=_load,
        help="Module or .py file with further methods, defences or victims; may be repeated.",
    ),
]
