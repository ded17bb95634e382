"""Time and memory of fit, map and push against the number of images.

    python examples/benchmarks/scale.py --images 10000 --images 100000 --images 1000000
    python examples/benchmarks/scale.py --images 126689 --side 224    # as many as ImageNet-100
    python examples/benchmarks/scale.py --images 1000000 --stage open  # the check of a store, without a fit
    python examples/benchmarks/scale.py --table      # only print what is there

Synthetic images (random blocks, 100 classes, PNG) in an Arrow file, as ``datasets`` keeps them. Every stage is a
process of its own; its memory is looked at five times a second: what it allocated (RssAnon), and what it mapped from
files and the system may take back at any time (RssFile).

``fit`` reads and keeps all images, but makes 50 steps only: their number times the time of one is what a real fit
takes on top, see docs/scale.md. ``map`` writes the protected images as PNG. ``push`` sends them to a server on this
machine that speaks the Hub's protocol. ``open`` makes a store of random levels and opens it, in a process that has
not seen it: the seconds are those of the opening, which reads and checks all of it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import command, machine, options, parse
from PIL import Image
from result_files import Experiment, ResultFile, read_results
from tables import markdown

from hf_unlearnable import Budget

HERE = Path(__file__).parent
SCRIPT = Path(__file__).stem
BUDGET = Budget(8)
STAGES = ("make", "fit", "map", "push")
CLASSES, STEPS = 100, 50
BLOCK = 8  # pixels: coarse images make small files


def make(folder: Path, images: int, side: int) -> dict[str, Any]:
    """Write the clean images."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    def rows(count: int, side: int) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(0)
        for index in range(count):
            blocks = rng.integers(0, 256, (side // BLOCK, side // BLOCK, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST).save(stream, "PNG", compress_level=1)
            yield {"image": {"bytes": stream.getvalue(), "path": None}, "label": index % CLASSES}

    features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=CLASSES)})
    made = Dataset.from_generator(
        rows, features=features, cache_dir=str(folder / "cache"), gen_kwargs={"count": images, "side": side}
    )
    made.save_to_disk(folder / "data")
    shutil.rmtree(folder / "cache")
    return {}


def fit(folder: Path, images: int, side: int) -> dict[str, Any]:
    """All that a fit does, with the first steps of its optimisation only."""
    from datasets import load_from_disk

    from hf_unlearnable import EM
    from hf_unlearnable.methods import Task
    from hf_unlearnable.methods.alternating.shared_schedule import SharedSchedule

    class FewSteps(SharedSchedule):
        def _epochs(self, phase: str, count: int) -> Any:
            yield from itertools.islice(super()._epochs(phase, count), STEPS)

    class Few(EM):
        def run(self, task: Task) -> None:
            FewSteps(self.settled(False), task).fit_patterns(1)

    (folder / "out" / "private").mkdir(parents=True)
    protection = Few(epochs=1).fit(
        load_from_disk(str(folder / "data")), budget=BUDGET, output_dir=folder / "out" / "private" / "protection"
    )
    values = images * int(np.prod(protection.about["image_shape"]))
    stored = (protection.folder / "perturbations.arrow").stat().st_size
    return {"image_shape": protection.about["image_shape"], "store_bytes_per_value": round(stored / values, 4)}


def map_(folder: Path, images: int, side: int) -> dict[str, Any]:
    """Protect and save."""
    from datasets import load_from_disk

    from hf_unlearnable import Protection

    out = folder / "out"
    protection = Protection.from_pretrained(out / "private" / "protection")
    released = protection.release(
        load_from_disk(str(folder / "data")), cache_file_name=str(out / "private" / "map.arrow")
    )
    released.save_to_disk(out / "dataset")
    (out / "private" / "map.arrow").unlink()
    (out / "private" / "verification.json").write_text(json.dumps(protection.about["verification"]))
    return {"released_bytes": sum(file.stat().st_size for file in (out / "dataset").glob("*.arrow"))}


def push(folder: Path, images: int, side: int) -> dict[str, Any]:
    """Send to a server in a process of its own."""
    from hf_unlearnable import push as push_to_hub

    return {"pushed": str(push_to_hub(folder / "out", "owner/scale", private=True))}


def store(folder: Path, images: int, side: int) -> dict[str, Any]:
    """Write a protection of random levels."""
    from datasets import Dataset

    from hf_unlearnable import Protection
    from hf_unlearnable.data.pixels import DIGEST_BYTES

    rng = np.random.default_rng(0)

    def batches() -> Iterator[tuple[Any, Any]]:
        for start in range(0, images, 4096):
            count = min(4096, images - start)
            levels = rng.integers(-8, 9, (count, 3, side, side), dtype=np.int8)
            yield np.frombuffer(rng.bytes(count * DIGEST_BYTES), f"V{DIGEST_BYTES}"), levels

    grey = Dataset.from_dict({"image": [Image.new("RGB", (side, side), "grey")], "label": [0]})
    noise = np.ones((1, side, side, 3), np.int8)
    small = Protection.from_arrays(noise, grey, budget=BUDGET, per="image", output_dir=folder / "small", progress=False)
    (folder / "store").mkdir()
    Protection.write(folder / "store", batches(), small.description)
    return {}


