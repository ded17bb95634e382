"""What the commands that protect say before, while and after they do it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hf_unlearnable.cli.shared import found
from hf_unlearnable.errors import DataError, DataWarning

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_unlearnable.methods import Method

FEW = 400  # pictures of an owner: what an effect was measured for

LATER = (
    "Publish the files as they are: JPEG compression or resizing takes a part of the protection away "
    "(docs/how-to/protect-a-folder.md has figures)."
)


def protect_and_tell(data: Dataset, output: Path, method: Method, **options: Any) -> bool:
    """Protect in all processes, and say in the main one what was done; return whether this process is it."""
    from hf_unlearnable.runs import RunFolder, protect
    from hf_unlearnable.training.processes import default_accelerator

    accelerator = default_accelerator()
    if accelerator.is_main_process:
        typer.echo(f"Protecting {len(data)} images with {method.name}, budget {options['budget']}.")
        tell_few(data, options)
        tell_space(data, output, options)
    with _telling_what_is_kept(output, tell=accelerator.is_main_process), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said below in the command's own words
        protected = protect(data, output, method=method, accelerator=accelerator, **options)
    if protected is None:
        return False
    typer.echo(protected)
    run = RunFolder(output)
    found(
        output=output,
        published=output / run.published.name,
        private=output / run.private.name,
        images=len(data),
        method=method.name,
        budget=str(options["budget"]),
        image_files=output / run.images.name if protected.image_files else None,
        lossy_copy=protected.lossy.as_dict() if protected.lossy else None,
        notes=protected.notes(),
        verification=protected.verification.as_dict(),
    )
    parts = {run.published: "publish this: a dataset for datasets.load_from_disk and for push"}
    if protected.image_files:
        parts[run.images] = "or this: the same images as files, byte for byte"
    if protected.lossy is not None:
        parts[run.images_jpeg] = "with losses, as described above"
    parts[run.private] = "keep this private: it undoes the protection"
    width = max(len(str(output / part.name)) for part in parts)
    typer.echo()
    for part, what in parts.items():
        typer.echo(f"{output / part.name!s:<{width}}    {what}")
    typer.echo(LATER)
    return True


def tell_few(data: Dataset, options: dict[str, Any]) -> None:
    """Say of a few pictures of one owner that nothing can be promised; nothing where columns are wrong."""
    from hf_unlearnable.methods.labelling import Labels, is_one_class

    if len(data) >= FEW:
        return
    with warnings.catch_warnings(), suppress(DataError):
        warnings.simplefilter("ignore")
        labels = Labels.parse(options.get("labels", "auto"))
        if is_one_class(data, labels, options.get("image_column"), options.get("label_column")):
            typer.echo(
                f"{len(data)} pictures of one owner are few: they get the same pattern as many would, but for so few "
                f"no effect was shown. Of 30 among 3,600 of others a model learned nothing from clean ones either."
            )


def tell_space(data: Dataset, output: Path, options: dict[str, Any]) -> None:
    """Say what room the images will take; nothing where they cannot be read, which protect then says better."""
    from hf_unlearnable.data.columns import unlabelled
    from hf_unlearnable.runs.disk_space import expected_space
    from hf_unlearnable.runs.image_files import source_paths

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        column = unlabelled(data, options.get("image_column")).image
    as_files = options.get("image_files")
    copies = 1 + (source_paths(data, column) is not None if as_files is None else as_files)
    try:
        space = expected_space(data, column, options["budget"], output, copies)
    except (OSError, SyntaxError, ValueError):
        return
    found(expected_bytes=space.as_dict())
    typer.echo(space.told(options.get("image_format", "png")))


@contextmanager
def _telling_what_is_kept(output: Path, *, tell: bool) -> Iterator[None]:
    """Say what an earlier run left to go on from, and, after an error, what this one leaves."""
    from hf_unlearnable.runs.protecting import unfinished

    if tell and (kept := unfinished(output)):
        typer.echo(f"Going on with what an earlier run left in {kept}.")
    try:
        yield
    except BaseException:
        if tell and (kept := unfinished(output)):
            typer.echo(
                f"\nWhat was done is kept in {kept} (private): the same command goes on from there.",
                err=True,
            )
        raise
