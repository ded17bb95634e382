"""A small vision transformer: transformers' own, for images of 32 pixels a side."""

from __future__ import annotations

from transformers import (
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)


def small_vit(num_labels: int, channels: int) -> PreTrainedModel:
    """Patches of 4 pixels of images at 32 pixels a side: the usual cut of a ViT for small images."""
    config = ViTConfig(
        image_size=32,
        patch_size=4,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=192,
        num_channels=channels,
    )
    config.num_labels = num_labels
    return ViTForImageClassification(config)
