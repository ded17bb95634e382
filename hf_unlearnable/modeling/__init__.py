"""The built-in models for small images, ordinary ``PreTrainedModel``s known to the Auto classes, and surrogates."""

from hf_unlearnable.modeling.base import SmallImageClassifier, SmallImageConfig
from hf_unlearnable.modeling.small_mlp import SmallMLPConfig, SmallMLPForImageClassification
from hf_unlearnable.modeling.small_resnet import SmallResNetConfig, SmallResNetForImageClassification
from hf_unlearnable.modeling.small_vgg import SmallVGGConfig, SmallVGGForImageClassification
from hf_unlearnable.models.built_in import available_victims, register_victim
from hf_unlearnable.models.surrogate import Network, Surrogate

__all__ = [
    "Network",
    "SmallImageClassifier",
    "SmallImageConfig",
    "SmallMLPConfig",
    "SmallMLPForImageClassification",
    "SmallResNetConfig",
    "SmallResNetForImageClassification",
    "SmallVGGConfig",
    "SmallVGGForImageClassification",
    "Surrogate",
    "available_victims",
    "register_victim",
]
