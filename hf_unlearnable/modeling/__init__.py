"""The built-in models for small images: ordinary ``PreTrainedModel``s, registered with the Auto classes."""

from hf_unlearnable.modeling.base import SmallImageClassifier, SmallImageConfig
from hf_unlearnable.modeling.small_resnet import SmallResNetConfig, SmallResNetForImageClassification
from hf_unlearnable.modeling.small_vgg import SmallVGGConfig, SmallVGGForImageClassification

__all__ = [
    "SmallImageClassifier",
    "SmallImageConfig",
    "SmallResNetConfig",
    "SmallResNetForImageClassification",
    "SmallVGGConfig",
    "SmallVGGForImageClassification",
]
