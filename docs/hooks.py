"""What mkdocs does besides its plug-ins: the page of the command line is made from the command itself."""

from __future__ import annotations

import re
from typing import Any

PLACE = "<!-- every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the options of every command where a page asks for them."""
    return markdown.replace(PLACE, _commands()) if PLACE in markdown else markdown


def _commands() -> str:
    from typer.main import get_command

    from hf_unlearnable.cli import app

    parts = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        parts += [f"## {name}", "", _cell(command.help or ""), ""]
        words = [_word(one) for one in command.params if one.param_type_name == "argument"]
        parts += ["```text", " ".join(["hf-unlearnable", name, *words, "[OPTIONS]"]), "```", ""]
        parts += ["| option | default | what it does |", "| --- | --- | --- |"]
        for one in command.params:
            argument = one.param_type_name == "argument"
            names = (
                f"`{_word(one)}`" if argument else ", ".join(f"`{text}`" for text in (*one.opts, *one.secondary_opts))
            )
            parts.append(f"| {names} | {_default(one)} | {_cell(one.help or '')} |")
        parts.append("")
    return "\n".join(parts)


def _word(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _default(option: Any) -> str:
    if option.required:
        return "required"
    return "" if option.default in (None, False, ()) else f"`{option.default}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()
