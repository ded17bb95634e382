"""Several processes fit one protection: every row is owned once, and all end with the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from helpers import in_processes
from helpers.datasets import ROOT, make_dataset
from helpers.forked import together

from hf_unlearnable import Training, available_methods, learnability
from hf_unlearnable.training.processes import owners

pytestmark = pytest.mark.thorough

CONFIGURATION = ROOT / "examples" / "accelerate" / "cpu.yaml"
DATA = make_dataset(62, channels=3)


def work(folder: Path, *names: str) -> dict:
    """What two processes have to say that do parts of ``in_processes``."""
    DATA.save_to_disk(folder / "data")
    together(2, folder, in_processes.work, folder, *names)
    return json.loads((folder / "said.json").read_text())


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Made by one worker of pytest-xdist for all: it takes a twentieth of all tests."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "processes"
    with FileLock(f"{folder}.lock"):
        if (told := folder / "said.json").exists():
            return json.loads(told.read_text())
        folder.mkdir(exist_ok=True)
        return work(folder, "contract", "measured", "faults", "gathering", "alone", "shown")


@pytest.mark.parametrize("name", available_methods())
def test_every_method_protects_every_image(said, name):
    assert said["contract"][name] == {"violations": 0, "unchanged": 0, "images": len(DATA)}


def test_every_row_is_moved_by_one_process_once_an_epoch(said):
    assert said["contract"]["moved"] == [2.0] * len(DATA)  # the pattern of its class, then one epoch of its own


def test_all_processes_stop_when_the_patterns_are_learned(said):
    # 2 steps of 20, in passes of 4; a process that went on would wait for ever.
    assert said["contract"]["passes"] == 1


def test_surrogates_of_all_processes_are_one(said):
    assert said["contract"]["apart"] == 0


def test_the_same_processes_give_the_same_bytes(said):
    assert said["contract"]["first"] == said["contract"]["again"]


@pytest.mark.filterwarnings("ignore:.* test images are among those")
def test_measuring_is_shared_out_and_gives_what_one_process_gives(said, tmp_path):
    training = Training(epochs=1, batch_size=16)
    options = {"seeds": [1, 2, 3], "ratios": [0, 0.5], "sequential": True, "training": training}
    options |= {"defences": ["none", "validation:0.2"]}
    with pytest.warns(UserWarning, match="identical"):
        report = learnability(DATA, clean=DATA, test=DATA, keep_in=tmp_path, progress=False, **options)
    assert json.loads(json.dumps(report.as_dict())) == said["measured"]


def test_the_demo_is_shared_out_and_told_by_one(said):
    main, other = said["shown"]["said"]
    assert main.count("Getting Fashion-MNIST.") == 1
    assert "A model that learned from the clean images" in main
    assert "where its maker knows the method (class-clusters:1)" in main
    assert other == ""


def test_an_error_of_one_is_raised_by_all(said):
    assert said["faults"]["told"] == "row 7: unreadable"
    assert "2 processes for 2 images" in said["faults"]["few"]


def test_a_full_disk_of_one_is_raised_by_all(tmp_path):
    """Where only the main process writes, too: the others waited for it for ever."""
    told = work(tmp_path, "full_disks")["full_disks"]
    damaged = told.pop("damaged")
    assert told == dict.fromkeys(
        ("clusters", "perturbations", "result", "part of a checkpoint", "its description"),
        ["OSError: [Errno 28] No space left on device: 'there'"] * 2,
    )
    assert damaged[0].startswith("CheckpointError: the checkpoint in")
    assert damaged[0] == damaged[1]


def test_what_processes_tell_one_another(said):
    told, rows = said["gathering"], list(range(len(DATA)))
    assert told["gathered"] == told["written"] == rows
    assert told["joined"] == 3 + 4
    assert told["largest"] == 1
    assert told["mean"] == pytest.approx(np.mean(owners(np.array(DATA["label"]), 2)))


def test_a_rank_that_is_killed_ends_the_others_and_the_next_start_goes_on(said, tmp_path):
    DATA.save_to_disk(tmp_path / "data")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    command += ["--main_process_port", "0", "-m", "helpers.in_processes", str(tmp_path), "killed"]
    path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode != 0
    assert (tmp_path / "died").exists()
    assert not (tmp_path / "said.json").exists()
    resumed = work(tmp_path, "killed")["killed"]
    assert resumed["digest"] == said["alone"]["digest"]
    assert resumed["ticks"] < 24  # of 6 epochs of 4 batches and the guide's: it did not begin anew


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_owners(processes):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5], [31, 2, 8, 40]))
    owner = owners(labels, processes)
    for label in np.unique(labels):
        counts = np.bincount(owner[labels == label], minlength=processes)
        assert counts.sum() == (labels == label).sum()
        assert 1 not in counts  # never alone in its class
        assert counts.max() - counts.min() <= 3
