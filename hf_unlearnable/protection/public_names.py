"""What anyone may know: names of models and recipes without seeds, paths and local names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hf_unlearnable.data.columns import Columns
from hf_unlearnable.modeling.surrogate import MODELS
from hf_unlearnable.protection.description import Description

SECRET = {"name", "seed"}  # of a recipe; whoever has the seed can repeat how the surrogate began

UNNAMED = "a model of the owner"


def public_name(model: str) -> str:
    """How a model may be called in public: a name that models are known by here, or a Hub id, never a local path."""
    if model in MODELS:
        return f"`{model}`"
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model) and not Path(model).exists()
    return f"`{model}`" if is_id else UNNAMED


def public_description(description: Description) -> Description:
    """What anyone may know of a description: no seed, digest, column or local name."""
    return replace(
        description,
        method={key: value for key, value in description.method.items() if key == "name" or key not in SECRET},
        surrogates=tuple(public_name(name).strip("`") for name in description.surrogates),
        columns=Columns("", ""),
        findings={},
        digest="",
    )
