"""How much of the classes the features leave undecided."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from hf_unlearnable.errors import DataError, RecipeError, first_line, option
from hf_unlearnable.evaluation.scores import MOST_CLASSES
from hf_unlearnable.information.posterior import bandwidth, bayes_error
from hf_unlearnable.metrics.inputs import OfClasses

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
class BayesError(OfClasses, evaluate.Metric):
    """The kernel estimate of the Bayes error in an embedding."""

    classes = ("labels",)

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
        given = reference_features is not None, reference_labels is not None
        if given[0] != given[1] or (self_index is not None and not given[0]):
            raise DataError("got a part of a reference; expected reference_features and reference_labels together")
        if sigma is not None and not (isinstance(sigma, (int, float, np.number)) and 0 < sigma < math.inf):
            raise RecipeError(f"got {option('sigma', sigma)}; expected a number above zero, in units of the features")
        rows = _rows("features", features)
        classes = _numbers("labels", labels, len(rows))
        reference = own = None
        if given[0]:
            voters = _rows("reference_features", reference_features, rows.shape[1])
            reference = (voters, _numbers("reference_labels", reference_labels, len(voters)))
            own = None if self_index is None else _numbers("self_index", self_index, len(rows), -1, len(voters) - 1)
        options: dict[str, Any] = {"kernel": kernel, "reference": reference, "self_index": own}
        chosen = sigma is None
        if sigma is None:
            sigma = bandwidth(rows, classes, **options)
        value = (
            bayes_error(rows, classes, sigma=sigma, objective=objective, **options) if sigma < math.inf else math.nan
        )
        if not math.isfinite(value) and not chosen:
            raise DataError(
                f"got {option('sigma', sigma)}, by which the distances of these features leave the numbers of 32 bits; "
                f"expected another one. Left out, it is chosen"
            )
        if not math.isfinite(value):
            raise DataError(
                f"got features of up to {float(rows.abs().max()):.3g}, whose distances leave the numbers of 32 bits; "
                f"expected smaller ones. Divide them by their largest"
            )
        return {"bayes_error": float(value), "sigma": float(sigma)}


def _rows(name: str, features: Any, width: int | None = None) -> torch.Tensor:
    try:
        array = np.asarray(features, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"got {name} that are no table of numbers ({first_line(error)}); expected (N, D)") from error
    if array.ndim != 2 or not array.size or array.shape[1] != (width or array.shape[1]):
        expected = f"(N, {width or 'D'}), one row for each image"
        raise DataError(f"got {name} of shape {array.shape}; expected {expected}")
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0][0]
        raise DataError(f"got {name} that are not finite in row {row}; expected finite numbers in all rows")
    return torch.from_numpy(array)


def _numbers(name: str, values: Any, count: int, least: int = 0, most: int = MOST_CLASSES) -> torch.Tensor:
    """Whole numbers, one for each of ``count`` rows."""
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype.kind not in "iu" or array.min() < least or array.max() > most:
        held = f" from {array.min()} to {array.max()}" if array.size and array.dtype.kind in "iuf" else ""
        raise DataError(
            f"got {name} as {array.dtype} {array.shape}{held}; expected {count} whole numbers from {least} to "
            f"{most:,}, one for each row"
        )
    return torch.from_numpy(array.astype(np.int64))
