"""Training a classifier the ordinary way: what victims do, and what surrogates imitate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.models.augmentation import random_crop_flip, strong_augmentation
from hf_unlearnable.models.surrogate import Network, Surrogate
from hf_unlearnable.settings import Count, Momentum, Rate, Share, Weight, check_fields
from hf_unlearnable.training.batches import batches, load
from hf_unlearnable.training.micro_batches import MicroBatches
from hf_unlearnable.training.processes import numpy_generator, share_of, torch_generator


@dataclass(frozen=True)
class Training:
    """The recipe of a victim: SGD with Nesterov momentum, cosine decay to zero, random crop and flip.

    What the literature calls adversarial training is long and decays in steps: with the defence ``"adversarial:8"``,
    ``Training(epochs=100, learning_rate=0.1, milestones=(0.4, 0.8))``. ``Training.named`` gives the recipes that people
    use beside this one.

    Args:
        epochs: passes over a set of the full size.
        batch_size: images a step.
        learning_rate: at the start.
        momentum: of SGD; AdamW has its own.
        weight_decay: of the optimiser.
        augment: ``"crop-flip"`` or True, a random crop (4 pixels) and flip; ``"strong"``, a random resized crop, flip
            and colour jitter; ``"none"`` or False.
        milestones: shares of the training, in (0, 1), after which the learning rate is divided by ten, instead of the
            cosine.
        optimiser: ``"sgd"`` or ``"adamw"``.
        label_smoothing: the share of a label that goes to all classes alike.

    Raises:
        RecipeError: a setting of another type, or out of its range; a milestone that is not inside the training; AdamW
            with a learning rate of SGD, by which it learns nothing.
    """

    epochs: Count = 12
    batch_size: Count = 64
    learning_rate: Rate = 0.05
    momentum: Momentum = 0.9
    weight_decay: Weight = 5e-4
    augment: bool | Literal["crop-flip", "strong", "none"] = True
    milestones: tuple[float, ...] = ()
    optimiser: Literal["sgd", "adamw"] = "sgd"
    label_smoothing: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        # As reports have it since before there was a third way.
        object.__setattr__(self, "augment", {"crop-flip": True, "none": False}.get(str(self.augment), self.augment))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if not all(0 < share < 1 for share in self.milestones):
            raise RecipeError(f"got milestones={self.milestones}; expected shares of the training, between 0 and 1")
        if self.optimiser == "adamw" and self.learning_rate > ADAMW_LIMIT:
            raise RecipeError(
                f"got optimiser='adamw' with learning_rate={self.learning_rate}; expected at most {ADAMW_LIMIT}: "
                f"0.002 is usual"
            )

    @classmethod
    def named(cls, name: str, base: Training | None = None) -> Training:
        """A recipe by name.

        ``sgd`` is the default one. ``adamw`` is AdamW with label smoothing and without augmentation; ``short`` is that
        for a quarter of the epochs, so that a thief stops before a shortcut takes over; ``strong`` is AdamW with strong
        augmentation, ``sgd-strong`` is ``sgd`` with it; ``long`` is ``sgd`` for four times as many epochs.

        Args:
            name: one of ``TRAININGS``.
            base: gives the epochs and the batch size; the default recipe when left out.

        Raises:
            RecipeError: no such name.
        """
        if name not in TRAININGS:
            raise RecipeError(f"got the training {name!r}; expected one of {', '.join(TRAININGS)}")
        base = base or cls()
        factor, settings = TRAININGS[name]
        return cls(epochs=max(1, round(factor * base.epochs)), batch_size=base.batch_size, **settings)

    def iterations(self, count: int) -> int:
        """Optimiser steps for a set of ``count`` images."""
        return self.epochs * max(1, count // self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Field names and values; of the later ones only what is not the default, so that older reports compare."""
        later = {"milestones": (), "optimiser": "sgd", "label_smoothing": 0.0}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}

    def new_optimiser(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of those of the parameters that are to be trained."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        settings: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.optimiser == "adamw":
            return torch.optim.AdamW(trained, **settings)
        return torch.optim.SGD(trained, **settings, momentum=self.momentum, nesterov=self.momentum > 0)

    def schedule(self, optimiser: torch.optim.Optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate over ``iterations`` steps."""
        if not self.milestones:
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
        steps = [round(share * iterations) for share in self.milestones]
        return torch.optim.lr_scheduler.MultiStepLR(optimiser, steps)


_ADAMW: dict[str, Any] = {"optimiser": "adamw", "learning_rate": 0.002, "weight_decay": 0.05}
_PLAIN: dict[str, Any] = {**_ADAMW, "augment": False, "label_smoothing": 0.1}

# Name -> how many times the epochs, and the settings that are not the default.
TRAININGS: dict[str, tuple[float, dict[str, Any]]] = {
    "sgd": (1, {}),
    "adamw": (1, _PLAIN),
    "short": (0.25, _PLAIN),
    "strong": (1, {**_ADAMW, "augment": "strong"}),
    "sgd-strong": (1, {"augment": "strong"}),
    "long": (4, {}),
}

ADAMW_LIMIT = 0.01


class TrainingRun:
    """The training of one classifier: iterate over it for the loss of every step; ``state_dict`` at any step goes on.

    Args:
        surrogate: what to train, from the weights that it builds.
        images: the training set; of this process, if several train together.
        training: how.
        iterations: optimiser steps; the schedule ends there, however many epochs of this set that makes.
        seed: of the weights, the order and the augmentation.
        accelerator: device and precision.
        defence: what is done to the images, the batches and the starting weights on top of ``training``.
        clean: the clean images that the thief has, for a defence with ``clean_images``.
        prepared: ``images`` are what the defence makes of a training set already.
        together: the processes of ``accelerator`` train one network, each on a part of every batch; else each its own.
        micro_batches: in how many parts batches are passed through; its own if left out.

    Attributes:
        network: as trained so far, bare.
        done: optimiser steps.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        images: ImageSet,
        training: Training,
        *,
        iterations: int,
        seed: int,
        accelerator: Accelerator,
        defence: Defence = NoDefence(),
        clean: ImageSet | None = None,
        prepared: bool = False,
        together: bool = False,
        micro_batches: MicroBatches | None = None,
    ) -> None:
        self.images = images if prepared else defence.prepare(images, seed=seed)
        self._correct = defence.correction(self.images, seed=seed)
        self.training, self.defence = training, defence
        self.iterations, self.seed, self.accelerator, self.done = iterations, seed, accelerator, 0
        self._micro_batches = micro_batches or MicroBatches(accelerator)
        network = defence.start(surrogate).build(len(images.names), images.pixels.shape[1], seed)
        if defence.frozen:
            network.freeze_body()
        self._optimiser: Any = training.new_optimiser(network.parameters())
        self._course = defence.course(network, self._optimiser, self.images, clean, steps=iterations, seed=seed)
        self._schedule = training.schedule(self._optimiser, iterations)
        alone = accelerator.num_processes > 1 and not together
        # Accelerate does not synchronise a model that it takes for one that is only evaluated.
        self._model: Any = accelerator.prepare_model(network, evaluation_mode=alone)
        self._optimiser = accelerator.prepare(self._optimiser)
        self.network: Network = accelerator.unwrap_model(self._model)
        count = accelerator.num_processes if together else 1
        self._batch_size = share_of(training.batch_size, count)
        rank = accelerator.process_index if together else 0
        self._rng, self._generator = numpy_generator(seed, rank), torch_generator(seed, rank)
        self._drawn, self._position = self._rng.bit_generator.state, 0

    def __iter__(self) -> Iterator[float]:
        while self.done < self.iterations:
            self._drawn = self._rng.bit_generator.state
            for number, rows in enumerate(batches(len(self.images), self._batch_size, self._rng)):
                if number < self._position:
                    continue  # before the state that was loaded
                loss = self._step(rows)
                self.done, self._position = self.done + 1, number + 1
                if self._course is not None:
                    self._course.after_step(self.done)
                yield loss
                if self.done == self.iterations:
                    break
            self._position = 0
        if self._model is not self.network:
            # Processes agree on the statistics of batch normalisation at the start of a step, not at the end.
            for buffer in self.network.buffers():
                broadcast(buffer, from_process=0)
        self.network.eval()
        self._release()

    def finish(self) -> Network:
        """Do all steps that are left; the trained network, in evaluation mode."""
        for _ in self:
            pass
        return self.network

    def _step(self, rows: NDArray[np.int64]) -> float:
        pixels, labels = load(self.images, rows, self.accelerator.device)
        if self._correct is not None:
            pixels = self._correct(pixels, labels)
        if self.training.augment:
            augmentation = strong_augmentation if self.training.augment == "strong" else random_crop_flip
            pixels = augmentation(pixels, self._generator)
        if self.defence.acts_on_batches:
            labels = F.one_hot(labels, len(self.images.names)).float()
        drawn = self._generator.get_state()

        def attempt(parts: int) -> float:
            self._generator.set_state(drawn)
            self._optimiser.zero_grad()
            total = 0.0
            for number, part in enumerate(self._micro_batches.split(len(pixels), parts, pixels.device), 1):
                seen, named = pixels[part], labels[part]
                if self.defence.acts_on_batches:
                    seen, named = self.defence.batch(seen, named, self.network, self._generator)
                if self._course is not None:
                    seen = self._course.images(seen, self._generator)
                self._model.train()
                with self._micro_batches.gathering(self._model, last=number == parts):
                    logits = self._model(seen)[0].float()
                    # Of classes, or of their probabilities.
                    loss = F.cross_entropy(logits, named, label_smoothing=self.training.label_smoothing)
                    self._micro_batches.backward(loss, share := len(part) / len(pixels))
                total += loss.item() * share
            return total

        loss = self._micro_batches.attempt(attempt, len(pixels))
        self._optimiser.step()
        self._schedule.step()
        return loss

    def _release(self) -> None:
        """Let the accelerator forget the network and its optimiser: it holds on to all that it has ever prepared.

        Its ``free_memory`` would forget what others prepared too, and collects garbage for as long as many steps take.
        """
        for held, own in ((self.accelerator._models, self._model), (self.accelerator._optimizers, self._optimiser)):
            held[:] = [one for one in held if one is not own]

    def state_dict(self) -> dict[str, Any]:
        """All that a run with the same arguments needs to go on from here, ready for ``torch.save``."""
        return {
            "seed": self.seed,
            "done": self.done,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "course": self._course.state_dict() if self._course is not None else {},
            "drawn": self._drawn,
            "position": self._position,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.done, self._position = state["done"], state["position"]
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if self._course is not None:
            self._course.load_state_dict(state["course"])
        self._rng.bit_generator.state = state["drawn"]
        self._generator.set_state(state["generator"])
