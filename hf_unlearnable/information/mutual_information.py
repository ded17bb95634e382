"""What clean and poisoned features say about each other, and the within-class spread that bounds it.

MI-UE (arXiv 2603.03725) explains unlearnable examples by the mutual information between the features of clean images
and those of their poisoned versions, and lowers it by drawing the poisoned features of each class together.
No estimator of mutual information in many dimensions is right everywhere: the three here fail in different ways, so
compare values of one estimator, at one number of images, between data sets; a single value says little.

All results are in nats. Features are (N, D) arrays or tensors, row i of both from the same image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from hf_unlearnable.errors import DataError, RecipeError
from hf_unlearnable.settings import Count, Rate, Seed, check_arguments

Array = NDArray[np.float64]


@check_arguments
def histogram_mutual_information(clean: Any, poisoned: Any, *, bins: Count = 16) -> float:
    """Mutual information coordinate by coordinate, by counting: the mean over D of I(clean_d; poisoned_d).

    Each coordinate of either set is cut into ``bins`` equal intervals between its own minimum and maximum; with n_ab
    the rows in interval a of the clean and b of the poisoned coordinate, ``I = sum_ab n_ab/N log(n_ab N / (n_a n_b))``.
    The table of the MI-UE paper is made with a histogram estimator; its bins and its treatment of the D coordinates are
    not public, so values are comparable in order, not in size. Independent coordinates give about
    ``(bins - 1)^2 / (2 N)``, not zero, and no value exceeds ``log(bins)``. A coordinate that is constant in either set
    counts as zero: it says nothing.

    Args:
        clean: (N, D).
        poisoned: (N, D), of the same images.
        bins: intervals a coordinate is cut into, at least 2.

    Raises:
        DataError: features that do not belong together.
        RecipeError: fewer than two bins.
    """
    x, y = _pair(clean, poisoned)
    if x.shape != y.shape:
        raise DataError(f"got clean features {x.shape} and poisoned features {y.shape}; expected one shape")
    if bins < 2:
        raise RecipeError(f"got bins={bins}; expected at least 2")
    rows, cells_x, cells_y = len(x), _cells(x, bins), _cells(y, bins)
    total = 0.0
    for column in range(x.shape[1]):
        counts = np.bincount(cells_x[:, column] * bins + cells_y[:, column], minlength=bins**2).reshape(bins, bins)
        share = counts / rows
        product = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
        filled = share > 0
        total += float((share[filled] * np.log(share[filled] / product[filled])).sum())
    return total / x.shape[1]


@check_arguments
def ksg_mutual_information(
    clean: Any, poisoned: Any, *, neighbours: int = 3, components: Count | None = None, seed: Seed = 0
) -> float:
    """Joint mutual information by nearest neighbours (Kraskov, Stoegbauer & Grassberger 2004, equation 8).

    Columns are scaled to unit variance; distances are the largest difference of a coordinate. Unbiased in few
    dimensions; in many it says far too little, since nearest neighbours are then not near: reduce with ``components``.

    Args:
        clean: (N, D).
        poisoned: (N, E), of the same images.
        neighbours: k; larger is steadier and more biased.
        components: principal components that either set is reduced to first, at most.
        seed: of the tiny noise (1e-10) that parts equal rows.

    Raises:
        DataError: features that do not belong together, or not more rows than neighbours.
    """
    x, y = _pair(clean, poisoned)
    if not 1 <= neighbours < len(x):
        raise DataError(
            f"got {len(x)} rows for {neighbours} neighbours; expected more rows than neighbours, at least 1"
        )
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    rng = np.random.default_rng(seed)
    x, y = (_scaled(_reduced(one, components)) for one in (x, y))
    x, y = (one + 1e-10 * rng.standard_normal(one.shape) for one in (x, y))
    # The k-th neighbour in the joint space; strictly nearer rows are then counted in either space alone.
    radius = cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), k=neighbours + 1, p=np.inf)[0][:, -1]
    radius = np.nextafter(radius, 0)
    near = [cKDTree(one).query_ball_point(one, radius, p=np.inf, return_length=True) for one in (x, y)]  # with itself
    value = digamma(neighbours) + digamma(len(x)) - np.mean(digamma(near[0]) + digamma(near[1]))
    return max(0.0, float(value))


@check_arguments
def variational_mutual_information(
    clean: Any,
    poisoned: Any,
    *,
    steps: Count = 500,
    batch_size: Count = 256,
    width: Count = 64,
    learning_rate: Rate = 1e-3,
    seed: Seed = 0,
) -> float:
    """A lower bound by a learned critic (InfoNCE: van den Oord et al. 2018; Poole et al. 2019, equation 10).

    Two small networks f and g are trained on half of the rows so that ``f(clean_i) . g(poisoned_i)`` tells pair i from
    the other pairs of a batch. The value is the bound on the other half, in batches that are as large as those of the
    training: in expectation not above the true value, and never above ``log(batch size)``.

    Args:
        clean: (N, D), N at least 8.
        poisoned: (N, E), of the same images.
        steps: of Adam.
        batch_size: pairs that are told apart at a time, at most half of the rows.
        width: of the hidden layers, and of the product.
        learning_rate: of Adam.
        seed: of the split, the networks and the batches; the global random state is left alone.

    Raises:
        DataError: features that do not belong together, or fewer than 8 rows.
    """
    pair = _pair(clean, poisoned)
    if len(pair[0]) < 8:
        raise DataError(f"got {len(pair[0])} rows; expected at least 8, half to learn from and half to be tested on")
    x, y = (torch.from_numpy(_scaled(one)).float() for one in pair)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    learn, test = order[: len(x) // 2], order[len(x) // 2 :]
    size = min(batch_size, len(learn))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        critics = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
            for inputs in (x.shape[1], y.shape[1])
        )
        optimiser = torch.optim.AdamW(critics.parameters(), lr=learning_rate, weight_decay=1e-2)
        for _ in range(steps):
            rows = learn[torch.randperm(len(learn), generator=generator)[:size]]
            loss = F.cross_entropy(critics[0](x[rows]) @ critics[1](y[rows]).T, torch.arange(size))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        losses = [
            float(F.cross_entropy(critics[0](x[rows]) @ critics[1](y[rows]).T, torch.arange(size)))
            for rows in test[: len(test) // size * size].split(size)
        ]
    return max(0.0, float(np.log(size) - np.mean(losses)))


def intra_class_covariance(features: Any, labels: Any) -> float:
    """The part of the variance that is left within classes: ``tr E_y Cov(z | y) / tr Cov(z)``, in [0, 1].

    The MI-UE paper bounds the mutual information by the conditional covariance of the poisoned features given their
    class; the trace is taken relative to the whole, so that the scale of the features does not matter.

    Args:
        features: (N, D).
        labels: (N,) classes.

    Returns:
        0 when the features of each class coincide, 1 when the classes have one mean; 0 for constant features.

    Raises:
        DataError: features or labels of other shapes, or features that are not finite.
    """
    z, y = _labelled(features, labels)
    within = sum(float(((z[y == one] - z[y == one].mean(axis=0)) ** 2).sum()) for one in np.unique(y))
    whole = float(((z - z.mean(axis=0)) ** 2).sum())
    return within / whole if whole > 0 else 0.0


def intra_class_cosine(features: Any, labels: Any) -> float:
    """The mean cosine similarity over all pairs of different images of one class, in [-1, 1].

    What the contrastive term of MI-UE raises in the poisoned features.

    Args:
        features: (N, D); an all-zero row has cosine 0 with everything.
        labels: (N,) classes.

    Raises:
        DataError: no class with two images; features or labels of other shapes, or features that are not finite.
    """
    z, y = _labelled(features, labels)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    unit = np.divide(z, norms, out=np.zeros_like(z), where=norms > 0)
    total, pairs = 0.0, 0
    for one in np.unique(y):
        members = unit[y == one]
        # The squared length of a sum of unit vectors holds every pair twice and each vector with itself.
        total += float((members.sum(axis=0) ** 2).sum() - (members**2).sum())
        pairs += len(members) * (len(members) - 1)
    if not pairs:
        raise DataError("got no class with two images; expected at least one pair to compare")
    return total / pairs


def _matrix(features: Any, what: str) -> Array:
    array = features.detach().cpu().double().numpy() if isinstance(features, torch.Tensor) else features
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise DataError(f"got {what} features of shape {array.shape}; expected (N, D), one row for each image")
    if not np.isfinite(array).all():
        row = np.argwhere(~np.isfinite(array))[0][0]
        raise DataError(f"got {what} features that are not finite in row {row}; expected finite numbers in all rows")
    return array


def _pair(clean: Any, poisoned: Any) -> tuple[Array, Array]:
    x, y = _matrix(clean, "clean"), _matrix(poisoned, "poisoned")
    if len(x) != len(y):
        raise DataError(f"got {len(x)} clean and {len(y)} poisoned rows; expected the same images in the same order")
    return x, y


def _labelled(features: Any, labels: Any) -> tuple[Array, NDArray[Any]]:
    z = _matrix(features, "the")
    y = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if y.shape != (len(z),):
        raise DataError(f"got labels of shape {y.shape} for {len(z)} rows; expected one label for each")
    return z, y


def _cells(values: Array, bins: int) -> NDArray[np.int64]:
    low, high = values.min(axis=0), values.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum((values - low) / width * bins, bins - 1).astype(np.int64)  # the maximum belongs to the last


def _scaled(values: Array) -> Array:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _reduced(values: Array, components: int | None) -> Array:
    if components is None or components >= values.shape[1]:
        return values
    centred = values - values.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:components].T
