"""The perturbation budget: the only place where a 255 or a clip to a ball stands.

Two scales meet here. *Levels* are the 256 values of an 8-bit pixel: budgets are written, perturbations stored and
images released in levels. The *unit* scale, [0, 1], is what surrogates and victims see.

An adaptive budget gives every pixel a radius of its own, after what a change must reach there to be noticed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from hf_unlearnable.errors import BudgetError
from hf_unlearnable.settings import plain

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

WHITE = 255  # the highest level of an 8-bit pixel; one level is 1/255 of the unit scale
MAX_BYTE = 127  # what one signed byte of the perturbation store can hold
PARTS = 65_535  # of a level, in which rounding under L2 counts: short integers are sorted in linear time

VIEW = 640  # pixels of the longer side at which people are taken to look at a picture
WEIGHTS = (3, 6, 1)  # of red, green and blue in the luma, in tenths: ITU-R BT.601, rounded

# Chou and Li (1995): weights of the mean luma around a pixel, and of its slopes in four directions, in sixteenths.
BACKGROUND = np.array([[[[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 2, 0, 2, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]]])
DOWN = np.array([[[[0, 0, 0, 0, 0], [1, 3, 8, 3, 1], [0, 0, 0, 0, 0], [-1, -3, -8, -3, -1], [0, 0, 0, 0, 0]]]])
OBLIQUE = np.array([[[[0, 0, 1, 0, 0], [0, 8, 3, 0, 0], [1, 3, 0, -3, -1], [0, 0, -3, -8, 0], [0, 0, -1, 0, 0]]]])
SLOPES = (DOWN, OBLIQUE, OBLIQUE[..., ::-1], DOWN.swapaxes(2, 3))
SMOOTH = 3000  # thousandths of a level that they find just noticeable where nothing hides a change

Norm = Literal["linf", "l2"]
Visibility = Literal["uniform", "adaptive"]


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """Turn uint8 pixels into float32 in [0, 1], the scale that surrogates and victims take."""
    return pixels.float() / WHITE


def normalise_gradients(gradients: torch.Tensor) -> torch.Tensor:
    """The gradient of every image (B, C, H, W) at mean absolute value one, so that none speaks louder in a sum."""
    return gradients / gradients.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)


@dataclass(frozen=True)
class Budget:
    """How far a protected image may be from its original: a ball of ``radius`` 8-bit levels.

    Args:
        radius: in 8-bit levels. ``Budget(8)`` is what papers write as L-inf 8/255; ``Budget(255, "l2")`` is an L2 norm
            of 1.0 on the unit scale. At least 1 (less cannot move any 8-bit pixel); at most 255 for L-inf.
        norm: ``"linf"`` bounds every channel of every pixel, ``"l2"`` the Euclidean norm over all of one image.
        visibility: ``"uniform"``: all pixels may change by the radius; ``"adaptive"``: smooth ones by less, see
            ``radii``, and changes of opposite sign in two channels of a pixel by no more than that together, since
            what colours a smooth part is seen first. For L-inf.

    Raises:
        BudgetError: a radius that is not a number in range, an unknown norm or visibility, or an adaptive L2 budget.
    """

    radius: float
    norm: Norm = "linf"
    visibility: Visibility = "uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", plain(self.radius))
        if self.norm not in ("linf", "l2"):
            raise BudgetError(f"got the norm {self.norm!r}; expected 'linf' or 'l2'")
        if self.visibility not in ("uniform", "adaptive"):
            raise BudgetError(f"got the visibility {self.visibility!r}; expected 'uniform' or 'adaptive'")
        if self.adaptive and self.norm != "linf":
            raise BudgetError(
                f"got an adaptive budget with the norm {self.norm!r}; expected 'linf', whose radius every pixel can "
                f"have for itself: 'linf:8:adaptive'"
            )
        if isinstance(self.radius, bool) or not isinstance(self.radius, (int, float)) or not math.isfinite(self.radius):
            raise BudgetError(f"got the radius {self.radius!r}; expected a number of 8-bit levels, as in Budget(8)")
        if self.radius < 1:
            raise BudgetError(
                f"got a radius of {self.radius:g} levels; expected at least 1, since an 8-bit pixel cannot change by "
                f"less. Budgets are counted in levels of 255: write 8, or '8/255', for 8/255 = 0.031"
            )
        if self.norm == "linf" and self.radius > WHITE:
            raise BudgetError(
                f"got a radius of {self.radius:g} levels; expected at most {WHITE}, the whole range of a pixel. "
                f"8 is usual, 16 is visible"
            )

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Read a budget from text: ``"8"``, ``"8/255"``, ``"linf:8"``, ``"l2:255"``, ``"8/255:adaptive"``.

        Raises:
            BudgetError: text of another form, or a radius out of range.
        """
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            return cls(text)
        form = r"\s*(?:(linf|l2)\s*:)?\s*(\d+(?:\.\d+)?)\s*(?:/\s*255)?\s*(?::\s*(uniform|adaptive))?\s*"
        match = re.fullmatch(form, text.lower())
        if match is None:
            raise BudgetError(
                f"got the budget {text!r}; expected levels such as '8', '8/255', 'linf:8', 'l2:255' or '8/255:adaptive'"
            )
        radius = float(match[2])
        more: Any = (match[1] or "linf", match[3] or "uniform")
        return cls(int(radius) if radius.is_integer() else radius, *more)

    def __str__(self) -> str:
        return f"{self.norm}:{self.radius:g}" + (f":{self.visibility}" if self.adaptive else "")

    @property
    def meaning(self) -> str:
        """In words, for cards and pages."""
        what = "every channel of every pixel" if self.norm == "linf" else "the Euclidean norm of the change of an image"
        smooth = ", down to a third of that where the image is smooth" if self.adaptive else ""
        return f"{what} by at most {self.radius:g} levels of 255{smooth}"

    @property
    def adaptive(self) -> bool:
        """Whether every pixel has a radius of its own."""
        return self.visibility == "adaptive"

    @property
    def epsilon(self) -> float:
        """The radius on the unit scale: 8/255 for ``Budget(8)``."""
        return self.radius / WHITE

    @property
    def dtype(self) -> np.dtype[Any]:
        """How a perturbation is stored: one signed byte per value, two for an L-inf radius that one cannot hold."""
        return np.dtype(np.int16 if self.norm == "linf" and self.radius > MAX_BYTE else np.int8)

    def clip(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Move perturbations (B, C, H, W), unit scale, to the nearest point of the ball."""
        if self.norm == "linf":
            return perturbations.clamp(-self.epsilon, self.epsilon)
        lengths = perturbations.flatten(1).norm(dim=1).clamp_min(1e-12)
        return perturbations * (self.epsilon / lengths).clamp_max(1).view(-1, 1, 1, 1)

    def project(self, perturbations: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Clip perturbations to the ball and to what keeps the perturbed images in [0, 1].

        Args:
            perturbations: (B, C, H, W) float, unit scale.
            images: (B, C, H, W) float in [0, 1].

        Returns:
            (B, C, H, W). Clipping to [0, 1] only shrinks values, so the result lies in the ball too.
        """
        clipped = self.clip(perturbations)
        if self.adaptive:
            import torch

            pixels = (images.detach() * WHITE).round().byte().cpu().numpy()
            clipped = _shared(clipped, torch.from_numpy(self.radii(pixels)).to(images) / WHITE, torch)
        return (images + clipped).clamp(0, 1) - images

    def radii(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """How far each pixel may be moved under an adaptive budget: by the radius in texture, by a third where smooth.

        In between it follows the texture masking of Chou and Li (1995), IEEE Transactions on Circuits and Systems for
        Video Technology 5(6): slopes of the luma hide a change of ``m (0.115 + b / 10000) + 0.5 - b / 100`` levels,
        with m the steepest of four weighted slopes around the pixel and b the weighted mean. The whole radius is for
        pixels that hide the 3 levels which they find just noticeable where nothing hides a change. Their allowance for
        darkness, up to 20 levels, is left out: on the displays of today that was seen first.

        Images over ``VIEW`` pixels are averaged down to about that, as they are looked at.

        Args:
            pixels: (B, C, H, W) uint8 originals, C 1 or 3.

        Returns:
            (B, 1, H, W) in levels, from 1 to the radius. In integers, so that every machine finds the same.
        """
        from scipy.ndimage import correlate  # here, so that a command that needs none of it starts quickly

        height, width = pixels.shape[2:]
        factor = max(1, round(max(height, width) / VIEW))
        planes = [[np.asarray(Image.fromarray(plane).reduce(factor)) for plane in image] for image in pixels]
        luma = _luma(np.array(planes, dtype=np.int32))
        mean = correlate(luma, BACKGROUND, mode="nearest") // BACKGROUND.sum()
        slopes = [np.abs(correlate(luma, slope, mode="nearest")) for slope in SLOPES]
        masking = np.max(slopes, axis=0) * (mean + 1150) // 160 + 500 - 10 * mean  # in thousandths of a level
        share = np.clip(masking, SMOOTH // 3, SMOOTH)  # of the radius
        radii = np.maximum(1, math.floor(self.radius) * share // SMOOTH).astype(np.int16)
        return radii.repeat(factor, axis=2).repeat(factor, axis=3)[:, :, :height, :width]

    def contains(self, original: NDArray[np.uint8], protected: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether the change of each image keeps the budget: (B, C, H, W) uint8 twice -> (B,)."""
        kept = self.measure(original, protected) <= self.radius
        if self.adaptive:
            for row in range(len(original)):
                change = protected[row].astype(np.int16) - original[row]
                reach = np.maximum(change, 0).max(axis=0) - np.minimum(change, 0).min(axis=0)
                kept[row] &= bool((reach <= self.radii(original[row][None])[0, 0]).all())
        return kept

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """The steepest ascent direction under the norm, as long as the radius: what a step is a fraction of.

        The sign for L-inf, the normalised gradient for L2; (B, C, H, W) on the unit scale.
        """
        if self.norm == "linf":
            return gradient.sign() * self.epsilon
        return gradient * (self.epsilon / gradient.flatten(1).norm(dim=1).clamp_min(1e-30)).view(-1, 1, 1, 1)

    def quantise(self, perturbations: torch.Tensor, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Round perturbations onto the 8-bit grid without leaving the ball or the range of a pixel.

        L-inf: to the nearest level. L2: plain rounding would lengthen most perturbations beyond the radius, and leave
        nothing of one that is spread so thinly that every value is below half a level. So all values are cut off
        towards zero, and then raised by a level again, those that lost most first, each if there is room for it. There
        is room until the result is as long as the perturbation was in the ball and in range (its squared length,
        rounded), which the radius bounds. No value changes its sign, or moves by more than a level.

        Args:
            perturbations: (B, C, H, W) float, unit scale.
            pixels: (B, C, H, W) uint8 originals.

        Returns:
            (B, C, H, W) in levels, of ``dtype``, so that ``pixels + result`` lies in [0, 255] and in the ball.
        """
        return self._round(perturbations.detach().double().cpu().numpy() * WHITE, pixels)

    def limit(
        self, levels: NDArray[Any], pixels: NDArray[np.uint8], radii: NDArray[np.int16] | None = None
    ) -> NDArray[Any]:
        """Bring perturbations that were resampled after ``quantise`` back into the ball and the range of a pixel.

        Args:
            levels: (B, C, H, W) integers.
            pixels: (B, C, H, W) uint8 originals.
            radii: (B, 1, H, W) of an adaptive budget, where ``pixels`` are parts of larger images, which decide on
                them.

        Returns:
            As ``quantise`` does.

        Raises:
            BudgetError: an L2 radius so small for an image of this size that it leaves every value below half a level.
        """
        if self.adaptive:
            inside = _shared(levels.astype(np.int16), self.radii(pixels) if radii is None else radii, np)
            return _to_range(inside, pixels).astype(self.dtype)
        if self.norm == "linf":
            limit = math.floor(self.radius)
            clipped = np.empty(pixels.shape, dtype=self.dtype)
            for channel in range(pixels.shape[1]):  # one at a time: large images need the memory
                inside = np.clip(levels[:, channel], -limit, limit).astype(np.int16)
                clipped[:, channel] = _to_range(inside, pixels[:, channel])
            return clipped
        shrink = np.minimum(1, self.radius / np.maximum(np.sqrt(_squares(levels)), 1)).reshape(-1, 1, 1, 1)
        if levels.any() and float((np.abs(levels).max(axis=(1, 2, 3), keepdims=True) * shrink).max()) < 0.5:
            height, width = pixels.shape[2:]
            raise BudgetError(
                f"got the budget {self} for an image of {width}x{height} pixels, where it is too small to change any "
                f"pixel by half a level. Use a larger radius, or an L-inf budget, which does not depend on the size"
            )
        return self._round(levels, pixels)

    def _round(self, exact: NDArray[Any], pixels: NDArray[np.uint8]) -> NDArray[Any]:
        if self.norm == "linf":
            limit = math.floor(self.radius)  # a fractional radius is rounded inwards
            levels = np.clip(np.rint(exact), -limit, limit).astype(np.int16)
            if self.adaptive:
                levels = _shared(levels, self.radii(pixels), np)
            return _to_range(levels, pixels).astype(self.dtype)
        most = math.floor(self.radius**2)  # the square of the result, which is a whole number
        most -= math.sqrt(most) > self.radius
        most += math.sqrt(most + 1) <= self.radius
        wide = pixels.astype(np.int16)
        low, high = np.maximum(-wide, -MAX_BYTE), np.minimum(WHITE - wide, MAX_BYTE)  # an L2 value must fit a byte
        lengths = np.sqrt(_squares(exact))
        # A hair inside, so that what is cut off is never too long.
        shrink = np.where(lengths > self.radius, self.radius / np.maximum(lengths, 1) * (1 - 1e-12), 1)
        inside = exact * shrink.reshape(-1, 1, 1, 1)
        inside = np.clip(inside, low, high, out=inside).reshape(len(exact), -1)
        levels = np.trunc(inside).astype(np.int16)
        signs = np.sign(inside).astype(np.int8)
        room = np.minimum(np.rint(_squares(inside)), most) - _squares(levels)
        lost = np.rint(np.abs(np.subtract(inside, levels, out=inside), out=inside) * PARTS).astype(np.uint16)
        del inside, low, high, wide  # large images need the memory
        levels += signs * _raised(np.abs(levels), lost, room.astype(np.int64))
        return levels.reshape(exact.shape).astype(self.dtype)

    def apply(self, pixels: NDArray[np.uint8], levels: NDArray[Any]) -> NDArray[np.uint8]:
        """Add stored perturbations to original pixels.

        Args:
            pixels: (B, C, H, W) uint8.
            levels: (B, C, H, W) in levels, as ``quantise`` returns them.

        Raises:
            BudgetError: perturbations outside the ball, as a damaged store would hold them.
        """
        protected = np.empty_like(pixels)
        for channel in range(pixels.shape[1]):  # one at a time: large images need the memory
            sums = pixels[:, channel].astype(np.int16) + levels[:, channel]
            protected[:, channel] = np.clip(sums, 0, WHITE, out=sums)
        if not self.contains(pixels, protected).all():
            reached = float(self.measure(pixels, protected).max(initial=0))
            raise BudgetError(
                f"got a perturbation of up to {reached:g} levels; expected one within {self}: the store is damaged"
            )
        return protected

    def measure(self, original: NDArray[np.uint8], protected: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The norm of each image's change, in levels: (B, C, H, W) uint8 twice -> (B,)."""
        change = np.empty(original.shape[1:], dtype=np.int16)
        norms = np.empty(len(original))
        for row in range(len(original)):
            np.subtract(protected[row], original[row], out=change, dtype=np.int16)
            norms[row] = self.norm_of(change[None])[0]
        return norms

    def norm_of(self, levels: NDArray[Any]) -> NDArray[np.float64]:
        """The norm of perturbations, in levels: (B, C, H, W) integers -> (B,)."""
        if self.norm == "l2":
            return np.sqrt(_squares(levels))
        flat = levels.reshape(len(levels), -1).astype(np.int16, copy=False)  # -128 has no positive byte
        return np.maximum(flat.max(axis=1, initial=0), -flat.min(axis=1, initial=0)).astype(np.float64)


def _luma(colour: Any) -> Any:
    """The weighted mean of (B, C, H, W) over C, which is 1 or 3: (B, 1, H, W)."""
    if colour.shape[1] == 1:
        return colour
    return sum(weight * colour[:, channel : channel + 1] for channel, weight in enumerate(WEIGHTS)) // sum(WEIGHTS)


def _shared(change: Any, radii: Any, library: Any) -> Any:
    """Bring changes into an adaptive ball: what has the sign of the change in luma first, what opposes it in the rest.

    Args:
        change: (B, C, H, W) of numpy or torch.
        radii: (B, 1, H, W) of the same kind and scale.
        library: ``numpy`` or ``torch``.
    """
    change = library.clip(change, -radii, radii)
    if change.shape[1] == 1:
        return change
    brighter = sum(weight * change[:, channel : channel + 1] for channel, weight in enumerate(WEIGHTS)) >= 0
    along = library.where(brighter, change, -change)
    room = radii - library.clip(library.amax(along, axis=1, keepdims=True), 0, None)
    along = library.maximum(along, -room)
    return library.where(brighter, along, -along)


def _to_range(levels: NDArray[np.int16], pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Clip levels to what keeps pixels + levels in [0, 255]."""
    wide = pixels.astype(np.int16)
    return np.clip(levels, -wide, WHITE - wide)


def _raised(sizes: NDArray[np.int16], lost: NDArray[np.uint16], room: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values (B, N) to raise by one level after they were cut off.

    What lost most comes first; among equals those that are far from one another, not the top of the image.

    Args:
        sizes: of the values, without signs, up to ``MAX_BYTE`` (B, N).
        lost: what was cut off (B, N), in ``PARTS`` of a level.
        room: by how much the sum of the squares of each row may grow (B,).
    """
    count = sizes.shape[1]
    stride = round(count * 0.618) or 1
    while math.gcd(stride, count) != 1:
        stride += 1
    spread = (np.arange(count) * stride % count).astype(np.int32)
    order = spread[np.argsort(PARTS - lost[:, spread], axis=1, kind="stable")]
    growth = (2 * np.take_along_axis(sizes, order, axis=1) + 1).astype(np.uint8)
    waiting = np.take_along_axis(lost, order, axis=1) > 0
    first = np.zeros(sizes.shape, dtype=bool)
    # The first that there is no room for ends a pass, since what comes after it may need less. Whatever needs more than
    # what is left never comes again, so that there are at most as many passes as sizes.
    while (waiting := waiting & (growth <= room[:, None])).any():
        taken = waiting & (np.cumsum(growth * waiting, axis=1, dtype=np.int64) <= room[:, None])
        room = room - (growth * taken).sum(axis=1, dtype=np.int64)
        waiting &= ~taken
        first |= taken
    raised = np.zeros_like(first)
    np.put_along_axis(raised, order, first, axis=1)
    return raised


def _squares(levels: NDArray[Any]) -> NDArray[np.float64]:
    """The squared L2 norm of each image."""
    result: NDArray[np.float64] = np.square(levels.reshape(len(levels), -1), dtype=np.float64).sum(axis=1)
    return result
