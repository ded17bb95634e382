"""What a version freezes stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_unlearnable import DataError, RecipeError, Surrogate, Training
from hf_unlearnable.benchmark import protocol
from hf_unlearnable.benchmark.datasets import pinned_sets
from hf_unlearnable.benchmark.protocol import DATASETS, THIEVES, canonical, protocol_digest
from hf_unlearnable.models.classical import CLASSICAL

PINNED = "1a1f3afa20621aa7a77c2ce3651b744c"

# Weights of a network for ten classes of colour images: what the names of victims stand for.
NETWORKS = {
    "linear": 30730,
    "mlp": 820874,
    "resnet-18": 11173962,
    "small-resnet": 78002,
    "small-vgg": 138554,
    "small-vit": 311338,
    "strided-resnet": 79962,
}


def test_what_the_protocol_freezes_has_not_changed():
    """If this fails, do not change the digest: leave v1 as it is, and add what is new as v2 (docs/protocol.md)."""
    assert protocol_digest("v1") == PINNED


@pytest.mark.parametrize("change", ["epochs", "thieves", "defence", "seeds", "training"])
def test_the_digest_sees_every_kind_of_change(change, monkeypatch):
    if change == "epochs":
        monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], epochs=61))
    elif change == "thieves":
        monkeypatch.setitem(THIEVES, "quick", THIEVES["quick"][:-1])
    elif change == "defence":
        monkeypatch.setitem(THIEVES, "quick", (*THIEVES["quick"][:-1], ("small-resnet", "sgd", "jpeg:11")))
    elif change == "seeds":
        monkeypatch.setattr(protocol, "SEEDS", (101, 102, 104))
    else:
        monkeypatch.setattr(Training, "named", lambda name, base: replace(base, label_smoothing=0.05))
    assert protocol_digest("v1") != PINNED


def test_the_networks_behind_the_names_have_not_changed():
    names = {victim for thieves in THIEVES.values() for victim, *_ in thieves} - set(CLASSICAL)
    with torch.random.fork_rng():
        built = {name: Surrogate(name).build(10, 3, 0) for name in sorted(names)}
    assert {name: sum(one.numel() for one in network.parameters()) for name, network in built.items()} == NETWORKS


def test_every_setting_is_written_out():
    told = canonical()
    first = told["datasets"][0]["thieves"][0]
    assert first["training"]["learning_rate"] == 0.05
    assert first["training"]["augment"] is True
    assert {"name": "jpeg", "quality": 10} in [thief["defence"] for thief in told["datasets"][0]["thieves"]]


def test_other_versions_are_refused():
    with pytest.raises(RecipeError, match="got the protocol 'v0'; expected v1, or none"):
        protocol_digest("v0")


def test_other_images_than_the_pinned_ones_are_refused(frozen):
    pinned_sets(DATASETS["squares"])
    with pytest.raises(DataError, match=r"the test images of squares with the digest .*; expected 0000"):
        pinned_sets(replace(DATASETS["squares"], test_digest="0000"))
