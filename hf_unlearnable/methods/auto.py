"""Choose between methods by what thieves learn of each: the owner has clean images to test them on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from hf_unlearnable.data.image_set import hold_out_by_class
from hf_unlearnable.defences import Defence
from hf_unlearnable.files import allocate_memmap, chunks
from hf_unlearnable.methods.alternating.recipe import AlternatingRecipe
from hf_unlearnable.methods.base import Method, get_method
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.texture import Texture
from hf_unlearnable.models.surrogate import Surrogate
from hf_unlearnable.progress import renamed
from hf_unlearnable.settings import Count, Share
from hf_unlearnable.training.inference import accuracy
from hf_unlearnable.training.run import Training

THIEF_SEED = 5000  # apart from those of other methods' models and of victims
PASSES = 12  # about, of a thief over some thousand images


class Judge(NamedTuple):
    """A thief who tries a candidate.

    Attributes:
        model: by its name.
        training: by its name.
        defence: what is done to the protected images before.
        cost: of a pass, about, in epochs of a fit.
    """

    model: str
    training: str = "sgd"
    defence: str = "none"
    cost: float = 1.0

    @property
    def called(self) -> str:
        """In the findings."""
        return self.model if self.defence == "none" else f"{self.model} with {self.defence}"


@dataclass(frozen=True, kw_only=True)
class Auto(Method, name="auto"):
    """Run each candidate, let thieves train on what it protects, and keep the one that they learn least of.

    A share of the images of every class is held out from the thieves, and its clean form is what they are tested on.
    Which method protects best depends on the images: photographs are full of texture, graphics of flat colour. The
    thieves are a network, another one that sees coarsely, with and without JPEG, a model that sees nothing but
    directions, and somebody who knows the method and has the best attack on it (``Method.adaptive``). The quadratic
    mean of what they learn decides, in which the worst of them weighs most; the worst alone would not do, since it is
    often one whom no candidate stops, and then chance decides. The figures of all candidates stay in the findings. The
    cost is that of all candidates, and of a training of every thief for each, which is the same for any number of
    images that a pass or more is needed for: networks take patterns up after some hundred steps, and not before.

    The candidates are ``texture``, with drawn signs and with one, ``mi-ue``, and ``mi-ue:targeted_weight=0``, which is
    ``mi-ue`` without guides. Where guides know too little of the images for ``mi-ue`` to use them
    (``guide_accuracy``), both of its forms give the same bytes, and of greyscale images both of ``texture``: then one
    is tried, and the findings name the other as the same.

    Args:
        hold_out: the share of every class that the thieves are tested on, in [0, 1]; at least one image each.
        thief_steps: of a thief's training, at least: as many passes over the other images as make so many.
        epochs: passes of the candidates that make some; their own number where left out.
    """

    epochs: Count | None = None
    hold_out: Share = 0.2
    thief_steps: Count = 750

    adaptive: ClassVar[str] = "class-clusters:2"  # not tried on texture with one sign
    revision: ClassVar[Count] = 4  # of images among those of others, waves for one's own classes alone
    # New ones come last: a run of before goes on with those that it has not tried.
    candidates: ClassVar[tuple[str, ...]] = ("texture", "mi-ue", "mi-ue:targeted_weight=0", "texture:signs=one")
    judges: ClassVar[tuple[Judge, ...]] = (
        Judge("small-resnet"),
        Judge("strided-resnet", cost=0.4),
        Judge("strided-resnet", defence="jpeg:10", cost=0.4),
        Judge("mlp", "adamw", cost=0.1),
    )
    knowing: ClassVar[Judge] = Judge("strided-resnet", cost=0.4)  # with the best attack on the method

    def run(self, task: Task) -> None:
        """Try all, keep the best."""
        judged: dict[str, dict[str, float]] = {}
        same: dict[str, str] = {}
        findings: dict[str, Any] = {}
        patterns: list[torch.Tensor] = []
        best = torch.from_numpy(allocate_memmap(task.scratch / "best", task.images.pixels.shape, np.float32))
        progress = {"candidate": ""}
        saved = task.checkpoints.keep(
            "auto", lambda: {**progress, "judged": judged, "same": same, "findings": findings, "patterns": patterns}
        )
        kept = task.checkpoints.keep("auto: best", lambda: best)
        if saved is not None and kept is not None:
            judged, same, findings, patterns = (saved[key] for key in ("judged", "same", "findings", "patterns"))
            _copy(kept, best)
        for name in self.candidates:
            if name in judged or name in same:
                continue
            if saved is None or saved["candidate"] != name:  # else the checkpoint was written in the middle of it
                task.perturbations.zero_()
            progress["candidate"] = name
            trial = replace(task, findings={}, patterns=[])
            with task.checkpoints.passing():  # a later candidate may keep parts of the same names
                with renamed(_method_of(name).name, name):
                    self._candidate(name).run(trial)
                figures = self._judge(task, name)
            if not judged or together(figures) < min(map(together, judged.values())):
                _copy(task.perturbations, best)
                findings, patterns = dict(trial.findings), trial.patterns
            judged[name] = figures
            same |= dict.fromkeys(self._alike(name, trial), name)
            task.checkpoints.tick()
        _copy(best, task.perturbations)
        task.patterns.extend(patterns)
        chosen = min(judged, key=lambda name: together(judged[name]))
        about = {"chosen": chosen, "thieves": judged, "same": same, "chance": task.images.chance}
        task.findings.update({**findings, "auto": about})

    def _candidate(self, name: str) -> Method:
        method = replace(Method.parse(name), seed=self.seed)
        return replace(method, **{"epochs": self.epochs}) if self.epochs and hasattr(method, "epochs") else method

    def _alike(self, name: str, trial: Task) -> list[str]:
        """The candidates that give the bytes of one that was tried, given what became of it."""
        method = self._candidate(name)
        other: Method | None = None
        if isinstance(method, Texture) and not method.draws_signs(trial):
            other = replace(method, signs="one")
        elif isinstance(method, AlternatingRecipe) and not trial.findings.get("guides", {}).get("used", True):
            other = replace(method, targeted_weight=0.0)  # its guides turned out to know too little
        return [one for one in self.candidates if one != name and self._candidate(one) == other]

    def _judge(self, task: Task, name: str) -> dict[str, float]:
        """What each thief learns: the share of clean held-out images that it names right, in [0, 1]."""
        held = hold_out_by_class(task.images.labels, self.hold_out, np.random.default_rng(self.seed))
        if task.own_classes is not None:  # what they learn of other people's images is not asked
            held &= task.images.labels < task.own_classes
        protected, clean = task.protected().select(np.flatnonzero(~held)), task.images.select(np.flatnonzero(held))
        steps_of_a_pass = Training(epochs=1).iterations(task.count(protected))
        base, device = Training(epochs=math.ceil(self.thief_steps / steps_of_a_pass)), task.accelerator.device
        figures = {}
        for number, judge in enumerate(self._judges(name)):
            network = task.train(
                Surrogate(judge.model),
                protected,
                Training.named(judge.training, base),
                self.seed + THIEF_SEED + number,
                f"{self.name}: {judge.called} tries {name}",
                Defence.parse(judge.defence),
            )
            right = torch.tensor([accuracy(network, clean, device) * len(clean), len(clean)], device=device)
            named, asked = task.shard.sum(right).tolist()
            figures[judge.called] = named / asked
        return figures

    def _judges(self, name: str) -> list[Judge]:
        """Those of a candidate; the last has the best attack on its method, if there is one."""
        attack = _method_of(name).adaptive
        return [*self.judges, *([self.knowing._replace(defence=attack)] if attack else [])]

    def parts(self) -> Mapping[str, float]:
        """Those of the candidates, and of the thieves that try each: the most, since guides may turn out useless."""
        found: dict[str, float] = {}
        for name in self.candidates:
            method = self._candidate(name)
            found |= {name + part.removeprefix(method.name): cost for part, cost in method.parts().items()}
            found |= {f"{self.name}: {one.called} tries {name}": PASSES * one.cost for one in self._judges(name)}
        return found

    @classmethod
    def chosen(cls, findings: Mapping[str, Any]) -> list[str]:
        """The method of the candidate that was kept."""
        return [_method_of(findings["auto"]["chosen"]).name] if "auto" in findings else []

    @classmethod
    def describe(cls, findings: Mapping[str, Any]) -> str:
        """What was chosen, and by how much; then what the chosen method has to say."""
        if (about := findings.get("auto")) is None:
            return ""
        lines = [f"Chosen by what thieves learn of it (clean held-out images, chance {about['chance']:.0%}):"]
        for name, figures in about["thieves"].items():
            told = ", ".join(f"{thief} {share:.1%}" for thief, share in figures.items())
            told += f"; quadratic mean {together(figures):.1%}"
            lines.append(f"  {name}{' (chosen)' if name == about['chosen'] else ''}: {told}")
        for name, other in about.get("same", {}).items():  # versions before had no such candidates
            waves = issubclass(_method_of(name), Texture)
            why = (
                "images in grey or of one class carry one sign"
                if waves
                else "guides know too little of the images to be used"
            )
            lines.append(f"  {name}: the same as {other} here, since {why}")
        return "\n".join(filter(None, [*lines, _method_of(about["chosen"]).describe(findings)]))

    @classmethod
    def doubt(cls, findings: Mapping[str, Any]) -> str:
        """That of the method which was kept."""
        return " ".join(filter(None, (get_method(name).doubt(findings) for name in cls.chosen(findings))))


def _method_of(candidate: str) -> type[Method]:
    """The class of a candidate, which is named as ``Method.parse`` reads it."""
    return get_method(candidate.partition(":")[0])


def together(figures: Mapping[str, float]) -> float:
    """The quadratic mean of what thieves learn, in [0, 1]."""
    return math.sqrt(sum(share**2 for share in figures.values()) / len(figures))


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    for part in chunks(len(target), target.shape[1:]):
        target[part] = source[part].to(target.device)
