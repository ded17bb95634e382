"""Kernel votes: who is whose neighbour, by how much, and what an objective of the votes is worth to change.

What ``information.bayes_error`` and its kin are made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hf_unlearnable.errors import RecipeError, warn

KERNELS = ("rbf", "cosine", "logistic")

OBJECTIVES = ("max", "label", "log-label", "entropy")

TINY = 1e-30  # smaller shares are computed in logarithms

SAMPLE = 128  # rows that show whether a bandwidth is too small or too large

CPU_BLOCK, GPU_BLOCK = 1 << 20, 1 << 27  # kernel values held at once: what a CPU's cache likes, what fills a GPU


@dataclass(frozen=True)
class KernelScores:
    """Who votes on whom, with the logarithm of every kernel as a product: ``queries @ keys.T + bias`` (M,).

    A row of votes is only used up to a constant, so that the RBF kernel needs ``-|z_j|^2 / 2`` and not the whole
    distance, and one piece of code serves all kernels.

    Attributes:
        queries: (N, D) of the rows that are voted on, over the bandwidth.
        keys: (M, D) of the rows that vote.
        bias: (M,) of each of those.
        key_labels: (M,) their classes.
        self_index: (N,) which of them is the row itself and has no vote; -1 for none.
        logistic: whether the kernel is the sigmoid of the product, and not its exponential.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor
    key_labels: torch.Tensor
    self_index: torch.Tensor
    logistic: bool

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        labels: torch.Tensor,
        kernel: str,
        sigma: float,
        reference: tuple[torch.Tensor, torch.Tensor] | None,
        self_index: torch.Tensor | None,
    ) -> KernelScores:
        """Check and prepare; the arguments are those of ``information.bayes_error``.

        Raises:
            RecipeError: an unknown kernel, sigma <= 0, features and labels that do not fit, or nobody left to vote.
        """
        if kernel not in KERNELS:
            raise RecipeError(f"got the kernel {kernel!r}; expected one of {', '.join(KERNELS)}")
        if len(features) != len(labels) or features.dim() != 2:
            raise RecipeError(
                f"got features of shape {tuple(features.shape)} and {len(labels)} labels; expected (N, D) and N"
            )
        if not sigma > 0:
            raise RecipeError(f"got sigma={sigma}; expected a number above zero, in units of the features")
        queries = at_least_float32(features)
        keys, key_labels, self_index = references(queries, labels, reference, self_index)
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
        return cls(queries, keys, bias, key_labels, self_index, kernel == "logistic")

    def logits(self, rows: slice | torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logarithm of the kernel (B, M) up to a constant a row, -inf for a row itself; and the bare products."""
        products = torch.addmm(self.bias, queries[rows], self.keys.T)
        logits = F.logsigmoid(products) if self.logistic else products
        self_index = self.self_index[rows]
        among_keys = torch.nonzero(self_index >= 0)[:, 0]
        logits[among_keys, self_index[among_keys]] = -torch.inf
        return logits, products

    def blocks(self, classes: int) -> Iterator[tuple[slice, tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
        """Rows, (weights (B, M), the largest of a row at one, and bare products), weight of each class (B, K)."""
        with torch.autocast(self.keys.device.type, enabled=False):
            members = F.one_hot(self.key_labels, classes).to(self.keys.dtype)
            block = CPU_BLOCK if self.keys.device.type == "cpu" else GPU_BLOCK
            size = max(1, block // len(self.keys))
            for start in range(0, len(self.queries), size):
                rows = slice(start, start + size)
                logits, products = self.logits(rows, self.queries)
                logits = logits.sub_(logits.amax(dim=1, keepdim=True))
                # Votes of less than 1e-30 are none: a CPU takes a hundred times as long for numbers so close to zero.
                weights = F.threshold(logits, math.log(TINY), -torch.inf, inplace=True).exp_()
                yield rows, (weights, products), weights @ members

    @torch.no_grad()
    def warn_of_bandwidth(self) -> None:
        """Look at a few evenly spaced rows, at least ``SAMPLE`` of them where there are so many.

        Warns:
            RuntimeWarning: sigma is so small, or so large, that the estimate says little.
        """
        step = max(1, len(self.queries) // SAMPLE)
        part = replace(self, queries=self.queries[::step], self_index=self.self_index[::step])
        shares = torch.bincount(self.key_labels).to(self.keys.dtype) / len(self.key_labels)
        neighbours, apart = [], []
        for _, (weights, _), mass in part.blocks(len(shares)):
            total = mass.sum(dim=1, keepdim=True)
            neighbours.append((total[:, 0] ** 2) / weights.square().sum(dim=1))
            apart.append((mass / total - shares).abs().sum(dim=1) / 2)
        if torch.cat(neighbours).median() < 2:
            warn(
                f"sigma leaves the typical row {float(torch.cat(neighbours).median()):.1f} effective neighbours; "
                f"expected at least 2. The estimate is that of the nearest neighbour, and its gradient is about zero: "
                f"use a larger sigma",
                RuntimeWarning,
            )
        elif torch.cat(apart).median() < 0.02:
            warn(
                "sigma is so large that every row gets about the same posterior, the shares of the classes: the "
                "estimate says nothing about the features. Use a smaller sigma",
                RuntimeWarning,
            )


class MeanObjective(torch.autograd.Function):
    """The mean of the objective over the rows, with its gradient computed beside it."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        keys: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        vote: KernelScores,
        objective: str,
    ) -> torch.Tensor:
        """The value, and its gradients where they are wanted."""
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
        """Those gradients times what comes back."""
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
    vote: KernelScores, rows: torch.Tensor, queries: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p_y (B,) and its slope in the log kernels (B, M), in logarithms throughout: p_y is below any float."""
    logits, _ = vote.logits(rows, queries)
    own = logits.masked_fill(vote.key_labels[None, :] != labels[rows, None], -torch.inf)
    values = logits.logsumexp(dim=1) - own.logsumexp(dim=1)
    return values, logits.softmax(dim=1) - own.softmax(dim=1)


def references(
    features: torch.Tensor,
    labels: torch.Tensor,
    reference: tuple[torch.Tensor, torch.Tensor] | None,
    self_index: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (M, D) and labels (M,) of the rows that vote, and self_index (N,): see ``information.bayes_error``.

    Raises:
        RecipeError: nobody is left to vote, or ``self_index`` without a reference.
    """
    if reference is None:
        if self_index is not None:
            raise RecipeError(
                "got self_index without a reference; expected both, or neither: then every row of the set is itself"
            )
        keys, key_labels, self_index = features, labels, torch.arange(len(features), device=features.device)
    else:
        keys, key_labels = at_least_float32(reference[0]), reference[1]
        if self_index is None:
            self_index = torch.full((len(features),), -1, device=features.device)
    least = 2 if reference is None or bool((self_index >= 0).any()) else 1
    if len(keys) < least:
        why = ", since no row votes on itself" if least > 1 else ""
        raise RecipeError(f"got {len(keys)} rows to vote; expected at least {least}{why}")
    return keys.to(features.dtype), key_labels, self_index


def at_least_float32(features: torch.Tensor) -> torch.Tensor:
    """Features in float64 if that is what they are, in float32 otherwise."""
    return features if features.dtype == torch.float64 else features.float()
