"""What protects images: the recipe that somebody chose or the default one, and whether the images suit it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from typing import Any, Protocol

from datasets import Dataset

from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.image_set import several_expected
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import DataError, DataWarning, RecipeError, option
from hf_unlearnable.methods.base import Method
from hf_unlearnable.methods.labelling import AUTO, Labels, is_one_class
from hf_unlearnable.protection.protection import Protection


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


def default_method(
    data: Dataset,
    labels: Labels | str = AUTO,
    image_column: str | None = None,
    label_column: str | None = None,
    others: Dataset | None = None,
) -> Method:
    """What protects images where nobody has chosen: MI-UE, or the texture where they are of one class and alone.

    Raises:
        DataError: columns or labels that cannot be used.
    """
    alone = others is None and is_one_class(data, labels, image_column, label_column)
    return Method.parse("texture" if alone else "mi-ue")


def check_one_class(
    recipe: Recipe,
    data: Dataset,
    labels: Labels | str,
    image_column: str | None,
    label_column: str | None,
    others: Dataset | None,
) -> None:
    """Refuse images of one class, or without labels, that the fit would refuse, before anybody looks at them.

    Raises:
        DataError: they are, and the method tells classes apart.
    """
    if others is not None or getattr(recipe, "one_class", True):  # noise of another tool takes any
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the fit gives them
        if Labels.parse(labels).found_in(data, label_column).kind == AUTO:
            find_columns(data, image_column, label_column)
        if is_one_class(data, labels, image_column, label_column):
            raise DataError(f"got images of one class only; {several_expected()}")


def wants_two(recipe: Recipe, hold_out: float | None) -> bool:
    """Whether each class needs two images: noise of another tool takes any, and who holds images out needs three."""
    return isinstance(recipe, Method) and hold_out is None


def open_others(others: Dataset | str | PathLike[str] | None, split: str | None) -> Dataset | None:
    """The images of others; arguments as of ``protect``.

    Raises:
        RecipeError: a split of others that are not named.
        SourceError: nothing there.
        DataError: there, but not readable.
    """
    if split is not None and not isinstance(others, (str, PathLike)):
        raise RecipeError(f"got {option('others_split', split)} and no name of others; expected both, or neither")
    return load_source(str(others), split or "train") if isinstance(others, (str, PathLike)) else others
