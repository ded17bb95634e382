"""The commands that talk to the Hub: push, pull, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import Clean, CleanSplit, DropColumn, MaxPixels, Subset, record
from hf_unlearnable.errors import BudgetError, DataError

Output = Annotated[Path, typer.Argument(metavar="OUT", help="What protect --output wrote.")]

Attempts = Annotated[int, typer.Option(min=1, help="How often to try while the Hub has trouble.")]

Patience = Annotated[float, typer.Option(min=0.01, help="Seconds without an answer of the Hub after which to give up.")]

Revision = Annotated[str | None, typer.Option(help="Branch (default: main).")]


def push(
    output: Output,
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private/--public", help="Who may see it.")] = True,
    subset: Subset = None,
    split: Annotated[str | None, typer.Option(help="Name of the split (default: what was protected).")] = None,
    revision: Revision = None,
    max_shard_size: Annotated[str | None, typer.Option(help="Of one parquet file, such as 500MB.")] = None,
    licence: Annotated[str | None, typer.Option(help="Such as cc-by-4.0 (default: the originals').")] = None,
    title: Annotated[str | None, typer.Option(help="Of the card.")] = None,
    description: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="Markdown file, the text of a new card."),
    ] = None,
    drop_column: DropColumn = None,
    attempts: Attempts = 5,
    patience: Patience = 300.0,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
) -> None:
    """Push OUT/dataset with a card to the Hub, never OUT/private; pushing again sends only what changed."""
    from hf_unlearnable.hub.publish import push
    from hf_unlearnable.hub.retry import Retry

    try:
        text = description.read_text(encoding="utf-8-sig") if description else None
    except UnicodeDecodeError as error:
        raise DataError(f"got --description {description}, which is no text in UTF-8; expected Markdown") from error
    pushed = push(
        output,
        repo_id,
        private=private,
        config=subset or "default",
        split=split,
        revision=revision,
        max_shard_size=max_shard_size,
        licence=licence,
        title=title,
        description=text,
        drop_columns=drop_column or (),
        retry=Retry(attempts, patience=patience),
    )
    record(pushed=asdict(pushed))
    typer.echo(f"{pushed.url} ({'private' if pushed.private else 'public'}), commit {pushed.commit[:8]}")


def pull(
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="On the Hub.")],
    output: Annotated[Path, typer.Option(help="Folder to write; must not hold anything yet.")],
    subset: Subset = None,
    split: Annotated[str, typer.Option(help="Which split, or all.")] = "train",
    revision: Revision = None,
    attempts: Attempts = 5,
    patience: Patience = 300.0,
) -> None:
    """Load a dataset from the Hub into a folder, which measure takes too."""
    from hf_unlearnable.hub.download import pull
    from hf_unlearnable.hub.retry import Retry

    retry = Retry(attempts, patience=patience)
    data = pull(repo_id, output, config=subset or "default", split=split, revision=revision, retry=retry)
    rows = sum(map(len, data.values())) if isinstance(data, dict) else len(data)
    record(output=output, repo_id=repo_id, rows=rows)
    typer.echo(f"{output}: {rows} rows of {repo_id}")


def verify(
    output: Output,
    repo_id: Annotated[
        str | None, typer.Argument(metavar="[USER/NAME]", help="On the Hub (default: OUT/dataset alone).")
    ] = None,
    subset: Subset = None,
    split: Annotated[str | None, typer.Option(help="Which split (default: what was protected).")] = None,
    revision: Revision = None,
    clean: Clean = None,
    clean_split: CleanSplit = None,
    attempts: Attempts = 5,
    patience: Patience = 300.0,
    max_pixels: MaxPixels = None,
) -> None:
    """Check that the images on the Hub are those of OUT/dataset and within the budget of their originals.

    And that every file in OUT is as it was written.
    """
    from hf_unlearnable.hub.download import verify
    from hf_unlearnable.hub.retry import Retry

    checked = verify(
        output,
        repo_id,
        config=subset or "default",
        split=split,
        revision=revision,
        clean=clean,
        clean_split=clean_split,
        retry=Retry(attempts, patience=patience),
    )
    record(output=output, repo_id=repo_id, verification=checked.as_dict())
    typer.echo(f"{repo_id or output}: {checked}")
    if not checked.ok:
        raise BudgetError(f"got {checked.faults}; expected none. Restore {output} from a copy, or protect again")
