"""What a fit says about the Bayes error of its result: estimates and a bound, each called what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from hf_unlearnable.images import ImageSet
from hf_unlearnable.information import bandwidth, kernel_posterior
from hf_unlearnable.surrogate import Network
from hf_unlearnable.training import accuracy, embed

CONFIDENCE = 0.95
MIXTURE = (
    "the Bayes error is concave: for every classifier h and share s of protected images, (1 - s) * error of h on clean "
    "images + s * error of h on protected ones >= Bayes error of the mixture. A bound on the sum, not on clean images "
    "alone; and the Bayes error itself is only estimated here"
)


def bayes_error_estimates(
    clean: ImageSet,
    protected: ImageSet,
    embeddings: Mapping[str, tuple[Network, float | None]],
    *,
    kernel: str,
    device: torch.device,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The estimated Bayes error (``1 - max p`` of the other rows' votes) before and after, in several embeddings.

    Args:
        clean: N images.
        protected: the same, protected.
        embeddings: name -> network and sigma of the kernel (chosen on the clean images when None).
        kernel: see ``bayes_error``.
        device: of the networks.
        seed: of the halves of the mixture and of the bootstrap.

    Returns:
        For each embedding its name, sigma, and the estimates ``clean``, ``protected`` (with ``interval``, a percentile
        bootstrap over rows at 95 %) and ``mixture``, where a random half of the rows is protected.
    """
    labels = torch.from_numpy(clean.labels).to(device)
    half = torch.from_numpy(np.random.default_rng(seed).permutation(len(clean)) < len(clean) // 2).to(device)
    results = []
    for name, (network, given) in embeddings.items():
        before, after = (embed(network, images, device) for images in (clean, protected))
        sigma = given or bandwidth(before, labels, kernel=kernel)

        def errors(features: torch.Tensor, sigma: float = sigma) -> NDArray[np.float64]:
            posterior = kernel_posterior(features, labels, kernel=kernel, sigma=sigma)
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


def error_upper_bound(network: Network, images: ImageSet, device: torch.device) -> dict[str, Any]:
    """An upper bound on the Bayes error of what ``images`` are a sample of, from a classifier that never saw them.

    No classifier is better than the Bayes classifier; by Hoeffding's inequality the true error of this one is at most
    ``error + sqrt(log(1 / (1 - confidence)) / (2 n))`` with that confidence.

    Args:
        network: trained on other images.
        images: n held-out ones.
        device: of the network.
    """
    error = 1 - accuracy(network, images, device)
    bound = error + math.sqrt(math.log(1 / (1 - CONFIDENCE)) / (2 * len(images)))
    return {"error": error, "images": len(images), "confidence": CONFIDENCE, "upper_bound": min(1.0, bound)}


def describe(findings: Mapping[str, Any]) -> str:
    """The findings of a fit in words; empty if it has none."""
    lines = []
    if guides := findings.get("guides"):
        verdict = "they guide" if guides["used"] else f"no guides, expected {guides['expected']:.0%}"
        lines.append(f"Small models of the clean images name {guides['accuracy']:.0%} of them right: {verdict}")
    about = findings.get("bayes_error")
    if about is None:
        return "\n".join(lines)
    lines += ["Estimated Bayes error (an estimate in one embedding, no bound on what a model can learn):"]
    for one in about["estimates"]:
        low, high = one["interval"]
        lines.append(
            f"  in {one['embedding']}, sigma {one['sigma']:.3g}: clean {one['clean']:.3f}, "
            f"protected {one['protected']:.3f} ({low:.3f} to {high:.3f}), half and half {one['mixture']:.3f}"
        )
    bound = about["upper_bound"]
    lines.append(
        f"  at most {bound['upper_bound']:.3f} on protected images (confidence {bound['confidence']:.0%}), since a "
        f"classifier trained on half of them errs on {bound['error']:.3f} of the other {bound['images']}"
    )
    return "\n".join(lines)
