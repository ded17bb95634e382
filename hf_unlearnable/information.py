"""The mathematics of the methods, as plain functions on tensors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hf_unlearnable.errors import RecipeError

KERNELS = ("rbf", "cosine", "logistic")
OBJECTIVES = ("max", "label", "log-label", "entropy")
TINY = 1e-30  # smaller shares are computed in logarithms
BLOCK = {True: 1 << 20, False: 1 << 27}  # kernel values held at once: what a CPU's cache likes, what fills a GPU


def contrastive_loss(
    features: torch.Tensor, labels: torch.Tensor, *, temperature: float = 0.1, denominator: str = "all"
) -> torch.Tensor:
    """How far features of one class are from being alike and apart from other classes (MI-UE, arXiv 2603.03725).

    ``-mean_i log( sum_{j: y_j = y_i} exp(cos(z_i, z_j) / t) / sum_{j in D_i} exp(cos(z_i, z_j) / t) )``, where the
    numerator includes j = i, as the authors' experiments do.

    Args:
        features: (B, D) floats; lengths do not matter. Computed in float32 at least.
        labels: (B,) integers.
        temperature: t > 0; the paper uses 0.1.
        denominator: ``"all"``: D_i is the whole batch, as in the authors' experiments; the loss is then >= 0.
            ``"cross-class"``: D_i holds the other classes only, as readers of the paper have it.

    Returns:
        A differentiable scalar. Zero for ``"cross-class"`` rows that have no other class in the batch.

    Raises:
        RecipeError: an unknown denominator.
    """
    if denominator not in ("all", "cross-class"):
        raise RecipeError(f"got the denominator {denominator!r}; expected 'all' or 'cross-class'")
    unit = F.normalize(_at_least_float32(features), dim=1)
    similarities = unit @ unit.T / temperature
    same = labels[:, None] == labels[None, :]
    attraction = similarities.masked_fill(~same, -torch.inf).logsumexp(dim=1)
    if denominator == "all":
        return (similarities.logsumexp(dim=1) - attraction).mean()
    has_others = (~same).any(dim=1)
    # A row without other classes would be -inf: it has nothing to be pushed away from.
    others = similarities.masked_fill(same & has_others[:, None], -torch.inf).logsumexp(dim=1)
    return torch.where(has_others, others - attraction, 0.0).mean()


def distance_loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The distance term of MI-UE: ``mean_i log(1 + sum_{j: y_j = y_i} ||z_i - z_j||_2 / D)``.

    Args:
        features: (B, D) floats. Computed in float32 at least.
        labels: (B,) integers.

    Returns:
        A differentiable scalar >= 0; zero when the features of every class coincide.
    """
    features = _at_least_float32(features)
    centred = features - features.mean(dim=0)  # same distances, less cancellation
    squares = centred.square().sum(dim=1)
    squared_distances = squares[:, None] + squares[None, :] - 2 * centred @ centred.T
    other = (labels[:, None] == labels[None, :]) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    # The square root has no gradient at zero: coinciding features (and j = i) contribute neither value nor gradient.
    apart = other & (squared_distances > 1e-12)
    distances = torch.where(apart, squared_distances, 1.0).sqrt() * apart
    return (distances.sum(dim=1) / features.shape[1]).log1p().mean()


