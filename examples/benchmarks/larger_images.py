"""How strong the protection is on images that are larger than the resolution that it was optimised at.

    python examples/benchmarks/larger_images.py                       # everything that is not there yet
    python examples/benchmarks/larger_images.py --set photo-patches --scale 4

The images are enlarged 1, 2 and 4 times (Lanczos), protected at their full size with perturbations that were optimised
at the original one, and downsized again (bilinear, antialiased) for victims that train and are tested there. Every run
is one file in results-images/; a run whose file exists is not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image
from protection_strength import DATA, load, percent

from hf_unlearnable import MIUE, Report, Training, learnability
from hf_unlearnable.evaluation.report import CLEAN, PROTECTED

RESULTS = Path(__file__).parent / "results-images"
SETS = ("fashion-mnist", "photo-patches")


def resized(data: Dataset, side: int, resample: Image.Resampling) -> Dataset:
    """All images at side x side pixels."""
    return data.map(lambda row: {"image": row["image"].resize((side, side), resample)}, keep_in_memory=True)


def run(name: str, scale: int, arguments: argparse.Namespace) -> None:
    """Fit, protect, measure and write one result file."""
    images = arguments.images if name == "fashion-mnist" else 4000
    file = RESULTS / f"larger-images-{name}-{images}-{scale}x.json"
    if file.exists():
        return
    train, test = load(name, images)
    side = train[0]["image"].width
    large = train if scale == 1 else resized(train, scale * side, Image.Resampling.LANCZOS)
    started = time.process_time()
    protection = MIUE().fit(large, resolution=side)
    seconds = time.process_time() - started
    protected = large.map(protection, keep_in_memory=True)
    published = protection.verify(large, protected)
    small = [resized(data, side, Image.Resampling.BILINEAR) for data in (large, protected)]
    report = learnability(
        small[1],
        clean=small[0],
        test=test,
        victims=arguments.victim,
        training=Training(epochs=arguments.epochs),
        seeds=range(101, 101 + arguments.seeds),
        ratios=(0, 1),
        keep_in=DATA / "victims",
    )
    figures = {"set": name, "scale": scale, "fit_seconds": round(seconds, 1), "command": " ".join(sys.argv)}
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps({**figures, "verification": published.as_dict(), **report.as_dict()}, indent=2) + "\n")
    print(f"\n{name}, {scale}x: {published}\n{report}\n", flush=True)


def table() -> str:
    """What is there, as a Markdown table."""
    lines = [["set", "images", "scale", "victim", "clean", "protected", "peak epoch", "change left after downsizing"]]
    lines.append(["---"] * len(lines[0]))
    for file in sorted(RESULTS.glob("larger-images-*.json")):
        figures = json.loads(file.read_text())
        report = Report.of(figures)
        for victim in report.victims:
            wanted = ((CLEAN, "last"), (PROTECTED, "last"), (PROTECTED, "peak"))
            cells = [percent(report, victim, *one) for one in wanted]
            left = figures["verification"]["surviving"]
            last = "-" if left is None else f"{100 * left:.0f} %"
            lines.append([figures["set"], str(figures["images"]), f"{figures['scale']}x", victim, *cells, last])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=SETS, action="append", help="default: all")
    parser.add_argument("--scale", type=int, action="append", help="default: 1, 2 and 4")
    parser.add_argument("--images", type=int, default=3000, help="training images of Fashion-MNIST")
    parser.add_argument("--victim", action="append", help="default: small-resnet")
    parser.add_argument("--epochs", type=int, default=12, help="of the victims")
    parser.add_argument("--seeds", type=int, default=2, help="victims of each kind")
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    arguments = parser.parse_args()
    arguments.victim = arguments.victim or ["small-resnet"]
    torch.set_num_threads(1)
    if not arguments.table:
        for name in arguments.set or SETS:
            if name == "photo-patches" and not (DATA / name).exists():
                print("photo-patches is built from a Debian package; this may take a minute", flush=True)
            for scale in arguments.scale or (1, 2, 4):
                run(name, scale, arguments)
    print(table())


if __name__ == "__main__":
    main()
