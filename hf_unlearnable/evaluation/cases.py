"""What victims may be trained on: one entry for each case, with all that tables, cards, pages and charts need of it."""

from __future__ import annotations

from dataclasses import dataclass

from hf_unlearnable.errors import DataError

CLEAN, PROTECTED, MIX, CLEAN_PART, SEQUENTIAL = "clean", "protected", "mix", "clean part alone", "sequential"
LEFT_OUT = "owner left out"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a victim may be trained on, with all that tables, cards, pages and charts need to show it.

    Words may hold ``{:.0%}``, where the share of protected rows is put.

    Attributes:
        key: its name in files.
        text: its name in the printed table and in charts; the share follows it where that is a choice.
        page: its name on the page of a run.
        card: its name in the table of a dataset card.
        colour: of its bars and curves.
        ratio: the share of the rows that is protected, in [0, 1]; None where the user chooses it.
        mixture: whether the victim has clean and protected images, so that what the protected ones add is its accuracy
            less that of the clean part alone.
        comparison: for a mixture, its name on a page that compares runs; as on the page of a run where it is empty.
        order: for a mixture, how its two parts follow each other; empty where they do not.
    """

    key: str
    text: str
    page: str
    card: str
    colour: str
    ratio: float | None = None
    mixture: bool = False
    comparison: str = ""
    order: str = ""

    @property
    def place(self) -> int:
        """Where it stands in ``CASES``."""
        return CASES.index(self)


CASES = (
    Case(
        key=CLEAN,
        text="clean",
        page="clean images",
        card="clean (baseline)",
        colour="#4c72b0",
        ratio=0.0,
    ),
    Case(
        key=PROTECTED,
        text="protected",
        page="protected images",
        card="**protected**",
        colour="#c44e52",
        ratio=1.0,
    ),
    Case(
        key=MIX,
        text="mix",
        page="{:.0%} protected, the rest clean",
        card="mixture, {:.0%} protected",
        colour="#8172b3",
        mixture=True,
        comparison="{:.0%} protected, mixed with clean ones",
    ),
    Case(
        key=CLEAN_PART,
        text="clean part alone",
        page="that clean part alone",
        card="its clean part alone (control)",
        colour="#8c8c8c",
    ),
    Case(
        key=SEQUENTIAL,
        text="sequential",
        page="that clean part first, then its protected part",
        card="its clean part first, then its protected part",
        colour="#937860",
        mixture=True,
        comparison="{:.0%} protected, the clean ones first",
        order="clean part first",
    ),
    Case(
        key=LEFT_OUT,
        text="owner left out",
        page="the others' images alone",
        card="without the owner's images (control)",
        colour="#55a868",
        ratio=0.0,
    ),
)


def case_of(key: str) -> Case:
    """The case of that name in files.

    Raises:
        DataError: there is none.
    """
    for case in CASES:
        if case.key == key:
            return case
    raise DataError(f"got the case {key!r}; expected one of {', '.join(case.key for case in CASES)}")
