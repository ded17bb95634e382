"""What every method is: a frozen recipe with one author-written step, ``run``."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from huggingface_hub import constants
from numpy.typing import NDArray
from transformers import PreTrainedModel

from hf_unlearnable.budget import Budget
from hf_unlearnable.columns import Classes, Columns, find_columns
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import DataWarning, DivergenceError, RecipeError
from hf_unlearnable.images import ImageSet, check_classes
from hf_unlearnable.outputs import allocate, check_free
from hf_unlearnable.patterns import class_patterns, write_patterns
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection import Protection
from hf_unlearnable.reading import MIN_SIDE, Survey, rows
from hf_unlearnable.release import release
from hf_unlearnable.surrogate import Network, Surrogate
from hf_unlearnable.training import Training, train
from hf_unlearnable.verification import Pair, Verification, compare
from hf_unlearnable.versions import versions

AnySurrogate = Surrogate | str | PathLike[str] | PreTrainedModel

CHUNK = 256  # images that are brought into memory at once
SAMPLE = 1000  # images that ``fit`` verifies at most,
SAMPLE_PIXELS = 100_000_000  # and about as many of their pixels

_methods: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Task:
    """What ``Method.run`` is given.

    Attributes:
        images: to protect: uint8 pixels (N, C, H, W) on disk at the surrogate's resolution, labels (N,).
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
        resolution: int | None = None,
        on_unseen: Literal["error", "craft"] = "error",
        accelerator: Accelerator | None = None,
        output_dir: str | PathLike[str] | None = None,
        progress: bool = True,
    ) -> Protection:
        """Fit a perturbation to every image of a dataset.

        Args:
            dataset: one split with an ``Image`` column, of any sizes and modes (see ``pixels.released_mode``), and
                labels: a ``ClassLabel``, strings or integers.
            budget: how far an image may be moved; numbers are 8-bit levels, text as ``Budget.parse`` reads it.
            surrogate: the model or models to optimise against, anything that ``Surrogate`` takes; the method's own
                choice for the device when left out.
            image_column: may be left out when there is exactly one.
            label_column: may be left out when there is exactly one.
            resolution: the side in pixels of the square at which perturbations are optimised; they are then resampled
                to the size of each image. When left out: the images' own size where they have one that the surrogate
                takes (its ``image_size``; up to 64 pixels a side for built-in models); else the smaller of that size
                and of what half of the images have.
            on_unseen: what the protection does with an image that was not in ``dataset``: ``"error"``, or ``"craft"``:
                it gets the perturbation that its class shares (see ``patterns``). For images added later, and for
                streams that are fitted on their first rows.
            accelerator: device and precision; a fresh ``Accelerator()`` when left out.
            output_dir: where the private perturbations are written; a folder named by their digest in the cache of
                Hugging Face (``$HF_HOME/unlearnable``) when left out. They undo the protection: keep them private.
            progress: show bars.

        Returns:
            The callable for ``dataset.map``.

        Warns:
            DataWarning: images whose mode cannot be kept, with how many there are of each; images that stay unchanged.

        Raises:
            DataError: columns, labels or images that cannot be protected.
            BudgetError: not a budget.
            RecipeError: an unusable surrogate or resolution, several processes, or ``on_unseen="craft"`` where the
                perturbations of a class share too little.
            OutputError: ``output_dir`` holds something already.
            DivergenceError: the optimisation left the finite numbers.
        """
        budget = Budget.parse(budget)
        if on_unseen not in ("error", "craft"):
            raise RecipeError(f"got on_unseen={on_unseen!r}; expected 'error' or 'craft'")
        if resolution is not None and resolution < MIN_SIDE:
            raise RecipeError(f"got resolution={resolution}; expected at least {MIN_SIDE} pixels")
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
            survey = Survey.of(dataset, columns)
            size = (resolution, resolution) if resolution else survey.working_size(_largest_side(surrogates))
            images = ImageSet.read(
                dataset, columns, size=size, channels=survey.channels, scratch=scratch, progress=progress
            )
            check_classes(images)
            self._tell(images)
            perturbations = torch.from_numpy(allocate(scratch / "working", images.pixels.shape, np.float32))
            task = Task(images, budget, surrogates, accelerator, perturbations, scratch, progress)
            self.run(task)
            if not all(part.isfinite().all() for part in perturbations.split(CHUNK)):
                raise DivergenceError("the method left perturbations that are not finite numbers; nothing was written")
            verified = compare(_sample(dataset, columns, task, survey), budget, images.pixels.shape[2:])
            if verified.unchanged:
                warnings.warn(
                    f"{verified.unchanged} of {verified.images} images that were looked at stay as they are: their "
                    f"perturbations round to zero levels. Use more epochs or a larger budget",
                    DataWarning,
                    stacklevel=2,
                )
            about = self._about(dataset, survey, columns, task, verified)
            written = scratch / "protection"
            written.mkdir(mode=0o700)
            if on_unseen == "craft":
                patterns, shared = class_patterns(perturbations, images.labels, len(images.names))
                about["patterns"] = write_patterns(written, patterns, shared, budget)
            fitted = Protection.write(written, _quantised(task), about)
            target = cache / fitted.digest if output_dir is None else Path(output_dir)
            if output_dir is not None:
                check_free(target)
            if output_dir is not None or not target.exists():
                written.replace(target)  # the same disk: it is there as a whole or not at all
            return Protection(target)

    @staticmethod
    def _tell(images: ImageSet) -> None:
        """Say which images change their mode: never silently."""
        assert images.originals is not None
        if converted := images.originals.conversions:
            kinds = ", ".join(f"{count} from {change}" for change, count in converted.items())
            warnings.warn(
                f"{sum(converted.values())} of {len(images)} images cannot carry a perturbation in their own mode and "
                f"are converted: {kinds}",
                DataWarning,
                stacklevel=3,
            )

    def _surrogates(
        self, given: AnySurrogate | Sequence[AnySurrogate] | None, device: torch.device
    ) -> tuple[Surrogate, ...]:
        if given is None:
            return self.default_surrogates(device)
        several: Sequence[AnySurrogate] = given if isinstance(given, (list, tuple)) else [given]  # type: ignore[list-item]
        if not several:
            raise RecipeError("got no surrogate; expected at least one, or None for the default")
        return tuple(Surrogate.of(one) for one in several)

    def _about(
        self, dataset: Dataset, survey: Survey, columns: Columns, task: Task, verified: Verification
    ) -> dict[str, Any]:
        images, originals = task.images, task.images.originals
        assert originals is not None
        resampled = (originals.sizes != images.pixels.shape[2:]).any(axis=1)
        return {
            "method": {"name": self.name, **self.recipe()},
            "budget": str(task.budget),
            "surrogates": [str(surrogate) for surrogate in task.surrogates],
            "image_column": columns.image,
            "label_column": columns.label,
            "image_mode": dataset.features[columns.image].mode,
            "classes": images.names,
            "label_values": Classes.of(dataset, columns).values,
            "image_shape": list(images.pixels.shape[1:]),
            "image_sizes": str(survey),
            "largest_image": int(originals.sizes.prod(axis=1).max()),
            "resampled": int(resampled.sum()),
            "conversions": originals.conversions,
            "verification": verified.as_dict(),
            "findings": task.findings,
            "versions": versions(),
        }


