"""Make image datasets unlearnable: ``dataset.map(protect)``.

    from hf_unlearnable import MIUE, Budget, learnability

    protect = MIUE(seed=0).fit(data, budget=Budget(8))
    protected = data.map(protect)
    print(learnability(protected, clean=data, test=test))

Names are imported when they are first used, so that importing the package loads no torch.
"""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names
from hf_unlearnable.version import __version__

if TYPE_CHECKING:
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.defences import Defence, available_defences
    from hf_unlearnable.errors import (
        AccessError,
        BudgetError,
        CheckpointError,
        DataError,
        DataWarning,
        DivergenceError,
        HubError,
        MissingExtraError,
        OutputError,
        PluginError,
        PrivacyError,
        RecipeError,
        SourceError,
        UnlearnableError,
        UnseenImageError,
    )
    from hf_unlearnable.evaluation.callbacks import LearnabilityCallback, StopWhenLearned
    from hf_unlearnable.evaluation.protocol import learnability
    from hf_unlearnable.evaluation.report import Report
    from hf_unlearnable.hub.download import pull, verify
    from hf_unlearnable.hub.publish import push
    from hf_unlearnable.hub.publish_model import push_model
    from hf_unlearnable.methods import BEO, EM, MIUE, Auto, Method, Texture, available_methods, get_method
    from hf_unlearnable.metrics import available_metrics, load_metric
    from hf_unlearnable.models.built_in import available_victims, register_victim
    from hf_unlearnable.models.surrogate import Surrogate
    from hf_unlearnable.protection.protection import Protection
    from hf_unlearnable.protection.verification import Verification
    from hf_unlearnable.registry import load_plugin
    from hf_unlearnable.reports.run_report import write_report
    from hf_unlearnable.training.run import Training

__all__ = [
    "BEO",
    "EM",
    "MIUE",
    "AccessError",
    "Auto",
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
    "MissingExtraError",
    "OutputError",
    "PluginError",
    "PrivacyError",
    "Protection",
    "RecipeError",
    "Report",
    "SourceError",
    "StopWhenLearned",
    "Surrogate",
    "Texture",
    "Training",
    "UnlearnableError",
    "UnseenImageError",
    "Verification",
    "__version__",
    "available_defences",
    "available_methods",
    "available_metrics",
    "available_victims",
    "get_method",
    "learnability",
    "load_metric",
    "load_plugin",
    "pull",
    "push",
    "push_model",
    "register_victim",
    "verify",
    "write_report",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AccessError": "errors",
        "Auto": "methods",
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
        "LearnabilityCallback": "evaluation",
        "MIUE": "methods",
        "Method": "methods",
        "MissingExtraError": "errors",
        "OutputError": "errors",
        "PluginError": "errors",
        "PrivacyError": "errors",
        "Protection": "protection",
        "RecipeError": "errors",
        "Report": "evaluation",
        "SourceError": "errors",
        "StopWhenLearned": "evaluation",
        "Surrogate": "models.surrogate",
        "Texture": "methods",
        "Training": "training",
        "UnlearnableError": "errors",
        "UnseenImageError": "errors",
        "Verification": "protection",
        "available_defences": "defences",
        "available_methods": "methods",
        "available_metrics": "metrics",
        "available_victims": "models.built_in",
        "get_method": "methods",
        "learnability": "evaluation",
        "load_metric": "metrics",
        "load_plugin": "registry",
        "pull": "hub",
        "push": "hub",
        "push_model": "hub",
        "register_victim": "models.built_in",
        "verify": "hub",
        "write_report": "reports.run_report",
    },
)
