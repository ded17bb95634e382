"""Training a classifier, in one process or several."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.training.run import Training

__all__ = [
    "Training",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Training": "run",
    },
)
