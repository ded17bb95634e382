"""One process against two: the same protection, as strong, in how much less time.

    python examples/benchmarks/processes.py             # a quarter of an hour on two cores
    python examples/benchmarks/processes.py --images 1000 --epochs 3 --no-victims    # only the times
    python examples/benchmarks/processes.py --table     # only print what is there

The default recipe on 3,000 images of Fashion-MNIST at 8/255, fitted by one process with one thread and by two with one
thread each, which share every batch (``accelerate launch --config_file examples/accelerate/cpu.yaml``). Times are those
of the whole command but for the start of Python; victims as in protection_strength.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from protection_strength import DATA, RECIPES, load, percent

from hf_unlearnable import MIUE, Budget, Protection, Report, Training, learnability
from hf_unlearnable.evaluation.report import CLEAN, PROTECTED
from hf_unlearnable.files import atomic_write

HERE = Path(__file__).parent
FILE, TIMES = (HERE / "results-scale" / name for name in ("processes.json", "processes-times.json"))
CONFIGURATION = HERE.parent / "accelerate" / "cpu.yaml"


def fit(output: Path, images: int, epochs: int | None) -> None:
    """In each of the processes."""
    from hf_unlearnable.training.processes import default_accelerator

    data, _ = load("fashion-mnist", images)
    method = RECIPES["mi-ue"] if epochs is None else MIUE(epochs=epochs)
    accelerator = default_accelerator()
    accelerator.wait_for_everyone()
    started = time.monotonic()
    method.fit(data, budget=Budget(8), output_dir=output, accelerator=accelerator, progress=False)
    if accelerator.is_main_process:
        output.with_suffix(".seconds").write_text(str(time.monotonic() - started))


def run(count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit in ``count`` processes and measure."""
    output = DATA / "protections" / f"processes-{count}-{os.getpid()}"
    output.parent.mkdir(exist_ok=True)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    command = [sys.executable] if count == 1 else [*launch, "--num_processes", str(count), "--main_process_port", "0"]
    options = ["--fit", str(output), "--images", str(arguments.images)]
    options += ["--epochs", str(arguments.epochs)] if arguments.epochs else []
    subprocess.run([*command, __file__, *options], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    seconds = float(output.with_suffix(".seconds").read_text())
    output.with_suffix(".seconds").unlink()
    found: dict[str, Any] = {"processes": count, "fit_seconds": round(seconds, 1)}
    if arguments.victims:
        data, test = load("fashion-mnist", arguments.images)
        report = learnability(
            data.map(Protection.from_pretrained(output)),
            clean=data,
            test=test,
            ratios=[0, 1],
            training=Training(epochs=12),
            seeds=[101, 102, 103],
            keep_in=DATA / "victims",
        )
        found |= report.as_dict()
    return found


def table() -> str:
    """What is there, as Markdown."""
    known = [json.loads(file.read_text()) for file in (FILE, TIMES) if file.exists()]
    lines = ["| images | processes | fit, s | clean | protected | protected, peak epoch |", "| --- " * 6 + "|"]
    for one, images in [(one, found["images"]) for found in known for one in found["runs"]]:
        cells = ["-"] * 3
        if "results" in one:
            report = Report.of(one)
            cells = [percent(report, report.victims[0], case) for case in (CLEAN, PROTECTED)]
            cells.append(percent(report, report.victims[0], PROTECTED, "peak"))
        lines.append(f"| {images} | {one['processes']} | {one['fit_seconds']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, help="of the fit; default: the recipe's")
    parser.add_argument("--processes", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--no-victims", dest="victims", action="store_false", help="only the times")
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.fit, arguments.images, arguments.epochs)
        return
    if not arguments.table:
        runs = [run(count, arguments) for count in arguments.processes or [1, 2]]
        about = {"command": " ".join(["python", *sys.argv]), "images": arguments.images, "runs": runs}
        atomic_write(FILE if arguments.victims else TIMES, json.dumps(about, indent=2) + "\n")
    print(table())


if __name__ == "__main__":
    main()
