"""What the protection of photographs was to reach against each thief, and what it reaches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import imagenet
from measured import EPOCHS, RECIPES, Measured, best_known, in_files, on_leaderboard
from result_files import ResultFile
from selection import many, of_each_fit
from tables import markdown, way
from wording import PATCHES, recipe_called

from hf_unlearnable.defences import Defence

CHANCE = 0.1
DEFAULT, BEFORE = "mi-ue-from-waves", "mi-ue-learned"
CLOSED_FORMS = "texture", "texture-one"
SET, LOOKED_AT, HELD_BACK = "photo-patches-4000", "photo-patches-2-4000", "photo-patches-5-4000"
CLOTHES = "fashion-mnist-3000"
BESIDE = [heading for recipe in CLOSED_FORMS for heading in (recipe_called(recipe), "fits x victims")]
FIGURES = ["fits x victims", "spread over fits, over victims", "clean"]


@dataclass(frozen=True)
class Target:
    """What a thief was to learn at most of 4,000 photo patches at 8/255, in shares of the clean test images.

    Attributes:
        thief: in words.
        victim: with the name of its training, as reports have it.
        defence: as ``Defence.parse`` reads it.
        most: at the last epoch.
        most_at_peak: at the best one, if that was asked for.
        half: at most half of the way from chance to what clean images teach the same thief, instead of ``most``.
        below: at least so much below what clean images teach, instead of ``most``.
        epochs: of an ordinary training of the measurement.
    """

    thief: str
    victim: str = "small-resnet"
    defence: str = "none"
    most: float = 1.0
    most_at_peak: float = 1.0
    half: bool = False
    below: float = 0.0
    epochs: int = EPOCHS

    @property
    def called(self) -> str:
        """The defence, as it is compared."""
        return self.defence if self.defence in imagenet.DEFENCES else str(Defence.parse(self.defence))

    @property
    def wants(self) -> bool:
        """Whether anything was asked for."""
        return self.half or self.below > 0 or self.most < 1

    @property
    def asked(self) -> str:
        """In words."""
        if self.half:
            return "half of the way"
        if self.below:
            return f"{100 * self.below:.0f} below clean"
        if not self.wants:
            return "to be told"
        return f"{100 * self.most:.0f}" + (f" ({100 * self.most_at_peak:.0f})" if self.most_at_peak < 1 else "")

    def ways(self, clean: float) -> list[float]:
        """What was asked for at the last epoch, and at the best one if that was, as shares of the way to clean."""
        if self.half:
            return [0.5]
        most = [clean - self.below if self.below else self.most, self.most_at_peak]
        return [way(one, clean, CHANCE) for one in most if one < 1]

    def verdict(self, own: Measured, asked: list[float] | None = None) -> str:
        """Whether figures are as low as was asked for, and by how many fits where only their mean is: ``", met"``.

        Args:
            own: the figures.
            asked: shares of the way to clean at most, where they are not those of the first photographs.
        """
        most = self.ways(own.clean.mean()) if asked is None else asked
        if not own or not self.wants or not within(own.ways, most):
            return ""
        met = [within(fit.ways, most) for fit in own.fits]
        return ", met" if all(met) else f", met (by {sum(met)} of {len(met)} fits)"

    def cells(self, own: Measured, asked: list[float] | None = None) -> list[str]:
        """Those of a measurement, the verdict behind the figures; arguments as of ``verdict``."""
        reached, *others = own.cells
        return [reached + self.verdict(own, asked), *others]


PLAIN = {"most": 0.18, "most_at_peak": 0.30}
TARGETS = (
    Target("small ResNet", **PLAIN),
    Target("small VGG", "small-vgg", **PLAIN),
    Target("ResNet with a 7x7 stem", "strided-resnet", **PLAIN),
    Target("a short training by AdamW", "small-resnet, short", **PLAIN),
    Target("a short training by SGD, 3 epochs", epochs=3),
    Target("four times as long", epochs=48, **PLAIN),
    Target("JPEG at quality 10", defence="jpeg:10", most=0.20),
    Target("JPEG at quality 50", defence="jpeg:50", most=0.20),
    Target("greyscale", defence="grayscale", most=0.20),
    Target("blur", defence="blur", most=0.20),
    Target("noise", defence="noise", most=0.20),
    Target("shrunk to half, and enlarged again", defence="resize:0.5", most=0.20),
    Target("small ViT", "small-vit, adamw", most=0.25),
    Target("MLP", "mlp, adamw", most=0.30),
    Target("a new head on a network of ImageNet, 3 epochs", defence="imagenet-probe", epochs=3, most=0.22),
    Target("that network fine-tuned, 3 epochs", defence="imagenet-fine-tune", epochs=3, most=0.22),
    Target("two bits of depth", defence="bitdepth:2", half=True),
    Target("orthogonal projection", defence="orthogonal-projection", half=True),
    Target("UEraser's light form", defence="ueraser-lite", half=True),
    Target("adversarial training", defence="adversarial:4", below=0.10),
    Target("who picks the epoch by a tenth that he holds out", defence="validation:0.1"),
    Target("who moves the weights by 100 clean images", defence="recovery:100"),
    Target("who knows the method (`class-clusters:1`)", defence="class-clusters:1"),
    Target("random features and ridge", "random-features"),
    Target("five nearest neighbours", "knn"),
)


ON_CLOTHES = (
    Target("small ResNet", most=0.20),
    Target("ResNet with a 7x7 stem", "strided-resnet", most=0.25),
    Target("a short training by AdamW", "small-resnet, short", most=0.30),
)


def within(reached: list[float], asked: list[float]) -> bool:
    """Whether shares of the way, at the last epoch and at the best one, are at most those that were asked for."""
    return all(one <= most for one, most in zip(reached, asked, strict=False))


def measured(target: Target, recipe: str) -> Measured:
    """What the thief of a target reaches of the photo patches: of several measurements that of most models."""
    sources = [*in_files(PATCHES, recipe, target.epochs), on_leaderboard(SET, recipe, target.epochs)]
    return best_known(sources, target.victim, target.called)


def learns(thief: str, recipe: str = DEFAULT) -> str:
    """What a thief of ``TARGETS`` learns of a recipe, and of clean images: ``"35.6 of 48.9"``."""
    return measured(next(one for one in TARGETS if one.thief == thief), recipe).in_prose


def table() -> str:
    """One row for each thief: what the default leaves it, or else the one before, and what closed forms do."""
    rows = []
    for target in TARGETS:
        own = measured(target, DEFAULT)
        thief = target.thief if own else f"{target.thief} (from nothing)"
        own = own or measured(target, BEFORE)
        others = _beside(measured(target, recipe) for recipe in CLOSED_FORMS)
        rows.append([thief, target.asked, *target.cells(own), *others])
    return markdown(["thief", "asked for", recipe_called(DEFAULT), *FIGURES, *BESIDE], rows)


def elsewhere(dataset: str) -> str:
    """How far up the default lets thieves of other photographs come: those who were measured there.

    What was asked for there is the share of the way that the targets of the first photographs are. Beside it stands
    what the closed forms leave.
    """
    rows = []
    for target in TARGETS:
        own, *others = (
            Measured.of(on_leaderboard(dataset, recipe, target.epochs), target.victim, target.called)
            for recipe in (DEFAULT, *CLOSED_FORMS)
        )
        if own:
            asked = target.ways(measured(target, DEFAULT).clean.mean())
            cells = target.cells(own, asked)
            rows.append([target.thief, _ways(asked), *cells, _ways(own.ways), *_beside(others)])
    return markdown(["thief", "asked for", recipe_called(DEFAULT), *FIGURES, "of the way", *BESIDE], rows)


def clothes() -> str:
    """What was asked for of Fashion-MNIST, where guides know the images, so that the recipe is that of 18 passes."""
    rows = []
    for target in ON_CLOTHES:
        own = Measured.of(on_leaderboard(CLOTHES, DEFAULT, target.epochs), target.victim, target.called)
        rows.append([target.thief, target.asked, *target.cells(own)])
    return markdown(["thief", "asked for", recipe_called(DEFAULT), *FIGURES], rows)


def _beside(others: Iterable[Measured]) -> list[str]:
    """What closed forms leave, under ``BESIDE``."""
    return [cell for one in others for cell in one.cells[:2]]


def _ways(shares: list[float]) -> str:
    """In per cent: of the last epoch and, in brackets, of the best one."""
    last, *peak = (f"{100 * one:.0f} %" for one in shares) if shares else ("to be told",)
    return f"{last} ({peak[0]})" if peak else last


def shares() -> str:
    """How far up from chance to clean images thieves get, of sets of photographs with more and more classes."""
    found: dict[tuple[str, str, str], list[ResultFile]] = {}
    for one in many("protection_strength", budget="linf:8", epochs=12):
        about = one.experiment
        if (about.dataset or "").startswith(PATCHES) and about.recipe in RECIPES:
            for victim in one.report.victims:
                found.setdefault((about.dataset or "", about.recipe, victim), []).append(one)
    rows = []
    for (dataset, recipe, victim), results in sorted(
        found.items(), key=lambda item: (-item[1][0].report.chance, item[0])
    ):
        own = Measured.of([one.report for one in of_each_fit(results)], victim)
        target = next(one for one in TARGETS if (one.victim, one.defence, one.epochs) == (victim, "none", 12))
        asked = target.ways(measured(target, DEFAULT).clean.mean())
        chance, reached = f"{100 * own.chance:.0f}", _ways(own.ways) + target.verdict(own, asked)
        rows.append([dataset, recipe_called(recipe), victim, chance, *own.cells, reached, _ways(asked)])
    return markdown(["set", "method", "thief", "chance", "protected", *FIGURES, "of the way", "asked for"], rows)
