"""Outputs where people put them: disks of their own, links, the current folder; and what killed processes leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.datasets import make_dataset
from typer.testing import CliRunner

from hf_unlearnable import EM, OutputError, Protection, files, pull, verify
from hf_unlearnable.cli.command import app
from hf_unlearnable.files import READY, SCRATCH, WORK, atomic_folder, leftovers, resumable, work_folders
from hf_unlearnable.protection.layout import private_cache
from hf_unlearnable.runs import audit, measure, protect

QUICK = EM(epochs=2, batch_size=8)


@pytest.fixture
def photos(tmp_path):
    make_dataset().save_to_disk(tmp_path / "photos")
    return tmp_path / "photos"


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(params=["mount", "current folder", "link", "foreign parent", "sticky parent"])
def place(request, tmp_path, monkeypatch):
    """An empty folder that stays where it is, as a user names it, and the folder itself."""
    folder = tmp_path / "big disk" / "mine"
    folder.mkdir(parents=True)
    if request.param == "mount":
        (folder / "lost+found").mkdir()
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    if request.param == "current folder":
        monkeypatch.chdir(folder)
        return Path(), folder
    if request.param == "foreign parent":
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder.parent and real(path, mode))
    if request.param == "sticky parent":  # that of /tmp: who is not the owner of a folder cannot rename it
        folder.parent.chmod(0o1777)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if request.param == "link":
        (tmp_path / "out").symlink_to(folder, target_is_directory=True)
        return tmp_path / "out", folder
    return folder, folder


def entries(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lost+found")


def test_an_output_stays_where_it_is(place, photos, protection, hub, name):
    named, folder = place
    inode = folder.stat().st_ino
    is_link = named.is_symlink()
    protect(photos, named, method=QUICK, progress=False)
    assert named.is_symlink() == is_link
    assert is_link or folder.stat().st_ino == inode
    assert entries(folder) == ["dataset", "private"]
    assert verify(named).violations == 0
    again = protect(photos, named, method=EM(epochs=1, batch_size=8), overwrite=True, progress=False)
    assert again.folder.description.settings["epochs"] == 1
    assert entries(folder) == ["dataset", "private"]
    assert entries(folder.parent) == ["mine"]
    with pytest.raises(OutputError, match="exists already"):
        protect(photos, named, method=QUICK, progress=False)


def test_the_others_write_there_too(place, small, protection, hub, name):
    named, folder = place
    small.map(protection).push_to_hub(name)
    assert len(pull(name, named)) == 48
    for file in [one for one in folder.iterdir() if one.is_file()]:
        file.unlink()
    protection.save_pretrained(named)
    assert Protection(named).digest == protection.digest
    for file in [one for one in folder.iterdir() if one.is_file()]:
        file.unlink()
    QUICK.fit(small, output_dir=named, progress=False)
    assert entries(folder) == ["perturbations.arrow", "protection.json"]


def test_who_finds_a_result_at_the_last_moment_is_told(tmp_path, monkeypatch):
    """Another fit put it there after the last look."""
    real, calls = files.require_empty, []

    def looked(folder):
        real(folder)
        calls.append(folder)
        if len(calls) == 1:
            folder.mkdir()
            (folder / "theirs").touch()

    monkeypatch.setattr(files, "require_empty", looked)
    result = tmp_path / "result"
    result.mkdir()
    with pytest.raises(OutputError, match="which exists already"):
        files.put(result, tmp_path / "out")
    assert entries(tmp_path / "out") == ["theirs"]


@pytest.mark.parametrize("step", range(1, 7))
def test_a_kill_while_entries_are_moved_loses_nothing(tmp_path, monkeypatch, step):
    """Killed before each of the renames: the old output or the new one is there when the next process has looked."""
    folder, real, seen = tmp_path / "out", Path.replace, []
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    folder.mkdir()
    for name in ("dataset", "private"):
        (folder / name).mkdir()
        (folder / name / "old").touch()

    class Killed(BaseException):
        """What no code catches."""

    def replace(self, target):
        seen.append(None)
        if len(seen) == step:
            raise Killed
        return real(self, target)

    def write():
        with resumable(folder, overwrite=True) as (result, _):
            for name in ("dataset", "private"):
                (result / name).mkdir(parents=True, exist_ok=True)
                (result / name / "new").touch()
            monkeypatch.setattr(Path, "replace", replace)

    if step > 5:
        write()
    else:
        with pytest.raises(Killed):
            write()
    monkeypatch.setattr(Path, "replace", real)
    rest = work_folders(folder)  # looks, and finishes what was whole
    assert not (folder / READY).exists()
    if (folder / "dataset" / "new").exists():
        assert (folder / "private" / "new").exists()
    else:
        with pytest.raises(KeyError), resumable(folder, overwrite=True):
            raise KeyError
        assert (folder / "dataset" / "old").exists()
        assert (folder / "private" / "old").exists()
        assert rest[0].exists()
    with resumable(folder, overwrite=True) as (result, _):
        (result / "dataset").mkdir(parents=True, exist_ok=True)
    assert "dataset" in entries(folder)
    assert WORK not in entries(folder)


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_dangling_link_is_refused(photos, protection, tmp_path, below):
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    output = tmp_path / "out" / below
    for write in (
        lambda: protect(photos, output, method=QUICK),
        lambda: protection.save_pretrained(output),
        lambda: pull("me/nothing", output),
        lambda: QUICK.fit(make_dataset(), output_dir=output),
    ):
        with pytest.raises(OutputError, match=r"a link to .*gone.*where there is nothing"):
            write()
    assert (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("inside", ["thesis.txt", "private", "images/1.png", "notes.txt in a run"])
def test_only_what_an_earlier_run_wrote_is_overwritten(photos, tmp_path, inside):
    """A mistyped --output would remove a folder of somebody's."""
    output, *_ = tmp_path / "mine", inside.endswith("run") and protect(photos, tmp_path / "mine", method=QUICK)
    kept = output / inside.partition(" ")[0]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("all there is")
    with pytest.raises(OutputError, match="expected nothing, or only what an earlier protect wrote"):
        protect(photos, output, method=QUICK, overwrite=True)
    with pytest.raises(OutputError, match="exists already; name another one, or remove it first"):
        protect(photos, output, method=QUICK)  # what would be refused is not proposed
    with pytest.raises(OutputError, match="exists already"):
        protect(photos, kept, method=QUICK, overwrite=True)
    done = invoke("protect", photos, "--output", output, "--overwrite")
    assert isinstance(done.exception, OutputError)
    assert kept.read_text() == "all there is"


