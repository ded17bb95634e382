"""The command ``hf-unlearnable``: protect, measure, demo, env; the others are in ``cli_report`` and ``cli_hub``.

The heavy packages are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_unlearnable import cli_hub, cli_report
from hf_unlearnable.allocator import keep_freed_memory
from hf_unlearnable.budget import Budget
from hf_unlearnable.cli_protect import Epochs, Images, Labels, protect, protect_dataset
from hf_unlearnable.errors import (
    RecipeError,
    SourceError,
    UnlearnableError,
)
from hf_unlearnable.outputs import CELLS, MEASURED, ORIGIN, PRIVATE, PUBLISH, REPORT, report_folder

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_unlearnable.results import Report

app = typer.Typer(
    help="Make image datasets unlearnable, and measure how well that works.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (protect, cli_report.report, cli_hub.push, cli_hub.pull, cli_hub.verify):
    app.command()(command)

INTERRUPTED = 130  # the exit status of Ctrl-C


@app.command()
def measure(
    output: Annotated[Path, typer.Argument(help="What protect wrote, or any protected dataset.")],
    clean: Annotated[str | None, typer.Option(help="The originals (default: what was protected).")] = None,
    clean_split: Annotated[str | None, typer.Option(help="Their split (default: what was protected).")] = None,
    test: Annotated[str | None, typer.Option(help="Clean images to test on (default: as --clean).")] = None,
    test_split: Annotated[
        str | None, typer.Option(help="Their split (default: test, or the only one of --test).")
    ] = None,
    victim: Annotated[
        list[str] | None,
        typer.Option(help="small-resnet, small-vgg, small-vit, resnet-18, folder or Hub id; may be repeated."),
    ] = None,
    ratios: Annotated[str, typer.Option(help="Shares of protected images, 0 is clean, 1 protected.")] = "0,0.5,1",
    defences: Annotated[str, typer.Option(help="What the thief does, such as none,jpeg,jpeg:50,grayscale.")] = "none",
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Also clean images first, protected ones afterwards.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Victims of each kind.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of each victim.")] = 12,
    image_column: Images = None,
    label_column: Labels = None,
) -> None:
    """Train fresh models on the protected set and print what they learn; pictures and JSON go to OUTPUT/report.

    For a folder that another tool made they go to OUTPUT-report beside it.
    """
    from hf_unlearnable.sources import load_source

    origin_file = output / PRIVATE / ORIGIN
    origin = json.loads(origin_file.read_text()) if origin_file.exists() else {}
    clean = clean or origin.get("dataset")
    if clean is None:
        if not output.is_dir():
            raise SourceError(
                f"got {str(output)!r}; expected the folder that hf-unlearnable protect --output wrote, or, with "
                f"--clean DATASET, any protected dataset"
            )
        raise SourceError(f"{str(output)!r} does not say what was protected; name the originals with --clean DATASET")
    protected = load_source(str(output / PUBLISH if (output / PUBLISH).is_dir() else output))
    config = origin.get("config") if clean == origin.get("dataset") else None
    originals = load_source(clean, clean_split or origin.get("split", "train"), config)
    if clean == origin.get("dataset") and clean_split is None and "rows" in origin:
        originals = originals.select(range(origin["rows"]))
    tests = load_source(test, test_split) if test else load_source(clean, test_split or "test", config)
    _measure(
        protected,
        originals,
        tests,
        report_folder(output) if output.exists() else Path(f"{output.name}-{REPORT}"),  # here, for one on the Hub
        victims=victim or ["small-resnet"],
        defences=_listed(defences),
        ratios=_ratios(ratios),
        sequential=sequential,
        seeds=seeds,
        epochs=epochs,
        image_column=image_column,
        label_column=label_column,
    )


def _listed(text: str) -> list[str]:
    """Entries between commas; one with an equals sign goes on with the one before: blur:kernel=5,sigma_low=1."""
    entries: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if entries and "=" in part and ":" not in part:
            entries[-1] += f",{part}"
        else:
            entries.append(part)
    return entries


def _ratios(text: str) -> list[float]:
    try:
        return [float(part) for part in _listed(text)]
    except ValueError as error:
        raise RecipeError(f"got --ratios {text}; expected shares of protected images, such as 0,0.5,1") from error


def _measure(
    protected: Dataset,
    clean: Dataset,
    test: Dataset,
    folder: Path,
    *,
    seeds: int,
    epochs: int,
    image_column: str | None = None,
    label_column: str | None = None,
    **what: Any,
) -> Report:
    from hf_unlearnable.measurement import SEEDS, learnability
    from hf_unlearnable.report import accuracy_chart, image_grid
    from hf_unlearnable.sharding import default_accelerator
    from hf_unlearnable.training import Training

    accelerator = default_accelerator()
    if accelerator.is_main_process:
        typer.echo(
            f"Training fresh models; what is finished is kept in {folder / CELLS}, so that a stopped run goes on."
        )
    report = learnability(
        protected,
        clean=clean,
        test=test,
        **what,
        accelerator=accelerator,
        keep_in=folder / CELLS,
        training=Training(epochs=epochs),
        seeds=[SEEDS[0] + index for index in range(seeds)],
        image_column=image_column,
        label_column=label_column,
    )
    if not accelerator.is_main_process:
        return report
    folder.mkdir(exist_ok=True)
    report.save(folder / MEASURED)
    report.save(folder / "learnability.csv")
    accuracy_chart(report, folder / "accuracy.png")
    image_grid(clean, protected, folder / "images.png", image_column=image_column, label_column=label_column)
    typer.echo(f"\n{report}\n")
    typer.echo(f"{folder}/learnability.json, learnability.csv, accuracy.png, images.png written")
    typer.echo(f"To see it all on one page:  hf-unlearnable report {folder.parent}")
    return report


@app.command()
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
    """Protect a part of Fashion-MNIST with MI-UE and show that models trained on it fail on real images."""
    from hf_unlearnable.fashion_mnist import fashion_mnist
    from hf_unlearnable.methods import MIUE
    from hf_unlearnable.outputs import check_free

    allowance = Budget.parse(budget)
    check_free(output)
    typer.echo("Getting Fashion-MNIST.")
    splits = fashion_mnist(data)
    train = splits["train"].select(range(min(images, len(splits["train"]))))
    test = splits["test"].select(range(min(images, len(splits["test"]))))
    method = MIUE(seed=seed) if epochs is None else MIUE(seed=seed, epochs=epochs)
    origin = {"dataset": str(data.absolute()), "split": "train", "rows": len(train)}
    protect_dataset(train, output, method, {"budget": allowance}, origin)
    from datasets import load_from_disk

    protected = load_from_disk(str(output / PUBLISH))
    report = _measure(protected, train, test, output / REPORT, seeds=seeds, epochs=12)
    typer.echo(
        f"\nA model that learned from the clean images names {100 * report.accuracy('clean'):.0f} of 100 new real "
        f"images correctly, one that learned from the protected images {100 * report.accuracy('protected'):.0f}. "
        f"Look at {output / REPORT / 'images.png'} and {output / REPORT / 'accuracy.png'}."
    )


@app.command()
def env() -> None:
    """Print versions and devices, for a bug report."""
    import platform

    import torch

    from hf_unlearnable.methods import available_methods
    from hf_unlearnable.versions import versions

    for name, value in versions().items():
        typer.echo(f"{name:<16} {value}")
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    typer.echo(f"{'platform':<16} {platform.platform()}")
    typer.echo(f"{'cpu threads':<16} {torch.get_num_threads()}")
    typer.echo(f"{'gpu':<16} {', '.join(devices) or 'none'}")
    typer.echo(f"{'methods':<16} {', '.join(available_methods())}")


def main() -> None:
    """Run the command line: foreseen errors as one message without a traceback, Ctrl-C as exit status 130."""
    keep_freed_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    show = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        """Ours as a sentence, without the line of code that it came from."""
        if issubclass(category, UserWarning):
            typer.echo(f"Warning: {message}", err=True)
        else:
            show(message, category, *where, **more)

    warnings.showwarning = tell
    try:
        app()
    except UnlearnableError as error:
        _fail(str(error))
    except OSError as error:  # a full disk, a read-only folder: the system's message says it all
        _fail(f"{error}; nothing was left under the output's name")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("\nStopped; nothing was left under the output's name.", err=True)
        raise


def _fail(message: str) -> None:
    typer.echo(f"\nError: {message}", err=True)
    sys.exit(1)
