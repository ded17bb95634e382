"""What is done around every method's ``run``: reading, checking, keeping, enforcing the budget, writing."""

from __future__ import annotations

import functools
import hashlib
import operator
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.image_set import ImageSet, Originals, check_classes
from hf_unlearnable.data.reading import NAMED, Survey, image_mode
from hf_unlearnable.errors import DataWarning, option, some_of, warn
from hf_unlearnable.files import allocate_memmap, chunks, held, home_of, private_folder, scratch_folder
from hf_unlearnable.methods.labelling import Labelled, Labels, label
from hf_unlearnable.methods.others import OTHERS, OtherImages
from hf_unlearnable.methods.outcome import Outcome, share_copies
from hf_unlearnable.methods.task import Task
from hf_unlearnable.models.built_in import BUILT_IN
from hf_unlearnable.models.surrogate import Surrogate
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.layout import private_cache
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.protection.sample import compare_sample
from hf_unlearnable.protection.unchanged import told_unchanged
from hf_unlearnable.protection.verification import Verification
from hf_unlearnable.training.checkpoints import DESCRIPTION, MADE_LABELS, Checkpoints
from hf_unlearnable.training.micro_batches import MicroBatches
from hf_unlearnable.training.processes import Shard, from_main, gather_objects, run_on_all
from hf_unlearnable.version import versions


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """One call of ``Method.fit``, in one of its processes.

    Attributes:
        run: the method's.
        doubt: the method's.
        one_class: its own.
        recipe: its name and fields.
        seed: one of them.
        finest: the method's.
        output: an absolute path, or None for the cache.
        checkpoints: an absolute path, or None for no checkpoints.

    The others are those of ``Method.fit``, checked.
    """

    run: Callable[[Task], None]
    doubt: Callable[[Mapping[str, Any]], str]
    one_class: bool
    recipe: dict[str, Any]
    seed: int
    dataset: Dataset
    labels: Labels
    image_column: str | None
    label_column: str | None
    others: Dataset | None
    budget: Budget
    surrogates: tuple[Surrogate, ...]
    resolution: int | None
    finest: int
    on_unseen: str | None
    duplicates: str
    accelerator: Accelerator
    output: Path | None
    checkpoints: Path | None
    checkpoint_every: float
    cache: str
    progress: bool

    def protection(self) -> Protection:
        """Fit, or go on, or open what was fitted before; raises and warns like ``Method.fit``."""
        with self._alone():
            return self._fitted()

    def _fitted(self) -> Protection:
        if self.checkpoints is None:
            run_on_all(self.accelerator, self._outcome.check_free)
        check_classes(self._shard.labels, self._names, self.one_class)
        crafts = self._labelled.crafts(self.on_unseen, self.one_class)
        with ExitStack() as stack, _same_threads():
            scratch = run_on_all(self.accelerator, lambda: stack.enter_context(self._scratch()))
            survey, images = self._read(scratch)
            everything = self._originals(images)
            originals = everything.first(len(self.dataset))
            if self._beside is not None:
                self._beside.check_apart(everything)
            if self._shard.is_main:
                self._tell(originals)
            description = self._description(survey, images, originals)
            # Nothing is compared where nothing is kept, and foreign models would be loaded for their digests.
            conditions = {} if self.checkpoints is None else self._conditions(description, everything)
            kept = Checkpoints(self.checkpoints, conditions, self._shard, self.checkpoint_every)
            if (done := self._outcome.finished(kept)) is not None:
                return done
            run_on_all(self.accelerator, self._outcome.check_free)
            task = run_on_all(self.accelerator, lambda: self._task(images, kept, scratch))
            with torch.random.fork_rng(devices=_gpus(self.accelerator)):  # of what a model draws, such as dropout
                torch.manual_seed(self.seed + self._shard.rank)
                self._go_on(kept)
                self.run(task)
            run_on_all(self.accelerator, task.check_finite)
            findings = task.told() if self._beside is None else {**task.told(), OTHERS: len(self._beside)}
            description = replace(description, findings=findings)
            patterns = task.unseen_patterns() if crafts else None
            levels = self._levels(task, scratch)

            def written() -> Path:
                if self.duplicates == "share":
                    share_copies(levels, originals)
                verified = replace(description, verification=self._verify(levels, survey))
                if doubt := self.doubt(findings):
                    self._warn(doubt)
                return self._outcome.write(levels, originals, verified, patterns, scratch, kept)

            folder = from_main(self.accelerator, written)
            protection = Protection(folder)
            kept.finish(protection.digest)
            return protection

    @cached_property
    def _labelled(self) -> Labelled:
        return label(
            self.dataset,
            self.labels,
            self.image_column,
            self.label_column,
            seed=self.seed,
            one_class=self.one_class or self.others is not None,
            scratch=self._scratch,
            accelerator=self.accelerator,
            progress=self.progress,
        )

    @cached_property
    def _beside(self) -> OtherImages | None:
        return None if self.others is None else OtherImages.of(self.others, len(self.dataset), self.image_column)

    @property
    def _names(self) -> list[str]:
        """Of all classes: those of the dataset first, and those of other people's images behind them."""
        return [*self._labelled.classes.names, *(self._beside.names if self._beside else [])]

    @property
    def columns(self) -> Columns:
        """Of the dataset."""
        return self._labelled.columns

    @cached_property
    def _shard(self) -> Shard:
        numbers = self._labelled.numbers
        if self._beside is not None:
            numbers = np.concatenate([numbers, len(self._labelled.classes.names) + self._beside.numbers])
        return Shard(self.accelerator, numbers)

    @property
    def _outcome(self) -> Outcome:
        return Outcome(self.output, self.checkpoints)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other fits off the checkpoints; the folder is gone afterwards if it is new and nothing came of it."""
        if self.checkpoints is None:
            yield
            return
        new, kept = not self.checkpoints.exists(), self.checkpoints
        with ExitStack() as stack:

            def hold() -> None:
                there = kept.is_dir() and any(kept.iterdir())
                if not there or (kept / DESCRIPTION).exists():  # else somebody's folder, with other things in it
                    private_folder(kept)
                if self.accelerator.is_main_process:
                    stack.enter_context(held(kept))

            run_on_all(self.accelerator, hold)
            try:
                yield
            finally:
                with suppress(OSError):
                    if new:
                        kept.rmdir()

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """An empty folder, gone afterwards, on the disk where the result goes: who has room there has it for this too.

        Below the checkpoints if there are any, so that what a killed process leaves is found and removed by the next.
        """
        if self.output is None:
            private_folder(private_cache())
        if self.checkpoints is None:
            with scratch_folder(private_cache() if self.output is None else home_of(self.output), "fit") as temporary:
                yield temporary
            return
        folder = self.checkpoints / f"scratch-{self.accelerator.process_index}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, scratch: Path) -> tuple[Survey, ImageSet]:
        """What all images are like, and the pixels of those that this process owns."""
        shared = self._shard.rows
        numbers = None if self._shard.count == 1 else shared[shared < len(self.dataset)]
        own = run_on_all(self.accelerator, lambda: Survey.of(self.dataset, self.columns, numbers))
        survey = functools.reduce(operator.or_, gather_objects(self.accelerator, own))
        size = (self.resolution, self.resolution) if self.resolution else survey.working_size(self._largest_side)
        images = run_on_all(
            self.accelerator,
            lambda: ImageSet.read(
                self.dataset,
                self.columns,
                size=size,
                channels=survey.channels,
                scratch=scratch,
                numbers=numbers,
                progress=self.progress,
            ),
        )
        if self._beside is not None:
            read = functools.partial(self._beside.read_behind, images, shared, scratch)
            images = run_on_all(self.accelerator, read)
        # Made labels are no part of what images are recognised by: ``read`` has put them down as one class.
        images = replace(images, labels=self._shard.labels[shared], names=self._names)
        return survey, images.to(self.accelerator.device) if self.cache == "device" else images

    @property
    def _largest_side(self) -> int:
        """The largest side at which perturbations are made where nobody has said so."""
        return max([self.finest, *(surrogate.image_size for surrogate in self.surrogates)])

    def _originals(self, images: ImageSet) -> Originals:
        """What is known of the images of all processes, in the order of the dataset."""
        own, shard = images.originals, self._shard
        assert own is not None
        if shard.count == 1:
            return own
        told = [part.view(np.uint8).reshape(len(part), -1) for part in (own.digests, own.contents)]
        parts = [torch.from_numpy(part).to(self.accelerator.device) for part in (*told, own.sizes)]
        digests, contents, sizes = (shard.gather(part).cpu().numpy() for part in parts)
        conversions: Counter[str] = sum(map(Counter, gather_objects(self.accelerator, own.conversions)), Counter())
        kind = own.digests.dtype
        digests, contents = (np.ascontiguousarray(part).view(kind)[:, 0] for part in (digests, contents))
        return Originals(digests, contents, sizes, dict(sorted(conversions.items())))

    def _tell(self, originals: Originals) -> None:
        """Say which images change their mode, depth or colours: never silently."""
        if converted := originals.conversions:
            kinds = ", ".join(f"{count} from {change}" for change, count in converted.items())
            self._warn(
                f"{sum(converted.values())} of {len(self.dataset)} images cannot be released in the mode, depth or "
                f"colour profile that they have and are converted: {kinds}"
            )
        if self.duplicates == "apart" and len(several := originals.several_labels):
            named = some_of(several.tolist(), NAMED)
            self._warn(
                f"{len(several)} rows hold images that are there with another label too: {named}. Each copy gets a "
                f"perturbation of its own, and the mean of two copies takes about a third of the change out. Keep one "
                f"copy of each, or give all the same perturbation: {option('duplicates', 'share')}"
            )

    def _levels(self, task: Task, scratch: Path) -> NDArray[Any]:
        """The perturbations of the dataset as the main process writes them; an empty array in all others."""
        shape, is_main = task.images.pixels.shape[1:], self._shard.is_main
        whole = (len(self._shard.labels), *shape)
        levels = run_on_all(
            self.accelerator,
            lambda: allocate_memmap(scratch / "levels", whole, self.budget.dtype) if is_main else None,
        )
        self._shard.write(task.levels, levels, shape)
        return np.empty((0, *shape), self.budget.dtype) if levels is None else levels[: len(self.dataset)]

    def _verify(self, levels: NDArray[Any], survey: Survey) -> Verification:
        verified, unchanged = compare_sample(self.dataset, self.columns, levels, self.budget, survey)
        if unchanged:
            self._warn(told_unchanged(self.dataset, self.columns.image, unchanged, self.recipe, verified.images))
        return verified

    @staticmethod
    def _warn(message: str) -> None:
        warn(message, DataWarning)

    def _description(self, survey: Survey, images: ImageSet, originals: Originals) -> Description:
        """What is known before the fit."""
        return Description(
            method=self.recipe,
            budget=self.budget,
            surrogates=tuple(str(surrogate) for surrogate in self.surrogates),
            columns=self.columns,
            image_mode=image_mode(self.dataset, self.columns),
            classes=self._labelled.classes,
            labels=self._labelled.how,
            image_shape=images.pixels.shape[1:],
            image_sizes=str(survey),
            largest_image=int(originals.sizes.prod(axis=1).max()),
            resampled=int((originals.sizes != images.pixels.shape[2:]).any(axis=1).sum()),
            conversions=originals.conversions,
            images=len(self.dataset),
            versions=versions(),
        )

    def _weights(self, surrogate: Surrogate, classes: int, channels: int) -> str | None:
        """A digest of the weights that a model of somebody else comes with; its name says nothing about them."""
        if str(surrogate) in BUILT_IN:
            return None
        hashed = hashlib.blake2b(digest_size=16)
        surrogate.build(classes, channels, self.seed).feed(hashed)
        return hashed.hexdigest()

    def _conditions(self, description: Description, originals: Originals) -> dict[str, Any]:
        """What the bytes of the result depend on: a fit cannot go on where one of these is another."""
        channels, classes = description.image_shape[0], len(description.classes.names)
        digests = np.ascontiguousarray(originals.digests).view(np.uint8)
        counted = ("format", "images")  # follow from the data
        return {
            **{name: value for name, value in description.as_dict().items() if name not in counted},
            "data": hashlib.blake2b(digests.data, digest_size=16).hexdigest(),
            **({MADE_LABELS: made} if (made := self._labelled.made) else {}),
            "surrogate weights": [self._weights(surrogate, classes, channels) for surrogate in self.surrogates],
            "on_unseen": "craft" if self._labelled.crafts(self.on_unseen, self.one_class) else "error",
            "duplicates": self.duplicates,
            "processes": self.accelerator.num_processes,
            "device": self.accelerator.device.type,
            "precision": self.accelerator.mixed_precision,
            "gradient accumulation": self.accelerator.gradient_accumulation_steps,
        }

    def _task(self, images: ImageSet, kept: Checkpoints, scratch: Path) -> Task:
        """With the perturbations as a checkpoint has them, or zero."""
        perturbations = torch.from_numpy(allocate_memmap(scratch / "working", images.pixels.shape, np.float32))
        if self.cache == "device":
            perturbations = torch.zeros(perturbations.shape, device=self.accelerator.device)
        saved = kept.keep("perturbations", lambda: perturbations)
        if saved is not None:
            for part in chunks(len(saved), saved.shape[1:]):
                perturbations[part] = saved[part].to(perturbations.device)
        return Task(
            images=images,
            budget=self.budget,
            surrogates=self.surrogates,
            accelerator=self.accelerator,
            perturbations=perturbations,
            scratch=scratch,
            shard=self._shard,
            checkpoints=kept,
            progress=self.progress,
            micro_batches=MicroBatches(self.accelerator),
            own_classes=len(self._labelled.classes.names) if self._beside else None,
        )

    def _go_on(self, kept: Checkpoints) -> None:
        """Bring what all networks share to where a checkpoint has it."""
        gpus = _gpus(self.accelerator)
        drawn = kept.keep(
            "randomness", lambda: (torch.get_rng_state(), [torch.cuda.get_rng_state(one) for one in gpus])
        )
        if drawn is not None:
            torch.set_rng_state(drawn[0])
            for gpu, state in zip(gpus, drawn[1], strict=True):
                torch.cuda.set_rng_state(state, gpu)
        if (scaler := self.accelerator.scaler) is not None:
            scale = kept.keep("scaler", scaler.state_dict)
            if scale is not None:
                scaler.load_state_dict(scale)


def _gpus(accelerator: Accelerator) -> list[torch.device]:
    return [accelerator.device] if accelerator.device.type == "cuda" else []


@contextmanager
def _same_threads() -> Iterator[None]:
    """Put the number of threads back to what it was: a fit that goes on takes that of the one that was stopped."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
