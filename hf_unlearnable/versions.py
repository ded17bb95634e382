"""The version of the package, and those that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

__version__ = "0.1.0"

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "huggingface-hub", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Python's and the main packages' versions, by name."""
    own = {"hf-unlearnable": __version__, "python": platform.python_version()}
    return {**own, **{name: version(name) for name in PACKAGES}}
