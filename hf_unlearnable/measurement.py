"""What a thief gains: fresh victims trained on protected, clean and mixed data, tested on clean images."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.columns import find_columns
from hf_unlearnable.errors import DataError, DivergenceError
from hf_unlearnable.images import ImageSet
from hf_unlearnable.progress import Progress
from hf_unlearnable.surrogate import Surrogate
from hf_unlearnable.training import Training, accuracy, train
from hf_unlearnable.versions import versions

CLEAN, PROTECTED, MIX, CLEAN_PART = "clean", "protected", "mix", "clean part alone"
CASES = (CLEAN, PROTECTED, MIX, CLEAN_PART)
SEEDS = (101, 102, 103)  # none that a surrogate starts from by default


@dataclass(frozen=True)
class Result:
    """One victim.

    Attributes:
        victim: the model, as given.
        case: what it was trained on, one of ``CASES``.
        seed: of its weights, order, augmentation and, for the mixture, of the split.
        last: clean test accuracy after the last step, in [0, 1].
        peak: the highest after any epoch: what a thief gets who stops early and happens to be lucky.
    """

    victim: str
    case: str
    seed: int
    last: float
    peak: float


@dataclass(frozen=True)
class Report:
    """The results of ``learnability``: print it, or save it as JSON.

    Attributes:
        results: one for each victim, case and seed.
        chance: test accuracy of naming the most frequent class always, in [0, 1].
        images: training images in the full set.
        test_images: in the test set.
        iterations: optimiser steps, the same for every case.
        training: the victims' recipe.
        versions: of the packages that the figures depend on.
    """

    results: tuple[Result, ...]
    chance: float
    images: int
    test_images: int
    iterations: int
    training: dict[str, Any]
    versions: dict[str, str]

    @property
    def victims(self) -> list[str]:
        """The victims in the order they were given."""
        return list(dict.fromkeys(result.victim for result in self.results))

    @property
    def seeds(self) -> list[int]:
        """The seeds of every case."""
        return list(dict.fromkeys(result.seed for result in self.results))

    @property
    def cases(self) -> list[str]:
        """The cases that were measured, in the order of ``CASES``."""
        measured = {result.case for result in self.results}
        return [case for case in CASES if case in measured]

    def values(self, case: str, victim: str | None = None, figure: str = "last") -> NDArray[np.float64]:
        """The accuracies of one case over its seeds, in [0, 1].

        Args:
            case: one of ``CASES``.
            victim: the first one when left out.
            figure: ``"last"`` or ``"peak"``.
        """
        victim = victim or self.victims[0]
        chosen = [getattr(result, figure) for result in self.results if (result.case, result.victim) == (case, victim)]
        return np.array(chosen, dtype=np.float64)

    def accuracy(self, case: str, victim: str | None = None, figure: str = "last") -> float:
        """The mean of ``values``; not a number for a case that was not measured."""
        values = self.values(case, victim, figure)
        return float(values.mean()) if len(values) else math.nan

    def spread(self, case: str, victim: str | None = None, figure: str = "last") -> float:
        """The sample standard deviation of ``values``; not a number for a single seed."""
        values = self.values(case, victim, figure)
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def protection_score(self, victim: str | None = None) -> float:
        """(clean - protected) / (clean - chance): 1 when protected data teach nothing, 0 when they teach all.

        Not a number when the victim learns nothing from clean data either.
        """
        clean = self.accuracy(CLEAN, victim)
        return (clean - self.accuracy(PROTECTED, victim)) / (clean - self.chance) if clean > self.chance else math.nan

    def theft_gain(self, victim: str | None = None) -> float:
        """What protected data add for a thief who has the other part clean: mix - clean part alone.

        Zero or less means that they add nothing.
        """
        return self.accuracy(MIX, victim) - self.accuracy(CLEAN_PART, victim)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; the summary holds None where a figure is not a number."""

        def number(value: float) -> float | None:
            return None if math.isnan(value) else round(value, 6)

        summary = {
            victim: {
                **{
                    case: {
                        figure: {
                            "mean": number(self.accuracy(case, victim, figure)),
                            "std": number(self.spread(case, victim, figure)),
                        }
                        for figure in ("last", "peak")
                    }
                    for case in self.cases
                },
                "protection_score": number(self.protection_score(victim)),
                "theft_gain": number(self.theft_gain(victim)),
            }
            for victim in self.victims
        }
        return {"summary": summary, **asdict(self)}

    def save(self, file: str | PathLike[str]) -> None:
        """Write the report as JSON."""
        Path(file).write_text(json.dumps(self.as_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Report:
        """Read what ``save`` wrote."""
        stored = json.loads(Path(file).read_text())
        stored.pop("summary")
        return cls(**{**stored, "results": tuple(Result(**result) for result in stored["results"])})

    def __str__(self) -> str:
        def cell(case: str, victim: str, figure: str) -> str:
            spread = self.spread(case, victim, figure)
            return f"{100 * self.accuracy(case, victim, figure):5.1f}" + (
                "       " if math.isnan(spread) else f" ± {100 * spread:4.1f}"
            )

        lines = [f"Clean test accuracy in % (chance {100 * self.chance:.1f}), {len(self.seeds)} seed(s)"]
        for victim in self.victims:
            lines.append(f"{victim:<20}{'last epoch':>12}{'peak epoch':>15}")
            for case in self.cases:
                lines.append(f"  {case:<18}{cell(case, victim, 'last'):>12}   {cell(case, victim, 'peak'):>12}")
            if {CLEAN, PROTECTED} <= set(self.cases):
                score = self.protection_score(victim)
                lines.append(f"  protection score {score:.2f} (1: protected data teach nothing, 0: all)")
            if {MIX, CLEAN_PART} <= set(self.cases):
                lines.append(f"  theft gain {100 * self.theft_gain(victim):+.1f} points (mix - clean part alone)")
        return "\n".join(lines)


def learnability(
    protected: Dataset,
    *,
    clean: Dataset,
    test: Dataset,
    victims: Sequence[Surrogate | str] | Surrogate | str = "small-resnet",
    training: Training = Training(),
    seeds: Sequence[int] = SEEDS,
    cases: Sequence[str] = CASES,
    image_column: str | None = None,
    label_column: str | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Report:
    """Train fresh victims and test them on clean images.

    Four cases, all with the same number of optimiser steps: the clean set, the protected set, a mixture (one random
    half of the rows clean, the other half protected, stratified by class), and that clean half alone, without which the
    mixture says nothing.

    Args:
        protected: the released data set, made by this package or another tool.
        clean: the same rows in the same order, unprotected.
        test: clean images that nobody trained on, of the same size and classes.
        victims: models as ``Surrogate`` takes them, each trained from the weights that it builds.
        training: the victims' recipe.
        seeds: one run of every case each.
        cases: which of ``CASES`` to train; the figures that need the others are then not numbers.
        image_column: of all three data sets; may be left out when there is exactly one.
        label_column: likewise.
        accelerator: device and precision; a fresh ``Accelerator()`` when left out.
        progress: show a bar.

    Raises:
        DataError: data sets that do not belong together.
        DivergenceError: a victim's loss left the finite numbers.
    """
    accelerator = accelerator or Accelerator()
    specifications = [Surrogate.of(one) for one in ([victims] if isinstance(victims, (str, Surrogate)) else victims)]
    if not set(cases) <= set(CASES) or not cases:
        raise DataError(f"got the cases {list(cases)}; expected some of {', '.join(CASES)}")
    if not seeds or not specifications:
        raise DataError(f"got {len(specifications)} victims and {len(seeds)} seeds; expected at least one of each")
    sets = {}
    for name, dataset in (("protected", protected), ("clean", clean), ("test", test)):
        try:
            sets[name] = ImageSet.read(dataset, find_columns(dataset, image_column, label_column), progress=progress)
        except DataError as error:
            raise DataError(f"the {name} dataset: {error}") from error
    _check_match(sets["protected"], sets["clean"], sets["test"])
    steps = training.iterations(len(clean))
    results = []
    with Progress("victims", steps * len(specifications) * len(seeds) * len(cases), enabled=progress) as bar:
        for victim in specifications:
            for seed in seeds:
                for case, images in _cases(sets["clean"], sets["protected"], seed).items():
                    if case not in cases:
                        continue
                    last, peak = _victim(victim, images, sets["test"], training, steps, seed, accelerator, bar)
                    results.append(Result(str(victim), case, seed, last, peak))
    return Report(
        results=tuple(results),
        chance=sets["test"].chance,
        images=len(clean),
        test_images=len(test),
        iterations=steps,
        training=training.as_dict(),
        versions=versions(),
    )


def _victim(
    victim: Surrogate,
    images: ImageSet,
    test: ImageSet,
    training: Training,
    steps: int,
    seed: int,
    accelerator: Accelerator,
    bar: Progress,
) -> tuple[float, float]:
    """Train one victim; its last and peak clean test accuracy, measured once an epoch of the full set."""
    reached: list[float] = []
    epoch = max(1, steps // training.epochs)

    def after_step(done: int, loss: float, network: Any) -> None:
        if not math.isfinite(loss):
            raise DivergenceError(
                f"victim {victim}, seed {seed}: got a loss of {loss}; lower the learning rate of its Training"
            )
        bar.advance(loss=loss)
        if done % epoch == 0 or done == steps:
            reached.append(accuracy(network, test, accelerator.device))

    train(victim, images, training, iterations=steps, seed=seed, accelerator=accelerator, after_step=after_step)
    accelerator.free_memory()
    return reached[-1], max(reached)


def _cases(clean: ImageSet, protected: ImageSet, seed: int) -> dict[str, ImageSet]:
    """The training set of every case; the halves are drawn from ``seed``, class by class."""
    rng = np.random.default_rng(seed)
    stays_clean = np.zeros(len(clean), dtype=bool)
    for label in np.unique(clean.labels):
        members = rng.permutation(np.flatnonzero(clean.labels == label))
        stays_clean[members[: len(members) // 2]] = True
    mixed = np.where(stays_clean[:, None, None, None], clean.pixels, protected.pixels)
    return {
        CLEAN: clean,
        PROTECTED: protected,
        MIX: ImageSet(mixed, clean.labels, clean.names),
        CLEAN_PART: clean.select(np.flatnonzero(stays_clean)),
    }


def _check_match(protected: ImageSet, clean: ImageSet, test: ImageSet) -> None:
    if len(protected) != len(clean):
        raise DataError(f"got {len(protected)} protected and {len(clean)} clean images; expected the same rows")
    differing = np.flatnonzero(protected.labels != clean.labels)
    if len(differing):
        raise DataError(
            f"got another label in row {differing[0]} of the protected set than in the clean one (and in "
            f"{len(differing) - 1} more); expected the same rows in the same order"
        )
    for name, other in (("protected", protected), ("test", test)):
        if other.names != clean.names:
            raise DataError(
                f"got the classes {other.names[:5]} in the {name} set and {clean.names[:5]} in the clean one; expected "
                f"the same names in the same order. Use dataset.cast_column(LABEL, ClassLabel(names=[...]))"
            )
        if other.pixels.shape[1:] != clean.pixels.shape[1:]:
            raise DataError(
                f"got images of shape {other.pixels.shape[1:]} in the {name} set and {clean.pixels.shape[1:]} in the "
                f"clean one; expected one size"
            )
    if np.array_equal(protected.pixels, clean.pixels):
        warnings.warn("the protected images are identical to the clean ones: nothing is protected", stacklevel=3)
