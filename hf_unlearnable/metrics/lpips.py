"""LPIPS: how different two images look to a network (Zhang et al. 2018, arXiv 1801.03924); torchmetrics computes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from hf_unlearnable.errors import MissingExtraError, RecipeError

Distance = Callable[[torch.Tensor, torch.Tensor], Any]

NETWORKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}  # by their names in torchvision

MIN_SIDE = 31  # pixels: of less the pooling of AlexNet leaves nothing


@cache
def load_lpips(network: str = "alex") -> Distance:
    """The distance of two float tensors (1, 3, H, W) in [-1, 1], with weights that are on this machine already.

    Args:
        network: ``"alex"``, which its authors recommend for measuring, ``"vgg"`` or ``"squeeze"``.

    Raises:
        RecipeError: no such network, or its packages or weights are not here. Nothing is downloaded.
    """
    if network not in NETWORKS:
        raise RecipeError(f"got the LPIPS network {network!r}; expected one of {', '.join(NETWORKS)}")
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        from torchvision.models import get_model_weights
    except (ImportError, RuntimeError) as error:  # a torchvision that was built for another torch says the latter
        raise MissingExtraError(
            f"LPIPS needs torchmetrics and torchvision, built for the torch that is here ({error}); install them: pip "
            f"install torchmetrics torchvision"
        ) from error
    name = NETWORKS[network]
    address: str = get_model_weights(name).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]
    if not file.exists():
        raise RecipeError(
            f"LPIPS needs the weights of {name}, which are not at {str(file)!r}; fetch them: "
            f"python -c \"import torchvision; torchvision.models.{name}(weights='DEFAULT')\""
        )
    distance: Distance = LearnedPerceptualImagePatchSimilarity(net_type=network)
    return distance
