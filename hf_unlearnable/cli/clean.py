"""The command that removes what killed processes and ``fit`` from Python left, and what ``env`` says of caches."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hf_unlearnable.cli.shared import record
from hf_unlearnable.errors import DataError, OutputError, SourceError, in_words


@dataclass(frozen=True)
class _Found:
    """Something that may be removed.

    Attributes:
        path: a folder.
        what: it is.
        option: that has it removed; empty where nothing is lost.
    """

    path: Path
    what: str
    option: str = ""


def clean(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Where outputs were written (default: here).")
    ] = None,
    protections: Annotated[
        bool, typer.Option("--protections", help="Also the perturbations that fit() from Python keeps in its cache.")
    ] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also runs of protect that the same command would go on with.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Also the copies as files that protect wrote beside OUT/dataset.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; else they are only listed.")] = False,
) -> None:
    """List what killed processes left in folders and in the cache of fit(), and with --yes remove it.

    What another process is at work in is left alone.
    """
    from hf_unlearnable.files import held

    asked = {"--protections": protections, "--unfinished": unfinished, "--images": images, "": True}
    if missing := [folder for folder in folders or [] if not folder.is_dir()]:
        raise SourceError(f"got {str(missing[0])!r}, where there is no folder; expected one where outputs were written")
    freed, listed, to_go = 0, [], 0
    for found in _found(folders or [Path()]):
        size, chosen = size_of(found.path), asked[found.option]
        with suppress(OutputError), held(found.path):  # by another process
            kept = "" if chosen else f"; kept without {found.option}"
            typer.echo(f"{found.path} ({in_words(size)}): {found.what}{kept}")
            if chosen and yes:
                shutil.rmtree(found.path)
            freed, to_go = freed + chosen * size, to_go + chosen
            listed.append({"path": found.path, "bytes": size, "what": found.what, "removed": chosen and yes})
    record(found=listed)
    done = "removed" if yes else "to be removed with --yes"
    typer.echo(f"{in_words(freed)} {done}" if to_go else f"Nothing {'was removed' if yes else 'to be removed'}")


def _found(folders: list[Path]) -> Iterator[_Found]:
    from hf_unlearnable.files import WORK, leftovers
    from hf_unlearnable.protection.description import DESCRIPTION, Description
    from hf_unlearnable.protection.layout import private_cache
    from hf_unlearnable.runs import RunFolder

    cache = private_cache()
    for home in dict.fromkeys(folder.absolute() for folder in [*folders, cache]):
        for left in sorted(leftovers(home)):
            yield _Found(left, "left by a process that was killed")
        for work in sorted(path for path in home.glob(f".*{WORK}") if (path / "checkpoints").is_dir()):
            yield _Found(work, "an unfinished run, private", "--unfinished")
        if (home / WORK / "checkpoints").is_dir():
            yield _Found(home / WORK, "an unfinished run, private", "--unfinished")
        for run in map(RunFolder, [home, *(sorted(home.iterdir()) if home.is_dir() else [])]):
            for copies in (run.images, run.images_jpeg):
                if run.is_complete and copies.is_dir():
                    yield _Found(copies, f"copies as files of what is in {run.published.name}", "--images")
    for kept in sorted(cache.glob(f"*/{DESCRIPTION}")):
        try:
            what = f"{(described := Description.read(kept.parent))}, {described.images} images"
        except DataError:
            what = "damaged"
        yield _Found(kept.parent, f"a protection ({what}), private", "--protections")


def caches() -> Iterator[tuple[str, str]]:
    """Where ``fit`` keeps perturbations, and which caches hold originals: a word, and the path with its size.

    Without the name of the user, since it is for a bug report.
    """
    import datasets
    from huggingface_hub import constants

    from hf_unlearnable.protection.layout import private_cache

    def place(folder: Path) -> str:
        short = Path("~") / folder.relative_to(Path.home()) if folder.is_relative_to(Path.home()) else folder
        return f"{short} ({in_words(size_of(folder))})"

    yield "perturbations", f"{place(private_cache())} of fit() from Python; private. To remove: clean --protections"
    for where in (datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE):
        yield "originals", f"{place(Path(where))} may be in this cache of Hugging Face. To remove: its folder"


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; what cannot be looked at does not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total
