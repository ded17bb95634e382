"""A fitted protection: the callable for ``dataset.map`` and the store of perturbations behind it.

The store undoes the protection (original = released - perturbation): it is private, and kept apart from what is
published.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Classes, Columns, find_columns, is_missing
from hf_unlearnable.data.pairing import aligned_pairs
from hf_unlearnable.data.pixels import check_format, colour_profile, digest, to_array, to_image
from hf_unlearnable.data.reading import leave_out
from hf_unlearnable.data.tables import check_alone, check_columns, images_and_labels_of, is_table, with_files
from hf_unlearnable.errors import DataError, DataWarning, SourceError, UnseenImageError, warn, worded
from hf_unlearnable.files import (
    atomic_folder,
    home_of,
    known_digest,
    local_path,
    make_private,
    require_empty,
    scratch_folder,
)
from hf_unlearnable.progress import counted
from hf_unlearnable.protection.arrays import ImportedNoise, Layout, Per, Scale, described
from hf_unlearnable.protection.class_patterns import FILE, check_patterns, pattern_for, read_patterns
from hf_unlearnable.protection.description import DESCRIPTION, Description, content
from hf_unlearnable.protection.documents import read_json
from hf_unlearnable.protection.layout import PROTECTION, private_cache
from hf_unlearnable.protection.lookup import describe_image, fitted_label, why_unseen
from hf_unlearnable.protection.releasing import AnyDataset, as_file, protect_as_it_came, release
from hf_unlearnable.protection.resample import resample_and_apply
from hf_unlearnable.protection.store import Store
from hf_unlearnable.protection.verification import Verification, compare
from hf_unlearnable.settings import check_arguments

STORE = "perturbations.arrow"


class Protection:
    """Adds to every image the perturbation that was fitted to it; pass it to ``dataset.map``.

    Images are recognised by their pixels and label, so any order, subset, batch or process will do:

        protected = dataset.map(protect)
        protected = dataset.shuffle().map(protect, batched=True, num_proc=4)

    Only the image column changes. Released images have the size and, where it can carry a perturbation, the mode of
    their originals (``pixels.released_mode``), no metadata but a colour profile, and are stored as PNG. ``release``
    keeps file names too, writes WebP where that is asked for, and bounds the memory that large images take.

    Later JPEG compression or resizing of released images takes a part of the protection away.

    Args:
        folder: where ``save_pretrained`` or ``Method.fit`` wrote it.
        image_format: of images that come as files, as in a column ``Image(decode=False)``, and go out as files:
            ``"png"`` or ``"webp"``, without loss.

    Raises:
        SourceError: the folder holds no protection, or a damaged one.
        RecipeError: another image format.
    """

    def __init__(self, folder: str | PathLike[str], *, image_format: str = "png") -> None:
        check_format(image_format)
        self.folder = local_path(folder).absolute()
        self.image_format = image_format
        self.count: Callable[[], object] = lambda: None  # called for every file; stays behind where it is pickled
        try:
            stored = read_json(self.folder / DESCRIPTION)
            self.description = Description.of(stored, repr(str(self.folder / DESCRIPTION)))
            # Before anything in the store is used: what Arrow reads from a damaged file can end the process.
            if known_digest(self.folder / STORE, content(stored)) != self.digest:
                raise DataError(f"{STORE} and {DESCRIPTION} are not as they were written; one of them has changed")
            self._store = Store(self.folder / STORE, self.budget.dtype, self.description.image_shape)
            if len(self._store) != self.description.images:
                raise DataError(
                    f"{STORE} has {len(self._store)} images; expected the {self.description.images} of {DESCRIPTION}"
                )
        except DataError as error:
            raise SourceError(
                f"the protection in {str(folder)!r} is damaged: {error}. Restore the folder from a copy, or fit again"
            ) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SourceError(
                f"got {str(folder)!r}; expected a folder with {DESCRIPTION} and {STORE}, as save_pretrained writes it"
            ) from error
        if self.description.patterns is not None:
            check_patterns(self.folder, self.description.patterns)

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str]) -> Protection:
        """Open what ``save_pretrained`` wrote; perturbations stay on disk, mapped into memory.

        Raises:
            SourceError: the folder holds no protection, or a damaged one.
        """
        return cls(folder)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Copy the protection to a folder that does not exist yet. Keep it private: it undoes the protection.

        Raises:
            OutputError: the folder holds something already.
            SourceError: this protection was damaged since it was opened; nothing is written.
        """
        _reopen(str(self.folder), self.digest, self.image_format)
        names = [STORE, DESCRIPTION, *([FILE] if self.description.patterns is not None else [])]
        with atomic_folder(local_path(folder), private=True) as scratch:
            for name in names:
                shutil.copyfile(self.folder / name, scratch / name)
            _reopen(str(scratch), self.digest, self.image_format)  # and the copy: what the disk made of it

    @classmethod
    @check_arguments
    def from_arrays(
        cls,
        noise: Any,
        dataset: Dataset,
        *,
        budget: Budget | str | float,
        layout: Layout | None = None,
        scale: Scale | None = None,
        per: Per | None = None,
        clip: bool = False,
        image_column: str | None = None,
        label_column: str | None = None,
        output_dir: str | PathLike[str] | None = None,
        progress: bool = True,
    ) -> Protection:
        """Take over perturbations that another tool made.

        What is not told is found out where there is one way to understand it: channels are the axis of one or three
        entries, whole numbers and those above 1 are levels, those below 0.5 are meant for images from 0 to 1.

        Args:
            noise: (N, H, W, C), (N, C, H, W) or (N, H, W), an array of numpy or a tensor, whole numbers or not; what is
                added to images. Other sizes than those of the images are resampled.
            dataset: the images, one row for each of ``noise``, in the same order.
            budget: that the perturbations keep; numbers are 8-bit levels.
            layout: ``"nchw"`` or ``"nhwc"``, where the shape does not tell.
            scale: 1 for images from 0 to 1, 255 for levels, where the numbers do not tell.
            per: ``"image"``, or ``"class"`` for one perturbation for each class, in the order of their numbers.
            clip: bring larger perturbations into the budget instead of refusing them.
            image_column: may be left out when there is exactly one.
            label_column: likewise; without labels all images are one class.
            output_dir: a private folder; one in the cache of Hugging Face, as for ``Method.fit``, when left out.
            progress: show a bar.

        Raises:
            DataError: perturbations that do not belong to these images, or are none.
            RecipeError: what may be understood in two ways.
            BudgetError: not a budget, or perturbations outside of it, with the largest that was found.
            OutputError: ``output_dir`` holds something already.
        """
        folder = None if output_dir is None else local_path(output_dir).absolute()
        if folder is not None:
            require_empty(folder)
        allowance, columns = Budget.parse(budget), find_columns(dataset, image_column, label_column, needs_label=False)
        given: dict[str, Any] = {"images": len(dataset), "classes": len(Classes.of(dataset, columns).names)}
        read = ImportedNoise.of(noise, **given, layout=layout, scale=scale, per=per)
        if not clip:
            read.check(allowance)
        with scratch_folder(private_cache() if folder is None else home_of(folder), "import") as scratch:
            description, batches = described(read, dataset, columns, allowance, scratch, progress=progress)
            (scratch / PROTECTION).mkdir(mode=0o700)
            made = cls.write(scratch / PROTECTION, batches, description)
            place = folder or private_cache() / made.digest
            if folder is not None or not is_kept(place, made.digest):
                made.save_pretrained(place)
        return cls(place)

    @classmethod
    def write(
        cls, folder: Path, batches: Iterable[tuple[NDArray[np.void], NDArray[Any]]], description: Description
    ) -> Protection:
        """Write a protection to ``folder``, which must exist and hold none.

        Args:
            folder: where to.
            batches: (digests, levels) as ``Budget.quantise`` made the levels; every one is checked once more.
            description: of it, without its digest; the number of images is counted here.

        Raises:
            BudgetError: levels outside the ball.
        """
        count = Store.write(folder / STORE, batches, description.budget)
        described = replace(description, images=count)
        digest = known_digest(folder / STORE, content(described.as_dict()))
        replace(described, digest=digest).write(folder)
        for name in (STORE, DESCRIPTION, *([FILE] if description.patterns is not None else [])):
            make_private(folder / name)
        return cls(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        # A path and a digest, not the perturbations: cheap for num_proc, and a stable fingerprint for the cache of map.
        return _reopen, (str(self.folder), self.digest, self.image_format)

    def __len__(self) -> int:
        return len(self._store)

    def __repr__(self) -> str:
        return f"Protection({self.description.method_name}, {self.budget}, {len(self)} images, {str(self.folder)!r})"

    @property
    def about(self) -> dict[str, Any]:
        """The description as ``protection.json`` holds it."""
        return self.description.as_dict()

    @property
    def budget(self) -> Budget:
        """What every perturbation keeps."""
        return self.description.budget

    @property
    def columns(self) -> Columns:
        """The image and the label column of the dataset that was fitted."""
        return self.description.columns

    @property
    def classes(self) -> Classes:
        """The classes of its label column."""
        return self.description.classes

    @property
    def digest(self) -> str:
        """Tells this protection from every other: a hash of its perturbations and its description."""
        return self.description.digest

    def __call__(self, row: Any, *more: Any) -> Any:
        """Protect one row, or a batch of rows as ``map(batched=True)`` passes them, in any format of ``with_format``.

        Args:
            row: a mapping; a table of pyarrow, pandas or polars; or one Pillow image, whose label is the one that it
                was fitted with.
            more: nothing; what ``map`` passes with options that a protection has no use for.

        Returns:
            The image column only: ``map`` keeps the others. Decoded images come back decoded; files (``{"bytes":
            …, "path": …}``, or bytes alone) come back as files. A whole table for a table, with its images as files,
            since ``map`` wants that. A Pillow image for a Pillow image.

        Raises:
            DataError: no row; the image or label column is missing; a row without an image or label, or with a label of
                no class; or one image that was fitted with several labels.
            UnseenImageError: an image that was not fitted (never passed through clean).
        """
        check_alone(more)
        if isinstance(row, Image.Image):
            known = self.columns.label is None
            return self.protect(row, None if known else fitted_label(self._store, self.classes, to_array(row)))
        image, label = self.columns.image, self.columns.label
        check_columns(row, [name for name in (image, label) if name])
        images, labels, single = images_and_labels_of(row, image, label, self.classes)
        released = [protect_as_it_came(self, *pair) for pair in zip(images, labels, strict=True)]
        if is_table(row):
            return with_files(row, image, [as_file(each, self.image_format) for each in released])
        return {image: released[0] if single else released}

    def release(
        self,
        dataset: AnyDataset,
        *,
        image_format: str | None = None,
        num_proc: int | None = None,
        progress: bool = False,
        **options: Any,
    ) -> AnyDataset:
        """Protect a dataset like ``dataset.map(protect)``, file by file.

        Files keep their names (the folder goes, the ending becomes that of the format), and so few images are held in
        memory that large ones fit. Classes of a ``ClassLabel`` are those of the same name, whatever their numbers.

        Args:
            dataset: a split, a dictionary of splits, or a stream.
            image_format: ``"png"`` or ``"webp"``; left out, that of this protection.
            num_proc: processes; not for streams.
            progress: count the images, beside the bar of ``map`` itself; not in several processes and not of streams.
            options: further ones of ``map``.

        Raises:
            DataError: a dataset whose image column is not known to hold images; or as calling it does.
            UnseenImageError: likewise.
            RecipeError: another image format, or processes for a stream.
        """
        protect = Protection(self.folder, image_format=image_format or self.image_format)
        return release(protect, dataset, num_proc=num_proc, progress=progress, **options)

    def protect(self, image: Image.Image | NDArray[np.uint8], label: Any = None) -> Image.Image:
        """Add its perturbation to one image.

        Args:
            image: as it was when ``fit`` saw it; or, with ``on_unseen="craft"``, any.
            label: its class number, or the string or integer that the label column holds; nothing where labels were
                made.

        Raises:
            DataError: a label of no class, an image that cannot be used, or one that stays as it is though the
                protection knows of none.
            UnseenImageError: no perturbation was fitted to this image with this label.
        """
        number = 0 if self.columns.label is None else self.classes.number(label)
        if number is None:
            fix = f". {leave_out(self.columns, fitted=True)}" if is_missing(label) else ""
            raise DataError(f"got the label {label!r}; expected {self.classes.expected_for(label)}{fix}")
        pixels = to_array(image)
        levels = self._store.find(digest(pixels, number))
        if levels is None and self.description.patterns is None:
            raise UnseenImageError(
                f"{describe_image(pixels, label)} that is not among the {len(self)} that this protection was fitted "
                f"to; expected the same pixels and label. {why_unseen(image)}"
            )
        crafted = levels is None
        levels = pattern_for(image, pixels, number, self._patterns, self.classes.names) if levels is None else levels
        released = resample_and_apply(pixels, levels, self.budget)
        if np.array_equal(released, pixels):
            self._meet_unchanged(label, crafted)
        return to_image(released, colour_profile(image))

    def _meet_unchanged(self, label: Any, crafted: bool) -> None:
        """An image that comes out as it went in: not without a word, but where it was said when it was fitted."""
        known = self.description.verification
        if not crafted and known is not None and known.unchanged:
            return
        named = "" if label is None else f" (label {label})"
        told = f"an image{named} comes out as it is: none of its perturbation is left in its pixels"
        if crafted:
            mend = worded(python="or fit it", shell="or protect it in a run of its own with a larger budget")
            raise UnseenImageError(
                f"{told}, as in one of few pixels, or all black or all white; expected a protected image. Leave it "
                f"out, {mend}"
            )
        if known is not None and known.images == self.description.images:
            raise DataError(
                f"{told}; expected all {known.images} to change, as when they were fitted. Restore the protection in "
                f"{str(self.folder)!r} from a copy, or fit again"
            )
        warn(told, DataWarning)  # a sample was looked at, and this one was not in it

    @cached_property
    def _patterns(self) -> NDArray[Any]:
        assert self.description.patterns is not None  # who calls this has looked
        shape = (len(self.classes.names), *self.description.image_shape)
        return read_patterns(self.folder, self.description.patterns, shape)

    def perturbation(self, image: Image.Image | NDArray[np.uint8], label: Any = None) -> NDArray[np.int16]:
        """What ``protect`` adds to an image, (C, H, W) in levels, 0 for alpha; raises like it."""
        released = to_array(self.protect(image, label)).astype(np.int16)
        return released - to_array(image)

    def is_original(self, pixels: NDArray[np.uint8], label: int) -> bool:
        """Whether these (C, H, W) pixels are an image as ``fit`` saw it: one that must not be published."""
        return self._store.find(digest(pixels, label)) is not None

    def verify(self, original: Dataset, protected: Dataset, *, progress: bool = False) -> Verification:
        """Compare a protected dataset, as it was read back, with its originals row by row.

        ``verify(...).ok`` says whether all of them keep the budget.

        Args:
            original: what was protected.
            protected: the same rows in the same order.
            progress: show a bar.

        Raises:
            DataError: other rows, labels or image sizes.
        """
        pairs = aligned_pairs(original, protected, self.columns)
        shown = counted(pairs, "comparing images", len(original), unit="image", enabled=progress)
        return compare(shown, self.budget, self.description.image_shape[1:])


def _reopen(folder: str, expected: str, image_format: str) -> Protection:
    protection = Protection(folder, image_format=image_format)
    if protection.digest != expected:
        raise SourceError(f"the protection in {folder!r} has changed since it was passed on; load it again")
    return protection


def is_kept(folder: Path, expected: str) -> bool:
    """Whether the cache holds the protection with this digest; a damaged one goes, or fitting again would find it."""
    try:
        return folder.exists() and _reopen(str(folder), expected, "png").digest == expected
    except SourceError:
        shutil.rmtree(folder, ignore_errors=True)
        return False
