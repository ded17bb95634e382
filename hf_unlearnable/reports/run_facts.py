"""What a report can say of a run: read from its folder, with a reason for everything that is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from datasets import Dataset

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.columns import Columns, find_columns
from hf_unlearnable.data.pairing import sampled_pairs
from hf_unlearnable.errors import DataError, SourceError
from hf_unlearnable.methods import describe_findings
from hf_unlearnable.protection.layout import MEASURED
from hf_unlearnable.protection.verification import compare
from hf_unlearnable.reports.charts import change_shares
from hf_unlearnable.reports.images import samples
from hf_unlearnable.reports.run_page import PageFacts
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.runs.named_originals import open_originals, refuse_others_than_its_own
from hf_unlearnable.runs.test_images import not_measured
from hf_unlearnable.settings import refuse_ignored


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of a run.

    Attributes:
        page: what its page says.
        images: the protected images; None if they are not there.
        originals: as they were opened; None if they could not be.
        columns: of both.
    """

    page: PageFacts
    images: Dataset | None = None
    originals: Dataset | None = None
    columns: Columns | None = None


@dataclass
class _Protected:
    """The protected images of a run, and what is written down about them."""

    images: Dataset
    columns: Columns
    known: dict[str, Any] = field(default_factory=dict)


def run_facts(
    run: RunFolder,
    *,
    clean: str | PathLike[str] | None,
    clean_split: str | None,
    image_column: str | None,
    label_column: str | None,
    command: str,
) -> RunFacts:
    """Read everything; what cannot be read is told in words, but originals that are named must fit.

    Args:
        run: of which a page is made.
        clean: the originals, where nobody wrote down what they are or they were moved.
        clean_split: of them.
        image_column: for a set of another tool; may be left out when there is exactly one.
        label_column: likewise.
        command: as the page tells it.

    Raises:
        SourceError: originals that are named and not there.
        DataError: a measurement or a protected set that is there and cannot be read, or originals that are named and
            are not those of the protected images.
        RecipeError: what would be ignored.
    """
    known: dict[str, Any] = {"name": str((run.folder and run.given) or run.measured), "command": command}
    known |= {"not_measured": why} if (why := not_measured(run)) else {"report": run.report}
    if run.folder is None:
        named = {"image_column": image_column, "label_column": label_column}
        refuse_ignored("and a measurement alone, without images", clean=clean, clean_split=clean_split, **named)
        reason = f"Only {MEASURED} was given. For pictures name the folder that protect wrote."
        return RunFacts(page=PageFacts(**known, no_pictures=reason))
    if run.is_complete:
        protected = _ours(run, clean)
        refuse_others_than_its_own(run.protection, image_column, label_column)
    elif run.holds_dataset:
        images = run.dataset
        protected = _Protected(
            images, find_columns(images, image_column, label_column, needs_label=False), {"origin": str(clean or "")}
        )
    else:
        return RunFacts(page=PageFacts(**known, no_pictures=f"There is no protected dataset in {str(run.given)!r}."))
    known |= {"images": len(protected.images), **protected.known}
    were_named = clean is not None or clean_split is not None
    try:
        budget = run.protection.budget if run.is_complete else None
        originals = open_originals(run, clean, clean_split, protected.images, protected.columns, budget)
        compared = _compared(protected, originals, described=run.is_complete)
    except (SourceError, DataError) as error:
        if were_named:
            raise
        # A report without originals says so; an unreadable protected set ends here with the error.
        originals = None
        compared = {
            "samples": samples(protected.images, protected.columns),
            "no_pictures": (
                f"Neither clean images nor the perturbation are shown, since the originals could not be used: {error}. "
                f"If they are elsewhere now: hf-unlearnable report RUN --clean DATASET"
            ),
        }
    page = PageFacts(**known, **compared)
    return RunFacts(page=page, images=protected.images, originals=originals, columns=protected.columns)


def _ours(run: RunFolder, clean: str | PathLike[str] | None) -> _Protected:
    """What ``protect`` wrote, after looking that nothing private lies among what is published."""
    run = RunFolder.open(run)
    described = run.protection.description
    known: dict[str, Any] = {
        "protection": described,
        "findings": describe_findings(described.method_name, described.findings),
        "origin": str(clean or run.origin or ""),
        "audit": run.audited,
    }
    if verified := run.verification:
        known |= {"verification": verified[0].as_dict(), "read_back": verified[1]}
    return _Protected(run.dataset, run.protection.columns, known)


def _compared(protected: _Protected, originals: Dataset, *, described: bool) -> dict[str, Any]:
    """What the originals tell: pictures, how often each change occurs, and the figures where nobody wrote them down."""
    images, columns = protected.images, protected.columns
    found: dict[str, Any] = {
        "shares": change_shares(sampled_pairs(originals, images, columns)),
        "samples": samples(images, columns, originals),
    }
    if not described:
        pairs = sampled_pairs(originals, images, columns)
        found |= {"verification": compare(pairs, Budget(WHITE)).as_dict(), "read_back": False}
    return found