def _largest_side(surrogates: Sequence[Surrogate]) -> int:
    """The largest side of images that the surrogates are meant for."""
    return max(surrogate.image_size for surrogate in surrogates)


def _quantised(task: Task) -> Iterator[tuple[NDArray[np.void], NDArray[Any]]]:
    """The stored form of every perturbation: here the framework enforces the budget, whatever ``run`` did."""
    assert task.images.originals is not None
    for start in range(0, len(task.images), CHUNK):
        part = slice(start, start + CHUNK)
        levels = task.budget.quantise(task.perturbations[part], task.images.pixels[part])
        yield task.images.originals.digests[part], levels


def _sample(dataset: Dataset, columns: Columns, task: Task, survey: Survey) -> Iterator[Pair]:
    """Evenly spaced pairs at full size: enough for the mean of PSNR and SSIM, and cheap for any set."""
    area = sum(height * width * count for (height, width), count in survey.sizes.items()) / len(dataset)
    count = max(1, min(SAMPLE, int(SAMPLE_PIXELS / area)))
    chosen = range(0, len(dataset), math.ceil(len(dataset) / count))
    for index, row in zip(chosen, rows(dataset.select(chosen), columns), strict=True):
        part = slice(index, index + 1)
        levels = task.budget.quantise(task.perturbations[part], task.images.pixels[part])[0]
        yield row.pixels, release(row.pixels, levels, task.budget)


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
