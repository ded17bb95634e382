"""The option ``--plugin``: further methods, defences and victims for a command."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_unlearnable.registry import load_plugin


def _load(modules: list[str] | None) -> list[str] | None:
    """Import them before the command reads any name."""
    for module in modules or []:
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
