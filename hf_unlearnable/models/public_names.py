"""What a model may be called in public."""

from __future__ import annotations

import re
from pathlib import Path

from hf_unlearnable.models.built_in import MODELS
from hf_unlearnable.models.classical import CLASSICAL

UNNAMED = "a model of the owner"

# The names of recipes; whatever else follows a comma is a path.
TRAININGS = ("sgd", "adamw", "short", "strong", "sgd-strong", "long")


def public_name(model: str) -> str:
    """How a model may be called in public: a built-in name or a Hub id, never a local path.

    Args:
        model: its name; that of a training may follow behind a comma, as reports have it.
    """
    name, comma, training = model.rpartition(", ")
    if comma and training in TRAININGS:
        return f"{public_name(name)}, {training}"
    if model in MODELS or model in CLASSICAL:
        return f"`{model}`"
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model) and not Path(model).exists()
    return f"`{model}`" if is_id else UNNAMED
