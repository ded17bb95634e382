"""AR: autoregressive perturbations, drawn without a network (Sandoval-Segura et al. 2022, arXiv 2206.03693)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.baselines.batchwise import Batchwise, Make, of_length
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.settings import Positive

WINDOW = 3  # pixels a side: eight neighbours above and to the left decide on a value
CROP = 4  # rows and columns of the noise at the start that are cut off
PUBLISHED_SIDE = 32  # pixels at which processes are told apart, whatever the size of the images
GROWTH = 50 / 3072**0.5  # the authors take processes whose 3072 values get at most this long, from noise of length 55
POOL = 8192  # candidates for a channel, of which about a fifth do not grow


@dataclass(frozen=True, kw_only=True)
class AR(Batchwise, name="ar"):
    """Add to every image noise whose neighbouring values follow a rule of its class.

    Each class has a process for every channel: scanned row by row, a value is the sum of its eight neighbours above and
    to the left, in a window of 3x3, with the coefficients of the class. These are Gaussian and sum to one; two rows and
    columns of white noise start the process anew for every image, so no two perturbations are alike, and none of them
    is separable by the eye or by a linear model. A convolution with the coefficients and -1 gives zero on the noise of
    its own class alone.

    As in appendix A.3 of the paper, processes must not grow, nor be taken for one another. The authors draw until the
    filters of all classes before respond to the noise of the next one by 10 (ten classes; 3 for a hundred), at a length
    of one and 32 pixels a side. Here each next one is that of a pool where filters and noise of the two respond most;
    the findings tell the least response of all pairs: 4.9 to 6.9 for ten classes with four seeds, 4.6 for the ten
    processes that the authors published. Processes are drawn channel by channel, and must not grow at the size of the
    images either.

    The L2 norm is 1.0 in the paper. For colour images of 32 pixels a side and a budget of 8/255 it is the same here
    (``strength``), and what then lies beyond the budget is cut off, which the paper does not do. Under an L2 budget it
    is the radius: ``Budget(255, "l2")`` is the paper's.

    Args:
        strength: the root mean square of a perturbation as a fraction of an L-inf radius, before it is cut off.
    """

    uses_surrogates: ClassVar[bool] = False
    one_class: ClassVar[bool] = True
    blind: ClassVar[bool] = True
    adaptive: ClassVar[str] = "jpeg:10"
    citation = Paper(
        key="sandovalsegura2022autoregressive",
        title="Autoregressive Perturbations for Data Poisoning",
        authors=(
            "Sandoval-Segura, Pedro",
            "Singla, Vasu",
            "Geiping, Jonas",
            "Goldblum, Micah",
            "Goldstein, Tom",
            "Jacobs, David W.",
        ),
        year=2022,
        arxiv="2206.03693",
    )

    strength: Positive = 0.575  # 1.0 / sqrt(3072) in units of 8/255

    def maker(self, task: Task) -> Make:
        """Find the processes, alike in every process."""
        classes, (channels, height, width) = len(task.images.names), task.images.pixels.shape[1:]
        coefficients, apart = processes(self.seed, classes, channels, max(PUBLISHED_SIDE, height, width))
        if classes > 1:
            task.findings["ar"] = {"least_response": apart}

        def make(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            noise = autoregressive(coefficients[labels.cpu()], height, width, generator)
            return of_length(noise, task.budget, self.strength).to(images.device)

        return make

    @classmethod
    def describe(cls, findings: Mapping[str, Any]) -> str:
        """How well the processes are told apart."""
        if (found := findings.get("ar")) is None:
            return ""
        return (
            f"The filters of the classes respond to the noise of another class by at least "
            f"{found['least_response']:.1f}, and by 0 to that of their own."
        )


@lru_cache(maxsize=8)  # a second for each, and the same for every fit of images like these
def processes(seed: int, classes: int, channels: int, side: int) -> tuple[torch.Tensor, float]:
    """Processes that keep apart.

    Args:
        seed: of the draws.
        classes: K.
        channels: C.
        side: of the images, in pixels.

    Returns:
        Coefficients (K, C, 3, 3), of which the last one of each window is zero, not to be changed: others get them too;
        and the least response of the filter of one class to the noise of another one.
    """
    generator = torch.Generator().manual_seed(seed)
    candidates = torch.empty(0, channels, WINDOW, WINDOW)
    while len(candidates) < classes:
        candidates = torch.cat([candidates, _steady(channels, side, generator)])
    noise = autoregressive(candidates, PUBLISHED_SIDE, PUBLISHED_SIDE, generator)
    noise = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    filters = candidates.clone()
    filters[..., -1, -1] = -1
    chosen, least = [0], torch.full((len(candidates),), torch.inf)
    apart = torch.inf
    while len(chosen) < classes:
        newest = chosen[-1:]
        least = torch.minimum(least, F.conv2d(noise, filters[newest]).relu().sum(dim=(1, 2, 3)))
        least = torch.minimum(least, F.conv2d(noise[newest], filters).relu().sum(dim=(0, 2, 3)))
        least[chosen] = -1
        chosen.append(int(least.argmax()))
        apart = min(apart, float(least.max()))
    return candidates[chosen], apart


def _steady(channels: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Candidates (B, C, 3, 3) whose noise does not grow."""
    pool = torch.randn(POOL, 1, WINDOW, WINDOW, generator=generator)
    pool[..., -1, -1] = 0
    pool = pool / pool.sum(dim=(-2, -1), keepdim=True)
    for size in dict.fromkeys((PUBLISHED_SIDE, max(side, PUBLISHED_SIDE))):
        grown = [autoregressive(pool, size, size, generator).square().mean(dim=(1, 2, 3)) for _ in range(3)]
        pool = pool[(torch.stack(grown) <= GROWTH**2).all(dim=0)]  # what overflowed is not below anything
    return pool[: len(pool) // channels * channels].view(-1, channels, WINDOW, WINDOW)


def autoregressive(coefficients: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Noise that follows a process for every channel, (B, C, H, W), as long as it gets.

    Args:
        coefficients: (B, C, 3, 3) of the value and its neighbours above and to the left; the last one counts nothing.
        height: H.
        width: W.
        generator: of the white noise at the start.
    """
    shape = *coefficients.shape[:2], height + CROP, width + CROP
    # Values of one place lie together, since they are computed together.
    values = torch.randn(shape, generator=generator).permute(2, 3, 0, 1).contiguous()
    weights = coefficients.permute(2, 3, 0, 1).contiguous()
    for row in range(WINDOW - 1, height + CROP):
        for column in range(WINDOW - 1, width + CROP):
            window = values[row - WINDOW + 1 : row + 1, column - WINDOW + 1 : column + 1]
            values[row, column] = (window * weights).sum(dim=(0, 1))
    return values[CROP:, CROP:].permute(2, 3, 0, 1).contiguous()
