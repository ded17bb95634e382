"""The commands and Python blocks of README and of the documentation run as they stand, page by page.

The blocks of a page run one after the other in one folder, which holds ``photos/`` and ``photos-for-testing/``: 24
images each of 16x16 pixels in two classes, so that every recipe takes seconds at its own settings. What is not taken
literally stands here and nowhere else:

* ``me/NAME`` becomes a fresh name on the loopback Hub, where nobody can be ``me``;
* victims of the command ``measure`` train for six epochs;
* commands run in this process, since every start of torch takes seconds; ``accelerate launch`` is one process then, but
  its configuration must be there;
* ``pip install`` and ``hf auth login`` are checked and not run;
* a Python block with ``...`` in it is a sketch, which must compile; one with a title is a file, written and not run,
  and so is one of YAML.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from helpers.datasets import ROOT
from helpers.loopback_hub import USER, LoopbackHub
from PIL import Image
from typer.testing import CliRunner

import hf_unlearnable
from hf_unlearnable.cli import app
from hf_unlearnable.defences import base as defences
from hf_unlearnable.methods import base as methods

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", DOCS / "index.md", DOCS / "quick-start.md", *sorted((DOCS / "how-to").glob("*.md"))]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
FASHION_MNIST = "zalando-datasets/fashion_mnist"
KINDS = "bash|python|toml|yaml"
BLOCK = re.compile(rf"^```(?P<kind>{KINDS})(?P<title>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A block of a page, and the line on which it begins."""

    kind: str
    title: str | None
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        title = TITLE.search(match["title"])
        line = text[: match.start()].count("\n") + 1
        found.append(Block(match["kind"], title and title[1], match["text"], line))
    return found


