"""What ``dataset.map(protection)`` costs beside a map that does nothing but decode and encode the same PNG files.

    python examples/benchmarks/map_speed.py            # five minutes on one core
    python examples/benchmarks/map_speed.py --table    # only print what is there

The identity map runs over the protected images, so that both write the same pixels: ``map(lambda row: {"image":
row["image"]})``. Both are measured in turn, image by image and in batches, in one process and in two. What is compared
is processor time, of the processes that ``map`` starts too. Images: Fashion-MNIST (28x28), mosaics of photo patches of
224x224, and two of 12 megapixels. The parts are the steps of one image in a loop of their own: reading the PNG, the
digest of its pixels, finding the perturbation by it, adding it, writing the PNG (by ``datasets``, at zlib's level 6);
the rest is what ``map`` takes for rows and Arrow tables, and Python for calls. ``release``, which the command line
uses, hands on files and writes them at level 4.
"""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from alternation import alternate
from common import FASHION_MNIST, TINY, command, load, machine, options, parse
from datasets import ClassLabel, Dataset, Features, load_from_disk
from datasets import Image as ImageFeature
from PIL import Image
from result_files import Experiment, ResultFile, place, read_results
from tables import NONE, markdown

from hf_unlearnable import Budget, Protection
from hf_unlearnable.data.pixels import digest, to_array, to_image
from hf_unlearnable.methods import Noise
from hf_unlearnable.protection.resample import resample_and_apply
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
BUDGET = Budget(8)
CASES = {  # width and height -> images, rounds, processes
    (28, 28): (200, 3, (1, 2)),
    (224, 224): (8, 3, (1, 2)),
    (4000, 3000): (2, 1, (1,)),
}
HOW = ("per image", "batched")
TINY_CASES = {(12, 12): (8, 1, (1,))}
PARTS = ("PNG, reading", "digest", "lookup", "adding", "PNG, writing")


