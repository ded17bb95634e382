"""Who may read the files of a folder."""

from __future__ import annotations

import stat


def modes(folder) -> dict[str, str]:
    """Of all that is in a folder and of itself: path -> permissions."""
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))[2:] for path in walk(folder)}


def walk(folder):
    return [folder, *folder.rglob("*")]


def is_private(folder, *, but=()) -> bool:
    found = {name: mode for name, mode in modes(folder).items() if name not in but}
    wrong = {name: mode for name, mode in found.items() if mode != ("700" if (folder / name).is_dir() else "600")}
    assert wrong == {}
    return len(found) > 1


def is_public(folder, umask) -> bool:
    kinds = {True: oct(0o777 & ~umask)[2:], False: oct(0o666 & ~umask)[2:]}
    assert {name: mode for name, mode in modes(folder).items() if mode != kinds[(folder / name).is_dir()]} == {}
    return True
