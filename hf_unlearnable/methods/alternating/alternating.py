"""The alternation that MI-UE and EM share: a surrogate learns the protected images, the perturbations answer it.

min over perturbations and surrogate in turn: the surrogate descends the cross-entropy on the protected images, as a
victim would; the perturbations descend the ``perturbation_loss`` of the method, and may be drawn towards another class
in the eyes of a guide, a model of the clean images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_unlearnable.errors import option
from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.alternating.schedules import PaperSchedule, SharedSchedule
from hf_unlearnable.methods.task import Task

LEARNED = 0.98  # of the protected images
ENOUGH = 1500  # steps of class patterns; on photographs they are learned after about 1,100, of few images or many
PASS = 4 / 3  # how long a pass of the alternation takes, in epochs of training: by the clock, at 64 pixels a side


@dataclass(frozen=True, kw_only=True)
class Alternating(AlternatingRecipe):
    """Surrogates and perturbations trained against one another.

    Two schedules. ``"shared"``, the default, first fits one pattern for each class, then the perturbation of every
    image from there on; one forward pass per batch of randomly cropped and flipped images makes a step of the
    surrogate and a step of what is fitted, seen through crop and flip: many small alternations. ``"paper"`` is the
    schedule of the authors of MI-UE: an epoch of the surrogate, then a pass in which every batch's perturbations
    take several steps against the frozen surrogate, unaugmented but for flips of the images.

    Step sizes are fractions of the budget's radius, so that one recipe serves every budget and norm.

    Args:
        schedule: see above.
        epochs: passes over the images, all together.
        pattern_share: of them, fit the patterns of the classes; in [0, 1], the shared schedule only.
        start: of the patterns. ``"zero"``; or ``"waves"``: those of ``texture``, and every image has the pattern of its
            class with a sign drawn for it (as many of each in a class), so that no direction tells the class and no
            projection takes the pattern out; but neither do networks see it that start with something linear on
            patches. There are no guides then, the passes that would fit single images are left out, and small sets are
            passed up to four times as often, until patterns have made 750 steps. The shared schedule only.
        copies: of each surrogate, which start from different weights and take turns: a pattern that only one of them
            takes up may leave a victim cold.
        batch_size: images of a surrogate's step, of all processes together.
        learning_rate: of the surrogate's SGD; decays by a cosine in the paper's schedule only, since an alternation
            needs a surrogate that keeps moving.
        momentum: of the surrogate's SGD.
        weight_decay: of the surrogate's SGD.
        pattern_momentum: of the steps of the patterns, on gradients of mean absolute value one.
        first_step: size of a perturbation step at the start, as a fraction of the radius; half of it for images whose
            pattern is there already.
        last_step: the same when all is done; linear in what is done before a step, which the paper's schedule counts
            in whole epochs.
        targeted_weight: of the pull towards another class (the label plus three, modulo K) in the eyes of a guide,
            beside the perturbation loss, both gradients at mean absolute value one; 0 for none. The shared schedule
            only. As in targeted adversarial poisoning (Fowl et al. 2021, arXiv 2106.10807): victims that fall back on
            what they know of the images then take one class for another, not most classes for what they are.
        guides: how many, built like each surrogate; they take turns, since what one alone sees is not what victims see.
        guide_epochs: passes over the clean images in which each is trained.
        guide_accuracy: the share of the clean images, in [0, 1], that the first of them must then name right; where it
            does not, there is no pull at all. Victims fall back on what is quickly learned of clean images; where that
            is little, as on textures, the pull takes more from the patterns than it gives.
        inner_steps: perturbation steps in a pass of the paper's schedule.
        perturbation_batch_size: images of such a step, of all processes together.
        gather_features: let the perturbation loss compare images of all processes, not only those of its own; for
            losses between images and many processes, at the cost of sending features around.
    """

    @classmethod
    def describe(cls, findings: Mapping[str, Any]) -> str:
        """Whether the guides know enough of the clean images to guide, and the surrogates the protected ones."""
        return " ".join(filter(None, [cls._of_guides(findings), cls._of_surrogates(findings)]))

    @staticmethod
    def _of_guides(findings: Mapping[str, Any]) -> str:
        guides = findings.get("guides")
        if guides is None:
            return ""
        told = f"Small models that learned the clean images name {guides['accuracy']:.0%} of them right"
        if guides["used"]:
            return f"{told}, and show where each image is to be moved."
        return (
            f"{told}, too few to show where each image is to be moved ({guides['expected']:.0%} are needed): the "
            f"images were protected without them."
        )

    @staticmethod
    def _of_surrogates(findings: Mapping[str, Any]) -> str:
        surrogates, guides = findings.get("surrogates"), findings.get("guides")
        if surrogates is None or surrogates["accuracy"] >= LEARNED:
            return ""
        if guides is not None and guides["used"]:  # they mislead in another way, and more passes gained nothing
            return ""
        return (
            f"The models that the change was fitted to name {surrogates['accuracy']:.0%} of protected images right: "
            f"they have not learned it to its end, so that others may not either. More passes protect better: "
            f"{option('epochs', surrogates['epochs_to_try'])}."
        )

    def parts(self) -> Mapping[str, float]:
        """Guides of one surrogate, class patterns and perturbations; nothing for the paper's schedule."""
        if self.schedule != "shared":
            return {}
        guides = self.guides if self.guided else 0
        patterns = round(self.pattern_share * self.epochs)
        return {
            **{f"{self.name}: guide {number + 1}": float(self.guide_epochs) for number in range(guides)},
            f"{self.name}: class patterns": PASS * patterns,
            f"{self.name}: perturbations": PASS * (self.epochs - patterns) * (self.start != "waves"),
        }

    def run(self, task: Task) -> None:
        """Optimise by the schedule."""
        if self.schedule == "paper":
            PaperSchedule(self, task).run()
        else:
            alternation = SharedSchedule(self, task)
            alternation.fit_patterns(round(self.epochs * self.pattern_share))
            alternation.fit_images(self.epochs - round(self.epochs * self.pattern_share))
            steps = math.ceil(len(task.shard.labels) / self.batch_size)
            enough = math.ceil(ENOUGH / (steps * self.pattern_share)) if self.pattern_share else 0
            task.findings["surrogates"] = {
                "accuracy": alternation.learned(),
                "epochs_to_try": max(2 * self.epochs, enough),
            }
