"""What is to be compared: a YAML file, read and checked in its own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hf_unlearnable.benchmark.cells import Elsewhere, Protected, next_fit
from hf_unlearnable.benchmark.protocol import (
    DATASETS,
    FITS,
    NONE,
    RATIOS,
    SEEDS,
    THIEVES,
    VERSION,
    Data,
    protocol_digest,
    thief_of,
)
from hf_unlearnable.budget import Budget
from hf_unlearnable.errors import RecipeError, SourceError, UnlearnableError, first_line
from hf_unlearnable.evaluation.thieves import Thief
from hf_unlearnable.files import local_path
from hf_unlearnable.methods import Method

T = TypeVar("T")

MOST = 200  # of a list: thousands of cells come of lists of tens
MERGE = "tag:yaml.org,2002:merge"  # of the key << of YAML 1.1, which brings another mapping's keys
SUITES = ("cpu-quick", "cpu", "gpu")


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared with what.

    Attributes:
        datasets: those of the protocol by name, or own ones under the protocol ``none``.
        methods: recipes.
        elsewhere: sets that other tools protected, each with the dataset and the budget that it is of.
        budgets: of the recipes.
        thieves: names of victim, training and defence; None for those that the protocol sends against each dataset.
        ratios: shares of protected rows.
        fits: of each recipe, whose seeds follow one another.
        seeds: of victims.
        theory: whether the quantities of theory are estimated for each protected set.
        protocol: the version, or ``none``.
    """

    datasets: tuple[Data, ...]
    methods: tuple[Method, ...] = ()
    elsewhere: tuple[tuple[Elsewhere, str, Budget], ...] = ()
    budgets: tuple[Budget, ...] = (Budget(8),)
    thieves: tuple[tuple[str, str, str], ...] | None = None
    ratios: tuple[float, ...] = RATIOS
    fits: int = 1
    seeds: tuple[int, ...] = SEEDS
    theory: bool = True
    protocol: str = VERSION

    @classmethod
    def read(cls, file: str | Path) -> Config:
        """Read a file; or a suite of this package by its name, ``cpu-quick``, ``cpu`` or ``gpu``.

        Raises:
            SourceError: no such file.
            RecipeError: not what a comparison can be made of; with the path of the key.
        """
        return cls.parse(text_of(file), str(file))

    @classmethod
    def parse(cls, text: str, name: str = "the configuration") -> Config:
        """Read what stands in a file.

        Args:
            text: YAML.
            name: of the file, for messages.

        Raises:
            RecipeError: not what a comparison can be made of; with the path of the key.
        """
        try:
            given = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RecipeError(f"got {name}, which is not YAML: {' '.join(str(error).split())}") from error
        return _Reader(name).config(given)

    def _entries(self, data: Data) -> tuple[tuple[str, str, str], ...]:
        """Who trains on a dataset, the ordinary thief first: in the protocol's order where there is one."""
        if self.thieves is None or self.protocol != NONE:
            return tuple(entry for entry in THIEVES[data.thieves] if self.thieves is None or entry in self.thieves)
        return self.thieves

    def thieves_of(self, data: Data) -> list[Thief]:
        """Who trains on a dataset."""
        return list(dict.fromkeys(thief_of(*entry, data.training) for entry in self._entries(data)))

    def attack_on(self, protected: Protected) -> Thief:
        """Who tries what the author of a method names as the best attack on it; the ordinary thief if nothing is.

        Raises:
            RecipeError: what is named is no defence.
        """
        victim, training, defence = self._entries(protected.data)[0]
        try:
            return thief_of(victim, training, protected.adaptive or defence, protected.data.training)
        except UnlearnableError as error:
            raise RecipeError(
                f"methods: {protected.name} names {protected.adaptive!r} as the best attack on itself, its adaptive: "
                f"{error}"
            ) from error

    def sets_of(self, data: Data) -> list[Protected]:
        """All protected sets of a dataset whose digests are known."""
        made = [
            Protected(self.protocol, data, next_fit(method, number), budget)
            for method in self.methods
            for budget in self.budgets
            for number in range(self.fits)
        ]
        given = [
            Protected(self.protocol, data, other, budget)
            for other, dataset, budget in self.elsewhere
            if dataset == data.name
        ]
        return [*made, *given]


