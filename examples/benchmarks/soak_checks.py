"""What must hold after every fault of ``soak.py``: nothing lost, nothing half visible, no traceback, the same bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import Dataset
from kill_and_resume import pixels

if TYPE_CHECKING:
    from helpers.loopback_hub import LoopbackHub

STAGES = ("protect", "measure", "push", "pull", "map")
COMMITS = ["initial commit", "Upload protected images (default, train)", "Describe the protection"]
PARQUET = "data/train-00000-of-00001.parquet"
OF_THE_ROUND = ("state.json", "command.yaml", "files.json")  # hold the path of the output, or a digest of what does


@dataclass(frozen=True)
class Places:
    """Where a round works.

    Attributes:
        folder: with the images, which no command may change.
        root: of the round.
        repo: on the Hub.
    """

    folder: Path
    root: Path
    repo: str

    @property
    def data(self) -> Path:
        """What is protected."""
        return self.folder / "data"

    @property
    def test(self) -> Path:
        """What models are tested on."""
        return self.folder / "test"

    @property
    def temporary(self) -> Path:
        """For temporary files of the commands."""
        return self.root / "tmp"

    @property
    def out(self) -> Path:
        """What ``protect`` writes and ``measure`` adds to."""
        return self.root / "out"

    @property
    def protection(self) -> Path:
        """The private part."""
        return self.out / "private" / "protection"

    @property
    def measured(self) -> Path:
        """What ``measure`` writes."""
        return self.out / "report" / "learnability.json"

    @property
    def pulled(self) -> Path:
        """What ``pull`` writes."""
        return self.root / "pulled"

    @property
    def mapped(self) -> Path:
        """What ``dataset.map`` writes."""
        return self.root / "mapped.arrow"


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        code: its exit status.
        said: what it printed, both streams.
        seconds: that it took.
        killed: whether it was killed.
        hung: whether that was because it did not come to an end.
        struck: whether it met the fault.
    """

    code: int
    said: str
    seconds: float
    killed: bool = False
    hung: bool = False
    struck: bool = True


@dataclass(frozen=True)
class Expected:
    """Digests of what an undisturbed round leaves."""

    originals: str
    protected: str
    measured: str
    parquet: str
    pulled: str
    mapped: str


def tree(folder: Path, *parts: str) -> str:
    """A digest of the names and bytes of all files below the parts of a folder."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        for file in sorted(path for path in (folder / part).rglob("*") if path.is_file()):
            content = b"" if file.name in OF_THE_ROUND else file.read_bytes()
            hashed.update(f"{file.relative_to(folder)} {len(content)} ".encode() + content)
    return hashed.hexdigest()


def file_digest(content: bytes) -> str:
    """Of bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def rows_digest(file: Path) -> str:
    """Of all rows of one Arrow file."""
    table = Dataset.from_file(str(file)).with_format("arrow")
    return file_digest(repr([row.to_pydict() for row in table]).encode())


def protected_digest(places: Places) -> str:
    """Of the images and of all that is private."""
    return tree(places.out, "dataset", "private")


def read_expected(places: Places, hub: LoopbackHub) -> Expected:
    """The digests after an undisturbed round."""
    return Expected(
        originals=tree(places.folder, "data", "test"),
        protected=protected_digest(places),
        measured=file_digest(places.measured.read_bytes()),
        parquet=file_digest(hub.dataset(places.repo).head.files[PARQUET]),
        pulled=pixels(places.pulled),
        mapped=rows_digest(places.mapped),
    )


def is_finished(stage: str, places: Places, hub: LoopbackHub) -> bool:
    """Whether what a stage makes is there under its own name, so that there is nothing to go on with."""
    if stage == "push":
        return commits(places, hub)[-1:] == COMMITS[-1:]
    files = {"protect": places.out, "measure": places.measured, "pull": places.pulled, "map": places.mapped}
    return files[stage].exists()


def commits(places: Places, hub: LoopbackHub) -> list[str]:
    """Messages of the commits of the round's repository."""
    repo = hub.repos.get(("datasets", places.repo))
    return [] if repo is None else [commit.message for commit in repo.commits.values()]


