"""What the benchmarks share: sets of images, recipes, fits that are kept, options and the machine's name.

The files of results are ``result_files.py``, means and tables ``tables.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from result_files import Experiment, ResultFile, read_results

from hf_unlearnable import BEO, EM, MIUE, Auto, Budget, Method, Texture
from hf_unlearnable.benchmark.metering import machine
from hf_unlearnable.data.fashion_mnist import fashion_mnist
from hf_unlearnable.data.photo_patches import photo_patches
from hf_unlearnable.data.photographs import PHOTO_SETS
from hf_unlearnable.files import atomic_write
from hf_unlearnable.methods import AR, CUDA, LSP, PGD, PIL, REM, TAP, Noise
from hf_unlearnable.models.surrogate import load_transformers

load_transformers()  # or it would count as a part of the first fit

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
ANOTHER_FIT = "from 2 on, another one: the recipe's seed is one less"
TINY = "tiny"  # a made-up set, to see in seconds that a benchmark works
FASHION_MNIST = "fashion-mnist"
SETS = (FASHION_MNIST, "photo-patches")  # what is measured where nothing else is said
ALL_SETS = (FASHION_MNIST, *PHOTO_SETS, TINY)
IMAGES = {FASHION_MNIST: 3000, TINY: 48} | {name: photos.train for name, photos in PHOTO_SETS.items()}


# What MI-UE and EM did whatever their guides know, before ``OPEN`` in alternating/recipe.py; most results are of it.
EIGHTEEN: dict[str, Any] = {
    "epochs": 18,
    "copies": 2,
    "grain": 1,
    "compressed": 0.0,
    "from_waves": False,
    "guide_accuracy": 2 / 3,
}
RECIPES: dict[str, Method] = {
    "noise": Noise(),
    "texture": Texture(),
    "texture-one": Texture(signs="one"),
    "auto": Auto(),
    "lsp": LSP(),
    "ar": AR(),
    "tap": TAP(),
    "pgd": PGD(),
    "pil": PIL(),
    "cuda": CUDA(),
    "rem": REM(),
    "em": EM(**EIGHTEEN),
    "em-learned": EM(from_waves=False),
    "em-from-waves": EM(),
    "mi-ue": MIUE(**EIGHTEEN),
    "mi-ue-learned": MIUE(from_waves=False),
    "mi-ue-from-waves": MIUE(),
    "mi-ue-variants": MIUE(variants=4, from_waves=False),
    "mi-ue-untargeted": MIUE(**EIGHTEEN, targeted_weight=0.0),
    "beo": BEO(),
    "beo-self": BEO(mode="self"),
    "beo-self-frozen": BEO(mode="self", refresh="never"),  # one embedding, as the prototypes had it
    # A tenth of the authors' steps, each ten times as long, and half of the epochs before each: a 20th of the time.
    "beo-paper": BEO.paper(steps=19, first_step=1e-2 * 255 / 8, epochs=15, refresh_epochs=15),
    "untargeted-pgd": BEO(objective="cross-entropy"),
    "mi-ue-short": MIUE(**EIGHTEEN | {"epochs": 6}),  # a third of the passes
    "mi-ue-long": MIUE(**EIGHTEEN | {"epochs": 36}),
    "em-long": EM(**EIGHTEEN | {"epochs": 36}),
    "mi-ue-paper": MIUE.paper(epochs=15, inner_steps=5),  # the authors' 100 epochs of 10 steps cost 13 times as much
}


def kept(name: str) -> Path:
    """A folder of what is made once; ``BENCHMARK_DATA`` names another place than data/."""
    folder = Path(os.environ.get("BENCHMARK_DATA", ROOT / "data")) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def from_here(path: Path) -> str:
    """A path relative to the working folder where it lies below: names of victims and commands are made of it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def load(name: str, images: int) -> tuple[Dataset, Dataset]:
    """The training and the test part of a set.

    Args:
        name: one of ``ALL_SETS``.
        images: for training, of Fashion-MNIST, which is tested on 3,000 images (on all from 60,000 on), and of the
            made-up set; photo patches have a size of their own.
    """
    if name == TINY:
        return made_up(images, seed=0), made_up(30, seed=1)
    if name == FASHION_MNIST:
        splits = fashion_mnist(kept(name))
        count = 3000 if images < 60000 else 10000
        return splits["train"].select(range(images)), splits["test"].select(range(count))
    splits = photo_patches(name, kept(name))
    return splits["train"], splits["test"]


def save_shuffled(name: str, images: int, test_images: int, folder: Path) -> tuple[Path, Path]:
    """Write so many images of both parts of a set, drawn from all of it, which may be in the order of classes."""
    places = folder / "data", folder / "test"
    for part, count, place in zip(load(name, images), (images, test_images), places, strict=True):
        part.shuffle(0).select(range(count)).save_to_disk(place)
    return places


def made_up(count: int, seed: int) -> Dataset:
    """Images of 12x12 pixels whose class is the place of a bright square on noise."""
    labels = np.arange(count) % 3
    pixels = np.random.default_rng(seed).integers(0, 120, (count, 12, 12), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:6, 4 * label : 4 * label + 4] += 120
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["left", "middle", "right"])})
    columns = {"image": [Image.fromarray(image) for image in pixels], "label": labels.tolist()}
    return Dataset.from_dict(columns, features=features)


