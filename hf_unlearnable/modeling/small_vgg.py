"""VGG with batch normalisation for small images (Simonyan & Zisserman 2015): no shortcuts, positions kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageClassification

from hf_unlearnable.modeling.base import NormalisedConv, SmallImageClassifier, SmallImageConfig


class SmallVGGConfig(SmallImageConfig):
    """Configuration of a ``SmallVGGForImageClassification``.

    Args:
        widths: channels of each stage of two convolutions and a max-pool.
        hidden_size: D, the width of the hidden layer that makes the features.
        grid: the last feature map is brought to grid x grid positions, so that images of any size fit.
        kwargs: see ``SmallImageConfig``.
    """

    model_type = "unlearnable-small-vgg"

    def __init__(
        self, widths: tuple[int, ...] = (16, 32, 64), hidden_size: int = 64, grid: int = 4, **kwargs: Any
    ) -> None:
        self.hidden_size = hidden_size
        self.grid = grid
        super().__init__(widths=widths, **kwargs)


class SmallVGGForImageClassification(SmallImageClassifier):
    """A VGG whose features come from one hidden layer over all positions of its last stage."""

    config_class = SmallVGGConfig

    def __init__(self, config: SmallVGGConfig) -> None:
        super().__init__(config)
        width = config.num_channels
        layers: list[nn.Module] = []
        for outputs in config.widths:
            layers += [
                NormalisedConv(width, outputs),
                nn.ReLU(),
                NormalisedConv(outputs, outputs),
                nn.ReLU(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
            width = outputs
        self.stages = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(config.grid)
        self.hidden = nn.Linear(width * config.grid**2, config.hidden_size)
        self.add_head(config.hidden_size)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised pixels, at least 8x8 -> (B, ``hidden_size``) features."""
        return F.relu(self.hidden(self.pool(self.stages(pixel_values)).flatten(1)))


AutoConfig.register(SmallVGGConfig.model_type, SmallVGGConfig, exist_ok=True)
AutoModelForImageClassification.register(SmallVGGConfig, SmallVGGForImageClassification, exist_ok=True)
