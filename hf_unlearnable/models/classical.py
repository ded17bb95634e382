"""Victims that are fitted in one go: linear models and neighbours on pixels, or on features that saw no labels.

What misleads a network need not mislead them: a neighbour is near with a perturbation, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.lazy import require_extra
from hf_unlearnable.models.contrastive import contrastive_features

Predict = Callable[[torch.Tensor], NDArray[np.int64]]

Features = Callable[[torch.Tensor], torch.Tensor]  # (B, C, H, W) images -> (B, D)

SIDE = 32  # pixels a side that larger images are shrunk to
FILTERS = 256  # random ones of RandomFeatures
PENALTY = 0.1  # of ridge regression on the squared weights, times the images


class Classical(ABC):
    """A classifier that is fitted in one go; a subclass is one way to do it.

    Attributes:
        name: by which it is a victim.
        revision: to be raised whenever it does something else than before.
        seeded: whether it draws at random.
        image_size: the largest side in pixels of images that are read for it; ``fit`` sees at most ``SIDE``.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    seeded: ClassVar[bool] = False
    image_size: ClassVar[int] = 64

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def require(self) -> None:
        """See that all is installed that it needs, before anything is trained.

        Raises:
            MissingExtraError: something is not.
        """
        self.packages()

    def packages(self) -> dict[str, str]:
        """The versions of the packages that the result depends on beside torch.

        Raises:
            MissingExtraError: one is not installed.
        """
        return {}

    def about(self) -> dict[str, Any]:
        """All that the result depends on beside images and seed, ready for JSON."""
        return {"name": self.name, "revision": self.revision, **self.packages()}

    @abstractmethod
    def fit(self, images: torch.Tensor, labels: NDArray[np.int64], seed: int) -> Predict:
        """Learn from images.

        Args:
            images: (N, C, H, W) in [0, 1] on the CPU, at most ``SIDE`` pixels a side.
            labels: (N,) whole numbers from 0.
            seed: of random draws.

        Returns:
            A function that names the classes of such images.
        """

    def learn(self, images: torch.Tensor, labels: NDArray[np.int64], seed: int) -> Predict:
        """The same for images of any size."""
        predict = self.fit(shrunk(images), labels, seed)
        return lambda seen: predict(shrunk(seen))


class _FromScikitLearn(Classical):
    """An estimator of scikit-learn on the pixels."""

    def packages(self) -> dict[str, str]:
        """That of scikit-learn."""
        require_extra("sklearn", f"the victim {self.name}")
        return {"scikit-learn": version("scikit-learn")}

    @abstractmethod
    def estimator(self, count: int) -> Any:
        """One that has learned nothing, for so many images."""

    def features(self, images: torch.Tensor) -> Features:
        """What it is fitted to, of images like these: the pixels."""
        return lambda seen: seen.flatten(1)

    def fit(self, images: torch.Tensor, labels: NDArray[np.int64], seed: int) -> Predict:
        """Fit it; where all images are of one class, that is what it says."""
        features = self.features(images)
        if (labels == labels[0]).all():  # which some estimators refuse
            return lambda seen: np.full(len(seen), labels[0])
        fitted = self.estimator(len(images)).fit(features(images).numpy(), labels)

        def predict(seen: torch.Tensor) -> NDArray[np.int64]:
            return np.asarray(fitted.predict(features(seen).numpy()))

        return predict


class _OnGradients(_FromScikitLearn):
    """An estimator of scikit-learn on what ``Gradients`` sees."""

    def packages(self) -> dict[str, str]:
        """Those of scikit-learn and scikit-image."""
        return {**super().packages(), **Gradients().packages()}

    def features(self, images: torch.Tensor) -> Features:
        """The histograms."""
        return histograms(images)