def images(size: tuple[int, int], count: int, *, tiny: bool) -> Dataset:
    """Pictures, as PNG files in a dataset; larger ones than the sets have are mosaics of them."""
    if size == (28, 28) or tiny:
        return load(TINY if tiny else FASHION_MNIST, 3000)[0].select(range(count))
    width, height = size
    patches = np.stack([np.asarray(image) for image in load("photo-patches", 4000)[0][:]["image"]])
    side, rng = patches.shape[1], np.random.default_rng(0)
    rows = []
    for _ in range(count):
        chosen = patches[rng.integers(len(patches), size=(-(-height // side), -(-width // side)))]
        pixels = chosen.swapaxes(1, 2).reshape(chosen.shape[0] * side, -1, 3)[:height, :width]
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        rows.append({"image": {"bytes": stream.getvalue(), "path": None}, "label": 0})
    features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=1)})
    return Dataset.from_list(rows, features=features)


def identity(rows: dict[str, Any]) -> dict[str, Any]:
    """Nothing but what ``map`` does around a function: images are decoded, and encoded again."""
    return {"image": rows["image"]}


def maps(
    clean: Dataset, protected: Dataset, protection: Protection, processes: Sequence[int]
) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""
    found: dict[str, Callable[[], object]] = {}
    for count, how in itertools.product(processes, HOW):
        where = f"{how}, num_proc={count}"
        given = {"batched": how == "batched", "num_proc": count if count > 1 else None, "load_from_cache_file": False}
        found[f"protect, {where}"] = lambda given=given: clean.map(protection, **given)
        found[f"identity, {where}"] = lambda given=given: protected.map(identity, **given)
        if count == 1:
            found[f"release, {where}"] = lambda given=given: protection.release(clean, **given)
    return found


def parts(clean: Dataset, protected: Dataset, protection: Protection) -> dict[str, Callable[[], object]]:
    """The steps that protecting the images takes, by the names of ``PARTS``."""
    files = [row["image"]["bytes"] for row in clean.cast_column("image", ImageFeature(decode=False))]
    pixels = [to_array(image) for image in clean["image"]]
    keys = [digest(*pair) for pair in zip(pixels, clean["label"], strict=True)]
    levels = [protection._store.find(key) for key in keys]
    released = [to_image(to_array(image)) for image in protected["image"]]

    def read() -> None:
        for file in files:
            to_array(Image.open(io.BytesIO(file)))

    def written() -> None:
        for image in released:
            image.save(io.BytesIO(), "PNG")

    works: list[Callable[[], object]] = [
        read,
        lambda: [digest(*pair) for pair in zip(pixels, clean["label"], strict=True)],
        lambda: [protection._store.find(key) for key in keys],
        lambda: [to_image(resample_and_apply(*pair, BUDGET)) for pair in zip(pixels, levels, strict=True)],
        written,
    ]
    return dict(zip(PARTS, works, strict=True))


def measure(clean: Dataset, rounds: int, processes: Sequence[int]) -> dict[str, Any]:
    """Images of one size, and what each map and part of it takes."""
    with tempfile.TemporaryDirectory(prefix="map-speed-") as scratch:
        clean.save_to_disk(f"{scratch}/clean")
        clean = load_from_disk(f"{scratch}/clean")
        protection = Noise().fit(clean, budget=BUDGET, output_dir=f"{scratch}/protection", progress=False)
        clean.map(protection).save_to_disk(f"{scratch}/protected")
        protected = load_from_disk(f"{scratch}/protected")
        works = {**maps(clean, protected, protection, processes), **parts(clean, protected, protection)}
        return alternate(works, rounds)


def processor_times(result: ResultFile) -> dict[str, float]:
    """Seconds, by what was done."""
    return {name: cost["processor"] for name, cost in result.figures["costs"].items()}


def of_identity(times: dict[str, float], what: str, where: str) -> float:
    """How many images a way gets done while the identity map gets one done."""
    return times[f"identity, {where}"] / times[f"{what}, {where}"]


def size_of(result: ResultFile) -> str:
    """Of its images."""
    return "{width}x{height}".format(**result.experiment.settings)


def table(results: Sequence[ResultFile]) -> str:
    """How many images ``map(protection)`` and ``release`` get done for one of the identity map, as Markdown."""
    lines = []
    for one in results:
        times = processor_times(one)
        for count in (1, 2):
            wheres = [f"{how}, num_proc={count}" for how in HOW]
            if f"identity, {wheres[0]}" in times:
                names = [(what, where) for what in ("protect", "release") for where in wheres]
                cells = [
                    f"{of_identity(times, what, where):.2f}" if f"{what}, {where}" in times else NONE
                    for what, where in names
                ]
                lines.append([size_of(one), count, *cells])
    return markdown(["size", "num_proc", *(f"{what}, {how}" for what in ("map", "release") for how in HOW)], lines)


def parts_table(results: Sequence[ResultFile]) -> str:
    """What part of ``map(protection)``, image by image in one process, each step is, as Markdown."""
    lines = []
    for one in results:
        times = processor_times(one)
        whole = times["protect, per image, num_proc=1"]
        shares = [times[part] / whole for part in PARTS]
        lines.append([size_of(one), *(f"{100 * share:.0f} %" for share in (*shares, 1 - sum(shares)))])
    return markdown(["size", *PARTS, "rest"], lines)


def main() -> None:
    arguments = parse(options(__doc__))
    for (width, height), (count, rounds, processes) in (TINY_CASES if arguments.tiny else CASES).items():
        experiment = Experiment(
            script=SCRIPT,
            images=count,
            method=Noise.name,
            budget=str(BUDGET),
            settings={"width": width, "height": height, "rounds": rounds},
            machine=machine(),
            command=command(),
        )
        if not arguments.table and not place(experiment).exists():
            clean = images((width, height), count, tiny=arguments.tiny)
            ResultFile(experiment, {"costs": measure(clean, rounds, processes), "versions": versions()}).write()
    results = sorted(read_results(SCRIPT), key=lambda one: one.experiment.settings["width"])
    print(table(results), parts_table(results), sep="\n\n")


if __name__ == "__main__":
    main()
