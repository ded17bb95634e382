"""The command that protects a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hf_unlearnable.cli.hub import push
from hf_unlearnable.cli.options_file import keep_options
from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import (
    EVERY,
    ClassDepth,
    DropColumn,
    Epochs,
    ImageFiles,
    ImageFormat,
    Images,
    Labels,
    LeaveOut,
    MaxPixels,
    Names,
    NumProc,
    Subset,
    record,
)
from hf_unlearnable.cli.telling import look_and_tell, protect_and_tell, tell_needed
from hf_unlearnable.errors import RecipeError

if TYPE_CHECKING:
    from hf_unlearnable.methods import Method


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
    leave_out: LeaveOut = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option("--skip-unreadable", help="Leave images out that cannot be read, of splits that stay clean, too."),
    ] = False,
    class_depth: ClassDepth = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="As the command env lists them, also with settings: 'beo:mode=self,steps=40' (default: mi-ue; texture "
            "for images of one class, without --others)."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Which split to protect; all keeps every split.")] = "train",
    keep_clean: Annotated[
        list[str] | None,
        typer.Option(help="With --split all: a split that goes along unprotected, such as test; may be repeated."),
    ] = None,
    drop_column: DropColumn = None,
    hold_out: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Keep this share of every class back, clean, for measure to test on: 0.2."),
    ] = None,
    drop_unlabelled: Annotated[
        bool, typer.Option("--drop-unlabelled", help="Leave rows out whose label is null, NaN or -1.")
    ] = False,
    duplicates: Annotated[
        Literal["apart", "share"],
        typer.Option(help="Copies of an image with several labels: a perturbation each (apart), or share one."),
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
    image_format: ImageFormat = "png",
    labels: Annotated[
        str,
        typer.Option(
            help="auto (a label column; else as below, or one owner), none (one owner), clusters:10 (of images that "
            "look alike), captions:10,MODEL (of texts), largest:COLUMN (object or mask), frequent:COLUMN (of several "
            "labels)."
        ),
    ] = "auto",
    craft: Annotated[
        bool,
        typer.Option(
            "--craft-unseen", help="Let OUTPUT/private protect images too that are added later; one owner's always can."
        ),
    ] = False,
    others: Annotated[
        str | None,
        typer.Option(
            help="Clean images of others, for methods that tell classes apart; none of them is written to OUTPUT."
        ),
    ] = None,
    others_split: Annotated[str | None, typer.Option(help="Their split (default: train).")] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Protect pictures that came later as this earlier OUTPUT; writes files."),
    ] = None,
    epochs: Epochs = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Same seed, same bytes (default: the recipe's, 0).")
    ] = None,
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="A victim that env lists, folder or Hub id; may be given several times."),
    ] = None,
    image_files: ImageFiles = None,
    names: Names = "kept",
    also_jpeg: Annotated[
        int | None,
        typer.Option(min=1, max=100, metavar="QUALITY", help="Also write copies with losses to OUTPUT/images-jpeg."),
    ] = None,
    num_proc: NumProc = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT, and what another unfinished run left of it.")
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="Seconds between two checkpoints, from which the same command goes on.")
    ] = 300.0,
    cache: Annotated[
        Literal["disk", "device"],
        typer.Option(help="Images and perturbations while fitting: on disk, or on the device."),
    ] = "disk",
    image_column: Images = None,
    label_column: Labels = None,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
    push_to: Annotated[
        str | None,
        typer.Option("--push", metavar="USER/NAME", help="Push to the Hub too, privately; the command push says more."),
    ] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="With --push: see there (default: 5).")] = None,
    patience: Annotated[float | None, typer.Option(min=0.01, help="With --push: see there (default: 300).")] = None,
) -> None:
    """Protect a dataset: OUTPUT/dataset is to be published, OUTPUT/private undoes it and is not."""
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.data.columns import columns_left
    from hf_unlearnable.data.pixels import check_format
    from hf_unlearnable.methods import Method
    from hf_unlearnable.methods.labelling import Labels as Labelling
    from hf_unlearnable.runs import RunFolder
    from hf_unlearnable.runs.image_files import check_names
    from hf_unlearnable.runs.inspecting import open_dataset
    from hf_unlearnable.runs.outputs import check_output, check_output_apart
    from hf_unlearnable.runs.test_images import check_share, next_step
    from hf_unlearnable.settings import refuse_ignored

    if like is not None:
        options: dict[str, Any] = {"split": split, "config": subset, "image_format": image_format}
        options |= {"leave_out": leave_out, "skip_unreadable": skip_unreadable}
        _protect_like(context, like, dataset, output, **options)
        return
    # Everything that can be wrong with the words of the command, before anything slow.
    allowance = Budget.parse(budget)
    named, wanted = None if method is None else Method.parse(method), Labelling.parse(labels)
    given = {name: value for name, value in (("seed", seed), ("epochs", epochs)) if value is not None}
    if named:
        named = _with_settings(named, given)
        named.check(surrogate or None, others)
    wanted.require()
    check_format(image_format)
    check_names(names)
    check_share(hold_out)
    source: dict[str, Any] = {"split": split, "keep_clean": keep_clean or (), "config": subset}
    source |= {"class_depth": class_depth}
    source |= {"image_column": image_column, "label_column": label_column}
    tolerated = {"leave_out": leave_out, "skip_unreadable": skip_unreadable}
    if dry_run:
        files = {"image_format": image_format, "image_files": image_files, "output": output or ""}
        opened = open_dataset(dataset, split, subset, class_depth, keep_clean or (), wanted)
        left = columns_left(opened.dataset, drop_column or (), image_column, label_column)
        seen = look_and_tell(
            replace(opened, dataset=left), budget=allowance, decode=True, labels=wanted, **files, **source
        )
        tell_needed(seen.needed(**tolerated, drop_unlabelled=drop_unlabelled), seen.lonely)
        return
    if output is None:
        raise typer.BadParameter("name the folder to write", param_hint="--output")
    check_output_apart(dataset, output)
    if others is not None:
        check_output_apart(others, output)
    check_output(output, overwrite)
    waiting: dict[str, Any] = {"attempts": attempts, "patience": patience}
    if push_to:
        from hf_unlearnable.hub.publish import check_login
        from hf_unlearnable.hub.retry import Retry

        waiting = {name: value for name, value in waiting.items() if value is not None}
        check_login(push_to, retry=Retry(**waiting))
    else:
        refuse_ignored("and no --push", **waiting)
    written = protect_and_tell(
        dataset,
        output,
        lambda default: named or _with_settings(default, given),
        budget=allowance,
        **source,
        **tolerated,
        drop_columns=drop_column or (),
        hold_out=hold_out,
        unlabelled="drop" if drop_unlabelled else "error",
        duplicates=duplicates,
        surrogate=surrogate or None,
        labels=wanted,
        others=others,
        others_split=others_split,
        resolution=resolution,
        on_unseen="craft" if craft else None,
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
        push(output, push_to, **waiting)
    typer.echo(f"\n{next_step(RunFolder(output), str(output), others)}")


WITH_LIKE = {"dataset", "output", "like", "split", "subset", "image_format", "max_pixels", "plugin"}
WITH_LIKE |= {"leave_out", "skip_unreadable"}


def _protect_like(context: typer.Context, run: Path, pictures: str, output: Path | None, **options: Any) -> None:
    """What ``--like`` does."""
    from hf_unlearnable.runs import protect_like
    from hf_unlearnable.runs.outputs import check_output_apart

    for param in context.command.params:
        source = context.get_parameter_source(str(param.name))
        if param.name not in {*WITH_LIKE, *EVERY} and source is not None and source.name != "DEFAULT":
            raise RecipeError(f"got {param.opts[0]} with --like, which protects as {run} was protected; leave it out")
    if output is None:
        raise typer.BadParameter("name the folder to write", param_hint="--output")
    check_output_apart(pictures, output)
    figures = protect_like(run, pictures, output, **options)
    record(output=output, verification=figures.as_dict())
    typer.echo(f"{output}: {figures}.")


def _with_settings(recipe: Method, given: dict[str, int]) -> Method:
    """The recipe with the settings that have an option of their own."""
    if "epochs" in given and not hasattr(recipe, "epochs"):
        raise RecipeError(f"got --epochs for the method {recipe.name}, which has none; leave it out")
    return replace(recipe, **given)
