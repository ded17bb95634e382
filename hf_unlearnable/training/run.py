"""Training a classifier the ordinary way: what victims do, and what surrogates imitate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import RecipeError
from hf_unlearnable.modeling.surrogate import Network, Surrogate
from hf_unlearnable.settings import Count, Momentum, NotNegative, Positive, check_fields
from hf_unlearnable.training.batches import batches, load, random_crop_flip
from hf_unlearnable.training.micro_batches import MicroBatches
from hf_unlearnable.training.processes import numpy_generator, share_of, torch_generator


@dataclass(frozen=True)
class Training:
    """The recipe of a victim: SGD with Nesterov momentum, cosine decay to zero, random crop and flip.

    What the literature calls adversarial training is long and decays in steps: with the defence ``"adversarial:8"``,
    ``Training(epochs=100, learning_rate=0.1, milestones=(0.4, 0.8))``.

    Args:
        epochs: passes over a set of the full size.
        batch_size: images a step.
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: of SGD.
        augment: random crop (4 pixels) and flip.
        milestones: shares of the training, in (0, 1), after which the learning rate is divided by ten, instead of the
            cosine.

    Raises:
        RecipeError: a setting of another type, or out of its range; a milestone that is not inside the training.
    """

    epochs: Count = 12
    batch_size: Count = 64
    learning_rate: Positive = 0.05
    momentum: Momentum = 0.9
    weight_decay: NotNegative = 5e-4
    augment: bool = True
    milestones: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(0 < share < 1 for share in self.milestones):
            raise RecipeError(f"got milestones={self.milestones}; expected shares of the training, between 0 and 1")

    def iterations(self, count: int) -> int:
        """Optimiser steps for a set of ``count`` images."""
        return self.epochs * max(1, count // self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Field names and values; milestones only where there are some, so that older reports compare."""
        return {name: value for name, value in asdict(self).items() if name != "milestones" or value}

    def schedule(self, optimiser: torch.optim.Optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate over ``iterations`` steps."""
        if not self.milestones:
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
        steps = [round(share * iterations) for share in self.milestones]
        return torch.optim.lr_scheduler.MultiStepLR(optimiser, steps)


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
        prepared: bool = False,
        together: bool = False,
        micro_batches: MicroBatches | None = None,
    ) -> None:
        self.images = images if prepared else defence.prepare(images, seed=seed)
        self.training, self.defence = training, defence
        self.iterations, self.seed, self.accelerator, self.done = iterations, seed, accelerator, 0
        self._micro_batches = micro_batches or MicroBatches(accelerator)
        network = defence.start(surrogate).build(len(images.names), images.pixels.shape[1], seed)
        self._optimiser: Any = torch.optim.SGD(
            network.parameters(),
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            nesterov=training.momentum > 0,
        )
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
        if self.training.augment:
            pixels = random_crop_flip(pixels, self._generator)
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
                self._model.train()
                with self._micro_batches.gathering(self._model, last=number == parts):
                    loss = F.cross_entropy(self._model(seen)[0].float(), named)  # of classes, or their probabilities
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
        self._rng.bit_generator.state = state["drawn"]
        self._generator.set_state(state["generator"])
