"""What the metrics refuse before ``evaluate`` casts it: numbers that are no classes, and one image for a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hf_unlearnable.errors import DataError


class OfClasses:
    """Comes before ``evaluate.Metric``, which cuts classes off at the point: refuses what lies between two of them."""

    classes: ClassVar[tuple[str, ...]] = ("predictions", "references")  # the inputs that are classes

    def add_batch(self, **batch: Any) -> None:
        """Add rows.

        Raises:
            DataError: a class that is no whole number, such as its name.
        """
        self._check(batch)
        super().add_batch(**batch)  # type: ignore[misc]

    def add(self, **row: Any) -> None:
        """Add one row, whose two inputs ``evaluate`` calls by other names here; errors are those of ``add_batch``."""
        self._check({"predictions": row.get("prediction"), "references": row.get("reference"), **row})
        super().add(**row)  # type: ignore[misc]

    def _check(self, inputs: Mapping[str, Any]) -> None:
        for name in self.classes:
            values = np.atleast_1d(np.asarray(inputs.get(name)))
            if values.dtype.kind in "US":
                raise DataError(
                    f"got {name} with {str(values.flat[0])!r}; expected the numbers of classes, as "
                    f"ClassLabel.str2int has them"
                )
            between = values[values != np.floor(values)] if values.dtype.kind == "f" else []
            if len(between):
                raise DataError(
                    f"got {name} with {between[0]:g}; expected classes, which are whole numbers. Of logits take "
                    f"argmax(axis=-1)"
                )


class OfImages:
    """Comes before ``evaluate.Metric``, which takes the rows of one array for images: refuses one image alone.

    And arrays that are no pixels.
    """

    def add_batch(self, **batch: Any) -> None:
        """Add rows.

        Raises:
            DataError: one image where a list of images belongs, or an array that is none of uint8 (H, W) or (H, W, 3).
        """
        for name, images in batch.items():
            shape = tuple(getattr(images, "shape", ()))
            if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
                raise DataError(f"got one image of shape {shape} as {name}; expected a list of images: [image]")
            listed = images if isinstance(images, (list, tuple)) or shape else ()  # of a column all would be decoded
            for row, image in enumerate(listed):
                _check_array(f"{name}[{row}]", image)
        super().add_batch(**batch)  # type: ignore[misc]

    def add(self, **row: Any) -> None:
        """Add an image of each input.

        Raises:
            DataError: an array that is none of uint8 (H, W) or (H, W, 3).
        """
        for name, image in row.items():
            _check_array(name, image)
        super().add(**row)  # type: ignore[misc]


def _check_array(place: str, image: Any) -> None:
    """See that an image is pixels where it is an array: ``evaluate`` prints all others, or cuts them to 8 bits."""
    kind, shape = str(getattr(image, "dtype", "")).removeprefix("torch."), tuple(getattr(image, "shape", ()))
    if kind and (kind != "uint8" or len(shape) not in (2, 3) or shape[2:] not in ((), (3,), (4,))):
        raise DataError(
            f"got {kind} {shape} as {place}; expected a Pillow image, or uint8 (H, W) or (H, W, 3). Of values in "
            f"[0, 1] take (255 * array).round().astype('uint8'), of channels first array.transpose(1, 2, 0)"
        )
