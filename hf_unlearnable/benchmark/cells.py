"""What a comparison is made of: protected sets and cells, each known by what identifies it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from hf_unlearnable.benchmark.protocol import Data, digest_of_json
from hf_unlearnable.budget import Budget
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, PROTECTED
from hf_unlearnable.evaluation.protocol import trials
from hf_unlearnable.evaluation.thieves import Thief
from hf_unlearnable.evaluation.victims import Trial
from hf_unlearnable.methods import Method
from hf_unlearnable.models.classical import Classical

WITHOUT_METHOD = (CLEAN, CLEAN_PART)  # cases in which no protected image is seen: one cell serves all methods


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A set that another tool protected, which counts as a method.

    Attributes:
        name: what tables call it.
        source: of the released images, as ``load_source`` takes it: a Hub id or a folder. It stays out of every file,
            since it may be a path; ``public`` is told instead.
        split: of it.
        public: its id on the Hub; empty for a folder.
    """

    name: str
    source: str
    split: str = "train"
    public: str = ""

    adaptive: ClassVar[str] = ""
    revision: ClassVar[int] = 1

    def recipe(self) -> dict[str, Any]:
        """What identifies it."""
        return {"released": self.public or self.name, "split": self.split}


def told_apart(name: str, settings: Mapping[str, object], revision: int = 1, *, rounded: bool = False) -> str:
    """What a recipe is called: with all digits, or with the three that tables have room for."""
    shown = {
        setting: f"{value:.3g}" if rounded and isinstance(value, float) else value
        for setting, value in settings.items()
    }
    told = ",".join(f"{setting}={value}" for setting, value in shown.items())
    return f"{name}{':' if told else ''}{told}{f' (revision {revision})' if revision > 1 else ''}"


def not_default(method: type[Method], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that are not the defaults of its method now, but for the seed."""
    defaults = {field.name: field.default for field in fields(method) if field.name != "seed"}
    return {name: value for name, value in recipe.items() if name in defaults and value != defaults[name]}


@dataclass(frozen=True)
class Protected:
    """A protected set: one fit of one method at one budget, or what another tool made.

    Attributes:
        protocol: the version.
        data: what is protected, with its digests.
        method: a recipe with the seed of this fit, or a set of elsewhere.
        budget: of the change.
    """

    protocol: str
    data: Data
    method: Method | Elsewhere
    budget: Budget

    @property
    def name(self) -> str:
        """What documents call the method: its name with the settings that are not its defaults, but for the seed."""
        if isinstance(self.method, Elsewhere):
            return self.method.name
        changed = not_default(type(self.method), self.method.recipe())
        return told_apart(self.method.name, changed, self.method.revision)

    @property
    def adaptive(self) -> str:
        """The best attack on it that its author knows, as ``Defence.parse`` reads it; empty if there is none."""
        return self.method.adaptive

    @property
    def identity(self) -> dict[str, Any]:
        """All that it depends on, ready for JSON; the revision of a method from the second on."""
        revision = {"revision": self.method.revision} if self.method.revision > 1 else {}
        return {
            "protocol": self.protocol,
            "dataset": identity_of(self.data),
            "method": {"name": self.method.name, **revision, **self.method.recipe()},
            "budget": str(self.budget),
        }

    @cached_property
    def digest(self) -> str:
        """Of its identity: its name on disk."""
        return digest_of_json(self.identity)

    def __str__(self) -> str:
        fit = "" if isinstance(self.method, Elsewhere) else f" fit {self.method.seed}"
        return f"{self.data.name}: {self.name} {self.budget}{fit}"


@dataclass(frozen=True)
class Cell:
    """One model that is trained and tested.

    Attributes:
        protocol: the version.
        data: with its digests.
        protected: what it may be trained on; None in cases without protected images.
        trial: by whom, on what, with which seed.
    """

    protocol: str
    data: Data
    protected: Protected | None
    trial: Trial

    @property
    def identity(self) -> dict[str, Any]:
        """All that it depends on, ready for JSON; what is fitted in one go has no training."""
        thief = self.trial.thief
        return {
            "protocol": self.protocol,
            "dataset": identity_of(self.data),
            "method": self.protected and self.protected.identity["method"],
            "budget": self.protected and str(self.protected.budget),
            "victim": str(thief.victim),
            "training": None if isinstance(thief.victim, Classical) else asdict(thief.training),
            "defence": thief.defence.as_dict(),
            "case": self.trial.case,
            "ratio": self.trial.ratio,
            "seed": self.trial.seed,
        }

    @cached_property
    def digest(self) -> str:
        """Of its identity: its name on disk."""
        return digest_of_json(self.identity)

    def __str__(self) -> str:
        what = str(self.protected) if self.protected else self.data.name
        share = f" {self.trial.ratio:g}" if self.trial.case not in (CLEAN, PROTECTED) else ""
        thief = f"{self.trial.thief.name}, {self.trial.thief.defence}"
        return f"{what}: {self.trial.case}{share}: {thief}: seed {self.trial.seed}"


def identity_of(data: Data) -> dict[str, Any]:
    """What of a dataset identifies figures: which pixels and labels, and what victims see of them."""
    told = {"name": data.name, "train": data.digest, "test": data.test_digest, "epochs": data.epochs}
    return told | ({"resolution": data.resolution} if data.resolution else {})


def cells_of(
    protocol: str,
    data: Data,
    sets: Sequence[Protected],
    thieves: Sequence[Thief],
    attacks: Sequence[Thief],
    ratios: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[Cell]:
    """All cells of a dataset, each once: those without protected images first.

    Args:
        protocol: the version.
        data: with its digests.
        sets: made of it.
        thieves: who try all of them. The first one alone meets mixtures.
        attacks: for each set the thief who tries what its author names as the best attack on it, without mixtures; it
            tries clean images too, or its figures would have nothing to be compared with.
        ratios: shares of protected rows.
        seeds: of victims.
    """
    found = [
        (None if trial.case in WITHOUT_METHOD else protected, trial)
        for protected, attack in zip(sets, attacks, strict=True)
        for trial in [
            *trials(thieves, ratios, seeds, mixtures_for_all=False),
            *trials([attack] * (attack not in thieves), [ratio for ratio in ratios if ratio in (0, 1)], seeds),
        ]
    ]
    cells = [Cell(protocol, data, protected, trial) for protected, trial in dict.fromkeys(found)]
    yield from sorted(cells, key=lambda cell: cell.protected is not None)


def next_fit(method: Method, number: int) -> Method:
    """The same recipe with another seed: that of its fit ``number``, from 0 on."""
    return replace(method, seed=method.seed + number)