def pictures(count: int = 24, side: int = 16, seed: int = 0) -> Iterator[tuple[Image.Image, int]]:
    """Colour images of two classes: where the bright square is."""
    pixels = np.random.default_rng(seed).integers(0, 120, (count, side, side, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        label = index % 2
        image[: side // 2, label * side // 2 : (label + 1) * side // 2] += 120
        yield Image.fromarray(image), label


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> Iterator[Path]:
    """A reader's folder, with Fashion-MNIST on the Hub; what plug-ins made known is forgotten afterwards."""
    for seed, folder in enumerate(("photos", "photos-for-testing")):
        for index, (image, label) in enumerate(pictures(seed=seed)):
            file = tmp_path / folder / ("cats", "dogs")[label] / f"{index:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    publish_fashion_mnist(hub)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = {registry: registry.names() for registry in (methods._methods, defences._defences)}
    modules = set(sys.modules)
    yield tmp_path
    for registry, names in known.items():
        for name in set(registry.names()) - set(names):
            registry.remove(name)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def publish_fashion_mnist(hub: LoopbackHub) -> None:
    """Some made-up rows under the name of the real set."""
    if ("datasets", FASHION_MNIST) in hub.repos:
        return
    files = {}
    for seed, split in enumerate(("train", "test")):
        images, labels = zip(*pictures(seed=seed), strict=True)
        features = Features({"image": ImageFeature(), "label": ClassLabel(names=["shirt", "boot"])})
        stream = io.BytesIO()
        Dataset.from_dict({"image": list(images), "label": list(labels)}, features=features).to_parquet(stream)
        files[f"data/{split}-00000-of-00001.parquet"] = stream.getvalue()
    hub.create("datasets", FASHION_MNIST, private=False).add("main", files, "images")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, workplace: Path) -> None:
    names = f"{USER}/{uuid.uuid4().hex[:6]}-"
    scope: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        text = re.sub(r"\bme/(?=\w)", names, block.text)
        place = f"{page.relative_to(ROOT)}, line {block.line}"
        if block.kind == "toml":
            tomllib.loads(text)
        elif block.kind == "yaml":
            yaml.safe_load(text)
            if block.title:
                (workplace / block.title).write_text(text)
        elif block.kind == "bash":
            for words in commands(text):
                run(words, workplace, place)
        else:
            code = compile(text, place, "exec")
            if block.title:
                (workplace / block.title).write_text(text)
            elif not is_sketch(text):
                with quietly():
                    exec(code, scope)


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run(words: list[str], workplace: Path, place: str) -> None:
    """One line of a shell block."""
    if words[:2] == ["accelerate", "launch"]:
        module = words.index("-m")
        configuration = words[words.index("--config_file") + 1]
        assert (ROOT / configuration).is_file(), f"{place}: there is no {configuration}"
        assert words[module + 1] == "hf_unlearnable", place
        words = ["hf-unlearnable", *words[module + 2 :]]
    if words[0] == "hf-unlearnable":
        words += ["--epochs", "6"] if words[1] == "measure" else []
        with quietly():
            done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{place}: {shlex.join(words)}\n{done.output}\n{done.exception!r}"
    elif words[:2] == ["pip", "install"]:
        check_install(words[2:], place)
    elif words[0] == "make":
        for target in words[1:]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{place}: make {target}"
    else:
        assert words[:3] == ["hf", "auth", "login"], f"{place}: the test does not know {shlex.join(words)}"


def check_install(requirements: list[str], place: str) -> None:
    """The package by its name, with extras that it has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in requirements:
        match = re.fullmatch(r"([\w-]+|\.)(?:\[([\w,]+)\])?", requirement)
        assert match, f"{place}: {requirement}"
        assert match[1] in (project["name"], "."), f"{place}: {requirement}"
        assert set((match[2] or "dev").split(",")) <= set(project["optional-dependencies"]), f"{place}: {requirement}"


class quietly(warnings.catch_warnings):
    """What is said about tiny sets of images is right, and beside the point here."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", UserWarning)


def is_sketch(text: str) -> bool:
    return any(isinstance(node, ast.Constant) and node.value is Ellipsis for node in ast.walk(ast.parse(text)))


def test_every_name_that_a_page_imports_is_there() -> None:
    for page in [*PAGES, *sorted(DOCS.glob("*.md")), *sorted((DOCS / "api").glob("*.md"))]:
        for block in blocks(page):
            if block.kind != "python":
                continue
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_unlearnable"):
                    home = importlib.import_module(node.module)
                    for name in node.names:
                        here = hasattr(home, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
                        assert here, f"{page.name}: {node.module} has no {name.name}"


def test_a_hook_is_called_as_its_page_says() -> None:
    """The table of ``write-a-defence`` has the arguments of the base class, by name where they are passed so."""
    table = re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", (DOCS / "how-to" / "write-a-defence.md").read_text(), re.MULTILINE)
    assert {"image", "prepare", "correction", "course", "start", "batch"} == {hook for hook, _ in table}
    for hook, written in table:
        names, _, by_name = written.partition("*, ")
        parameters = list(inspect.signature(getattr(hf_unlearnable.Defence, hook)).parameters.values())[1:]
        assert re.findall(r"\w+", names) == [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY], hook
        assert re.findall(r"\w+", by_name) == [one.name for one in parameters if one.kind is one.KEYWORD_ONLY], hook


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    named = set(re.findall(r"^::: hf_unlearnable\.(?:\w+\.)*(\w+)$", pages, re.MULTILINE))
    listed = {name for names in re.findall(r"members: \[([^\]]+)\]", pages) for name in names.split(", ")}
    recipes = {
        name for name in hf_unlearnable.methods.__all__ if isinstance(getattr(hf_unlearnable.methods, name), type)
    }
    assert {*hf_unlearnable.__all__, *hf_unlearnable.defences.__all__, *recipes} - {"__version__"} <= named | listed


def test_the_notebook_runs(workplace: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        assert cell["outputs"] == [], "clear the outputs before the notebook is committed"
        assert cell["execution_count"] is None
    sources = ["".join(cell["source"]) for cell in code]
    sources = [source for source in sources if not source.startswith("%pip install")]
    script = workplace / "notebook.py"
    script.write_text("\n\n".join(sources))
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
