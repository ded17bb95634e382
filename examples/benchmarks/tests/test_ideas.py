"""The ideas against mixtures do what they say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from ascent import Ascent, wrong
from mixture_ideas import IDEAS

from hf_unlearnable import Budget, Surrogate
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.training.batches import load

FAST = {
    "steps": 2,
    "resnets": (1, 2),
    "vggs": (1,),
    "rounds": 3,
    "thief_epochs": 1,
    "thieves": 2,
    "kinds": ("small-vgg",),
}


@pytest.mark.parametrize("name", IDEAS)
def test_every_idea_climbs_within_the_budget(name, small):
    changes = {field: value for field, value in FAST.items() if hasattr(IDEAS[name], field)}
    protection = replace(IDEAS[name], **changes).fit(small, budget=Budget(8), progress=False)
    assert protection.about["verification"]["violations"] == 0
    assert protection.about["verification"]["unchanged"] == 0


def test_more_steps_climb_higher(small):
    network = Surrogate("small-resnet").build(3, 1, seed=1).eval().requires_grad_(False)

    def loss_after(steps):
        class OfOne(Ascent):
            name = "of-one"

            def run(self, task):
                self.begin(task)
                self.climb(task, [partial(wrong, network)], steps)

        released = small.map(OfOne().fit(small, budget=Budget(8), progress=False))
        protected = ImageSet.read(released, find_columns(released))
        rows = np.arange(len(protected))
        return float(wrong(network, *load(protected, rows, torch.device("cpu")), rows))

    losses = [loss_after(steps) for steps in (0, 5, 20)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] > losses[0] + 0.1
