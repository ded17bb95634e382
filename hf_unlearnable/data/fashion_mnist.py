"""Fashion-MNIST (Xiao et al. 2017) from wherever it can be had: the real data of the demo and of the tests."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, load_dataset
from datasets import Image as ImageFeature
from huggingface_hub import HfApi
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.data.debian import unpack_package
from hf_unlearnable.data.made_once import made_once
from hf_unlearnable.errors import SourceError, first_line

HUB_ID = "zalando-datasets/fashion_mnist"

PACKAGE = "dataset-fashion-mnist"

INSTALLED = Path("usr/share/datasets/fashion-mnist")

CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]

FILES = {"train": "train", "test": "t10k"}


def fashion_mnist(folder: Path) -> DatasetDict:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images, 28x28 greyscale, ten classes.

    Args:
        folder: where it is kept once it was fetched: from the Hub when that is reachable, else from the Debian package.

    Raises:
        SourceError: neither could be had, or something else lies in the folder.
    """
    return made_once(folder, _fetch, "Fashion-MNIST")


def _fetch() -> DatasetDict:
    try:
        HfApi().dataset_info(HUB_ID, timeout=5)  # load_dataset would try for most of a minute
        return load_dataset(HUB_ID)
    except Exception as hub_error:  # the Hub's clients raise errors without a common base: whichever it was, it is told
        try:
            installed = Path("/") / INSTALLED
            if installed.is_dir():
                return _read(installed)
            with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as scratch:
                return _read(unpack_package(PACKAGE, Path(scratch)) / INSTALLED)
        except SourceError as debian_error:
            raise SourceError(
                f"Fashion-MNIST could be had neither from the Hub ({HUB_ID}: {first_line(hub_error)}) nor from Debian "
                f"({first_line(debian_error)}). Connect to one of them, or install the package: "
                f"apt-get install {PACKAGE}"
            ) from hub_error


def _read(folder: Path) -> DatasetDict:
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=CLASSES)})
    splits = {}
    for split, prefix in FILES.items():
        images = _idx(folder / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
        labels = _idx(folder / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
        rows = {"image": [Image.fromarray(image) for image in images], "label": labels.tolist()}
        splits[split] = Dataset.from_dict(rows, features=features)
    return DatasetDict(splits)


def _idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read the idx format: four bytes of type, a big-endian int32 for each dimension, then the bytes."""
    content = gzip.decompress(file.read_bytes())
    shape = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
