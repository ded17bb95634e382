"""Set-up of all tests. The environment comes first: the Hugging Face clients read it when they are imported."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid

from loopback_hub import USER, WRITE_TOKEN, LoopbackHub

assert not {"huggingface_hub", "datasets", "transformers"} & set(sys.modules), "imported before their environment"
HUB = LoopbackHub().start()
os.environ["HF_ENDPOINT"] = HUB.url  # nothing here can reach the real Hub
os.environ["HF_TOKEN"] = WRITE_TOKEN
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"  # no answer of a server makes the clients fall back to LFS
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # would ask another host
os.environ["NO_PROXY"] = "127.0.0.1,localhost"
os.environ.pop("HF_HUB_OFFLINE", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # a core for each worker, and for what it starts
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CPU results are bit for bit the same; a GPU's need not be

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_from_disk
from datasets import Image as ImageFeature
from PIL import Image
from torch.nn import functional as F

from hf_unlearnable import EM, Budget, Protection, Surrogate
from hf_unlearnable.columns import Columns
from hf_unlearnable.images import ImageSet
from hf_unlearnable.surrogate import Network

ROOT = Path(__file__).parents[1]
COLUMNS = Columns("image", "label")
FASHION_MNIST = ROOT / "data" / "fashion-mnist"

datasets.disable_progress_bars()


def make_dataset(count: int = 48, channels: int = 1, side: int = 12, classes: int = 3, seed: int = 0) -> Dataset:
    """Images whose class is the position of a bright square on noise, with columns that must not be touched."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[: side // 2, label * side // classes : (label + 1) * side // classes] += 120
    features = Features(
        {
            "name": Value("string"),
            "image": ImageFeature(),
            "label": ClassLabel(names=[f"class {index}" for index in range(classes)]),
        }
    )
    columns = {
        "name": [f"row {index}" for index in range(count)],
        "image": [Image.fromarray(image[:, :, 0] if channels == 1 else image) for image in pixels],
        "label": labels.tolist(),
    }
    return Dataset.from_dict(columns, features=features)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """The loopback Hub without faults; a request that it does not understand fails the test."""
    HUB.forget()
    HUB.objects.clear()  # or equal images of another test would not be uploaded
    yield HUB
    assert HUB.unknown == []
    HUB.forget()


@pytest.fixture(scope="session")
def small() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="session")
def protection(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Protection:
    """A quickly fitted protection of ``small``."""
    folder = tmp_path_factory.mktemp("fitted") / "protection"
    return EM(epochs=6, batch_size=8).fit(small, budget=Budget(8), output_dir=folder, progress=False)


@pytest.fixture(scope="session")
def fashion() -> DatasetDict:
    """The real Fashion-MNIST, which ``make test`` puts there."""
    assert FASHION_MNIST.is_dir(), "run `make data/fashion-mnist` first; `make test` does"
    return load_from_disk(str(FASHION_MNIST))


@pytest.fixture(scope="module", params=[1, 3], ids=["greyscale", "colour"])
def images(request: pytest.FixtureRequest) -> ImageSet:
    """What the defences are shown."""
    return ImageSet.read(make_dataset(24, channels=request.param, side=16), COLUMNS)


@pytest.fixture(scope="module")
def colour() -> ImageSet:
    return ImageSet.read(make_dataset(24, channels=3, side=16), COLUMNS)


@pytest.fixture(scope="module")
def network() -> Network:
    """A model that has learned nothing, as a defence meets it at the first step."""
    return Surrogate("small-resnet").build(3, 1, seed=0).train()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(
    count: int = 6, channels: int = 1, side: int = 16, classes: int = 3, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and one-hot targets, as a defence gets them."""
    pixels = torch.rand(count, channels, side, side, generator=generator(seed))
    return pixels, F.one_hot(torch.arange(count) % classes, classes).float()


def pixels_of(dataset) -> np.ndarray:
    """All images of a dataset as one array, (N, H, W[, C])."""
    return np.stack([np.asarray(row["image"]) for row in dataset])


def make_output(folder: Path, data: Dataset, protection: Protection, origin: str, split: str = "train") -> Path:
    """What ``protect --output`` writes, with a protection that is there already."""
    protection.save_pretrained(folder / "private" / "protection")
    (folder / "private" / "origin.json").write_text(json.dumps({"dataset": origin, "split": split}))
    protected = data.map(protection)
    figures = protection.verify(data, protected).as_dict()
    (folder / "private" / "verification.json").write_text(json.dumps(figures))
    protected.save_to_disk(folder / "dataset")
    return folder


@pytest.fixture
def name() -> str:
    """A repository that no other test knows: the clients remember which exist."""
    return f"{USER}/{uuid.uuid4().hex[:12]}"
