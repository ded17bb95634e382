"""What the papers say makes images unlearnable, as figures of one released set beside its originals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from hf_unlearnable.data.image_set import ImageSet, draw_by_class
from hf_unlearnable.defences.projection import softmax_regression
from hf_unlearnable.errors import DataError, RecipeError
from hf_unlearnable.information.mutual_information import (
    histogram_mutual_information,
    ksg_mutual_information,
    variational_mutual_information,
)
from hf_unlearnable.information.posterior import bandwidth, kernel_posterior
from hf_unlearnable.models.surrogate import Network, Surrogate
from hf_unlearnable.protection.class_patterns import class_patterns
from hf_unlearnable.settings import Seed, check_arguments
from hf_unlearnable.training.inference import embed
from hf_unlearnable.training.processes import default_accelerator
from hf_unlearnable.training.run import Training, TrainingRun

COMPONENTS = 4  # of either set for nearest neighbours, which are not near in more dimensions
LEAST_STEPS = 300  # of a training, however few images there are: after 80 an embedding knows no class yet
CHUNK = 1024  # perturbations that are brought into memory at once

T = TypeVar("T")


@dataclass(frozen=True)
class Theory:
    """The quantities that the papers explain unlearnable examples by. None where one cannot be computed.

    All are of one half of the images, with networks and linear models of the other half, but for
    ``linear_separability`` and ``class_share``, which are of all of them. An embedding is the features of a small
    network: the OWN one learned the released images, as a victim would; the HELD-OUT one learned their originals, and
    no method has seen it.

    Attributes:
        mutual_information_histogram: between the own features of originals and released images, in nats: the mean over
            coordinates, by counting. Less of it makes images unlearnable, says MI-UE (arXiv 2603.03725).
        mutual_information_ksg: the same jointly, by nearest neighbours among four principal components of either.
        mutual_information_variational: the same jointly: a lower bound by a critic, at most log(256).
        bayes_error_own: estimated Bayes error of the released images in the own embedding, in [0, 1]. More of it makes
            images unlearnable, says BEO (arXiv 2511.08191). The bandwidth is the likeliest for the released images.
        bayes_error_held_out: the same in the held-out embedding, with the likeliest bandwidth for the originals.
        bayes_error_clean: of the originals there.
        linear_separability: the share of the perturbations whose class a linear model of them names, in [0, 1], on
            those that it learned from (Yu et al. 2022, arXiv 2111.00898). It is 1 for any perturbations, noise too,
            where a set has fewer of them than an image has values.
        linear_separability_held_out: the same of those that it did not learn from: about chance for noise.
        class_share: the share of the perturbations' energy that is common to a class: the mean inner product of two
            perturbations of one class as a share of their mean square. 0 where they are independent.
    """

    mutual_information_histogram: float | None = None
    mutual_information_ksg: float | None = None
    mutual_information_variational: float | None = None
    bayes_error_own: float | None = None
    bayes_error_held_out: float | None = None
    bayes_error_clean: float | None = None
    linear_separability: float | None = None
    linear_separability_held_out: float | None = None
    class_share: float | None = None


@check_arguments
def theory(
    released: ImageSet,
    originals: ImageSet,
    *,
    seed: Seed = 0,
    held_out: Network | None = None,
    accelerator: Accelerator | None = None,
) -> Theory:
    """Estimate what theory ties to learnability, for released images and their originals.

    Trains two small networks on half of the images each, for twelve epochs and at least 300 steps. Under several
    processes every one that calls this does all of it by itself.

    Args:
        released: N images.
        originals: the same rows, of the same shape and with the same labels.
        seed: of the halves, the networks and the estimates.
        held_out: what ``held_out_embedding`` made of the same originals with the same seed; trained here if left out.
        accelerator: the device and precision; the usual ones if left out.

    Returns:
        The figures; None for the linear ones and the share where no image was changed, for estimates that need more
        rows or classes than there are, and for those of features that hold a number that is not finite.

    Raises:
        DataError: sets that do not belong together.
    """
    if released.pixels.shape != originals.pixels.shape or not np.array_equal(released.labels, originals.labels):
        raise DataError(
            f"got released images {released.pixels.shape} and originals {originals.pixels.shape}; expected the same "
            f"rows in the same order, with the same labels"
        )
    learned, asked = _halves(released.labels, seed)
    figures = _of_perturbations(released, originals, learned, asked)
    if len(np.unique(released.labels)) > 1 and len(asked):
        accelerator = accelerator or default_accelerator()
        own = _trained(released.select(learned), seed, accelerator)
        held_out = held_out or held_out_embedding(originals, seed=seed, accelerator=accelerator)
        before, after = originals.select(asked), released.select(asked)
        in_own, in_held_out = (
            [embed(network, seen, accelerator.device).cpu() for seen in (before, after)] for network in (own, held_out)
        )
        figures |= _of_features(in_own, in_held_out, torch.from_numpy(released.labels[asked]), seed)
    return Theory(**figures)


def held_out_embedding(originals: ImageSet, *, seed: int = 0, accelerator: Accelerator | None = None) -> Network:
    """What ``theory`` trains on the originals, to be given to it for several releases of the same ones.

    Args:
        originals: of ``theory``.
        seed: of ``theory``.
        accelerator: see there.
    """
    learned, _ = _halves(originals.labels, seed)
    return _trained(originals.select(learned), seed, accelerator or default_accelerator())


def _halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows to be asked, of every class."""
    drawn = draw_by_class(labels, lambda members: members - members // 2, np.random.default_rng(seed))
    return np.flatnonzero(drawn), np.flatnonzero(~drawn)


def _trained(images: ImageSet, seed: int, accelerator: Accelerator) -> Network:
    """A small network that learned the images."""
    training, surrogate = Training(), Surrogate("small-resnet")
    steps = max(LEAST_STEPS, training.iterations(len(images)))
    return TrainingRun(surrogate, images, training, iterations=steps, seed=seed, accelerator=accelerator).finish()


def _of_features(
    own: list[torch.Tensor], held_out: list[torch.Tensor], labels: torch.Tensor, seed: int
) -> dict[str, float | None]:
    """The figures of the features of originals and released images (N, D), in either embedding."""
    if not all(bool(found.isfinite().all()) for found in (*own, *held_out)):
        return {}
    figures: dict[str, float | None] = {}
    figures["mutual_information_histogram"] = _if_possible(lambda: histogram_mutual_information(*own))
    figures["mutual_information_ksg"] = _if_possible(
        lambda: ksg_mutual_information(*own, components=COMPONENTS, seed=seed)
    )
    figures["mutual_information_variational"] = _if_possible(lambda: variational_mutual_information(*own, seed=seed))

    def error(features: torch.Tensor, chosen_on: torch.Tensor) -> float:
        posterior = kernel_posterior(features, labels, sigma=bandwidth(chosen_on, labels))
        return float((1 - posterior.amax(dim=1)).mean())

    figures["bayes_error_own"] = _if_possible(lambda: error(own[1], own[1]))
    figures["bayes_error_held_out"] = _if_possible(lambda: error(held_out[1], held_out[0]))
    figures["bayes_error_clean"] = _if_possible(lambda: error(held_out[0], held_out[0]))
    return figures


def _of_perturbations(
    released: ImageSet, originals: ImageSet, learned: NDArray[np.int64], asked: NDArray[np.int64]
) -> dict[str, float | None]:
    """The figures that need nothing but what was added."""
    labels, classes = released.labels, len(released.names)
    added = torch.from_numpy(np.subtract(released.pixels, originals.pixels, dtype=np.int16))
    energy = float(sum(float(part.double().square().sum()) for part in added.split(CHUNK)))
    if not energy:
        return {}
    figures: dict[str, float | None] = {}
    if (np.bincount(labels) > 1).any():
        figures["class_share"] = class_patterns(added, labels, classes)[1]
    if len(np.unique(labels)) < 2:
        return figures
    scale = (energy / added.numel()) ** -0.5  # so that a penalty on weights means the same for all budgets

    def batches(rows: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in np.array_split(rows, -(-len(rows) // CHUNK)):
            yield scale * added[part].float(), torch.from_numpy(labels[part])

    def separability(fitted: NDArray[np.int64], named: NDArray[np.int64]) -> float:
        weights, bias = softmax_regression(lambda: batches(fitted), classes)
        right = sum(int(((rows.flatten(1) @ weights + bias).argmax(1) == true).sum()) for rows, true in batches(named))
        return right / len(named)

    everything = np.arange(len(labels))
    figures["linear_separability"] = separability(everything, everything)
    if len(asked):
        figures["linear_separability_held_out"] = separability(learned, asked)
    return figures


def _if_possible(estimate: Callable[[], T]) -> T | None:
    """None where there are too few rows for it."""
    try:
        return estimate()
    except (DataError, RecipeError):
        return None
