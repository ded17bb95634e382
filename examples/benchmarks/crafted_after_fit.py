"""How strong crafted perturbations are beside fitted ones.

    python examples/benchmarks/crafted_after_fit.py            # Fashion-MNIST
    python examples/benchmarks/crafted_after_fit.py --table    # only print what is there

Half of the images is fitted with ``on_unseen="craft"``, the other half crafted; beside it all are fitted. Victims train
on all of them, and on the second half alone. One result file in results-images/; nothing is repeated that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from protection_strength import DATA, SETS, load, percent

from hf_unlearnable import MIUE, Report, Training, learnability
from hf_unlearnable.evaluation.report import CLEAN, PROTECTED

RESULTS = Path(__file__).parent / "results-images"


def run(name: str, arguments: argparse.Namespace) -> None:
    """Fit, craft, measure and write one result file."""
    images = arguments.images if name == "fashion-mnist" else 4000
    file = RESULTS / f"crafted-{name}-{images}.json"
    if file.exists():
        return
    train, test = load(name, images)
    half = images // 2
    second = train.select(range(half, images))
    fitted = MIUE().fit(train)
    crafting = MIUE().fit(train.select(range(half)), on_unseen="craft")
    started = time.process_time()
    crafted = second.map(crafting, keep_in_memory=True)
    seconds = (time.process_time() - started) / half
    cases = {
        "all fitted": (train, train.map(fitted)),
        "first half fitted, second crafted": (train, train.map(crafting)),
        "second half, fitted": (second, second.map(fitted)),
        "second half, crafted": (second, crafted),
    }
    figures = {"set": name, "images": images, "milliseconds_an_image": round(1000 * seconds, 2)}
    reports = {}
    for what, (clean, protected) in cases.items():
        report = learnability(
            protected,
            clean=clean,
            test=test,
            training=Training(epochs=arguments.epochs),
            seeds=range(101, 101 + arguments.seeds),
            ratios=(0, 1),
            keep_in=DATA / "victims",
        )
        reports[what] = report.as_dict()
        print(f"\n{name}, {what}\n{report}\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    verification = crafting.verify(second, crafted).as_dict()
    whole = {**figures, "command": " ".join(sys.argv), "verification_of_crafted": verification, "reports": reports}
    file.write_text(json.dumps(whole, indent=2) + "\n")


def table() -> str:
    """What is there, as a Markdown table."""
    lines = [["set", "images", "victim trained on", "clean", "protected", "protected, peak epoch"], ["---"] * 6]
    for file in sorted(RESULTS.glob("crafted-*.json")):
        figures = json.loads(file.read_text())
        for what, report in figures["reports"].items():
            wanted = ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
            cells = [percent(Report.of(report), "small-resnet", *one) for one in wanted]
            lines.append([figures["set"], str(figures["images"]), what, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=SETS, action="append", help="default: fashion-mnist")
    parser.add_argument("--images", type=int, default=3000, help="images of Fashion-MNIST")
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=2, help="victims of each kind")
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        for name in arguments.set or ["fashion-mnist"]:
            run(name, arguments)
    print(table())


if __name__ == "__main__":
    main()
