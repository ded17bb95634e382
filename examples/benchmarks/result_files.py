"""The files below ``results/``: figures, and the fields that say of which experiment they are.

Every file is ``{"experiment": {...}, "figures": {...}}`` in the folder of the script that wrote it. Nothing is read
from a file's name, which is made of the fields.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_unlearnable.budget import Budget
from hf_unlearnable.errors import DataError
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.files import atomic_write

HERE = Path(__file__).parent
STRENGTH = {"fit_seconds", "protection", "report"}
FIGURES: dict[str, set[str]] = {  # what stands in a file of each script
    "auto_choice": {"choice", "processor_seconds"},
    "bayes_error_speed": {"cases", "sampling", "versions"},
    "countermeasures": {"report"},
    "crafted_after_fit": {"milliseconds_an_image", "verification_of_crafted", "reports"},
    "feature_information": {"training", "rows", "versions"},
    "fit_speed": {"fits", "losses", "profile", "versions"},
    "full_size": STRENGTH,
    "gpu": {"fits", "kernel", "versions"},
    "image_kinds": {"stages", "PNG_MiB", "verification", "store_bytes_a_row", "versions"},
    "kill_and_resume": {"scenarios"},
    "later_compression": {"left", "report"},
    "large_photographs": {"report"},
    "larger_images": {"fit_seconds", "verification", "report"},
    "map_speed": {"costs", "versions"},
    "measure_speed": {"costs", "versions"},
    "mixture_ideas": STRENGTH,
    "mixture_limit": {"victims"},
    "other_networks": {"cells", "versions"},
    "owner": {"report"},
    "private_patterns": {"correlations"},
    "processes": {"runs"},
    "protection_strength": STRENGTH,
    "run_speed": {"commands", "versions"},
    "scale": {"stages"},
    "soak": {"minutes", "rounds", "full_disks", "undisturbed_seconds", "counts", "problems", "versions"},
    "speed_trials": {"trials", "compiling", "versions"},
    "start_up": {"costs", "packages", "versions"},
    "surviving_ideas": {"fit_seconds", "reports"},
}
SHORT = {
    "fashion-mnist": "fm",
    "photo-patches": "pp",
    "photo-patches-2": "pp2",
    "photo-patches-3": "pp3",
    "photo-patches-4": "pp4",
    "photo-patches-5": "pp5",
    "photo-patches-6": "pp6",
    "photo-patches-20": "pp20",
    "photo-patches-100": "pp100",
}


def results_folder() -> Path:
    """Where results lie; ``BENCHMARK_RESULTS`` names another folder."""
    return Path(os.environ.get("BENCHMARK_RESULTS", HERE / "results"))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What was measured. None where it does not apply, or where a file of an early version does not tell.

    Attributes:
        script: the benchmark, without ``.py``.
        dataset: the name of the images.
        images: how many of them, for training.
        method: the package's name of the method.
        recipe: the benchmark's name of its settings.
        budget: as ``str(Budget)`` has it.
        ratios: shares of protected images that victims were trained with.
        epochs: of the victims.
        victims: their networks.
        seeds: of the victims.
        fit: the number of the fit among those of the same recipe, data and budget. Another seed or another processor,
            which rounds differently, makes another protection of about the same strength.
        settings: what only this script has.
        machine: the processor, as far as it is known.
        command: what was typed.
    """

    script: str
    dataset: str | None = None
    images: int | None = None
    method: str | None = None
    recipe: str | None = None
    budget: str | None = None
    ratios: tuple[float, ...] | None = None
    epochs: int | None = None
    victims: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    fit: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    machine: str | None = None
    command: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Experiment:
        """Read what ``as_dict`` wrote.

        Raises:
            DataError: a field that is missing, unknown or of another type.
        """
        _require_keys(stored, {one.name for one in fields(cls)}, "experiment")
        kinds: dict[str, type | tuple[type, ...]] = {"images": int, "epochs": int, "fit": int, "settings": dict}
        kinds |= dict.fromkeys(("ratios", "victims", "seeds"), list)
        for name, value in stored.items():
            kind = kinds.get(name, str)
            if value is None and name not in ("script", "settings"):
                continue
            if not isinstance(value, kind) or isinstance(value, bool):
                raise DataError(f"got the field {name} of {value!r}; expected {kind}")
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def file_name(self) -> str:
        """Of its result: what a reader looks for first, and a digest of all but the machine and the command."""
        told = {name: value for name, value in self.as_dict().items() if name not in ("machine", "command")}
        digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=3).hexdigest()
        budget = self.budget.removeprefix("linf:").replace(":", "-") if self.budget else None
        words = [SHORT.get(self.dataset or "", self.dataset), self.recipe, budget, digest]
        return "-".join(word for word in words if word) + ".json"


@dataclass(frozen=True)
class ResultFile:
    """One file.

    Attributes:
        experiment: what was measured.
        figures: what came out, as ``FIGURES`` has it for every script.
    """

    experiment: Experiment
    figures: dict[str, Any]

    @classmethod
    def of(cls, stored: Any) -> ResultFile:
        """Read the content of a file.

        Raises:
            DataError: it is not what ``write`` writes.
        """
        if not isinstance(stored, dict):
            raise DataError(f"got a {type(stored).__name__}; expected an object with experiment and figures")
        _require_keys(stored, {"experiment", "figures"}, "result file")
        experiment = Experiment.of(stored["experiment"])
        if experiment.script not in FIGURES:
            raise DataError(f"got the script {experiment.script!r}; expected one of {', '.join(sorted(FIGURES))}")
        _require_keys(stored["figures"], FIGURES[experiment.script], "figures")
        return cls(experiment, stored["figures"])

    @classmethod
    def read(cls, file: Path) -> ResultFile:
        """Read a file.

        Raises:
            DataError: it is not what ``write`` writes.
        """
        try:
            return cls.of(json.loads(file.read_text()))
        except (DataError, json.JSONDecodeError) as error:
            raise DataError(f"{file.parent.name}/{file.name}: {error}") from error

    def write(self) -> Path:
        """Write it to its place, and tell that."""
        _require_keys(self.figures, FIGURES[self.experiment.script], "figures")
        file = place(self.experiment)
        content = {"experiment": self.experiment.as_dict(), "figures": self.figures}
        atomic_write(file, json.dumps(content, indent=2) + "\n")
        return file

    @property
    def report(self) -> Report:
        """What ``learnability`` found."""
        return Report.of(self.figures["report"])


def place(experiment: Experiment) -> Path:
    """The file of an experiment, whether it is there or not."""
    return results_folder() / experiment.script / experiment.file_name


def read_results(script: str) -> list[ResultFile]:
    """All results of a script, in the order of what is read first in a table."""

    def order(one: ResultFile) -> tuple[Any, ...]:
        about = one.experiment
        radius = Budget.parse(about.budget).radius if about.budget else 0
        which = (about.dataset or "", about.images or 0, radius, about.budget or "", about.recipe or "")
        return (*which, -(about.epochs or 0), about.fit or 0, len(about.seeds or ()))

    found = [ResultFile.read(file) for file in sorted((results_folder() / script).glob("*.json"))]
    return sorted(found, key=order)


def _require_keys(stored: Mapping[str, Any], expected: set[str], what: str) -> None:
    missing, unknown = sorted(expected - set(stored)), sorted(set(stored) - expected)
    if missing or unknown:
        wrong = [f"no {', '.join(missing)}"] * bool(missing) + [f"an unknown {', '.join(unknown)}"] * bool(unknown)
        raise DataError(f"got {' and '.join(wrong)} in its {what}; expected {', '.join(sorted(expected))}")
