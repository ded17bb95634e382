"""A thief who moves the weights of a network that is misled, by a few clean images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.defences.base import Defence, unit_chunks
from hf_unlearnable.defences.course import Course
from hf_unlearnable.models.augmentation import random_crop_flip
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.settings import Count, Positive, Rate

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Recovery(Defence, name="recovery"):
    """Train on the protected images, then move the weights a little by clean ones (Wang et al. 2025, arXiv 2405.03316).

    The attack on trained weights of the paper on provably unlearnable examples: SGD on clean labelled images that the
    thief has from elsewhere, after every step projected onto the L2 ball around the weights as trained,
    ``|w - trained| <= radius``, with all weights as one vector. Statistics of batch normalisation are no weights, and
    follow the clean images freely, as theirs do. Otherwise the recipe is theirs: 60 epochs, momentum 0.9, a cosine from
    0.01 to zero, weight decay 0.0005, gradients of at most 5. What differs:

    * Their clean images are the test set, or a fifth of the training set (10,000 of CIFAR-10): who has these has little
      use for protected ones. Here they are ``images`` of the originals, drawn class by class. What as many teach alone
      is the case "clean part alone" of a mixture that leaves as many clean.
    * Their program puts the weights on the sphere after every step, also those inside it; here these stay where they
      are. Their radius is 1, for a network of 11 million weights and many more steps. Where it is reached, it makes
      this thief weaker: ``small-resnet`` goes 2.6 to 2.8 of its own accord on a hundred images.
    * Random noise of the weights is left out, both as a search (they choose the best of a thousand by the test set,
      which no thief can) and as the certificate that they compute from it.

    Args:
        images: clean labelled images that the thief has.
        radius: how far the weights may move.
        epochs: passes over the clean images.
        learning_rate: of SGD at the start.
    """

    images: Count = 100
    radius: Positive = 3.0
    epochs: Count = 60
    learning_rate: Rate = 0.01

    @property
    def clean_images(self) -> int:
        """Those that it moves the weights by."""
        return self.images

    def course(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        images: ImageSet,
        clean: ImageSet | None,
        *,
        steps: int,
        seed: int,
    ) -> Course:
        """The ordinary training, and the move at its end."""
        assert clean is not None, "the training hands over as many as clean_images says"
        return _Move(self, network, clean, steps, seed)


class _Move(Course):
    """Moves the weights after the last step."""

    def __init__(self, settings: Recovery, network: Network, clean: ImageSet, steps: int, seed: int) -> None:
        self._settings, self._network, self._clean = settings, network, clean
        self._steps, self._seed = steps, seed

    def after_step(self, done: int) -> None:
        """Move, if it was the last one."""
        if done == self._steps:
            pixels, labels = (torch.cat(parts) for parts in zip(*unit_chunks(self._clean), strict=True))
            recover(self._network, pixels, labels, self._settings, torch.Generator().manual_seed(self._seed))


def recover(
    network: Network, pixels: torch.Tensor, labels: torch.Tensor, settings: Recovery, generator: torch.Generator
) -> None:
    """Projected SGD on (N, C, H, W) images in [0, 1] and their labels (N,), from the weights as they are."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    trained = [weight.detach().clone() for weight in weights]
    device = weights[0].device
    optimiser = torch.optim.SGD(weights, lr=settings.learning_rate, momentum=0.9, weight_decay=5e-4)
    steps = settings.epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            seen = random_crop_flip(pixels[rows].to(device), generator)
            loss = F.cross_entropy(network(seen)[0].float(), labels[rows].to(device))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 5.0)
            optimiser.step()
            schedule.step()
            project(weights, trained, settings.radius)


@torch.no_grad()
def project(weights: list[torch.nn.Parameter], centre: list[torch.Tensor], radius: float) -> None:
    """Move weights that are further than ``radius`` (L2, of all as one vector) from the centre back towards it."""
    moved = [weight - start for weight, start in zip(weights, centre, strict=True)]
    length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in moved]))
    if length > radius:
        for weight, start, one in zip(weights, centre, moved, strict=True):
            weight.copy_(start + one * (radius / length))
