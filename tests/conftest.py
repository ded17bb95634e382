"""Set-up of all tests."""

from __future__ import annotations

from helpers.environment import HUB

# isort: split
import uuid
from collections.abc import Iterator

import datasets
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from helpers.datasets import COLUMNS, FASHION_MNIST, make_dataset
from helpers.forked import begin
from helpers.loopback_hub import USER, LoopbackHub

from hf_unlearnable import EM, Budget, Protection, Surrogate
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.models.surrogate import Network

datasets.disable_progress_bars()


@pytest.fixture(scope="session", autouse=True)
def forks() -> None:
    """Before any test: where the app starts that process, all that is forked later keeps files in the app's folder."""
    begin()


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


@pytest.fixture
def name() -> str:
    """A repository that no other test knows: the clients remember which exist."""
    return f"{USER}/{uuid.uuid4().hex[:12]}"
