"""What the commands that protect say before, while and after they do it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hf_unlearnable.cli.shared import record
from hf_unlearnable.errors import CheckpointError, DataWarning, number_of, warn

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset

    from hf_unlearnable.data.intake import Intake
    from hf_unlearnable.data.sources import Source
    from hf_unlearnable.methods import Method
    from hf_unlearnable.runs.importing import Imported

# Options of protect that say what of an open dataset is protected, and what is beside it.
OPENED_BY = ("drop_columns", "labels", "image_column", "label_column", "others", "others_split")
# Options of protect that say what is looked at before, and how it will be written.
LOOKED_AT = (
    "split",
    "keep_clean",
    "config",
    "class_depth",
    "image_column",
    "label_column",
    "labels",
    "image_format",
    "image_files",
    "budget",
)


def protect_and_tell(
    dataset: Dataset | str, output: Path, choose: Callable[[Method], Method | Imported], **options: Any
) -> bool:
    """Protect in all processes, and say in the main one what was done.

    Args:
        dataset: what to protect.
        output: the folder to write.
        choose: what protects it, given what does where nobody has chosen.
        options: of ``protect``.

    Returns:
        Whether this process is the main one.
    """
    from hf_unlearnable.runs import RunFolder, protect
    from hf_unlearnable.runs.advice import LATER
    from hf_unlearnable.runs.inspecting import open_dataset
    from hf_unlearnable.training.processes import default_accelerator

    accelerator = default_accelerator()
    opened = open_dataset(
        dataset,
        options.get("split", "train"),
        options.get("config"),
        options.get("class_depth"),
        options.get("keep_clean", ()),
        options.get("labels", "auto"),
    )
    method, known = _look_before(opened, output, choose, accelerator, options)
    options = options | known
    opened = replace(opened, contents=None)  # the names of a million files, which were looked at
    with _telling_what_is_kept(output, tell=accelerator.is_main_process), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said below in the command's own words
        protected = protect(opened, output, method=method, accelerator=accelerator, **options)
    if protected is None:
        return False
    typer.echo(protected)
    if protected.warning:
        warn(protected.warning, DataWarning)
    run = RunFolder(output)
    record(
        output=output,
        published=output / run.published.name,
        private=output / run.private.name,
        images=protected.verification.images,
        method=method.name,
        budget=str(options["budget"]),
        image_files=output / run.images.name if protected.image_files else None,
        lossy_copy=protected.lossy.as_dict() if protected.lossy else None,
        notes=protected.notes(),
        verification=protected.verification.as_dict(),
        unchanged=list(protected.unchanged),
    )
    parts = {run.published: "publish this: a dataset for datasets.load_from_disk and for push"}
    if protected.image_files:
        without = f", without the clean {', '.join(run.clean_splits)}" if run.clean_splits else ""
        parts[run.images] = f"or this: the same images as files, byte for byte{without}"
    if protected.lossy is not None:
        parts[run.images_jpeg] = "with losses, as described above"
    parts[run.private] = "keep this private: it undoes the protection"
    width = max(len(str(output / part.name)) for part in parts)
    typer.echo()
    for part, what in parts.items():
        typer.echo(f"{output / part.name!s:<{width}}    {what}")
    typer.echo(LATER)
    return True


def _look_before(
    opened: Source,
    output: Path,
    choose: Callable[[Method], Method | Imported],
    accelerator: Accelerator,
    options: dict[str, Any],
) -> tuple[Method | Imported, dict[str, Any]]:
    """Check the words of the command against the dataset, then look at its images, and say what is there.

    Returns:
        What protects them, and the options of ``protect`` that are known now.
    """
    from hf_unlearnable.runs.advice import few
    from hf_unlearnable.runs.inputs import Inputs, wants_two
    from hf_unlearnable.training.processes import run_on_all

    inputs = Inputs.open(opened, **{name: options[name] for name in OPENED_BY if name in options})
    default = inputs.default_method()
    method = choose(default)
    # Again in protect: here before the images are looked at, which takes long.
    inputs.check(method, options.get("surrogate"), progress=accelerator.is_main_process)

    def look() -> Intake | None:
        if not accelerator.is_main_process:
            return None
        seen = look_and_tell(
            inputs.source,
            output=output,
            decode=True if options.get("skip_unreadable") else None,
            **{name: options[name] for name in LOOKED_AT if name in options},
        )
        allowed = {name: options.get(name, False) for name in ("leave_out", "skip_unreadable")}
        seen.check(**allowed, by_class=wants_two(method, options.get("hold_out")))
        return seen

    if (seen := run_on_all(accelerator, look)) is not None:
        left = seen.images - len(seen.broken) - (seen.unlabelled if options.get("unlabelled") == "drop" else 0)
        if default.one_class and (warning := few(left)):  # they are of one class, with none beside
            typer.echo(f"\n{warning}")
        share = options.get("hold_out")
        but = f" but for {share:.0%} of every class, which stay clean to test on," if share else ""
        typer.echo(f"\nProtecting {number_of(left, 'image')}{but} with {method.name}, budget {options['budget']}.")
    return method, {"intake": seen, "others": inputs.others, "others_split": None}


def tell_needed(needed: dict[str, int], lonely: Sequence[str]) -> None:
    """Say after a dry run what protect will ask for, and which classes it will refuse."""
    from hf_unlearnable.data.image_set import alone_told

    record(needed=needed)
    if lonely:
        typer.echo(f"As it is, protect will stop: got {alone_told(lonely)}.")
    if needed:
        what = ", ".join(f"{name} ({count:,})" for name, count in needed.items())
        typer.echo(f"As it is, protect will stop: mend what is named above, or leave it out on purpose: {what}.")


def look_and_tell(dataset: Dataset | Source | str, **options: Any) -> Intake:
    """Look at what is to be protected, and say what was found."""
    from hf_unlearnable.runs import intake

    seen = intake(dataset, **options)
    record(intake=seen.as_dict())
    typer.echo(seen)
    return seen


@contextmanager
def _telling_what_is_kept(output: Path, *, tell: bool) -> Iterator[None]:
    """Say what an earlier run left to go on from, and, after an error, what this one leaves."""
    from hf_unlearnable.runs.outputs import unfinished

    if tell and (kept := unfinished(output)):
        typer.echo(f"Going on with what an earlier run left in {kept}.")
    try:
        yield
    except CheckpointError:  # it says itself that the same command does not go on, and why
        raise
    except BaseException:
        if tell and (kept := unfinished(output)):
            typer.echo(
                f"\nWhat was done is kept in {kept} (private): the same command goes on from there.",
                err=True,
            )
        raise
