"""What a method is given to work on."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import DivergenceError, RecipeError, worded
from hf_unlearnable.files import allocate_memmap, chunks
from hf_unlearnable.models.surrogate import Network, Surrogate
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection.class_patterns import class_patterns
from hf_unlearnable.training.batches import load
from hf_unlearnable.training.checkpoints import Checkpoints
from hf_unlearnable.training.micro_batches import MicroBatches
from hf_unlearnable.training.processes import Shard
from hf_unlearnable.training.run import Training, TrainingRun


@dataclass(frozen=True)
class Task:
    """What ``Method.run`` is given: the part of a fit that one process does.

    Attributes:
        images: of this process, all of them if it is the only one: uint8 pixels (N, C, H, W) on disk at the
            surrogate's resolution, labels (N,).
        budget: how far each may be moved.
        surrogates: to optimise against; none for a method with ``uses_surrogates = False``, else at least one.
        accelerator: device and precision.
        perturbations: (N, C, H, W) float32 on the unit scale, zeros at first, on disk or on the device: ``run`` leaves
            its result here.
        scratch: a folder for whatever does not fit in memory; it is gone after the fit.
        shard: which rows of the whole set these are, and what the processes tell one another.
        checkpoints: where to keep what a killed fit goes on from.
        findings: what ``run`` learned about its result and ``protection.json`` should tell: what JSON holds, and
            numbers and arrays of numpy and torch.
        patterns: what ``run`` says that images of a class get that are added later: tensors (K, C, H, W), of which one
            is drawn for each image. Where it says nothing, they get what the perturbations of their class share.
        progress: show bars.
        micro_batches: how batches are passed through networks where they are too large for the device.
        own_classes: how many of the classes are to be protected, the first ones; images of further classes are other
            people's: networks learn from them too, and ``store`` never moves them. None for all.
    """

    images: ImageSet
    budget: Budget
    surrogates: tuple[Surrogate, ...]
    accelerator: Accelerator
    perturbations: torch.Tensor
    scratch: Path
    shard: Shard
    checkpoints: Checkpoints
    progress: bool
    micro_batches: MicroBatches
    findings: dict[str, Any] = field(default_factory=dict)
    patterns: list[torch.Tensor] = field(default_factory=list)
    own_classes: int | None = None

    @property
    def classes(self) -> int:
        """How many are to be protected."""
        return len(self.images.names) if self.own_classes is None else self.own_classes

    def load(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bring own rows to the device: images (B, C, H, W) in [0, 1], labels (B,), perturbations like the images."""
        images, labels = load(self.images, rows, self.accelerator.device)
        return images, labels, self.perturbations[rows].to(images.device)

    def store(self, rows: NDArray[np.int64], perturbations: torch.Tensor) -> None:
        """Set the perturbations (B, C, H, W) of rows of this process; those of other people's images stay zero.

        Raises:
            RecipeError: something else than a tensor of that shape, integers, or rows that are not there.
        """
        if len(rows) and not 0 <= np.min(rows) <= np.max(rows) < len(self.perturbations):
            raise RecipeError(
                f"a method stored the rows {np.min(rows)} to {np.max(rows)}; expected rows from 0 to "
                f"{len(self.perturbations) - 1}, those of this process"
            )
        expected = (len(rows), *self.perturbations.shape[1:])
        if not isinstance(perturbations, torch.Tensor) or perturbations.shape != expected:
            got = f"a {type(perturbations).__name__} of the shape {tuple(getattr(perturbations, 'shape', ()))}"
            raise RecipeError(f"a method stored {got}; expected a tensor of the shape {expected}")
        if not perturbations.is_floating_point():
            raise RecipeError(
                f"a method stored a tensor of {perturbations.dtype}; expected floating point on the scale [0, 1], on "
                f"which a level is 1/255"
            )
        if self.own_classes is not None:
            own = np.flatnonzero(self.images.labels[rows] < self.own_classes)
            rows, perturbations = rows[own], perturbations[torch.from_numpy(own).to(perturbations.device)]
        self.perturbations[rows] = perturbations.to(self.perturbations)  # of its device and type

    def unseen_patterns(self) -> tuple[torch.Tensor, float]:
        """What images that are added later get, for ``write_patterns``: (K, S, C, H, W), and how much is shared."""
        if self.patterns:
            return torch.stack(self.patterns, dim=1)[: self.own_classes], 1.0
        labels, count = self.images.labels, len(self.images.names)
        mean, shared = class_patterns(self.perturbations, labels, count, self.shard.sum, self.accelerator.device)
        return mean[: self.own_classes, None], shared

    def check_finite(self) -> None:
        """See that all perturbations are finite numbers.

        Raises:
            DivergenceError: they are not.
        """
        extent = len(self.perturbations), self.perturbations.shape[1:]
        if not all(bool(self.perturbations[part].isfinite().all()) for part in chunks(*extent)):
            raise DivergenceError(
                "got perturbations that are not finite numbers from the method; expected finite ones: lower its "
                "steps or its learning rate. Nothing was written"
            )

    def told(self) -> dict[str, Any]:
        """The findings as JSON has them: numbers and arrays of numpy and torch as those of Python.

        Raises:
            RecipeError: one that JSON cannot hold, or that is not a finite number.
        """
        told: dict[str, Any] = {}
        for name, value in self.findings.items():
            try:
                told |= json.loads(json.dumps({name: value}, default=methodcaller("tolist"), allow_nan=False))
            except (TypeError, ValueError, AttributeError, RecursionError) as error:
                if self.checkpoints.folder is not None:
                    self.checkpoints.save()  # what was optimised need not be done again
                raise RecipeError(
                    f"the method left the finding {name!r}, {value!r:.200}, which protection.json cannot hold; "
                    f"expected finite numbers, text, lists and dictionaries. With checkpoints a fit goes on from "
                    f"here when the method is mended"
                ) from error
        return told

    def protected(self) -> ImageSet:
        """The images with the perturbations as they are now, as they would be released; pixels in ``scratch``."""
        pixels = allocate_memmap(self.scratch / "protected", self.images.pixels.shape, np.uint8)
        for part in chunks(len(self.images), self.images.pixels.shape[1:]):
            pixels[part] = self.budget.apply(self.images.pixels[part], self.levels(part))
        return ImageSet(pixels, self.images.labels, self.images.names)

    def levels(self, rows: slice) -> NDArray[Any]:
        """Perturbations of own rows in whole levels: here the framework enforces the budget, whatever ``run`` did."""
        return self.budget.quantise(self.perturbations[rows], self.images.pixels[rows])

    def train(
        self,
        surrogate: Surrogate,
        images: ImageSet,
        training: Training,
        seed: int,
        what: str,
        defence: Defence = NoDefence(),
    ) -> Network:
        """Train a model that the method uses, all processes together; the network comes back frozen.

        Args:
            surrogate: see ``TrainingRun``.
            images: of this process.
            training: for the images of all processes.
            seed: tells this training from earlier ones that had the same name.
            what: name in the progress bar and in checkpoints; of no other network that is in use.
            defence: see ``TrainingRun``.

        Raises:
            DivergenceError: the loss left the finite numbers.
        """
        steps = training.iterations(self.count(images))
        run = TrainingRun(
            surrogate,
            images,
            training,
            iterations=steps,
            seed=seed,
            accelerator=self.accelerator,
            defence=defence,
            together=True,
            micro_batches=self.micro_batches,
        )
        saved = self.checkpoints.keep(what, run.state_dict)
        if saved is not None and saved["seed"] == seed:
            run.load_state_dict(saved)
        with Progress(what, steps, done=run.done, enabled=self.progress) as bar:
            for loss in run:
                self.check(loss)
                bar.advance(loss=loss)
                self.checkpoints.tick()
        return run.network.requires_grad_(False)

    def count(self, images: ImageSet) -> int:
        """How many images all processes have together, where ``images`` are those of this one."""
        return int(self.shard.sum(torch.tensor(len(images), device=self.accelerator.device)))

    def check(self, loss: float) -> None:
        """Stop at a loss that is not a number.

        Raises:
            DivergenceError: it is not.
        """
        if not math.isfinite(loss):
            raise DivergenceError(
                f"got a loss of {loss}; expected a finite number. The optimisation diverged: lower learning_rate, or "
                + worded(
                    python="use mixed_precision='no'",
                    shell="compute in full precision (accelerate launch --mixed_precision no)",
                )
                + ". Nothing was written"
            )
