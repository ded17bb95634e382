"""What anyone may know of a protection: its recipe without seeds, paths and local names."""

from __future__ import annotations

from dataclasses import replace

from hf_unlearnable.data.columns import Columns
from hf_unlearnable.models.public_names import public_name
from hf_unlearnable.protection.description import Description

SECRET = {"name", "seed"}  # of a recipe; whoever has the seed can repeat how the surrogate began


def public_description(description: Description) -> Description:
    """What anyone may know of a description: no seed, digest, column or local name."""
    return replace(
        description,
        method={key: value for key, value in description.method.items() if key == "name" or key not in SECRET},
        surrogates=tuple(public_name(name).strip("`") for name in description.surrogates),
        columns=Columns("", ""),
        labels=description.labels.partition(",")[0],  # behind the comma stands the name or path of a model
        findings={},
        digest="",
    )
