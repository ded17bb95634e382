"""The command ``hf-unlearnable``: its parts in the files beside this one, ``env``, and how errors are told.

Whatever takes a while to import is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from hf_unlearnable.cli.allocator import keep_freed_memory
from hf_unlearnable.cli.app import app as serve
from hf_unlearnable.cli.audit import audit
from hf_unlearnable.cli.benchmark import benchmark, leaderboard, submit
from hf_unlearnable.cli.clean import caches, clean
from hf_unlearnable.cli.demo import demo
from hf_unlearnable.cli.hub import pull, push, verify
from hf_unlearnable.cli.importing import import_noise
from hf_unlearnable.cli.measure import measure
from hf_unlearnable.cli.plugins import Plugins
from hf_unlearnable.cli.protect import protect
from hf_unlearnable.cli.report import report
from hf_unlearnable.cli.shared import Command, command, record
from hf_unlearnable.errors import UnlearnableError
from hf_unlearnable.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for one in (protect, measure, audit, report, push, pull, verify, benchmark, leaderboard, submit, demo, clean, serve):
    app.command(cls=Command)(command(one))
app.command("import", cls=Command)(command(import_noise))

INTERRUPTED = 130  # the exit status of Ctrl-C
LEFT = {
    **dict.fromkeys(("protect", "import", "pull", "demo"), "; the output was not made"),
    "benchmark": "; what is finished is kept: the same command goes on from there",
    "measure": "; what is finished of the measurement is kept: the same command goes on from there",
}


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hf-unlearnable {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Make image datasets unlearnable, and measure how well that works."""


@app.command(cls=Command)
@command
def env(plugin: Plugins = None) -> None:
    """Print versions, devices, caches and the names of methods, defences and victims, for a bug report."""
    import platform

    import torch

    from hf_unlearnable.defences import available_defences
    from hf_unlearnable.evaluation.thieves import SUITES
    from hf_unlearnable.methods import available_methods
    from hf_unlearnable.models.built_in import available_victims
    from hf_unlearnable.models.classical import CLASSICAL
    from hf_unlearnable.registry import installed_plugins
    from hf_unlearnable.training.run import TRAININGS
    from hf_unlearnable.version import versions

    lines: list[tuple[str, Any]] = [
        *versions().items(),
        ("platform", platform.platform()),
        ("cpu threads", torch.get_num_threads()),
        ("gpu", [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]),
        ("plugins", [*installed_plugins(), *(plugin or [])]),
        ("methods", available_methods()),
        ("defences", available_defences()),
        ("victims", [*available_victims(), *sorted(CLASSICAL)]),
        ("trainings", list(TRAININGS)),
        ("suites", list(SUITES)),
        *caches(),
    ]
    for name, value in lines:
        typer.echo(f"{name:<16} {(', '.join(value) or 'none') if isinstance(value, list) else value}")
    record(environment=lines)


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
        _fail(f"{error}{_what_is_left()}")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo(f"\nStopped{_what_is_left()}.", err=True)
        raise


def _what_is_left() -> str:
    """What a command that did not come to its end leaves, in words; nothing for commands that write no output."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return LEFT.get(command, "")


def _fail(message: str) -> None:
    typer.echo(f"\nError: {message}", err=True)
    sys.exit(1)
