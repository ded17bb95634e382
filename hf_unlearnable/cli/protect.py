"""The command that protects a dataset: in one process or several, going on where an earlier one was killed."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_unlearnable.budget import Budget
from hf_unlearnable.cli.hub import push
from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.errors import CheckpointError, DataWarning, OutputError, RecipeError, UnlearnableError
from hf_unlearnable.files import require_empty, resumable, work_folders
from hf_unlearnable.protection.layout import ORIGIN, PRIVATE, PROTECTION, PUBLISH, VERIFIED

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_unlearnable.protection.protection import Protection


Images = Annotated[str | None, typer.Option("--image-column", help="Image column; found when there is only one.")]

Labels = Annotated[str | None, typer.Option("--label-column", help="Label column; found when there is only one.")]

Epochs = Annotated[int | None, typer.Option(min=1, help="Passes of the optimisation (default: the recipe's).")]


def protect(
    dataset: Annotated[str, typer.Argument(help="Hub id, save_to_disk folder, parquet file or image folder.")],
    output: Annotated[Path, typer.Option(help="Folder to write; must not hold anything yet.")],
    method: Annotated[
        str, typer.Option(help="As the command env lists them, also with settings: 'beo:mode=self,steps=40'.")
    ] = "mi-ue",
    budget: Annotated[str, typer.Option(help="Largest change: '8/255', 'linf:8' or 'l2:255'.")] = "8/255",
    split: Annotated[str, typer.Option(help="Which split to protect.")] = "train",
    config: Annotated[str | None, typer.Option(help="Which configuration, where a dataset has several.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side in pixels at which larger images are optimised (default: see fit).")
    ] = None,
    image_format: Annotated[str, typer.Option(help="Files that are written, without loss: png or webp.")] = "png",
    craft: Annotated[
        bool, typer.Option("--craft-unseen", help="Let OUTPUT/private protect images too that are added later.")
    ] = False,
    epochs: Epochs = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes (default: the recipe's, 0).")] = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="A victim that env lists, folder or Hub id; may be given several times."),
    ] = None,
    num_proc: Annotated[int | None, typer.Option(min=1, help="Processes that write the images.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT, and what another unfinished run left of it.")
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="Seconds between two checkpoints, from which the same command goes on.")
    ] = 300.0,
    cache: Annotated[
        str, typer.Option(help="Images and perturbations while fitting: on disk, or on the device.")
    ] = "disk",
    image_column: Images = None,
    label_column: Labels = None,
    plugin: Plugins = None,
    push_to: Annotated[
        str | None,
        typer.Option("--push", metavar="USER/NAME", help="Push to the Hub too, privately; the command push says more."),
    ] = None,
) -> None:
    """Protect a dataset: OUTPUT/dataset is to be published, OUTPUT/private undoes it and is not."""
    from hf_unlearnable.data.pixels import check_format
    from hf_unlearnable.data.sources import load_source
    from hf_unlearnable.methods import Method

    # Everything that can be wrong with the words of the command, before anything slow.
    allowance = Budget.parse(budget)
    recipe = Method.parse(method)
    if epochs is not None and not hasattr(recipe, "epochs"):
        raise RecipeError(f"got --epochs for the method {method}, which has none; leave it out")
    given = {"seed": seed, "epochs": epochs}
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    check_format(image_format)
    if not overwrite:
        require_empty(output)
    if push_to:
        from hf_unlearnable.hub.publish import check_login

        check_login(push_to)
    data = load_source(dataset, split, config)
    path = Path(dataset).expanduser()
    origin = {"dataset": str(path.absolute()) if path.exists() else dataset, "split": split, "config": config}
    arguments = {
        "budget": allowance,
        "surrogate": surrogate or None,
        "image_column": image_column,
        "label_column": label_column,
        "resolution": resolution,
        "on_unseen": "craft" if craft else "error",
        "cache": cache,
    }
    protecting = protect_dataset(
        data, output, recipe, arguments, origin, image_format, num_proc, overwrite, checkpoint_every
    )
    if not protecting:
        return
    if push_to:
        push(output, push_to)
    typer.echo(f"\nNow see what it does:  hf-unlearnable measure {output}")


def protect_dataset(
    data: Dataset,
    output: Path,
    method: Any,
    arguments: dict[str, Any],
    origin: dict[str, Any],
    image_format: str = "png",
    num_proc: int | None = None,
    overwrite: bool = False,
    checkpoint_every: float = 300,
) -> bool:
    """Fit in all processes and write in the main one; whether this is it."""
    from hf_unlearnable.training.processes import default_accelerator

    accelerator = default_accelerator()
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()  # until the main process holds the output
        _fit(data, method, arguments, accelerator, *work_folders(output), overwrite, checkpoint_every)
        return False
    typer.echo(f"Protecting {len(data)} images with {method.name}, budget {arguments['budget']}.")
    with resumable(output, overwrite=overwrite) as (result, checkpoints):
        if any(checkpoints.glob("*.json")):
            typer.echo(f"Going on with what an earlier run left in {checkpoints.parent}.")
        accelerator.wait_for_everyone()
        try:
            protection = _fit(data, method, arguments, accelerator, result, checkpoints, overwrite, checkpoint_every)
            _tell(protection)
            _release(protection, data, result, origin, image_format, num_proc)
        except BaseException:
            if any(checkpoints.glob("*.json")):
                typer.echo(
                    f"\nWhat was done is kept in {checkpoints.parent} (private): the same command goes on from there.",
                    err=True,
                )
            raise
    typer.echo(
        f"\n{output / PUBLISH}    publish this\n{output / PRIVATE}    keep this private: it undoes the protection\n"
        f"Publish the files as they are: JPEG compression or resizing takes a part of the protection away."
    )
    return True


def _fit(
    data: Dataset,
    method: Any,
    arguments: dict[str, Any],
    accelerator: Any,
    result: Path,
    checkpoints: Path,
    overwrite: bool,
    checkpoint_every: float,
) -> Protection:
    """Fit, or go on; with ``overwrite`` anew where what is there is of another fit."""
    options = {
        **arguments,
        "accelerator": accelerator,
        "output_dir": result / PRIVATE / PROTECTION,
        "checkpoint_dir": checkpoints,
        "checkpoint_every": checkpoint_every,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said below in the command's own words
        try:
            fitted: Protection = method.fit(data, **options)
        except (CheckpointError, OutputError):
            if not overwrite:
                raise
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                for folder in (result, checkpoints):
                    shutil.rmtree(folder, ignore_errors=True)
            accelerator.wait_for_everyone()
            fitted = method.fit(data, **options)
    return fitted


def _release(
    protection: Protection,
    data: Dataset,
    result: Path,
    origin: dict[str, Any],
    image_format: str,
    num_proc: int | None,
) -> None:
    """Write the protected images, read them back and say how they compare."""
    from datasets import load_from_disk

    from hf_unlearnable.methods import describe_findings

    private = result / PRIVATE
    private.chmod(0o700)
    (private / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
    # A cache of our own: the default one lies beside the source, where nobody looks for protected images. It is private
    # too while it exists, so that a kill in the middle leaves it among private files; what is finished of it is used.
    cache = private / f"map-{data._fingerprint}-{image_format}.arrow"
    try:
        released = protection.release(
            data,
            image_format=image_format,
            num_proc=num_proc,
            cache_file_name=str(cache),
            desc="protecting images",
        )
    except RuntimeError as error:
        if "abruptly died" not in str(error):
            raise
        raise UnlearnableError(
            f"one of the {num_proc} processes that write the images was killed; expected all to come to their end. "
            f"Where memory is short use a smaller --num-proc"
        ) from error
    shutil.rmtree(result / PUBLISH, ignore_errors=True)  # half of it, from a process that was killed
    released.save_to_disk(result / PUBLISH)
    for file in private.glob("map*.arrow"):
        file.unlink()
    if found := describe_findings(protection.about["method"]["name"], protection.about["findings"]):
        typer.echo(found)
    verified = protection.verify(data, load_from_disk(str(result / PUBLISH)))
    (private / VERIFIED).write_text(json.dumps(verified.as_dict(), indent=2) + "\n")
    typer.echo(f"Read back from disk: {verified}.")


def _tell(protection: Protection) -> None:
    """What became of labels, sizes and modes, where that was not a matter of course."""
    about = protection.about
    if about["label_values"] is not None:
        names = ", ".join(about["classes"][:5]) + (", …" if len(about["classes"]) > 5 else "")
        typer.echo(
            f"Labels: the column {about['label_column']!r} was taken as {len(about['classes'])} classes: {names}."
        )
    if about["resampled"]:
        height, width = about["image_shape"][1:]
        typer.echo(
            f"Sizes: {about['resampled']} of {about['images']} images ({about['image_sizes']}) keep theirs; their "
            f"perturbations were optimised at {width}x{height} and resampled."
        )
    for change, count in about["conversions"].items():
        typer.echo(f"Modes: {count} of {about['images']} images go from {change}: theirs cannot carry a perturbation.")
