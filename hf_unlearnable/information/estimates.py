"""What a fit says about the Bayes error of its result: estimates, and a bound with what it assumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.information.posterior import bandwidth, kernel_posterior

CONFIDENCE = 0.95

SEED = 0  # of the halves of the mixture and of the bootstrap

MIXTURE = (
    "the Bayes error is concave: for every classifier h and share s of protected images, (1 - s) * error of h on clean "
    "images + s * error of h on protected ones >= Bayes error of the mixture. A bound on the sum, not on clean images "
    "alone; and the Bayes error itself is only estimated here"
)

INDEPENDENCE = (
    "the held-out images are independent draws from one distribution, given the classifier. Images that were perturbed "
    "jointly with those that it learned from are not: for them error is a fact, and upper_bound is none"
)


def bayes_error_estimates(
    labels: NDArray[np.int64],
    features: Mapping[str, tuple[torch.Tensor, ...]],
    sigmas: Mapping[str, float | None],
    *,
    kernel: str,
) -> list[dict[str, Any]]:
    """The estimated Bayes error (``1 - max p`` of the other rows' votes) before and after, in several embeddings.

    Args:
        labels: (N,).
        features: name of an embedding -> features (N, D) of the clean and of the protected images.
        sigmas: name -> of the kernel; chosen on the clean images when None.
        kernel: see ``bayes_error``.

    Returns:
        For each embedding its name, sigma, and the estimates ``clean``, ``protected`` (with ``interval``, a percentile
        bootstrap over rows at 95 %) and ``mixture``, where a random half of the rows is protected.
    """
    from scipy.stats import bootstrap  # here, so that a command that needs none of it starts quickly

    results = []
    for name, (before, after) in features.items():
        classes = torch.from_numpy(labels).to(before.device)
        half = torch.from_numpy(np.random.default_rng(SEED).permutation(len(labels)) < len(labels) // 2)
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
            rng=np.random.default_rng(SEED),
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
    """What the error of one classifier on held-out images says of the Bayes error where these come from.

    No classifier is better than the Bayes classifier; by Hoeffding's inequality the true error of this one is at most
    ``error + sqrt(log(1 / (1 - confidence)) / (2 n))`` with that confidence. It takes images that are independent draws
    from one distribution once the classifier is given. So it holds for clean images that the classifier did not learn
    from, and for such images that were perturbed by a rule from elsewhere, as by the class patterns of another set.

    It does NOT hold for a part held out of images that were perturbed jointly. Each perturbation depends on all images,
    on those that the classifier learned from too, which may thus know what the set shares and a fresh image would not
    have: where every set draws a pattern of its own for each class, a classifier of one half names all of the other
    half, however large the Bayes error over sets is. No inequality for independent draws mends that. What holds without
    any assumption is ``error`` itself: a fact about one classifier on these n images.

    Args:
        error: share of n held-out images, in [0, 1], that a classifier names wrong which was trained on others.
        count: n.

    Returns:
        ``error``, ``images``, and ``upper_bound`` with its ``confidence`` and what it ``assumes``.
    """
    bound = error + math.sqrt(math.log(1 / (1 - CONFIDENCE)) / (2 * count))
    return {
        "error": error,
        "images": count,
        "confidence": CONFIDENCE,
        "upper_bound": min(1.0, bound),
        "assumes": INDEPENDENCE,
    }
