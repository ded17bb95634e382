"""One process against two: the same protection, as strong, in how much less time.

    python examples/benchmarks/processes.py             # a quarter of an hour on two cores
    python examples/benchmarks/processes.py --images 1000 --fit-epochs 3 --no-victims    # only the times
    python examples/benchmarks/processes.py --table     # only print what is there

The default recipe on 3,000 images of Fashion-MNIST at 8/255, fitted by one process with one thread and by two with one
thread each, which share every batch (``accelerate launch --config_file examples/accelerate/cpu.yaml``). Times are those
of the whole command but for the start of Python; victims as in protection_strength.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import FASHION_MNIST, RECIPES, TINY, command, kept, load, machine, options, parse, victim_seeds
from result_files import Experiment, ResultFile, read_results
from tables import NONE, markdown, percent

from hf_unlearnable import MIUE, Budget, Protection, Report, Training, learnability
from hf_unlearnable.evaluation.cases import CLEAN, PROTECTED

HERE = Path(__file__).parent
SCRIPT = Path(__file__).stem
CONFIGURATION = HERE.parent / "accelerate" / "cpu.yaml"
BUDGET = Budget(8)


def fit(output: Path, name: str, images: int, epochs: int | None) -> None:
    """In each of the processes."""
    from hf_unlearnable.training.processes import default_accelerator

    data, _ = load(name, images)
    method = RECIPES["mi-ue"] if epochs is None else MIUE(epochs=epochs)
    accelerator = default_accelerator()
    accelerator.wait_for_everyone()
    started = time.monotonic()
    method.fit(data, budget=BUDGET, output_dir=output, accelerator=accelerator, progress=False)
    if accelerator.is_main_process:
        output.with_suffix(".seconds").write_text(str(time.monotonic() - started))


def run(count: int, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit in ``count`` processes and measure."""
    output = kept("protections") / f"processes-{count}-{os.getpid()}"
    output.parent.mkdir(exist_ok=True)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    start = [sys.executable] if count == 1 else [*launch, "--num_processes", str(count), "--main_process_port", "0"]
    told = ["--fit", str(output), "--of", name, "--images", str(arguments.images)]
    told += ["--fit-epochs", str(arguments.fit_epochs)] if arguments.fit_epochs else []
    subprocess.run([*start, __file__, *told], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    seconds = float(output.with_suffix(".seconds").read_text())
    output.with_suffix(".seconds").unlink()
    found: dict[str, Any] = {"processes": count, "fit_seconds": round(seconds, 1)}
    if arguments.victims:
        data, test = load(name, arguments.images)
        report = learnability(
            data.map(Protection.from_pretrained(output)),
            clean=data,
            test=test,
            victims="small-resnet",
            ratios=[0, 1],
            training=Training(epochs=arguments.epochs),
            seeds=victim_seeds(arguments),
            keep_in=kept("victims"),
        )
        found |= report.as_dict()
    return found


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    head, lines = ["images", "processes", "fit, s", "clean", "protected", "protected, peak epoch"], []
    for one in results:
        for each in one.figures["runs"]:
            cells = [NONE] * 3
            if "results" in each:
                wanted = ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
                cells = [percent(Report.of(each), None, case, figure) for case, figure in wanted]
            lines.append([one.experiment.images, each["processes"], f"{each['fit_seconds']:.0f}", *cells])
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__, epochs=12)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--fit-epochs", type=int, help="of the fit; default: the recipe's")
    parser.add_argument("--processes", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--no-victims", dest="victims", action="store_false", help="only the times")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--of", help=argparse.SUPPRESS)
    arguments = parse(parser)
    if arguments.fit:
        fit(arguments.fit, arguments.of, arguments.images, arguments.fit_epochs)
        return
    name = TINY if arguments.tiny else FASHION_MNIST
    arguments.processes = arguments.processes or [1, 2]
    arguments.fit_epochs = 1 if arguments.tiny else arguments.fit_epochs
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=arguments.images,
        method=MIUE.name,
        recipe="mi-ue",
        budget=str(BUDGET),
        ratios=(0.0, 1.0) if arguments.victims else None,
        epochs=arguments.epochs if arguments.victims else None,
        victims=("small-resnet",) if arguments.victims else None,
        seeds=tuple(victim_seeds(arguments)) if arguments.victims else None,
        settings={"processes": arguments.processes, "fit_epochs": arguments.fit_epochs},
        machine=machine(),
        command=command(),
    )
    if not arguments.table:
        ResultFile(experiment, {"runs": [run(count, name, arguments) for count in arguments.processes]}).write()
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
