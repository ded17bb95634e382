"""How well a protection works: victims, reports, callbacks."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.evaluation.callbacks import LearnabilityCallback, StopWhenLearned
    from hf_unlearnable.evaluation.protocol import learnability
    from hf_unlearnable.evaluation.report import Report, Result

__all__ = [
    "LearnabilityCallback",
    "Report",
    "Result",
    "StopWhenLearned",
    "learnability",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "LearnabilityCallback": "callbacks",
        "Report": "report",
        "Result": "report",
        "StopWhenLearned": "callbacks",
        "learnability": "protocol",
    },
)
