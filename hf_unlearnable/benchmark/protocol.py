"""The frozen protocol: what every figure of a table was measured with. ``docs/protocol.md`` says why.

Nothing here changes under a version: ``tests/benchmark/test_protocol.py`` holds its digest. What has to change becomes
the next version, and rows of two versions never stand in one table.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from hf_unlearnable.defences import Defence
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED
from hf_unlearnable.evaluation.thieves import Thief, find_victim
from hf_unlearnable.training.run import Training

VERSION = "v1"

NONE = "none"  # what a comparison calls itself that follows no protocol

CASES = (CLEAN, PROTECTED, MIX, CLEAN_PART)

RATIOS = (0.0, 0.5, 1.0)

SEEDS = (101, 102, 103)  # of victims; none that a surrogate starts from by default

FITS = (0, 1, 2)  # seeds of fits

# Victim, training, defence. The first is the ordinary thief, who alone meets mixtures and tries the attack that a
# method names as the best on itself.
_QUICK = (
    ("small-resnet", "sgd", "none"),
    ("strided-resnet", "sgd", "none"),
    ("small-resnet", "short", "none"),
    ("small-resnet", "sgd", "jpeg:10"),
    ("random-features", "", "none"),
)
_STANDARD = (
    *_QUICK,
    ("small-vgg", "sgd", "none"),
    ("small-vit", "adamw", "none"),
    ("mlp", "adamw", "none"),
    ("linear", "adamw", "none"),
    ("small-resnet", "strong", "none"),
    ("hog", "", "none"),
    ("knn", "", "none"),
    ("small-resnet", "sgd", "grayscale"),
    ("small-resnet", "sgd", "bitdepth:2"),
    ("small-resnet", "sgd", "colour-floor:8"),
    ("small-resnet", "sgd", "pattern-subtraction"),
    ("small-resnet", "sgd", "spectral-peak"),
    ("small-resnet", "sgd", "orthogonal-projection"),
    ("small-resnet", "sgd", "ueraser-lite"),
    ("small-resnet", "sgd", "adversarial:4"),
)
_GPU = (
    ("resnet-18", "sgd", "none"),
    ("strided-resnet", "sgd", "none"),
    ("small-vgg", "sgd", "none"),
    ("small-vit", "adamw", "none"),
    ("resnet-18", "short", "none"),
    ("resnet-18", "strong", "none"),
    ("random-features", "", "none"),
    ("resnet-18", "sgd", "jpeg:10"),
    ("resnet-18", "sgd", "grayscale"),
    ("resnet-18", "sgd", "bitdepth:2"),
    ("resnet-18", "sgd", "orthogonal-projection"),
    ("resnet-18", "sgd", "ueraser-lite"),
    ("resnet-18", "sgd", "adversarial:4"),
)
THIEVES = {"quick": _QUICK, "standard": _STANDARD, "gpu": _GPU}


@dataclass(frozen=True, kw_only=True)
class Data:
    """A dataset, and how long models are trained on it.

    Attributes:
        name: what tables call it.
        source: ``"fashion-mnist"`` or one of the sets of photo patches, which Debian's packages hold; else as
            ``load_source`` takes it.
        test_source: of the test images; ``source`` if left out.
        split: to protect and to train on.
        test_split: clean images that nobody trains on.
        rows: the first so many; all if left out.
        test_rows: likewise.
        epochs: of an ordinary training.
        thieves: of which list; empty where a comparison names its own.
        resolution: of victims, in pixels a side; as of ``learnability`` if left out.
        image_column: may be left out where there is one.
        label_column: likewise.
        digest: of pixels and labels to train on, as ``datasets.digest_of`` makes it; empty where it is not pinned.
        test_digest: likewise.
    """

    name: str
    source: str
    test_source: str | None = None
    split: str = "train"
    test_split: str = "test"
    rows: int | None = None
    test_rows: int | None = None
    epochs: int = 12
    thieves: str = ""
    resolution: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    digest: str = ""
    test_digest: str = ""

    @property
    def training(self) -> Training:
        """The recipe of an ordinary victim."""
        return Training(epochs=self.epochs)


# Method.adaptive is the method's, and no part of a version: a row tells which attack was tried on it.
# The digests of the last two are not pinned: nobody has run them yet. A row carries those that it was measured with.
DATASETS = {
    data.name: data
    for data in (
        Data(
            name="photo-patches-2000",
            source="photo-patches",
            rows=2000,
            test_rows=1000,
            thieves="quick",
            digest="0bc9f4deea64b41f1f53881c546833da",
            test_digest="916155247d208ffa2b4eb322212d66e3",
        ),
        Data(
            name="photo-patches-4000",
            source="photo-patches",
            thieves="standard",
            digest="a6a5420d8aa15493dd8118e95f2cfedd",
            test_digest="75b71ea0a8d9d0a403b3816f8c2e646a",
        ),
        Data(
            name="fashion-mnist-3000",
            source="fashion-mnist",
            rows=3000,
            test_rows=3000,
            thieves="standard",
            digest="196af02253174d990145ae6c9a164f00",
            test_digest="59b48475bb7997e882adcf848614306e",
        ),
        Data(
            name="fashion-mnist-10000",
            source="fashion-mnist",
            rows=10000,
            test_rows=3000,
            thieves="standard",
            digest="497e5fe293353e0468ec5ad9bddb5440",
            test_digest="59b48475bb7997e882adcf848614306e",
        ),
        Data(name="cifar10", source="uoft-cs/cifar10", epochs=60, thieves="gpu"),
        Data(
            name="imagenet-100",
            source="clane9/imagenet-100",
            test_split="validation",
            epochs=100,
            thieves="gpu",
            resolution=64,
        ),
    )
}

# What a table tells of each row, in the words of docs/protocol.md.
REPORTED = (
    "clean: clean test accuracy after training on the clean set, same thief, without and with the defence",
    "protected: the same after training on the protected set, last epoch and peak epoch",
    "clean part alone, mix: of a mixture with the ordinary thief, half of the rows protected",
    "chance: of naming the most frequent class",
    "share: (protected - chance) / (ceiling - chance), last epoch; ceiling: the best clean accuracy of all thieves",
    "best thief: the one with the largest share; it decides the order",
    "best attack: the ordinary victim with the defence that the method names as the best on itself (Method.adaptive)",
    "spread: sample standard deviation over fits of the mean over victims' seeds; range over thieves",
)


def thieves_of(data: Data) -> list[Thief]:
    """The thieves that the protocol sends against a dataset."""
    return [thief_of(*entry, data.training) for entry in THIEVES[data.thieves]]


def thief_of(victim: str, training: str, defence: str, base: Training) -> Thief:
    """One of them, by its three names.

    Raises:
        RecipeError: a name that nobody knows.
    """
    return Thief.of(find_victim(victim), training, Defence.parse(defence), base)


def canonical() -> dict[str, Any]:
    """All that the version freezes, with every setting written out, ready for JSON."""
    told = []
    for data in DATASETS.values():
        thieves = [
            {"victim": str(thief.victim), "training": asdict(thief.training), "defence": thief.defence.as_dict()}
            for thief in thieves_of(data)
        ]
        told.append({**asdict(data), "thieves": thieves})
    return {
        "version": VERSION,
        "datasets": told,
        "cases": list(CASES),
        "ratios": list(RATIOS),
        "seeds": list(SEEDS),
        "fits": list(FITS),
        "reported": list(REPORTED),
    }


def digest_of_json(told: Any) -> str:
    """32 hexadecimal digits of a JSON document, whatever the order of its keys."""
    text = json.dumps(told, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def protocol_digest(version: str = VERSION) -> str:
    """Of what a version freezes; empty for ``"none"``.

    Raises:
        RecipeError: another version than this package measures with.
    """
    if version == NONE:
        return ""
    if version != VERSION:
        raise RecipeError(f"got the protocol {version!r}; expected {VERSION}, or {NONE} for a comparison of your own")
    return digest_of_json(canonical())
