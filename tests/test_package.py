from __future__ import annotations

import ast
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from datasets import Value
from helpers.datasets import ROOT, make_dataset

from hf_unlearnable import Protection, Texture


def test_importing_the_package_is_cheap():
    """It loads none of the heavy packages, nor does opening a room."""
    rooms = "data, evaluation, hub, information, protection, reports, runs, training"
    code = (
        f"import sys, hf_unlearnable; from hf_unlearnable import {rooms};"
        "heavy = {'torch', 'datasets', 'transformers', 'numpy', 'PIL'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Of the packages that are installed beside this one, those that the command line itself is made of.
COMMAND_LINE = {"annotated_doc", "attr", "click", "markdown_it", "mdurl", "pygments", "rich", "shellingham", "typer"}
STARTED = """
import json, sys
from hf_unlearnable.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
print()
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(*words: object) -> set[str]:
    """What a command has imported when it ends."""
    done = subprocess.run([sys.executable, "-c", STARTED, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_command_that_does_nothing_imports_no_package(option):
    found = {name.partition(".")[0] for name in modules_after(option)}
    packages = {name for name in found & set(packages_distributions()) if not name.startswith("_")}  # those of site
    assert packages <= COMMAND_LINE | {"hf_unlearnable"}


# What only a network needs, and half of the time that a command takes to begin.
NETWORKS = {"hf_unlearnable.modeling", "torch._dynamo", "torch.distributed.tensor", "transformers"}


def test_protecting_imports_nothing_that_it_does_not_use(tmp_path):
    make_dataset(8).save_to_disk(tmp_path / "images")
    words = ["--output", tmp_path / "out", "--method", "texture"]
    found = modules_after("protect", tmp_path / "images", *words)
    assert "torch" in found
    unused = {"evaluate", "gradio", "kornia", "matplotlib", "scipy.stats", "skimage.feature", "sklearn", "tensorboard"}
    unused |= {"hf_unlearnable.app", "hf_unlearnable.benchmark", "hf_unlearnable.reports"}
    assert not (unused | NETWORKS) & found, (unused | NETWORKS) & found
    for then in ("verify", "report"):
        found = modules_after(then, tmp_path / "out")
        assert not NETWORKS & found, (then, NETWORKS & found)


DOORS = ["", ".evaluation", ".hub", ".information", ".protection", ".runs", ".training"]


@pytest.mark.parametrize("room", DOORS)
def test_every_public_name_is_there(room):
    module = importlib.import_module(f"hf_unlearnable{room}")
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) - {"__version__"} == set(dir(module)) - {"__version__"}
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


def documented_imports():
    """The import statements in the documentation, with where each stands."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pattern = re.compile(r"^ *from (hf_unlearnable[\w.]*) import (\([^)]*\)|[^\n#]+)", re.MULTILINE)
    for file in files:
        for module, names in pattern.findall(file.read_text()):
            for name in names.strip("()\n ").replace("\n", " ").split(","):
                if name.strip():
                    yield pytest.param(module, name.split(" as ")[0].strip(), id=f"{file.name}-{module}-{name.strip()}")


@pytest.mark.parametrize(("module", "name"), dict.fromkeys(documented_imports()))
def test_every_name_in_the_documentation_can_be_imported(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_importing_changes_no_global_state():
    code = """
import warnings, random
import numpy, torch, logging
before = (torch.get_default_dtype(), torch.initial_seed(), list(warnings.filters), numpy.random.get_state()[1].tolist(),
          random.getstate(), logging.getLogger().level, torch.is_grad_enabled())
import hf_unlearnable.cli, hf_unlearnable.methods, hf_unlearnable.evaluation.protocol
after = (torch.get_default_dtype(), torch.initial_seed(), list(warnings.filters), numpy.random.get_state()[1].tolist(),
         random.getstate(), logging.getLogger().level, torch.is_grad_enabled())
assert before[:2] + before[3:] == after[:2] + after[3:]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not platform.libc_ver()[0].startswith("glibc"), reason="needs glibc")
def test_freed_memory_is_kept():
    """Pages that come back from the kernel are faults of the process; those that were kept are not."""
    code = """
import os, resource, sys
from hf_unlearnable.cli.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
    os.environ["MALLOC_ARENA_MAX"] = "1"
    assert not keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(16 << 20)
before = faults()
for _ in range(10):
    bytearray(16 << 20)
print(faults() - before)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(how):
        command = [sys.executable, "-c", code, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    assert faults("keep") < 100 < 1000 < faults("plain")


def test_warnings_show_the_line_of_whoever_called():
    plain = make_dataset().cast_column("label", Value("int64"))
    said = {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Texture().fit(plain, progress=False)
        said["fit"] = len(told)
        Protection.from_arrays(np.ones((48, 12, 12)), plain, budget=8, scale=255, progress=False)
    assert 0 < said["fit"] < len(told)
    assert {one.filename for one in told} == {__file__}
    lines = Path(__file__).read_text().splitlines()
    assert "Texture().fit" in lines[told[0].lineno - 1]
    assert "from_arrays" in lines[told[-1].lineno - 1]


def test_warnings_are_made_in_one_place():
    spoken = [path.name for path in (ROOT / "hf_unlearnable").rglob("*.py") if "warnings.warn" in path.read_text()]
    assert spoken == ["errors.py"]


def test_text_is_read_and_written_as_utf_8_whatever_the_machine_prefers():
    for path in sorted((ROOT / "hf_unlearnable").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in ("read_text", "write_text"):
                assert any(keyword.arg == "encoding" for keyword in call.keywords), f"{path}:{call.lineno}"
