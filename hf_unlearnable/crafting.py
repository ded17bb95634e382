"""Perturbations for images that ``fit`` has not seen, made one by one against the frozen surrogates.

The trained surrogates undo nothing by themselves, but they help a thief to model the protection: they are private like
the perturbations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, load_model, save_file, save_model
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageClassification

from hf_unlearnable.budget import Budget, to_unit
from hf_unlearnable.errors import RecipeError, SourceError
from hf_unlearnable.surrogate import Network
from hf_unlearnable.training import random_crop_flip

RECIPE, PATTERNS, WEIGHTS = "crafting.json", "patterns.safetensors", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Crafting:
    """The recipe: from the pattern of the class on, sign steps that make the frozen surrogates certain of the class.

    Args:
        steps: of each perturbation.
        views: randomly cropped and flipped copies of the image that a step looks at.
        first_step: size of a step at the start, as a fraction of the radius; falls linearly
        last_step: to this one.
    """

    steps: int = 10
    views: int = 8
    first_step: float = 1 / 8
    last_step: float = 1 / 32


class Crafter:
    """Makes the perturbation of one image; the same bytes for the same image on one machine, in whatever process.

    Args:
        folder: where ``write`` left it.
        budget: of the protection.

    Raises:
        SourceError: the folder is damaged.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.budget = budget
        try:
            about = json.loads((folder / RECIPE).read_text())
            self.recipe = Crafting(**about["recipe"])
            self.patterns = load_file(folder / PATTERNS)["patterns"]
        except (OSError, KeyError, ValueError) as error:
            raise SourceError(f"{str(folder)!r}, which crafts for unseen images, is damaged: {error}") from error
        with _one_thread():
            self.networks = [
                _load(folder / str(index), *self.patterns.shape[:2], *normalisation)
                for index, normalisation in enumerate(about["normalisation"])
            ]

    @classmethod
    def write(
        cls, folder: Path, networks: Sequence[Network], patterns: torch.Tensor, budget: Budget, recipe: Crafting
    ) -> str:
        """Keep what crafting needs.

        Args:
            folder: does not exist yet.
            networks: the trained surrogates.
            patterns: (K, C, H, W) on the unit scale, the pattern of every class.
            budget: of the protection.
            recipe: how to craft.

        Returns:
            A digest of everything written.

        Raises:
            RecipeError: a model that cannot be saved and loaded by transformers.
        """
        folder.mkdir(mode=0o700)
        normalisation = []
        try:
            for index, network in enumerate(networks):
                _save(network, folder / str(index))
                normalisation.append([network.mean.flatten().tolist(), network.std.flatten().tolist()])
            save_file({"patterns": patterns.cpu().contiguous()}, folder / PATTERNS)
            (folder / RECIPE).write_text(json.dumps({"recipe": asdict(recipe), "normalisation": normalisation}))
            cls(folder, budget)
        except (OSError, ValueError, SourceError) as error:
            raise RecipeError(f"the surrogate cannot be kept for on_unseen='craft': {error}") from error
        hashed = hashlib.blake2b(digest_size=16)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            hashed.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
        return hashed.hexdigest()

    def __call__(self, pixels: NDArray[np.uint8], label: int, key: bytes) -> NDArray[Any]:
        """Craft a perturbation.

        Args:
            pixels: (C, H, W) uint8 at the surrogate's resolution.
            label: class number.
            key: digest of the image, from which the crops and flips are drawn.

        Returns:
            (C, H, W) in levels.
        """
        recipe, budget = self.recipe, self.budget
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
        clean = to_unit(torch.tensor(pixels))[None]
        labels = torch.full((recipe.views,), label)
        with _one_thread():
            perturbation = budget.project(self.patterns[label][None], clean)
            for step in range(recipe.steps):
                share = step / max(1, recipe.steps - 1)
                size = recipe.first_step + (recipe.last_step - recipe.first_step) * share
                perturbation.requires_grad_()
                views = random_crop_flip((clean + perturbation).expand(recipe.views, -1, -1, -1), generator)
                gradients = torch.zeros_like(perturbation)
                for network in self.networks:
                    loss = F.cross_entropy(network(views)[0].float(), labels)
                    gradient = torch.autograd.grad(loss, perturbation, retain_graph=True)[0]
                    gradients += gradient / gradient.abs().mean().clamp_min(1e-30)
                perturbation = budget.project(perturbation.detach() - budget.direction(gradients) * size, clean)
            return budget.quantise(perturbation, pixels[None])[0]


# Not save_pretrained and from_pretrained, which show bars of their own in every process of ``map``.
def _save(network: Network, folder: Path) -> None:
    model: Any = network.model
    model.config.save_pretrained(folder)
    save_model(model, str(folder / WEIGHTS))


def _load(folder: Path, classes: int, channels: int, mean: list[float], std: list[float]) -> Network:
    model = AutoModelForImageClassification.from_config(AutoConfig.from_pretrained(folder))
    load_model(model, str(folder / WEIGHTS))
    return Network(model, classes, channels, tuple(mean), tuple(std)).eval().requires_grad_(False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever process of ``map`` it is; and torch's threads would hang a forked one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
