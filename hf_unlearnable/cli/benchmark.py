"""The commands that compare methods: run a comparison, make its pages, check a row before it is sent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import MaxPixels, record
from hf_unlearnable.errors import RecipeError, UnlearnableError

if TYPE_CHECKING:
    from hf_unlearnable.benchmark.running import Work


def benchmark(
    config: Annotated[Path | None, typer.Argument(help="YAML file of what is compared; see the documentation.")] = None,
    suite: Annotated[
        str | None, typer.Option(help="One of this package instead: cpu-quick (minutes), cpu (a night) or gpu.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; one that was stopped goes on.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be done, and how long it takes; do nothing.")
    ] = False,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
) -> None:
    """Compare methods by one protocol: fit, train, test, keep every cell, and write the leaderboard.

    The same command goes on after a kill. Start it several times with one output, or by accelerate launch, and the
    processes share the cells.
    """
    from hf_unlearnable.benchmark.config import SUITES, Config, text_of
    from hf_unlearnable.benchmark.estimate import estimate
    from hf_unlearnable.benchmark.metering import work_alone
    from hf_unlearnable.benchmark.pages import write_pages
    from hf_unlearnable.benchmark.records import CELLS, SETS, require_config
    from hf_unlearnable.benchmark.running import Work, run

    worker = work_alone()
    if (config is None) == (suite is None) or suite not in (None, *SUITES):
        raise RecipeError(
            f"got CONFIG {config or 'missing'} and --suite {suite or 'missing'}; expected a YAML file, or --suite with "
            f"one of {', '.join(SUITES)}"
        )
    name = str(config or suite)
    text = text_of(name)
    chosen = Config.parse(text, name)
    if output is None and not dry_run:
        raise RecipeError("got no --output; expected the folder to keep the cells in, or --dry-run")
    folder = output or Path(f".{Path(name).stem}-dry-run")
    if output is not None:  # a look tells, too, that the folder is another comparison's
        require_config(folder.absolute(), text)
    if worker == 0:
        work = Work.plan(chosen, folder.absolute())
        if dry_run:
            _list(work)
        expected = estimate(work)
        typer.echo(f"{expected}.")
        record(
            fits=len(work.protected),
            cells=len(work.cells),
            left={"fits": expected.fits, "cells": expected.cells, "seconds": round(expected.seconds)},
        )
    if dry_run:
        if worker == 0:
            record(planned=[cell.identity for cell in work.cells])
        return
    failed = None
    try:
        run(chosen, folder, text=text, worker=worker, progress=False, say=typer.echo)
    except UnlearnableError as error:  # what is finished shows all the same, with gaps
        failed = error
    if worker == 0 and all(any((folder / kind).glob("*.json")) for kind in (CELLS, SETS)):
        pages = write_pages([folder], folder)
        record(output=folder, pages=pages)
        typer.echo(f"\n{', '.join(map(str, pages))} written.\n\n{pages[0].read_text(encoding='utf-8')}")
    if failed is not None:
        raise failed


def _list(work: Work) -> None:
    """What is planned: a line for each protected set, and for each dataset what needs none."""
    groups: dict[str, Counter[str]] = {}
    for cell in work.cells:
        group = str(cell.protected) if cell.protected else f"{cell.data.name}: without protected images"
        case = cell.trial.case + (f" {cell.trial.ratio:g}" if 0 < cell.trial.ratio < 1 else "")
        groups.setdefault(group, Counter())[f"{case}: {cell.trial.thief.name}, {cell.trial.thief.defence}"] += 1
    for group, cells in groups.items():
        typer.echo(f"{group}: {cells.total()} cells")
        for words, seeds in cells.items():
            typer.echo(f"    {words}{f', {seeds} seeds' if seeds > 1 else ''}")


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Folders that benchmark wrote.")],
    output: Annotated[Path, typer.Option(help="Folder for the pages and the cells that they link to.")],
) -> None:
    """Make the leaderboard, Markdown and one HTML file, from the cells of one or several runs."""
    from hf_unlearnable.benchmark.pages import write_pages

    pages = write_pages(runs, output)
    record(pages=pages)
    typer.echo(f"{', '.join(map(str, pages))} written.")


def submit(
    row: Annotated[Path, typer.Argument(help="The folder of a run, or one file of its sets/.")],
    repeat: Annotated[int, typer.Option(min=0, max=1000, help="Cells, drawn at random, that are trained again.")] = 1,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
) -> None:
    """Check a row: protocol, budget on the released bytes, digests, repeated cells. Nothing is sent."""
    from hf_unlearnable.benchmark.metering import work_alone
    from hf_unlearnable.benchmark.submission import check

    work_alone()
    checked = check(row, repeat=repeat, progress=False)
    record(files=checked.files, missing=checked.missing, repeated=checked.repeated, command=checked.command)
    typer.echo(str(checked))
