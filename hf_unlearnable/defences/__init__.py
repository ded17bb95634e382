"""What a thief may do against a protection, by name: ``Defence.parse("jpeg:50")``."""

from hf_unlearnable.defences.base import Defence, available_defences
from hf_unlearnable.defences.batches import (
    AdversarialTraining,
    Blur,
    CutMix,
    Cutout,
    Mixup,
    Noise,
    UEraserLite,
    UEraserMax,
)
from hf_unlearnable.defences.once import (
    JPEG,
    BitDepth,
    EarlyStopping,
    Grayscale,
    NoDefence,
    OrthogonalProjection,
    PretrainedStart,
)

__all__ = [
    "JPEG",
    "AdversarialTraining",
    "BitDepth",
    "Blur",
    "CutMix",
    "Cutout",
    "Defence",
    "EarlyStopping",
    "Grayscale",
    "Mixup",
    "NoDefence",
    "Noise",
    "OrthogonalProjection",
    "PretrainedStart",
    "UEraserLite",
    "UEraserMax",
    "available_defences",
]
