"""Batches that do not fit a device: in parts, with the same gradient, and a word about it."""

from __future__ import annotations

import gc

import pytest
import torch
from accelerate import Accelerator
from helpers.datasets import make_dataset
from torch import nn
from torch.nn import functional as F

from hf_unlearnable import BEO, MIUE, DataWarning, RecipeError
from hf_unlearnable.modeling import SmallResNetForImageClassification
from hf_unlearnable.training.micro_batches import MicroBatches

DATA = make_dataset(30)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_add_up_to_the_gradient_of_the_batch(steps, parts):
    memory = MicroBatches(Accelerator())
    memory.accelerator.gradient_accumulation_steps = steps
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(11, 4, generator=generator), torch.arange(11) % 3
    layer = nn.Linear(4, 3)
    F.cross_entropy(layer(inputs), labels).backward()
    expected = layer.weight.grad.clone()
    layer.zero_grad()
    for part in memory.split(11, parts, inputs.device):
        memory.backward(F.cross_entropy(layer(inputs[part]), labels[part]), len(part) / 11)
    assert layer.weight.grad == pytest.approx(expected, abs=1e-6)
    memory.accelerator.gradient_accumulation_steps = 1


@pytest.fixture
def little_memory(monkeypatch):
    """A device on which a network takes no more than fifteen images."""
    gc.freeze()  # garbage is collected whenever memory runs out: what is imported need not be looked at each time
    features = SmallResNetForImageClassification.features

    def limited(self, pixel_values):
        if len(pixel_values) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return features(self, pixel_values)

    monkeypatch.setattr(SmallResNetForImageClassification, "features", limited)
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    "method",
    [
        MIUE(epochs=2, batch_size=16, targeted_weight=0),
        MIUE.paper(epochs=1, inner_steps=1, batch_size=16, first_step=0.5, perturbation_batch_size=9),
        BEO(steps=2, epochs=1, batch_size=16, embedding_batch_size=20),
    ],
    ids=["mi-ue", "paper", "beo"],
)
def test_a_full_device_is_told_and_survived(method, little_memory):
    with pytest.warns(DataWarning, match=r"ran out of memory .*in 2 parts"):
        protection = method.fit(DATA, progress=False)
    assert protection.about["verification"]["unchanged"] == 0


def test_what_fits_in_no_part_is_an_error(monkeypatch):
    def full(self, pixel_values):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(SmallResNetForImageClassification, "features", full)
    with pytest.warns(DataWarning), pytest.raises(RuntimeError, match="out of memory"):
        MIUE(epochs=1, batch_size=16, targeted_weight=0).fit(DATA, progress=False)


def test_other_errors_are_not_taken_for_a_full_device():
    def wrong(parts):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatches(Accelerator()).attempt(wrong, 64)


def test_processes_that_accelerate_does_not_know_of_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="one process where 2 were started"):
        MIUE(epochs=1).fit(DATA, accelerator=Accelerator(), progress=False)
