from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

import hf_unlearnable

PACKAGE = ROOT / "hf_unlearnable"

# A module may import from lines above its own only.
LAYERS = [
    ["errors"],
    ["outputs", "progress", "versions", "debian", "budget", "scores", "allocator", "registry"],
    ["sharding", "micro_batches"],
    ["pixels", "columns", "kernel_votes", "mutual_information", "patterns", "perceptual"],
    ["information"],
    ["reading", "release", "store", "verification"],
    ["images", "modeling", "metrics"],
    ["surrogate", "evaluation"],
    ["callbacks"],
    ["defences"],
    ["training"],
    ["estimates", "protection", "checkpoints"],
    ["methods"],
    ["results"],
    ["matching"],
    ["measurement"],
    ["report", "verdicts", "fashion_mnist", "sources"],
    ["retrying", "publishable", "card_header"],
    ["protected_folder", "repository", "cards"],
    ["hub", "hub_model", "html_report", "comparability"],
    ["reported_run", "comparison_page"],
    ["comparison"],
    ["cli_hub", "cli_report"],
    ["cli_protect"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts != ("__init__.py",)]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upward(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in RANK, f"give {own} a line in LAYERS"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_unlearnable."):
            other = node.module.split(".")[1]
            assert other == own or RANK[other] < RANK[own], f"{own} imports {other}, which lies below it"


def test_importing_the_package_is_cheap():
    """Nothing that takes long is imported before it is needed."""
    code = (
        "import sys; import hf_unlearnable; "
        "heavy = {'torch', 'datasets', 'transformers', 'numpy', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in hf_unlearnable.__all__:
        assert getattr(hf_unlearnable, name) is not None
    assert set(hf_unlearnable.__all__) == set(hf_unlearnable._HOME)
    assert set(hf_unlearnable.__all__) < set(dir(hf_unlearnable))
    with pytest.raises(AttributeError, match="nothing"):
        hf_unlearnable.nothing  # noqa: B018


def test_importing_changes_no_global_state():
    code = """
import warnings, random
import numpy, torch, logging
before = (torch.get_default_dtype(), torch.initial_seed(), list(warnings.filters), numpy.random.get_state()[1].tolist(),
          random.getstate(), logging.getLogger().level, torch.is_grad_enabled())
import hf_unlearnable.cli, hf_unlearnable.methods, hf_unlearnable.measurement
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
from hf_unlearnable.allocator import keep_freed_memory
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
