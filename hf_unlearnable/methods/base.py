"""What every method is: a frozen recipe with one author-written step, ``run``."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, final

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.reading import labelled
from hf_unlearnable.errors import DataWarning, RecipeError, option, warn, worded
from hf_unlearnable.files import local_path, place_of
from hf_unlearnable.methods.fitting import Fitting
from hf_unlearnable.methods.labelling import AUTO, Labels
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.models.surrogate import Surrogate
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.registry import METHODS, Recipes
from hf_unlearnable.settings import (
    Count,
    NotNegative,
    Seed,
    Side,
    check_arguments,
    check_first,
    check_members,
    check_recipe,
)
from hf_unlearnable.training.processes import default_accelerator, ordinary_torch

AnySurrogate = Surrogate | str | PathLike[str] | nn.Module  # of transformers; arguments are checked without it

_methods: Recipes[Method] = Recipes("method", METHODS)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A recipe for perturbations: its fields are its configuration, and nothing fitted is kept in it.

    A further method is one file with one subclass: a frozen keyword-only dataclass that gives its name in the class
    statement and defines ``run``. ``available_methods``, the command line and the contract tests then know it: a file
    in this folder at once; one of another package by an entry point of the group ``hf_unlearnable.methods`` with the
    method's name, by ``load_plugin`` (``--plugin``), or simply when it is imported.

    Settings are checked against their annotations when a recipe is made (see ``settings.check_fields``), before any
    ``__post_init__`` of a subclass.

    Args:
        seed: of every random draw; the same seed, data and recipe on one machine give the same bytes.

    Attributes:
        name: what the method is called.
        citation: the paper that cards cite for it.
        uses_surrogates: whether it optimises against models; ``fit`` refuses to be given one where it does not.
        one_class: whether it can work on images of one class, without others to tell them from.
        adaptive: the best attack on itself that its author knows: a defence as ``Defence.parse`` reads it; empty where
            none is known. A benchmark runs it beside the defences that it runs against all methods.
        finest: the side in pixels of the square at which perturbations of larger images are made where ``fit`` is given
            no resolution. What is made at fewer pixels and enlarged shows as blotches in every smooth part.
        revision: to be raised whenever it does something else than before, so that benchmarks fit it anew.

    Raises:
        RecipeError: a setting of another type than its annotation's, or out of its range, or no name.
    """

    seed: Seed = 0

    name: ClassVar[str]
    citation: ClassVar[Paper | None] = None
    uses_surrogates: ClassVar[bool] = True
    one_class: ClassVar[bool] = False
    adaptive: ClassVar[str] = ""
    finest: ClassVar[int] = 128
    revision: ClassVar[Count] = 1

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_first(cls)
        check_members(cls, Method)
        if name is not None:
            _methods.add(name, cls)
            cls.name = name

    def __post_init__(self) -> None:
        check_recipe(self)

    @classmethod
    def parse(cls, text: str | Method) -> Method:
        """Read ``name`` or ``name:setting=value,setting=value``, such as ``"beo:mode=self,steps=40"``.

        Raises:
            RecipeError: no such method or setting, or a value that it does not take.
            PluginError: the installed package that offers this method cannot be used.
        """
        return text if isinstance(text, Method) else _methods.parse(text)

    @abstractmethod
    def run(self, task: Task) -> None:
        """Optimise ``task.perturbations`` in place; what leaves the budget here is brought back by ``fit``."""

    @classmethod
    def describe(cls, findings: Mapping[str, Any]) -> str:
        """Put in words, for people, what ``run`` left in ``Task.findings``; nothing if this is not overridden.

        Args:
            findings: as ``protection.json`` has them; those of an earlier version of the method may lack some.

        Returns:
            Lines of text; empty if there is nothing to say.
        """
        return ""

    @classmethod
    def doubt(cls, findings: Mapping[str, Any]) -> str:
        """What speaks against the result, so that ``fit`` warns of it; nothing if this is not overridden.

        Args:
            findings: what ``run`` left in ``Task.findings``.
        """
        return ""

    def parts(self) -> Mapping[str, float]:
        """The names of the progress bars of ``run``, in order, and about how long each takes, in epochs of training.

        Nothing if this is not overridden: every bar then stands alone.
        """
        return {}

    @classmethod
    def chosen(cls, findings: Mapping[str, Any]) -> list[str]:
        """The names of other methods that made the perturbations, by what ``run`` left; none if not overridden."""
        return []

    def default_surrogates(self, device: torch.device) -> tuple[Surrogate, ...]:
        """What ``fit`` uses when it is given no surrogate."""
        return (Surrogate.default(device),)

    def recipe(self) -> dict[str, Any]:
        """The fields and their values, ready for JSON."""
        return dataclasses.asdict(self)

    @final
    @check_arguments
    @ordinary_torch()
    def fit(
        self,
        dataset: Dataset,
        *,
        budget: Budget | str | float = Budget(8),
        surrogate: AnySurrogate | Sequence[AnySurrogate] | None = None,
        labels: Labels | str = AUTO,
        image_column: str | None = None,
        label_column: str | None = None,
        others: Dataset | None = None,
        resolution: Side | None = None,
        on_unseen: Literal["error", "craft"] | None = None,
        unlabelled: Literal["error", "drop"] = "error",
        duplicates: Literal["apart", "share"] = "apart",
        accelerator: Accelerator | None = None,
        output_dir: str | PathLike[str] | None = None,
        checkpoint_dir: str | PathLike[str] | None = None,
        checkpoint_every: NotNegative = 300.0,
        cache: Literal["disk", "device"] = "disk",
        progress: bool = True,
    ) -> Protection:
        """Fit a perturbation to every image of a dataset.

        Under ``accelerate launch`` all processes call this with the same arguments; each owns a part of the rows, and
        all get the same protection. Folders must be on a disk that all of them see.

        Args:
            dataset: one split with a column of images, of any sizes and modes (see ``pixels.released_mode``), and
                perhaps labels: a ``ClassLabel``, strings, booleans or whole numbers (see ``find_columns``), in any
                format.
            budget: how far an image may be moved; numbers are 8-bit levels, text as ``Budget.parse`` reads it.
            surrogate: the model or models to optimise against, anything that ``Surrogate`` takes; the method's own
                choice for the device when left out.
            labels: where the classes come from. ``"auto"``: from the label column; where there is none, all images are
                one owner's and one class, which only a method with ``one_class`` can protect. ``"none"``: one class,
                whatever columns there are. ``"clusters:10"``: ten classes of images that look alike, by their oriented
                gradients; ``"clusters:10,MODEL"``: by the features of an image classifier, a folder or Hub id;
                ``"clusters:10,simclr"``: by those that a small network learns from the images themselves.
                ``"captions:10,MODEL"``: by what a text model makes of the column of captions.
                ``"largest:objects"``: by the category of the largest object of an image, in a column of boxes and
                categories, or of masks: by the value with the most pixels. ``"frequent:tags"``: by the label that an
                image has most often, and of several the one that most images have. Without a label column ``"auto"``
                does the same, where there is exactly one column of objects, or else of lists of labels, and warns.
                Made labels stay in the description of the protection; the dataset keeps its columns.
            image_column: may be left out when there is exactly one.
            label_column: may be left out when there is exactly one.
            others: clean images of other people, with labels or without. Methods that tell classes apart can then
                protect images of one class: networks learn those of the others as further classes, which never move
                and are no part of the result.
            resolution: the side in pixels of the square at which perturbations are optimised; they are then resampled
                to the size of each image. When left out: the images' own size where they have one of at most
                ``finest`` pixels a side (or of the surrogate's ``image_size``, if that is more); else the smaller of
                that side and of the shorter side up to which half of all pixels lie, of an image at most that side
                squared. The time grows with its square.
            on_unseen: what the protection does with an image that was not in ``dataset``: ``"error"``, or ``"craft"``:
                it gets the perturbation that its class shares (see ``class_patterns``). For images added later, and for
                streams that are fitted on their first rows. An image that is protected already is such a one too, and
                gets a second change on top, up to twice the budget: protect originals alone. When left out:
                ``"craft"`` for one owner's images, if the method can protect those alone; else ``"error"``.
            unlabelled: what to do with rows whose label is null, NaN or -1: ``"error"`` names them, ``"drop"`` fits the
                others alone. The protection refuses them in either case: ``map`` cannot leave out a row.
            duplicates: what copies of one image with different labels get: ``"apart"``, a perturbation each, of which
                whoever has both copies can take a part out by their mean; or ``"share"``, that of the first copy.
            accelerator: device, precision and processes; a fresh one when left out.
            output_dir: where the private perturbations are written; a folder named by their digest in the cache of
                Hugging Face (``$HF_HOME/unlearnable``) when left out. They undo the protection: keep them private.
            checkpoint_dir: a folder in which the fit keeps what it needs to go on after it was killed: the same call
                then does, and ends with the same bytes (on a CPU, with the same number of processes). After a fit that
                came to its end the same call returns its result. Private, and yours to remove; nothing is kept if left
                out.
            checkpoint_every: seconds between two checkpoints.
            cache: where pixels and perturbations lie while they are fitted: ``"disk"``, memory-mapped, for sets of any
                size; ``"device"``: 5 bytes a value of every image on the accelerator, which saves the copying.
            progress: show bars.

        Returns:
            The callable for ``dataset.map``.

        Warns:
            DataWarning: images whose mode, depth or colour profile cannot be kept, with how many there are of each;
                rows that are left out; images with several labels; images that stay unchanged.

        Raises:
            DataError: columns, labels or images that cannot be protected.
            BudgetError: not a budget.
            RecipeError: an unusable surrogate or resolution, more processes than pairs of images, or
                ``on_unseen="craft"`` where the perturbations of a class share too little.
            SourceError: a surrogate, or a model that makes labels, that is not there.
            MissingExtraError: labels by clusters, and scikit-learn is not installed.
            CheckpointError: ``checkpoint_dir`` holds what is of another fit, or damaged.
            OutputError: ``output_dir`` holds something already.
            DivergenceError: the optimisation left the finite numbers.
        """
        accelerator = accelerator or default_accelerator()
        self.check(surrogate, others)
        source = Labels.parse(labels)
        found = source.found_in(dataset, label_column) if isinstance(dataset, Dataset) else source
        if unlabelled == "drop" and found.kind == AUTO:
            needs_label = not self.one_class and others is None
            columns = find_columns(dataset, image_column, label_column, needs_label=needs_label)
            dataset, left_out = labelled(dataset, columns)
            if left_out and accelerator.is_main_process:
                warn(f"{len(left_out)} rows without a label are left out", DataWarning)
        return Fitting(
            run=self.run,
            doubt=self.doubt,
            recipe={"name": self.name, **self.recipe()},
            seed=self.seed,
            dataset=dataset,
            one_class=self.one_class,
            labels=source,
            image_column=image_column,
            label_column=label_column,
            others=others,
            budget=Budget.parse(budget),
            surrogates=self._surrogates(surrogate, accelerator.device),
            resolution=resolution,
            finest=self.finest,
            on_unseen=on_unseen,
            duplicates=duplicates,
            accelerator=accelerator,
            output=None if output_dir is None else place_of(local_path(output_dir)),
            checkpoints=None if checkpoint_dir is None else local_path(checkpoint_dir).absolute(),
            checkpoint_every=checkpoint_every,
            cache=cache,
            progress=progress and accelerator.is_main_process,
        ).protection()

    @final
    def check(self, surrogate: AnySurrogate | Sequence[AnySurrogate] | None = None, others: object = None) -> None:
        """Refuse what ``fit`` would refuse of its arguments whatever the images are, before anybody looks at these.

        Args:
            surrogate: see ``fit``.
            others: see there; or their name.

        Raises:
            RecipeError: one that the method does not use, or an empty list.
            SourceError: a surrogate that is not there.
        """
        if others is not None and self.one_class:
            raise RecipeError(
                f"got images of others for the method {self.name!r}, which needs none to protect one class; leave "
                f"{worded(python='others', shell='--others')} out, or name a method that tells classes apart, such as "
                f"mi-ue"
            )
        given = surrogates_of(surrogate)
        if given and not self.uses_surrogates:
            raise RecipeError(
                f"got {option('surrogate', str(given[0]))} for the method {self.name!r}, which uses none; leave it out"
            )
        for one in given:
            one.require()

    def _surrogates(
        self, given: AnySurrogate | Sequence[AnySurrogate] | None, device: torch.device
    ) -> tuple[Surrogate, ...]:
        if given is None:
            return self.default_surrogates(device) if self.uses_surrogates else ()
        return surrogates_of(given)


