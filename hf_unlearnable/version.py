"""The version of the package, and those that a result depends on."""

from __future__ import annotations

import platform
from functools import cache

__version__ = "0.1.0"

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "huggingface-hub", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Python's and the main packages' versions, by name."""
    own = {"hf-unlearnable": __version__, "python": platform.python_version()}
    return {**own, **{name: _installed(name) for name in PACKAGES}}


@cache
def _installed(package: str) -> str:
    """Its version, asked for once: reading what is known of a package takes long, and every victim wants to know."""
    from importlib.metadata import version  # here: it takes longer to import than all that --help needs of ours

    return version(package)
