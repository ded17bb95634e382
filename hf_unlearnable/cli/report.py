"""The command that turns one run, or several side by side, into a page to look at."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import Clean, CleanSplit, Images, Labels, MaxPixels, record
from hf_unlearnable.errors import RecipeError


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="What protect --output wrote, or a learnability.json of any name; several are laid side by side.",
        ),
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Leave out clean images, perturbations, seeds, local names and paths.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="What to call one of several runs; once for each, in their order. Shown to the public too."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page of several runs (default: comparison.html in this folder, or comparison-public.html)."
        ),
    ] = None,
    clean: Clean = None,
    clean_split: CleanSplit = None,
    image_column: Images = None,
    label_column: Labels = None,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
) -> None:
    """Write one HTML page on what was protected, how visible it is, how much it protects and where it fails.

    With several runs: one page that lays them side by side, against every countermeasure that was measured.
    """
    if len(runs) > 1:
        _compare(
            runs,
            names=name,
            public=public,
            output=output,
            unused={
                "--clean": clean,
                "--clean-split": clean_split,
                "--image-column": image_column,
                "--label-column": label_column,
                "--max-pixels": max_pixels,
            },
        )
        return
    from hf_unlearnable.reports.charts import missing
    from hf_unlearnable.reports.run_report import write_report

    run = runs[0]
    if name:
        raise RecipeError(f"got --name {name[0]} for one run; leave it out, or name the runs to compare it with")
    if output is not None:
        raise RecipeError(
            f"got --output {output} for one run, whose page and pictures are written beside its figures; leave it "
            f"out, or name the runs to compare it with"
        )
    words = ["hf-unlearnable", "report", str(run)]
    given: dict[str, object] = {"--clean": clean, "--clean-split": clean_split}
    given |= {"--image-column": image_column, "--label-column": label_column, "--max-pixels": max_pixels}
    words += [word for option, value in given.items() if value for word in (option, str(value))]
    written = write_report(
        run,
        public=public,
        clean=clean,
        clean_split=clean_split,
        image_column=image_column,
        label_column=label_column,
        command=shlex.join(words),
    )
    record(written=written, public=public)
    typer.echo(
        f"{written[0]} written" + (", and " + ", ".join(file.name for file in written[1:]) if written[1:] else "")
    )
    if why := missing():
        typer.echo(f"Without charts: {why}")
    elif not public and not any(file.name.endswith("images.png") for file in written):
        typer.echo("Without pictures of what was changed: the page says why.")
    typer.echo(
        "It may be shown: nothing clean, no perturbation, seed or local name is in it."
        if public
        else "Keep them private; for a page to show: --public"
    )


def _compare(
    runs: list[Path], *, names: list[str] | None, public: bool, output: Path | None, unused: dict[str, object]
) -> None:
    from hf_unlearnable.reports.comparison import write_comparison

    given = [name for name, value in unused.items() if value is not None]
    if given:
        raise RecipeError(
            f"got {' and '.join(given)} with {len(runs)} runs, whose page shows figures only and no images; leave "
            f"{'them' if len(given) > 1 else 'it'} out, or name one run"
        )
    words = ["hf-unlearnable", "report", *map(str, runs), *(["--output", str(output)] if output is not None else [])]
    words += [word for name in names or [] for word in ("--name", name)]
    page = write_comparison(runs, output, names=names or None, public=public, command=shlex.join(words))
    record(written=[page], public=public)
    typer.echo(f"{page} written")
    typer.echo(
        "It may be shown: no seed or local name is in it."
        if public
        else "Look before you show it: seeds, local names and paths are in it; for a page to show: --public"
    )
