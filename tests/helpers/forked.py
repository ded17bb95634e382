"""Processes that begin where torch is imported already.

They are forked from one that has done nothing else: importing takes longer than what tests let them do. Each has
signals, an exit status and memory of its own, as the one has that a user starts. The module of a function that they
begin with must not import ``helpers.environment``: theirs is that of the tests already.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["hf_unlearnable.hub.publish", "hf_unlearnable.runs.measuring", "hf_unlearnable.modeling"]
)


def start(
    function: Callable[..., Any], *arguments: Any, said: str | os.PathLike[str] = os.devnull, **environment: str
) -> BaseProcess:
    """Begin a function of a module in a process of its own; what it says goes to a file."""
    process = CONTEXT.Process(target=_run, args=(function, arguments, said, environment), daemon=True)
    process.start()
    return process


def begin() -> None:
    """Start the one from which all are forked, with the environment of now."""
    forkserver.ensure_running()


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a process of its own."""
    with CONTEXT.Pool(1) as pool:
        return pool.apply(function, arguments)


def together(count: int, folder: Path, function: Callable[..., Any], *arguments: Any) -> str:
    """What several processes say, one after the other, that do a function together; they keep files in the folder."""
    (folder / "rendezvous").unlink(missing_ok=True)
    told = [folder / f"said by {number}" for number in range(count)]
    ranks = [
        start(_rank, number, count, folder / "rendezvous", function, *arguments, said=said)
        for number, said in enumerate(told)
    ]
    for process, said in zip(ranks, told, strict=True):
        process.join()
        assert process.exitcode == 0, said.read_text()[-3000:]
    return "".join(said.read_text() for said in told)


def script(file: Path, *words: object) -> None:
    """A script, for ``start``."""
    sys.argv = [str(file), *map(str, words)]
    runpy.run_path(str(file), run_name="__main__")


def command(*words: object) -> None:
    """The command line, for ``start``."""
    from hf_unlearnable.cli import main

    sys.argv = ["hf-unlearnable", *map(str, words)]
    main()


def invoke(commands: list[list[str]], path: Path) -> list[tuple[int, str, str]]:
    """Exit status, output and exception of each command, where packages are found in ``path`` too; for ``call``."""
    from hf_unlearnable.cli import app

    os.chdir(path)
    sys.path.insert(0, str(path))
    outputs = [CliRunner().invoke(app, words) for words in commands]
    return [(done.exit_code, done.output, repr(done.exception)) for done in outputs]


def _rank(number: int, count: int, rendezvous: Path, function: Callable[..., Any], *arguments: Any) -> None:
    """A function as one of several processes does it, with what ``accelerate launch`` tells each."""
    import torch

    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true")
    torch.distributed.init_process_group("gloo", init_method=rendezvous.as_uri(), rank=number, world_size=count)
    function(*arguments)
    torch.distributed.destroy_process_group()


def _run(
    function: Callable[..., Any], arguments: tuple[Any, ...], said: str | os.PathLike[str], environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
    with Path(said).open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)
