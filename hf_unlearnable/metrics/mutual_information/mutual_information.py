"""What the features of poisoned images still say about those of the clean ones."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.information.mutual_information import (
    histogram_mutual_information,
    intra_class_cosine,
    intra_class_covariance,
    ksg_mutual_information,
    variational_mutual_information,
)

_DESCRIPTION = """
Mutual information, in nats, between the features of clean images and those of their poisoned versions, which
effective unlearnable examples lower, and the two quantities that the theory of MI-UE ties it to: how much of the
variance of the poisoned features is left within classes, and how alike they are there. No estimator is right in many
dimensions: compare values of one estimator, at one number of images, between data sets.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of list of float): features of the poisoned images.
    references (list of list of float): features of the clean images, in the same order.
    estimators (list of str, optional): some of "histogram" (the default: mean over coordinates, by counting, at most
        log(bins)), "ksg" (joint, by nearest neighbours, for few dimensions) and "variational" (joint, a lower bound by
        a critic that is trained here, at most log(256)).
    labels (list of int, optional): classes; with them the two within-class figures are given too.
    bins (int): of the histogram estimator, 16 by default.
    neighbours (int): of the KSG estimator, 3 by default.
    components (int, optional): principal components that the KSG estimator reduces either set to.
    steps (int): of the training of the variational estimator, 500 by default.
    seed (int): of the KSG and the variational estimator, 0 by default.

Returns:
    mutual_information_histogram, mutual_information_ksg, mutual_information_variational (float): those asked for.
    intra_class_covariance (float): tr E_y Cov(z | y) / tr Cov(z) of the poisoned features, in [0, 1].
    intra_class_cosine (float): mean cosine of pairs of poisoned features of one class, in [-1, 1].

Examples:
    >>> import numpy as np
    >>> from hf_unlearnable import load_metric
    >>> mutual_information = load_metric("mutual_information")
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.standard_normal((500, 2))
    >>> noisy = 0.6 * clean + 0.8 * rng.standard_normal((500, 2))
    >>> results = mutual_information.compute(predictions=noisy, references=clean, estimators=["ksg"])
    >>> truth = -np.log(1 - 0.6**2)  # two coordinates, each with -1/2 log(1 - 0.6^2)
    >>> bool(abs(results["mutual_information_ksg"] - truth) < 0.1)
    True
    >>> results = mutual_information.compute(predictions=[[1.0], [1.0], [2.0], [2.0]],
    ...     references=[[0.0], [0.0], [1.0], [1.0]], labels=[0, 0, 1, 1])
    >>> {name: round(value, 3) for name, value in results.items()}
    {'mutual_information_histogram': 0.693, 'intra_class_covariance': 0.0, 'intra_class_cosine': 1.0}
"""

_CITATION = """
@article{zhu2026unlearnable,
  title = {Why Do Unlearnable Examples Work: A Novel Perspective of Mutual Information},
  author = {Zhu, Yifan and Miao, Yibo and Dong, Yinpeng and Gao, Xiao-Shan},
  journal = {arXiv preprint arXiv:2603.03725},
  year = {2026}
}
@article{kraskov2004estimating,
  title = {Estimating mutual information},
  author = {Kraskov, Alexander and St{\\"o}gbauer, Harald and Grassberger, Peter},
  journal = {Physical Review E},
  volume = {69},
  year = {2004}
}
@inproceedings{poole2019variational,
  title = {On Variational Bounds of Mutual Information},
  author = {Poole, Ben and Ozair, Sherjil and van den Oord, Aaron and Alemi, Alexander A. and Tucker, George},
  booktitle = {International Conference on Machine Learning},
  year = {2019}
}
"""

ESTIMATORS = ("histogram", "ksg", "variational")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MutualInformation(evaluate.Metric):
    """Mutual information of clean and poisoned features."""

    def _info(self) -> evaluate.MetricInfo:
        feature = datasets.List(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": feature, "references": feature}),
        )

    def _compute(
        self,
        predictions: Any,
        references: Any,
        estimators: Any = ("histogram",),
        labels: Any = None,
        bins: int = 16,
        neighbours: int = 3,
        components: int | None = None,
        steps: int = 500,
        seed: int = 0,
    ) -> dict[str, float]:
        listed = isinstance(estimators, (list, tuple, set, np.ndarray)) and set(estimators) <= set(ESTIMATORS)
        if not listed or (not len(estimators) and labels is None):
            raise RecipeError(f"got the estimators {estimators!r}; expected a list of some of {', '.join(ESTIMATORS)}")
        results = {}
        if "histogram" in estimators:
            results["mutual_information_histogram"] = histogram_mutual_information(references, predictions, bins=bins)
        if "ksg" in estimators:
            results["mutual_information_ksg"] = ksg_mutual_information(
                references, predictions, neighbours=neighbours, components=components, seed=seed
            )
        if "variational" in estimators:
            results["mutual_information_variational"] = variational_mutual_information(
                references, predictions, steps=steps, seed=seed
            )
        if labels is not None:
            results["intra_class_covariance"] = intra_class_covariance(predictions, labels)
            results["intra_class_cosine"] = intra_class_cosine(predictions, labels)
        return results
