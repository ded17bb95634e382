"""What neighbours say of the classes: the kernel posterior, the Bayes error estimated by it, and its bandwidth."""

from __future__ import annotations

import math

import numpy as np
import torch

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.information.kernel import OBJECTIVES, KernelScores, MeanObjective, at_least_float32, references


@torch.no_grad()
def kernel_posterior(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    kernel: str = "rbf",
    sigma: float | None = None,
    reference: tuple[torch.Tensor, torch.Tensor] | None = None,
    self_index: torch.Tensor | None = None,
    num_classes: int | None = None,
) -> torch.Tensor:
    """The class probabilities of every row by the vote of its neighbours, each with the weight of a kernel.

    ``p(c | i) = sum_{j: y_j = c} k(z_i, z_j) / sum_j k(z_i, z_j)`` over the other rows of the set, or over a reference.

    Args:
        features: see ``bayes_error``, like the other arguments.
        labels: see there.
        kernel: see there.
        sigma: see there.
        reference: see there.
        self_index: see there.
        num_classes: K; the highest label plus one when left out.

    Returns:
        (N, K) floats whose rows sum to one.

    Raises:
        RecipeError: an unknown kernel, sigma <= 0, or nobody left to vote.
    """
    sigma = _chosen(features, labels, kernel, sigma, reference, self_index)
    vote = KernelScores.of(features, labels, kernel, sigma, reference, self_index)
    classes = num_classes or int(max(labels.max(), vote.key_labels.max())) + 1
    result = vote.queries.new_empty(len(features), classes)
    for rows, _, mass in vote.blocks(classes):
        result[rows] = mass / mass.sum(dim=1, keepdim=True)
    return result


def bayes_error(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    kernel: str = "rbf",
    sigma: float | None = None,
    objective: str = "max",
    reference: tuple[torch.Tensor, torch.Tensor] | None = None,
    self_index: torch.Tensor | None = None,
    twins: torch.Tensor | None = None,
) -> torch.Tensor:
    """The Bayes error of a labelled sample, estimated by the kernel posterior of its features (BEO, arXiv 2511.08191).

    The mean over rows of a function of ``kernel_posterior``, ``1 - max_c p(c | i)`` by default. It is an estimate in
    this embedding with this bandwidth: no bound on the error of any classifier.

    The gradient is exact: three matrix products of N x M x D (two when only ``features`` need it), in blocks of rows,
    so that memory grows with N + M and not with N x M. Second derivatives are not available.

    Args:
        features: (N, D) floats. Computed in float32, or in float64 if that is what they are.
        labels: (N,) integers.
        kernel: ``"rbf"``: ``exp(-||z_i - z_j||^2 / (2 sigma^2))``; ``"cosine"``: ``exp(cos(z_i, z_j) / sigma)``;
            ``"logistic"``: ``sigmoid(z_i . z_j / sigma)``, which the authors use with sigma 1.
        sigma: > 0, in units of the features; chosen by ``bandwidth`` on the reference (or the set itself) if left out.
        objective: ``"max"``: ``1 - max_c p_c``; ``"label"``: ``1 - p_y`` of the row's own label; ``"log-label"``:
            ``-log p_y``; ``"entropy"``: ``-sum_c p_c log p_c``. The last two are not errors but grow with them.
        reference: features (M, D) and labels (M,) of the rows that vote; the other rows of the set when left out.
        self_index: (N,) integers: which row of the reference is the row itself and has no vote, -1 for none. Without a
            reference it is the row's own place.
        twins: the former name of ``self_index``.

    Returns:
        A differentiable scalar.

    Raises:
        RecipeError: an unknown kernel or objective, sigma <= 0, or nobody left to vote (``"log-label"``: nobody of the
            row's own class).

    Warns:
        RuntimeWarning: sigma so small that the typical row listens to fewer than two neighbours, or so large that
            every row gets about the same answer.
    """
    if objective not in OBJECTIVES:
        raise RecipeError(f"got the objective {objective!r}; expected one of {', '.join(OBJECTIVES)}")
    self_index = twins if self_index is None else self_index
    sigma = _chosen(features, labels, kernel, sigma, reference, self_index)
    vote = KernelScores.of(features, labels, kernel, sigma, reference, self_index)
    if objective == "log-label":
        counts = torch.bincount(vote.key_labels, minlength=int(labels.max()) + 1)[labels]
        own = vote.self_index >= 0
        counts = counts - (own & (vote.key_labels[vote.self_index.clamp_min(0)] == labels)).long()
        if (lonely := int((counts == 0).sum())) > 0:
            raise RecipeError(
                f"got {lonely} rows without another row of their class to compare with; expected at least one, since "
                f"-log p_y is infinite there. Use the objective 'label', or leave these classes out"
            )
    vote.warn_of_bandwidth()
    value: torch.Tensor = MeanObjective.apply(vote.queries, vote.keys, vote.bias, labels, vote, objective)  # type: ignore[no-untyped-call]
    return value


