"""CUDA: a convolution for each class (Sadasivan et al. 2023, arXiv 2303.04278), inside a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.baselines.batchwise import Batchwise, Make
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.settings import Few, Rate, refuse


@dataclass(frozen=True, kw_only=True)
class CUDA(Batchwise, name="cuda"):
    """Blur the images of every class by a random filter of its own, as far as the budget lets it.

    Algorithm 1 of the paper: the weights of the filter of a class are uniform in [0, ``blur``], but for one at a random
    place, which is 1; all channels are convolved by it alike, with zeros around the image, and the result is divided by
    its largest value. The perturbation is the difference to the image, so it depends on what the image shows, and no
    fixed direction takes it out.

    The paper has no budget: its images differ from the originals by far more than 8/255. Here the difference is clipped
    to the ball (scaled to it under an L2 budget), so figures of the paper do not apply.

    Args:
        blur: the largest other weight; 0.3 in the paper for images of 32 pixels a side, 0.06 for 224.
        kernel: side of the filter, an odd number; 3 in the paper for 32 pixels, 9 for 224.

    Raises:
        RecipeError: an even side, which has no pixel in its middle.
    """

    uses_surrogates: ClassVar[bool] = False
    finest: ClassVar[int] = 256  # costs nothing here
    adaptive: ClassVar[str] = "jpeg:10"
    citation = Paper(
        key="sadasivan2023cuda",
        title="CUDA: Convolution-based Unlearnable Datasets",
        authors=("Sadasivan, Vinu Sankar", "Soltanolkotabi, Mahdi", "Feizi, Soheil"),
        year=2023,
        arxiv="2303.04278",
    )

    blur: Rate = 0.3
    kernel: Few = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            refuse(self, f"kernel={self.kernel}", "an odd number")

    def maker(self, task: Task) -> Make:
        """Draw the filters, alike in every process."""
        generator = torch.Generator().manual_seed(self.seed)
        classes, places = len(task.images.names), self.kernel**2
        filters = self.blur * torch.rand(classes, places, generator=generator)
        filters.scatter_(1, torch.randint(0, places, (classes, 1), generator=generator), 1.0)
        filters = filters.view(classes, 1, self.kernel, self.kernel)

        def make(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return convolved(images, filters.to(images.device)[labels]) - images

        return make


def convolved(images: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """All channels of every image by a filter of its own, at a largest value of one; black stays black.

    Args:
        images: (B, C, H, W).
        filters: (B, 1, S, S), S odd.
    """
    count, channels, height, width = images.shape
    weights = filters.repeat_interleave(channels, dim=0)
    blurred = F.conv2d(images.reshape(1, -1, height, width), weights, padding="same", groups=count * channels)
    blurred = blurred.view(images.shape)
    return blurred / blurred.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
