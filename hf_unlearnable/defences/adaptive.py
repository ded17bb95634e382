"""Defences of a thief who looks for the perturbation: what the images of a class share is read off and taken out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import median_filter
from torch.nn import functional as F

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Correction, Defence, unit_chunks
from hf_unlearnable.settings import Few, Levels, Range

# Light, red against green, both against blue: orthogonal, each of length one.
_OPPONENT = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]))
MOST = 1000  # images of a class that directions are found in: more tell hardly more, and cost their square
STARTS, ROUNDS = 8, 20  # of k-means
FEWEST = 5  # images of a class that must be flat at a pixel, or nothing is known of its pattern there


@dataclass(frozen=True, kw_only=True)
class PatternSubtraction(Defence, name="pattern-subtraction"):
    """Read the pattern of each class off the places where its images are flat, and subtract it from all of them.

    Flat is a pixel whose neighbourhood (5x5) hardly varies: sky, wall, background. There an image less its local mean
    (9x9, over flat pixels alone) is mostly what was added; averaged over the images of a class it is what they share.
    The mean over whole images would hold the outlines of the things that they show, too: taken out of clean images of
    Fashion-MNIST it is a stronger pattern (28 levels) than any that was put in. The result is not rounded or clipped.

    Args:
        level: the largest standard deviation in a flat neighbourhood, in levels of 255; a little more than that of a
            perturbation.
    """

    level: Levels = 12.0

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Read off the patterns."""
        shape = (len(images.names), *images.pixels.shape[1:])
        sums, counts = torch.zeros(shape), torch.zeros(shape)
        for pixels, labels in unit_chunks(images):
            mean = local_mean(pixels, 2)
            variance = (local_mean(pixels.square(), 2) - mean.square()).clamp(min=0)
            flat = (variance.sqrt() <= self.level / WHITE).float()
            around = local_mean(flat * pixels, 4) / local_mean(flat, 4).clamp(min=1e-3)
            sums.index_add_(0, labels, flat * (pixels - around))
            counts.index_add_(0, labels, flat)
        return _subtract(torch.where(counts >= FEWEST, sums / counts.clamp(min=1), 0))


