"""The losses of MI-UE (arXiv 2603.03725) as functions of features and labels."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.information.kernel import at_least_float32

COLLAPSED = 1e4  # squared distance of a class from the others over its own spread from which on it is taken by itself


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
        RecipeError: an unknown denominator, or a temperature that is not above zero.
    """
    if denominator not in ("all", "cross-class"):
        raise RecipeError(f"got the denominator {denominator!r}; expected 'all' or 'cross-class'")
    if not temperature > 0:
        raise RecipeError(f"got the temperature {temperature}; expected a number above zero, such as the paper's 0.1")
    unit = F.normalize(at_least_float32(features), dim=1)
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
    features = at_least_float32(features)
    same = labels[:, None] == labels[None, :]
    centred = _centred(features, same)  # same distances, less cancellation
    squares = centred.square().sum(dim=1)
    squared_distances = squares[:, None] + squares[None, :] - 2 * centred @ centred.T
    other = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    # The square root has no gradient at zero: coinciding features (and j = i) contribute neither value nor gradient.
    apart = other & (squared_distances > 1e-12)
    distances = torch.where(apart, squared_distances, 1.0).sqrt() * apart
    return (distances.sum(dim=1) / features.shape[1]).log1p().mean()


def _centred(features: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Features (B, D) from the mean of all, or from that of their class where it has collapsed far away from there.

    Distances within a class are the same either way. Seen from the mean of all, those within a collapsed class would
    be small differences of large numbers, of which float32 leaves nothing.

    Args:
        features: in float32 at least.
        same: which of them are of one class (B, B).
    """
    centre = features.mean(dim=0)
    with torch.no_grad():
        shares = same.to(features.dtype)
        shares /= shares.sum(dim=1, keepdim=True)
        # By the first row of a class: all its rows need the very same centre.
        centres = (shares @ features)[same.to(torch.uint8).argmax(dim=1)]
        spread = shares @ (features - centres).square().sum(dim=1)
        collapsed = (centres - centre).square().sum(dim=1) > COLLAPSED * spread
    return torch.where(collapsed[:, None], features - centres, features - centre)
