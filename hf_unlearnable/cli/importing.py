"""The command that takes over perturbations of another tool."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_unlearnable.cli.options_file import keep_options
from hf_unlearnable.cli.shared import (
    ClassDepth,
    DropColumn,
    ImageFiles,
    ImageFormat,
    Images,
    Labels,
    LeaveOut,
    MaxPixels,
    Names,
    NumProc,
    Subset,
)
from hf_unlearnable.cli.telling import protect_and_tell


class Layout(str, Enum):
    """The order of the axes."""

    nchw = "nchw"
    nhwc = "nhwc"


class Scale(str, Enum):
    """What white is."""

    one = "1"
    levels = "255"


class Per(str, Enum):
    """What a perturbation belongs to."""

    image = "image"
    one_class = "class"


def import_noise(
    context: typer.Context,
    noise: Annotated[Path, typer.Argument(help="One array of numbers: .npy, .pt or .safetensors.")],
    dataset: Annotated[str, typer.Argument(help="The images that it was made for, as protect takes them.")],
    output: Annotated[Path, typer.Option(help="Folder to write; must not hold anything yet.")],
    budget: Annotated[str, typer.Option(help="What the perturbations keep: '8/255', 'linf:8', 'l2:255'.")],
    layout: Annotated[Layout | None, typer.Option(help="Order of the axes, where the shape does not tell.")] = None,
    scale: Annotated[
        Scale | None, typer.Option(help="Of images up to 1, or up to 255, where the numbers do not tell.")
    ] = None,
    per: Annotated[Per | None, typer.Option(help="One for each image, or for each class, where it is both.")] = None,
    clip: Annotated[bool, typer.Option("--clip", help="Bring what is larger into the budget.")] = False,
    split: Annotated[str, typer.Option(help="Which split of the images.")] = "train",
    subset: Subset = None,
    class_depth: ClassDepth = None,
    leave_out: LeaveOut = False,
    drop_column: DropColumn = None,
    image_format: ImageFormat = "png",
    image_files: ImageFiles = None,
    names: Names = "kept",
    num_proc: NumProc = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT.")] = False,
    image_column: Images = None,
    label_column: Labels = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Take over perturbations that another tool made: OUTPUT is then as if protect had written it."""
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.runs import RunFolder
    from hf_unlearnable.runs.importing import Imported, read_noise
    from hf_unlearnable.runs.outputs import check_output
    from hf_unlearnable.runs.test_images import next_step

    allowance = Budget.parse(budget)
    check_output(output, overwrite)
    told: dict[str, Any] = {"layout": layout and layout.value, "scale": scale and int(scale.value)}
    recipe = Imported(noise=read_noise(noise), **told, per=per and per.value, clip=clip)  # type: ignore[arg-type]
    protect_and_tell(
        dataset,
        output,
        lambda _: recipe,
        budget=allowance,
        split=split,
        config=subset,
        class_depth=class_depth,
        leave_out=leave_out,
        drop_columns=drop_column or (),
        image_format=image_format,
        image_files=image_files,
        names=names,
        num_proc=num_proc,
        overwrite=overwrite,
        image_column=image_column,
        label_column=label_column,
    )
    keep_options(context, RunFolder(output).private)
    typer.echo(f"\n{next_step(RunFolder(output), str(output))}")
