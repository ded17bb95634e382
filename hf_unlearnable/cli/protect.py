"""The command that protects a dataset."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_unlearnable.cli.hub import push
from hf_unlearnable.cli.options_file import keep_options
from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import Epochs, Images, Labels, MaxPixels, Subset
from hf_unlearnable.cli.telling import look_and_tell, protect_and_tell
from hf_unlearnable.errors import RecipeError


def protect(
    context: typer.Context,
    dataset: Annotated[
        str, typer.Argument(help="Hub id, save_to_disk folder, parquet file, or images in a folder, zip or tar.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; must not hold anything yet.", show_default="required")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look at the images, and say what would be done with them.")
    ] = False,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave files out that may be images and cannot be protected.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave images out that cannot be read.")
    ] = False,
    class_depth: Annotated[
        int | None, typer.Option(min=1, help="How many folders make the class (default: the whole path).")
    ] = None,
    method: Annotated[
        str, typer.Option(help="As the command env lists them, also with settings: 'beo:mode=self,steps=40'.")
    ] = "mi-ue",
    split: Annotated[str, typer.Option(help="Which split to protect; all keeps every split.")] = "train",
    keep_clean: Annotated[
        list[str] | None,
        typer.Option(help="With --split all: a split that goes along unprotected, such as test; may be repeated."),
    ] = None,
    drop_column: Annotated[list[str] | None, typer.Option(help="Leave this column out; may be repeated.")] = None,
    drop_unlabelled: Annotated[
        bool, typer.Option("--drop-unlabelled", help="Leave rows out whose label is null, NaN or -1.")
    ] = False,
    duplicates: Annotated[
        str, typer.Option(help="Copies of an image with several labels: a perturbation each (apart), or share one.")
    ] = "apart",
    budget: Annotated[
        str,
        typer.Option(
            help="Largest change: '8/255', 'linf:8', 'l2:255', or '8/255:adaptive': less where it would be seen."
        ),
    ] = "8/255",
    subset: Subset = None,
    resolution: Annotated[
        int | None,
        typer.Option(min=8, max=4096, help="Side in pixels at which larger images are optimised (default: see fit)."),
    ] = None,
    image_format: Annotated[str, typer.Option(help="Files that are written, without loss: png or webp.")] = "png",
    craft: Annotated[
        bool, typer.Option("--craft-unseen", help="Let OUTPUT/private protect images too that are added later.")
    ] = False,
    epochs: Epochs = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Same seed, same bytes (default: the recipe's, 0).")
    ] = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="A victim that env lists, folder or Hub id; may be given several times."),
    ] = None,
    image_files: Annotated[
        bool | None,
        typer.Option(
            "--image-files/--no-image-files",
            help="Also write the images as files to OUTPUT/images (default: where they came as files).",
        ),
    ] = None,
    names: Annotated[str, typer.Option(help="Of files: kept, or numbers where names tell too much.")] = "kept",
    also_jpeg: Annotated[
        int | None,
        typer.Option(min=1, max=100, metavar="QUALITY", help="Also write copies with losses to OUTPUT/images-jpeg."),
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
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
    push_to: Annotated[
        str | None,
        typer.Option("--push", metavar="USER/NAME", help="Push to the Hub too, privately; the command push says more."),
    ] = None,
) -> None:
    """Protect a dataset: OUTPUT/dataset is to be published, OUTPUT/private undoes it and is not."""
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.data.pixels import check_format
    from hf_unlearnable.files import require_empty
    from hf_unlearnable.methods import Method
    from hf_unlearnable.runs import RunFolder
    from hf_unlearnable.runs.image_files import check_names
    from hf_unlearnable.runs.protecting import check_apart

    # Everything that can be wrong with the words of the command, before anything slow.
    allowance = Budget.parse(budget)
    recipe = Method.parse(method)
    if epochs is not None and not hasattr(recipe, "epochs"):
        raise RecipeError(f"got --epochs for the method {method}, which has none; leave it out")
    given = {"seed": seed, "epochs": epochs}
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    check_format(image_format)
    check_names(names)
    source: dict[str, Any] = {"split": split, "keep_clean": keep_clean or (), "config": subset}
    source |= {"class_depth": class_depth}
    source |= {"image_column": image_column, "label_column": label_column}
    if dry_run:
        files = {"image_format": image_format, "image_files": image_files, "output": output or ""}
        look_and_tell(dataset, budget=allowance, decode=True, **files, **source)
        return
    if output is None:
        raise typer.BadParameter("name the folder to write", param_hint="--output")
    check_apart(dataset, output)
    if not overwrite:
        require_empty(output)
    if push_to:
        from hf_unlearnable.hub import check_login

        check_login(push_to)
    written = protect_and_tell(
        dataset,
        output,
        recipe,
        budget=allowance,
        **source,
        leave_out=leave_out,
        skip_unreadable=skip_unreadable,
        drop_columns=drop_column or (),
        unlabelled="drop" if drop_unlabelled else "error",
        duplicates=duplicates,
        surrogate=surrogate or None,
        resolution=resolution,
        on_unseen="craft" if craft else "error",
        cache=cache,
        image_format=image_format,
        image_files=image_files,
        names=names,
        also_jpeg=also_jpeg,
        num_proc=num_proc,
        overwrite=overwrite,
        checkpoint_every=checkpoint_every,
    )
    if not written:
        return
    keep_options(context, RunFolder(output).private)
    if push_to:
        push(output, push_to)
    typer.echo(f"\nNow see what it does:  hf-unlearnable measure {shlex.quote(str(output))}")
