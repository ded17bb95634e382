"""The command that protects a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_unlearnable.cli.hub import push
from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.errors import DataWarning, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_unlearnable.methods import Method

Images = Annotated[str | None, typer.Option("--image-column", help="Image column; found when there is only one.")]

Labels = Annotated[str | None, typer.Option("--label-column", help="Label column; found when there is only one.")]

Epochs = Annotated[int | None, typer.Option(min=1, help="Passes of the optimisation (default: the recipe's).")]


def protect(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Hub id, save_to_disk folder, parquet file or image folder.")],
    output: Annotated[Path, typer.Option(help="Folder to write; must not hold anything yet.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="As the command env lists them, also with settings: 'beo:mode=self,steps=40' (default: mi-ue; texture "
            "for images of one class)."
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="Largest change: '8/255', 'linf:8' or 'l2:255'.")] = "8/255",
    split: Annotated[str, typer.Option(help="Which split to protect.")] = "train",
    config: Annotated[str | None, typer.Option(help="Which configuration, where a dataset has several.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side in pixels at which larger images are optimised (default: see fit).")
    ] = None,
    image_format: Annotated[str, typer.Option(help="Files that are written, without loss: png or webp.")] = "png",
    labels: Annotated[
        str,
        typer.Option(
            help="auto (a label column; else one owner), none (one owner), or clusters:10, made of the images."
        ),
    ] = "auto",
    craft: Annotated[
        bool,
        typer.Option(
            "--craft-unseen", help="Let OUTPUT/private protect images too that are added later; one owner's always can."
        ),
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Protect pictures that came later as this earlier OUTPUT; writes files."),
    ] = None,
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
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.data.pixels import check_format
    from hf_unlearnable.data.sources import load_source
    from hf_unlearnable.files import require_empty
    from hf_unlearnable.methods import Method
    from hf_unlearnable.methods.labelling import Labels
    from hf_unlearnable.runs import Origin
    from hf_unlearnable.runs.protecting import check_apart, default_method

    if like is not None:
        _protect_like(context, like, dataset, output, split=split, config=config, image_format=image_format)
        return
    # Everything that can be wrong with the words of the command, before anything slow.
    allowance = Budget.parse(budget)
    named, wanted = method and Method.parse(method), Labels.parse(labels)
    given = {name: value for name, value in (("seed", seed), ("epochs", epochs)) if value is not None}
    if named:
        named = _with_settings(named, given)
    check_format(image_format)
    check_apart(dataset, output)
    if not overwrite:
        require_empty(output)
    if push_to:
        from hf_unlearnable.hub import check_login

        check_login(push_to)
    data = load_source(dataset, split, config)
    written = protect_and_tell(
        data,
        output,
        named or _with_settings(default_method(data, wanted, image_column, label_column), given),
        budget=allowance,
        origin=Origin.at(dataset, split=split, config=config),
        surrogate=surrogate or None,
        labels=wanted,
        image_column=image_column,
        label_column=label_column,
        resolution=resolution,
        on_unseen="craft" if craft else None,
        cache=cache,
        image_format=image_format,
        num_proc=num_proc,
        overwrite=overwrite,
        checkpoint_every=checkpoint_every,
    )
    if not written:
        return
    if push_to:
        push(output, push_to)
    typer.echo(f"\nNow see what it does:  hf-unlearnable measure {output}")


WITH_LIKE = {"dataset", "output", "like", "split", "config", "image_format", "plugin"}


def _protect_like(context: typer.Context, run: Path, pictures: str, output: Path, **options: Any) -> None:
    """What ``--like`` does."""
    from hf_unlearnable.runs import protect_like
    from hf_unlearnable.runs.protecting import check_apart

    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in WITH_LIKE and source is not None and source.name == "COMMANDLINE":
            option = next(param.opts[0] for param in context.command.params if param.name == name)
            raise RecipeError(f"got {option} with --like, which protects as {run} was protected; leave it out")
    check_apart(pictures, output)
    typer.echo(f"{output}: {protect_like(run, pictures, output, **options)}.")


def _with_settings(recipe: Method, given: dict[str, int]) -> Method:
    """The recipe with the settings that have an option of their own."""
    if "epochs" in given and not hasattr(recipe, "epochs"):
        raise RecipeError(f"got --epochs for the method {recipe.name}, which has none; leave it out")
    return replace(recipe, **given)


def protect_and_tell(data: Dataset, output: Path, method: Method, **options: Any) -> bool:
    """Protect in all processes, and say in the main one what was done; return whether this process is it."""
    from hf_unlearnable.runs import RunFolder, protect
    from hf_unlearnable.training.processes import default_accelerator

    accelerator = default_accelerator()
    if accelerator.is_main_process:
        typer.echo(f"Protecting {len(data)} images with {method.name}, budget {options['budget']}.")
    with _telling_what_is_kept(output, tell=accelerator.is_main_process), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said below in the command's own words
        protected = protect(data, output, method=method, accelerator=accelerator, **options)
    if protected is None:
        return False
    typer.echo(protected)
    run = RunFolder(output)
    typer.echo(
        f"\n{output / run.published.name}    publish this\n"
        f"{output / run.private.name}    keep this private: it undoes the protection\n"
        f"Publish the files as they are: JPEG compression or resizing takes a part of the protection away."
    )
    return True


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
