"""The command that serves the app."""

from __future__ import annotations

from typing import Annotated

import typer


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets everybody in who reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any that is free.")] = 7860,
    room: Annotated[float, typer.Option(min=0.001, help="Gigabytes that a visitor may send.")] = 4.0,
    together: Annotated[int, typer.Option(min=1, help="Visitors that may work at once; others wait.")] = 2,
) -> None:
    """Serve a page on which pictures are dropped, protected and fetched again; needs the extra app."""
    from hf_unlearnable.app.server import launch

    launch(host, port, room=round(room * 1e9), together=together)