def surrogates_of(given: AnySurrogate | Sequence[AnySurrogate] | None) -> tuple[Surrogate, ...]:
    """What ``fit`` was given, as a tuple; empty where it was given none.

    Raises:
        RecipeError: an empty list.
    """
    if given is None:
        return ()
    several: Sequence[AnySurrogate] = given if isinstance(given, (list, tuple)) else [given]  # type: ignore[list-item]
    if not several:
        raise RecipeError("got no surrogate; expected at least one, or None for the default")
    return tuple(Surrogate.of(one) for one in several)


def available_methods() -> list[str]:
    """The names that ``get_method`` and the command line take, those of installed plugins among them.

    Warns:
        UserWarning: for each plugin that cannot be used.
    """
    return _methods.names()


def get_method(name: str) -> type[Method]:
    """The class of a method by its name, such as ``"mi-ue"``.

    Raises:
        RecipeError: there is no such method.
        PluginError: the installed package that offers it cannot be used.
    """
    return _methods.get(name)


def find_method(name: str | None) -> type[Method] | None:
    """The class of a method by its name; None if there is none, or it is not installed here."""
    return None if name is None else _methods.find(name)


def find_paper(method: str | None) -> Paper | None:
    """The paper of a method by its name; None if it has none, or is not installed here."""
    kind = find_method(method)
    return None if kind is None else kind.citation


def methods_used(method: str, findings: Mapping[str, Any]) -> list[str]:
    """The names of a method and of those that it chose, which made the perturbations."""
    kind = _methods.find(method)
    return [method, *(kind.chosen(findings) if kind is not None else [])]


def describe_findings(method: str, findings: Mapping[str, Any]) -> str:
    """What a fit found out about its result, in the words of its method.

    Args:
        method: its name.
        findings: as ``protection.json`` has them.

    Returns:
        Lines of text; empty where there is nothing to say, or the method is not installed here.
    """
    kind = _methods.find(method)
    return "" if kind is None else kind.describe(findings)
