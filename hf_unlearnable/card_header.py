"""The YAML header of a card: licences, and what is kept of the header that is there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, HfApi, ModelCard
from huggingface_hub.repocard_data import CardData

Card = DatasetCard | ModelCard
EMPTY = "---\n{}\n---\n"  # a card without keys and text
LICENCE = ("license", "license_name", "license_link")
DATASETS_KEYS = ("configs", "dataset_info")  # written by datasets


def licence_keys(licence: str | None) -> dict[str, str]:
    """A licence as the Hub takes it: identifiers are lower case; anything else is ``other`` with a name of its own."""
    if licence is None:
        return {}
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        return {"license": licence}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")}


def licence_in(data: CardData | None) -> dict[str, Any]:
    """What a header says about the licence."""
    stored = {} if data is None else data.to_dict()
    return {key: stored[key] for key in LICENCE if stored.get(key)}


def licence_name(data: CardData) -> str | None:
    """The licence that a header names, to show to people."""
    keys = licence_in(data)
    named = keys.get("license_name") or keys.get("license")
    return ", ".join(named) if isinstance(named, list) else named


def carried(origin: str, api: HfApi) -> tuple[dict[str, Any], str | None]:
    """Look up the licence of the dataset that was protected.

    Args:
        origin: an absolute local path, or a Hub id.
        api: to ask the Hub.

    Returns:
        The keys, empty if there are none, and the id where the dataset is public on the Hub: a private one, or a local
        path, must not be named.
    """
    if Path(origin).is_absolute():
        card = Path(origin) / "README.md"
        return (licence_in(DatasetCard.load(card).data) if card.is_file() else {}), None
    info = api.dataset_info(origin)
    return licence_in(info.card_data), None if info.private else origin


def with_keys(keys: Mapping[str, Any]) -> str:
    """A card with these keys and no text."""
    card = DatasetCard(EMPTY)
    merge(card, keys)
    return str(card)


def merge(card: Card, ours: Mapping[str, Any], overwrite: Collection[str] = ()) -> None:
    """Add keys to a header; what stands there already stays, except for ``overwrite``; tags are united."""
    theirs = card.data.to_dict()
    for key, value in ours.items():
        if key == "tags":
            setattr(card.data, key, list(dict.fromkeys([*theirs.get("tags", []), *value])))
        elif key not in theirs or key in overwrite:
            setattr(card.data, key, value)


def kept(before: str, after: str | None) -> str:
    """The card to go on from after ``datasets`` brought its header up to date.

    Args:
        before: the card as it was.
        after: as it is now. Where ``datasets`` could not read the old one (a fault of the Hub that lasts) this is a new
            one, which lacks the text, the keys and the other configs of ``before``.
    """
    old, new = DatasetCard(before), DatasetCard(after or before)
    if not new.text.strip():
        new.text = old.text
    theirs, ours = new.data.to_dict(), old.data.to_dict()
    merge(new, ours)
    for key in DATASETS_KEYS:
        if key in theirs and key in ours:
            setattr(new.data, key, _united(ours[key], theirs[key]))
    return str(new)


def _united(old: Any, new: Any) -> Any:
    """Descriptions of configs, those of ``old`` that ``new`` lacks first; ``dataset_info`` of one config is no list."""
    sides = [value if isinstance(value, list) else [value] for value in (old, new)]
    names = {one.get("config_name", "default") for one in sides[1]}
    missing = [one for one in sides[0] if one.get("config_name", "default") not in names]
    return [*missing, *sides[1]] if missing else new
