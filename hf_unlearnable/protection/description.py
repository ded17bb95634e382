"""What ``protection.json`` says of a protection: one typed document instead of keys that everybody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_unlearnable.budget import Budget
from hf_unlearnable.data.columns import Classes, Columns
from hf_unlearnable.errors import DataError, first_line
from hf_unlearnable.protection.documents import check_keys, kinds_of, read_json
from hf_unlearnable.protection.verification import Verification

DESCRIPTION = "protection.json"
IMPORTED = "imported"  # in place of a method: perturbations that another tool made
FORMAT = 2
PLAIN: tuple[str, ...] = (
    "image_mode",
    "image_sizes",
    "largest_image",
    "resampled",
    "conversions",
    "images",
    "findings",
    "versions",
)
PLAIN += ("patterns", "labels", "digest")  # the keys that are fields as they stand
OPTIONAL = {"label_values", "verification", "findings", "versions", "patterns", "labels", "digest"}
REQUIRED = {"format", "method", "budget", "surrogates", "image_column", "label_column", "image_mode", "classes"}
REQUIRED |= {"image_shape", "image_sizes", "largest_image", "resampled", "conversions", "images"}
KINDS: dict[str, tuple[type, ...]] = {  # of the other keys
    "method": (dict,),
    "budget": (str,),
    "surrogates": (list,),
    "image_column": (str,),
    "label_column": (str, type(None)),
    "classes": (list,),
    "label_values": (list, type(None)),
    "image_shape": (list,),
    "verification": (dict, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """How a protection was made, and of what.

    Attributes:
        method: the recipe: its ``name`` and the values of its fields.
        budget: that every perturbation keeps.
        surrogates: the names of the models that it was optimised against.
        columns: of the dataset.
        image_mode: that the image column decodes to; None for that of each file.
        classes: of the label column.
        image_shape: (C, H, W) at which perturbations were optimised.
        image_sizes: of the originals, in words.
        largest_image: pixels of the largest original.
        resampled: how many originals are of another size than ``image_shape``.
        conversions: change of mode, in words -> how many originals go that way.
        images: how many were fitted.
        verification: of a sample when it was made; None before that.
        findings: what the method learned about its result, see ``Method.describe``.
        versions: of the packages that the bytes depend on.
        labels: how they were made, as ``Method.fit`` words it; empty where the dataset has them.
        patterns: a digest of the perturbations that classes share, see ``class_patterns``; None if there are none.
        digest: tells this protection from every other: a hash of perturbations and description; empty before it is
            written.
    """

    method: Mapping[str, Any]
    budget: Budget
    surrogates: tuple[str, ...]
    columns: Columns
    image_mode: str | None
    classes: Classes
    image_shape: tuple[int, int, int]
    image_sizes: str
    largest_image: int
    resampled: int
    conversions: Mapping[str, int]
    images: int
    verification: Verification | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    patterns: str | None = None
    labels: str = ""
    digest: str = ""

    @property
    def method_name(self) -> str:
        """The name of the method."""
        return str(self.method["name"])

    @property
    def made_elsewhere(self) -> bool:
        """Whether another tool made the perturbations, and nothing is known here of how."""
        return self.method_name == IMPORTED

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the recipe and their values, those among them that the fit settled (``findings``)."""
        fields = {name: value for name, value in self.method.items() if name != "name"}
        settled = self.findings.get("settings")
        return {**fields, **settled} if isinstance(settled, dict) else fields

    def __str__(self) -> str:
        """Method and budget, such as ``mi-ue linf:8``."""
        return f"{self.method_name} {self.budget}"

    def as_dict(self) -> dict[str, Any]:
        """What ``protection.json`` holds, ready for JSON."""
        written = {
            "format": FORMAT,
            "images": self.images,
            "method": dict(self.method),
            "budget": str(self.budget),
            "surrogates": list(self.surrogates),
            "image_column": self.columns.image,
            "label_column": self.columns.label,
            "image_mode": self.image_mode,
            "classes": list(self.classes.names),
            "label_values": self.classes.values,
            "image_shape": list(self.image_shape),
            "image_sizes": self.image_sizes,
            "largest_image": self.largest_image,
            "resampled": self.resampled,
            "conversions": dict(self.conversions),
            "verification": None if self.verification is None else self.verification.as_dict(),
            "findings": dict(self.findings),
            "versions": dict(self.versions),
        }
        if self.patterns is not None:
            written["patterns"] = self.patterns
        if self.labels:
            written["labels"] = self.labels
        if self.digest:
            written["digest"] = self.digest
        return written

    @classmethod
    def of(cls, stored: Mapping[str, Any], where: str = DESCRIPTION) -> Description:
        """The inverse of ``as_dict``.

        Args:
            stored: what was read.
            where: from; it names the document in messages.

        Raises:
            DataError: a key that is missing or not known, a value of another kind, or another format.
        """
        if stored.get("format") != FORMAT:
            raise DataError(
                f"got {where} of format {stored.get('format')!r}; expected format {FORMAT}. Open it with the "
                f"version of hf_unlearnable that wrote it"
            )
        own = kinds_of(cls)
        check_keys(stored, REQUIRED, OPTIONAL, where, {**{name: own[name] for name in PLAIN}, **KINDS})
        try:
            return cls(
                **{name: stored[name] for name in PLAIN if name in stored},
                method={"name": str(stored["method"]["name"]), **stored["method"]},
                budget=Budget.parse(stored["budget"]),
                surrogates=tuple(map(str, stored["surrogates"])),
                columns=Columns(stored["image_column"], stored["label_column"]),
                classes=Classes([str(name) for name in stored["classes"]], stored.get("label_values")),
                image_shape=_shape(stored["image_shape"]),
                verification=None if stored.get("verification") is None else Verification.of(stored["verification"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"got {where} with a value of another kind ({first_line(error)}); expected what "
                f"hf_unlearnable writes. Restore it from a copy"
            ) from error

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read the description of the protection in ``folder``.

        Raises:
            FileNotFoundError: there is none.
            DataError: it is damaged.
        """
        return cls.of(read_json(folder / DESCRIPTION), repr(str(folder / DESCRIPTION)))

    def write(self, folder: Path) -> None:
        """Write it beside the perturbations."""
        (folder / DESCRIPTION).write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")


def content(stored: Mapping[str, Any]) -> bytes:
    """What the digest of a protection says of its description: all of it but the digest itself.

    Args:
        stored: ``as_dict``, or what was read: as an older version wrote it, if one did.
    """
    told = json.loads(json.dumps({key: value for key, value in stored.items() if key != "digest"}))
    return json.dumps(told, sort_keys=True).encode()


def _shape(stored: list[int]) -> tuple[int, int, int]:
    channels, height, width = map(int, stored)
    return channels, height, width
