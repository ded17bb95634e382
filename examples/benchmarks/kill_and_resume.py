"""Kill commands at random moments, start them again, and compare what they end with to an undisturbed run.

    python examples/benchmarks/kill_and_resume.py              # 20 kills of each: a quarter of an hour
    python examples/benchmarks/kill_and_resume.py --table      # only print what is there

Three commands on a few hundred images of Fashion-MNIST: ``protect`` (checkpoints every half second, images written by
two processes), ``measure``, and ``dataset.map(protect, num_proc=2)``. Each is killed with all its children (SIGKILL) at
a moment that is drawn evenly from the time that an undisturbed run takes, and then started again with the same words.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import load, options, parse, run_or_show
from datasets import load_from_disk
from result_files import Experiment, ResultFile
from tables import markdown

SCRIPT = Path(__file__).stem
MAP = """
import sys
from datasets import load_from_disk
from hf_unlearnable import Protection
data, folder, cache = sys.argv[1:]
protect = Protection.from_pretrained(folder)
load_from_disk(data).map(protect, num_proc=2, cache_file_name=cache + "/cache.arrow").save_to_disk(cache + "/out")
"""


def pixels(folder: Path) -> str:
    """Of all rows of a saved dataset: every byte of every file in it."""
    hashed = hashlib.blake2b(digest_size=16)
    for row in load_from_disk(str(folder)).with_format("arrow"):
        hashed.update(repr(row.to_pydict()).encode())
    return hashed.hexdigest()


class Scenario:
    """A command, and the digest of what it leaves."""

    def __init__(self, name: str, folder: Path, images: int) -> None:
        self.name, self.folder, self.images = name, folder, images
        self.data, self.test = folder / "data", folder / "test"

    def words(self, output: Path) -> list[str]:
        """The command."""
        ours = [sys.executable, "-m", "hf_unlearnable"]
        if self.name == "protect":
            options = ["--method", "em", "--epochs", "6", "--checkpoint-every", "0.5", "--num-proc", "2"]
            return [*ours, "protect", str(self.data), "--output", str(output), *options]
        if self.name == "measure":
            options = ["--test", str(self.test), "--ratios", "0,0.5,1", "--sequential", "--seeds", "1", "--epochs", "4"]
            return [*ours, "measure", str(output), *options]
        protection = self.folder / "protected" / "private" / "protection"
        return [sys.executable, "-c", MAP, str(self.data), str(protection), str(output)]

    def prepare(self, output: Path) -> None:
        """What must be there before the command."""
        if self.name == "measure":
            shutil.copytree(self.folder / "protected", output)
        elif self.name == "map":
            output.mkdir()

    def result(self, output: Path) -> str:
        """A digest of all that counts."""
        if self.name == "protect":
            protection = json.loads((output / "private" / "protection" / "protection.json").read_text())["digest"]
            return f"{protection} {pixels(output / 'dataset')}"
        if self.name == "measure":
            return hashlib.blake2b((output / "report" / "learnability.json").read_bytes(), digest_size=16).hexdigest()
        return pixels(output / "out")

    def run(self, output: Path, kill_after: float | None) -> tuple[bool, float]:
        """Start it; whether it came to its end, and after how long."""
        started = time.monotonic()
        process = subprocess.Popen(
            self.words(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            _, said = process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return False, time.monotonic() - started
        if process.returncode:
            raise RuntimeError(f"{self.name} ended with {process.returncode}: {said.decode()[-2000:]}")
        return True, time.monotonic() - started


def measure(experiment: Experiment, kills: int, seed: int) -> None:
    """Run all scenarios and write the result file."""
    rng, found, images = random.Random(seed), [], experiment.images or 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, test = load(experiment.dataset or "", images)
        data.save_to_disk(folder / "data")
        test.select(range(min(images, len(test)))).save_to_disk(folder / "test")
        for name in ("protect", "measure", "map"):
            scenario = Scenario(name, folder, images)
            whole = folder / ("protected" if name == "protect" else f"{name}-whole")
            scenario.prepare(whole)
            _, seconds = scenario.run(whole, None)
            expected = scenario.result(whole)
            moments, equal = [], 0
            for number in range(kills):
                ended = True
                while ended:  # again if it was faster than the kill
                    output = folder / f"{name}-{number}"
                    shutil.rmtree(output, ignore_errors=True)
                    scenario.prepare(output)
                    ended, reached = scenario.run(output, rng.uniform(0, seconds))
                moments.append(round(reached / seconds, 3))
                if name != "protect" or not output.exists():  # else it was killed on its way out
                    scenario.run(output, None)
                equal += scenario.result(output) == expected
                shutil.rmtree(output)
                print(f"{name} {number + 1}: killed after {100 * moments[-1]:.0f} %, {equal} equal", flush=True)
            left = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
            found.append(
                {
                    "command": name,
                    "undisturbed_seconds": round(seconds, 1),
                    "kills": kills,
                    "equal": equal,
                    "left_behind": left,
                    "killed_at": sorted(moments),
                }
            )
    ResultFile(experiment, {"scenarios": found}).write()


def table(result: ResultFile) -> str:
    """What is there, as Markdown."""
    head, lines = ["command", "undisturbed, s", "kills", "same bytes at the end", "left behind"], []
    for one in result.figures["scenarios"]:
        left = ", ".join(one["left_behind"]) or "nothing"
        lines.append([one["command"], one["undisturbed_seconds"], one["kills"], one["equal"], left])
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse(parser)
    kills = 1 if arguments.tiny else arguments.kills
    run_or_show(SCRIPT, arguments, ("seed",), lambda experiment: measure(experiment, kills, arguments.seed), table)


if __name__ == "__main__":
    main()
