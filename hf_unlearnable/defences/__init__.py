"""What a thief may do against a protection, by name: ``Defence.parse("jpeg:50")``."""

from hf_unlearnable.defences.adaptive import (
    ClassClusters,
    ClassMean,
    ColourFloor,
    PatternSubtraction,
    PrincipalDirections,
    SpectralPeak,
)
from hf_unlearnable.defences.adversarial import AdversarialTraining
from hf_unlearnable.defences.augmentation import Blur, CutMix, Cutout, Mixup, Noise
from hf_unlearnable.defences.base import Defence, available_defences
from hf_unlearnable.defences.compression import JPEG, BitDepth, Grayscale, Resize
from hf_unlearnable.defences.projection import OrthogonalProjection
from hf_unlearnable.defences.recovery import Recovery
from hf_unlearnable.defences.staged import Staged
from hf_unlearnable.defences.training import EarlyStopping, NoDefence, PretrainedStart, Probe, Validation
from hf_unlearnable.defences.ueraser import UEraserLite, UEraserMax

__all__ = [
    "JPEG",
    "AdversarialTraining",
    "BitDepth",
    "Blur",
    "ClassClusters",
    "ClassMean",
    "ColourFloor",
    "CutMix",
    "Cutout",
    "Defence",
    "EarlyStopping",
    "Grayscale",
    "Mixup",
    "NoDefence",
    "Noise",
    "OrthogonalProjection",
    "PatternSubtraction",
    "PretrainedStart",
    "PrincipalDirections",
    "Probe",
    "Recovery",
    "Resize",
    "SpectralPeak",
    "Staged",
    "UEraserLite",
    "UEraserMax",
    "Validation",
    "available_defences",
]