def test_neither_may_lie_in_the_other(photos, tmp_path, monkeypatch):
    """Pictures of a report would count as photographs; and --overwrite would remove the originals."""
    monkeypatch.setattr(EM, "run", None)
    for output in (photos / "out", photos, tmp_path):
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="neither to lie in the other"):
                protect(photos, output, method=QUICK, overwrite=overwrite)
        done = invoke("protect", photos, "--output", output, "--overwrite")
        assert isinstance(done.exception, OutputError)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="neither to lie in the other"):
        protect("photos", "photos/out", method=QUICK)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can write to, not even root")
def test_what_cannot_be_written_is_said_before_the_work(photos, protection, tmp_path, monkeypatch):
    monkeypatch.setattr(EM, "run", None)
    for output in ("/proc/out", "/proc/deep/out", str(photos / "state.json" / "out")):
        for write in (
            lambda output=output: protect(make_dataset(), output, method=QUICK),
            lambda output=output: QUICK.fit(make_dataset(), output_dir=output, checkpoint_dir=tmp_path / "kept"),
            lambda output=output: protection.save_pretrained(output),
            lambda output=output: pull("me/nothing", output),
        ):
            with pytest.raises(OutputError, match="nothing can be made in"):
                write()


def killed_in(code: str, *words) -> None:
    """A process that is killed when it says that it is where it should be."""
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


IN_THE_MIDDLE = """
import sys, time
from pathlib import Path
from hf_unlearnable.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as scratch:
    (scratch / "half").touch()
    print("there", flush=True)
    time.sleep(100)
"""


def test_what_killed_processes_leave_is_removed_by_the_next(protection, tmp_path):
    killed_in(IN_THE_MIDDLE, tmp_path / "copy")
    killed_in(IN_THE_MIDDLE, tmp_path / "copy-of-another")
    (left,) = leftovers(tmp_path, "copy-of-another")
    assert len(leftovers(tmp_path)) == 2
    work_folders(tmp_path / "copy-20240101")[1].mkdir(parents=True)  # an unfinished run of a similar name
    with atomic_folder(tmp_path / "other"):
        pass
    assert len(leftovers(tmp_path)) == 2  # not those of other outputs
    protection.save_pretrained(tmp_path / "copy")
    assert leftovers(tmp_path) in ([], [left])
    assert (tmp_path / ".copy-20240101.part" / "checkpoints").exists()


