"""Where the templates of pages and cards come from."""

from __future__ import annotations

import re

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def templates_of(*rooms: str, escape: bool) -> Environment:
    """The templates in the folders ``templates`` of rooms; one that asks for what it was not given is an error.

    Args:
        rooms: the packages around the folders; of two templates of one name that of the first counts.
        escape: whether what is put into them is made safe for HTML. Into Markdown goes what it is given: names that
            somebody else may have chosen go through ``plain_markdown`` before.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(room) for room in rooms]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=escape,
    )


def plain_markdown(text: str) -> str:
    """A text that Markdown shows as it stands, in a table too: no tags, links, code or cells.

    Args:
        text: such as the name of a countermeasure, which a plug-in chooses.
    """
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", " ".join(shown.split()))
