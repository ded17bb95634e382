"""What every method is: a frozen recipe with one author-written step, ``run``."""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from huggingface_hub import constants
from numpy.typing import NDArray
from transformers import PreTrainedModel

from hf_unlearnable.budget import Budget
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import DivergenceError, RecipeError
from hf_unlearnable.images import Columns, ImageSet, check_classes, find_columns
from hf_unlearnable.outputs import allocate, check_free, whole
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection import Protection
from hf_unlearnable.surrogate import Network, Surrogate
from hf_unlearnable.training import Training, train
from hf_unlearnable.verification import Pair, compare
from hf_unlearnable.versions import versions

AnySurrogate = Surrogate | str | PathLike[str] | PreTrainedModel

CHUNK = 256  # images that are brought into memory at once

_methods: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Task:
    """What ``Method.run`` is given.

    Attributes:
        images: to protect: uint8 pixels (N, C, H, W) on disk, labels (N,).
        budget: how far each may be moved.
        surrogates: to optimise against, at least one.
        accelerator: device and precision.
        perturbations: (N, C, H, W) float32 on the unit scale, zeros at first, on disk: ``run`` leaves its result here.
        scratch: a folder for whatever does not fit in memory; it is gone after the fit.
        findings: what ``run`` learned about its result and ``protection.json`` should tell, ready for JSON.
        progress: show bars.
    """

    images: ImageSet
    budget: Budget
    surrogates: tuple[Surrogate, ...]
    accelerator: Accelerator
    perturbations: torch.Tensor
    scratch: Path
    progress: bool
    findings: dict[str, Any] = field(default_factory=dict)

    def protected(self) -> ImageSet:
        """The images with the perturbations as they are now, as they would be released; pixels in ``scratch``."""
        pixels = allocate(self.scratch / "protected", self.images.pixels.shape, np.uint8)
        for start in range(0, len(self.images), CHUNK):
            part = slice(start, start + CHUNK)
            original = self.images.pixels[part]
            pixels[part] = self.budget.apply(original, self.budget.quantise(self.perturbations[part], original))
        return ImageSet(pixels, self.images.labels, self.images.names)

    def train(
        self,
        surrogate: Surrogate,
        images: ImageSet,
        training: Training,
        seed: int,
        what: str,
        defence: Defence = NoDefence(),
    ) -> Network:
        """Train a model that the method uses, with a bar that says ``what``; the network comes back frozen.

        Raises:
            DivergenceError: the loss left the finite numbers.
        """
        steps = training.iterations(len(images))
        with Progress(what, steps, enabled=self.progress) as bar:

            def after_step(done: int, loss: float, network: Network) -> None:
                self.check(loss)
                bar.advance(loss=loss)

            network = train(
                surrogate,
                images,
                training,
                iterations=steps,
                seed=seed,
                accelerator=self.accelerator,
                defence=defence,
                after_step=after_step,
            )
        network.requires_grad_(False)
        return network

    def check(self, loss: float) -> None:
        """Stop at a loss that is not a number.

        Raises:
            DivergenceError: it is not.
        """
        if not math.isfinite(loss):
            raise DivergenceError(
                f"got a loss of {loss}; expected a finite number. The optimisation diverged: lower learning_rate, or "
                f"use mixed_precision='no'. Nothing was written"
            )


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A recipe for perturbations: its fields are its configuration, and nothing fitted is kept in it.

    A further method is one file with one subclass: a frozen keyword-only dataclass that gives its name in the class
    statement and defines ``run``. ``available_methods``, the command line and the contract tests then know it.

    Args:
        seed: of every random draw; the same seed, data and recipe on one machine give the same bytes.
    """

    seed: int = 0

    name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is not None:
            if name in _methods:
                raise RecipeError(f"got a second method with the name {name!r}: {cls} and {_methods[name]}")
            cls.name = name
            _methods[name] = cls

    @abstractmethod
    def run(self, task: Task) -> None:
        """Optimise ``task.perturbations`` in place; what leaves the budget here is brought back by ``fit``."""

    def default_surrogates(self, device: torch.device) -> tuple[Surrogate, ...]:
        """What ``fit`` uses when it is given no surrogate."""
        return (Surrogate.default(device),)

    def recipe(self) -> dict[str, Any]:
        """The fields and their values, ready for JSON."""
        return dataclasses.asdict(self)

    @final
    def fit(
        self,
        dataset: Dataset,
        *,
        budget: Budget | str | float = Budget(8),
        surrogate: AnySurrogate | Sequence[AnySurrogate] | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        accelerator: Accelerator | None = None,
        output_dir: str | PathLike[str] | None = None,
        progress: bool = True,
    ) -> Protection:
        """Fit a perturbation to every image of a dataset.

        Args:
            dataset: one split with an ``Image`` and a ``ClassLabel`` column; images of one size, mode L or RGB.
            budget: how far an image may be moved; numbers are 8-bit levels, text as ``Budget.parse`` reads it.
            surrogate: the model or models to optimise against, anything that ``Surrogate`` takes; the method's own
                choice for the device when left out.
            image_column: may be left out when there is exactly one.
            label_column: may be left out when there is exactly one.
            accelerator: device and precision; a fresh ``Accelerator()`` when left out.
            output_dir: where the private perturbations are written; a folder named by their digest in the cache of
                Hugging Face (``$HF_HOME/unlearnable``) when left out. They undo the protection: keep them private.
            progress: show bars.

        Returns:
            The callable for ``dataset.map``.

        Raises:
            DataError: columns, labels or images that cannot be protected.
            BudgetError: not a budget.
            RecipeError: an unusable surrogate, or several processes.
            OutputError: ``output_dir`` holds something already.
            DivergenceError: the optimisation left the finite numbers.
        """
        budget = Budget.parse(budget)
        columns = find_columns(dataset, image_column, label_column)
        if output_dir is not None:
            check_free(Path(output_dir))
        accelerator = accelerator or Accelerator()
        if accelerator.num_processes > 1:
            raise RecipeError(
                f"got {accelerator.num_processes} processes; expected one. Start without accelerate launch, or with "
                f"--num_processes 1: one process uses one GPU, or all cores"
            )
        surrogates = self._surrogates(surrogate, accelerator.device)
        cache = Path(constants.HF_HOME) / "unlearnable"
        home = cache if output_dir is None else Path(output_dir).absolute().parent
        home.mkdir(parents=True, exist_ok=True)
        # On the disk where the result goes: whoever has room for it there has room for the scratch files too.
        with tempfile.TemporaryDirectory(prefix=".fit-", dir=home) as folder:
            scratch = Path(folder)
            images = ImageSet.read(dataset, columns, scratch=scratch, progress=progress)
            check_classes(images)
            perturbations = torch.from_numpy(allocate(scratch / "working", images.pixels.shape, np.float32))
            task = Task(images, budget, surrogates, accelerator, perturbations, scratch, progress)
            self.run(task)
            if not all(part.isfinite().all() for part in perturbations.split(CHUNK)):
                raise DivergenceError("the method left perturbations that are not finite numbers; nothing was written")
            about = self._about(columns, task)
            batches = _quantised(images, perturbations, budget)
            if output_dir is not None:
                with whole(Path(output_dir)) as target:
                    Protection.write(target, batches, about)
                return Protection(output_dir)
            written = Protection.write(_subfolder(scratch), batches, about)
            target = cache / written.digest
            if not target.exists():
                shutil.move(written.folder, target)
            return Protection(target)

    def _surrogates(
        self, given: AnySurrogate | Sequence[AnySurrogate] | None, device: torch.device
    ) -> tuple[Surrogate, ...]:
        if given is None:
            return self.default_surrogates(device)
        several: Sequence[AnySurrogate] = given if isinstance(given, (list, tuple)) else [given]  # type: ignore[list-item]
        if not several:
            raise RecipeError("got no surrogate; expected at least one, or None for the default")
        return tuple(Surrogate.of(one) for one in several)

    def _about(self, columns: Columns, task: Task) -> dict[str, Any]:
        return {
            "method": {"name": self.name, **self.recipe()},
            "budget": str(task.budget),
            "surrogates": [str(surrogate) for surrogate in task.surrogates],
            "image_column": columns.image,
            "label_column": columns.label,
            "classes": task.images.names,
            "image_shape": list(task.images.pixels.shape[1:]),
            "verification": compare(_sample(task.images, task.perturbations, task.budget), task.budget).as_dict(),
            "findings": task.findings,
            "versions": versions(),
        }


def _subfolder(scratch: Path) -> Path:
    folder = scratch / "protection"
    folder.mkdir(mode=0o700)
    return folder


def _quantised(
    images: ImageSet, perturbations: torch.Tensor, budget: Budget
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[Any]]]:
    """The released form of every perturbation: here the framework enforces the budget, whatever ``run`` did."""
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        yield images.pixels[part], images.labels[part], budget.quantise(perturbations[part], images.pixels[part])


def _sample(images: ImageSet, perturbations: torch.Tensor, budget: Budget, count: int = 1000) -> Iterator[Pair]:
    """Up to ``count`` evenly spaced pairs: enough for the mean of PSNR and SSIM, and cheap for any set."""
    for row in range(0, len(images), math.ceil(len(images) / count)):
        part = slice(row, row + 1)
        pixels = images.pixels[part]
        yield pixels[0], budget.apply(pixels, budget.quantise(perturbations[part], pixels))[0]


def available_methods() -> list[str]:
    """The names that ``get_method`` and the command line take."""
    return sorted(_methods)


def get_method(name: str) -> type[Method]:
    """The class of a method by its name, such as ``"mi-ue"``.

    Raises:
        RecipeError: there is no such method.
    """
    if name not in _methods:
        raise RecipeError(f"got the method {name!r}; expected one of {', '.join(available_methods())}")
    return _methods[name]
