"""The command that shows the whole path on Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_unlearnable.cli.measure import measure_and_tell
from hf_unlearnable.cli.shared import Epochs
from hf_unlearnable.cli.telling import protect_and_tell


def demo(
    output: Annotated[Path, typer.Option(help="Folder to write; must not hold anything yet.")] = Path("demo"),
    data: Annotated[Path, typer.Option(help="Where Fashion-MNIST is kept once it was fetched.")] = Path(
        "data/fashion-mnist"
    ),
    images: Annotated[int, typer.Option(min=20, help="Training images.")] = 3000,
    budget: Annotated[str, typer.Option(help="Largest change of a pixel.")] = "8/255",
    seeds: Annotated[int, typer.Option(min=1, help="Victims of each kind.")] = 1,
    epochs: Epochs = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Protect a part of Fashion-MNIST with MI-UE and show what models trained on it learn, and who knows the method."""
    from hf_unlearnable.budget import Budget
    from hf_unlearnable.data.fashion_mnist import fashion_mnist
    from hf_unlearnable.files import require_empty
    from hf_unlearnable.methods import MIUE
    from hf_unlearnable.runs import Origin, RunFolder
    from hf_unlearnable.training.processes import default_accelerator

    allowance = Budget.parse(budget)
    accelerator = default_accelerator()
    require_empty(output)
    if accelerator.is_main_process:
        typer.echo("Getting Fashion-MNIST.")
    splits = fashion_mnist(data)
    train = splits["train"].select(range(min(images, len(splits["train"]))))
    test = splits["test"].select(range(min(images, len(splits["test"]))))
    method = MIUE(seed=seed) if epochs is None else MIUE(seed=seed, epochs=epochs)
    origin = Origin.at(data, rows=len(train))
    protect_and_tell(train, output, lambda _: method, budget=allowance, origin=origin)
    accelerator.wait_for_everyone()  # the main process writes what all measure
    run = RunFolder(output)
    report = measure_and_tell(
        run,
        clean=train,
        test=test,
        victims=["small-resnet"],
        defences=["none", method.adaptive],  # without the second the verdict would say less than is known
        ratios=[0.0, 1.0],
        seeds=seeds,
        epochs=12,
    )
    if not accelerator.is_main_process:
        return
    cases = (("clean", "none"), ("protected", "none"), ("protected", method.adaptive))
    clean, plain, knowing = (f"{100 * report.accuracy(case, defence=defence):.0f}" for case, defence in cases)
    typer.echo(
        f"\nA model that learned from the clean images names {clean} of 100 new real images correctly, one that "
        f"learned from the protected images {plain}, and {knowing} where its maker knows the method "
        f"({method.adaptive}). Look at {run.beside('images.png')} and {run.beside('accuracy.png')}. It is one kind of "
        f"model: hf-unlearnable measure {output} sends others, and mixes protected images with clean ones."
    )
