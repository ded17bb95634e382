"""The command ``protect`` goes on where a killed one was, and what it refuses."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from datasets import load_from_disk
from helpers.datasets import make_dataset, pixels_of
from helpers.forked import command, start
from typer.testing import CliRunner

from hf_unlearnable import CheckpointError, OutputError, Protection, UnlearnableError
from hf_unlearnable.cli.command import app
from hf_unlearnable.files import resumable, work_folders

OPTIONS = ["--method", "em", "--checkpoint-every", "0"]


def run(*words, error: type[BaseException] | None = None) -> str:
    """The command in this process; what it said, or the message of its error."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if error is None:
        assert done.exit_code == 0, done.output + str(done.exception)
        return done.output
    assert isinstance(done.exception, error)
    return done.output + str(done.exception)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "data"
    make_dataset(60).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run("protect", source, "--output", output, *OPTIONS, "--epochs", 12)
    return output


@pytest.fixture
def killed(source, tmp_path) -> Path:
    """The output of a command that was killed (SIGKILL) when it had kept something."""
    words = ["protect", source, "--output", tmp_path / "out", *OPTIONS, "--epochs", 12]
    process = start(command, *words)
    kept = work_folders(tmp_path / "out")[1] / "checkpoint.json"
    while process.is_alive() and not kept.exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return tmp_path / "out"


def digest(output: Path) -> str:
    return json.loads((output / "private" / "protection" / "protection.json").read_text())["digest"]


def test_the_same_command_goes_on(source, undisturbed, killed):
    assert not killed.exists()
    said = run("protect", source, "--output", killed, *OPTIONS, "--epochs", 12)
    assert "Going on with what an earlier run left" in said
    assert digest(killed) == digest(undisturbed)
    before, after = (load_from_disk(str(output / "dataset")) for output in (undisturbed, killed))
    assert (pixels_of(before) == pixels_of(after)).all()
    assert [path.name for path in killed.parent.iterdir()] == ["out"]
    assert sorted(path.name for path in (killed / "private").iterdir()) == [
        "command.yaml",
        "files.json",
        "intake.json",
        "origin.json",
        "protection",
        "verification.json",
    ]


def test_another_recipe_is_refused_until_it_is_to_overwrite(source, killed):
    said = run("protect", source, "--output", killed, *OPTIONS, "--epochs", 2, error=CheckpointError)
    assert "the same command goes on" not in said
    assert "is of another fit: --epochs was 12 and is 2. Undo that to go on, or start afresh: with --overwrite" in said
    run("protect", source, "--output", killed, *OPTIONS, "--epochs", 2, "--overwrite")
    first = digest(killed)
    assert "exists already" in run("protect", source, "--output", killed, *OPTIONS, "--epochs", 1, error=OutputError)
    run("protect", source, "--output", killed, *OPTIONS, "--epochs", 1, "--overwrite")
    assert digest(killed) != first
    assert [path.name for path in killed.parent.iterdir()] == ["out"]


def test_other_pictures_are_told_in_words(source, killed, tmp_path):
    make_dataset(30).save_to_disk(tmp_path / "fewer")
    said = run("protect", tmp_path / "fewer", "--output", killed, *OPTIONS, "--epochs", 12, error=CheckpointError)
    assert "the same command goes on" not in said
    assert "is of another fit: the images or their labels are not those that it began with. Undo that" in said


def test_an_error_after_the_fit_keeps_it(source, tmp_path, monkeypatch):
    words = ["protect", source, "--output", tmp_path / "out", *OPTIONS, "--epochs", 2]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Protection, "release", full)
        assert "the same command goes on from there" in run(*words, error=OSError)
    kept = work_folders(tmp_path / "out")[0] / "private" / "protection" / "perturbations.arrow"
    changed = kept.stat().st_mtime_ns
    run(*words)
    assert (tmp_path / "out" / "private" / "protection" / "perturbations.arrow").stat().st_mtime_ns == changed


def test_a_killed_writer_is_told(source, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise RuntimeError("One of the subprocesses has abruptly died during map operation.")

    monkeypatch.setattr(Protection, "release", killed)
    words = ["protect", source, "--output", tmp_path / "out", *OPTIONS, "--epochs", 2, "--num-proc", 2]
    assert "one of the 2 processes that write the images was killed" in run(*words, error=UnlearnableError)


def test_nobody_else_gets_the_folder(tmp_path):
    with resumable(tmp_path / "out") as (result, rest):
        with pytest.raises(OutputError, match="another process is at work"), resumable(tmp_path / "out"):
            pass
        result.mkdir()
        (rest / "kept").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_overwritten_is_there_until_the_end(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    result, _ = work_folders(tmp_path / "out")

    def interrupted() -> None:
        with resumable(tmp_path / "out", overwrite=True) as (result, _):
            result.mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert (tmp_path / "out" / "old").exists()
    assert result.exists()
    (tmp_path / "out").rename(result.parent / "before")  # killed between the two renames
    with resumable(tmp_path / "out", overwrite=True) as (result, _):
        assert (tmp_path / "out" / "old").exists()
    assert list((tmp_path / "out").iterdir()) == []
