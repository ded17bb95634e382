"""The command that trains models on a protected set and prints what they learn."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_unlearnable.cli.options_file import keep_options
from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import Clean, CleanSplit, Images, Labels, MaxPixels, record
from hf_unlearnable.errors import RecipeError, number_of

if TYPE_CHECKING:
    from hf_unlearnable.evaluation.report import Report
    from hf_unlearnable.runs import RunFolder


def measure(
    context: typer.Context,
    output: Annotated[Path, typer.Argument(help="What protect wrote, or any protected dataset.")],
    clean: Clean = None,
    clean_split: CleanSplit = None,
    test: Annotated[str | None, typer.Option(help="Clean images to test on (default: as --clean).")] = None,
    test_split: Annotated[
        str | None, typer.Option(help="Their split (default: test, or the only one of --test).")
    ] = None,
    victim: Annotated[
        list[str] | None,
        typer.Option(help="small-resnet or another one that env lists, folder or Hub id; may be repeated."),
    ] = None,
    training: Annotated[
        list[str] | None,
        typer.Option(help="sgd, adamw, short, strong, sgd-strong or long; may be repeated (default: sgd)."),
    ] = None,
    owner: Annotated[
        bool,
        typer.Option(
            "--owner", help="Ask whether a model learns these images, as one class among clean ones of others."
        ),
    ] = False,
    others: Annotated[
        str | None, typer.Option(help="With --owner: those clean images (default: generated ones, a weak question).")
    ] = None,
    others_split: Annotated[str | None, typer.Option(help="Their split (default: train).")] = None,
    others_test: Annotated[str | None, typer.Option(help="Further ones to test on (default: as --others).")] = None,
    others_test_split: Annotated[
        str | None, typer.Option(help="Their split (default: a fifth of --others is held out).")
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(help="Shares of protected images, 0 is clean, 1 protected (default: 0,0.5,1; with --owner 0,1)."),
    ] = None,
    defences: Annotated[
        str | None, typer.Option(help="What the thief does, as env lists them: none,jpeg,jpeg:50 (default: none).")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="quick, standard or full: thieves of many kinds, one of whom knows the method (default: quick, if "
            "none are named)."
        ),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Also clean images first, protected ones afterwards.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Victims of each kind.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of each victim.")] = 12,
    num_proc: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train side by side (default: on a CPU one a core, if it pays)."),
    ] = None,
    image_column: Images = None,
    label_column: Labels = None,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
) -> None:
    """Train fresh models on the protected set and print what they learn; pictures and JSON go to OUTPUT/report.

    For a folder that another tool made they go to OUTPUT-report beside it.
    """
    from accelerate import PartialState

    from hf_unlearnable.runs import RunFolder

    run = RunFolder(output)
    measure_and_tell(
        run,
        clean=clean,
        clean_split=clean_split,
        test=test,
        test_split=test_split,
        victims=victim or None,
        trainings=training or None,
        defences=None if defences is None else _listed(defences),
        suite=suite,
        owner=owner,
        others=others,
        others_split=others_split,
        others_test=others_test,
        others_test_split=others_test_split,
        ratios=None if ratios is None else _ratios(ratios),
        sequential=sequential,
        seeds=seeds,
        epochs=epochs,
        num_proc=num_proc,
        image_column=image_column,
        label_column=label_column,
    )
    if PartialState().is_main_process:
        keep_options(context, run.report_folder)


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
        shares = [float(part) for part in _listed(text)]
    except ValueError:
        shares = []
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise RecipeError(f"got --ratios {text}; expected shares of protected images from 0 to 1, such as 0,0.5,1")
    return shares


OTHERS = ("others", "others_split", "others_test", "others_test_split")  # options of ``runs.measure``


def measure_and_tell(
    run: RunFolder,
    *,
    seeds: int,
    epochs: int,
    num_proc: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    **options: Any,
) -> Report:
    """Measure a run, draw what was found, and say it in the main process."""
    from hf_unlearnable.evaluation.protocol import SEEDS, chosen_thieves, ratios_of, trials
    from hf_unlearnable.evaluation.verdicts import verdict_in_words
    from hf_unlearnable.reports.charts import accuracy_chart, keep_picture, missing
    from hf_unlearnable.reports.images import image_grid
    from hf_unlearnable.runs import measuring
    from hf_unlearnable.training import Training
    from hf_unlearnable.training.processes import default_accelerator

    accelerator = default_accelerator()
    named = {name: options.pop(name, None) for name in ("clean", "clean_split", "test", "test_split")}
    named_others = {name: options.pop(name, None) for name in OTHERS}
    owner = options.pop("owner", False)
    options = measuring.with_suite(options, run)
    training, numbers = Training(epochs=epochs), [SEEDS[0] + index for index in range(seeds)]
    choice = {name: options.get(name) for name in ("victims", "defences", "trainings", "suite", "attack")}
    thieves, _ = chosen_thieves(**choice, training=training)
    for thief in thieves:
        thief.require()
    planned = trials(
        thieves,
        ratios_of(options.get("ratios"), owner=owner),
        numbers,
        sequential=options.get("sequential", False),
        mixtures_for_all=options.get("suite") is None,
        owner=owner,
    )
    columns = {"image_column": image_column, "label_column": label_column}
    measurement = measuring.Measurement.open(run, **named, owner=owner, **named_others, **columns)
    if accelerator.is_main_process:
        typer.echo(
            f"Up to {len(planned)} trainings of fresh models, for {number_of(len(thieves), 'kind')} of thief; what is "
            f"finished is kept in {run.victims}, so that a stopped run goes on."
        )
    report = measurement.measure(
        **options, **columns, accelerator=accelerator, training=training, seeds=numbers, num_proc=num_proc
    )
    if not accelerator.is_main_process:
        return report
    typer.echo(f"\n{report}\n")
    written = [str(run.measured), "learnability.csv"]
    if not (why := missing()):
        sets = measurement.originals, measurement.protected
        shown = partial(image_grid, *sets, image_column=image_column, label_column=label_column)
        keep_picture(run.beside("accuracy.png"), partial(accuracy_chart, report))
        keep_picture(run.beside("images.png"), shown)
        written += ["accuracy.png", "images.png"]
    typer.echo(f"{', '.join(written)} written" + (f". Without pictures: {why}" if why else ""))
    if not why:
        typer.echo(f"To see it all on one page:  {_report_command(run, named, image_column, label_column)}")
    record(output=run.given, report=run.measured, learnability=report.as_dict(), verdict=verdict_in_words(report))
    typer.echo(f"\n{verdict_in_words(report)}")
    return report


def _report_command(run: RunFolder, named: dict[str, Any], image_column: str | None, label_column: str | None) -> str:
    """The command for the page of what was measured, with what has to be named; of the figures alone for a Hub id."""
    if not run.root.is_dir():
        return shlex.join(["hf-unlearnable", "report", str(run.report_folder)])
    # Sets in memory, as the demo has them, have no name to be given; the run knows their origin.
    given = {name: named[name] for name in ("clean", "clean_split") if isinstance(named[name], str)}
    given |= {} if run.is_complete else {"image_column": image_column, "label_column": label_column}
    options = [word for name, value in given.items() if value for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["hf-unlearnable", "report", str(run.given), *options])
