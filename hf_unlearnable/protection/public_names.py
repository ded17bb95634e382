"""What anyone may know of a protection: its recipe without seeds, paths and local names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_unlearnable.modeling.public_names import public_name

SECRET = {"name", "seed"}  # of a recipe; whoever has the seed can repeat how the surrogate began


def public_about(about: Mapping[str, Any]) -> dict[str, Any]:
    """What anyone may know of ``Protection.about``: no seed, digest, column or local name."""
    kept = ("budget", "classes", "image_shape", "verification", "versions")
    method = {key: value for key, value in about["method"].items() if key == "name" or key not in SECRET}
    surrogates = [public_name(name).strip("`") for name in about["surrogates"]]
    return {**{key: about[key] for key in kept if key in about}, "method": method, "surrogates": surrogates}
