"""What ``fit`` returns, and what is private in it."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.protection.protection import Protection
    from hf_unlearnable.protection.verification import Verification

__all__ = [
    "Protection",
    "Verification",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Protection": "protection",
        "Verification": "verification",
    },
)
