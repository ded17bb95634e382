"""The YAML header of a card: licences, and what is kept of the header that is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, HfApi, ModelCard
from huggingface_hub.repocard_data import CardData

from hf_unlearnable.errors import RecipeError, option

Card = DatasetCard | ModelCard

EMPTY = "---\n{}\n---\n"  # a card without keys and text

LICENCE = ("license", "license_name", "license_link")


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


def set_licence(card: Card, licence: str | None, carried: Mapping[str, Any]) -> None:
    """State the licence: the one that is given takes the place of any other, a carried one only that of none."""
    if licence is not None:
        keys = licence_keys(licence)
        for key in LICENCE:
            setattr(card.data, key, keys.get(key))
    elif not licence_in(card.data):
        merge(card, carried)


def rename(card: Card, title: str | None, description: str | None) -> None:
    """Give a card that is there another title, in its header and in the heading that it begins with.

    Raises:
        RecipeError: a description that does not stand in it: the text is its owner's, who has edited it perhaps.
    """
    if not card.text.strip():
        return
    if title is not None:
        if "pretty_name" in card.data.to_dict():
            card.data["pretty_name"] = title
        card.text = re.sub(r"\A(\s*)# .*", lambda found: f"{found[1]}# {title}", card.text)
    if description is not None and description.strip() not in card.text:
        raise RecipeError(
            f"got {option('description', '…', '--description')} for a card that is there already; expected none, since "
            f"its text is yours to edit: README.md in the repository. Nothing was sent"
        )


def merge(card: Card, ours: Mapping[str, Any]) -> None:
    """Add keys to a header; what stands there already stays, and tags are united."""
    theirs = card.data.to_dict()
    for key, value in ours.items():
        if key == "tags":
            setattr(card.data, key, list(dict.fromkeys([*theirs.get("tags", []), *value])))
        elif key not in theirs:
            setattr(card.data, key, value)