@torch.no_grad()
def kernel_posterior(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    kernel: str = "rbf",
    sigma: float | None = None,
    reference: tuple[torch.Tensor, torch.Tensor] | None = None,
    twins: torch.Tensor | None = None,
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
        twins: see there.
        num_classes: K; the highest label plus one when left out.

    Returns:
        (N, K) floats whose rows sum to one.
    """
    vote = _Vote.of(features, labels, kernel, sigma, reference, twins)
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
        twins: (N,) integers: which row of the reference is the row itself and has no vote, -1 for none. Without a
            reference it is the row's own place.

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
    vote = _Vote.of(features, labels, kernel, sigma, reference, twins)
    if objective == "log-label":
        voters = torch.bincount(vote.key_labels, minlength=int(labels.max()) + 1)[labels]
        own = vote.twins >= 0
        voters = voters - (own & (vote.key_labels[vote.twins.clamp_min(0)] == labels)).long()
        if (lonely := int((voters == 0).sum())) > 0:
            raise RecipeError(
                f"got {lonely} rows without another row of their class to compare with; expected at least one, since "
                f"-log p_y is infinite there. Use the objective 'label', or leave these classes out"
            )
    vote.warn_of_bandwidth()
    value: torch.Tensor = _MeanObjective.apply(vote.queries, vote.keys, vote.bias, labels, vote, objective)  # type: ignore[no-untyped-call]
    return value


@torch.no_grad()
def bandwidth(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    kernel: str = "rbf",
    rule: str = "likelihood",
    reference: tuple[torch.Tensor, torch.Tensor] | None = None,
    twins: torch.Tensor | None = None,
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
        twins: see ``bayes_error``.
        sample: rows, evenly spaced, that are predicted; all rows vote.

    Raises:
        RecipeError: an unknown rule, or one that the kernel does not have.
    """
    if rule not in ("likelihood", "median") or (rule == "median" and kernel != "rbf"):
        raise RecipeError(f"got the rule {rule!r} for the kernel {kernel!r}; expected 'likelihood', or 'median' (rbf)")
    features = _at_least_float32(features)
    keys, key_labels, twins = _voters(features, labels, reference, twins)
    chosen = torch.linspace(0, len(features) - 1, min(sample, len(features)), device=features.device).round().long()
    some, their_labels, their_twins = features[chosen], labels[chosen], twins[chosen]
    scale = 1.0
    if kernel == "rbf":
        distances = torch.cdist(some, keys[:: max(1, len(keys) // sample)])
        scale = float(distances[distances > 0].median()) if (distances > 0).any() else 1.0
        if rule == "median":
            return scale
    counts = torch.bincount(key_labels, minlength=int(labels.max()) + 1)[their_labels]
    heard = counts > ((their_twins >= 0) & (key_labels[their_twins.clamp_min(0)] == their_labels)).long()
    if not heard.any():
        raise RecipeError("got no two rows of one class; expected at least one pair to choose the bandwidth by")
    some, their_labels, their_twins = some[heard], their_labels[heard], their_twins[heard]

    def unlikelihood(log_sigma: float) -> float:
        sigma = scale * math.exp(log_sigma)
        vote = _Vote.of(some, their_labels, kernel, sigma, (keys, key_labels), their_twins)
        return float(_MeanObjective.apply(vote.queries, vote.keys, vote.bias, their_labels, vote, "log-label"))  # type: ignore[no-untyped-call]

    # Not convex: a coarse look first, then the best interval.
    grid = [math.log(10) * exponent for exponent in (-2, -1.5, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 1)]
    values = [unlikelihood(point) for point in grid]
    best = int(np.argmin(values))
    bounds = (grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)])
    found = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 0.01})
    return scale * math.exp(float(found.x))


