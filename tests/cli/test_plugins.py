"""A package of somebody else with a method, a defence and a victim, used by name; and the same from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import DatasetDict
from helpers.datasets import make_dataset
from helpers.environment import HUB
from helpers.forked import call, command, invoke, together
from typer.testing import CliRunner

from hf_unlearnable.cli import app

PLUGIN = '''
"""Methods of Acme."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import ImageOps

from hf_unlearnable import Defence, Method, register_victim
from hf_unlearnable.methods import Paper
from hf_unlearnable.modeling import SmallResNetConfig, SmallResNetForImageClassification
from hf_unlearnable.settings import Count


@dataclass(frozen=True, kw_only=True)
class Stripes(Method, name="stripes"):
    """A pattern of stripes for every class."""

    citation = Paper(key="acme2030", title="Stripes", authors=("Acme, Ada", "Byte, Bob"), year=2030, venue="JMLR")

    width: Count = 2

    @classmethod
    def describe(cls, findings):
        return f"Stripes of {findings['width']} pixels." if "width" in findings else ""

    def run(self, task):
        side = torch.arange(task.perturbations.shape[-1])
        for row, label in enumerate(task.images.labels):
            signs = ((side + int(label)) // self.width % 2) * 2.0 - 1
            task.perturbations[row] = signs * task.budget.epsilon
        task.findings["width"] = self.width


@dataclass(frozen=True, kw_only=True)
class Flip(Defence, name="flip"):
    """Upside down."""

    def image(self, image):
        return ImageOps.flip(image)


def tiny_net(num_labels, channels):
    config = SmallResNetConfig(widths=(4,), depths=(1,), num_labels=num_labels, num_channels=channels)
    return SmallResNetForImageClassification(config)
'''
ENTRY_POINTS = """
[hf_unlearnable.methods]
stripes = acme_unlearnable:Stripes
broken = acme_unlearnable:NotThere

[hf_unlearnable.defences]
flip = acme_unlearnable:Flip

[hf_unlearnable.victims]
tiny-net = acme_unlearnable:tiny_net
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    DatasetDict({"train": make_dataset(24), "test": make_dataset(12, seed=1)}).save_to_disk(folder)
    return folder


def run(*commands: list[object], path: Path) -> list[tuple[int, str, str]]:
    """Exit status, output and exception of each, of a process that finds packages in ``path`` too."""
    return call(invoke, [[str(word) for word in command] for command in commands], path)


def test_an_installed_package_is_used_by_name(source, tmp_path, name):
    site, out = tmp_path / "site", tmp_path / "out"
    information = site / "acme_unlearnable-1.2.dist-info"
    information.mkdir(parents=True)
    (site / "acme_unlearnable.py").write_text(PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-unlearnable\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    short = ["--seeds", 1, "--epochs", 1, "--ratios", "0,1"]
    protected, measured, reported, pushed, told, broken, em = run(
        ["protect", source, "--output", out, "--method", "stripes:width=3", "--surrogate", "tiny-net"],
        ["measure", out, "--victim", "tiny-net", "--defences", "none,flip", *short],
        ["report", out],
        ["push", out, name],
        ["env"],
        ["protect", source, "--output", tmp_path / "no", "--method", "broken"],
        ["protect", source, "--output", tmp_path / "em", "--method", "em", "--epochs", 1],
        path=site,
    )
    for done in (protected, measured, reported, pushed, told, em):
        assert done[0] == 0, done
    assert "Stripes of 3 pixels." in protected[1]
    about = json.loads((out / "private" / "protection" / "protection.json").read_text())
    assert about["method"] == {"name": "stripes", "seed": 0, "width": 3}
    assert about["surrogates"] == ["tiny-net"]
    summary = json.loads((out / "report" / "learnability.json").read_text())["summary"]
    assert {(row["victim"], row["defence"]) for row in summary} == {("tiny-net", "none"), ("tiny-net", "flip")}
    assert "Stripes of 3 pixels." in (out / "report" / "report.html").read_text()
    card = HUB.dataset(name).head.files["README.md"].decode()
    assert "author = {Acme, Ada and Byte, Bob}" in card
    for words in ("| method | `stripes` |", "`tiny-net`", "flip", "width 3"):
        assert words in card
    for words in ("acme-unlearnable 1.2", "stripes", "flip", "tiny-net"):
        assert words in told[1]
    (methods,) = [line for line in told[1].splitlines() if line.startswith("methods ")]
    assert methods.split(maxsplit=1)[1] == (
        "ar, auto, beo, cuda, em, lsp, mi-ue, noise, pgd, pil, rem, stripes, tap, texture"
    )
    assert "'broken' of the installed package acme-unlearnable" in told[1]
    assert "PluginError" in broken[2]
    assert "installed package acme-unlearnable (acme_unlearnable:NotThere)" in broken[2]
    assert "pip uninstall acme-unlearnable" in broken[2]

    # Where it is not installed any more, what it made can still be looked at.
    reported = CliRunner().invoke(app, ["report", str(out)])
    assert reported.exit_code == 0, reported.output
    assert "stripes" in (page := (out / "report" / "report.html").read_text())
    assert "Stripes of 3 pixels." not in page


def test_a_file_is_used_by_name_in_several_processes_that_speak_and_write_once(source, tmp_path, tmp_path_factory):
    (tmp_path / "mine.py").write_text(PLUGIN + '\n\nregister_victim("tiny-net")(tiny_net)\n')
    out, told = tmp_path / "out", tmp_path_factory.mktemp("told")
    words = ["--plugin", tmp_path / "mine.py", "--method", "stripes", "--surrogate", "tiny-net"]
    said = together(2, told, command, "protect", source, "--output", out, *words)
    for words in ("Protecting 24 images", "24 images, 0 unchanged, 0 outside", "Stripes of 2 pixels."):
        assert said.count(words) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py", "out"]
    short = ["--seeds", 1, "--epochs", 1, "--ratios", "1"]
    measured, nowhere, wrong = run(
        ["measure", out, "--plugin", "mine.py", "--victim", "tiny-net", "--defences", "flip", *short],
        ["protect", source, "--output", tmp_path / "no", "--plugin", "nowhere.py"],
        ["protect", source, "--output", tmp_path / "no", "--plugin", "mine.py", "--method", "stripes:width=0"],
        path=tmp_path,
    )
    assert measured[0] == 0, measured
    assert "tiny-net" in measured[1]
    assert "where there is no file" in nowhere[2]
    assert "stripes: got width=0; expected 1 to" in wrong[2]
