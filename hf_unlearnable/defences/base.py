"""What every defence is: a frozen recipe that acts at up to six places of a thief's training."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_type_hints

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import WHITE, to_unit
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.pixels import split_alpha, to_array, to_image
from hf_unlearnable.data.reading import image_mode
from hf_unlearnable.defences.course import Course
from hf_unlearnable.defences.hooks import RETURNS, check_hooks
from hf_unlearnable.errors import DataError, RecipeError
from hf_unlearnable.models.surrogate import Network, Surrogate
from hf_unlearnable.registry import DEFENCES, Recipes
from hf_unlearnable.settings import Count, Seed, check_arguments, check_first, check_members, check_recipe

_defences: Recipes[Defence] = Recipes("defence", DEFENCES, lone=True)

Correction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LAST, PEAK = "last", "peak"
NONE = "none"  # the name of the only defence that does nothing
PRIVATE_SETTING = "a setting of the owner"


@dataclass(frozen=True, kw_only=True)
class Defence(ABC):
    """What a thief does against the protection, on top of an ordinary training.

    Pages and cards call it a countermeasure, which is what it is to the owner of the images: the two words name one
    thing. "Defence" is the literature's word.

    A further defence is one file with one subclass: a frozen keyword-only dataclass that gives its name in the class
    statement and overrides one hook or more (``image`` or ``prepare``, not both). ``Defence.parse``,
    ``available_defences`` and the command line then know it: a file in this folder at once; one of another package by
    an entry point of the group ``hf_unlearnable.defences`` with the defence's name, by ``load_plugin`` (``--plugin``),
    or simply when it is imported.

    Settings are checked against their annotations when a recipe is made (see ``settings.check_fields``), before any
    ``__post_init__`` of a subclass.

    Attributes:
        name: what it is called.
        figure: which accuracy of its training the thief ends up with: of the ``"last"`` epoch, or of the ``"peak"``.
        revision: to be raised whenever it does something else than before, so that victims that were kept of it are
            not taken for new ones.
        epochs_factor: how many times as long as others it trains, where it learns slowly: a training that was stopped
            before it came to anything would make the protection look better than it is.
        frozen: whether only the head of the network learns.

    Raises:
        RecipeError: a setting of another type than its annotation's, or out of its range, or no name; or, when a
            subclass is defined, both ``image`` and ``prepare``, nothing that a training would notice, or a name that is
            taken.
    """

    name: ClassVar[str]
    figure: ClassVar[Literal["last", "peak"]] = "last"
    revision: ClassVar[Count] = 1
    epochs_factor: ClassVar[Count] = 1
    frozen: ClassVar[bool] = False

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_first(cls)
        check_hooks(cls)
        if cls._overrides("image") and cls._overrides("prepare"):
            raise RecipeError(f"got a defence with both image and prepare: {cls}; expected one of them")
        if cls.figure not in (LAST, PEAK):
            raise RecipeError(f"got the figure {cls.figure!r} of {cls}; expected {LAST!r} or {PEAK!r}")
        check_members(cls, Defence)
        if cls.figure == PEAK and cls._overrides("held_out"):
            raise RecipeError(f"got a defence with held_out and the figure {PEAK!r}: {cls}; expected one of them")
        acts = cls._overrides(*RETURNS, "held_out") or cls.frozen or cls.figure != LAST or cls.epochs_factor > 1
        if name not in (None, NONE) and not acts:
            raise RecipeError(
                f"got the defence {name!r}, which does nothing: {cls}; expected it to override "
                f"one of {', '.join(RETURNS)}"
            )
        if name is not None:
            _defences.add(name, cls)
            cls.name = name

    def __post_init__(self) -> None:
        check_recipe(self)

    @check_arguments
    def apply(
        self, dataset: Dataset, *, seed: Seed = 0, image_column: str | None = None, label_column: str | None = None
    ) -> Dataset:
        """Turn a released dataset into what the thief trains on: to look at it, or for a training of one's own.

        Args:
            dataset: labelled images; all of one size where the defence looks at all of them together.
            seed: of random draws.
            image_column: may be left out when there is exactly one.
            label_column: likewise.

        Returns:
            The same rows with other images, which have no alpha, and its other columns.

        Raises:
            DataError: images of several sizes where one is needed, or anything else that ``ImageSet.read`` does not
                take.
            RecipeError: a defence that leaves the dataset as it is, and acts on batches or on the victim instead.
        """
        if (
            not self.acts_on_images
            and not self._overrides("prepare")
            and not self.corrects
            and type(self) is not _defences.get(NONE)
        ):
            where = "every batch: use its method batch" if self.acts_on_batches else "the training, not on images"
            raise RecipeError(f"got the defence {self}; expected one that changes a dataset. This one acts on {where}")
        columns = find_columns(dataset, image_column, label_column)
        decoded = ImageFeature(mode=image_mode(dataset, columns))  # whatever it was, such as files of an untyped table
        plain = dataset.with_format(None).cast_column(columns.image, decoded)
        # In memory: a cache file would lie beside the source.
        if self.acts_on_images:
            return plain.map(
                lambda image: {columns.image: to_image(self.changed(to_array(image)))},
                input_columns=[columns.image],
                keep_in_memory=True,
            )
        changed = self.corrected(self.prepare(ImageSet.read(dataset, columns), seed=seed), seed=seed).pixels
        if len(changed) != len(dataset):
            raise RecipeError(
                f"got the defence {self}, which makes {len(changed)} images of {len(dataset)}; expected one for each "
                f"row, which alone can be looked at in its place. A training takes it as it is"
            )

        def one(label: Any, index: int) -> dict[str, Any]:
            return {columns.image: to_image(changed[index])}

        return plain.map(one, with_indices=True, input_columns=[columns.label], keep_in_memory=True)

    def image(self, image: Image.Image) -> Image.Image:
        """Once, to every image as it was published, before it is resampled for the victim.

        Compressing what was shrunk would take more away than a thief loses who compresses at full size.

        Args:
            image: of mode L or RGB.

        Returns:
            Of the same size and mode, or one that Pillow turns into it.
        """
        return image

    def changed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What ``image`` makes of (C, H, W) pixels; alpha is left out.

        Raises:
            DataError: an image of another size or with another number of channels.
        """
        colour, _ = split_alpha(pixels)
        result = to_array(self.image(to_image(colour)))
        if result.shape != colour.shape:
            raise DataError(
                f"the defence {self} turned an image of {colour.shape} into {result.shape}; expected image to return "
                f"the same size and mode"
            )
        return result

    def prepare(self, images: ImageSet, *, seed: int = 0) -> ImageSet:
        """Once, before training: turn the whole training set into what the thief trains on.

        Where it is not overridden: what ``image`` makes of each.

        Args:
            images: the training set at the victims' resolution; it is left as it is.
            seed: of random draws.
        """
        if not self.acts_on_images:
            return images
        pixels = np.empty_like(images.pixels)
        for index, one in enumerate(images.pixels):
            pixels[index] = self.changed(one)
        return ImageSet(pixels, images.labels, images.names)

    def correction(self, images: ImageSet, *, seed: int = 0) -> Correction | None:
        """Once, before training: fit to the training set what is then done to every batch, before it is augmented.

        For what would be lost if its result were rounded to 8 bits, as that of ``prepare`` is.

        Args:
            images: the training set, as ``prepare`` left it.
            seed: of random draws.

        Returns:
            A function of images (B, C, H, W) in [0, 1] and labels (B,) that gives such images, which may lie outside
            [0, 1]; or None, which leaves them alone.
        """
        return None

    def corrected(self, images: ImageSet, *, seed: int = 0) -> ImageSet:
        """What ``correction`` makes of a training set, rounded to 8 bits: to look at it."""
        correct = self.correction(images, seed=seed)
        if correct is None:
            return images
        pixels = [
            (correct(seen, named) * WHITE).round().clamp(0, WHITE).to(torch.uint8)
            for seen, named in unit_chunks(images)
        ]
        return ImageSet(torch.cat(pixels).numpy(), images.labels, images.names)

    def course(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        images: ImageSet,
        clean: ImageSet | None,
        *,
        steps: int,
        seed: int,
    ) -> Course | None:
        """Once, before training: what goes along with it and may remember something, where ``batch`` may not.

        Args:
            network: as it starts, before it is moved to its device.
            optimiser: of one group of weights, without a schedule yet; the course may part the group.
            images: the training set, as ``prepare`` left it.
            clean: the ``clean_images`` that the thief has; None if it needs none.
            steps: of the training.
            seed: of random draws.
        """
        return None

    def start(self, victim: Surrogate) -> Surrogate:
        """Once, before training: the weights that the victim starts from."""
        return victim

    def batch(
        self, images: torch.Tensor, targets: torch.Tensor, network: Network, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """At every step, after the ordinary augmentation.

        Args:
            images: (B, C, H, W) in [0, 1].
            targets: (B, K) class probabilities.
            network: as trained so far; leave its weights, its statistics and its gradients alone.
            generator: of random draws, on the CPU.

        Returns:
            Images in [0, 1] and probabilities, of the same shapes.
        """
        return images, targets

    @property
    def clean_images(self) -> int:
        """How many clean labelled images the thief has of those that were protected: ``course`` is given them."""
        return 0

    @property
    def held_out(self) -> float:
        """The share of every class, in (0, 1), that the thief keeps back to pick the epoch by; 0 for the last one."""
        return 0.0

    @property
    def acts_on_images(self) -> bool:
        """Whether ``image`` does anything."""
        return self._overrides("image")

    @property
    def acts_on_batches(self) -> bool:
        """Whether ``batch`` does anything."""
        return self._overrides("batch")

    @property
    def corrects(self) -> bool:
        """Whether ``correction`` does anything."""
        return self._overrides("correction")

    @property
    def needs_network(self) -> bool:
        """Whether it acts on the training of a network, so that what is fitted in one go cannot use it."""
        return self._overrides("start", "batch", "course", "held_out") or self.figure == PEAK

    def require(self) -> None:
        """See that all is installed that it needs, before anything is trained; nothing more, if not overridden.

        Raises:
            RecipeError: something is not.
        """
        return

    @property
    def acts(self) -> bool:
        """Whether anything of the training is another for it; else only ``figure`` may be."""
        return self.frozen or self._overrides(*RETURNS, "held_out")

    @classmethod
    def _overrides(cls, *hooks: str) -> bool:
        """Whether the class does anything at one of these places."""
        return any(getattr(cls, hook) is not getattr(Defence, hook) for hook in hooks)

    @classmethod
    def parse(cls, text: str | Defence) -> Defence:
        """Read ``name``, ``name:value`` (of the first setting) or ``name:setting=value,setting=value``.

        For instance ``"none"``, ``"jpeg"``, ``"jpeg:50"``, ``"blur:kernel=5,sigma_low=1"``.

        Raises:
            RecipeError: no such defence or setting, or a value that it does not take.
            PluginError: the installed package that offers this defence cannot be used.
        """
        return text if isinstance(text, Defence) else _defences.parse(text)

    def __str__(self) -> str:
        """The text that ``parse`` reads: a number or name that comes first always, others where they were changed."""
        return self._written({field.name: _write(getattr(self, field.name)) for field in dataclasses.fields(self)})

    def public_name(self) -> str:
        """The text of ``str`` as anyone may read it: never a path or another local name.

        Numbers and choices among a few words are told, any other text is not. A class with a setting that holds a text
        which may be known overrides this.
        """
        types_of = get_type_hints(type(self))
        settings = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            told = value is None or isinstance(value, (bool, int, float)) or _is_choice(value, types_of[field.name])
            settings[field.name] = _write(value) if told else PRIVATE_SETTING
        return self._written(settings)

    def _written(self, settings: Mapping[str, str]) -> str:
        """The name with those settings that say something; ``settings`` holds the text of each."""
        fields = dataclasses.fields(self)
        changed = [field.name for field in fields if getattr(self, field.name) != field.default]
        # "jpeg:10" says more than "jpeg"; "ueraser-lite:False" does not say more than "ueraser-lite".
        always = [field.name for field in fields[:1] if not isinstance(getattr(self, field.name), bool)]
        written = list(dict.fromkeys([*always, *changed]))
        texts = [settings[name] if written == always else f"{name}={settings[name]}" for name in written]
        return ":".join([self.name, ",".join(texts)] if texts else [self.name])

    def as_dict(self) -> dict[str, Any]:
        """Name and settings, ready for JSON; and the revision from the second on."""
        revision = {"revision": self.revision} if self.revision > 1 else {}
        return {"name": self.name, **revision, **dataclasses.asdict(self)}


def public_defence(text: str) -> str:
    """What a defence may be called in public that is known as a text alone, as reports hold it.

    The class of its name decides. Where no class has that name, since the package that brought it is not installed,
    nobody knows what its settings mean: they are told if all are numbers or switches, and left out otherwise.

    Args:
        text: as ``str`` of a defence writes it.
    """
    try:
        return Defence.parse(text).public_name()
    except Exception:  # unknown here, or a class of another package that refuses with an error of its own
        name, _, settings = text.partition(":")
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        return "a countermeasure of the owner"
    plain = r"([A-Za-z]\w*=)?(-?\d+(\.\d+)?(e[+-]?\d+)?|true|false|none)"
    if settings and not all(re.fullmatch(plain, part, re.IGNORECASE) for part in settings.split(",")):
        return f"{name}: {PRIVATE_SETTING}"
    return text


def available_defences() -> list[str]:
    """The names that ``Defence.parse`` takes, those of installed plugins among them.

    Warns:
        UserWarning: for each plugin that cannot be used.
    """
    return _defences.names()


def unit_chunks(images: ImageSet, size: int = 4096) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All images as floats in [0, 1] with their labels, at most ``size`` at a time."""
    for start in range(0, len(images), size):
        pixels = np.ascontiguousarray(images.pixels[start : start + size])
        yield to_unit(torch.from_numpy(pixels)), torch.from_numpy(images.labels[start : start + size])


def _is_choice(value: object, kind: Any) -> bool:
    """Whether a value is one of the words that a setting's type lists, as ``Literal`` or in a union with one."""
    return value in get_args(kind) or any(_is_choice(value, part) for part in get_args(kind))


def _write(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