def faults_of(
    stage: str, places: Places, expected: Expected, hub: LoopbackHub, ending: Ending, *, undisturbed: bool = False
) -> list[str]:
    """What does not hold, in words; empty where all does.

    Args:
        stage: that was run.
        places: of the round.
        expected: of an undisturbed round.
        hub: with the round's repository.
        ending: of the run.
        undisturbed: whether it met no fault, and so must have come to its end.
    """
    found = [*_said(stage, ending), *_seen(stage, places, expected, hub)]
    finished = is_finished(stage, places, hub)
    if ending.code == 0 and not finished:
        found.append("ended with 0 and did not finish")
    if undisturbed:
        found += [f"did not go on: ended with {ending.code}"] if ending.code else []
        left = sorted(path.name for path in places.root.iterdir() if path.name.startswith("."))
        found += [f"left {', '.join(left)} behind"] if left else []
    if hub.unknown:
        found.append(f"asked the Hub for {hub.unknown[0]}, which the loopback Hub does not know")
    return found


def _said(stage: str, ending: Ending) -> list[str]:
    """What is wrong with the end of a run."""
    if ending.hung:
        return ["did not come to an end"]
    if ending.killed:
        return []
    found = [f"was ended by signal {-ending.code}"] if ending.code < 0 else []
    if "Traceback" in ending.said:
        # A script of one's own ends with the error itself, which must be the system's.
        errors = re.findall(r"^(\S*Error)\b", ending.said, re.MULTILINE)
        if stage != "map" or not errors or errors[-1] != "OSError":
            found.append(f"a traceback: {errors[-1] if errors else 'of another kind'}")
    elif ending.code > 0 and not re.search(r"^Error: .{20}", ending.said, re.MULTILINE):
        found.append("failed without saying why")
    return found


def _seen(stage: str, places: Places, expected: Expected, hub: LoopbackHub) -> list[str]:
    """What is lost, changed or half visible, of this stage and those before it."""
    looks: dict[str, Callable[[], list[str]]] = {
        "protect": lambda: _whole("OUT", places.out, lambda _: protected_digest(places), expected.protected),
        "measure": lambda: [
            *_whole(
                "learnability.json", places.measured, lambda file: file_digest(file.read_bytes()), expected.measured
            ),
            *_victims(places),
        ],
        "push": lambda: _repository(places, expected, hub),
        "pull": lambda: _whole("what was pulled", places.pulled, pixels, expected.pulled),
        "map": lambda: _whole("what map wrote", places.mapped, rows_digest, expected.mapped),
    }
    found = [] if tree(places.folder, "data", "test") == expected.originals else ["the originals have changed"]
    found += _readable(places)
    for number, name in enumerate(STAGES[: STAGES.index(stage) + 1]):
        if number < STAGES.index(stage) and not is_finished(name, places, hub):
            found.append(f"what {name} made is gone")
        found += looks[name]()
    return found


def _readable(places: Places) -> list[str]:
    """Private files that others may read."""
    files = [file for part in ("private", "report") for file in (places.out / part).rglob("*")]
    return [f"{file.name} may be read by others" for file in files if file.stat().st_mode & 0o077]


def _whole(what: str, path: Path, read: Callable[[Path], str], expected: str) -> list[str]:
    """Nothing, or all of it."""
    if not path.exists():
        return []
    try:
        return [] if read(path) == expected else [f"{what} has other bytes"]
    except Exception as error:
        return [f"{what} is half there: {type(error).__name__}"]


def _victims(places: Places) -> list[str]:
    """Every victim that is kept can be read."""
    found = []
    for file in (places.out / "report" / "victims").glob("*.json"):
        try:
            json.loads(file.read_text())
        except ValueError:
            found.append(f"the victim {file.name} is half there")
    return found


def _repository(places: Places, expected: Expected, hub: LoopbackHub) -> list[str]:
    """No commit, or the data, or the data and its card; private, and the same bytes."""
    repo = hub.repos.get(("datasets", places.repo))
    if repo is None:
        return []
    made = commits(places, hub)
    found = [] if repo.private else ["the repository is public"]
    if made != COMMITS[: len(made)]:
        found.append(f"the repository has the commits {made}")
    data = repo.head.files.get(PARQUET)
    if (data is None) != (len(made) < 2) or (data is not None and file_digest(data) != expected.parquet):
        found.append("the repository has other data")
    return found
