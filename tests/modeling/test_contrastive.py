"""Features that are learned without labels."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from hf_unlearnable.models.classical import CLASSICAL
from hf_unlearnable.models.contrastive import TEMPERATURE, contrastive_features, simclr_loss


def stripes(count: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Images (N, 3, 16, 16) on noise: stripes across, stripes down, or none."""
    generator = torch.Generator().manual_seed(seed)
    labels = np.arange(count) % 3
    images = 0.3 * torch.rand(count, 3, 16, 16, generator=generator)
    images[labels == 0, :, ::4] += 0.6
    images[labels == 1, :, :, ::4] += 0.6
    return images.clamp(0, 1), labels


def test_the_loss_is_that_of_the_paper():
    projections = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    z, losses = F.normalize(projections, dim=1), []
    for i in range(6):
        j = (i + 3) % 6
        alike = [float(torch.exp(z[i] @ z[k] / TEMPERATURE)) for k in range(6)]
        losses.append(-np.log(alike[j] / (sum(alike) - alike[i])))
    assert np.isclose(float(simclr_loss(projections)), np.mean(losses), atol=1e-6)


def test_features_are_the_same_again_and_leave_the_global_draws_alone():
    images, _ = stripes(40, seed=0)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, again = (contrastive_features(images, seed=3, epochs=2)(images) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, again)
    assert not one.requires_grad
    assert not torch.equal(one, contrastive_features(images, seed=4, epochs=2)(images))


def test_a_thief_needs_labels_only_at_the_end():
    (images, labels), (test, wanted) = stripes(90, seed=0), stripes(60, seed=1)
    predict = CLASSICAL["simclr"]().learn(images, labels, 0)
    assert (predict(test) == wanted).mean() > 0.8
