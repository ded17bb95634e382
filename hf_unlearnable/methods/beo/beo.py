"""BEO: raise the Bayes error of the protected data (arXiv 2511.08191)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from hf_unlearnable.information.estimates import MIXTURE, bayes_error_estimates, error_upper_bound
from hf_unlearnable.methods.beo.ascent import Ascent
from hf_unlearnable.methods.beo.embedding import HELD_OUT_SEED, Embedding
from hf_unlearnable.methods.beo.recipe import BEORecipe
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.models.surrogate import Network
from hf_unlearnable.progress import Progress
from hf_unlearnable.training.inference import accuracy, embed


@dataclass(frozen=True, kw_only=True)
class BEO(BEORecipe, name="beo"):
    """Move every image to where the classes of its neighbours contradict its own: projected gradient ascent.

    All images move jointly: the features of the whole set are computed, the gradient of ``bayes_error`` is taken with
    respect to them once, and pushed back through the embeddings batch by batch to the pixels.

    Two modes. ``"reference"``, the default, asks how the CLEAN images would vote on the protected ones (the clean twin
    has no vote), in several embeddings: a model of the clean images and one trained adversarially. It is made for
    mixtures: a protected image among clean ones of another class is a contradiction that a mixture keeps.
    ``"self"`` is the paper's: the protected images vote on one another, in an embedding that is trained anew on them;
    ``BEO.paper()`` has the authors' schedule.

    Args:
        mode: see above.
        kernel: of the votes, see ``bayes_error``.
        sigma: of the kernel: ``"likelihood"`` or ``"median"`` (see ``bandwidth``, on the features of the clean images),
            or a number as a fraction of the largest absolute value of the features.
        sigma_of: of which features a number is the fraction: ``"clean"``: of the clean images; ``"current"``: of the
            images as they are protected in every step, as the authors do.
        objective: see ``bayes_error``; ``"log-label"`` for the reference mode and ``"max"`` for the other if left out.
            ``"cross-entropy"`` is the control that the kernel has to beat: the same embeddings, each climbing the
            cross-entropy of its own classifier (untargeted PGD).
        steps: of the ascent.
        start: ``"uniform"``: at random in half the ball; ``"clean"``: with the clean images themselves, where many
            gradients vanish.
        first_step: as a fraction of the budget's radius; 2.5 / ``steps`` if left out.
        step_decay: what the step is multiplied by after 60 % of the steps; 1 keeps it constant.
        optimiser: ``"steepest"``: the sign of the gradient, or its direction under an L2 budget; ``"adam"``: Adam with
            ``first_step`` as its rate, on the gradients that the other takes, which are scaled image by image;
            ``"adamw"``: AdamW on the pixels themselves, and on the gradient of the sum over the images as it is.
        pixel_decay: the weight decay of ``"adamw"``: each step takes ``pixel_decay`` times its rate off every pixel.
        augment: crop and flip images at random in every step, differently for every image.
        robust: use adversarially trained embeddings beside the ordinary ones, trained with half the budget.
        epochs: passes over the images that train an embedding.
        stages: of a model's life, from each of which there is an ordinary embedding in the reference mode: trained for
            ``epochs``, a quarter of them, a quarter of those, and so on. With three, later protected images spoil
            a model of clean ones more surely on clothes at 16/255, photographs not (``examples/benchmarks/NOTES.md``).
        refresh: ``"never"``; ``"continue"``: train on for ``refresh_epochs`` on the protected images before every step;
            ``"retrain"``: the same from new weights. The self mode only.
        refresh_epochs: see ``refresh``.
        batch_size: images of a training step.
        learning_rate: of that training.
        training_augment: crop and flip images at random in that training.
        embedding_batch_size: images that are pushed through an embedding at once.
        reference_size: most rows that vote; a larger set votes by an evenly drawn sample, which is another problem
            where the kernel is narrow: with half of 60,000 voters the gradient keeps a cosine of 0.7 with the whole
            one's, with a sixth 0.4 (``examples/benchmarks/bayes_error_speed.py``).

    Raises:
        RecipeError: a sigma that is neither a rule nor a number above zero, or a rule with ``sigma_of="current"``.
    """

    citation = Paper(
        key="zhang2025provably",
        title="Towards Provably Unlearnable Examples via Bayes Error Optimisation",
        authors=("Zhang, Ruihan", "Sun, Jun", "Lim, Ee-Peng", "Zhang, Peixin"),
        year=2025,
        arxiv="2511.08191",
    )

    adaptive: ClassVar[str] = "jpeg:10"

    @classmethod
    def paper(cls, **changes: Any) -> BEO:
        """The recipe of the authors' experiments, at a budget of 8/255.

        From the clean images on, 190 steps of AdamW with a constant rate of 1e-3 on pixels in [0, 1], on the gradient
        of the sum over all images as it is (a mean would be N times as small, which Adam only forgives far above its
        epsilon of 1e-8), before each of which an embedding is trained from scratch for 30 epochs on the protected
        images, in batches of 128 without augmentation; RBF kernel, sigma 0.3 of the largest current feature, objective
        "max". Meant for ``Surrogate("resnet-18")``.

        Not known of the authors, and chosen here: AdamW's weight decay is the usual 0.01, and acts on the pixels (0.2 %
        of them in 190 steps); sigma is a constant for the gradient; embeddings are trained with the SGD of
        ``Training`` at a rate of 0.1, on images rounded to 8 bits, as they would be released. At another budget the
        rate grows with the radius.

        Args:
            changes: fields to set otherwise.
        """
        recipe: dict[str, Any] = {
            "mode": "self",
            "sigma": 0.3,
            "sigma_of": "current",
            "steps": 190,
            "start": "clean",
            "optimiser": "adamw",
            "first_step": 1e-3 * 255 / 8,
            "step_decay": 1.0,
            "robust": False,
            "epochs": 30,
            "refresh": "retrain",
            "refresh_epochs": 30,
            "batch_size": 128,
            "training_augment": False,
        }
        return cls(**{**recipe, **changes})

    @classmethod
    def describe(cls, findings: Mapping[str, Any]) -> str:
        """The estimates of the Bayes error, and a bound with what it assumes."""
        about = findings.get("bayes_error")
        if about is None:
            return ""
        lines = ["Estimated Bayes error (an estimate in one embedding, no bound on what a model can learn):"]
        for one in about["estimates"]:
            low, high = one["interval"]
            lines.append(
                f"  in {one['embedding']}, sigma {one['sigma']:.3g}: clean {one['clean']:.3f}, "
                f"protected {one['protected']:.3f} ({low:.3f} to {high:.3f}), half and half {one['mixture']:.3f}"
            )
        bound = about["upper_bound"]
        lines.append(
            f"  a classifier trained on half of the protected images errs on {bound['error']:.3f} of the other "
            f"{bound['images']}. Were these independent of it, the Bayes error would be at most "
            f"{bound['upper_bound']:.3f} (confidence {bound['confidence']:.0%}); "
            f"all were perturbed jointly, so they are not"
        )
        return "\n".join(lines)

    def run(self, task: Task) -> None:
        """Train the embeddings, then ascend."""
        kinds = [(surrogate, *kind) for surrogate in task.surrogates for kind in self.embeddings()]
        ascent = Ascent(self, task)
        ascent.start()
        embeddings = [Embedding(self, task, number, *kind) for number, kind in enumerate(kinds)]
        count = len(task.images)
        with Progress(
            f"{self.name}: ascent", self.steps * count, unit="image", done=ascent.done * count, enabled=task.progress
        ) as bar:
            while ascent.done < self.steps:
                step = ascent.done
                if self.mode == "self" and self.refresh != "never":
                    for embedding in embeddings:
                        embedding.refresh(step + 1)
                slopes = [embedding.feature_gradient(step) for embedding in embeddings]
                pulled = [
                    embedding.pixel_gradients(slope, step) for embedding, slope in zip(embeddings, slopes, strict=True)
                ]
                for part in zip(*pulled, strict=True):
                    rows = part[0][0]
                    ascent.step(rows, torch.stack([gradient for _, gradient in part]).sum(dim=0), step)
                    bar.advance(len(rows))
                ascent.done += 1
                task.checkpoints.tick()
        task.findings["bayes_error"] = self._findings(task, embeddings)

    def _findings(self, task: Task, embeddings: list[Embedding]) -> dict[str, Any]:
        """Estimates where the ascent took place and in an embedding that had no part in it."""
        protected, surrogate = task.protected(), task.surrogates[0]
        training, seed = self.training(self.epochs), self.seed + HELD_OUT_SEED
        held_out = task.train(surrogate, task.images, training, seed, f"{self.name}: held-out embedding")
        order = np.random.default_rng(seed).permutation(len(protected))
        learned, unseen = (protected.select(part) for part in np.array_split(order, 2))
        classifier = task.train(surrogate, learned, training, seed + 1, f"{self.name}: held-out classifier")
        several: dict[str, tuple[Network, float | None]] = {str(one): (one.network, one.sigma) for one in embeddings}
        several[f"{surrogate} trained on clean images, held out"] = (held_out, None)
        device, size = task.accelerator.device, self.embedding_batch_size
        features = {
            name: tuple(task.shard.gather(embed(network, images, device, size)) for images in (task.images, protected))
            for name, (network, _) in several.items()
        }
        sigmas = {name: sigma for name, (_, sigma) in several.items()}
        wrong = (1 - accuracy(classifier, unseen, device, size)) * len(unseen)
        seen = task.shard.sum(torch.tensor([wrong, len(unseen)], device=device, dtype=torch.float64)).tolist()
        return {
            "estimates": bayes_error_estimates(task.shard.labels, features, sigmas, kernel=self.kernel),
            "upper_bound": error_upper_bound(seen[0] / seen[1], int(seen[1])),
            "mixtures": MIXTURE,
        }
