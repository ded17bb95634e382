"""A small ResNet with the stem of large images: transformers' own, 7x7 convolution of stride 2 and max-pool."""

from __future__ import annotations

from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification


def strided_resnet(num_labels: int, channels: int) -> PreTrainedModel:
    """Three stages of one basic block: what most code that meets images begins with, in small.

    The stem leaves a quarter of each side, so fine patterns meet it in another way than they meet 3x3 convolutions.
    """
    config = ResNetConfig(
        num_channels=channels,
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
    )
    config.num_labels = num_labels
    return ResNetForImageClassification(config)