class NearestNeighbours(_FromScikitLearn):
    """The most frequent class among the five nearest images (Euclidean distance of the pixels)."""

    name = "knn"

    def estimator(self, count: int) -> Any:
        """Five neighbours, searched by comparing with all: trees are no faster with so many pixels."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(min(5, count), algorithm="brute")


class SupportVectors(_FromScikitLearn):
    """A support vector machine with a Gaussian kernel on the pixels; its cost grows with the square of the images."""

    name = "svm"

    def estimator(self, count: int) -> Any:
        """C = 5, and the width that scikit-learn reads off the images."""
        from sklearn.svm import SVC

        return SVC(C=5)


class NearestGradients(_OnGradients, NearestNeighbours):
    """The same neighbours by the distance of histograms of oriented gradients."""

    name = "hog-knn"


class SupportGradients(_OnGradients, SupportVectors):
    """The same support vector machine on histograms of oriented gradients."""

    name = "hog-svm"


class RandomFeatures(Classical):
    """Ridge regression on the answers of random filters, which nothing was trained for (Coates & Ng 2011).

    The filters are whitened patches of 6x6 pixels of the images themselves; their answers are rectified and averaged
    over 3x3 parts of the image. From 3,000 clean photographs of ten classes it learns 57 %, from as many images of
    Fashion-MNIST 87 %; random features of a Gaussian kernel on the pixels (``RBFSampler``) give 45 and 84 %.
    """

    name = "random-features"
    seeded = True

    def fit(self, images: torch.Tensor, labels: NDArray[np.int64], seed: int) -> Predict:
        """Draw the filters, then fit."""
        generator = torch.Generator().manual_seed(seed)
        side = min(6, *images.shape[-2:])
        some = images[torch.randperm(len(images), generator=generator)[:1000]]
        patches = F.unfold(some, side, stride=max(1, side - 2)).transpose(1, 2).flatten(0, 1)
        patches = patches[torch.randperm(len(patches), generator=generator)[:20000]]
        mean = patches.mean(dim=0)
        centred = patches - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        whiten = vectors @ torch.diag((values + 1e-3).rsqrt()) @ vectors.T
        filters = F.normalize(centred[:FILTERS] @ whiten, dim=1) @ whiten
        kernels, shift = filters.view(-1, images.shape[1], side, side), -(filters @ mean)

        def averages(seen: torch.Tensor) -> torch.Tensor:
            answers = F.conv2d(seen, kernels, shift).sub_(0.5).relu_()
            return F.adaptive_avg_pool2d(answers, 3).flatten(1)

        def features(seen: torch.Tensor) -> torch.Tensor:
            # Few at once: new memory for the answers of hundreds, 0.7 MiB each, takes longer than finding them.
            return torch.cat([averages(part) for part in seen.split(25)])

        return ridge(features, images, labels)


class Gradients(Classical):
    """Ridge regression on histograms of oriented gradients (HOG, Dalal & Triggs 2005), by scikit-image."""

    name = "hog"

    def packages(self) -> dict[str, str]:
        """That of scikit-image."""
        return {"scikit-image": version("scikit-image")}

    def fit(self, images: torch.Tensor, labels: NDArray[np.int64], seed: int) -> Predict:
        """Find the histograms, then fit."""
        return ridge(histograms(images), images, labels)


class SelfSupervised(Classical):
    """Ridge regression on features that a network learned from the same images without their labels (SimCLR).

    Labels come last, so what a pattern says about them helps as little to learn the features as they do. Two minutes
    for 4,000 images on one core.
    """

    name = "simclr"
    seeded = True

    def fit(self, images: torch.Tensor, labels: NDArray[np.int64], seed: int) -> Predict:
        """Learn the features, then fit."""
        return ridge(contrastive_features(images, seed=seed), images, labels)


CLASSICAL: dict[str, type[Classical]] = {
    kind.name: kind
    for kind in (
        NearestNeighbours,
        SupportVectors,
        RandomFeatures,
        Gradients,
        NearestGradients,
        SupportGradients,
        SelfSupervised,
    )
}


def histograms(images: torch.Tensor) -> Features:
    """Histograms of oriented gradients of images like these (N, C, H, W).

    Of cells of 4x4 pixels, smaller ones where there are not three a side.
    """
    from skimage.feature import hog

    cell = max(1, min(4, min(images.shape[-2:]) // 3))
    settings: dict[str, Any] = {"pixels_per_cell": (cell, cell), "cells_per_block": (2, 2), "channel_axis": 0}
    return lambda seen: torch.from_numpy(np.stack([hog(one, **settings) for one in seen.numpy()])).float()


def shrunk(images: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, W) at ``SIDE`` pixels a side if they are larger."""
    if max(images.shape[-2:]) <= SIDE:
        return images
    return torch.cat([F.interpolate(part, (SIDE, SIDE), mode="bilinear", antialias=True) for part in _parts(images)])


@torch.no_grad()
def ridge(features: Features, images: torch.Tensor, labels: NDArray[np.int64]) -> Predict:
    """Linear regression of the classes on standardised features, with a penalty on the squared weights.

    Args:
        features: of images.
        images: (N, C, H, W).
        labels: (N,).
    """
    count, classes = len(images), int(labels.max()) + 1
    targets = F.one_hot(torch.from_numpy(labels), classes).double()
    sums, products, answers = torch.zeros(()), torch.zeros(()), torch.zeros(())
    # So the features of all images are never there together.
    for part, wanted in zip(_parts(images), _parts(targets), strict=True):
        seen = features(part).double()
        sums, products, answers = sums + seen.sum(dim=0), products + seen.T @ seen, answers + seen.T @ wanted
    mean, share = sums / count, targets.mean(dim=0)
    scale = (products.diagonal() / count - mean.square()).clamp(min=0).sqrt() + 1e-6
    covariance = (products / count - mean[:, None] * mean) / (scale[:, None] * scale)
    covariance.diagonal().add_(PENALTY)
    solved = torch.linalg.solve(covariance, (answers / count - mean[:, None] * share) / scale[:, None])

    @torch.no_grad()
    def predict(seen: torch.Tensor) -> NDArray[np.int64]:
        scores = [((features(part).double() - mean) / scale) @ solved + share for part in _parts(seen)]
        return torch.cat(scores).argmax(dim=1).numpy()

    return predict


def _parts(images: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from images.split(250)
