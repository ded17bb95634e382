"""ResNet for small images (He et al. 2016, the CIFAR form): 3x3 stride-1 stem, no max-pool, basic blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageClassification

from hf_unlearnable.modeling.base import NormalisedConv, SmallImageClassifier, SmallImageConfig


class SmallResNetConfig(SmallImageConfig):
    """Configuration of a ``SmallResNetForImageClassification``.

    The defaults make a network of about 80,000 parameters; ``widths=(64, 128, 256, 512), depths=(2, 2, 2, 2)`` is the
    ResNet-18 of the literature on CIFAR.

    Args:
        depths: basic blocks of each stage; as many as ``widths``.
        kwargs: see ``SmallImageConfig``.
    """

    model_type = "unlearnable-small-resnet"

    def __init__(self, depths: tuple[int, ...] = (1, 1, 1, 1), **kwargs: Any) -> None:
        self.depths = list(depths)
        super().__init__(**kwargs)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = NormalisedConv(inputs, outputs, stride=stride)
        self.second = NormalisedConv(outputs, outputs)
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = NormalisedConv(inputs, outputs, side=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The stride as a pooling of single pixels, which is the same as a 1x1 convolution with a stride: oneDNN (torch
        # 2.13, channels last, two threads, an odd batch) writes beyond its memory in the backward pass of the latter.
        # A slice would be the same too, but its gradient is not channels last: a fifth of a training step.
        kept = x if self.stride == 1 else F.avg_pool2d(x, 1, self.stride)
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(kept))


class SmallResNetForImageClassification(SmallImageClassifier):
    """A ResNet whose features are the average of its last stage."""

    config_class = SmallResNetConfig

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__(config)
        width = config.widths[0]
        self.stem = NormalisedConv(config.num_channels, width)
        blocks: list[nn.Module] = []
        for stage, (outputs, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(depth):
                blocks.append(_Block(width, outputs, stride=2 if stage > 0 and block == 0 else 1))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.add_head(width)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised pixels -> (B, ``widths[-1]``) features."""
        return self.blocks(F.relu(self.stem(pixel_values))).mean(dim=(2, 3))


AutoConfig.register(SmallResNetConfig.model_type, SmallResNetConfig, exist_ok=True)
AutoModelForImageClassification.register(SmallResNetConfig, SmallResNetForImageClassification, exist_ok=True)
