"""A training that keeps shallow layers from taking up what tells the classes at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import nn

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Defence, unit_chunks
from hf_unlearnable.defences.course import Course
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.models.augmentation import grey_or_jitter
from hf_unlearnable.models.surrogate import Network, evaluating
from hf_unlearnable.settings import Count, Range, Share

WATCHED = 512  # images whose activations are looked at: they tell a share of variance to about 0.02


@dataclass(frozen=True, kw_only=True)
class Staged(Defence, name="staged"):
    """Go back, and slow shallow layers down, when their activations cluster by class (Dang et al. 2023, 2306.02064).

    Shallow layers of a network that learns clean images cluster little by class, and those of one that takes up a
    perturbation much, within a few epochs, before which it has learned something of the images. So the layers are
    parted, in their order, into ``parts``; the thief looks at what enters each part but the first, ``looks`` times in
    all; and where classes explain more than ``limit`` of its variance, the weights of the last look that found none
    come back, with no momentum, and all layers before it have ``slow`` times their learning rate from there on. A step
    that was taken back counts: training is as long as any. Images lose their colour or have it jittered (brightness,
    contrast, saturation) in the first ``early`` of the training.

    The idea is that of progressive staged training; the numbers are not. Its authors have published no program, and
    their formula of the clusters ("activation cluster measurement") was not at hand: here it is the adjusted R^2 of the
    class means, over activations that are averaged over places (pixels, tokens), of up to 512 images in evaluation
    mode. On 4,000 photo patches clean images give a ``small-resnet`` at most 0.41 at any depth, and protected ones 0.5
    to 0.7 in the middle and 0.8 and more further on. Sets whose classes differ in brightness or colour alone cluster
    without any perturbation: what the defence costs clean images then tells. There is one rate for all shallow layers,
    where theirs grows stage by stage. A model of one layer has no shallow ones: it meets the augmentation alone.

    Args:
        limit: the largest share of the variance that classes may explain, in [0, 1].
        slow: what learning rates are multiplied by.
        parts: of the layers.
        looks: how many times.
        early: share of the training whose images are augmented.
    """

    limit: Share = 0.5
    slow: Share = 0.1
    parts: Annotated[int, Range(least=2, most=100)] = 4
    looks: Count = 24
    early: Share = 0.5

    def course(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        images: ImageSet,
        clean: ImageSet | None,
        *,
        steps: int,
        seed: int,
    ) -> Course:
        """Look, go back, slow down."""
        # Between a convolution and its norm a pattern has no mean over places: it has one behind the activation.
        layers = [layer for layer in network.layers() if not isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm))]
        starts = {len(layers) * part // self.parts for part in range(1, self.parts)} - {0}
        entries = [layers[start] for start in sorted(starts)]
        part_group(optimiser, network, entries)
        rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:WATCHED])
        return _Stages(self, network, optimiser, entries, images.select(rows), steps)


class _Stages(Course):
    """Its state is what it may go back to; slowed learning rates are the optimiser's."""

    def __init__(
        self,
        settings: Staged,
        network: Network,
        optimiser: torch.optim.Optimizer,
        entries: list[nn.Module],
        watched: ImageSet,
        steps: int,
    ) -> None:
        self._settings, self._network, self._optimiser = settings, network, optimiser
        self._entries, self._watched, self._steps = entries, watched, steps
        self._done, self._kept = 0, copy.deepcopy(network.state_dict())

    def images(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Without colour, or jittered, in the early part."""
        early = self._done < self._settings.early * self._steps
        return grey_or_jitter(images, generator) if early else images

    def after_step(self, done: int) -> None:
        """Look, if it is time."""
        self._done = done
        if done * self._settings.looks // self._steps == (done - 1) * self._settings.looks // self._steps:
            return
        shares = class_shares(self._network, self._entries, self._watched)
        clustered = [share > self._settings.limit for share in shares]
        if not any(clustered):
            self._kept = copy.deepcopy(self._network.state_dict())
            return
        self._network.load_state_dict(self._kept)
        self._optimiser.state.clear()
        deepest = max(number for number, caught in enumerate(clustered) if caught)
        for group in self._optimiser.param_groups[: deepest + 1]:
            group["lr"] *= self._settings.slow

    def state_dict(self) -> dict[str, Any]:
        """With the weights that it may go back to."""
        return {"done": self._done, "kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._done, self._kept = state["done"], state["kept"]


def part_group(optimiser: torch.optim.Optimizer, network: Network, entries: list[nn.Module]) -> None:
    """Part the one group of an optimiser before the weights of each layer in ``entries``, in the network's order."""
    (group,) = optimiser.param_groups
    weights, trained = list(network.parameters()), set(group["params"])
    first = [next(number for number, one in enumerate(weights) if one is next(layer.parameters())) for layer in entries]
    optimiser.param_groups.clear()
    for start, stop in zip([0, *first], [*first, len(weights)], strict=True):
        own = [weight for weight in weights[start:stop] if weight in trained]
        optimiser.add_param_group(group | {"params": own})


def class_shares(network: Network, entries: list[nn.Module], images: ImageSet) -> list[float]:
    """How much of the variance of what enters each layer the classes of the images explain; see ``explained``.

    Raises:
        RecipeError: images do not pass a layer.
    """
    entered: dict[nn.Module, list[torch.Tensor]] = {layer: [] for layer in entries}

    def keep(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        entered[layer].append(averaged(inputs[0], last=isinstance(layer, (nn.Linear, nn.LayerNorm))).cpu())

    hooks = [layer.register_forward_pre_hook(keep) for layer in entries]
    try:
        with evaluating(network), torch.no_grad():
            for pixels, _ in unit_chunks(images, 128):
                network(pixels.to(next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    if empty := [type(layer).__name__ for layer, found in entered.items() if not found]:
        raise RecipeError(
            f"staged: got a model whose layer {empty[0]} is not called as a module; expected one whose layers are, so "
            f"that what enters them can be looked at"
        )
    labels = torch.from_numpy(images.labels)
    return [explained(torch.cat(found), labels) for found in entered.values()]


def averaged(activations: torch.Tensor, *, last: bool) -> torch.Tensor:
    """(B, D) means over pixels or tokens of what enters a layer, whose D channels come second, or ``last``."""
    flat = activations.float().flatten(1, -2).transpose(1, -1) if last and activations.ndim > 2 else activations.float()
    return flat.flatten(2).mean(dim=2) if flat.ndim > 2 else flat


def explained(activations: torch.Tensor, labels: torch.Tensor) -> float:
    """The adjusted R^2 of the class means of activations (N, D) with labels (N,): at most 1, and about 0 by chance.

    0 where no two images are of a class.
    """
    classes, own = labels.unique(return_inverse=True)
    if len(classes) == len(labels):
        return 0.0
    sums = torch.zeros(len(classes), activations.shape[1]).index_add_(0, own, activations)
    within = (activations - (sums / own.bincount()[:, None])[own]).square().sum() / (len(labels) - len(classes))
    total = activations.var(dim=0).sum()
    return 1 - (within / total.clamp(min=1e-12)).item()