@dataclass(frozen=True, kw_only=True)
class ClassMean(Defence, name="class-mean"):
    """Subtract what the images of a class share on average once what is smooth in each is taken out.

    An image less its local mean keeps its finest parts, outlines and perturbation; the outlines of many images average
    out. What all classes share is left in. The result is not rounded or clipped.

    Args:
        radius: the local mean is that of a square of 2 ``radius`` + 1 pixels.
    """

    radius: Few = 2

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Average."""
        means = torch.zeros(len(images.names), *images.pixels.shape[1:])
        for pixels, labels in unit_chunks(images):
            means.index_add_(0, labels, pixels - local_mean(pixels, self.radius))
        return _subtract(means / _counts(images).clamp(min=1))


@dataclass(frozen=True, kw_only=True)
class SpectralPeak(Defence, name="spectral-peak"):
    """Take out of every image the frequencies at which its class stands out.

    With P_c the mean power spectrum of the images of class c, and Q_c the median of those of all other classes, P_c /
    Q_c is about flat in the neighbourhood of a frequency where images differ by what they show, and has a peak where a
    wave was added. With M the median of P_c / Q_c over a square of frequencies, one with P_c >= ``ratio`` M Q_c is
    damped by M Q_c / P_c (Wiener's filter for what is above the neighbourhood). Phase and sign are each image's own, so
    that a wave whose sign changes from image to image is found, too.

    Args:
        ratio: the least excess of power that counts.
        radius: the square has 2 ``radius`` + 1 frequencies a side.
    """

    ratio: Annotated[float, Range(least=1, most=1e6)] = 4.0
    radius: Few = 1

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Compare the spectra."""
        channels, height, width = images.pixels.shape[1:]
        powers = torch.zeros(len(images.names), channels, height, width // 2 + 1)
        for pixels, labels in unit_chunks(images, 512):
            powers.index_add_(0, labels, _spectra(pixels).abs().square())
        counts = _counts(images)
        present = (counts.flatten() > 0).nonzero().flatten().tolist()
        powers = (powers / counts.clamp(min=1)).clamp(min=1e-12)
        gains = torch.zeros_like(powers)
        side = 2 * self.radius + 1
        for label in present[: len(present) if len(present) > 1 else 0]:
            others = powers[[other for other in present if other != label]].median(dim=0).values
            excess = powers[label] / others
            around = torch.from_numpy(median_filter(excess.numpy(), (1, side, side), mode="wrap"))
            gains[label] = torch.where(excess >= self.ratio * around, 1 - around / excess, 0)

        def correct(seen: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
            found = _spectra(seen) * gains.to(seen.device)[named.to(seen.device)]
            return seen - torch.fft.irfft2(found, s=seen.shape[-2:])

        return correct


@dataclass(frozen=True, kw_only=True)
class PrincipalDirections(Defence, name="principal-directions"):
    """Take out of every image the directions along which the images of its class vary most, once they are whitened.

    A pattern that images carry with signs of their own leaves no mean, but it makes them vary along one direction far
    more than by what they show. So every channel (of colour images: light, and two differences of colours) is divided
    by the root of its mean power at each frequency; all images are brought to one length; the first singular vectors of
    those of a class are removed; and what is left is multiplied back. The mean power is smoothed, so that a wave does
    not hide in the power that it adds: its median over 3x3 frequencies, times the square of the frequency, which levels
    the spectra of photographs. The first ``MOST`` images of a class are looked at.

    Args:
        count: directions of a class. Beyond those of its patterns they are what its images show: one too many costs a
            photograph more than a pattern adds.
    """

    count: Few = 1

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Find the directions."""
        space = _Whitening(images)
        found = torch.zeros(len(images.names), self.count, images.pixels[0].size)
        for label in np.unique(images.labels):
            vectors = space.vectors_of(images, label)
            # The singular vectors by the smaller of the two products: there are more values in an image than images.
            lengths, weights = torch.linalg.eigh(vectors @ vectors.T)
            first = (weights.T @ vectors)[-self.count :] / lengths[-self.count :, None].clamp(min=1e-12).sqrt()
            found[label, : len(first)] = first

        def correct(seen: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
            own, vectors = found.to(seen.device)[named.to(seen.device)], space.whitened(seen)
            return seen - space.coloured(torch.einsum("bkd,bk->bd", own, torch.einsum("bkd,bd->bk", own, vectors)))

        return correct


@dataclass(frozen=True, kw_only=True)
class ClassClusters(Defence, name="class-clusters"):
    """Group the images of every class by what they carry, and take the mean of its group out of every image.

    Several patterns of a class, of which every image carries one, have neither a mean nor few directions in common. But
    whitened as by ``PrincipalDirections``, and at one length, images that carry the same one lie together: k-means by
    angles (Dhillon & Modha 2001) finds the groups, and every image loses its part along the mean of the nearest one.
    The first ``MOST`` images of a class are looked at.

    Args:
        count: groups of a class.
    """

    count: Few = 2

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction:
        """Find the groups."""
        space, rng = _Whitening(images), np.random.default_rng(seed)
        found = torch.zeros(len(images.names), self.count, images.pixels[0].size)
        for label in np.unique(images.labels):
            vectors = space.vectors_of(images, label)
            found[label] = F.normalize(_groups(vectors, self.count, rng) @ vectors)

        def correct(seen: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
            own, vectors = found.to(seen.device)[named.to(seen.device)], space.whitened(seen)
            fits, nearest = torch.einsum("bkd,bd->bk", own, vectors).max(dim=1)
            mean = own[torch.arange(len(own), device=own.device), nearest]
            return seen - space.coloured(fits[:, None] * mean)

        return correct


@dataclass(frozen=True, kw_only=True)
class ColourFloor(Defence, name="colour-floor"):
    """Set dark values to black: on a black background nothing is left of a perturbation that is no stronger.

    Args:
        level: the highest value that becomes 0, of 255.
    """

    level: Annotated[int, Range(least=0, most=254)] = 8

    def image(self, image: Image.Image) -> Image.Image:
        """Cut the dark values off."""
        return image.point(lambda value: value if value > self.level else 0)


class _Whitening:
    """Every channel (of colour images: light, and two differences of colours) divided by its root power.

    That is the root of the mean power at each frequency, smoothed, so that a wave does not hide in the power that it
    adds: the median over 3x3 frequencies of it, times the square of the frequency, which levels the spectra of
    photographs.

    Args:
        images: of all classes.
    """

    def __init__(self, images: ImageSet) -> None:
        channels, *self.size = images.pixels.shape[1:]
        self.colours = _OPPONENT if channels == len(_OPPONENT) else torch.eye(channels)
        power = sum(self._spectra(part).abs().square().sum(dim=0) for part, _ in unit_chunks(images, 512)) / len(images)
        height, width = self.size
        down, across = torch.fft.fftfreq(height)[:, None] * height, torch.fft.rfftfreq(width) * width
        level = (down.square() + across.square()).clamp(min=1)
        smooth = torch.from_numpy(median_filter((power * level).numpy(), (1, 3, 3), mode="wrap")) / level
        self.root = smooth.clamp(min=1e-12).sqrt()

    def _spectra(self, pixels: torch.Tensor) -> torch.Tensor:
        return _spectra(torch.einsum("ij,bjhw->bihw", self.colours.to(pixels.device), pixels))

    def whitened(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (B, C * H * W) of images (B, C, H, W)."""
        return torch.fft.irfft2(self._spectra(pixels) / self.root.to(pixels.device), s=self.size).flatten(1)

    def coloured(self, vectors: torch.Tensor) -> torch.Tensor:
        """The part (B, C, H, W) of images that such vectors were."""
        part = vectors.view(len(vectors), len(self.colours), *self.size)
        part = torch.fft.irfft2(torch.fft.rfft2(part) * self.root.to(vectors.device), s=self.size)
        return torch.einsum("ij,bihw->bjhw", self.colours.to(vectors.device), part)

    def vectors_of(self, images: ImageSet, label: int) -> torch.Tensor:
        """Those of the first ``MOST`` images of a class, of length one."""
        rows = np.flatnonzero(images.labels == label)[:MOST]
        return torch.cat([F.normalize(self.whitened(part)) for part, _ in unit_chunks(images.select(rows), 512)])


def _groups(vectors: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Which of ``count`` groups each of some vectors (N, D) of length one is in: (count, N) of 0 and 1.

    The best of ``STARTS`` runs of k-means by angles, each of which starts from some of the vectors: the one whose means
    are nearest to their members. Products with a mean are means of products, of which there are N for each vector.
    """
    products = vectors @ vectors.T
    best, chosen = -math.inf, torch.empty(0)
    for _ in range(STARTS):
        weights = F.one_hot(torch.from_numpy(rng.permutation(len(vectors))[:count]), len(vectors)).float()
        for _ in range(ROUNDS):
            means = weights @ products  # of each group with each vector, but for the length of the mean
            lengths = (weights * means).sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
            fits, groups = (means / lengths).max(dim=0)
            weights = F.one_hot(groups, count).T.float()
        if float(fits.mean()) > best:
            best, chosen = float(fits.mean()), weights
    return chosen


def local_mean(images: torch.Tensor, radius: int) -> torch.Tensor:
    """The mean over squares of 2 ``radius`` + 1 pixels around every pixel of (B, C, H, W) images, mirrored at edges."""
    radius = min(radius, min(images.shape[-2:]) - 1)
    return F.avg_pool2d(F.pad(images, (radius,) * 4, mode="reflect"), 2 * radius + 1, 1)


def _subtract(patterns: torch.Tensor) -> Correction:
    """Subtract the pattern of each class (K, C, H, W) less the mean of all patterns."""
    own = patterns - patterns.mean(dim=0)

    def correct(seen: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
        return seen - own.to(seen.device)[named.to(seen.device)]

    return correct


def _counts(images: ImageSet) -> torch.Tensor:
    """(K, 1, 1, 1) images of each class."""
    return torch.from_numpy(np.bincount(images.labels, minlength=len(images.names))).view(-1, 1, 1, 1)


def _spectra(images: torch.Tensor) -> torch.Tensor:
    """The Fourier transforms of (B, C, H, W) images less the mean of each channel."""
    return torch.fft.rfft2(images - images.mean(dim=(-2, -1), keepdim=True))
