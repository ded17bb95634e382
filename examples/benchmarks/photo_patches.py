"""Look at a set of photo patches, or write it to a folder.

    python examples/benchmarks/photo_patches.py --output data/photo-patches     # writes a DatasetDict (train, test)
    python examples/benchmarks/photo_patches.py --set photo-patches-2 --contact-sheet sheet.png

The sets are made by ``hf_unlearnable/data/photo_patches.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image

from hf_unlearnable.data.photo_patches import build_dataset
from hf_unlearnable.data.photographs import PHOTO_SETS


def contact_sheet(data: Dataset, columns: int = 24) -> Image.Image:
    """Look at a set: one row of patches for each class."""
    names, rows = data.features["label"].names, data.with_format(None)
    labels = np.array(rows["label"])
    step = rows[0]["image"].width + 2
    sheet = Image.new("RGB", (columns * step, len(names) * step), "white")
    for label in range(len(names)):
        for place, row in enumerate(np.flatnonzero(labels == label)[:columns]):
            sheet.paste(rows[int(row)]["image"], (place * step, label * step))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=PHOTO_SETS, default="photo-patches")
    parser.add_argument("--output", type=Path, help="folder of the DatasetDict")
    parser.add_argument("--contact-sheet", type=Path, help="a PNG with some patches of every class")
    parser.add_argument("--photographs", type=Path, help="folder with CLASS.jpg of every class (default: the packages)")
    parser.add_argument("--train", type=int, help="patches; default: those of the set")
    parser.add_argument("--test", type=int, help="patches; default: those of the set")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = build_dataset(arguments.set, arguments.train, arguments.test, arguments.seed, arguments.photographs)
    if arguments.output:
        data.save_to_disk(arguments.output)
    if arguments.contact_sheet:
        contact_sheet(data["train"]).save(arguments.contact_sheet)
    print(f"{len(data['train'])} training and {len(data['test'])} test patches of {arguments.set}")


if __name__ == "__main__":
    main()
