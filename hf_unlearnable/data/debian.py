"""Data that Debian packages: fetched without root and without installing anything."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from hf_unlearnable.errors import SourceError


def unpack_package(name: str, folder: Path) -> Path:
    """Fetch a Debian package and unpack it into ``folder``.

    Args:
        name: of the package.
        folder: exists; the package's ``usr/…`` appears below it.

    Returns:
        ``folder``.

    Raises:
        SourceError: no apt on this machine, no network, or no such package.
    """
    with tempfile.TemporaryDirectory(prefix="apt-") as scratch:
        # Package lists of our own, for a machine whose lists are empty and may only be filled by root.
        own_lists = [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]
        (Path(scratch) / "lists" / "partial").mkdir(parents=True)
        (Path(scratch) / "cache" / "archives" / "partial").mkdir(parents=True)
        try:
            try:
                _run(["apt-get", "download", name], scratch)
            except subprocess.CalledProcessError:
                _run(["apt-get", *own_lists, "update"], scratch)
                _run(["apt-get", *own_lists, "download", name], scratch)
            archive = next(Path(scratch).glob(f"{name}_*.deb"))
            _run(["dpkg", "-x", str(archive), str(folder.absolute())], scratch)
        except (OSError, subprocess.CalledProcessError, StopIteration) as error:
            said = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
            raise SourceError(
                f"the Debian package {name} could not be fetched ({said[-1] if said else error}); expected apt-get, "
                f"dpkg and a connection to a Debian mirror"
            ) from error
    return folder


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
