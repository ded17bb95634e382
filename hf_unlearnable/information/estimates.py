"""What a fit says about the Bayes error of its result: estimates and a bound, each called what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from hf_unlearnable.information.posterior import bandwidth, kernel_posterior

CONFIDENCE = 0.95

MIXTURE = (
    "the Bayes error is concave: for every classifier h and share s of protected images, (1 - s) * error of h on clean "
    "images + s * error of h on protected ones >= Bayes error of the mixture. A bound on the sum, not on clean images "
    "alone; and the Bayes error itself is only estimated here"
)


def bayes_error_estimates(
    labels: NDArray[np.int64],
    features: Mapping[str, tuple[torch.Tensor, ...]],
    sigmas: Mapping[str, float | None],
    *,
    kernel: str,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The estimated Bayes error (``1 - max p`` of the other rows' votes) before and after, in several embeddings.

    Args:
        labels: (N,).
        features: name of an embedding -> features (N, D) of the clean and of the protected images.
        sigmas: name -> of the kernel; chosen on the clean images when None.
        kernel: see ``bayes_error``.
        seed: of the halves of the mixture and of the bootstrap.

    Returns:
        For each embedding its name, sigma, and the estimates ``clean``, ``protected`` (with ``interval``, a percentile
        bootstrap over rows at 95 %) and ``mixture``, where a random half of the rows is protected.
    """
    results = []
    for name, (before, after) in features.items():
        classes = torch.from_numpy(labels).to(before.device)
        half = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)) < len(labels) // 2)
        half = half.to(before.device)
        sigma = sigmas[name] or bandwidth(before, classes, kernel=kernel)

        def errors(
            features: torch.Tensor, sigma: float = sigma, classes: torch.Tensor = classes
        ) -> NDArray[np.float64]:
            posterior = kernel_posterior(features, classes, kernel=kernel, sigma=sigma)
            return (1 - posterior.amax(dim=1)).double().cpu().numpy()

        of_protected = errors(after)
        interval = bootstrap(
            (of_protected,),
            np.mean,
            confidence_level=CONFIDENCE,
            n_resamples=1000,
            batch=100,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        results.append(
            {
                "embedding": name,
                "sigma": sigma,
                "clean": float(errors(before).mean()),
                "protected": float(of_protected.mean()),
                "interval": [float(interval.low), float(interval.high)],
                "mixture": float(errors(torch.where(half[:, None], after, before)).mean()),
            }
        )
    return results


def error_upper_bound(error: float, count: int) -> dict[str, Any]:
    """An upper bound on the Bayes error of what some images are a sample of, from a classifier that never saw them.

    No classifier is better than the Bayes classifier; by Hoeffding's inequality the true error of this one is at most
    ``error + sqrt(log(1 / (1 - confidence)) / (2 n))`` with that confidence.

    Args:
        error: share of n held-out images, in [0, 1], that a classifier names wrong which was trained on others.
        count: n.
    """
    bound = error + math.sqrt(math.log(1 / (1 - CONFIDENCE)) / (2 * count))
    return {"error": error, "images": count, "confidence": CONFIDENCE, "upper_bound": min(1.0, bound)}
