"""How much of the classes the features leave undecided."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from hf_unlearnable.errors import DataError
from hf_unlearnable.information.posterior import bandwidth, bayes_error

_DESCRIPTION = """
The Bayes error of a labelled sample, estimated from its features: each row is told its class by the votes of its
neighbours, weighted by a kernel, and the error is the mean of 1 - max_c p(c | row). It is an estimate in this embedding
with this bandwidth, and no bound on the error of any classifier.
"""

_KWARGS_DESCRIPTION = """
Args:
    features (list of list of float): what an embedding makes of the images.
    labels (list of int): their classes.
    kernel (str): "rbf" (default), "cosine" or "logistic".
    sigma (float, optional): bandwidth in units of the features; chosen so that the labels are most likely, each
        predicted by the others, when left out.
    objective (str): "max" (default): 1 - max_c p_c; "label": 1 - p_y; "log-label": -log p_y; "entropy".
    reference_features (list of list of float, optional): held-out rows that vote instead of the sample's own, such as
        those of clean images.
    reference_labels (list of int, optional): their classes.
    self_index (list of int, optional): which row of the reference is the row itself and has no vote, -1 for none;
        twins, its former name, is taken too.

Returns:
    bayes_error (float): in [0, 1 - 1/K] for the objective "max".
    sigma (float): the bandwidth that was used.

Examples:
    >>> import numpy as np
    >>> from hf_unlearnable import load_metric
    >>> bayes_error = load_metric("bayes_error")
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(2000) % 2
    >>> features = rng.standard_normal((2000, 1)) + 2 * labels[:, None]  # two Gaussians, two deviations apart
    >>> results = bayes_error.compute(features=features, labels=labels)
    >>> bool(abs(results["bayes_error"] - 0.1587) < 0.02)  # Phi(-1)
    True
    >>> clean = [[0.0], [0.1], [0.2], [1.0], [1.1], [1.2]]  # held-out rows vote on two others
    >>> results = bayes_error.compute(features=[[0.1], [1.1]], labels=[0, 1], sigma=0.1,
    ...     reference_features=clean, reference_labels=[0, 0, 0, 1, 1, 1])
    >>> round(results["bayes_error"], 6), results["sigma"]
    (0.0, 0.1)
"""

_CITATION = """
@article{zhang2025provably,
  title = {Towards Provably Unlearnable Examples via Bayes Error Optimisation},
  author = {Zhang, Ruihan and Sun, Jun and Lim, Ee-Peng and Zhang, Peixin},
  journal = {arXiv preprint arXiv:2511.08191},
  year = {2025}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class BayesError(evaluate.Metric):
    """The kernel estimate of the Bayes error in an embedding."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"features": datasets.List(datasets.Value("float32")), "labels": datasets.Value("int64")}
            ),
        )

    def _compute(
        self,
        features: Any,
        labels: Any,
        kernel: str = "rbf",
        sigma: float | None = None,
        objective: str = "max",
        reference_features: Any = None,
        reference_labels: Any = None,
        self_index: Any = None,
        twins: Any = None,
    ) -> dict[str, float]:
        self_index = twins if self_index is None else self_index
        if (reference_features is None) != (reference_labels is None) or (self_index and reference_features is None):
            raise DataError("got a part of a reference; expected reference_features and reference_labels together")
        rows, classes = _rows(features), torch.as_tensor(np.asarray(labels))
        reference = None
        if reference_features is not None:
            reference = (_rows(reference_features), torch.as_tensor(np.asarray(reference_labels)))
        own = None if self_index is None else torch.as_tensor(np.asarray(self_index))
        if sigma is None:
            sigma = bandwidth(rows, classes, kernel=kernel, reference=reference, self_index=own)
        value = bayes_error(
            rows, classes, kernel=kernel, sigma=sigma, objective=objective, reference=reference, self_index=own
        )
        return {"bayes_error": float(value), "sigma": float(sigma)}


def _rows(features: Any) -> torch.Tensor:
    array = np.asarray(features, dtype=np.float32)
    if array.ndim != 2:
        raise DataError(f"got features of shape {array.shape}; expected (N, D), one row for each image")
    return torch.from_numpy(array)