@dataclass(frozen=True)
class _Vote:
    """Who votes on whom, with the logarithm of every kernel as a product: ``queries @ keys.T + bias`` (M,).

    A row of votes is only used up to a constant, so that the RBF kernel needs ``-|z_j|^2 / 2`` and not the whole
    distance, and one piece of code serves all kernels.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor
    key_labels: torch.Tensor
    twins: torch.Tensor
    logistic: bool

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        labels: torch.Tensor,
        kernel: str,
        sigma: float | None,
        reference: tuple[torch.Tensor, torch.Tensor] | None,
        twins: torch.Tensor | None,
    ) -> _Vote:
        if kernel not in KERNELS:
            raise RecipeError(f"got the kernel {kernel!r}; expected one of {', '.join(KERNELS)}")
        if len(features) != len(labels) or features.dim() != 2:
            raise RecipeError(
                f"got features of shape {tuple(features.shape)} and {len(labels)} labels; expected (N, D) and N"
            )
        if sigma is None:
            detached = None if reference is None else (reference[0].detach(), reference[1])
            sigma = bandwidth(features.detach(), labels, kernel=kernel, reference=detached, twins=twins)
        if not sigma > 0:
            raise RecipeError(f"got sigma={sigma}; expected a number above zero, in units of the features")
        queries = _at_least_float32(features)
        keys, key_labels, twins = _voters(queries, labels, reference, twins)
        bias = keys.new_zeros(len(keys))
        # Shifted to the centre of the voters, which changes no row by more than a constant: float32 errors grow with
        # the lengths of the vectors.
        if kernel == "rbf":
            centre = keys.detach().mean(dim=0)
            queries, keys = (queries - centre) / sigma, (keys - centre) / sigma
            bias = -keys.square().sum(dim=1) / 2
        elif kernel == "cosine":
            queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
            centre = keys.detach().mean(dim=0)
            queries, keys = (queries - centre) / sigma, keys - centre
            bias = keys @ centre / sigma
        else:
            queries = queries / sigma
        return cls(queries, keys, bias, key_labels, twins, kernel == "logistic")

    def logits(self, rows: slice | torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logarithm of the kernel (B, M) up to a constant a row, own twins at -inf; and the bare products."""
        products = torch.addmm(self.bias, queries[rows], self.keys.T)
        logits = F.logsigmoid(products) if self.logistic else products
        twins = self.twins[rows]
        with_twin = torch.nonzero(twins >= 0)[:, 0]
        logits[with_twin, twins[with_twin]] = -torch.inf
        return logits, products

    def blocks(self, classes: int) -> Iterator[tuple[slice, tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
        """Rows, (weights (B, M), the largest of a row at one, and bare products), weight of each class (B, K)."""
        with torch.autocast(self.keys.device.type, enabled=False):
            members = F.one_hot(self.key_labels, classes).to(self.keys.dtype)
            size = max(1, BLOCK[self.keys.device.type == "cpu"] // len(self.keys))
            for start in range(0, len(self.queries), size):
                rows = slice(start, start + size)
                logits, products = self.logits(rows, self.queries)
                logits = logits.sub_(logits.amax(dim=1, keepdim=True))
                # Votes of less than 1e-30 are none: a CPU takes a hundred times as long for numbers so close to zero.
                weights = F.threshold(logits, math.log(TINY), -torch.inf, inplace=True).exp_()
                yield rows, (weights, products), weights @ members

    @torch.no_grad()
    def warn_of_bandwidth(self, sample: int = 128) -> None:
        """Look at a few evenly spaced rows."""
        step = max(1, len(self.queries) // sample)
        part = replace(self, queries=self.queries[::step], twins=self.twins[::step])
        shares = torch.bincount(self.key_labels).to(self.keys.dtype) / len(self.key_labels)
        neighbours, apart = [], []
        for _, (weights, _), mass in part.blocks(len(shares)):
            total = mass.sum(dim=1, keepdim=True)
            neighbours.append((total[:, 0] ** 2) / weights.square().sum(dim=1))
            apart.append((mass / total - shares).abs().sum(dim=1) / 2)
        if torch.cat(neighbours).median() < 2:
            warnings.warn(
                f"sigma leaves the typical row {float(torch.cat(neighbours).median()):.1f} effective neighbours; "
                f"expected at least 2. The estimate is that of the nearest neighbour, and its gradient is about zero: "
                f"use a larger sigma",
                RuntimeWarning,
                stacklevel=3,
            )
        elif torch.cat(apart).median() < 0.02:
            warnings.warn(
                "sigma is so large that every row gets about the same posterior, the shares of the classes: the "
                "estimate says nothing about the features. Use a smaller sigma",
                RuntimeWarning,
                stacklevel=3,
            )


class _MeanObjective(torch.autograd.Function):
    """The mean of the objective over the rows, with its gradient computed beside it."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        keys: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        vote: _Vote,
        objective: str,
    ) -> torch.Tensor:
        vote = replace(vote, queries=queries, keys=keys, bias=bias)
        wanted = ctx.needs_input_grad[:3]
        of_queries, of_keys, of_bias = (
            torch.zeros_like(tensor) if want else None
            for tensor, want in zip((queries, keys, bias), wanted, strict=True)
        )
        classes = int(max(labels.max(), vote.key_labels.max())) + 1
        members = F.one_hot(vote.key_labels, classes).to(keys.dtype)
        total = keys.new_zeros((), dtype=torch.float64)
        for rows, (weights, products), mass in vote.blocks(classes):
            posterior = mass / mass.sum(dim=1, keepdim=True)
            values, slopes = _slopes(posterior, labels[rows], objective)
            if any(wanted):
                # d value / d log k_ij: how much the class of j is worth above the average vote, times the weight of j.
                pull = weights.mul_((slopes / mass.sum(dim=1, keepdim=True)) @ members.T)
            if objective == "log-label" and (lost := posterior.gather(1, labels[rows, None])[:, 0] < TINY).any():
                values[lost], exact = _log_label(vote, torch.nonzero(lost)[:, 0] + rows.start, queries, labels)
                if any(wanted):
                    pull[lost] = exact
            total += values.double().sum()
            if not any(wanted):
                continue
            if vote.logistic:
                pull = pull * torch.sigmoid(-products)
            if of_queries is not None:
                of_queries[rows] = pull @ keys
            if of_keys is not None:
                of_keys.addmm_(pull.T, queries[rows])
            if of_bias is not None:
                of_bias += pull.sum(dim=0)
        ctx.gradients = [None if one is None else one / len(queries) for one in (of_queries, of_keys, of_bias)]
        return (total / len(queries)).to(queries.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (*(None if one is None else one * of_value for one in ctx.gradients), None, None, None)


def _slopes(posterior: torch.Tensor, labels: torch.Tensor, objective: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The objective of every row (B,) and its slope in the vote of each class (B, K), average zero under posterior."""
    if objective == "entropy":
        logarithms = posterior.clamp_min(torch.finfo(posterior.dtype).tiny).log()
        values = -(posterior * logarithms).sum(dim=1)
        return values, -logarithms - values[:, None]
    named = (posterior.argmax(dim=1) if objective == "max" else labels)[:, None]
    share = posterior.gather(1, named)
    others = posterior.scatter(1, named, 0.0).sum(dim=1, keepdim=True)  # 1 - p without the cancellation
    if objective == "log-label":
        share = share.clamp_min(TINY)
        return -share.log()[:, 0], torch.ones_like(posterior).scatter_(1, named, -others / share)
    return others[:, 0], share.expand_as(posterior).scatter(1, named, -others)


def _log_label(
    vote: _Vote, rows: torch.Tensor, queries: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p_y (B,) and its slope in the log kernels (B, M), in logarithms throughout: p_y is below any float."""
    logits, _ = vote.logits(rows, queries)
    own = logits.masked_fill(vote.key_labels[None, :] != labels[rows, None], -torch.inf)
    values = logits.logsumexp(dim=1) - own.logsumexp(dim=1)
    return values, logits.softmax(dim=1) - own.softmax(dim=1)


def _voters(
    features: torch.Tensor,
    labels: torch.Tensor,
    reference: tuple[torch.Tensor, torch.Tensor] | None,
    twins: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, labels and twins of the rows that vote."""
    if reference is None:
        if twins is not None:
            raise RecipeError("got twins without a reference; expected them with one: without, a row is its own twin")
        keys, key_labels, twins = features, labels, torch.arange(len(features), device=features.device)
    else:
        keys, key_labels = _at_least_float32(reference[0]), reference[1]
        if twins is None:
            twins = torch.full((len(features),), -1, device=features.device)
    if len(keys) < (2 if bool((twins >= 0).any()) else 1):
        raise RecipeError(f"got {len(keys)} rows to vote; expected at least two, since no row votes on itself")
    return keys.to(features.dtype), key_labels, twins


def _at_least_float32(features: torch.Tensor) -> torch.Tensor:
    return features if features.dtype == torch.float64 else features.float()
