"""Make the picture of README: photographs clean, protected, and what was changed, amplified.

    python docs/make_picture.py    # writes docs/pictures/protected.png: a minute, once Debian's package is fetched

The photographs are four of Debian's package ``mate-backgrounds``; every class is one of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw, ImageFont

from hf_unlearnable import MIUE, Budget
from hf_unlearnable.data.debian import unpack_package

PACKAGE, INSIDE = "mate-backgrounds", "usr/share/backgrounds/mate/nature"
PHOTOGRAPHS = ("FreshFlower", "Garden", "LadyBird", "YellowFlower")
SIDE, CROPS, SHOWN = 224, 16, 4  # pixels of a crop, crops of a photograph, photographs in the picture
AMPLIFIED = 16
HERE = Path(__file__).parent


def crops(folder: Path) -> Dataset:
    """Cut squares from every photograph, at the size of a thumbnail."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for label, name in enumerate(PHOTOGRAPHS):
        photo = Image.open(folder / f"{name}.jpg").convert("RGB")
        side = min(photo.size) // 2
        for index in range(CROPS):
            left = (photo.width - side) // 2 if index == 0 else int(rng.integers(photo.width - side))
            top = (photo.height - side) // 2 if index == 0 else int(rng.integers(photo.height - side))
            crop = photo.crop((left, top, left + side, top + side))
            images.append(crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
            labels.append(label)
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(PHOTOGRAPHS))})
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


def picture(clean: list[Image.Image], protected: list[Image.Image]) -> Image.Image:
    """Lay them out: a line each for the clean images, the protected ones and the change."""
    gap, margin = 6, 132
    sheet = Image.new("RGB", (margin + len(clean) * (SIDE // 2 + gap), 3 * (SIDE // 2 + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for line, words in enumerate(("clean", "protected", f"the change,\n{AMPLIFIED} times")):
        draw.multiline_text((0, line * (SIDE // 2 + gap) + SIDE // 4 - 12), words, "black", font)
    for column, (before, after) in enumerate(zip(clean, protected, strict=True)):
        change = np.asarray(after).astype(np.int16) - np.asarray(before)
        amplified = Image.fromarray(np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8))
        for line, image in enumerate((before, after, amplified)):
            detail = image.crop((SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4))  # as large as it is: not resized
            sheet.paste(detail, (margin + column * (SIDE // 2 + gap), line * (SIDE // 2 + gap)))
    return sheet


def main() -> None:
    """Fetch the photographs, protect them, draw."""
    with tempfile.TemporaryDirectory() as scratch:
        data = crops(unpack_package(PACKAGE, Path(scratch)) / INSIDE)
    protect = MIUE(seed=0, epochs=120).fit(data, budget=Budget(8))
    shown = data.select([label * CROPS for label in range(SHOWN)])
    sheet = picture(list(shown["image"]), list(shown.map(protect)["image"]))
    target = HERE / "pictures" / "protected.png"
    target.parent.mkdir(exist_ok=True)
    sheet.save(target, optimize=True)
    print(f"{target}: {sheet.width}x{sheet.height}, {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
