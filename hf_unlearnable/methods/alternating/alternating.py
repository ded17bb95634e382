"""The alternation that MI-UE and EM share: a surrogate learns the protected images, the perturbations answer it.

min over perturbations and surrogate in turn: the surrogate descends the cross-entropy on the protected images, as a
victim would; the perturbations descend the ``perturbation_loss`` of the method, and may be drawn towards another class
in the eyes of a guide, a model of the clean images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_unlearnable.errors import option, worded
from hf_unlearnable.methods.alternating.networks import guides_of
from hf_unlearnable.methods.alternating.paper_schedule import PaperSchedule
from hf_unlearnable.methods.alternating.recipe import OPEN, AlternatingRecipe
from hf_unlearnable.methods.alternating.shared_schedule import COMMON, IMAGES, PATTERNS, SharedSchedule
from hf_unlearnable.methods.task import Task

NAMED_RIGHT = 0.9  # of the protected images, by surrogates that have learned them
PASS = 4 / 3  # how long a pass of the alternation takes, in epochs of training: by the clock, at 64 pixels a side
UNTIL_LEARNED = 24  # passes, about, of some thousand images


@dataclass(frozen=True, kw_only=True)
class Alternating(AlternatingRecipe):
    """Surrogates and perturbations trained against one another.

    Two schedules. ``"shared"``, the default, first fits one pattern for each class, then perhaps the perturbation of
    every image from there on; one forward pass per batch of randomly cropped and flipped images makes a step of the
    surrogate and a step of what is fitted, seen through crop and flip: many small alternations. ``"paper"`` is the
    schedule of the authors of MI-UE: an epoch of the surrogate, then a pass in which every batch's perturbations
    take several steps against the frozen surrogate, unaugmented but for flips of the images.

    Settings that are None depend on whether guides know the images (``OPEN`` in ``recipe.py`` has both values). Where
    they do, as on graphics, twelve passes fit one pattern a class and six every image. Where they do not, as on
    photographs, or none are asked for, patterns begin at the waves of ``Texture``, are fitted until they are learned,
    and no image by itself; they move by squares and are seen through JPEG, so that other networks take them up and
    compression leaves them. Patterns of more than ten classes begin at random squares of half of the radius instead.

    Step sizes are fractions of the budget's radius, so that one recipe serves every budget and norm.

    Args:
        schedule: see above.
        epochs: passes over the images, all together. Without guides and left open: until the surrogates' loss on what
            is protected, over 64 steps, has come down to an eighth of what it is to know nothing (at most 1,500
            steps, 3,000 of twenty classes, 4,500 of forty, and so on), and once more, from other weights and with grey
            images in a quarter of the steps, where they are mostly colour, which greyscale would take away; networks
            take patterns up all of a sudden, after some hundred steps, whatever the number of images; patterns that are
            fitted longer turn into what compression rounds away.
        pattern_share: of the passes, fit the patterns of the classes; in [0, 1], the shared schedule only.
        variants: patterns of each class, at most; an image carries one of them, which is drawn, and each is carried by
            100 images or more. A single one is a direction, and goes with the directions that a projection takes
            out. The shared schedule only.
        copies: of each surrogate, which start from different weights and take turns: a pattern that only one of them
            takes up may leave a victim cold.
        grain: pixels a side of the squares that perturbations move by: what is coarse survives compression, scaling
            and networks that begin with a large stride.
        compressed: the share of the steps, in [0, 1], that see protected images as JPEG of a quality from 10 to 50
            leaves them; by Pillow, on the CPU.
        from_waves: begin patterns at waves of full strength, one for each, drawn from the seed and from the images as
            ``Texture`` does; else at nothing, and those of more than ten classes at squares. Left open, so do those,
            and where no pass fits patterns. The shared schedule only.
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
        """Whether the guides know enough of the clean images to guide, and the surrogates the protected ones.

        And whether every class has as many patterns as were asked for, and not only in colour.
        """
        told = (of(findings) for of in (cls._of_guides, cls._of_variants, cls._of_channels, cls._of_surrogates))
        return " ".join(filter(None, told))

    @classmethod
    def doubt(cls, findings: Mapping[str, Any]) -> str:
        """Patterns that were to be fitted until they are learned, and are not, or that are mostly colour.

        Who sets the passes has as many, and ``describe`` says what came of it.
        """
        if (surrogates := findings.get("surrogates")) is None or surrogates["epochs_to_try"] is None:
            return ""
        return " ".join(filter(None, (cls._of_channels(findings), cls._of_surrogates(findings))))

    @staticmethod
    def _of_variants(findings: Mapping[str, Any]) -> str:
        variants = findings.get("variants")
        if variants is None or variants["fewest"] == variants["expected"]:
            return ""
        return (
            f"A class, or more than one, has {variants['fewest']} of the {variants['expected']} patterns that were "
            f"asked for, since {variants['images']} images at least are to carry each."
        )

    @staticmethod
    def _of_channels(findings: Mapping[str, Any]) -> str:
        channels = findings.get("channels")
        if channels is None or channels["common"] >= channels["expected"]:
            return ""
        starts = channels.get("starts")  # of earlier versions unknown
        advice = {
            1: f" A fit of mi-ue or em without {worded(python='epochs', shell='--epochs')} begins anew where it ends "
            f"so.",
            2: f" A second start, which saw grey images, too, did not help; "
            f"{worded(python='Texture()', shell='--method texture')} makes no such changes.",
        }
        return (
            f"The change is mostly one of colour, which greyscale and strong compression take away: "
            f"{channels['common']:.0%} of its energy is in what red, green and blue share, and at least "
            f"{channels['expected']:.0%} should be.{advice.get(starts, '')}"
        )

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
        if surrogates is None or surrogates["accuracy"] >= NAMED_RIGHT:
            return ""
        if guides is not None and guides["used"]:  # they mislead in another way, and more passes gained nothing
            return ""
        more = surrogates["epochs_to_try"]
        advice = (
            f"More passes protect better: {option('epochs', more)}"
            if more
            else f"Leave {worded(python='epochs', shell='--epochs')} out, and the change is fitted until they have"
        )
        return (
            f"The models that the change was fitted to name {surrogates['accuracy']:.0%} of protected images right: "
            f"they have not learned it to its end, so that others may not either. {advice}."
        )

    def parts(self) -> Mapping[str, float]:
        """Guides of one surrogate, class patterns and perturbations; nothing for the paper's schedule."""
        if self.schedule != "shared":
            return {}
        recipe = self.settled(self.guided)
        patterns, images = recipe.passes
        guides = self.guides if self.guided else 0
        epochs = {
            **{f"guide {number + 1}": float(self.guide_epochs) for number in range(guides)},
            PATTERNS: PASS * (UNTIL_LEARNED if patterns is None else patterns),
            IMAGES: PASS * images,
        }
        return {f"{self.name}: {part}": count for part, count in epochs.items() if count}

    def run(self, task: Task) -> None:
        """Optimise by the schedule."""
        guides = guides_of(self, task)
        recipe = self.settled(bool(guides), task.classes)
        if recipe.schedule == "paper":
            PaperSchedule(recipe, task).run()
            return
        alternation = SharedSchedule(recipe, task, guides)
        patterns, images = recipe.passes
        alternation.fit_patterns(patterns)
        alternation.fit_images(images)
        alternation.leave_patterns()
        passes = alternation.passes_made
        settled = {name: getattr(recipe, name) for name in OPEN}
        task.findings["settings"] = {**settled, "epochs": recipe.epochs or passes}
        if patterns != 0 and not guides:  # what guides draw every image to is its own
            common, starts = alternation.common, alternation.starts
            task.findings["channels"] = {"common": common, "expected": COMMON, "starts": starts}
        task.findings["surrogates"] = {
            "accuracy": alternation.learned(),
            "epochs_to_try": 2 * passes if self.epochs is None else None,
        }
