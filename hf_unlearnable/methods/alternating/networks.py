"""The networks that ``Alternating`` trains: surrogates that learn what is protected, guides that know what is clean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.task import Task
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.training.inference import accuracy
from hf_unlearnable.training.run import Training

GUIDE_SEED = 1000  # apart from the seeds of surrogates: a guide must not start from the weights of one

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Learner:
    """A surrogate in training: the network, its optimiser, and gradients for either side."""

    def __init__(self, recipe: AlternatingRecipe, task: Task, index: int) -> None:
        surrogate = task.surrogates[index % len(task.surrogates)]
        network = surrogate.build(len(task.images.names), task.images.pixels.shape[1], recipe.seed + index)
        optimiser = torch.optim.SGD(
            network.parameters(), recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.accelerator, self.micro_batches = task.accelerator, task.micro_batches
        self.network, self.optimiser = task.accelerator.prepare(network.train(), optimiser)

    def state_dict(self) -> dict[str, Any]:
        """Ready for ``torch.save``."""
        bare = self.accelerator.unwrap_model(self.network)
        return {"network": bare.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features in float32, so that losses are."""
        logits, features = self.network(images)
        return logits.float(), features.float()

    def gradient(self, loss: torch.Tensor, perturbations: torch.Tensor) -> torch.Tensor:
        """Of a loss with respect to perturbations, up to a positive factor; the graph is kept for ``backward``."""
        return torch.autograd.grad(self.scale(loss), perturbations, retain_graph=True)[0]

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """Large enough for float16, which would lose small gradients."""
        scaler = self.accelerator.scaler
        return loss if scaler is None else scaler.scale(loss)

    def backward(self, logits: torch.Tensor, labels: torch.Tensor, share: float = 1.0, *others: torch.Tensor) -> float:
        """Add the gradient of the cross-entropy on ``share`` of a batch, to that of ``others``, too; the loss."""
        loss = F.cross_entropy(logits, labels)
        self.micro_batches.backward(loss, share, inputs=[*self.network.parameters(), *others])
        return loss.item()

    def train_on(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """A step on a batch; the loss before it."""

        def attempt(parts: int) -> float:
            self.optimiser.zero_grad()
            total = 0.0
            for number, part in enumerate(self.micro_batches.split(len(images), parts, images.device), 1):
                with self.micro_batches.gathering(self.network, last=number == parts):
                    share = len(part) / len(images)
                    total += share * self.backward(self.forward(images[part])[0], labels[part], share)
            return total

        loss = self.micro_batches.attempt(attempt, len(images))
        self.optimiser.step()
        return loss

    def perturbation_gradient(
        self, loss_of: Loss, images: torch.Tensor, perturbations: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """The gradient of a loss of features, logits and labels with respect to perturbations (B, C, H, W)."""

        def attempt(parts: int) -> torch.Tensor:
            gradients = []
            for part in self.micro_batches.split(len(images), parts, images.device):
                own = perturbations[part].detach().requires_grad_()
                logits, features = self.forward(images[part] + own)
                gradients.append(self.gradient(loss_of(features, logits, labels[part]), own))
            return torch.cat(gradients)

        return self.micro_batches.attempt(attempt, len(images))


def learners_of(recipe: AlternatingRecipe, task: Task) -> list[Learner]:
    """In the order of their turns, each from weights of its own."""
    assert recipe.copies is not None  # settled
    return [Learner(recipe, task, index) for index in range(recipe.copies * len(task.surrogates))]


def guides_of(recipe: AlternatingRecipe, task: Task) -> list[Network]:
    """Classifiers of the clean images, trained and frozen; none where nothing is to be guided."""
    training = Training(epochs=recipe.guide_epochs, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate)
    guides: list[Network] = []
    wanted = recipe.guides * len(task.surrogates) if recipe.guided else 0
    for number in range(wanted):
        surrogate, seed = task.surrogates[number % len(task.surrogates)], recipe.seed + GUIDE_SEED + number
        guides.append(task.train(surrogate, task.images, training, seed, f"{recipe.name}: guide {number + 1}"))
        if number == 0:
            reached = task.shard.mean(accuracy(guides[0], task.images, task.accelerator.device))
            used = reached >= recipe.guide_accuracy
            task.findings["guides"] = {"accuracy": reached, "expected": recipe.guide_accuracy, "used": used}
            if not used:
                return []
    return guides


def targets_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """The other class that images are drawn towards: three on, modulo K; the next one where that is their own."""
    return (labels + (3 if classes > 3 else 1)) % classes
