"""Break commands at random over one folder, and look after every fault whether anything was lost or half visible.

    python examples/benchmarks/soak.py --minutes 60 --seed 0     # anybody; as root full disks are tried too
    python examples/benchmarks/soak.py --table                   # only print what is there

A round is ``protect``, ``measure``, ``push``, ``pull`` and ``dataset.map(protect)`` on one folder and one repository of
a Hub on 127.0.0.1. Every command meets up to three faults before it may run undisturbed: SIGKILL to it and its
children, a limit to the size of files, a full disk, or a Hub that refuses, cuts or does not answer one of the requests
that it was seen to make. What is looked at after every fault is in ``soak_checks.py``. The seed draws the faults; the
moments of kills depend on the machine too.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import ROOT, TINY, load, options, parse, run_or_show
from result_files import Experiment, ResultFile
from soak_checks import STAGES, Ending, Expected, Places, faults_of, is_finished, read_expected
from tables import markdown

from hf_unlearnable.version import versions

sys.path.append(str(ROOT / "tests"))
from helpers.loopback_hub import USER, WRITE_TOKEN, LoopbackHub

SCRIPT = Path(__file__).stem
MAP = """
import sys
from datasets import load_from_disk
from hf_unlearnable import Protection
data, folder, cache = sys.argv[1:]
load_from_disk(data).map(Protection.from_pretrained(folder), cache_file_name=cache)
"""
KILL, FILE_LIMIT, FULL_DISK, HUB = "kill", "file limit", "full disk", "Hub"
# What the Hub does instead of its work: a status, a connection cut before or after it, no answer, another bit in it.
ANSWERS = (400, 403, 409, 412, 416, 429, 500, 503, "before", "after", "hang", "flip")
TRIES = ("--attempts", "2", "--patience", "30")
ONCE = ("protect", "pull")
LONGEST = 600.0  # seconds after which a command is said to hang
DISK = 512  # MiB of the disk that is filled


@dataclass
class Fault:
    """One disturbance.

    Attributes:
        kind: one of the four above.
        amount: seconds until the kill; bytes a file may have; bytes that are free; requests that are hit.
        request: method and pattern of the requests that are hit.
        answer: what they get.
        skipped: requests of the kind that pass first.
    """

    kind: str
    amount: float
    request: tuple[str, str] = ("", "")
    answer: int | str = ""
    skipped: int = 0

    def __str__(self) -> str:
        told = {
            KILL: f"after {self.amount:.1f} s",
            FILE_LIMIT: f"{self.amount:.0f} bytes",
            FULL_DISK: f"{self.amount:.0f} bytes free",
            HUB: f"{self.answer} x{self.amount:.0f} on {' '.join(self.request)}",
        }
        return f"{self.kind} ({told[self.kind]})"


@dataclass
class Soak:
    """The folder, the Hub, what an undisturbed round showed, and what was found.

    Attributes:
        folder: where everything is written, temporary files and caches too.
        disk: whether it is a disk of its own, which may be filled.
        seed: of the faults.
        hub: that the commands talk to.
        small: the shortest fit and measurement.
    """

    folder: Path
    disk: bool
    seed: int
    hub: LoopbackHub
    small: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_needed: dict[str, int] = field(default_factory=dict)
    requests: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    hit: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def places(self, number: int) -> Places:
        """Where round ``number`` writes."""
        return Places(self.folder, self.folder / f"round-{number}", f"{USER}/round-{self.seed}-{number}")

    def words(self, stage: str, places: Places) -> list[str]:
        """The command of a stage."""
        ours, out = [sys.executable, "-m", "hf_unlearnable"], str(places.out)
        epochs = "1" if self.small else "3"
        if stage == "protect":
            fit = ["--method", "em", "--epochs", epochs, "--checkpoint-every", "0.5"]
            return [*ours, "protect", str(places.data), "--output", out, *fit]
        if stage == "measure":
            thieves = ["--victim", "small-resnet", "--victim", "linear", "--ratios", "0,1", "--seeds", "1"]
            return [*ours, "measure", out, "--test", str(places.test), *thieves, "--epochs", epochs]
        if stage == "push":
            return [*ours, "push", out, places.repo, *TRIES]
        if stage == "pull":
            return [*ours, "pull", places.repo, "--output", str(places.pulled), *TRIES]
        return [sys.executable, "-c", MAP, str(places.data), str(places.protection), str(places.mapped)]

    def run(self, stage: str, places: Places, fault: Fault | None = None) -> Ending:
        """Run a stage once, with or without a fault."""
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.hub.url,
            "HF_TOKEN": WRITE_TOKEN,
            "HF_HOME": str(places.root / "hf-home"),
            "TMPDIR": str(places.temporary),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONDONTWRITEBYTECODE": "1",  # Python does not notice that a module's bytecode did not fit
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        environment.pop("HF_HUB_OFFLINE", None)
        places.temporary.mkdir(parents=True, exist_ok=True)
        self.hub.forget()
        if fault and fault.kind == HUB:
            method, pattern = fault.request
            self.hub.fail(method, pattern, fault.answer, times=int(fault.amount), after=fault.skipped)
        limit = int(fault.amount) if fault and fault.kind == FILE_LIMIT else None
        with self.full_disk(int(fault.amount) if fault and fault.kind == FULL_DISK else None):
            started = time.monotonic()
            process = subprocess.Popen(
                self.words(stage, places),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if limit is None else lambda: limit_files(limit),
            )
            killed = hung = False
            try:
                said, _ = process.communicate(timeout=fault.amount if fault and fault.kind == KILL else LONGEST)
            except subprocess.TimeoutExpired:
                killed, hung = True, not (fault and fault.kind == KILL)
                os.killpg(process.pid, signal.SIGKILL)
                said, _ = process.communicate()
        struck = killed or any(one.hits > one.after for one in self.hub.faults) or process.returncode != 0
        seconds = time.monotonic() - started
        return Ending(process.returncode, said.decode(errors="replace"), seconds, killed, hung, struck)

    @contextmanager
    def full_disk(self, free: int | None) -> Iterator[None]:
        """Leave so many bytes of the disk."""
        ballast = self.folder / "ballast"
        if free is not None:
            room = shutil.disk_usage(self.folder).free - free
            with ballast.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, max(1, room))
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def prepare(self, name: str, images: int) -> Expected:
        """Put the images there, and run every stage undisturbed."""
        places = self.places(0)
        data, test = load(name, images)
        data.save_to_disk(places.data)
        test.select(range(min(images, len(test)))).save_to_disk(places.test)
        for stage in STAGES:
            before = used(self.folder)
            ending = self.run(stage, places)
            if ending.code:
                raise RuntimeError(f"{stage} ended with {ending.code}: {ending.said[-2000:]}")
            self.seconds[stage] = ending.seconds
            self.bytes_needed[stage] = max(1, used(self.folder) - before)
            self.requests[stage] = [(one.method, as_pattern(one.target)) for one in self.hub.received]
        expected = read_expected(places, self.hub)
        shutil.rmtree(places.root)
        return expected

    def draw(self, stage: str) -> Fault:
        """A fault of a kind that this stage can meet."""
        rng = self.rng
        kinds = [KILL, FILE_LIMIT, *([FULL_DISK] if self.disk else []), *([HUB] * 2 if self.requests[stage] else [])]
        kind = rng.choice(kinds)
        if kind == KILL:  # the first part of every command is the loading of Python's modules
            return Fault(kind, self.seconds[stage] * rng.uniform(0.3, 1))
        if kind == HUB:
            request = rng.choice(self.requests[stage])
            skipped = rng.randrange(self.requests[stage].count(request))
            return Fault(kind, rng.choice((1, 2, 1000)), request, rng.choice(ANSWERS), skipped)
        most = self.bytes_needed[stage]
        return Fault(kind, int(most ** rng.uniform(0.3, 1)) if kind == FILE_LIMIT else int(most * rng.uniform(0, 1)))

    def round(self, number: int, expected: Expected, until: float) -> bool:
        """Every stage with its faults; whether there was time for all."""
        places = self.places(number)
        places.root.mkdir()
        for stage in STAGES:
            for fault in [*(self.draw(stage) for _ in range(self.rng.randrange(4))), None]:
                if time.monotonic() > until:
                    return False
                ending = self.run(stage, places, fault)
                problems = faults_of(stage, places, expected, self.hub, ending, undisturbed=fault is None)
                self.note(number, stage, fault, ending, problems)
                # One that was killed on its way out has made everything; protect and pull then refuse to do it again.
                if ending.code == 0 or (stage in ONCE and is_finished(stage, places, self.hub)):
                    break
            if ending.code != 0 and not is_finished(stage, places, self.hub):
                break  # the next stages have nothing to work on
        shutil.rmtree(places.root)
        return True

    def note(self, number: int, stage: str, fault: Fault | None, ending: Ending, problems: list[str]) -> None:
        """Count one run, and tell it."""
        key = (stage, fault.kind if fault else "")
        self.tried[key] += 1
        self.hit[key] += ending.struck
        self.held[key] += not problems
        if problems:
            said = ending.said.replace(str(self.folder), "FOLDER").strip().splitlines()[-12:]
            where = {"round": number, "stage": stage, "fault": str(fault) if fault else "none"}
            self.problems.append({**where, "problems": problems, "said": said})
        print(
            f"{number} {stage}: {fault or 'undisturbed'}, ended with {ending.code} after {ending.seconds:.1f} s: "
            f"{'; '.join(problems) or 'held'} | {(ending.said.strip().splitlines() or [''])[-1][:160]}",
            flush=True,
        )


def limit_files(size: int) -> None:
    """No file of this process may grow beyond ``size`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def used(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def as_pattern(target: str) -> str:
    """A request as a pattern that meets the same request of another round."""
    digits = re.sub(r"[0-9a-f]{40,64}", "DIGEST", re.sub(rf"{USER}/round-[0-9-]+", "NAME", target))
    return re.escape(digits).replace("DIGEST", "[0-9a-f]+").replace("NAME", f"{USER}/round-[0-9-]+") + "$"


@contextmanager
def workplace() -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it is a disk of its own, which takes root."""
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", temporary]
        disk = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        try:
            yield Path(temporary), disk
        finally:
            if disk:
                subprocess.run(["umount", temporary], check=True)


def soak(experiment: Experiment, minutes: float, seed: int, *, most: int | None = None) -> ResultFile:
    """Go on for so many minutes, or ``most`` rounds, and write the result."""
    with workplace() as (folder, disk):
        work = Soak(folder, disk, seed, LoopbackHub().start(), small=experiment.dataset == TINY)
        expected = work.prepare(experiment.dataset or "", experiment.images or 0)
        started, rounds = time.monotonic(), 0
        until = started + 60 * minutes
        while time.monotonic() < until and (most is None or rounds < most):
            rounds += work.round(rounds + 1, expected, until)
        spent = (time.monotonic() - started) / 60
    counts = [
        {"command": stage, "fault": kind, "tried": tried, "hit": work.hit[stage, kind], "held": work.held[stage, kind]}
        for (stage, kind), tried in sorted(work.tried.items(), key=lambda item: (STAGES.index(item[0][0]), item[0][1]))
    ]
    figures = {
        "minutes": round(spent, 1),
        "rounds": rounds,
        "full_disks": disk,
        "undisturbed_seconds": {stage: round(seconds, 1) for stage, seconds in work.seconds.items()},
        "counts": counts,
        "problems": work.problems,
        "versions": versions(),
    }
    result = ResultFile(experiment, figures)
    result.write()
    return result


def table(result: ResultFile) -> str:
    """What is there, as Markdown."""
    head = ["command", "fault", "tried", "met by the command", "held"]
    lines = [
        [one["command"], one["fault"] or "none: goes on to the end", one["tried"], one["hit"] or "-", one["held"]]
        for one in result.figures["counts"]
    ]
    told = f"{result.figures['minutes']} minutes, {result.figures['rounds']} rounds, seed"
    return f"{told} {result.experiment.settings['seed']}\n\n{markdown(head, lines)}"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse(parser)

    def run(experiment: Experiment) -> int:
        result = soak(experiment, arguments.minutes, arguments.seed, most=1 if arguments.tiny else None)
        return len(result.figures["problems"])

    if problems := run_or_show(SCRIPT, arguments, ("seed", "minutes"), run, table):
        sys.exit(f"{problems} of the runs did not hold")


if __name__ == "__main__":
    main()
