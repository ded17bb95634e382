"""Who may read what: every file that a command writes, under a usual and under a careless umask."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_dataset
from helpers.leaks import Secrets
from helpers.loopback_hub import Request
from helpers.permissions import is_private, is_public, modes
from typer.testing import CliRunner

from hf_unlearnable import EM, Protection
from hf_unlearnable.cli.command import app
from hf_unlearnable.files import atomic_write, make_private, put, work_folders
from hf_unlearnable.training.checkpoints import Checkpoints

QUICK = EM(epochs=2, batch_size=8)


@pytest.fixture(params=[0o022, 0o000], ids=["022", "000"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def run(*words, code: int | None = 0) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code in (0, 1) if code is None else done.exit_code == code, done.output + repr(done.exception)
    return done.output


def test_every_file_that_commands_write(umask, hub, name, tmp_path, monkeypatch):
    for split, data in (("train", make_dataset()), ("test", make_dataset(30, seed=1))):
        for index, row in enumerate(data):
            target = tmp_path / "photos" / split / f"class {row['label']}"
            target.mkdir(parents=True, exist_ok=True)
            row["image"].save(target / f"{index:03}.png")
    out = tmp_path / "out"
    words = ["protect", tmp_path / "photos", "--output", out, "--method", "em:batch_size=8", "--epochs", 2]
    run(*words, "--craft-unseen", "--num-proc", 2)
    run("measure", out, "--seeds", 1, "--epochs", 1, "--sequential")
    run("report", out)
    run("report", out, "--public")
    run("push", out, name)
    run("verify", out)
    run("audit", out, code=None)
    run("pull", name, "--output", tmp_path / "pulled")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second.json").write_bytes((out / "report" / "learnability.json").read_bytes().replace(b"0.", b"0.0"))
    run("report", out, "second.json", "--output", "both.html")
    run("report", out, "second.json", "--public", "--output", "both-public.html")
    assert is_private(out / "private")
    assert len(list((out / "private" / "protection").iterdir())) == 3
    assert is_private(out / "report", but=["report-public.html"])
    assert {file.suffix for file in (out / "report").iterdir()} == {"", ".csv", ".json", ".png", ".html", ".yaml"}
    assert modes(out / "report")["report-public.html"] == oct(0o666 & ~umask)[2:]
    assert is_public(out / "dataset", umask)
    assert is_public(tmp_path / "pulled", umask)
    assert modes(out)["."] == oct(0o777 & ~umask)[2:]
    found = modes(tmp_path)
    assert (found["both.html"], found["both-public.html"]) == ("600", oct(0o666 & ~umask)[2:])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("photos", "out", "pulled", "second.json", "both.html", "both-public.html")
    }


def test_what_push_and_verify_leave(umask, hub, name, small, tmp_path, monkeypatch):
    """Nothing in the output, nothing in the folder for temporary files; what is published, in the Hub's own caches."""
    small.save_to_disk(tmp_path / "photos")
    out, scratch, home = tmp_path / "out", tmp_path / "temporary", Path(os.environ["HF_HOME"])
    run("protect", tmp_path / "photos", "--output", out, "--method", "em:batch_size=8", "--epochs", 2)
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before, cached, on_the_way = modes(out), set(home.rglob("*")), {}

    class Watching(list):
        def append(self, request):
            on_the_way.update(modes(scratch))
            super().append(request)

    monkeypatch.setattr(hub, "received", Watching())
    run("push", out, name)
    assert {mode for file, mode in on_the_way.items() if file != "."} == {"600"}
    run("verify", out)
    run("verify", out, name)
    run("push", out, name)
    assert modes(out) == before
    assert list(scratch.iterdir()) == []
    left = {path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"} - cached  # locks are empty
    assert {oct(path.stat().st_mode & 0o777) for path in left} == {oct(0o666 & ~umask)}
    private = Secrets()
    private.add_images(small.select(range(0, len(small), 8)))
    private.add_file("perturbations", out / "private" / "protection" / "perturbations.arrow")
    assert private.found_in(Request("", "", {}, path.read_bytes()) for path in left) == set()


def test_what_import_writes(umask, small, tmp_path):
    small.save_to_disk(tmp_path / "photos")
    noise = np.random.default_rng(0).integers(-8, 9, (len(small), *np.shape(small[0]["image"])), dtype=np.int8)
    np.save(tmp_path / "noise.npy", noise)
    out = tmp_path / "out"
    run("import", tmp_path / "noise.npy", tmp_path / "photos", "--output", out, "--budget", 8)
    assert is_private(out / "private")
    assert is_public(out / "dataset", umask)
    assert {path.name for path in out.iterdir()} == {"private", "dataset"}
    run("audit", out, code=None)
    assert is_private(out / "report")


def test_what_python_writes(umask, small, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_unlearnable.protection.layout.constants.HF_HOME", str(tmp_path / "home"))
    cached = QUICK.fit(small, progress=False)
    assert cached.folder.parent == tmp_path / "home" / "unlearnable"
    assert is_private(tmp_path / "home" / "unlearnable")
    crafting = QUICK.fit(small, on_unseen="craft", output_dir=tmp_path / "given", progress=False)
    assert is_private(tmp_path / "given")
    for folder in (tmp_path / "given").iterdir():
        folder.chmod(0o644)  # what an older version wrote
    crafting.save_pretrained(tmp_path / "copy")
    assert is_private(tmp_path / "copy")
    QUICK.fit(small, checkpoint_dir=tmp_path / "kept", checkpoint_every=0, progress=False)
    assert is_private(tmp_path / "kept")


def test_what_a_killed_run_leaves(umask, small, tmp_path, monkeypatch):
    class Killed(BaseException):
        """What no code catches."""

    def die(*_, **__):
        raise Killed

    small.save_to_disk(tmp_path / "photos")
    from hf_unlearnable.runs import protect

    tick = Checkpoints.tick
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "tick", lambda self: (tick(self), self.number > 2 and die()))
        with pytest.raises(Killed):
            protect(tmp_path / "photos", tmp_path / "out", method=QUICK, checkpoint_every=0, progress=False)
    assert is_private(tmp_path / ".out.part")
    with monkeypatch.context() as patch:
        patch.setattr(Protection, "verify", die)
        with pytest.raises(Killed):
            protect(tmp_path / "photos", tmp_path / "out", method=QUICK, progress=False)
    assert modes(tmp_path)[".out.part"] == "700"
    assert is_private(work_folders(tmp_path / "out")[0] / "private")


@pytest.mark.parametrize("told", [True, False], ids=["told by the system", "seen in a new folder"])
def test_the_umask_stays_what_it_is_while_a_file_is_written(umask, tmp_path, monkeypatch, told):
    """It is one for all threads: what another one makes in between would be open to everybody."""
    (out := tmp_path / "out").mkdir()
    (tmp_path / "made").mkdir(mode=0o700)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", None)
        if not told:
            patch.setattr("hf_unlearnable.files.Path.read_bytes", lambda _: b"Name: python")
        atomic_write(out / "written", "text")
        put(tmp_path / "made", out / "put")
    assert set(modes(out)) == {".", "put", "written"}
    assert is_public(out, umask)


def test_what_was_stricter_stays_stricter(umask, small, protection, tmp_path):
    small.save_to_disk(tmp_path / "photos")
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    for _ in range(2):
        run("protect", tmp_path / "photos", "--output", out, "--method", "em", "--epochs", 1, "--overwrite")
        assert modes(out)["."] == "700"
    file = tmp_path / "file"
    file.touch(mode=0o600)
    atomic_write(file, "more")
    assert modes(tmp_path)["file"] == "600"
    (tmp_path / "narrow").mkdir(mode=0o500)
    make_private(tmp_path / "narrow")
    assert modes(tmp_path)["narrow"] == "500"
    (tmp_path / "copy").mkdir(mode=0o777)
    protection.save_pretrained(tmp_path / "copy")
    assert is_private(tmp_path / "copy")


def test_a_folder_of_somebody_stays_as_it_is(umask, small, tmp_path):
    """Checkpoints may be kept among other things: the files are private, and the others stay as they are."""
    (tmp_path / "things").mkdir(mode=0o755)
    (tmp_path / "things" / "diary").touch()
    before = modes(tmp_path / "things")
    QUICK.fit(small, checkpoint_dir=tmp_path / "things", checkpoint_every=0, progress=False)
    after = modes(tmp_path / "things")
    assert after == {**before, "checkpoint.json": "600"}
