"""Make the picture and the table of ``docs/looks.md``: eight large photographs, clean and protected.

    python docs/make_looks.py    # writes docs/pictures/looks.jpg: some minutes of one core

The photographs are of Debian's packages, 1,680 to 5,640 pixels wide, and stand for two classes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw, ImageFont

from hf_unlearnable import Budget, Texture
from hf_unlearnable.data.debian import unpack_package

BACKGROUNDS = "usr/share/backgrounds"
SKY = {
    "mate-backgrounds": [f"{BACKGROUNDS}/mate/nature/Dune.jpg", f"{BACKGROUNDS}/mate/nature/Storm.jpg"],
    "plasma-workspace-wallpapers": ["usr/share/wallpapers/Kite/contents/images/2560x1600.jpg"],
    "lomiri-wallpapers-16.04": [f"{BACKGROUNDS}/sunset_by_Aitzol_Berasategi.jpg"],
}
NEAR = {
    "mate-backgrounds": [
        f"{BACKGROUNDS}/mate/nature/YellowFlower.jpg",
        f"{BACKGROUNDS}/mate/abstract/Elephants_5640x3172.jpg",
    ],
    "lomiri-wallpapers-16.04": [
        f"{BACKGROUNDS}/Dragonfly_by_Bolly.jpg",
        f"{BACKGROUNDS}/seeding_by_Clements_Engelhardt.jpg",
    ],
}
VARIANTS = {  # heading -> budget and resolution
    "at 64 px, the old default": (Budget(8), 64),
    "default": (Budget(8), None),
    "adaptive": (Budget(8, visibility="adaptive"), None),
}
WIDTH, HEIGHT, GAP, TOP = 400, 210, 4, 24  # pixels of one picture
HERE = Path(__file__).parent


def photographs(folder: Path) -> Dataset:
    """Fetch the packages and open the eight photographs as files."""
    for package in {**SKY, **NEAR}:
        unpack_package(package, folder)
    files = [[folder / file for files in packages.values() for file in files] for packages in (SKY, NEAR)]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["sky", "near"])})
    columns = {"image": [str(file) for part in files for file in part], "label": [0] * 4 + [1] * 4}
    return Dataset.from_dict(columns, features=features)


def on_screen(image: Image.Image) -> Image.Image:
    """As wide as a column, from a third of the height down."""
    shown = image.convert("RGB").resize((WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.LANCZOS)
    top = (shown.height - HEIGHT) // 6
    return shown.crop((0, top, WIDTH, top + HEIGHT))


def main() -> None:
    """Protect in every way, lay out, and print the table."""
    print(
        "| | PSNR, dB | colour difference | seconds to fit | to release a photograph |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as scratch:
        data = photographs(Path(scratch))
        columns = {"clean": [on_screen(image) for image in data["image"]]}
        for heading, (budget, resolution) in VARIANTS.items():
            began = time.process_time()
            protection = Texture().fit(data, budget=budget, resolution=resolution, progress=False)
            fitted = time.process_time()
            columns[heading] = [on_screen(protection.protect(row["image"], row["label"])) for row in data]
            released = (time.process_time() - fitted) / len(data)
            seen = protection.description.verification
            assert seen is not None
            figures = [f"{seen.psnr:.1f}", f"{seen.delta_e:.2f}", f"{fitted - began:.0f}", f"{released:.1f}"]
            print(f"| {heading} | {' | '.join(figures)} |", flush=True)
    picture = Image.new("RGB", (len(columns) * (WIDTH + GAP), len(data) * (HEIGHT + GAP) + TOP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for column, (heading, images) in enumerate(columns.items()):
        draw.text((column * (WIDTH + GAP), 2), heading, "black", font)
        for line, image in enumerate(images):
            picture.paste(image, (column * (WIDTH + GAP), TOP + line * (HEIGHT + GAP)))
    picture.save(HERE / "pictures" / "looks.jpg", quality=85, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
