"""What ``protect`` is given, opened, and which recipe suits it, before anybody looks at the images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any, Protocol

from datasets import Dataset, DatasetDict

from hf_unlearnable.data.columns import Columns, columns_left, find_columns
from hf_unlearnable.data.image_set import several_expected
from hf_unlearnable.data.sources import Source, load_source
from hf_unlearnable.errors import DataError, DataWarning, RecipeError, option
from hf_unlearnable.methods.base import AnySurrogate, Method
from hf_unlearnable.methods.labelling import AUTO, Labels, is_one_class
from hf_unlearnable.protection.privacy import check_other_columns
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.runs.inspecting import columns_of, open_dataset


class Recipe(Protocol):
    """What makes a protection: a ``Method``, or what stands in its place where it was made before."""

    @property
    def seed(self) -> int:
        """Of every draw."""

    def check(self, surrogate: Any = None, others: Any = None) -> None:
        """As of ``Method``."""

    def parts(self) -> Mapping[str, float]:
        """As of ``Method``."""

    def fit(self, dataset: Dataset, *args: Any, **options: Any) -> Protection:
        """As of ``Method``."""


@dataclass(frozen=True)
class Inputs:
    """The images to protect, what tells their classes, and the images of others beside them.

    Attributes:
        source: the images to protect, without the columns that are left out.
        columns: of their images and labels.
        labels: what tells the classes; ``columns.label`` does only where these are ``"auto"``.
        label_column: the column of labels that was named; None where it was to be found.
        others: clean images of others.
    """

    source: Source
    columns: Columns
    labels: Labels
    label_column: str | None = None
    others: Dataset | None = None

    @classmethod
    def open(
        cls,
        dataset: Dataset | DatasetDict | Source | str | PathLike[str],
        split: str = "train",
        config: str | None = None,
        class_depth: int | None = None,
        *,
        keep_clean: Sequence[str] = (),
        drop_columns: Sequence[str] = (),
        labels: Labels | str = AUTO,
        image_column: str | None = None,
        label_column: str | None = None,
        others: Dataset | str | PathLike[str] | None = None,
        others_split: str | None = None,
    ) -> Inputs:
        """Open them; arguments are those of ``protect``.

        Raises:
            SourceError: there is no such dataset.
            DataError: it cannot be opened, was protected before, or has columns that cannot be used.
            RecipeError: what would be ignored, or columns to leave out that are not there or are needed.
        """
        labels = Labels.parse(labels)
        source = open_dataset(dataset, split, config, class_depth, keep_clean, labels)
        left = columns_left(source.dataset, drop_columns, image_column, label_column)
        if others_split is not None and not isinstance(others, (str, PathLike)):
            got = option("others_split", others_split)
            raise RecipeError(f"got {got} and no name of others; expected both, or neither")
        if isinstance(others, (str, PathLike)):
            others = load_source(str(others), others_split or "train")
        columns = columns_of(left, image_column, label_column)
        return cls(replace(source, dataset=left), columns, labels, label_column, others)

    @property
    def dataset(self) -> Dataset:
        """The images to protect."""
        return self.source.dataset

    @property
    def labelled_by(self) -> Columns:
        """The columns, without that of labels where something else tells the classes."""
        return self.columns if self.labels.kind == AUTO else replace(self.columns, label=None)

    def default_method(self) -> Method:
        """What protects images where nobody has chosen: MI-UE, or the texture where they are of one class and alone.

        Raises:
            DataError: labels that cannot be used.
        """
        return Method.parse("texture" if self.others is None and self._one_class else "mi-ue")

    def check(
        self, recipe: Recipe, surrogate: AnySurrogate | Sequence[AnySurrogate] | None = None, *, progress: bool = False
    ) -> None:
        """Refuse, before anybody looks at the images, what the fit or the release would refuse.

        Args:
            recipe: what is to protect them.
            surrogate: what it is to be fitted with, as of ``Method.fit``.
            progress: show bars.

        Raises:
            RecipeError: a setting, surrogate or image of others that does not suit the recipe.
            SourceError: a surrogate or a model that is not there.
            MissingExtraError: a package that sorts images into clusters, and is not installed.
            DataError: images of one class, or without labels, for a recipe that tells classes apart.
            PrivacyError: a column that can hold clean images.
        """
        recipe.check(surrogate, self.others)
        self.labels.require()
        # Noise of another tool takes images of one class, too.
        if self.others is None and not getattr(recipe, "one_class", True):
            if self.labels.found_in(self.dataset, self.label_column).kind == AUTO:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DataWarning)  # the fit gives them
                    find_columns(self.dataset, self.columns.image, self.label_column)
            if self._one_class:
                raise DataError(f"got images of one class only; {several_expected()}")
        check_other_columns(self.dataset, self.columns.image, progress=progress)

    @cached_property
    def _one_class(self) -> bool:
        """Whether all images are of one class: the labels of all rows are read, once."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # the fit gives them
            return is_one_class(self.dataset, self.labels, self.columns.image, self.label_column)


def wants_two(recipe: Recipe, hold_out: float | None) -> bool:
    """Whether each class needs two images: noise of another tool takes any, and who holds images out needs three."""
    return isinstance(recipe, Method) and hold_out is None
