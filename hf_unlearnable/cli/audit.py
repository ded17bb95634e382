"""The command that looks over a protected set as a stranger would."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.shared import Clean, CleanSplit, Images, Labels, MaxPixels, record
from hf_unlearnable.errors import PrivacyError


def audit(
    run: Annotated[
        str,
        typer.Argument(metavar="OUT|HUB_ID", help="What protect --output wrote, or any protected dataset."),
    ],
    clean: Clean = None,
    clean_split: CleanSplit = None,
    test: Annotated[
        str | None,
        typer.Option(help="Clean images that were not protected (default: clean splits, or a split test beside them)."),
    ] = None,
    test_split: Annotated[str | None, typer.Option(help="Their split (default: test, or the only one).")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another published set of the same pictures, such as an earlier fit; may be repeated."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Of a set that does not say it (default: 8/255, or what protect wrote down).")
    ] = None,
    image_column: Images = None,
    label_column: Labels = None,
    max_pixels: MaxPixels = None,
    plugin: Plugins = None,
) -> None:
    """Look for what a protected set gives away: clean pixels, metadata, names, copies, patterns that can be estimated.

    Ends with status 1 where something leaks.
    """
    from hf_unlearnable.runs import audit

    audited = audit(
        run,
        clean=clean,
        clean_split=clean_split,
        test=test,
        test_split=test_split,
        also=also or (),
        budget=budget,
        image_column=image_column,
        label_column=label_column,
    )
    record(audit=audited.as_dict())
    typer.echo(audited)
    if audited.leaks:
        raise PrivacyError(
            f"{run} leaks: {', '.join(finding.check for finding in audited.leaks)}. The lines above say what was "
            f"found, and https://hf-unlearnable.github.io/hf-unlearnable/how-to/audit/ what to do"
        )
