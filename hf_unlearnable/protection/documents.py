"""JSON documents of ours: read as what they are said to be, or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hf_unlearnable.errors import DataError, first_line


def read_json(file: Path) -> dict[str, Any]:
    """Read a document of ours: a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it holds something else.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8
        raise DataError(
            f"got {str(file)!r}, which is damaged ({first_line(error)}); expected a JSON document"
        ) from error
    if not isinstance(stored, dict):
        raise DataError(f"got {str(file)!r}, which holds a {type(stored).__name__}; expected a JSON object")
    return stored


Kinds = Mapping[str, tuple[type, ...]]  # key of a document -> what its value may be, as ``json`` reads it


def check_keys(
    stored: Mapping[str, Any],
    required: Collection[str],
    optional: Collection[str],
    what: str,
    kinds: Kinds | None = None,
) -> None:
    """Refuse a document that lacks a key, has one that nobody reads, or a value of another kind.

    Args:
        stored: what was read.
        required: keys that it must have.
        optional: keys that it may have, which older versions did not write.
        what: names the document in the message.
        kinds: what its values may be, where that is to be looked at; it may name keys that are not there.

    Raises:
        DataError: it does.
    """
    missing = sorted(set(required) - set(stored))
    unknown = sorted(set(stored) - set(required) - set(optional))
    wrong = sorted(key for key, kind in (kinds or {}).items() if key in stored and not _is_of(stored[key], kind))
    if missing or unknown or wrong:
        faults = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(unknown)}"] * bool(unknown)
        faults += [f"with a value of another kind in {', '.join(wrong)}"] * bool(wrong)
        raise DataError(
            f"got {what} {' and '.join(faults)}; expected the keys {', '.join(sorted(required))}. It is damaged, or "
            f"another version of hf_unlearnable wrote it"
        )


def kinds_of(described: type) -> Kinds:
    """What the fields of a dataclass are in JSON, or in ``asdict``, by their annotations."""
    hints = get_type_hints(described)
    in_json = {float: (float, int), tuple: (list, tuple), Mapping: (dict,)}
    found = {}
    for one in fields(described):
        hint = hints[one.name]
        plain = [get_origin(part) or part for part in (get_args(hint) if get_origin(hint) is UnionType else (hint,))]
        found[one.name] = tuple(kind for part in plain for kind in in_json.get(part, (part,)))
    return found


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