def fitted(
    name: str,
    recipe: str,
    budget: Budget,
    data: Dataset,
    surrogate: str | None = None,
    recipes: Mapping[str, Method] = RECIPES,
    fit: int = 1,
    go_on: bool = False,
) -> tuple[Path, float | None]:
    """Fit a protection, or take the one that is kept; tell its folder and the seconds of processor time it took.

    The seconds are None where the fit went on from a checkpoint: what the stopped process took is not known.

    Args:
        name: of the set.
        recipe: its name.
        budget: of the change.
        data: the training images.
        surrogate: the recipe's own when left out.
        recipes: by name.
        fit: from 2 on, another one of the same recipe, whose seed is one less.
        go_on: keep checkpoints, and go on from those of a process that was stopped.
    """
    parts = [name, str(len(data)), recipe, str(budget).replace(":", "-"), *([surrogate] if surrogate else [])]
    parts += [f"fit-{fit}"] if fit > 1 else []
    folder = kept("protections") / "-".join(parts)
    note = folder.parent / f"{folder.name}.json"
    if not note.exists():
        folder.parent.mkdir(exist_ok=True)
        started = time.process_time()
        method = replace(recipes[recipe], seed=fit - 1) if fit > 1 else recipes[recipe]
        checkpoints = folder.parent / f"{folder.name}-checkpoints"
        resumed = checkpoints.exists()
        kept_in = checkpoints if go_on else None
        method.fit(data, budget=budget, surrogate=surrogate, output_dir=folder, checkpoint_dir=kept_in)
        seconds = None if resumed else round(time.process_time() - started, 1)
        atomic_write(note, json.dumps({"fit_seconds": seconds}) + "\n")
        shutil.rmtree(checkpoints, ignore_errors=True)
    return folder, json.loads(note.read_text())["fit_seconds"]


def command() -> str:
    """What was typed, without where this copy of the repository lies."""
    script = Path(sys.argv[0]).absolute()
    told = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return " ".join(["python", str(told), *sys.argv[1:]])


def options(text: str | None, *, epochs: int | None = None, seeds: int = 3) -> argparse.ArgumentParser:
    """The options that benchmarks have in common; ``epochs`` is left out for one that trains no victims."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    if epochs is not None:
        parser.add_argument("--epochs", type=int, default=epochs, help="of the victims")
        parser.add_argument("--seeds", type=int, default=seeds, help="victims of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    parser.add_argument(
        "--tiny", action="store_true", help="made-up images and the shortest trainings; results in a temporary folder"
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, and keep ``--tiny`` away from the results and the data that count."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.tiny:
        scratch = tempfile.mkdtemp(prefix="benchmarks-")
        os.environ.setdefault("BENCHMARK_RESULTS", scratch)
        os.environ.setdefault("BENCHMARK_DATA", scratch)
        tiny = {"set": [TINY], "images": IMAGES[TINY], "epochs": 1, "imagenet_epochs": 1, "seeds": 1}
        vars(arguments).update({name: value for name, value in tiny.items() if name in vars(arguments)})
    return arguments


def run_or_show(
    script: str,
    arguments: argparse.Namespace,
    settings: Sequence[str],
    run: Callable[[Experiment], T],
    table: Callable[[ResultFile], str],
) -> T | None:
    """Run an experiment on Fashion-MNIST, or the made-up set, unless ``--table`` was given; then print all results.

    Args:
        script: its name.
        arguments: with ``images`` and the settings.
        settings: options that say which experiment it is.
        run: writes the result file.
        table: a result as Markdown.

    Returns:
        What ``run`` did.
    """
    experiment = Experiment(
        script=script,
        dataset=TINY if arguments.tiny else FASHION_MNIST,
        images=arguments.images,
        settings={name: getattr(arguments, name) for name in settings},
        machine=machine(),
        command=command(),
    )
    found = None if arguments.table else run(experiment)
    print(*map(table, read_results(script)), sep="\n\n")
    return found


def size(name: str, arguments: argparse.Namespace) -> int:
    """How many training images a set has under these options."""
    return arguments.images if name in (FASHION_MNIST, TINY) else IMAGES[name]


def of_recipe(
    script: str,
    name: str,
    recipe: str,
    budget: Budget,
    arguments: argparse.Namespace,
    recipes: Mapping[str, Method] = RECIPES,
    **own: Any,
) -> Experiment:
    """An experiment that lets victims learn from a set that a recipe protected.

    Args:
        script: its name.
        name: of the set.
        recipe: its name.
        budget: of the change.
        arguments: with ``epochs`` and ``seeds``.
        recipes: by name.
        own: fields that are the script's own, or otherwise than here.
    """
    usual: dict[str, Any] = {
        "dataset": name,
        "images": size(name, arguments),
        "method": recipes[recipe].name,
        "budget": str(budget),
        "ratios": (0.0, 1.0),
        "epochs": arguments.epochs,
        "victims": ("small-resnet",),
        "seeds": tuple(victim_seeds(arguments)),
        "machine": machine(),
        "command": command(),
    }
    return Experiment(script=script, recipe=recipe, **usual | own)


def victim_seeds(arguments: argparse.Namespace) -> range:
    """The first one is 101 in every benchmark, so that victims of clean images are shared."""
    return range(101, 101 + arguments.seeds)