def open_(folder: Path, images: int, side: int) -> dict[str, Any]:
    """Open it twice; the second time it is known."""
    from hf_unlearnable import Protection

    seconds = []
    for _ in range(2):
        started = time.monotonic()
        assert len(Protection.from_pretrained(folder / "store")) == images
        seconds.append(round(time.monotonic() - started, 2))
    return {"seconds": seconds[0], "again": seconds[1]}


def watch(process: subprocess.Popen[str], peaks: dict[str, int]) -> None:
    """The largest memory of a process, in MiB by kind, until it ends."""
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            if line.startswith(("RssAnon", "RssFile")):
                kind, value = line.split()[:2]
                peaks[kind[:-1]] = max(peaks.get(kind[:-1], 0), int(value) // 1024)
        time.sleep(0.2)


def serve() -> None:
    """The loopback Hub of the tests; prints its address."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from helpers.loopback_hub import WRITE_TOKEN, LoopbackHub

    print(LoopbackHub().start().url, WRITE_TOKEN, flush=True)
    threading.Event().wait()


def run(stage: str, folder: Path, images: int, side: int) -> dict[str, Any]:
    """Do one stage in a process of its own, and look at it."""
    environment = dict(os.environ)
    hub = None
    if stage == "push":
        hub = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
        assert hub.stdout is not None
        address, token = hub.stdout.readline().split()
        environment |= {"HF_ENDPOINT": address, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    start = [sys.executable, __file__, "--do", stage, "--folder", str(folder), "--images", str(images)]
    started, peaks = time.monotonic(), dict[str, int]()
    process = subprocess.Popen(
        [*start, "--side", str(side)], stdout=subprocess.PIPE, text=True, env=environment, stderr=subprocess.DEVNULL
    )
    watcher = threading.Thread(target=watch, args=(process, peaks))
    watcher.start()
    said, _ = process.communicate()
    watcher.join()
    if hub is not None:
        hub.kill()
        hub.communicate()
    if process.returncode:
        raise RuntimeError(f"the stage {stage} ended with {process.returncode}")
    seconds = time.monotonic() - started
    return {"seconds": round(seconds, 1), "MiB": peaks, **json.loads(said.splitlines()[-1])}


def measure(images: int, side: int, stages: list[str]) -> None:
    """All stages of one size, or some of them, and their file."""
    experiment = Experiment(
        script=SCRIPT,
        dataset="synthetic",
        images=images,
        method="em",
        budget=str(BUDGET),
        settings={"side": side, "steps": STEPS} | ({} if stages == list(STAGES) else {"stages": stages}),
        machine=machine(),
        command=command(),
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCALE_DIR")) as temporary:
        for stage in stages:
            if stage == "open":
                run("store", Path(temporary), images, side)
            found[stage] = run(stage, Path(temporary), images, side)
            print(f"{images} images of {side} pixels, {stage}: {found[stage]}", flush=True)
            ResultFile(experiment, {"stages": found}).write()


def table(results: Sequence[ResultFile]) -> str:
    """What is there, as Markdown."""
    head = ["images", "side", "stage", "s", "allocated, MiB", "mapped files, MiB", "bytes a value in the store"]
    lines = []
    for one in results:
        for stage, each in one.figures["stages"].items():
            memory = (each["MiB"]["RssAnon"], each["MiB"]["RssFile"])
            first = [one.experiment.images, one.experiment.settings["side"], stage, each["seconds"]]
            lines.append([*first, *memory, each.get("store_bytes_per_value", "")])
    return markdown(head, lines)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, action="append", help="default: 10,000, 100,000 and 1,000,000")
    parser.add_argument("--side", type=int, default=32, help="in pixels")
    parser.add_argument("--stage", choices=(*STAGES, "open"), action="append", help="default: all but open")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--do", choices=(*STAGES, "store", "open"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parse(parser)
    if arguments.serve:
        serve()
    if arguments.do:
        stage = {"make": make, "fit": fit, "map": map_, "push": push, "store": store, "open": open_}[arguments.do]
        print(json.dumps(stage(arguments.folder, arguments.images[0], arguments.side)))
        return
    if not arguments.table:
        for images in [300] if arguments.tiny else arguments.images or [10_000, 100_000, 1_000_000]:
            measure(images, arguments.side, arguments.stage or list(STAGES))
    print(table(read_results(SCRIPT)))


if __name__ == "__main__":
    main()
