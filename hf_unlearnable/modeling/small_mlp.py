"""Classifiers of pixels without convolutions: one linear layer, or a few with ReLU between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageClassification

from hf_unlearnable.modeling.base import SmallImageClassifier, SmallImageConfig


class SmallMLPConfig(SmallImageConfig):
    """Configuration of a ``SmallMLPForImageClassification``.

    Args:
        widths: of the hidden layers; without any the model is a linear one.
        image_size: S, the side in pixels that images are brought to.
        kwargs: see ``SmallImageConfig``.
    """

    model_type = "unlearnable-small-mlp"

    def __init__(self, widths: tuple[int, ...] = (256, 128), image_size: int = 32, **kwargs: Any) -> None:
        self.image_size = image_size
        super().__init__(widths=widths, **kwargs)


class SmallMLPForImageClassification(SmallImageClassifier):
    """Linear layers on all pixels; what enters the last one are the features, for a linear model the pixels."""

    config_class = SmallMLPConfig

    def __init__(self, config: SmallMLPConfig) -> None:
        super().__init__(config)
        width = config.num_channels * config.image_size**2
        # Thousands of inputs of length 1 make steps of SGD too large. With 16 both models learn more than with 1, 4 or
        # no scale (2,000 images of Fashion-MNIST and of photographs, 12 epochs).
        self.scale = 16 / width**0.5
        layers: list[nn.Module] = []
        for outputs in config.widths:
            layers += [nn.Linear(width, outputs), nn.ReLU()]
            width = outputs
        self.layers = nn.Sequential(*layers)
        self.add_head(width)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised pixels -> (B, ``widths[-1]``) features, or (B, C S^2) pixels of a linear model."""
        side = self.config.image_size
        if pixel_values.shape[-2:] != (side, side):
            pixel_values = F.interpolate(pixel_values, (side, side), mode="bilinear", antialias=True)
        features: torch.Tensor = self.layers(pixel_values.flatten(1) * self.scale)
        return features


AutoConfig.register(SmallMLPConfig.model_type, SmallMLPConfig, exist_ok=True)
AutoModelForImageClassification.register(SmallMLPConfig, SmallMLPForImageClassification, exist_ok=True)