def test_nobody_removes_what_is_at_work(tmp_path):
    with atomic_folder(tmp_path / "copy") as first:
        (first / "file").touch()
        assert leftovers(tmp_path) == []
        with atomic_folder(tmp_path / "copy") as second:
            (second / "other").touch()
        assert "to be removed" in invoke("clean", tmp_path, "--yes").output or first.exists()
        assert (first / "file").exists()
        (tmp_path / "copy" / "other").unlink()
    assert entries(tmp_path) == ["copy"]


def test_clean_lists_and_removes(small, protection, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_unlearnable.protection.layout.constants.HF_HOME", str(tmp_path / "home"))
    fitted = QUICK.fit(small, progress=False)
    killed_in(IN_THE_MIDDLE, private_cache() / "fit")
    killed_in(IN_THE_MIDDLE, tmp_path / "copy")
    work_folders(tmp_path / "out")[1].mkdir(parents=True)
    foreign = tmp_path / f".theirs-12345678{SCRATCH.replace('unlearnable-', '')}"
    foreign.mkdir()
    said = invoke("clean", tmp_path).output
    assert said.count("left by a process that was killed") == 2
    assert "an unfinished run, private; kept without --unfinished" in said
    assert f"{fitted.folder} (" in said
    assert "a protection (em linf:8, 48 images), private; kept without --protections" in said
    assert "to be removed with --yes" in said
    before = sorted(tmp_path.rglob("*"))
    assert len(leftovers(tmp_path)) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert "removed" in invoke("clean", tmp_path, "--yes").output
    assert leftovers(tmp_path) == leftovers(private_cache()) == []
    assert fitted.folder.exists()
    with resumable(tmp_path / "out") as (result, _):
        result.mkdir()
        invoke("clean", tmp_path, "--yes", "--unfinished")  # somebody is at work
        assert result.exists()
    work_folders(tmp_path / "out2")[1].mkdir(parents=True)
    invoke("clean", tmp_path, "--yes", "--unfinished", "--protections")
    assert not fitted.folder.exists()
    assert entries(tmp_path) == sorted([foreign.name, "home", "out"])
    assert "Nothing to be removed" in invoke("clean", tmp_path).output
    assert "Nothing was removed" in invoke("clean", tmp_path, "--yes").output


def test_clean_lists_leftovers_before_copies_of_finished_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_unlearnable.protection.layout.constants.HF_HOME", str(tmp_path / "home"))
    for part in ("dataset", "private/protection", "images"):
        (tmp_path / "done" / part).mkdir(parents=True)
    killed_in(IN_THE_MIDDLE, tmp_path / "copy")
    said = invoke("clean", tmp_path).output
    assert said.index("left by a process that was killed") < said.index("copies as files of what is in dataset")


def test_env_says_where_private_things_are():
    said = invoke("env").output
    assert f"{private_cache()} (" in said.replace("~", str(Path.home()))
    assert said.count("originals ") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_run_on_a_disk_that_is_read_only(photos, small, tmp_path, monkeypatch):
    """No victim is trained, no estimator tried and no epoch done whose result has no place."""
    protect(photos, tmp_path / "out", method=QUICK, progress=False)
    (tmp_path / "out" / "report").mkdir()  # as an earlier measurement leaves it
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(EM, "run", None)
    monkeypatch.setattr("hf_unlearnable.runs.measuring.learnability", None)
    monkeypatch.setattr("hf_unlearnable.runs.auditing._looks", None)
    for folder, work in (
        (tmp_path / "out", lambda: measure(tmp_path / "out", test=small)),
        (tmp_path / "out", lambda: audit(tmp_path / "out")),
        (tmp_path / "kept", lambda: QUICK.fit(small, checkpoint_dir=tmp_path / "kept", progress=False)),
    ):
        words = ("--bind", "-o", "ro", folder, folder)
        if subprocess.run(["mount", *words], capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        try:
            with pytest.raises(OutputError, match=r"nothing can be made in .*Read-only"):
                work()
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # its images are still mapped


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_of_its_own(photos, protection, tmp_path):
    """A real mount, and one from the same disk, which ``ismount`` does not know of."""
    for words in (["-t", "tmpfs", "none"], ["--bind", tmp_path / "volume"]):
        (tmp_path / "volume").mkdir(exist_ok=True)
        (tmp_path / "out").mkdir(exist_ok=True)
        if subprocess.run(["mount", *words, tmp_path / "out"], capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        try:
            protect(photos, tmp_path / "out", method=QUICK, progress=False)
            assert entries(tmp_path / "out") == ["dataset", "private"]
            assert verify(tmp_path / "out").violations == 0
        finally:
            subprocess.run(["umount", "--lazy", tmp_path / "out"], check=True)  # its images are still mapped
