"""What every command has: ``--config``, ``--json``, ``--quiet``, ``--verbose``, and options that several share.

A command is a function that writes for people with ``typer.echo`` and hands what it found and made to ``record``; the
rest is done here around it.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hf_unlearnable.cli.options_file import read_options
from hf_unlearnable.errors import UnlearnableError, command_line_words
from hf_unlearnable.files import local_path
from hf_unlearnable.progress import no_progress

Images = Annotated[str | None, typer.Option("--image-column", help="Image column; found when there is only one.")]

Labels = Annotated[str | None, typer.Option("--label-column", help="Label column; found when there is only one.")]


def _allow_pixels(most: int | None) -> int | None:
    """Set Pillow's own limit, which all readers of images keep to."""
    if most is not None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = most
    return most


MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1, callback=_allow_pixels, help="Refuse images of more pixels (default: Pillow's limit, 89 million)."
    ),
]

Epochs = Annotated[int | None, typer.Option(min=1, help="Passes of the optimisation (default: the recipe's).")]

Clean = Annotated[str | None, typer.Option(help="The originals (default: what was protected).")]

CleanSplit = Annotated[str | None, typer.Option(help="Their split (default: what was protected).")]

Subset = Annotated[str | None, typer.Option("--subset", help="Which configuration, where a dataset has several.")]

# Of what is protected, and how it is written: of protect and import.
ClassDepth = Annotated[
    int | None, typer.Option(min=1, help="How many folders make the class (default: the whole path).")
]

LeaveOut = Annotated[
    bool, typer.Option("--leave-out", help="Leave files out that may be images and cannot be protected.")
]

DropColumn = Annotated[list[str] | None, typer.Option(help="Leave this column out; may be repeated.")]

ImageFormat = Annotated[str, typer.Option(help="Files that are written, without loss: png or webp.")]

ImageFiles = Annotated[
    bool | None,
    typer.Option(
        "--image-files/--no-image-files",
        help="Also write the images as files to OUTPUT/images (default: where they came as files).",
    ),
]

Names = Annotated[str, typer.Option(help="Of files: kept, or numbers where names tell too much.")]

NumProc = Annotated[int | None, typer.Option(min=1, help="Processes that write the images.")]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=read_options,
        help="YAML file of options, such as an earlier run left; options on the command line go first.",
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print what was found and made as one JSON document.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")]

Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also print where an error came from, and what the libraries say.")
]

EVERY = {"config_file": (Config, None), "as_json": (Json, False), "quiet": (Quiet, False), "verbose": (Verbose, False)}

# Words that the command line does not know, an option with a wrong value: the base of what typer raises for them.
USAGE: type[Any] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

FORESEEN = (UnlearnableError, OSError, USAGE)

_facts: dict[str, Any] = {}


def _at_home(value: Any) -> Any:
    """Paths among the options as ``local_path`` takes them; names of datasets are opened so."""
    if isinstance(value, list):
        return [_at_home(one) for one in value]
    return local_path(value) if isinstance(value, Path) else value


def record(**facts: Any) -> None:
    """Keep what the command found or made, for ``--json``."""
    _facts.update(facts)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The same command with the options that all have, which are dealt with here."""
    own = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def run(context: typer.Context, **given: Any) -> None:
        shared = {name: given.pop(name) for name in EVERY}
        given = {name: _at_home(value) for name, value in given.items()}
        if "context" in own.parameters:
            given["context"] = context
        with _spoken(str(context.info_name), shared["as_json"], shared["quiet"], shared["verbose"]):
            function(**given)

    parameters = [one for name, one in own.parameters.items() if name != "context"]
    parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in EVERY.items()
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


@contextmanager
def _spoken(name: str, as_json: bool, quiet: bool, verbose: bool) -> Iterator[None]:
    """Send what a command says to where it belongs, and its errors in the words of the command line."""
    _facts.clear()
    document = sys.stdout
    with ExitStack() as stack:
        stack.enter_context(command_line_words())
        if verbose:
            logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        else:  # their bars run beside ours, and fill a log
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        if quiet:
            stack.enter_context(no_progress())
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        elif as_json:
            stack.enter_context(redirect_stdout(sys.stderr))
        try:
            yield
        except FORESEEN as error:
            if verbose:
                traceback.print_exc()
            if as_json:
                _print_error(name, error, document)
            raise
        if as_json and _facts:  # of several processes the main one alone has any
            _print({"command": name, **_facts}, document)


class Command(TyperCommand):
    """A command whose words may be wrong, or its ``--config``: told like other errors, also to ``--json``."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **options: Any) -> Any:
        """Read the words of the command."""
        as_json = "--json" in args  # the words are used up by reading them
        _facts.clear()
        try:
            with command_line_words():
                return super().make_context(info_name, args, *more, **options)
        except FORESEEN as error:
            if as_json:
                _print_error(str(info_name), error, sys.stdout)
            raise


def _print_error(name: str, error: Exception, document: Any) -> None:
    said = error.format_message() if isinstance(error, USAGE) else str(error)
    _print({"command": name, "error": said, "kind": type(error).__name__, **_facts}, document)


def _print(facts: dict[str, Any], document: Any) -> None:
    print(json.dumps(facts, indent=2, default=str), file=document, flush=True)
