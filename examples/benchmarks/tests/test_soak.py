"""The soak in small: its checks notice what they are there for, and its faults are what they are called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import soak
from common import made_up
from helpers.loopback_hub import LoopbackHub
from soak_checks import COMMITS, PARQUET, Ending, Places, faults_of, is_finished, read_expected

HELD = Ending(0, "done", 1.0)


@pytest.fixture
def round_one(tmp_path):
    """What an undisturbed round leaves, made by hand."""
    places, hub = Places(tmp_path, tmp_path / "round-1", "artist/round-1"), LoopbackHub()
    images = made_up(6, seed=0)
    for folder in (places.data, places.test, places.out / "dataset", places.pulled):
        images.save_to_disk(folder)
    places.protection.mkdir(parents=True, mode=0o700)
    places.measured.parent.mkdir(mode=0o700)
    for file, content in (
        (places.protection / "perturbations.arrow", "levels"),
        (places.measured, "{}"),
        (places.measured.parent / "victims" / "one.json", "{}"),
    ):
        file.parent.mkdir(exist_ok=True, mode=0o700)
        file.write_text(content)
        file.chmod(0o600)
    (places.out / "private").chmod(0o700)
    shutil.copy(places.data / "data-00000-of-00001.arrow", places.mapped)
    repo = hub.create("datasets", places.repo, private=True)
    for message in COMMITS[1:]:
        repo.add("main", {PARQUET: b"rows"}, message)
    yield places, hub, read_expected(places, hub)
    hub.server.server_close()


def test_a_whole_round_holds(round_one):
    places, hub, expected = round_one
    for stage in soak.STAGES:
        assert is_finished(stage, places, hub)
        assert faults_of(stage, places, expected, hub, HELD, undisturbed=True) == []


DAMAGE = {
    "the originals have changed": lambda places, hub: (places.data / "state.json").unlink(),
    "OUT has other bytes": lambda places, hub: (places.protection / "perturbations.arrow").write_text("level5"),
    "perturbations.arrow may be read by others": lambda places, hub: (places.protection / "perturbations.arrow").chmod(
        0o644
    ),
    "what protect made is gone": lambda places, hub: shutil.rmtree(places.out),
    "learnability.json has other bytes": lambda places, hub: places.measured.write_text("{ }"),
    "the victim one.json is half there": lambda places, hub: (
        places.measured.parent / "victims" / "one.json"
    ).write_text("{"),
    "the repository is public": lambda places, hub: setattr(hub.dataset(places.repo), "private", False),
    "the repository has the commits": lambda places, hub: hub.dataset(places.repo).add("main", {PARQUET: b"rows"}, "x"),
    "the repository has other data": lambda places, hub: hub.dataset(places.repo).head.files.update({PARQUET: b"row"}),
    "what was pulled is half there": lambda places, hub: (places.pulled / "state.json").unlink(),
    "what map wrote is half there": lambda places, hub: places.mapped.write_bytes(places.mapped.read_bytes()[:999]),
    "left .out.part behind": lambda places, hub: (places.root / ".out.part").mkdir(),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_lost_or_half_visible_is_noticed(round_one, what):
    places, hub, expected = round_one
    DAMAGE[what](places, hub)
    found = faults_of("map", places, expected, hub, HELD, undisturbed=True)
    assert any(what in problem for problem in found), found


@pytest.mark.parametrize(
    ("stage", "ending", "problem"),
    [
        ("push", Ending(1, "Traceback (most recent call last):\nKeyError: 'url'", 1.0), "a traceback: KeyError"),
        ("map", Ending(1, "Traceback (most recent call last):\nKeyError: 'url'", 1.0), "a traceback: KeyError"),
        ("map", Ending(1, "Traceback (most recent call last):\nOSError: [Errno 28] No space left", 1.0), None),
        ("push", Ending(1, "Error: cannot push to artist/round-1: 503", 1.0), None),
        ("push", Ending(1, "", 1.0), "failed without saying why"),
        ("push", Ending(-11, "", 1.0), "was ended by signal 11"),
        ("push", Ending(-9, "", 1.0, killed=True), None),
        ("push", Ending(-9, "", 600.0, killed=True, hung=True), "did not come to an end"),
    ],
)
def test_how_a_command_ends(round_one, stage, ending, problem):
    places, hub, expected = round_one
    assert faults_of(stage, places, expected, hub, ending) == ([problem] if problem else [])


def test_success_without_the_work_is_noticed(round_one):
    places, hub, expected = round_one
    shutil.rmtree(places.pulled)
    assert faults_of("pull", places, expected, hub, HELD) == ["ended with 0 and did not finish"]
    failed = replace(HELD, code=1, said="Error: it is not there, alas!")
    assert faults_of("pull", places, expected, hub, failed, undisturbed=True) == ["did not go on: ended with 1"]


def test_requests_are_met_again_in_another_round():
    asked = "/datasets/artist/round-0-0/resolve/0123456789abcdef0123456789abcdef01234567/data/a.parquet"
    pattern = soak.as_pattern(asked)
    assert re.search(pattern, asked.replace("round-0-0", "round-0-12").replace("0123", "fedc"))
    assert not re.search(pattern, asked + ".other")


def test_a_limit_to_files_meets_the_command(tmp_path):
    words = [sys.executable, "-c", f"open({str(tmp_path / 'file')!r}, 'wb').write(bytes(5000))"]
    run = subprocess.run(words, preexec_fn=lambda: soak.limit_files(100), capture_output=True, text=True)
    assert "OSError: [Errno 27] File too large" in run.stderr


def test_the_same_seed_draws_the_same_faults(tmp_path):
    def drawn():
        work = soak.Soak(tmp_path, True, 5, None, seconds={"pull": 4.0}, bytes_needed={"pull": 9999})
        work.requests = {"pull": [("GET", "a$"), ("GET", "a$"), ("HEAD", "b$")]}
        return [str(work.draw("pull")) for _ in range(40)]

    assert drawn() == drawn()
    assert {told.split(" (")[0] for told in drawn()} == {"kill", "file limit", "full disk", "Hub"}
