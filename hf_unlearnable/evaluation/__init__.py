"""How well a protection works: victims, reports, callbacks."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.evaluation.callbacks import LearnabilityCallback, StopWhenLearned
    from hf_unlearnable.evaluation.protocol import learnability
    from hf_unlearnable.evaluation.report import Report
    from hf_unlearnable.evaluation.results import Result
    from hf_unlearnable.evaluation.theory import Theory
    from hf_unlearnable.evaluation.thieves import Thief, thieves_of_suite
    from hf_unlearnable.evaluation.verdicts import Verdict, best_thief

__all__ = [
    "LearnabilityCallback",
    "Report",
    "Result",
    "StopWhenLearned",
    "Theory",
    "Thief",
    "Verdict",
    "best_thief",
    "learnability",
    "thieves_of_suite",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "LearnabilityCallback": "callbacks",
        "Report": "report",
        "Result": "results",
        "StopWhenLearned": "callbacks",
        "Theory": "theory",
        "Thief": "thieves",
        "Verdict": "verdicts",
        "best_thief": "verdicts",
        "learnability": "protocol",
        "thieves_of_suite": "thieves",
    },
)
