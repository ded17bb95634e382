"""To which part a moment of a command belongs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from common import ROOT
from run_speed import PARTS, REST, START, WHOLE, part_of

SITE, OURS = "/lib/python3/site-packages", "/somewhere/hf_unlearnable"


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        ([START], START),
        (["<frozen runpy>:run_module", f"{OURS}/cli/hub.py:push"], REST),
        ([f"{SITE}/datasets/arrow_writer.py:write", f"{SITE}/PIL/Image.py:save"], "writing PNG"),
        ([f"{SITE}/PIL/Image.py:save", f"{SITE}/datasets/arrow_writer.py:write"], "datasets and Arrow"),
        ([f"{OURS}/training/run.py:_step", f"{OURS}/models/surrogate.py:forward", "a.py:relu"], "forward"),
        ([f"{OURS}/training/inference.py:classify", f"{OURS}/models/surrogate.py:forward"], "testing"),
        (["<frozen importlib._bootstrap>:_find_and_load", f"{SITE}/datasets/config.py:<module>"], "imports"),
    ],
)
def test_the_innermost_known_function_counts_unless_one_around_it_takes_all(stack, part):
    assert part_of("\n".join(stack)) == part


def test_every_function_of_ours_is_there():
    package = ROOT / "hf_unlearnable"
    for file, function in (place for places in [*PARTS.values(), *WHOLE.values()] for place in places):
        inside = package.parent if file.startswith("hf_unlearnable/") else package
        if "site-packages" not in file and (inside / file.split("/")[0]).exists():
            path = inside / file
            assert path.is_dir() if file.endswith("/") else f"def {function}" in path.read_text(), (file, function)


def test_a_command_is_sampled_from_its_start(tmp_path):
    sampled = ROOT / "examples" / "benchmarks" / "sampled.py"
    start = [sys.executable, str(sampled), str(tmp_path / "samples.json"), "--version"]
    done = subprocess.run(start, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True)
    assert "unlearnable" in done.stdout
    seconds = json.loads((tmp_path / "samples.json").read_text())
    assert seconds[START] > 0
    assert "imports" in {part_of(stack) for stack in seconds}
