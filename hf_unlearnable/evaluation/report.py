"""What a measurement found: one result for every victim that was trained, and the figures made of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from hf_unlearnable.errors import RecipeError
from hf_unlearnable.evaluation import scores
from hf_unlearnable.files import atomic_write

CLEAN, PROTECTED, MIX, CLEAN_PART, SEQUENTIAL = "clean", "protected", "mix", "clean part alone", "sequential"

CASES = (CLEAN, PROTECTED, MIX, CLEAN_PART, SEQUENTIAL)

RATIO = {CLEAN: 0.0, PROTECTED: 1.0}  # the share of protected rows; the other cases have one by choice

NO_DEFENCE = "none"


@dataclass(frozen=True)
class Result:
    """One victim.

    Attributes:
        victim: the model, as given.
        case: what it was trained on, one of ``CASES``.
        ratio: the share of the rows that is protected, in [0, 1]; that of its mixture for ``CLEAN_PART``.
        defence: what the thief did against the protection.
        seed: of its weights, order, augmentation and of the split of a mixture.
        epochs: clean test accuracy in [0, 1] after every epoch, the last of them after the last step.
    """

    victim: str
    case: str
    ratio: float
    defence: str
    seed: int
    epochs: tuple[float, ...]

    @property
    def last(self) -> float:
        """Clean test accuracy after the last step."""
        return self.epochs[-1]

    @property
    def peak(self) -> float:
        """The highest after any epoch: what a thief gets who stops early and happens to be lucky."""
        return max(self.epochs)


@dataclass(frozen=True)
class Report:
    """The results of ``learnability``: print it, or save it as JSON, CSV or parquet.

    Figures are of one victim, one ratio and one defence: the first that was measured where nothing else is said. Each
    is not a number when what it needs was not measured.

    Attributes:
        results: one for each victim, defence, case, ratio and seed.
        chance: test accuracy of naming the most frequent class always, in [0, 1].
        images: training images in the full set.
        test_images: in the test set.
        iterations: optimiser steps, the same for every case.
        training: the victims' recipe.
        versions: of the packages that the figures depend on.
        doubts: what did not look as it should in the data sets that were measured, a sentence each.
    """

    results: tuple[Result, ...]
    chance: float
    images: int
    test_images: int
    iterations: int
    training: dict[str, Any]
    versions: dict[str, str]
    doubts: tuple[str, ...] = ()

    @property
    def victims(self) -> list[str]:
        """The victims in the order they were given."""
        return list(dict.fromkeys(result.victim for result in self.results))

    @property
    def defences(self) -> list[str]:
        """The defences in the order they were given."""
        return list(dict.fromkeys(result.defence for result in self.results))

    @property
    def seeds(self) -> list[int]:
        """The seeds of every case."""
        return list(dict.fromkeys(result.seed for result in self.results))

    @property
    def cases(self) -> list[str]:
        """The cases that were measured, in the order of ``CASES``."""
        measured = {result.case for result in self.results}
        return [case for case in CASES if case in measured]

    @property
    def ratios(self) -> list[float]:
        """The shares of protected rows in the mixtures, in the order they were given."""
        return list(dict.fromkeys(result.ratio for result in self.results if result.case not in RATIO))

    def lines(self) -> Iterator[tuple[str, float]]:
        """The cases that were measured with each of their ratios, in a natural order: the lines of a table."""
        for case in (CLEAN, PROTECTED):
            if case in self.cases:
                yield case, RATIO[case]
        for ratio in self.ratios:
            for case in self.cases:
                if case not in RATIO and any((one.case, one.ratio) == (case, ratio) for one in self.results):
                    yield case, ratio

    def values(
        self,
        case: str,
        victim: str | None = None,
        figure: str = "last",
        *,
        ratio: float | None = None,
        defence: str | None = None,
    ) -> NDArray[np.float64]:
        """The accuracies of one case over its seeds, in [0, 1].

        Args:
            case: one of ``CASES``.
            victim: the first one when left out.
            figure: ``"last"`` or ``"peak"``.
            ratio: of a mixture; the first one when left out.
            defence: the first one when left out.
        """
        chosen = [getattr(one, figure) for one in self._of(case, victim, ratio, defence)]
        return np.array(chosen, dtype=np.float64)

    def curves(
        self, case: str, victim: str | None = None, *, ratio: float | None = None, defence: str | None = None
    ) -> list[tuple[float, ...]]:
        """Clean test accuracy in [0, 1] after every epoch, one curve a seed; arguments as of ``values``."""
        return [one.epochs for one in self._of(case, victim, ratio, defence)]

    def _of(self, case: str, victim: str | None, ratio: float | None, defence: str | None) -> list[Result]:
        if ratio is None or case in RATIO:
            ratio = RATIO.get(case, self.ratios[0] if self.ratios else math.nan)
        wanted = (case, ratio, victim or self.victims[0], defence or self.defences[0])
        return [one for one in self.results if (one.case, one.ratio, one.victim, one.defence) == wanted]

    def accuracy(self, case: str, victim: str | None = None, figure: str = "last", **choice: Any) -> float:
        """The mean of ``values``."""
        values = self.values(case, victim, figure, **choice)
        return float(values.mean()) if len(values) else math.nan

    def spread(self, case: str, victim: str | None = None, figure: str = "last", **choice: Any) -> float:
        """The sample standard deviation of ``values``; not a number for a single seed."""
        values = self.values(case, victim, figure, **choice)
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def protection_score(self, victim: str | None = None, defence: str | None = None) -> float:
        """(clean - protected) / (clean - chance): 1 when protected data teach nothing, 0 when they teach all.

        Clean and protected data meet the same defence. Not a number when the victim learns nothing from clean data.
        """
        clean, protected = (self.accuracy(case, victim, defence=defence) for case in (CLEAN, PROTECTED))
        return scores.protection_score(protected, clean, self.chance)

    def theft_gain(
        self, victim: str | None = None, *, ratio: float | None = None, defence: str | None = None, case: str = MIX
    ) -> float:
        """What protected data add for a thief who has the other part clean: mix - clean part alone.

        Zero or less means that they add nothing. ``case=SEQUENTIAL`` for the thief who trains on the clean part first.
        """
        choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
        return self.accuracy(case, victim, **choice) - self.accuracy(CLEAN_PART, victim, **choice)

    def rows(self) -> list[dict[str, Any]]:
        """A tidy table: one row for each victim that was trained."""
        return [
            {
                "victim": one.victim,
                "defence": one.defence,
                "case": one.case,
                "ratio": one.ratio,
                "seed": one.seed,
                "last": round(one.last, 6),
                "peak": round(one.peak, 6),
                "peak_epoch": 1 + one.epochs.index(one.peak),
            }
            for one in self.results
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; the summary holds None where a figure is not a number."""

        def number(value: float) -> float | None:
            return None if math.isnan(value) else round(value, 6)

        summary = []
        for victim in self.victims:
            for defence in self.defences:
                for case, ratio in self.lines():
                    entry: dict[str, Any] = {"victim": victim, "defence": defence, "case": case, "ratio": ratio}
                    for figure in ("last", "peak"):
                        choice = {"ratio": ratio, "defence": defence}
                        entry[figure] = {
                            "mean": number(self.accuracy(case, victim, figure, **choice)),
                            "std": number(self.spread(case, victim, figure, **choice)),
                        }
                    if case == PROTECTED:
                        entry["protection_score"] = number(self.protection_score(victim, defence))
                    if case in (MIX, SEQUENTIAL):
                        entry["theft_gain"] = number(self.theft_gain(victim, ratio=ratio, defence=defence, case=case))
                    summary.append(entry)
        return {"summary": summary, **asdict(self)}

    def save(self, file: str | PathLike[str]) -> None:
        """Write the report as JSON, or the tidy table of ``rows``, by the file's ending.

        Args:
            file: ``.json`` or without an ending: everything, as ``load`` reads it; ``.csv`` or ``.parquet``: the table.

        Raises:
            RecipeError: another ending.
        """
        path = Path(file)
        kind = path.suffix.lower()
        if kind in ("", ".json"):
            atomic_write(path, json.dumps(self.as_dict(), indent=2) + "\n")
        elif kind == ".csv":
            table, text = self.rows(), io.StringIO()
            writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
            atomic_write(path, text.getvalue())
        elif kind == ".parquet":
            columns = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(self.rows()), columns)
            atomic_write(path, columns.getvalue())
        else:
            raise RecipeError(f"got the file {str(path)!r}; expected an ending of .json, .csv or .parquet")

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Report:
        """Read the JSON that ``save`` wrote."""
        return cls.of(json.loads(Path(file).read_text()))

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Report:
        """The inverse of ``as_dict``; other entries than its own are left alone, and older files have no doubts."""
        results = tuple(Result(**{**result, "epochs": tuple(result["epochs"])}) for result in stored["results"])
        own = {"results": results, "doubts": tuple(stored.get("doubts", ()))}
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name not in own} | own)

    def __str__(self) -> str:
        lines = [f"Clean test accuracy in % (chance {100 * self.chance:.1f}), {len(self.seeds)} seed(s)"]
        for victim in self.victims:
            for defence in self.defences:
                named = victim if self.defences == [NO_DEFENCE] else f"{victim}, {defence}"
                lines.append(f"{named:<28}{'last epoch':>12}{'peak epoch':>15}")
                lines += self._block(victim, defence)
        return "\n".join(lines)

    def _block(self, victim: str, defence: str) -> Iterator[str]:
        for case, ratio in self.lines():
            choice = {"ratio": ratio, "defence": defence}
            cells = []
            for figure in ("last", "peak"):
                spread = self.spread(case, victim, figure, **choice)
                cells.append(
                    f"{100 * self.accuracy(case, victim, figure, **choice):5.1f}"
                    + ("       " if math.isnan(spread) else f" ± {100 * spread:4.1f}")
                )
            share = "" if case in RATIO else f", {ratio:.0%} protected"
            yield f"  {case + share:<34}{cells[0]:>12}   {cells[1]:>12}"
        score = self.protection_score(victim, defence)
        if not math.isnan(score):
            yield f"  protection score {score:.2f} (1: protected data teach nothing, 0: all)"
        elif {CLEAN, PROTECTED} <= set(self.cases):
            yield "  no protection score: the victim learns nothing from clean data either"
        for ratio in self.ratios:
            for case in (MIX, SEQUENTIAL):
                gain = self.theft_gain(victim, ratio=ratio, defence=defence, case=case)
                if not math.isnan(gain):
                    yield f"  theft gain {100 * gain:+.1f} points ({case} - clean part alone, {ratio:.0%} protected)"
