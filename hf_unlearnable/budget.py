"""The perturbation budget: the only place where a 255 or a clip to a ball stands.

Two scales meet here. *Levels* are the 256 values of an 8-bit pixel: budgets are written, perturbations stored and
images released in levels. The *unit* scale, [0, 1], is what surrogates and victims see.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_unlearnable.errors import BudgetError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

WHITE = 255  # the highest level of an 8-bit pixel; one level is 1/255 of the unit scale
MAX_BYTE = 127  # what one signed byte of the perturbation store can hold

Norm = Literal["linf", "l2"]


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

    Raises:
        BudgetError: a radius that is not a number in range, or an unknown norm.
    """

    radius: float
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise BudgetError(f"got the norm {self.norm!r}; expected 'linf' or 'l2'")
        if isinstance(self.radius, bool) or not isinstance(self.radius, (int, float)) or not math.isfinite(self.radius):
            raise BudgetError(f"got the radius {self.radius!r}; expected a number of 8-bit levels, as in Budget(8)")
        if self.radius < 1:
            raise BudgetError(
                f"got a radius of {self.radius:g} levels; expected at least 1, since an 8-bit pixel cannot change by "
                f"less. Budgets are counted in levels of 255: write Budget(8) or '8/255' for 8/255 = 0.031"
            )
        if self.norm == "linf" and self.radius > WHITE:
            raise BudgetError(
                f"got a radius of {self.radius:g} levels; expected at most {WHITE}, the whole range of a pixel. "
                f"8 is usual, 16 is visible"
            )

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Read a budget from text: ``"8"``, ``"8/255"``, ``"linf:8"``, ``"l2:255"``.

        Raises:
            BudgetError: text of another form, or a radius out of range.
        """
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            return cls(text)
        match = re.fullmatch(r"\s*(?:(linf|l2)\s*:)?\s*(\d+(?:\.\d+)?)\s*(?:/\s*255)?\s*", text.lower())
        if match is None:
            raise BudgetError(f"got the budget {text!r}; expected levels such as '8', '8/255', 'linf:8' or 'l2:255'")
        norm: Any = match[1] or "linf"
        radius = float(match[2])
        return cls(int(radius) if radius.is_integer() else radius, norm)

    def __str__(self) -> str:
        return f"{self.norm}:{self.radius:g}"

    @property
    def epsilon(self) -> float:
        """The radius on the unit scale: 8/255 for ``Budget(8)``."""
        return self.radius / WHITE

    @property
    def dtype(self) -> np.dtype[Any]:
        """How a perturbation is stored: one signed byte per value, two for an L-inf radius that one cannot hold."""
        wide = self.norm == "linf" and self.radius > MAX_BYTE
        return np.dtype(np.int16 if wide else np.int8)

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
        return (images + self.clip(perturbations)).clamp(0, 1) - images

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """The steepest ascent direction under the norm, as long as the radius: what a step is a fraction of.

        The sign for L-inf, the normalised gradient for L2; (B, C, H, W) on the unit scale.
        """
        if self.norm == "linf":
            return gradient.sign() * self.epsilon
        return gradient * (self.epsilon / gradient.flatten(1).norm(dim=1).clamp_min(1e-30)).view(-1, 1, 1, 1)

    def quantise(self, perturbations: torch.Tensor, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Round perturbations onto the 8-bit grid without leaving the ball or the range of a pixel.

        Plain rounding lengthens most L2 perturbations beyond the radius: those are shrunk and rounded again.

        Args:
            perturbations: (B, C, H, W) float, unit scale.
            pixels: (B, C, H, W) uint8 originals.

        Returns:
            (B, C, H, W) in levels, of ``dtype``, so that ``pixels + result`` lies in [0, 255] and in the ball.
        """
        return self._round(perturbations.detach().double().cpu().numpy() * WHITE, pixels)

    def limit(self, levels: NDArray[Any], pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Bring perturbations that were resampled after ``quantise`` back into the ball and the range of a pixel.

        Args:
            levels: (B, C, H, W) integers.
            pixels: (B, C, H, W) uint8 originals.

        Returns:
            As ``quantise`` does.

        Raises:
            BudgetError: an L2 radius so small for an image of this size that no pixel could change.
        """
        if self.norm == "linf":
            limit = math.floor(self.radius)
            clipped = np.empty(pixels.shape, dtype=self.dtype)
            for channel in range(pixels.shape[1]):  # one at a time: large images need the memory
                inside = np.clip(levels[:, channel], -limit, limit).astype(np.int16)
                clipped[:, channel] = _to_range(inside, pixels[:, channel])
            return clipped
        shrink = np.minimum(1, self.radius / np.maximum(np.sqrt(_squares(levels)), 1))
        result = self._round(levels * shrink.reshape(-1, 1, 1, 1), pixels)
        if levels.any() and not result.any():
            height, width = pixels.shape[2:]
            raise BudgetError(
                f"got the budget {self} for an image of {width}x{height} pixels, where it is too small to change any "
                f"pixel by a level. Use a larger radius, or an L-inf budget, which does not depend on the size"
            )
        return result

    def _round(self, exact: NDArray[np.float64], pixels: NDArray[np.uint8]) -> NDArray[Any]:
        # Rounded inwards for a fractional L-inf radius; an L2 value must fit a byte, which only shortens it.
        limit = math.floor(self.radius) if self.norm == "linf" else min(math.floor(self.radius), MAX_BYTE)

        def rounded(scale: NDArray[np.float64] | float) -> NDArray[np.int16]:
            return _to_range(np.clip(np.rint(exact * scale), -limit, limit).astype(np.int16), pixels)

        levels = rounded(1.0)
        if self.norm == "l2":
            scale = np.ones((len(levels), 1, 1, 1))
            while (over := np.sqrt(_squares(levels)) > self.radius).any():
                # One part in a hundred a round: small enough to waste little of the radius, and it always ends, since
                # values below half a level round to zero.
                scale[over] *= 0.99
                levels = rounded(scale)
        return levels.astype(self.dtype)

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
        reached = float(self.measure(pixels, protected).max(initial=0))
        if reached > self.radius:
            raise BudgetError(
                f"got a perturbation of {reached:g} levels; expected at most {self}: the store is damaged"
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


def _to_range(levels: NDArray[np.int16], pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Clip levels to what keeps pixels + levels in [0, 255]."""
    wide = pixels.astype(np.int16)
    return np.clip(levels, -wide, WHITE - wide)


def _squares(levels: NDArray[Any]) -> NDArray[np.float64]:
    """The squared L2 norm of each image."""
    result: NDArray[np.float64] = np.square(levels.reshape(len(levels), -1), dtype=np.float64).sum(axis=1)
    return result
