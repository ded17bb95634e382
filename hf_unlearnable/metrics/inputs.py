"""What the metrics refuse before ``evaluate`` casts it: numbers that are no classes, and one image for a list."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hf_unlearnable.errors import DataError


class OfClasses:
    """Comes before ``evaluate.Metric``, which cuts classes off at the point: refuses what lies between two of them."""

    classes: ClassVar[tuple[str, ...]] = ("predictions", "references")  # the inputs that are classes

    def add_batch(self, **batch: Any) -> None:
        """Add rows.

        Raises:
            DataError: a class that is no whole number.
        """
        for name in self.classes:
            values = np.asarray(batch.get(name))
            between = values[values != np.floor(values)] if values.dtype.kind == "f" else []
            if len(between):
                raise DataError(
                    f"got {name} with {between[0]:g}; expected classes, which are whole numbers. Of logits take "
                    f"argmax(axis=-1)"
                )
        super().add_batch(**batch)  # type: ignore[misc]


class OfImages:
    """Comes before ``evaluate.Metric``, which takes the rows of one array for images: refuses one image alone."""

    def add_batch(self, **batch: Any) -> None:
        """Add rows.

        Raises:
            DataError: one image where a list of images belongs.
        """
        for name, images in batch.items():
            shape = tuple(getattr(images, "shape", ()))
            if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
                raise DataError(f"got one image of shape {shape} as {name}; expected a list of images: [image]")
        super().add_batch(**batch)  # type: ignore[misc]
