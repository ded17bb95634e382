"""Where the templates of pages and cards come from."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates_of(room: str, *, escape: bool) -> Environment:
    """The templates in the folder ``templates`` of a room; one that asks for what it was not given is an error.

    Args:
        room: the package around the folder.
        escape: whether what is put into them is made safe for HTML; Markdown takes it as it is.
    """
    return Environment(
        loader=PackageLoader(room),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=escape,
    )
