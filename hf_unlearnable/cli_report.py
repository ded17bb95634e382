"""The command that turns a run into a page to look at."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What protect --output wrote, or a learnability.json.")],
    public: Annotated[
        bool, typer.Option("--public", help="Leave out clean images, perturbations, seeds, local names and paths.")
    ] = False,
    clean: Annotated[str | None, typer.Option(help="The originals (default: what was protected).")] = None,
    clean_split: Annotated[str | None, typer.Option(help="Their split (default: what was protected).")] = None,
    image_column: Annotated[str | None, typer.Option(help="Image column; found when there is only one.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Label column; found when there is only one.")] = None,
) -> None:
    """Write one HTML page on what was protected, how visible it is, how much it protects and where it fails."""
    from hf_unlearnable.reported_run import write_report

    words = ["hf-unlearnable", "report", str(run), *(["--clean", clean] if clean else [])]
    written = write_report(
        run,
        public=public,
        clean=clean,
        clean_split=clean_split,
        image_column=image_column,
        label_column=label_column,
        command=shlex.join([*words, *(["--clean-split", clean_split] if clean_split else [])]),
    )
    typer.echo(
        f"{written[0]} written" + (", and " + ", ".join(file.name for file in written[1:]) if written[1:] else "")
    )
    typer.echo(
        "It may be shown: nothing clean, no perturbation, seed or local name is in it."
        if public
        else "Keep them private; for a page to show: --public"
    )
