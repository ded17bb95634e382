"""What anyone may know: names of models and recipes without seeds, paths and local names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_unlearnable.modeling.surrogate import MODELS

SECRET = {"name", "seed"}  # of a recipe; whoever has the seed can repeat how the surrogate began

UNNAMED = "a model of the owner"


def public_name(model: str) -> str:
    """How a model may be called in public: a name that models are known by here, or a Hub id, never a local path."""
    if model in MODELS:
        return f"`{model}`"
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model) and not Path(model).exists()
    return f"`{model}`" if is_id else UNNAMED


def public_about(about: Mapping[str, Any]) -> dict[str, Any]:
    """What anyone may know of ``Protection.about``: no seed, digest, column or local name."""
    kept = ("budget", "classes", "image_shape", "verification", "versions")
    method = {key: value for key, value in about["method"].items() if key == "name" or key not in SECRET}
    surrogates = [public_name(name).strip("`") for name in about["surrogates"]]
    return {**{key: about[key] for key in kept if key in about}, "method": method, "surrogates": surrogates}
