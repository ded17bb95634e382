"""Victims: which are trained on what, and what is kept of them."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hf_unlearnable.budget import to_unit
from hf_unlearnable.data.image_set import ImageSet, draw_by_class, hold_out_by_class
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import DataError, DivergenceError, first_line, warn
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, LEFT_OUT, MIX, PROTECTED, SEQUENTIAL
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.evaluation.scores import confusion, owner_figures
from hf_unlearnable.evaluation.thieves import Thief
from hf_unlearnable.files import atomic_write
from hf_unlearnable.models.classical import Classical
from hf_unlearnable.models.surrogate import Network, Surrogate
from hf_unlearnable.progress import Progress
from hf_unlearnable.protection.documents import read_json
from hf_unlearnable.training.inference import classify
from hf_unlearnable.training.run import Training, TrainingRun
from hf_unlearnable.version import versions

T = TypeVar("T")

HELD_OUT_SALT = 7  # beside the seed of a victim, so that it does not hold out what its mixture draws by that seed alone

Figures = tuple[float, ...]  # of one epoch: accuracy; or recall and precision of the owner's class, accuracy of others


@dataclass(frozen=True)
class Trial:
    """One training: an entry of the cross product.

    Attributes:
        thief: who trains.
        case: on what, the key of one of ``CASES``.
        ratio: the share of the rows that is protected, in [0, 1].
        seed: of weights, order, augmentation and of the split of a mixture.
    """

    thief: Thief
    case: str
    ratio: float
    seed: int


class Victims:
    """Trains the victims, or finds what was kept of them.

    Args:
        clean: N images, as the victims see them.
        protected: the same rows.
        test: clean images that nobody trains on.
        accelerator: device and precision.
        folder: where results and weights are kept; None for ``trained`` alone, which keeps nothing.
        reread: gives ``"clean"`` or ``"protected"`` as a defence leaves it that acts on images larger than the victims
            see; None where they see them at their own size.
        owner: the class that alone is protected, and measured by its recall; None for all of them.
    """

    def __init__(
        self,
        clean: ImageSet,
        protected: ImageSet,
        test: ImageSet,
        accelerator: Accelerator,
        folder: Path | None,
        reread: Callable[[str, Defence], ImageSet] | None,
        owner: int | None = None,
    ) -> None:
        self.clean, self.protected, self.test = clean, protected, test
        self.accelerator, self.folder = accelerator, folder
        self._reread, self.owner = reread, owner
        self._changed: tuple[Defence, ImageSet, ImageSet] | None = None  # of one defence at a time: trials are in order

    def steps(self, trial: Trial) -> int:
        """Optimiser steps of one victim: those of the full set, however many images it has; one for a single fit."""
        return 1 if isinstance(trial.thief.victim, Classical) else trial.thief.training.iterations(len(self.clean))

    def result(self, trial: Trial, bar: Progress, *, keep_weights: bool) -> Result:
        """Of one victim, trained now or before; ``keep_weights`` for those from which others go on."""
        file = self._file(trial, "json")
        result = _kept(file, lambda file: Result.of(read_json(file)))
        if result is not None:
            bar.advance(self.steps(trial))
            defence = str(trial.thief.defence)
            result = replace(result, victim=trial.thief.name, ratio=trial.ratio, defence=defence, seed=trial.seed)
        else:
            result = self.trained(trial, bar, keep_weights=keep_weights)
            atomic_write(file, json.dumps(result.as_dict()) + "\n", private=True)
        if trial.thief.defence.figure == "peak":  # a thief who stops at the best epoch has no later ones
            stop = 1 + int(np.argmax(result.epochs))
            result = replace(
                result,
                epochs=result.epochs[:stop],
                precision=result.precision[:stop],
                others=result.others[:stop],
            )
        return result

    def trained(self, trial: Trial, bar: Progress, *, keep_weights: bool = False) -> Result:
        """Of one victim, trained now, with all its epochs."""
        reached, picked = self._train(trial, bar, keep_weights)
        epochs, precision, others = (*zip(*reached, strict=True), (), ())[:3]  # the last two of one owner's class alone
        place = (trial.thief.name, trial.case, trial.ratio, str(trial.thief.defence), trial.seed)
        return Result(*place, epochs, precision, others, picked)

    def _train(self, trial: Trial, bar: Progress, keep_weights: bool) -> tuple[list[Figures], int | None]:
        """Train one victim; its figures after every epoch of the full set (of the last set's training).

        And the epoch that it picked, from 1 on; None where it picks none.
        """
        images, victim, training = self._training_set(trial), trial.thief.victim, trial.thief.training
        if isinstance(victim, Classical):
            bar.advance()
            return [self._fitted_at_once(trial, victim, images)], None
        if trial.case == SEQUENTIAL:
            start = self._pretrained_on_clean_part(replace(trial, case=CLEAN_PART), bar)
            training = replace(
                training,
                epochs=max(1, training.epochs // 4),
                learning_rate=training.learning_rate / 5,
            )
            _, reached, picked = self._fit(trial, start, images, training, training.iterations(len(images)), None)
        else:
            network, reached, picked = self._fit(trial, victim, images, training, self.steps(trial), bar)
            if keep_weights:
                weights = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
                atomic_write(self._file(trial, "safetensors"), save(weights), private=True)
        return reached, picked

    def _fitted_at_once(self, trial: Trial, victim: Classical, images: ImageSet) -> Figures:
        """The figures of a model that has no epochs."""
        defence = trial.thief.defence
        images = images if self._prepared(defence) else defence.prepare(images, seed=trial.seed)
        pixels = to_unit(torch.from_numpy(np.ascontiguousarray(images.pixels)))
        if (correct := defence.correction(images, seed=trial.seed)) is not None:
            pixels = correct(pixels, torch.from_numpy(images.labels))
        predict = victim.learn(pixels, images.labels, trial.seed)
        return self._figures(predict(to_unit(torch.from_numpy(np.ascontiguousarray(self.test.pixels)))))

    def _figures(self, named: NDArray[np.int64]) -> Figures:
        """What counts of the classes that were named for the test images: accuracy, or what concerns the owner."""
        figures: Figures = (float((named == self.test.labels).mean()),)
        if self.owner is not None:
            figures = owner_figures(confusion(named, self.test.labels, len(self.test.names)), self.owner)
        return tuple(round(figure, 6) for figure in figures)

    def _pretrained_on_clean_part(self, trial: Trial, bar: Progress) -> Surrogate:
        """What ``trial`` leaves, trained now or before, as the start of another training."""
        file, network = self._file(trial, "safetensors"), self._start(trial)

        def load(file: Path) -> bool:
            network.load_state_dict(load_file(file))
            return True

        if _kept(file, load):
            bar.advance(self.steps(trial))
        else:
            self._train(trial, bar, keep_weights=True)
            load(file)
        return network.as_surrogate()

    def _start(self, trial: Trial) -> Network:
        """The network as its training begins: with the weights of the defence, where that brings some."""
        assert isinstance(trial.thief.victim, Surrogate)
        victim = trial.thief.defence.start(trial.thief.victim)
        return victim.build(len(self.clean.names), self.clean.pixels.shape[1], trial.seed)

    def _drawn_clean(self, trial: Trial) -> NDArray[np.bool_]:
        """Which rows (N,) stay clean where a part does."""
        return draw_clean(self.clean.labels, trial.ratio, trial.seed, self.owner)

    def _clean_at_hand(self, trial: Trial) -> ImageSet | None:
        """The clean images that the thief has beside the training set; None where the defence needs none.

        Drawn class by class, one at least of each; where the owner is left out, none of these.
        """
        wanted = trial.thief.defence.clean_images
        if not wanted:
            return None
        drawn = split(self.clean.labels, min(1.0, wanted / len(self.clean)), trial.seed, least=1)
        return self.clean.select(np.flatnonzero(drawn & ((trial.case != LEFT_OUT) | (self.clean.labels != self.owner))))

    def _prepared(self, defence: Defence) -> bool:
        """Whether the defence has acted on the images of ``_sets`` already."""
        return self._reread is not None and defence.acts_on_images

    def _sets(self, defence: Defence) -> tuple[ImageSet, ImageSet]:
        """The clean and the protected images; as the defence leaves them where it acts before they are shrunk."""
        if not self._prepared(defence):
            return self.clean, self.protected
        assert self._reread is not None
        if self._changed is None or self._changed[0] != defence:
            self._changed = defence, self._reread("clean", defence), self._reread("protected", defence)
        return self._changed[1:]

    def _training_set(self, trial: Trial) -> ImageSet:
        """What the victim is trained on; where it was taught by the clean part before, what comes then."""
        clean, protected = self._sets(trial.thief.defence)
        if trial.case == CLEAN:
            return clean
        if trial.case == PROTECTED:
            return protected
        if trial.case == LEFT_OUT:
            return clean.select(np.flatnonzero(clean.labels != self.owner))
        stays_clean = self._drawn_clean(trial)
        if trial.case == MIX:
            mixed = np.where(stays_clean[:, None, None, None], clean.pixels, protected.pixels)
            return ImageSet(mixed, clean.labels, clean.names)
        if trial.case == CLEAN_PART:
            return clean.select(np.flatnonzero(stays_clean))
        return protected.select(np.flatnonzero(~stays_clean))

    def _fit(
        self, trial: Trial, victim: Surrogate, images: ImageSet, training: Training, steps: int, bar: Progress | None
    ) -> tuple[Network, list[Figures], int | None]:
        """The network that the thief ends up with, its figures after every epoch, and which he picked, if he does."""
        defence, prepared, held = trial.thief.defence, self._prepared(trial.thief.defence), None
        if defence.held_out:
            images = images if prepared else defence.prepare(images, seed=trial.seed)
            images, held = parted(images, defence.held_out, trial.seed)
            prepared = True
        run = TrainingRun(
            victim,
            images,
            training,
            iterations=steps,
            seed=trial.seed,
            accelerator=self.accelerator,
            defence=defence,
            clean=self._clean_at_hand(trial),
            prepared=prepared,
        )
        reached: list[Figures] = []
        right: list[int] = []  # of the images that were held out, after every epoch
        weights: dict[str, torch.Tensor] = {}
        epoch = max(1, steps // training.epochs)
        for loss in run:
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"victim {trial.thief.name}, seed {trial.seed}: got a loss of {loss}; lower the learning rate of "
                    f"its Training"
                )
            if bar is not None:
                bar.advance(loss=loss)
            if run.done % epoch == 0 or run.done == steps:
                reached.append(self._figures(classify(run.network, self.test, self.accelerator.device)))
                if held is not None:
                    right.append(self._right(run.network, held))
                    if picked_epoch(right) == len(right):
                        weights = copy.deepcopy(run.network.state_dict())
        if held is None:
            return run.network, reached, None
        run.network.load_state_dict(weights)
        return run.network, reached, picked_epoch(right)

    def _right(self, network: Network, images: ImageSet) -> int:
        """How many of the images the network names right: none of none."""
        return int((classify(network, images, self.accelerator.device) == images.labels).sum()) if len(images) else 0

    def _file(self, trial: Trial, suffix: str) -> Path:
        """Named by all that a victim depends on: weights to start from, images, recipe, versions; by nothing else.

        So measurements of two protections share the victims of the clean data, and seeds those that draw nothing.
        """
        clean, protected = self._sets(trial.thief.defence)
        sets = {CLEAN: [clean], PROTECTED: [protected], CLEAN_PART: [clean], LEFT_OUT: [clean]}.get(
            trial.case, [clean, protected]
        )
        hashed = hashlib.blake2b(digest_size=16)
        # Who only stops early has trained as those without a defence do.
        defence = trial.thief.defence if trial.thief.defence.acts else NoDefence()
        victim = trial.thief.victim
        if isinstance(victim, Classical):
            seed = trial.seed if victim.seeded or defence.acts else 0
            told = [trial.case, defence.as_dict(), seed, victim.about(), versions()]
        else:
            told = [
                trial.case,
                defence.as_dict(),
                trial.seed,
                self.steps(trial),
                trial.thief.training.as_dict(),
                versions(),
            ]
            told += [str(self.accelerator.device), self.accelerator.mixed_precision]
        told += [] if self.owner is None else ["owner", self.owner]
        hashed.update(json.dumps(told).encode())
        at_hand = self._clean_at_hand(trial)
        for images in (*sets, self.test, *([at_hand] if at_hand else [])):
            hashed.update(images.digest)
        hashed.update(self._drawn_clean(trial).tobytes())
        if isinstance(victim, Surrogate):
            self._start(trial).feed(hashed)
        assert self.folder is not None, "only those with a folder keep anything"
        return self.folder / f"{hashed.hexdigest()}.{suffix}"


def _kept(file: Path, read: Callable[[Path], T]) -> T | None:
    """What was kept in a file; None if there is none, or, with a warning, if it is damaged."""
    try:
        return read(file) if file.exists() else None
    except (DataError, SafetensorError, RuntimeError, OSError) as error:  # RuntimeError: weights of other shapes
        warn(f"{str(file)!r} is damaged ({first_line(error)}); its victim is trained again")
        return None


def split(labels: NDArray[np.int64], share: float, seed: int, least: int = 0) -> NDArray[np.bool_]:
    """Draw ``share`` of the rows of every class, rounded to the nearest row, but ``least``: (N,) of whether it was."""
    return draw_by_class(labels, lambda members: max(least, round(share * members)), np.random.default_rng(seed))


def draw_clean(labels: NDArray[np.int64], ratio: float, seed: int, owner: int | None) -> NDArray[np.bool_]:
    """Which rows (N,) of a mixture stay clean, all but ``ratio`` of every class; those of other people always do."""
    drawn = split(labels, 1 - ratio, seed)
    return drawn if owner is None else drawn | (labels != owner)


def parted(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """What a thief trains on, and what he holds out of every class: at least one image, and never the only one.

    Args:
        images: that he has.
        share: to hold out, in (0, 1); rounded to the nearest image.
        seed: of what is drawn.
    """
    rng = np.random.default_rng((HELD_OUT_SALT, seed))
    held = hold_out_by_class(images.labels, share, rng)
    return images.select(np.flatnonzero(~held)), images.select(np.flatnonzero(held))


def picked_epoch(right: Sequence[int]) -> int:
    """The epoch, from 1 on, that names most of the held-out images right; the latest of several.

    Nothing tells for the earlier one, and the later one is nearer to what an ordinary training ends with.

    Args:
        right: how many it names right, after every epoch.
    """
    return max(range(1, len(right) + 1), key=lambda epoch: (right[epoch - 1], epoch))
