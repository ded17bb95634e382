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

# What the Hub's list of licences held in 2025. It grows: any other text in lower case is left to the Hub to check.
LISTED = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl
gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 lppl-1.3c mit mpl-2.0
ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
IDENTIFIERS = frozenset(LISTED.split())


def licence_keys(licence: str | None) -> dict[str, str]:
    """A licence as the Hub takes it: ``mit`` for ``MIT``; ``other`` with a name of its own for one of one's own."""
    if licence is None:
        return {}
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        return {"license": licence}
    name = re.sub(r"[^a-z0-9.+]+", "-", licence.lower()).strip("-")
    return {"license": name} if name in IDENTIFIERS else {"license": "other", "license_name": name.replace("+", "-")}


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
