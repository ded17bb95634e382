"""Options of a command in a YAML file: read by ``--config``, written beside an output so that a run can be repeated."""

from __future__ import annotations

import os
import shlex
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from hf_unlearnable.errors import RecipeError, SourceError, first_line
from hf_unlearnable.files import atomic_write, local_path

NAME = "command.yaml"

COMMAND = "command"  # the key that says of which command the options are

NOT_KEPT = {"config", "json", "quiet", "verbose", "overwrite", "yes"}  # how it was run, not what was done


def read_options(context: typer.Context, file: Path | None) -> Path | None:
    """Take the options of a YAML file as the defaults of a command.

    Raises:
        SourceError: no such file.
        RecipeError: not a mapping of options that the command has, or of another command.
    """
    if file is None:
        return None
    import yaml

    try:
        given = yaml.safe_load(local_path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"got --config {file}, which cannot be read ({first_line(error)}); expected a YAML file of options. The "
            f"configuration of a dataset is --subset"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets in brackets
        raise RecipeError(f"got --config {file}, which is not YAML: {' '.join(str(error).split())}") from error
    known = {_name(one): one for one in context.command.params}
    if not isinstance(given, dict):
        raise RecipeError(f"got --config {file} with {type(given).__name__}; expected lines such as 'budget: 8/255'")
    if nested := [str(name) for name, value in given.items() if not _is_plain(value)]:
        raise RecipeError(  # a few lines of lists of one another can hold more words than any memory
            f"got --config {file} with another kind of value in {', '.join(nested)}; expected words, numbers, true or "
            f"false, or a list of words"
        )
    other = given.pop(COMMAND, context.info_name)
    if other != context.info_name:
        raise RecipeError(f"got --config {file} of the command {other}; expected one of {context.info_name}")
    names = {str(name): str(name).removeprefix("--").replace("_", "-") for name in given}
    if wrong := [name for name, option in names.items() if option not in known or option == "config"]:
        raise RecipeError(
            f"got --config {file} with {', '.join(wrong)}; expected options of {context.info_name}: "
            f"{', '.join(sorted(set(known) - {'config', 'help'}))}"
        )
    context.default_map = {}
    for name, value in given.items():
        one = known[names[str(name)]]
        if value is not None:  # a single word is a list of one, where an option may be repeated
            single = getattr(one, "multiple", False) and not isinstance(value, list)
            context.default_map[str(one.name)] = [value] if single else value
    return file


def keep_options(context: typer.Context, folder: Path) -> None:
    """Write the options of a command to a private file, since seeds and paths of originals are among them."""
    import yaml

    told: dict[str, Any] = {COMMAND: context.info_name}
    for one in context.command.params:
        value = context.params.get(str(one.name))
        if value not in (None, [], ()) and _name(one) not in NOT_KEPT:
            told[_name(one)] = list(value) if isinstance(value, (list, tuple)) else value
    plain = {
        name: value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
        for name, value in told.items()
    }
    lines = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    another = " --output ANOTHER" if "output" in plain else ""
    file = shlex.quote(os.path.relpath(folder / NAME))
    head = f"# To repeat it, in {Path.cwd()}: hf-unlearnable {context.info_name} --config {file}{another}\n"
    atomic_write(folder / NAME, head + lines, private=True)


def _is_plain(value: Any) -> bool:
    single = (str, int, float)
    return (
        value is None
        or isinstance(value, single)
        or (isinstance(value, list) and all(isinstance(one, single) for one in value))
    )


def _name(parameter: Any) -> str:
    """What a parameter is called in a file: its option without the dashes, or the argument's name."""
    longest = max(parameter.opts, key=len) if parameter.opts else str(parameter.name)
    return str(longest).lstrip("-").replace("_", "-")
