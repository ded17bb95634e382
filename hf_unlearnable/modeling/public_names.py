"""What a model may be called in public."""

from __future__ import annotations

import re
from pathlib import Path

from hf_unlearnable.modeling.surrogate import MODELS

UNNAMED = "a model of the owner"


def public_name(model: str) -> str:
    """How a model may be called in public: a built-in name or a Hub id, never a local path."""
    if model in MODELS:
        return f"`{model}`"
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model) and not Path(model).exists()
    return f"`{model}`" if is_id else UNNAMED