@torch.no_grad()
def bandwidth(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    kernel: str = "rbf",
    rule: str = "likelihood",
    reference: tuple[torch.Tensor, torch.Tensor] | None = None,
    self_index: torch.Tensor | None = None,
    sample: int = 500,
) -> float:
    """A bandwidth for the kernel of ``bayes_error``.

    Args:
        features: (N, D) floats.
        labels: (N,) integers.
        kernel: see ``bayes_error``.
        rule: ``"likelihood"``: the sigma under which the labels are most likely, each predicted by the others
            (leave-one-out); ``"median"``: the median distance between rows (RBF only).
        reference: see ``bayes_error``.
        self_index: see ``bayes_error``.
        sample: rows, evenly spaced, that are predicted; all rows vote.

    Returns:
        Sigma > 0, in units of the features.

    Raises:
        RecipeError: an unknown rule, or one that the kernel does not have; nobody left to vote, or no two rows of one
            class.
    """
    if rule not in ("likelihood", "median") or (rule == "median" and kernel != "rbf"):
        raise RecipeError(f"got the rule {rule!r} for the kernel {kernel!r}; expected 'likelihood', or 'median' (rbf)")
    from scipy.optimize import minimize_scalar  # here, so that a command that needs none of it starts quickly

    features = at_least_float32(features)
    keys, key_labels, self_index = references(features, labels, reference, self_index)
    chosen = torch.linspace(0, len(features) - 1, min(sample, len(features)), device=features.device).round().long()
    some, their_labels, their_self_index = features[chosen], labels[chosen], self_index[chosen]
    scale = 1.0
    if kernel == "rbf":
        distances = torch.cdist(some, keys[:: max(1, len(keys) // sample)])
        scale = float(distances[distances > 0].median()) if (distances > 0).any() else 1.0
        if rule == "median":
            return scale
    counts = torch.bincount(key_labels, minlength=int(labels.max()) + 1)[their_labels]
    heard = counts > ((their_self_index >= 0) & (key_labels[their_self_index.clamp_min(0)] == their_labels)).long()
    if not heard.any():
        raise RecipeError("got no two rows of one class; expected at least one pair to choose the bandwidth by")
    some, their_labels, their_self_index = some[heard], their_labels[heard], their_self_index[heard]

    def unlikelihood(log_sigma: float) -> float:
        sigma = scale * math.exp(log_sigma)
        vote = KernelScores.of(some, their_labels, kernel, sigma, (keys, key_labels), their_self_index)
        return float(MeanObjective.apply(vote.queries, vote.keys, vote.bias, their_labels, vote, "log-label"))  # type: ignore[no-untyped-call]

    # Not convex: a coarse look first, then the best interval.
    grid = [math.log(10) * exponent for exponent in (-2, -1.5, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 1)]
    values = [unlikelihood(point) for point in grid]
    best = int(np.argmin(values))
    bounds = (grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)])
    found = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 0.01})
    return scale * math.exp(float(found.x))


def _chosen(
    features: torch.Tensor,
    labels: torch.Tensor,
    kernel: str,
    sigma: float | None,
    reference: tuple[torch.Tensor, torch.Tensor] | None,
    self_index: torch.Tensor | None,
) -> float:
    """The given sigma, or the likely one."""
    if sigma is not None:
        return sigma
    detached = None if reference is None else (reference[0].detach(), reference[1])
    return bandwidth(features.detach(), labels, kernel=kernel, reference=detached, self_index=self_index)
