"""How long a comparison takes, told before it begins."""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hf_unlearnable.benchmark.cells import Cell, Elsewhere, Protected
from hf_unlearnable.benchmark.records import CELLS, SETS, CellRecord, SetRecord, read_all
from hf_unlearnable.benchmark.running import Work
from hf_unlearnable.evaluation.cases import CLEAN
from hf_unlearnable.evaluation.opening import Opened
from hf_unlearnable.evaluation.thieves import Thief
from hf_unlearnable.evaluation.victims import Trial, Victims
from hf_unlearnable.models.classical import Classical
from hf_unlearnable.models.surrogate import load_transformers
from hf_unlearnable.progress import Progress, duration
from hf_unlearnable.training.processes import default_accelerator

SAMPLE = 256  # images that a probe trains on


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        fits: that are not finished.
        cells: likewise.
        seconds: that one process takes for those whose time is known.
        finished: how many kinds of piece are known from finished ones.
        probed: how many from a short probe: a few images for one epoch, enlarged.
        unknown: fits whose time nobody knows: methods that do not say how their work compares with training.
    """

    fits: int
    cells: int
    seconds: float
    finished: int
    probed: int
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        told = [f"{self.fits} fits and {self.cells} cells are left"]
        if self.fits + self.cells:
            source = [f"{self.finished} kinds from finished work"] * bool(self.finished)
            source += [f"{self.probed} from a short probe"] * bool(self.probed)
            told.append(f"about {duration(self.seconds)} of one process ({', '.join(source)})")
        if self.unknown:
            told.append(f"not counted, since nobody knows how long they take: {', '.join(self.unknown)}")
        return "; ".join(told)


def estimate(work: Work) -> Estimate:
    """Tell how long what is left takes, from what is finished, else from short probes.

    A cell is like another one of the same dataset and thief, a fit like another one of the same dataset and method.
    """
    fits, cells = work.open_work
    known: dict[tuple[str, ...], list[float]] = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # damaged ones were told
        for cell in read_all(work.folder / CELLS, CellRecord):
            known[cell.dataset["name"], cell.victim, cell.defence].append(cell.seconds)
        for one in read_all(work.folder / SETS, SetRecord):
            if one.seconds is not None:
                known[one.dataset["name"], one.name].append(one.seconds)
    seconds, finished, probed, unknown = 0.0, set(), {}, []
    for name, opened in work.sets.items():
        own = [cell for cell in cells if cell.data == opened.data]
        own_fits = [one for one in fits if one.data == opened.data and not isinstance(one.method, Elsewhere)]
        probe = None
        for kind, thief in [*_kinds(own), *_fitted(own_fits)]:
            if kind in known:
                finished.add(kind)
                seconds += float(np.mean(known[kind]))
                continue
            if isinstance(thief, Protected):
                epochs = sum(_parts(thief).values())
                if not epochs:
                    unknown.append(f"{thief.name} ({name})")
                    continue
                thief, factor = replace(_ordinary(work, thief), named="fit"), epochs
            else:
                factor = 1.0
            kind = (name, thief.name, str(thief.defence))
            if kind not in probed:
                probe = probe or _Probe(work, name)
                probed[kind] = probe.seconds(thief)
            if math.isnan(probed[kind]):
                unknown.append(f"{thief.name} with {thief.defence} ({name})")
            else:
                seconds += factor * probed[kind]
    told = [kind for kind, took in probed.items() if not math.isnan(took)]
    return Estimate(len(fits), len(cells), seconds, len(finished), len(told), tuple(dict.fromkeys(unknown)))


def _kinds(cells: list[Cell]) -> Iterator[tuple[tuple[str, ...], Thief | Protected]]:
    for cell in cells:
        thief = cell.trial.thief
        yield (cell.data.name, thief.name, str(thief.defence)), thief


def _fitted(fits: list[Protected]) -> Iterator[tuple[tuple[str, ...], Thief | Protected]]:
    for one in fits:
        yield (one.data.name, one.name), one


def _parts(one: Protected) -> dict[str, float]:
    assert not isinstance(one.method, Elsewhere)
    return dict(one.method.parts())


def _ordinary(work: Work, one: Protected) -> Thief:
    """Whose epoch is the unit in which methods tell how long they take."""
    first = work.config.thieves_of(one.data)[0]
    return replace(first, training=replace(one.data.training, epochs=1))


class _Probe:
    """Trains on a few images of a dataset."""

    def __init__(self, work: Work, name: str) -> None:
        sets = work.sets[name]
        count, test = len(sets.train), len(sets.test)
        some = [part.select(range(min(SAMPLE, len(part)))) for part in (sets.train, sets.test)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a few images look odd
            opened = Opened.of(
                some[0],
                some[0],
                some[1],
                largest=64,
                resolution=sets.data.resolution,
                image_column=sets.data.image_column,
                label_column=sets.data.label_column,
            )
        self._victims: Victims = opened.victims(default_accelerator())
        self._scale = (count + test) / sum(map(len, some))

    def seconds(self, thief: Thief) -> float:
        """Of a training on all images, enlarged from one epoch on a few; not a number where that fails.

        It may fail on so few images alone. If it does not, the work itself will tell it.
        """
        epochs = 1 if isinstance(thief.victim, Classical) else thief.training.epochs
        short = replace(thief, training=replace(thief.training, epochs=1))
        load_transformers()
        started = time.monotonic()
        try:
            with Progress("", 1, enabled=False) as bar:
                self._victims.trained(Trial(short, CLEAN, 0.0, 1), bar)
        except Exception:  # whatever somebody else's defence or victim raises
            return math.nan
        return (time.monotonic() - started) * self._scale * epochs
