"""The metrics, in the layout of ``evaluate``: each folder is a Space as it stands.

A folder holds ``<name>.py`` (the module, with its documentation and doctests), ``README.md`` (the card), ``app.py`` and
``requirements.txt``.
"""

from __future__ import annotations

from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.lazy import require_extra

if TYPE_CHECKING:
    from evaluate import EvaluationModule

FOLDER = Path(__file__).parent


def available_metrics() -> list[str]:
    """The names that ``load_metric`` takes."""
    return sorted(file.stem for file in FOLDER.glob("*/*.py") if file.stem == file.parent.name)


def load_metric(name: str, **options: Any) -> EvaluationModule:
    """Load one of this package's metrics, without a network.

    ``evaluate.load(name)`` would look for a bare name on the Hub and run what it finds there. The result is an ordinary
    ``evaluate`` module: ``compute``, ``add_batch``, ``evaluate.combine([load_metric(...), ...])``.

    Args:
        name: one of ``available_metrics()``.
        options: what the module takes (see its documentation) or every ``evaluate`` module (``experiment_id``, ...).

    Raises:
        RecipeError: no such metric, or an option that nobody reads.
        MissingExtraError: ``evaluate`` is not installed.
    """
    if name not in available_metrics():
        raise RecipeError(f"got the metric {name!r}; expected one of {', '.join(available_metrics())}")
    require_extra("evaluate", f"the metric {name}")
    module = import_module(f"{__name__}.{name}.{name}")
    kind: type[EvaluationModule] = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    taken = _options_of(kind)
    if unknown := [option for option in options if option not in taken]:
        raise RecipeError(
            f"got the option {unknown[0]!r} of the metric {name!r}, which nobody reads; expected one of "
            f"{', '.join(taken)}"
        )
    return kind(**options)


def _options_of(kind: type) -> list[str]:
    """What a class and its bases take by name; the bases take anything else without a word."""
    named = (signature(vars(base)["__init__"]).parameters.values() for base in kind.__mro__ if "__init__" in vars(base))
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return list(dict.fromkeys(one.name for some in named for one in some if one.kind in kinds and one.name != "self"))
