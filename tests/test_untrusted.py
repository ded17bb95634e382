"""What a protection, dataset, checkpoint, card or image of somebody else can make this package do: nothing.

`docs/threat-model.md` names these tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import zlib

import pytest
import torch
from datasets import load_from_disk
from helpers.comparisons import write_comparison
from helpers.datasets import ROOT, described, make_dataset, make_output
from helpers.environment import HUB
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from typer.testing import CliRunner

from hf_unlearnable import EM, CheckpointError, DataError, Defence, HubError, UnlearnableError, learnability, pull, push
from hf_unlearnable.cli.command import app
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.files import file_digest
from hf_unlearnable.hub.cards import DatasetFacts, dataset_card
from hf_unlearnable.hub.retry import Retry
from hf_unlearnable.reports.rendering import plain_markdown
from hf_unlearnable.runs import protect

HOSTILE = "x | y\n\n<script>alert(1)</script> `a` [b](http://evil.example) ![c](d) <!-- hf-unlearnable: end about -->"


class Payload:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def code(mark) -> str:
    return f"open({str(mark)!r}, 'w').close()\n"


def test_a_checkpoint_runs_nothing(tmp_path, monkeypatch):
    """One with a digest that fits, as who can write the folder can make it."""
    kept, mark = tmp_path / "kept", tmp_path / "ran"

    def fit():
        return EM(epochs=1, batch_size=8).fit(make_dataset(), checkpoint_dir=kept, checkpoint_every=0, progress=False)

    class Killed(BaseException): ...

    def killed(self):
        self.save()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("hf_unlearnable.training.checkpoints.Checkpoints.tick", killed)
        with pytest.raises(Killed):
            fit()
    description = json.loads((kept / "checkpoint.json").read_text())
    file = kept / f"{description['number']}-of-process-0"
    torch.save({"part": Payload(mark)}, file)
    (kept / "checkpoint.json").write_text(json.dumps({**description, "digests": [file_digest(file)]}))
    with pytest.raises(CheckpointError, match=r"holds something else than numbers.*overwrite=True"):
        fit()
    assert not mark.exists()


def test_a_dataset_runs_nothing(tmp_path, name):
    """A script of the folder's name, which datasets ran once, here and on the Hub."""
    folder, mark = tmp_path / "photos", tmp_path / "ran"
    photos(folder)
    for script in ("photos.py", "dataset.py", "__init__.py"):
        (folder / script).write_text(code(mark))
    assert len(load_source(str(folder))) == 4
    data = make_dataset()
    data.push_to_hub(name)
    repo = HUB.dataset(name)
    repo.add("main", {**repo.head.files, f"{name.partition('/')[2]}.py": code(mark).encode()}, "a script")
    with pytest.raises(HubError, match="scripts are no longer supported"):  # datasets says so, and takes none
        pull(name, tmp_path / "pulled")
    assert not mark.exists()


@pytest.mark.parametrize(
    "header",
    [
        "license: !!python/object/apply:builtins.open ['{mark}', 'w']",
        "license: [",
        "- a list",
        "license: {{{{ 7 * 7 }}}}",
    ],
)
def test_a_card_runs_nothing_and_its_faults_are_told(small, protection, tmp_path, name, hub, header):
    """The header and the text of a repository's card that somebody else wrote."""
    mark = tmp_path / "ran"
    small.save_to_disk(tmp_path / "originals")
    out = make_output(tmp_path / "out", small, protection, str(tmp_path / "originals"))
    push(out, name)
    repo = HUB.dataset(name)
    text = f"---\n{header.format(mark=mark)}\n---\n# Mine {{{{ 7 * 7 }}}}\n{{% for x in y %}}\n"
    repo.add("main", {**repo.head.files, "README.md": text.encode()}, "by hand")
    with contextlib.suppress(UnlearnableError):
        push(out, name, retry=Retry(attempts=2, delay=0.01))
    with contextlib.suppress(UnlearnableError):
        pull(name, tmp_path / "pulled", retry=Retry(attempts=2, delay=0.01))
    assert "# Mine {{ 7 * 7 }}\n{% for x in y %}" in HUB.dataset(name).head.files["README.md"].decode()
    assert not mark.exists()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hostile(Defence):
    name = "hostile"

    def public_name(self):
        return HOSTILE


