"""Make image datasets unlearnable: ``dataset.map(protect)``.

    from hf_unlearnable import MIUE, Budget, learnability

    protect = MIUE(seed=0).fit(data, budget=Budget(8))
    protected = data.map(protect)
    print(learnability(protected, clean=data, test=test))

Names are imported when they are first used, so that importing the package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.errors import (
        BudgetError,
        DataError,
        DataWarning,
        DivergenceError,
        OutputError,
        RecipeError,
        SourceError,
        UnlearnableError,
        UnseenImageError,
    )
    from hf_unlearnable.measurement import Report, learnability
    from hf_unlearnable.methods import EM, MIUE, Method, available_methods, get_method
    from hf_unlearnable.protection import Protection
    from hf_unlearnable.surrogate import Surrogate
    from hf_unlearnable.training import Training
    from hf_unlearnable.verification import Verification

__version__ = "0.1.0"

_HOME = {
    "Budget": "budget",
    "BudgetError": "errors",
    "DataError": "errors",
    "DataWarning": "errors",
    "DivergenceError": "errors",
    "EM": "methods",
    "MIUE": "methods",
    "Method": "methods",
    "OutputError": "errors",
    "Protection": "protection",
    "RecipeError": "errors",
    "Report": "measurement",
    "SourceError": "errors",
    "Surrogate": "surrogate",
    "Training": "training",
    "UnlearnableError": "errors",
    "UnseenImageError": "errors",
    "Verification": "verification",
    "available_methods": "methods",
    "get_method": "methods",
    "learnability": "measurement",
}

__all__ = [
    "EM",
    "MIUE",
    "Budget",
    "BudgetError",
    "DataError",
    "DataWarning",
    "DivergenceError",
    "Method",
    "OutputError",
    "Protection",
    "RecipeError",
    "Report",
    "SourceError",
    "Surrogate",
    "Training",
    "UnlearnableError",
    "UnseenImageError",
    "Verification",
    "available_methods",
    "get_method",
    "learnability",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
