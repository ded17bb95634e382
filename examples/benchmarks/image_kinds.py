"""What becomes of every kind of image, and what a 24-megapixel photograph costs.

    python examples/benchmarks/image_kinds.py            # the table (seconds)
    python examples/benchmarks/image_kinds.py --large    # and the large image, whose figures are kept

The table is made from what is read back of one image of every kind; nothing of it is kept.
"""

from __future__ import annotations

import io
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from common import command, machine, options, parse
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image, ImageOps
from result_files import Experiment, ResultFile

from hf_unlearnable import EM, Budget, Protection
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.pixels import split_alpha, to_array
from hf_unlearnable.data.reading import rows
from hf_unlearnable.version import versions

SCRIPT = Path(__file__).stem
COLUMNS = Columns("image", "label")
OWNER = "Ann Example"  # stands in the EXIF of every source that can have one


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    if mode in ("RGBA", "LA"):
        alpha = np.asarray(image)[:, :, 3].copy()
        alpha[: height // 2, : width // 2] = 0
        image.putalpha(Image.fromarray(alpha))
        return image.convert(mode)
    image = image.convert("RGB")
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.quantize(64) if mode == "P" else image.convert(mode)


def file(image: Image.Image, form: str, orientation: int = 1, **options: object) -> bytes:
    """The image as a file, with EXIF (owner, place and orientation) where the format takes it."""
    exif = Image.Exif()
    exif[0x8298], exif[0x0112] = OWNER, orientation  # copyright, orientation
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 30.0)  # GPS latitude
    stream = io.BytesIO()
    image.save(stream, form, **({} if form == "GIF" else {"exif": exif}), **options)
    return stream.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "L, PNG": lambda: file(picture(28, 28, "L"), "PNG"),
    "L, JPEG": lambda: file(picture(60, 44, "L"), "JPEG"),
    "LA, PNG": lambda: file(picture(50, 40, "LA"), "PNG"),
    "RGB, PNG": lambda: file(picture(32, 32), "PNG"),
    "RGB, JPEG": lambda: file(picture(120, 90), "JPEG"),
    "RGB, JPEG turned by EXIF": lambda: file(picture(90, 60), "JPEG", orientation=6),
    "RGB, PNG turned by EXIF": lambda: file(picture(90, 60), "PNG", orientation=8),
    "RGB, TIFF turned by EXIF": lambda: file(picture(90, 60), "TIFF", orientation=5),
    "RGB, WebP": lambda: file(picture(64, 80), "WEBP", quality=80),
    "RGB, TIFF": lambda: file(picture(70, 50), "TIFF"),
    "RGBA, PNG": lambda: file(picture(48, 48, "RGBA"), "PNG"),
    "RGBA, WebP": lambda: file(picture(48, 64, "RGBA"), "WEBP", lossless=True, exact=True),
    "RGB with a colour key, PNG": lambda: file(picture(40, 40), "PNG", transparency=(0, 0, 0)),
    "P, PNG": lambda: file(picture(40, 30, "P"), "PNG"),
    "P with a transparent colour, PNG": lambda: file(picture(40, 30, "P"), "PNG", transparency=3),
    "P, animated GIF": lambda: file(
        picture(30, 30, "P"), "GIF", save_all=True, append_images=[picture(30, 30, "P", seed=1)]
    ),
    "1, PNG": lambda: file(picture(33, 35, "1"), "PNG"),
    "I;16, PNG": lambda: file(picture(40, 40, "I;16"), "PNG"),
    "I;16, TIFF": lambda: file(picture(40, 40, "I;16"), "TIFF"),
    "CMYK, JPEG": lambda: file(picture(64, 48, "CMYK"), "JPEG"),
    "RGB, 5x4 pixels": lambda: file(picture(5, 4), "PNG"),
    "RGB, 900x20 pixels": lambda: file(picture(900, 20), "PNG"),
    "RGB, 800x600 pixels, JPEG": lambda: file(picture(800, 600), "JPEG"),
}
RELEASED = {  # of the kinds that cannot keep their mode
    "RGB with a colour key, PNG": "RGBA",
    "P, PNG": "RGB",
    "P with a transparent colour, PNG": "RGBA",
    "P, animated GIF": "RGB",
    "1, PNG": "L",
    "I;16, PNG": "L",
    "I;16, TIFF": "L",
    "CMYK, JPEG": "RGB",
}


