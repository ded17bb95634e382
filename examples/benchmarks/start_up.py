"""What a command costs before it does anything: Python's start and the packages that are imported.

    python examples/benchmarks/start_up.py            # two minutes
    python examples/benchmarks/start_up.py --table    # only print what is there

Every command is started as a process of its own, in turn with ``python -c pass`` and ``python -c "import torch"``,
after one start that compiles what it imports and is not counted. *protect* protects 20 images of 32x32 with
``texture``, which trains no network. ``python -X importtime`` then says which packages take most of it: the share of
the time of all imports that is spent in the modules of a package themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from alternation import alternate
from common import ROOT, command, machine, options, parse
from PIL import Image
from result_files import Experiment, ResultFile, read_results
from tables import markdown

from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
COMMAND = ["-m", "hf_unlearnable"]
NOTHING, TORCH, HELP, PROTECT = "python -c pass", "python -c 'import torch'", "--help", "protect, 20 images"
IMAGES, MOST = 20, 8  # packages that are named


def write_images(folder: Path) -> None:
    """Pictures of two classes."""
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        file = folder / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)


def packages(arguments: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """The packages whose modules took most of the imports, each with its share, and how many modules there were."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ).stderr
    own: Counter[str] = Counter()
    lines = [line.split("|") for line in told.splitlines() if line.startswith("import time:")][1:]  # after the head
    for microseconds, _, module in lines:
        name = module.strip().partition(".")[0]
        own["standard library" if name in sys.stdlib_module_names else name] += int(microseconds.split(":")[1])
    shares = {name: round(each / own.total(), 3) for name, each in own.most_common(MOST)}
    return {"modules": len(lines), "shares": shares}


def measure(rounds: int) -> dict[str, Any]:
    """All commands, in turn."""
    with tempfile.TemporaryDirectory(prefix="start-up-") as scratch:
        folder = Path(scratch)
        write_images(folder / "images")
        output = folder / "out"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPATH"] = str(ROOT)
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
        environment.setdefault("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))
        protect = ["protect", str(folder / "images"), "--output", str(output), "--method", "texture"]
        cases = {
            NOTHING: ["-c", "pass"],
            TORCH: ["-c", "import torch"],
            "--version": [*COMMAND, "--version"],
            HELP: [*COMMAND, "--help"],
            "protect --help": [*COMMAND, "protect", "--help"],
            PROTECT: [*COMMAND, *protect],
        }

        def work(name: str) -> None:
            shutil.rmtree(output, ignore_errors=True)
            subprocess.run([sys.executable, *cases[name]], env=environment, check=True, capture_output=True)

        for name in cases:
            work(name)
        costs = alternate({name: lambda name=name: work(name) for name in cases}, rounds)  # type: ignore[misc]
        found = {}
        for name in (HELP, PROTECT):
            shutil.rmtree(output, ignore_errors=True)
            found[name] = packages(cases[name], environment)
    return {"costs": costs, "packages": found, "versions": versions()}


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    head = ["command", "times `python -c pass`", "times `python -c 'import torch'`"]
    lines = []
    for result in results:
        costs = result.figures["costs"]
        for name, cost in costs.items():
            ratios = [cost["processor"] / costs[other]["processor"] for other in (NOTHING, TORCH)]
            lines.append([name if name == PROTECT else f"`{name}`", f"{ratios[0]:.0f}", f"{ratios[1]:.2f}"])
    return markdown(head, lines)


def packages_table(results: Sequence[ResultFile]) -> str:
    """Which packages take the time of the imports, as Markdown."""
    lines = []
    for result in results:
        for name, found in result.figures["packages"].items():
            shares = ", ".join(f"{package} {100 * share:.0f} %" for package, share in found["shares"].items())
            lines.append([name if name == PROTECT else f"`{name}`", found["modules"], shares])
    return markdown(["command", "modules", "share of the time of all imports"], lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of all commands")
    arguments = parse(parser)
    if not arguments.table:
        rounds = 1 if arguments.tiny else arguments.rounds
        experiment = Experiment(script=SCRIPT, settings={"rounds": rounds}, machine=machine(), command=command())
        ResultFile(experiment, measure(rounds)).write()
    results = read_results(SCRIPT)
    print(table(results), packages_table(results), sep="\n\n")


if __name__ == "__main__":
    main()
