"""What a measurement found: the figures made of the results of all victims."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_unlearnable.errors import DataError, OutputError, RecipeError, SourceError, number_of
from hf_unlearnable.evaluation import cases, scores
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, Case, case_of
from hf_unlearnable.evaluation.lines import Accuracy, Line
from hf_unlearnable.evaluation.printed import CANNOT, blocks, overview, sizes
from hf_unlearnable.evaluation.results import Result, as_csv, as_measured, as_parquet
from hf_unlearnable.files import atomic_write, local_path, require_writable
from hf_unlearnable.protection.documents import check_keys, kinds_of, read_json

if TYPE_CHECKING:
    from hf_unlearnable.defences import Defence

NO_DEFENCE = "none"

FIGURES = ("last", "peak", "last_precision", "last_others", "picked")  # of a result

LATER = ("trainings", "epochs_factors", "suite", "owner", "test_seen")  # keys that are written where they say something

FEW = 3  # victims and defences of which the printed table shows every figure


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
        iterations: optimiser steps of ``training``, the same for every case.
        training: the victims' recipe.
        versions: of the packages that the figures depend on.
        doubts: what did not look as it should in the data sets that were measured, a sentence each.
        trainings: the recipes that victims name behind a comma.
        epochs_factors: the names of defences that were trained for some times as many epochs as their recipe says.
        suite: the name of the suite of thieves; empty if they were chosen one by one.
        owner: where one owner's class among others was measured, how many images there are: of the ``owner`` and of
            the ``others`` to train and, in ``owner test`` and ``others test``, to test on, and ``classes`` of others.
            All accuracies are then recalls of the owner's class, ``chance`` is its share of the training images, and
            ``images`` and ``test_images`` count all.
        test_seen: how many of the test images are among those that victims were trained on; None where nobody looked,
            as in what earlier versions wrote.
    """

    results: tuple[Result, ...]
    chance: float
    images: int
    test_images: int
    iterations: int
    training: dict[str, Any]
    versions: dict[str, str]
    doubts: tuple[str, ...] = ()
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    epochs_factors: dict[str, int] = field(default_factory=dict)
    suite: str = ""
    owner: dict[str, int] = field(default_factory=dict)
    test_seen: int | None = None

    @property
    def figure(self) -> str:
        """What was measured, in words."""
        return "recall of the owner's clean images" if self.owner else "clean test accuracy"

    @property
    def tested(self) -> int:
        """How many images accuracies are shares of: those to test on, of one owner where there is one."""
        return self.owner.get("owner test", self.test_images)

    @property
    def victims(self) -> list[str]:
        """The victims in the order they were given."""
        return list(dict.fromkeys(result.victim for result in self.results))

    @property
    def defences(self) -> list[str]:
        """The defences in the order they were given."""
        return list(dict.fromkeys(result.defence for result in self.results))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every victim with every defence that it met."""
        met = {(result.victim, result.defence) for result in self.results}
        return [(victim, defence) for victim in self.victims for defence in self.defences if (victim, defence) in met]

    @property
    def seeds(self) -> list[int]:
        """The seeds of every case."""
        return list(dict.fromkeys(result.seed for result in self.results))

    @property
    def cases(self) -> list[str]:
        """The keys of the cases that were measured, in the order of ``CASES``."""
        measured = {result.case for result in self.results}
        return [case.key for case in cases.CASES if case.key in measured]

    @property
    def ratios(self) -> list[float]:
        """The shares of protected rows in the mixtures, in the order they were given."""
        return list(dict.fromkeys(result.ratio for result in self.results if case_of(result.case).ratio is None))

    def table(self, victim: str | None = None, defence: Defence | str | None = None) -> list[Line]:
        """The results as a table: for each victim and defence a line for every case that was measured for any of them.

        Args:
            victim: the lines of this one alone.
            defence: likewise; with both given also where the one did not meet the other.
        """
        met = None if defence is None else as_measured(defence, self.defences)
        chosen = [(victim, met)] if victim is not None and met is not None else self.pairs
        return [
            self._line(*pair, case, ratio)
            for pair in chosen
            if victim in (None, pair[0]) and met in (None, pair[1])
            for case, ratio in self._cases()
        ]

    def _line(self, victim: str, defence: str, case: Case, ratio: float) -> Line:
        choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
        last, peak = (self.values(case.key, victim, figure, **choice) for figure in ("last", "peak"))
        return Line(
            victim=victim,
            defence=defence,
            case=case,
            ratio=ratio,
            seeds=len(last),
            last=Accuracy.of(last),
            peak=Accuracy.of(peak),
            clean_part=Accuracy.of(self.values(CLEAN_PART, victim, **choice)) if case.mixture else None,
            protection_score=self.protection_score(victim, defence) if case.key == PROTECTED else None,
            theft_gain=self.theft_gain(victim, case=case.key, **choice) if case.mixture else None,
            precision=Accuracy.of(self.values(case.key, victim, "last_precision", **choice)) if self.owner else None,
            others=Accuracy.of(self.values(case.key, victim, "last_others", **choice)) if self.owner else None,
        )

    def _cases(self) -> list[tuple[Case, float]]:
        """The cases that were measured with each of their ratios: those of a fixed ratio, then ratio by ratio."""
        measured = {(result.case, result.ratio) for result in self.results}
        fixed = [(case, case.ratio) for case in cases.CASES if case.ratio is not None and case.key in self.cases]
        chosen = [(case, ratio) for ratio in self.ratios for case in cases.CASES if case.ratio is None]
        return fixed + [(case, ratio) for case, ratio in chosen if (case.key, ratio) in measured]

    def values(
        self,
        case: str,
        victim: str | None = None,
        figure: str = "last",
        *,
        ratio: float | None = None,
        defence: Defence | str | None = None,
    ) -> NDArray[np.float64]:
        """The accuracies of one case over its seeds, in [0, 1]; none where it was not measured.

        Args:
            case: the key of one of ``CASES``.
            victim: the first one when left out.
            figure: ``"last"`` or ``"peak"``; of one owner also ``"last_precision"`` or ``"last_others"``. Not an
                accuracy is ``"picked"``, the number of the epoch that the thief kept; not a number for the last one.
            ratio: of a mixture; the first one when left out.
            defence: as ``Defence.parse`` reads it, so that ``"jpeg"`` is ``"jpeg:10"``; the first one when left out.

        Raises:
            RecipeError: no such figure.
        """
        if figure not in FIGURES:
            raise RecipeError(f"got the figure {figure!r}; expected one of {', '.join(map(repr, FIGURES))}")
        chosen = [getattr(result, figure) for result in self._of(case, victim, ratio, defence)]
        return np.array(chosen, dtype=np.float64)

    def curves(
        self,
        case: str,
        victim: str | None = None,
        *,
        ratio: float | None = None,
        defence: Defence | str | None = None,
    ) -> list[tuple[float, ...]]:
        """Clean test accuracy in [0, 1] after every epoch, one curve a seed; arguments as of ``values``."""
        return [result.epochs for result in self._of(case, victim, ratio, defence)]

    def _of(self, case: str, victim: str | None, ratio: float | None, defence: Defence | str | None) -> list[Result]:
        fixed = case_of(case).ratio
        if fixed is not None:
            ratio = fixed
        elif ratio is None:
            ratio = self.ratios[0] if self.ratios else math.nan
        wanted = (case, ratio, victim or self.victims[0], as_measured(defence, self.defences))
        return [
            result for result in self.results if (result.case, result.ratio, result.victim, result.defence) == wanted
        ]

    def accuracy(self, case: str, victim: str | None = None, figure: str = "last", **choice: Any) -> float:
        """The mean of ``values``."""
        return Accuracy.of(self.values(case, victim, figure, **choice)).mean

    def spread(self, case: str, victim: str | None = None, figure: str = "last", **choice: Any) -> float:
        """The sample standard deviation of ``values``; not a number for a single seed."""
        return Accuracy.of(self.values(case, victim, figure, **choice)).spread

    def ceiling(self, victim: str | None = None) -> float:
        """The best accuracy after clean images, of one victim or all; not a number where that was not measured."""
        pairs = [pair for pair in self.pairs if victim in (None, pair[0])]
        telling = [pair for pair in pairs if not self._names_alike(*pair)] or pairs
        known = [self.accuracy(CLEAN, model, defence=defence) for model, defence in telling]
        return max((accuracy for accuracy in known if not math.isnan(accuracy)), default=math.nan)

    @property
    def picks(self) -> bool:
        """Whether a thief picks the epoch that he ends up with: then ``last`` is not of the last one for all."""
        return any(result.picked for result in self.results)

    @property
    def guessing(self) -> float:
        """How far as many models as these get by luck, in [0, 1]; see ``scores.guessing``."""
        return scores.guessing(self.chance, self.tested, len(self.pairs))

    @property
    def remembers(self) -> bool:
        """Whether victims were trained on most of the test images, so that figures say nothing of new ones."""
        return 2 * (self.test_seen or 0) > self.tested

    def untold(self, victim: str | None = None) -> str:
        """Why no figure tells what protection does; empty where one does, or where no clean images were trained on.

        Args:
            victim: as far as this one goes; all of them when left out.
        """
        if self.remembers:
            return f"{self.test_seen} of {self.tested} test images are among those that models were trained on"
        best = self.ceiling(victim)
        if math.isnan(best):
            return ""
        if all(self._names_alike(*pair) for pair in self.pairs if victim in (None, pair[0])):
            return (
                "too few images, or too short a training; what was learned from clean images names images of others "
                "as the owner's as often as those of the owner"
            )
        if best > self.guessing:
            return ""
        return (
            f"too few images; what was learned from clean images names {100 * best:.1f} % of {self.tested} test "
            f"images, and luck alone up to {100 * self.guessing:.1f} % (chance {100 * self.chance:.1f} %)"
        )

    def _names_alike(self, victim: str, defence: str) -> bool:
        """Whether a model of one owner's clean images names those of others as often: then its recall tells nothing."""
        found = [result for result in self._of(CLEAN, victim, None, defence) if result.precision]
        if not self.owner or not found:
            return False
        recall = float(np.mean([result.last for result in found]))
        # Where a model names none of the owner's images right, its precision does not tell how many of others it names.
        wrongs = [wrong for result in found if not math.isnan(wrong := result.named_wrong(self.owner))]
        if not wrongs:
            return False
        wrong = float(np.mean(wrongs))
        return recall <= scores.guessing(min(wrong, 1.0), self.owner["owner test"])

    def protection_score(self, victim: str | None = None, defence: Defence | str | None = None) -> float:
        """(clean - protected) / (clean - chance): 1 when protected data teach nothing, 0 when they teach all.

        Clean and protected data meet the same defence. Not a number when what the victim learns from clean data may be
        luck, or when it ``remembers`` the test images.
        """
        clean, protected = (self.accuracy(case, victim, defence=defence) for case in (CLEAN, PROTECTED))
        score = scores.protection_score(protected, clean, self.chance, self.tested, len(self.pairs))
        pair = victim or self.victims[0], as_measured(defence, self.defences)
        return math.nan if self.remembers or self._names_alike(*pair) else score

    def theft_gain(
        self,
        victim: str | None = None,
        *,
        ratio: float | None = None,
        defence: Defence | str | None = None,
        case: str = MIX,
    ) -> float:
        """What protected data add for a thief who has the other part clean: mix - clean part alone.

        Zero or less means that they add nothing. ``case=SEQUENTIAL`` for the thief who trains on the clean part first.
        Not a number when both may be luck, or when the victim ``remembers`` the test images.
        """
        choice: dict[str, Any] = {"ratio": ratio, "defence": defence}
        both, alone = (self.accuracy(key, victim, **choice) for key in (case, CLEAN_PART))
        return math.nan if self.remembers or max(both, alone) <= self.guessing else both - alone

    def rows(self) -> list[dict[str, Any]]:
        """A tidy table: one row for each victim that was trained."""
        return [result.row(owner=bool(self.owner), picked=self.picks) for result in self.results]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; the summary holds None where a figure is not a number."""
        given = {name: value for name, value in asdict(self).items() if value or value == 0 or name not in LATER}
        results = [result.as_dict() for result in self.results]
        why = {"cannot_be_measured": self.untold()} if self.untold() else {}
        return {"summary": [line.as_dict() for line in self.table()], **why, **given, "results": results}

    def save(self, file: str | PathLike[str], *, private: bool = False) -> None:
        """Write the report as JSON, or the tidy table of ``rows``, by the file's ending.

        Args:
            file: ``.json`` or without an ending: everything, as ``load`` reads it; ``.csv`` or ``.parquet``: the table.
            private: only its owner may read it.

        Raises:
            RecipeError: another ending.
            OutputError: a folder, or a place where no file can be.
        """
        path = local_path(file)
        require_writable(path.parent)
        if path.is_dir():
            raise OutputError(f"got {str(file)!r}, which is a folder; expected the name of a file in it")
        kind = path.suffix.lower()
        if kind in ("", ".json"):
            atomic_write(path, json.dumps(self.as_dict(), indent=2) + "\n", private=private)
        elif kind == ".csv":
            atomic_write(path, as_csv(self.rows()), private=private)
        elif kind == ".parquet":
            atomic_write(path, as_parquet(self.rows()), private=private)
        else:
            raise RecipeError(f"got the file {str(path)!r}; expected an ending of .json, .csv or .parquet")

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Report:
        """Read the JSON that ``save`` wrote.

        Raises:
            SourceError: there is no such file.
            DataError: a damaged one, or of another kind, such as the one that a Trainer callback writes under its name.
        """
        path = local_path(file)
        if not path.is_file():
            raise SourceError(
                f"got {str(file)!r}, {'which is a folder' if path.is_dir() else 'where there is no file'}; expected "
                f"the learnability.json that hf-unlearnable measure wrote, in the folder report of the run"
            )
        try:
            return cls.of(read_json(path))
        except DataError as error:
            raise DataError(
                f"got {str(file)!r}, which cannot be read ({error}); expected the learnability.json that "
                f"hf-unlearnable measure wrote. Measure again to write it anew: models that are trained are kept"
            ) from error

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Report:
        """The inverse of ``as_dict``; other entries than its own are left alone, and older files lack the later ones.

        Raises:
            DataError: a key that is missing, a value of another kind or out of range, or a case that is not known.
        """
        kinds = kinds_of(cls)
        own = {key: value for key, value in stored.items() if key in kinds}
        optional = ("doubts", *LATER)
        check_keys(own, set(kinds) - set(optional), optional, "a measurement", kinds)
        if not 0 <= own["chance"] <= 1 or own["test_images"] < 1:
            raise DataError(
                f"got a chance of {own['chance']} and {own['test_images']} test images; expected a chance in [0, 1], "
                f"and at least one image"
            )
        if not own["results"]:
            raise DataError("got a measurement without results; expected those of at least one model")
        read = {"results": tuple(map(Result.of, own["results"])), "doubts": tuple(map(str, own.get("doubts", ())))}
        return cls(**own | read)

    def __str__(self) -> str:
        title = self.figure[0].upper() + self.figure[1:]
        lines = [f"{title} in % (chance {100 * self.chance:.1f}), {number_of(len(self.seeds), 'seed')}"]
        if self.owner:
            lines.append(sizes(self.owner))
        tables = {self._title(*pair): self.table(*pair) for pair in self.pairs}
        shown = overview if len(tables) > FEW else blocks
        lines += shown(tables, owner=bool(self.owner))
        if self.picks:
            picking = ", ".join(dict.fromkeys(result.defence for result in self.results if result.picked))
            lines.append(f"  {picking}: the last epoch is the one that was picked by images held out")
        if why := self.untold():
            return "\n".join([*lines, f"  {CANNOT}: {why}"])
        if vain := [victim for victim in self.victims if self.untold(victim)]:
            lines.append(f"  no score for {'; '.join(vain)}: {self.untold(vain[0])}")
        return "\n".join(lines)

    def _title(self, victim: str, defence: str) -> str:
        return victim if self.defences == [NO_DEFENCE] or defence == NO_DEFENCE else f"{victim}, {defence}"
