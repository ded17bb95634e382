"""Outputs that appear under their final name only when they are whole, who may read them, and arrays that have room."""

from __future__ import annotations

import glob
import hashlib
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_unlearnable.errors import OutputError, RecipeError, option, warn

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

try:
    import fcntl
except ImportError:  # Windows: two commands with one output are not kept apart there
    fcntl = None  # type: ignore[assignment]

# On the way to an output: what a later run goes on from; what is whole and about to be moved; the rest.
WORK, READY, SCRATCH = ".part", ".ready", ".unlearnable-tmp"

BEFORE = "before"  # below WORK: what is overwritten
ROOM = 1 << 22  # values of a set that are brought into memory at once


def allocate_memmap(file: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A memory-mapped array of zeros in a new file, with its room on disk taken at once.

    A file that only promises its size would end the process without a word (SIGBUS) where the disk turns out full.

    Raises:
        OSError: no room.
    """
    import numpy as np

    size = math.prod(shape) * np.dtype(dtype).itemsize
    with open(file, "wb", opener=private_opener) as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:  # macOS, Windows
            for start in range(0, size, 1 << 20):
                stream.write(bytes(min(1 << 20, size - start)))
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def chunks(count: int, shape: Sequence[int]) -> Iterator[slice]:
    """Cut ``count`` rows of ``shape`` into stretches that may be brought into memory at once.

    Of ``ROOM`` values or one row: 4,096 rows are 50 MB of doubles at 32x32 in grey, but 5 GB at 224x224 in colour.
    """
    rows = max(1, ROOM // max(1, math.prod(shape)))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def private_opener(file: str, flags: int) -> int:
    """For ``open``: a new file that only its owner may read."""
    return os.open(file, flags, 0o600)


def private_folder(folder: Path) -> None:
    """Make a folder to write to, or one that is there already, such that only its owner may read it.

    Raises:
        OutputError: nothing can be made in it.
    """
    require_writable(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_private(folder, inside=False)


def make_private(path: Path, *, inside: bool = True) -> None:
    """Let only the owner read a file or folder, and with ``inside`` all that is in it; what was stricter stays so."""
    for one in [path, *(path.rglob("*") if inside else [])]:
        if not one.is_symlink():
            mode, most = stat.S_IMODE(one.stat().st_mode), 0o700 if one.is_dir() else 0o600
            try:
                if mode & ~most:
                    one.chmod(mode & most)
            except PermissionError:  # of another user
                warn(f"{str(one)!r} is private, but of another user: others may read it")


def atomic_write(file: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a file that others find as it was before or as it is now, never in part; text as UTF-8.

    With ``private`` only its owner may read it. What is there already and stricter stays as strict.
    """
    file.parent.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
    mode = 0o600 if private else 0o666 & ~_umask()
    mode &= stat.S_IMODE(file.stat().st_mode) if file.exists() else mode
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", suffix=SCRATCH, delete=False) as stream:
        scratch = Path(stream.name)
        try:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
            scratch.chmod(mode)
            scratch.replace(file)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def known_digest(file: Path, start: bytes = b"") -> str:
    """The ``file_digest`` of a file, which this process, and what it forks, reads once while the file stays the same.

    Raises:
        FileNotFoundError: there is none.
    """
    found = file.stat()
    stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _digest_as_of(stamp, file, start)


@lru_cache(maxsize=256)
def _digest_as_of(stamp: tuple[int, ...], file: Path, start: bytes) -> str:
    return file_digest(file, start)


def file_digest(file: Path, start: bytes = b"") -> str:
    """A hash, in 32 hexadecimal digits, of ``start`` and what is in a file."""
    hashed = hashlib.blake2b(start, digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def _umask() -> int:
    """What new files lack; not set to be read, or anybody could write to what other threads make in that moment."""
    with suppress(OSError, IndexError):  # Linux tells it
        return int(Path("/proc/self/status").read_bytes().split(b"\nUmask:")[1].split()[0], 8)
    with tempfile.TemporaryDirectory() as folder:
        (made := Path(folder) / "made").mkdir()
        return 0o777 & ~stat.S_IMODE(made.stat().st_mode)


def local_path(named: str | os.PathLike[str]) -> Path:
    """A path as somebody gave it, with ``~`` for a home: shells leave that where it does not begin a word.

    Raises:
        RecipeError: neither text nor a path.
    """
    if not isinstance(named, (str, os.PathLike)):
        raise RecipeError(f"got {named!r} as the name of a file or a folder; expected text or a path")
    return Path(os.path.expanduser(named))


def place_of(output: Path) -> Path:
    """Where an output goes, absolute: what a symbolic link points to, for one.

    Raises:
        OutputError: it points to nothing, or a folder on the way to it does.
    """
    for link in (output, *output.parents):
        if link.is_symlink() and not link.exists():
            way = "" if link == output else f" below {str(link)!r}"
            raise OutputError(
                f"got the output {str(output)!r}{way}, a link to {str(link.readlink())!r}, where there is nothing; "
                f"make that folder, or name another output"
            )
    place = output.resolve() if output.is_symlink() or output.name in ("", "..") else output.absolute()
    if (place / READY).is_dir():  # a process was killed while it moved what was whole
        _fill(place)
    return place


def home_of(place: Path) -> Path:
    """The folder for what is made on the way to an output: beside it, or in it where no other can take its place.

    That is a disk of its own, the folder where the command is given, or one whose parent is not ours.
    """
    if not place.is_dir():
        return place.parent
    mounts = Path("/proc/self/mountinfo")  # also knows of mounts from the same disk
    mounted = os.path.ismount(place) or (mounts.exists() and f" {place} ".encode() in mounts.read_bytes())
    stays = mounted or (place / WORK).exists() or place.samefile(os.curdir) or not _may_replace(place)
    return place if stays else place.parent


def _may_replace(place: Path) -> bool:
    """Whether another folder may take the place of this one; in ``/tmp`` and its like only that of its owner may."""
    parent, user = place.parent.stat(), getattr(os, "geteuid", int)()
    is_kept = parent.st_mode & stat.S_ISVTX and user not in (0, parent.st_uid, place.stat().st_uid)
    return os.access(place.parent, os.W_OK) and not is_kept


def entries(place: Path) -> list[Path]:
    """What a folder holds, but for what is on the way to it, and what every empty disk has."""
    return [one for one in place.iterdir() if one.name not in (WORK, READY, "lost+found") and one.suffix != SCRATCH]


def require_empty(folder: Path, *, replaceable: bool = False) -> None:
    """Refuse an output that holds something already, since nothing is overwritten unasked, or that cannot be written.

    Raises:
        OutputError: it does, or is a link to nothing.
    """
    place = place_of(folder)
    if place.exists() and (not place.is_dir() or entries(place)):
        instead = f"replace it: {option('overwrite', True, '--overwrite')}" if replaceable else "remove it first"
        raise OutputError(f"got the output {str(folder)!r}, which exists already; name another one, or {instead}")
    require_writable(home_of(place), folder)


def require_writable(home: Path, output: Path | None = None) -> None:
    """Find out whether something can be made in ``home``, or where it will be, for the sake of ``output``.

    Raises:
        OutputError: nothing can.
    """
    output = output or home
    there = next(one for one in (home, *home.absolute().parents) if one.exists())
    if not there.is_dir():
        raise OutputError(
            f"got the output {str(output)!r}, but nothing can be made in {str(there)!r}, which is a file; name another "
            f"place"
        )
    try:
        os.rmdir(tempfile.mkdtemp(suffix=SCRATCH, dir=there))
    except OSError as error:
        raise OutputError(
            f"got the output {str(output)!r}, but nothing can be made in {str(there)!r} ({error.strerror}); name "
            f"another place"
        ) from error


def put(result: Path, place: Path, *, private: bool = False, before: Path | None = None) -> None:
    """Move a finished folder to its place on the same disk. One that is there keeps its permissions.

    At once; or, where no other folder can take that place, entry by entry: ``place_of`` goes on after a kill.

    Args:
        result: the folder.
        place: of ``place_of``.
        private: only its owner may read it.
        before: where to put what ``place`` holds; None if it must not hold anything.

    Raises:
        OutputError: it does.
    """
    mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o777 & ~_umask()
    if before is None:
        require_empty(place)
    if place.exists() and home_of(place) == place:
        if before is not None:
            _move(place, before)
        result.replace(place / READY)
        _fill(place)
        if private:
            make_private(place, inside=False)
        return
    result.chmod(mode & 0o700 if private else mode)
    if before is not None and place.exists():
        place.replace(before)
    try:
        result.replace(place)  # replaces an empty folder too
    except OSError:
        if before is None:
            require_empty(place)  # another process has just put something there
        raise


def _move(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for one in sorted(entries(source), reverse=True):
        one.replace(target / one.name)


def _fill(place: Path) -> None:
    _move(place / READY, place)
    shutil.rmtree(place / WORK / BEFORE, ignore_errors=True)
    (place / READY).rmdir()


@contextmanager
def scratch_folder(home: Path, name: str) -> Iterator[Path]:
    """A folder for its owner alone, gone when the block ends; what killed processes left of this name goes first."""
    home.mkdir(parents=True, exist_ok=True)
    for left in leftovers(home, name):
        shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as stack:
        while True:
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=SCRATCH, dir=home))
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            with suppress(OutputError, FileNotFoundError):  # another process took it for left before it was held
                stack.enter_context(held(scratch))
                break
        yield scratch


def leftovers(home: Path, name: str = "") -> list[Path]:
    """The scratch folders of ``name``, or of all, that no process holds any more; none where nobody can tell."""
    found = []
    for left in home.glob(f".{glob.escape(name)}{'-' if name else ''}*{SCRATCH}") if fcntl else ():
        with suppress(OutputError, OSError), held(left):
            found += [left] if left.is_dir() else []
    return found


@contextmanager
def atomic_folder(folder: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a scratch folder beside ``folder``, which it becomes when the block ends without an error.

    After an error, a full disk or Ctrl-C nothing is left under either name. With ``private`` only its owner may read
    it.

    Raises:
        OutputError: ``folder`` holds something already.
    """
    require_empty(folder)
    place = place_of(folder)
    with scratch_folder(home_of(place), place.name) as scratch:
        result = scratch / "result"
        result.mkdir()
        yield result
        if private:
            make_private(result)
        put(result, place, private=private)


def work_folders(folder: Path) -> tuple[Path, Path]:
    """What ``resumable`` gives for an output."""
    place = place_of(folder)
    home = home_of(place)
    work = place / WORK if home == place else home / f".{place.name}{WORK}"
    return work / "result", work / "checkpoints"


@contextmanager
def resumable(folder: Path, *, overwrite: bool = False) -> Iterator[tuple[Path, Path]]:
    """Give a folder for the result and one for what helps to go on; what is in them outlives an error and a kill.

    Both lie in a hidden folder beside ``folder``, which only its owner may read. When the block ends without an error
    the first is moved to ``folder`` and the rest removed. Nobody else gets the same two while the block runs.

    Args:
        folder: the output.
        overwrite: replace what ``folder`` holds, at the end and not before.

    Yields:
        The folder of the result, which may not exist yet, and the one for the rest.

    Raises:
        OutputError: ``folder`` holds something already, or another process writes to it.
    """
    result, rest = work_folders(folder)
    place, work, before = place_of(folder), result.parent, result.parent / BEFORE
    if before.exists() and not place.exists():
        before.replace(place)  # a process was killed between two renames
    elif before.exists() and home_of(place) == place:
        _move(before, place)  # or while it put away what was there
        before.rmdir()
    if not overwrite:
        require_empty(folder)
    private_folder(work)
    with held(work):
        private_folder(rest)
        try:
            yield result, rest
        except BaseException:
            if not result.exists() and not any(rest.iterdir()):
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(before, ignore_errors=True)
        put(result, place, before=before if overwrite else None)
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; the system lets go of it when this one ends, however it does.

    Raises:
        OutputError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"got an output for which another process is at work in {str(folder)!r}; wait for it, or name another"
            ) from error
        yield
    finally:
        os.close(descriptor)