def test_names_in_a_card_stay_in_their_cell(monkeypatch):
    """Of countermeasures, in the verdict too, and of settings, which plug-ins and other people's files choose."""
    results = tuple(
        Result("small-resnet", case, ratio, "hostile", 1, (0.5, 0.5))
        for case, ratio in (("clean", 0.0), ("protected", 1.0))
    )
    report = Report(results, 0.1, 48, 30, 100, {}, {})
    for room in ("hub.cards", "reports.public"):
        monkeypatch.setattr(f"hf_unlearnable.{room}.public_defence", lambda _: Hostile().public_name())
    facts = DatasetFacts(
        repo_id="me/boats",
        images=48,
        protection=described(method={"name": HOSTILE, "seed": 1, "note": HOSTILE}),
        verification={"violations": 0, "images": 48, "unchanged": 0, "max_perturbation": 8.0, "mean_perturbation": 2.0,
                      "psnr": None, "ssim": None},
        read_back=True,
        report=report,
    )  # fmt: skip
    text = dataset_card(facts)
    assert "<script" not in text.replace("\\<script", "")
    assert (
        text.count("hf-unlearnable: end about") == text.count("hf-unlearnable: begin about") + 3
    )  # in their cells, and the verdict
    row = next(line for line in text.splitlines() if line.startswith("|") and "50.0" in line)
    header = next(line for line in text.splitlines() if line.startswith("| model |"))
    assert row.replace("\\|", "").count("|") == header.count("|")
    assert dataset_card(facts, text) == text  # the marks in the names are not taken for its own


@pytest.mark.parametrize("text", ["jpeg:50", "blur:kernel=5,sigma_low=1", "mi-ue"])
def test_ordinary_names_stay_as_they_are(text):
    assert plain_markdown(text) == text


def bomb(side: int) -> bytes:
    """A PNG that says it holds ``side`` x ``side`` grey pixels; as a whole it would have 140 kB at 12,000."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    lines = zlib.compress(b"\0" * (side + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def photos(folder, first: bytes = b""):
    """Two classes of two images each, the first of which may be given."""
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in (1, 2):
            Image.new("L", (12, 12)).save(folder / label / f"{number}.png")
    if first:
        (folder / "a" / "1.png").write_bytes(first)
    return str(folder)


@pytest.mark.parametrize("side", [12_000, 20_000])  # Pillow itself warns of the first, and refuses the second
def test_a_small_file_with_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, side, monkeypatch):
    folder = photos(tmp_path / "photos", bomb(side))

    load = PngImageFile.load

    def never(image, *rest):
        assert image.width < side, "it was decoded"
        return load(image, *rest)

    monkeypatch.setattr(PngImageFile, "load", never)
    result = CliRunner().invoke(app, ["protect", folder, "--output", str(tmp_path / "out")])
    assert isinstance(result.exception, DataError)
    assert "got an image of more than 89,478,485 pixels: a small file can hold" in str(result.exception)
    assert "decompression bomb" not in str(result.exception)  # Pillow's words for the same
    assert "--max-pixels" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_the_limit_is_an_option_and_that_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    make_dataset().save_to_disk(tmp_path / "photos")
    words = ["protect", str(tmp_path / "photos"), "--method", "texture", "--output", str(tmp_path / "out")]
    assert "more than 143 pixels" in str(CliRunner().invoke(app, [*words, "--max-pixels", "143"]).exception)
    data = load_from_disk(str(tmp_path / "photos"))
    with pytest.raises(DataError, match=r"more than 143 pixels: .*PIL\.Image\.MAX_IMAGE_PIXELS"):
        learnability(data, clean=data, test=data, progress=False)
    result = CliRunner().invoke(app, [*words, "--max-pixels", "144"])
    assert result.exit_code == 0, result.output


def test_a_run_of_larger_images_is_used_with_the_same_option(tmp_path, hub, name, monkeypatch):
    """By all commands that read its images; without it they name it."""
    make_dataset().save_to_disk(tmp_path / "photos")
    out = str(tmp_path / "out")
    protect(tmp_path / "photos", out, method="texture", progress=False)
    for words in (["verify", out], ["audit", out], ["report", out], ["push", out, name]):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # less than half, which Pillow itself refuses
        refused = CliRunner().invoke(app, words)
        said = f"{refused.exception} {refused.output}"
        assert "got an image of more than 50 pixels" in said, words
        assert "allow more with --max-pixels" in said, words
        allowed = CliRunner().invoke(app, [*words, "--max-pixels", "144"])
        assert allowed.exit_code == 0, (words, allowed.output, allowed.exception)
        assert "144 pixels" not in allowed.output


def test_a_comparison_of_larger_images_takes_the_option_that_its_message_names(tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text(write_comparison(tmp_path))
    look = ["benchmark", str(tmp_path / "c.yaml"), "--dry-run"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # less than half, which Pillow itself refuses
    assert "allow more with --max-pixels" in str(CliRunner().invoke(app, look).exception)
    allowed = CliRunner().invoke(app, [*look, "--max-pixels", "144"])
    assert allowed.exit_code == 0, (allowed.output, allowed.exception)


def test_an_image_that_is_none_is_told(tmp_path):
    folder = photos(tmp_path / "photos", b"\x89PNG\r\n\x1a\nno picture")
    with pytest.raises(DataError, match=r"row 0 \(.*1\.png\): cannot read the image"):
        EM().fit(load_source(folder), progress=False)


def test_the_tests_that_the_threat_model_names_are_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "threat-model.md").read_text()))
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    assert len(named) > 15
    assert named <= there