def dataset() -> Dataset:
    """One row of every kind."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["even", "odd"])})
    sources = [
        {"image": {"bytes": make(), "path": f"photos/{kind.split(',')[0]} {index}.source"}, "label": index % 2}
        for index, (kind, make) in enumerate(KINDS.items())
    ]
    return Dataset.from_list(sources, features=features)


def table(original: Dataset, released: Dataset, protection: Protection) -> dict[str, dict[str, object]]:
    """One line a kind, from what was read back."""
    lines: dict[str, dict[str, object]] = {}
    stored = (side.cast_column("image", ImageFeature(decode=False)) for side in (original, released))
    for kind, source, result, before in zip(KINDS, *stored, rows(original, COLUMNS), strict=True):
        content, name = result["image"]["bytes"], result["image"]["path"]
        with Image.open(io.BytesIO(source["image"]["bytes"])) as image:
            mode, size = image.mode, ImageOps.exif_transpose(image).size
        with Image.open(io.BytesIO(content)) as image:
            colour, alpha = split_alpha(before.pixels)
            colour_after, alpha_after = split_alpha(to_array(image))
            lines[kind] = {
                "size": f"{size[0]}x{size[1]}",
                "size kept": image.size == size,
                "mode of the source": mode,
                "mode": image.mode,
                "file": image.format,
                "alpha untouched": None if alpha is None else np.array_equal(alpha, alpha_after),
                "EXIF gone": len(image.getexif()) == 0 and OWNER.encode() not in content,
                "name kept": name.rsplit(".", 1)[0] == source["image"]["path"].split("/")[-1].rsplit(".", 1)[0],
                "largest change": float(protection.budget.measure(colour[None], colour_after[None])[0]),
            }
    return lines


def large(width: int = 6000, height: int = 4000) -> ResultFile:
    """Protect a 24-megapixel JPEG among small images: time and memory of every part, in a process of its own."""
    budget = Budget(8)
    small, photograph = dataset(), file(picture(width, height), "JPEG", quality=90)
    row = {"image": {"bytes": photograph, "path": "large.jpg"}, "label": 0}
    data = Dataset.from_list([*small.cast_column("image", ImageFeature(decode=False)), row], features=small.features)
    figures: dict[str, object] = {}
    stages: dict[str, dict[str, float]] = {}

    def timed(what: str, work: Callable[[], object]) -> object:
        started = time.perf_counter()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        stages[what] = {"seconds": round(time.perf_counter() - started, 1), "peak_MiB_so_far": peak}
        return result

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timed("before", lambda: None)
        method, store = EM(epochs=4, batch_size=8), Path(folder) / "p"
        fit = partial(method.fit, data, budget=budget, output_dir=store, progress=False)
        protection: Protection = timed("fit", fit)
        only = data.select([len(data) - 1])
        image = only[0]["image"]
        timed("protect, decoded image", lambda: protection.protect(image, 0))
        released: Dataset = timed("release to PNG", lambda: protection.release(only))
        figures["PNG_MiB"] = round(
            len(released.cast_column("image", ImageFeature(decode=False))[0]["image"]["bytes"]) / 2**20, 1
        )
        figures["verification"] = timed("verify", lambda: protection.verify(only, released)).as_dict()
        figures["store_bytes_a_row"] = round((store / "perturbations.arrow").stat().st_size / len(data))
    experiment = Experiment(
        script=SCRIPT,
        dataset="image kinds",
        method=EM.name,
        recipe=EM.name,
        budget=str(budget),
        settings={"pixels": width * height},
        machine=machine(),
        command=command(),
    )
    return ResultFile(experiment, {"stages": stages, **figures, "versions": versions()})


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--large", action="store_true", help="protect a 24-megapixel image too")
    arguments = parse(parser)
    data = dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        protection = EM(epochs=4, batch_size=8).fit(data, progress=False)
    for image_format in ("png", "webp"):
        lines = table(data, protection.release(data, image_format=image_format), protection)
        print(f"\nreleased as {image_format}, budget {protection.budget}\n")
        print("| kind | " + " | ".join(next(iter(lines.values()))) + " |")
        print("| " + " | ".join(["---"] * (1 + len(next(iter(lines.values()))))) + " |")
        words = {True: "yes", False: "NO", None: "-"}
        for kind, line in lines.items():
            cells = (words[cell] if cell is None or isinstance(cell, bool) else f"{cell}" for cell in line.values())
            print(f"| {kind} | " + " | ".join(cells) + " |")
    if arguments.large:
        result = large(300, 200) if arguments.tiny else large()
        result.write()
        print(json.dumps(result.figures, indent=2))


if __name__ == "__main__":
    main()
