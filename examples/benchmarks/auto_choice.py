"""What ``auto`` chooses of each set, what its thieves learned of every candidate, and what that cost.

    python examples/benchmarks/auto_choice.py                              # all sets, 4 to 6 minutes each
    python examples/benchmarks/auto_choice.py --of photo-patches-2=4000    # only one, and how many images of it
    python examples/benchmarks/auto_choice.py --table                      # only print what is there

At 8/255, one run each. One file for each set and number of images; what is there is not repeated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from common import TINY, command, load, machine, options, parse
from result_files import Experiment, ResultFile, place, read_results
from tables import markdown

from hf_unlearnable import Auto, Budget
from hf_unlearnable.methods.auto import together

SCRIPT = Path(__file__).stem
ASKED = (
    *(f"fashion-mnist={count}" for count in (1000, 3000)),
    *(f"photo-patches={count}" for count in (1000, 4000)),
    *(f"photo-patches-{number}=4000" for number in range(2, 6)),
)


def run(name: str, images: int, arguments: argparse.Namespace) -> None:
    """Choose, and write one result file."""
    method = Auto(epochs=1, thief_steps=1) if arguments.tiny else Auto()
    experiment = Experiment(
        script=SCRIPT,
        dataset=name,
        images=images,
        method=method.name,
        recipe=method.name,
        budget=str(Budget(8)),
        machine=machine(),
        command=command(),
    )
    if place(experiment).exists():
        return
    train, _ = load(name, images)
    started = time.process_time()
    findings = method.fit(train.select(range(images)), budget=Budget(8), progress=False).description.findings
    seconds = time.process_time() - started
    ResultFile(experiment, {"choice": findings["auto"], "processor_seconds": round(seconds, 1)}).write()
    print(Auto.describe(findings), flush=True)


def table(results: Sequence[ResultFile]) -> str:
    """The quadratic mean of what thieves learned of each candidate, and which was kept."""
    rows = []
    for one in results:
        choice = one.figures["choice"]
        means = {name: f"{100 * together(figures):.1f}" for name, figures in choice["thieves"].items()}
        means[choice["chosen"]] += ", kept"
        means |= {name: f"as `{other}`" for name, other in choice["same"].items()}
        rows.append(
            [
                f"{one.experiment.dataset}, {one.experiment.images:,}",
                *(means[name] for name in Auto.candidates),
                f"{one.figures['processor_seconds']:.0f}",
            ]
        )
    return markdown(["images", *(f"`{name}`" for name in Auto.candidates), "seconds of one thread"], rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--of", action="append", help=f"a set and how many images of it; default: {', '.join(ASKED)}")
    arguments = parse(parser)
    if not arguments.table:
        for one in [f"{TINY}=48"] if arguments.tiny else arguments.of or ASKED:
            name, _, images = one.partition("=")
            run(name, int(images), arguments)
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