def text_of(file: str | Path) -> str:
    """What stands in a file, or in a suite of this package.

    Raises:
        SourceError: there is no such file.
    """
    if str(file) in SUITES:
        return (files("hf_unlearnable.benchmark") / "suites" / f"{file}.yaml").read_text(encoding="utf-8")
    try:
        return local_path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"got the configuration {str(file)!r}, which cannot be read ({first_line(error)}); expected a YAML file, "
            f"or one of the suites {', '.join(SUITES)}"
        ) from error


class _Reader:
    """Checks values one by one, and knows the path of the key that it is at."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, path: str, got: Any, expected: str) -> RecipeError:
        shown = repr(got)
        return RecipeError(f"{self.name}: {path}: got {shown[:80]}{'…' * (len(shown) > 80)}; expected {expected}")

    def config(self, given: Any) -> Config:
        known = [field.name for field in fields(Config) if field.name != "elsewhere"]
        self.keys(given, "the file", known)
        if "datasets" not in given or "methods" not in given:
            raise self.fail("the file", sorted(given), "the keys datasets and methods")
        protocol = str(given.get("protocol", VERSION))
        self.named("protocol", protocol, protocol_digest)
        datasets = [
            self.data(f"datasets[{number}]", one, protocol)
            for number, one in enumerate(self.listed("datasets", given["datasets"]))
        ]
        names = [data.name for data in datasets]
        if len(set(names)) < len(names):
            raise self.fail("datasets", names, "names that differ")
        methods: list[Method] = []
        elsewhere: list[tuple[Elsewhere, str, Budget]] = []
        for number, one in enumerate(self.listed("methods", given["methods"])):
            path = f"methods[{number}]"
            if isinstance(one, dict):
                elsewhere.append(self.elsewhere(path, one, names))
            else:
                methods.append(self.named(path, one, Method.parse, str))
        fits = self.count("fits", given.get("fits", 1), len(FITS) if protocol != NONE else MOST)
        made = [next_fit(method, number) for method in methods for number in range(fits)]
        if len(set(made)) < len(made):
            raise self.fail("methods", given["methods"], "recipes that differ, each with the seeds of all of its fits")
        told = [other.name for other, *_ in elsewhere]
        if both := {name for name in told if told.count(name) > 1 or name in [method.name for method in methods]}:
            raise self.fail("methods", sorted(both)[0], "a name for every set that no other method has")
        budgets = [
            self.named(f"budgets[{number}]", one, Budget.parse)
            for number, one in enumerate(self.listed("budgets", given.get("budgets", ["8/255"])))
        ]
        if len(set(map(str, budgets))) < len(budgets):
            raise self.fail("budgets", given["budgets"], "budgets that differ")
        return Config(
            datasets=tuple(datasets),
            methods=tuple(methods),
            elsewhere=tuple(elsewhere),
            budgets=tuple(budgets),
            thieves=self.thieves(given.get("thieves", "all"), datasets, protocol),
            ratios=self.ratios(given.get("ratios", list(RATIOS)), protocol),
            fits=fits,
            seeds=self.seeds(given.get("seeds", len(SEEDS)), protocol),
            theory=self.switch("theory", given.get("theory", True)),
            protocol=protocol,
        )

    def keys(self, given: Any, path: str, known: Sequence[str]) -> None:
        if not isinstance(given, dict):
            raise self.fail(path, given, f"the keys {', '.join(known)}")
        if unknown := [key for key in given if key not in known]:
            where = str(unknown[0]) if path == "the file" else f"{path}.{unknown[0]}"
            raise RecipeError(f"{self.name}: {where}: got a key that nobody reads; expected one of {', '.join(known)}")

    def listed(self, path: str, given: Any) -> list[Any]:
        if not isinstance(given, list) or not 0 < len(given) <= MOST:
            raise self.fail(path, given, f"a list of 1 to {MOST} entries")
        return given

    def count(self, path: str, given: Any, most: int) -> int:
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= most:
            raise self.fail(path, given, f"a whole number from 1 to {most}")
        return given

    def switch(self, path: str, given: Any) -> bool:
        if not isinstance(given, bool):
            raise self.fail(path, given, "true or false")
        return given

    def named(
        self, path: str, given: Any, parse: Callable[[Any], T], kinds: type | tuple[type, ...] = (str, int, float)
    ) -> T:
        """What stands for something by its name, in the words of the error that reading it raises."""
        if not isinstance(given, kinds) or isinstance(given, bool):
            raise self.fail(path, given, "a name" if kinds is str else "a name or a number")
        try:
            return parse(given)
        except UnlearnableError as error:
            raise RecipeError(f"{self.name}: {path}: {error}") from error

    def text(self, path: str, given: Mapping[str, Any], key: str, default: str | None = None) -> str:
        value = given.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.fail(f"{path}.{key}", value, "text")
        return value

    def data(self, path: str, given: Any, protocol: str) -> Data:
        if isinstance(given, str):
            if given not in DATASETS:
                raise self.fail(path, given, f"one of {', '.join(DATASETS)}")
            return DATASETS[given]
        if protocol != NONE:
            raise self.fail(
                path,
                given,
                f"one of {', '.join(DATASETS)}; for data of your own, which no protocol has, add the line "
                f"protocol: {NONE}",
            )
        known = [field.name for field in fields(Data) if field.name not in ("thieves", "digest", "test_digest")]
        self.keys(given, path, known)
        numbers = {"rows": 10**9, "test_rows": 10**9, "epochs": 10**5, "resolution": 4096}
        read: dict[str, Any] = {name: self.text(path, given, name) for name in ("name", "source")}
        read |= {name: self.text(path, given, name) for name in given if name in known and name not in numbers}
        read |= {
            name: self.count(f"{path}.{name}", given[name], most) for name, most in numbers.items() if name in given
        }
        return Data(**read)

    def elsewhere(self, path: str, given: dict[str, Any], datasets: list[str]) -> tuple[Elsewhere, str, Budget]:
        self.keys(given, path, ["name", "released", "split", "dataset", "budget"])
        source, dataset = self.text(path, given, "released"), self.text(path, given, "dataset")
        if dataset not in datasets:
            raise self.fail(f"{path}.dataset", dataset, f"one of the datasets above: {', '.join(datasets)}")
        split = self.text(path, given, "split", "train")
        public = "" if local_path(source).exists() else source
        other = Elsewhere(name=self.text(path, given, "name"), source=source, split=split, public=public)
        return other, dataset, self.named(f"{path}.budget", given.get("budget", "8/255"), Budget.parse)

    def thieves(self, given: Any, datasets: list[Data], protocol: str) -> tuple[tuple[str, str, str], ...] | None:
        if given == "all":
            if lacking := [data.name for data in datasets if not data.thieves]:
                raise self.fail(
                    "thieves", given, f"a list of thieves, since no protocol sends any against {lacking[0]}"
                )
            return None
        chosen = []
        for number, one in enumerate(self.listed("thieves", given)):
            path = f"thieves[{number}]"
            parts = _parts(one) if isinstance(one, str) else []
            if len(parts) != 3:
                raise self.fail(path, one, "victim; training; defence, such as 'small-resnet; sgd; jpeg:10'")
            entry = (parts[0], parts[1], parts[2])
            self.named(path, one, partial(_thief, datasets[0]))
            lists = {data.name: THIEVES[data.thieves] for data in datasets if data.thieves}
            if protocol != NONE and (lacking := [name for name, known in lists.items() if entry not in known]):
                raise self.fail(
                    path, one, f"a thief that the protocol sends against {lacking[0]}; see docs/protocol.md"
                )
            chosen.append(entry)
        for data in datasets if protocol != NONE else ():
            if (ordinary := THIEVES[data.thieves][0]) not in chosen:
                raise self.fail(
                    "thieves",
                    given,
                    f"{'; '.join(ordinary)!r} among them, the ordinary thief, who alone meets mixtures",
                )
        return tuple(dict.fromkeys(chosen))

    def ratios(self, given: Any, protocol: str) -> tuple[float, ...]:
        shares = []
        for number, one in enumerate(self.listed("ratios", given)):
            numeric = isinstance(one, (int, float)) and not isinstance(one, bool)
            if not numeric or not 0 <= one <= 1 or (protocol != NONE and one not in RATIOS):
                expected = "a share in [0, 1]" if protocol == NONE else f"one of {', '.join(map(str, RATIOS))}"
                raise self.fail(f"ratios[{number}]", one, expected)
            shares.append(float(one))
        if not {0.0, 1.0} <= set(shares):
            raise self.fail("ratios", given, "0 and 1 among them, without which no share can be told")
        return tuple(dict.fromkeys(shares))

    def seeds(self, given: Any, protocol: str) -> tuple[int, ...]:
        """How many victims of each kind; they are those of the protocol, and go on from there."""
        count = self.count("seeds", given, len(SEEDS) if protocol != NONE else MOST)
        return tuple(range(SEEDS[0], SEEDS[0] + count))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


def _thief(data: Data, text: str) -> Thief:
    """Of three parts, against a dataset."""
    victim, training, defence = _parts(text)
    return thief_of(victim, training, defence, data.training)
