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
    from hf_unlearnable.callbacks import LearnabilityCallback, StopWhenLearned
    from hf_unlearnable.defences import Defence, available_defences
    from hf_unlearnable.errors import (
        AccessError,
        BudgetError,
        CheckpointError,
        DataError,
        DataWarning,
        DivergenceError,
        HubError,
        OutputError,
        PrivacyError,
        RecipeError,
        SourceError,
        UnlearnableError,
        UnseenImageError,
    )
    from hf_unlearnable.hub import pull, push, verify
    from hf_unlearnable.hub_model import push_model
    from hf_unlearnable.measurement import learnability
    from hf_unlearnable.methods import BEO, EM, MIUE, Method, available_methods, get_method
    from hf_unlearnable.metrics import available_metrics, load_metric
    from hf_unlearnable.protection import Protection
    from hf_unlearnable.results import Report
    from hf_unlearnable.surrogate import Surrogate
    from hf_unlearnable.training import Training
    from hf_unlearnable.verification import Verification

__version__ = "0.1.0"

_HOME = {
    "AccessError": "errors",
    "BEO": "methods",
    "Budget": "budget",
    "BudgetError": "errors",
    "CheckpointError": "errors",
    "DataError": "errors",
    "DataWarning": "errors",
    "Defence": "defences",
    "DivergenceError": "errors",
    "EM": "methods",
    "HubError": "errors",
    "LearnabilityCallback": "callbacks",
    "MIUE": "methods",
    "Method": "methods",
    "OutputError": "errors",
    "PrivacyError": "errors",
    "Protection": "protection",
    "RecipeError": "errors",
    "Report": "results",
    "SourceError": "errors",
    "StopWhenLearned": "callbacks",
    "Surrogate": "surrogate",
    "Training": "training",
    "UnlearnableError": "errors",
    "UnseenImageError": "errors",
    "Verification": "verification",
    "available_defences": "defences",
    "available_methods": "methods",
    "available_metrics": "metrics",
    "get_method": "methods",
    "learnability": "measurement",
    "load_metric": "metrics",
    "pull": "hub",
    "push": "hub",
    "push_model": "hub_model",
    "verify": "hub",
}

__all__ = [
    "BEO",
    "EM",
    "MIUE",
    "AccessError",
    "Budget",
    "BudgetError",
    "CheckpointError",
    "DataError",
    "DataWarning",
    "Defence",
    "DivergenceError",
    "HubError",
    "LearnabilityCallback",
    "Method",
    "OutputError",
    "PrivacyError",
    "Protection",
    "RecipeError",
    "Report",
    "SourceError",
    "StopWhenLearned",
    "Surrogate",
    "Training",
    "UnlearnableError",
    "UnseenImageError",
    "Verification",
    "available_defences",
    "available_methods",
    "available_metrics",
    "get_method",
    "learnability",
    "load_metric",
    "pull",
    "push",
    "push_model",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
