"""How much a model trained on protected images knows about clean ones."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np

from hf_unlearnable.data.image_set import chance_of
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.evaluation.scores import class_accuracies, confusion, protection_score
from hf_unlearnable.metrics.inputs import OfClasses

_DESCRIPTION = """
The accuracy, on clean test images, of a model that was trained on protected ones, and what that says about the
protection: the protection score is (baseline - accuracy) / (baseline - chance), 1 when the protected images taught
nothing and 0 when they taught as much as the clean ones.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of int): classes that the model names for clean test images.
    references (list of int): their true classes.
    baseline (float, optional): clean test accuracy of the same training on clean images, in [0, 1]. Left out, there is
        no protection score. May also be given when the module is loaded.
    chance (float, optional): accuracy of knowing nothing, in [0, 1]; the share of the most frequent class in the
        references when left out. May also be given when the module is loaded.

Returns:
    clean_accuracy (float): share of predictions that are right, in [0, 1].
    balanced_accuracy (float): mean of the accuracies of the classes, in [0, 1].
    worst_class_accuracy (float): of the class whose images are protected best.
    best_class_accuracy (float): of the class whose images are protected least.
    chance (float): as given or computed.
    protection_score (float): only with a baseline that guessing reaches on so few images once in 40 times at most.

Examples:
    >>> from hf_unlearnable import load_metric
    >>> learnability = load_metric("learnability")
    >>> results = learnability.compute(predictions=[0, 1, 1, 1] * 5, references=[0, 0, 1, 2] * 5, baseline=0.9)
    >>> results["clean_accuracy"], results["chance"], round(results["protection_score"], 3)
    (0.5, 0.5, 1.0)
    >>> results["worst_class_accuracy"], results["best_class_accuracy"], results["balanced_accuracy"]
    (0.0, 1.0, 0.5)

    Too few images to say anything, since guessing gets as far:

    >>> "protection_score" in learnability.compute(predictions=[0, 1, 1, 1], references=[0, 0, 1, 2], baseline=0.9)
    False

    In a Trainer, with the baseline fixed once:

    >>> learnability = load_metric("learnability", baseline=0.9, chance=0.1)
    >>> def compute_metrics(p):
    ...     return learnability.compute(predictions=p.predictions.argmax(-1), references=p.label_ids)
    >>> from transformers import EvalPrediction
    >>> import numpy as np
    >>> results = compute_metrics(EvalPrediction(np.array([[2.0, 1.0], [3.0, 1.0]]), np.array([0, 1])))
    >>> round(results["protection_score"], 3)
    0.5
"""

_CITATION = """
@article{zhu2026unlearnable,
  title = {Why Do Unlearnable Examples Work: A Novel Perspective of Mutual Information},
  author = {Zhu, Yifan and Miao, Yibo and Dong, Yinpeng and Gao, Xiao-Shan},
  journal = {arXiv preprint arXiv:2603.03725},
  year = {2026}
}
"""


def _check_accuracies(**given: Any) -> None:
    for name, value in given.items():
        if value is not None and not (isinstance(value, (int, float, np.number)) and 0 <= value <= 1):
            raise RecipeError(f"got {name}={value!r}; expected an accuracy in [0, 1]")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Learnability(OfClasses, evaluate.Metric):
    """Clean test accuracy and protection score."""

    def __init__(self, *args: Any, baseline: float | None = None, chance: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _check_accuracies(baseline=baseline, chance=chance)  # at once, and not after the first epoch of a training
        self.baseline = baseline
        self.chance = chance

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(
        self, predictions: Any, references: Any, baseline: float | None = None, chance: float | None = None
    ) -> dict[str, float]:
        baseline = self.baseline if baseline is None else baseline
        chance = self.chance if chance is None else chance
        _check_accuracies(baseline=baseline, chance=chance)
        counts = confusion(predictions, references)
        shares = class_accuracies(counts)
        chance = chance_of(counts.sum(axis=1)) if chance is None else chance
        accuracy = float(counts.trace() / counts.sum())
        results = {
            "clean_accuracy": accuracy,
            "balanced_accuracy": float(np.nanmean(shares)),
            "worst_class_accuracy": float(np.nanmin(shares)),
            "best_class_accuracy": float(np.nanmax(shares)),
            "chance": chance,
        }
        if baseline is not None:
            score = protection_score(accuracy, baseline, chance, int(counts.sum()))
            results |= {"protection_score": score} if math.isfinite(score) else {}
        return results
