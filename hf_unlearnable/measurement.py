"""What a thief gains: fresh victims trained on protected, clean and mixed data, tested on clean images."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from datasets import Dataset
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from hf_unlearnable.columns import find_columns
from hf_unlearnable.defences import Defence, NoDefence
from hf_unlearnable.errors import DivergenceError, RecipeError
from hf_unlearnable.images import ImageSet
from hf_unlearnable.matching import check_images, check_match, naming
from hf_unlearnable.outputs import write_whole
from hf_unlearnable.progress import Progress
from hf_unlearnable.reading import Survey
from hf_unlearnable.results import CLEAN, CLEAN_PART, MIX, PROTECTED, RATIO, SEQUENTIAL, Report, Result
from hf_unlearnable.sharding import default_accelerator, merged
from hf_unlearnable.surrogate import Network, Surrogate
from hf_unlearnable.training import Run, Training, accuracy
from hf_unlearnable.versions import versions

SEEDS = (101, 102, 103)  # none that a surrogate starts from by default
RATIOS = (0.0, 0.5, 1.0)


def learnability(
    protected: Dataset,
    *,
    clean: Dataset,
    test: Dataset,
    victims: Sequence[Surrogate | str] | Surrogate | str = "small-resnet",
    defences: Sequence[Defence | str] | Defence | str = "none",
    ratios: Sequence[float] = RATIOS,
    sequential: bool = False,
    training: Training = Training(),
    seeds: Sequence[int] = SEEDS,
    resolution: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    accelerator: Accelerator | None = None,
    keep_in: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Report:
    """Train fresh victims and test them on clean images: every victim, defence, ratio and seed with every other.

    A ratio is the share of the rows that is protected. At 0 the victim is trained on the clean set, at 1 on the
    protected one, in between on a mixture, whose clean and protected rows are drawn class by class and disjoint (each
    image is in it once), and on the clean part of that mixture alone, without which the mixture says nothing. All with
    the same number of optimiser steps, that of the full set.

    Args:
        protected: the released data set, made by this package or another tool.
        clean: the same rows in the same order, unprotected.
        test: clean images that nobody trained on, of the same size and classes.
        victims: models as ``Surrogate`` takes them, each trained from the weights that it builds.
        defences: what the thief does against the protection, as ``Defence.parse`` reads it; to clean data too.
        ratios: shares of protected rows in [0, 1].
        sequential: for each ratio in between, also train on the clean part first, and go on from there on the protected
            part alone, for a quarter of the epochs at a fifth of the learning rate.
        training: the victims' recipe.
        seeds: one run of everything each.
        resolution: side in pixels of the square that all images are resampled to; when left out, the clean images' own
            size where they have one that the victims take, else as for ``Method.fit``.
        image_column: of all three data sets; may be left out when there is exactly one.
        label_column: likewise.
        accelerator: device, precision and processes, which share out the victims; a fresh one when left out. Folders
            must be on a disk that all processes see.
        keep_in: a folder in which the result of every victim is kept as soon as it is there, under a digest of all that
            it depends on. What lies there already is not trained again: a stopped measurement goes on, and measurements
            with the same clean data share their baselines. Sequential trainings keep the weights that they go on from.
        progress: show a bar, of the main process.

    Raises:
        DataError: data sets that do not belong together.
        RecipeError: an unknown defence, a ratio out of range, or nothing to do.
        DivergenceError: a victim's loss left the finite numbers.

    Warns:
        UserWarning: the protected images are the clean ones, or most of them look like other images than those.
    """
    accelerator = accelerator or default_accelerator()
    specifications = [Surrogate.of(one) for one in ([victims] if isinstance(victims, (str, Surrogate)) else victims)]
    parsed = [Defence.parse(one) for one in ([defences] if isinstance(defences, (str, Defence)) else defences)]
    for name, given in (("victims", specifications), ("defences", parsed), ("ratios", ratios), ("seeds", seeds)):
        if not given:
            raise RecipeError(f"got no {name}; expected at least one")
    if wrong := [ratio for ratio in ratios if not 0 <= ratio <= 1]:
        raise RecipeError(f"got the ratios {wrong}; expected shares of protected rows, from 0 to 1")
    if sequential and (starting := [str(one) for one in parsed if type(one).start is not Defence.start]):
        raise RecipeError(
            f"got sequential=True with the defence {starting[0]}, which replaces the weights that a training starts "
            f"from; expected one or the other"
        )
    datasets = {"protected": protected, "clean": clean, "test": test}
    columns, surveys = {}, {}
    for name, dataset in datasets.items():
        with naming(name):
            columns[name] = find_columns(dataset, image_column, label_column)
            surveys[name] = Survey.of(dataset, columns[name])
    check_images(surveys)
    largest = max(victim.image_size for victim in specifications)
    size = (resolution, resolution) if resolution else surveys["clean"].working_size(largest)

    def read(name: str, defence: Defence = NoDefence()) -> ImageSet:
        with naming(name):
            return ImageSet.read(
                datasets[name],
                columns[name],
                size=size,
                channels=surveys["clean"].channels,
                change=defence.changed if defence.acts_on_images else None,
                progress=progress and accelerator.is_main_process,
            )

    sets = {name: read(name) for name in datasets}
    doubts = [
        *check_match(sets["protected"], sets["clean"], sets["test"]),
        *(f"the defence {one} changes no image, so it does nothing here" for one in parsed if _idle(one, sets)),
    ]
    for doubt in doubts if accelerator.is_main_process else []:
        warnings.warn(doubt, stacklevel=2)
    with tempfile.TemporaryDirectory() as scratch:
        bench = _Bench(
            sets["clean"],
            sets["protected"],
            sets["test"],
            training,
            accelerator,
            Path(keep_in or scratch).absolute(),
            reread=read if any(list(survey.sizes) != [size] for survey in surveys.values()) else None,
        )
        cells = [
            _Cell(victim, defence, case, ratio, seed)
            for victim in specifications
            for defence in parsed
            for seed in seeds
            for case, ratio in _cases(ratios, sequential)
        ]
        own = _shared_out(cells, accelerator)
        with Progress("victims", bench.steps * len(own), enabled=progress and accelerator.is_main_process) as bar:
            found = {
                index: bench.result(cells[index], bar, keep_weights=sequential and cells[index].case == CLEAN_PART)
                for index in own
            }
        everything = {index: result for part in merged(accelerator, found) for index, result in part.items()}
        results = tuple(everything[index] for index in range(len(cells)))
    return Report(
        results=results,
        chance=sets["test"].chance,
        images=len(clean),
        test_images=len(test),
        iterations=bench.steps,
        training=training.as_dict(),
        versions=versions(),
        doubts=tuple(doubts),
    )


@dataclass(frozen=True)
class _Cell:
    """One entry of the cross product."""

    victim: Surrogate
    defence: Defence
    case: str
    ratio: float
    seed: int


def _cases(ratios: Sequence[float], sequential: bool) -> Iterator[tuple[str, float]]:
    """Every case with its ratio, once."""
    for ratio in dict.fromkeys(ratios):
        for case, whole in RATIO.items():
            if ratio == whole:
                yield case, ratio
        if 0 < ratio < 1:
            yield MIX, ratio
            yield CLEAN_PART, ratio
            if sequential:
                yield SEQUENTIAL, ratio


def _shared_out(cells: Sequence[_Cell], accelerator: Accelerator) -> list[int]:
    """Which cells this process trains, each by itself, so that their number changes no result.

    A clean part and what goes on from it belong together.
    """
    groups = [replace(cell, case=CLEAN_PART) if cell.case == SEQUENTIAL else cell for cell in cells]
    order = list(dict.fromkeys(groups))
    count, rank = accelerator.num_processes, accelerator.process_index
    return [index for index, group in enumerate(groups) if order.index(group) % count == rank]


class _Bench:
    """Trains the victims, or finds what was kept of them."""

    def __init__(
        self,
        clean: ImageSet,
        protected: ImageSet,
        test: ImageSet,
        training: Training,
        accelerator: Accelerator,
        folder: Path,
        reread: Callable[[str, Defence], ImageSet] | None,
    ) -> None:
        self.clean, self.protected, self.test = clean, protected, test
        self.training, self.accelerator, self.folder = training, accelerator, folder
        self.steps = training.iterations(len(clean))
        self._reread = reread  # where a defence that acts on images meets larger ones than the victims do
        self._changed: tuple[Defence, ImageSet, ImageSet] | None = None  # of one defence at a time: cells are in order

    def result(self, cell: _Cell, bar: Progress, *, keep_weights: bool) -> Result:
        """Of one victim, trained now or before; ``keep_weights`` for those from which others go on."""
        file = self._file(cell, "json")
        if file.exists():
            epochs = json.loads(file.read_text())["epochs"]
            bar.advance(self.steps)
        else:
            epochs = self._train(cell, bar, keep_weights)
            about = {"victim": str(cell.victim), "defence": str(cell.defence), "case": cell.case, "ratio": cell.ratio}
            write_whole(file, json.dumps({**about, "seed": cell.seed, "epochs": epochs}) + "\n")
        if cell.defence.figure == "peak":  # a thief who stops at the best epoch has no later ones
            epochs = epochs[: 1 + int(np.argmax(epochs))]
        return Result(str(cell.victim), cell.case, cell.ratio, str(cell.defence), cell.seed, tuple(epochs))

    def _train(self, cell: _Cell, bar: Progress, keep_weights: bool) -> list[float]:
        """Train one victim; its clean test accuracy after every epoch of the full set (of the last set's training)."""
        images = self._training_set(cell)
        if cell.case == SEQUENTIAL:
            start = self._taught(replace(cell, case=CLEAN_PART), bar)
            training = replace(
                self.training,
                epochs=max(1, self.training.epochs // 4),
                learning_rate=self.training.learning_rate / 5,
            )
            _, reached = self._fit(cell, start, images, training, training.iterations(len(images)), None)
        else:
            network, reached = self._fit(cell, cell.victim, images, self.training, self.steps, bar)
            if keep_weights:
                weights = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
                write_whole(self._file(cell, "safetensors"), save(weights))
        return reached

    def _taught(self, cell: _Cell, bar: Progress) -> Surrogate:
        """What ``cell`` leaves, trained now or before, as the start of another training."""
        file = self._file(cell, "safetensors")
        if file.exists():
            bar.advance(self.steps)
        else:
            self._train(cell, bar, keep_weights=True)
        network = self._start(cell)
        network.load_state_dict(load_file(file))
        return network.as_surrogate()

    def _start(self, cell: _Cell) -> Network:
        return cell.victim.build(len(self.clean.names), self.clean.pixels.shape[1], cell.seed)

    def _drawn_clean(self, cell: _Cell) -> NDArray[np.bool_]:
        """Which rows (N,) stay clean where a part does."""
        return split(self.clean.labels, 1 - cell.ratio, cell.seed)

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

    def _training_set(self, cell: _Cell) -> ImageSet:
        """What the victim is trained on; where it was taught by the clean part before, what comes then."""
        clean, protected = self._sets(cell.defence)
        if cell.case == CLEAN:
            return clean
        if cell.case == PROTECTED:
            return protected
        stays_clean = self._drawn_clean(cell)
        if cell.case == MIX:
            mixed = np.where(stays_clean[:, None, None, None], clean.pixels, protected.pixels)
            return ImageSet(mixed, clean.labels, clean.names)
        if cell.case == CLEAN_PART:
            return clean.select(np.flatnonzero(stays_clean))
        return protected.select(np.flatnonzero(~stays_clean))

    def _fit(
        self, cell: _Cell, victim: Surrogate, images: ImageSet, training: Training, steps: int, bar: Progress | None
    ) -> tuple[Network, list[float]]:
        run = Run(
            victim,
            images,
            training,
            iterations=steps,
            seed=cell.seed,
            accelerator=self.accelerator,
            defence=cell.defence,
            prepared=self._prepared(cell.defence),
        )
        reached: list[float] = []
        epoch = max(1, steps // training.epochs)
        for loss in run:
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"victim {cell.victim}, seed {cell.seed}: got a loss of {loss}; lower the learning rate of its "
                    f"Training"
                )
            if bar is not None:
                bar.advance(loss=loss)
            if run.done % epoch == 0 or run.done == steps:
                reached.append(accuracy(run.network, self.test, self.accelerator.device))
        return run.network, [round(value, 6) for value in reached]

    def _file(self, cell: _Cell, suffix: str) -> Path:
        """Named by all that a victim depends on: weights to start from, images, recipe, versions; by nothing else.

        So measurements of two protections share the victims of the clean data.
        """
        clean, protected = self._sets(cell.defence)
        sets = {CLEAN: [clean], PROTECTED: [protected], CLEAN_PART: [clean]}.get(cell.case, [clean, protected])
        hashed = hashlib.blake2b(digest_size=16)
        # Who only stops early has trained as those without a defence do.
        defence = cell.defence if cell.defence.acts else NoDefence()
        told = [cell.case, defence.as_dict(), cell.seed, self.steps, self.training.as_dict(), versions()]
        told += [str(self.accelerator.device), self.accelerator.mixed_precision]
        hashed.update(json.dumps(told).encode())
        for images in (*sets, self.test):
            hashed.update(images.digest)
        hashed.update(self._drawn_clean(cell).tobytes())
        self._start(cell).feed(hashed)
        return self.folder / f"{hashed.hexdigest()}.{suffix}"


def _idle(defence: Defence, sets: Mapping[str, ImageSet]) -> bool:
    """Whether a defence that acts on images leaves them all as they are, as far as the first hundred tell."""
    some = [one for images in sets.values() for one in images.pixels[:100]]
    return defence.acts_on_images and all(np.array_equal(defence.changed(one), one) for one in some)


def split(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Draw ``share`` of the rows of every class, rounded to the nearest row: (N,) of whether a row was drawn."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        drawn[members[: round(share * len(members))]] = True
    return drawn
