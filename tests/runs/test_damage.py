"""Every file of a run, damaged: each command says so, or does not need it; nothing crashes and no damage passes."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import warnings

import numpy as np
import pytest
from datasets import Dataset
from helpers.datasets import described, make_dataset

from hf_unlearnable import EM, DataError, DataWarning, Protection, SourceError, Training
from hf_unlearnable.cli.command import main
from hf_unlearnable.data.pixels import digest
from hf_unlearnable.evaluation.protocol import SEEDS
from hf_unlearnable.protection.description import content
from hf_unlearnable.protection.verification import compare
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import RunFolder, measure, protect
from hf_unlearnable.training.checkpoints import Checkpoints

pytestmark = pytest.mark.thorough

DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "other JSON": lambda content: b'{"images": {"a": [1]}}',
    "binary": lambda content: random.Random(0).randbytes(300),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with everything in it, beside the photographs that it was made of."""
    home = tmp_path_factory.mktemp("whole")
    for split, data in (("train", make_dataset()), ("test", make_dataset(30, seed=1))):
        for index, row in enumerate(data):
            target = home / "photos" / split / f"class {row['label']}"
            target.mkdir(parents=True, exist_ok=True)
            row["image"].save(target / f"{index:03}.png")
    method = EM(epochs=4, batch_size=8)
    run = protect(home / "photos", home / "out", method=method, on_unseen="craft", progress=False)
    options = {"victims": "small-resnet", "training": Training(epochs=1), "seeds": SEEDS[:1], "sequential": True}
    measure(run, progress=False, ratios=(0, 0.5, 1), **options)
    write_report(run)
    return home / "out"


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line in this process: its exit status and what it said; no exception but that of an exit."""

    def run(*words) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hf-unlearnable", *map(str, words)])
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as end:
                main()
        return int(end.value.code or 0), "".join(capsys.readouterr())

    return run


def commands(out, name):
    measured = ["--seeds", 1, "--epochs", 1, "--sequential", "--victim", "small-resnet"]
    return {
        "verify": ["verify", out],
        "push": ["push", out, name, "--attempts", 1],
        "report": ["report", out],
        "measure": ["measure", out, *measured],
    }


PARTS = {  # a file -> the commands that cannot do without it
    "dataset/dataset_info.json": ("verify", "push", "report", "measure"),
    "dataset/state.json": ("verify", "push", "report", "measure"),
    "dataset/data-00000-of-00001.arrow": ("verify", "push", "report", "measure"),
    "private/origin.json": ("verify", "push", "report", "measure"),
    "private/verification.json": ("push", "report"),
    "private/intake.json": (),
    "private/files.json": ("verify", "push"),
    "private/protection/protection.json": ("verify", "push", "report"),
    "private/protection/perturbations.arrow": ("verify", "push", "report"),
    "private/protection/patterns.safetensors": ("verify", "push", "report"),
    "report/learnability.json": ("push", "report"),
    "report/learnability.csv": (),
    "report/report.html": (),
    "report/images.png": (),
}


def test_every_file_is_in_the_table(whole):
    files = {str(file.relative_to(whole)) for file in whole.rglob("*") if file.is_file()}
    assert set(PARTS) <= files
    kinds = {".png", ".csv", ".html"}
    assert {file for file in files - set(PARTS) if "/victims/" not in file and file[-4:] not in kinds} == set()


@pytest.mark.parametrize(
    ("part", "damage"), [(part, damage) for part in PARTS for damage in DAMAGES if PARTS[part] or damage == "binary"]
)
def test_a_damaged_file_is_told_in_one_sentence(out, part, damage, command, name, hub):
    file = out / part
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    for word, words in commands(out, name).items():
        status, said = command(*words)
        reads_around = (part, damage) == (
            "dataset/dataset_info.json",
            "other JSON",
        )  # the features are in the table too
        if word not in PARTS[part] or (reads_around and word in ("report", "measure")):
            assert status == 0, (word, said)
        else:
            assert status == 1, (word, said)
            assert "Error: " in said, (word, said)
            assert "Traceback" not in said, (word, said)


@pytest.mark.parametrize("damage", [*DAMAGES, "other kinds"])
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_victim_is_trained_again(out, suffix, damage, command):
    words = commands(out, "")["measure"]
    before = json.loads((out / "report" / "learnability.json").read_text())
    for file in (out / "report" / "victims").iterdir():
        content = file.read_bytes()
        if file.suffix == f".{suffix}" and damage == "other kinds":
            file.write_text(json.dumps({**json.loads(content), "epochs": ["a"]}) if suffix == "json" else "[]")
        elif file.suffix == f".{suffix}":
            file.write_bytes(DAMAGES[damage](content))
        elif suffix == "safetensors" and b"sequential" in content:
            file.unlink()  # or nobody reads the weights that it starts from
    status, said = command(*words)
    assert status == 0, said
    assert said.count("is trained again") == (5 if suffix == "json" else 1)
    after = json.loads((out / "report" / "learnability.json").read_text())
    assert [one["epochs"] for one in after["results"]] == [one["epochs"] for one in before["results"]]
    assert "trained again" not in command(*words)[1]


def flip(file, where: int, bit: int) -> bytes:
    before = file.read_bytes()
    changed = bytearray(before)
    changed[where] ^= 1 << bit
    file.write_bytes(changed)
    return before


@pytest.mark.parametrize(
    ("part", "count"), [("perturbations.arrow", 200), ("protection.json", 200), ("patterns.safetensors", 50)]
)
def test_no_flipped_bit_passes(out, part, count):
    """200 of 200 are refused; in the description all that change what it says (1e-05 and 1E-05 are one number)."""
    folder, rng, refused, same = out / "private" / "protection", random.Random(part), 0, 0
    whole = json.loads((folder / "protection.json").read_text())
    for _ in range(count):
        file = folder / part
        before = flip(file, rng.randrange(file.stat().st_size), rng.randrange(8))
        try:
            Protection(folder)
            same += part == "protection.json" and json.loads(file.read_text()) == whole
        except SourceError as error:
            refused += "damaged" in str(error) and "fit again" in str(error)
        file.write_bytes(before)
    assert refused + same == count
    assert same <= 2
    Protection(folder)


def edit(folder, **changes) -> dict:
    stored = {**json.loads((folder / "protection.json").read_text()), **changes}
    (folder / "protection.json").write_text(json.dumps(stored, indent=2) + "\n")
    return stored


@pytest.mark.parametrize(
    "change",
    [
        {"budget": "linf:64"},
        {"method": {"name": "beo"}},
        {"digest": "0" * 32},
        {"digest": ""},
        {"patterns": None},
        {"patterns": "0" * 32},
        {"images": 47},
        {"verification": None},
    ],
    ids=str,
)
def test_an_edited_description_is_refused(out, change):
    folder = out / "private" / "protection"
    edit(folder, **change)
    with pytest.raises(SourceError, match="damaged"):
        Protection(folder)


def test_a_store_that_does_not_fit_its_description_is_refused(tmp_path):
    """Somebody who can write a digest too."""
    rows = np.array([digest(np.full((1, 4, 4), value, np.uint8), 0) for value in range(3)], "V16")
    written = [(rows, np.ones((3, 1, 4, 4), np.int8))]
    with pytest.raises(SourceError, match=r"not of the shape \(1, 12, 12\)"):
        Protection.write(tmp_path, written, described())
    folder = tmp_path / "fitting"
    folder.mkdir()
    Protection.write(folder, written, described(image_shape=(1, 4, 4)))
    from hf_unlearnable.files import file_digest

    stored = edit(folder, images=4)
    edit(folder, digest=file_digest(folder / "perturbations.arrow", content(stored)))
    with pytest.raises(SourceError, match="3 images; expected the 4"):
        Protection(folder)


def test_what_is_damaged_after_it_was_opened_is_not_copied(out, tmp_path):
    protection = Protection(out / "private" / "protection")
    flip(protection.folder / "perturbations.arrow", 5000, 0)
    with pytest.raises(SourceError, match=r"private/protection.*damaged"):
        protection.save_pretrained(tmp_path / "copy")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_an_unchanged_file_is_read_once(out, monkeypatch):
    from hf_unlearnable import files

    read, real = [], files.file_digest
    monkeypatch.setattr(files, "file_digest", lambda file, start=b"": read.append(file.name) or real(file, start))
    folder = out / "private" / "protection"
    for _ in range(3):
        Protection(folder)
    assert sorted(read) == ["patterns.safetensors", "perturbations.arrow"]
    os.utime(folder / "perturbations.arrow")
    Protection(folder)
    assert read[2:] == ["perturbations.arrow"]


def test_no_image_comes_out_as_it_is_without_a_word(tmp_path):
    image = np.full((1, 4, 4), 100, np.uint8)
    rows = np.array([digest(image, 0)], "V16")
    batches = [(rows, np.zeros((1, 1, 4, 4), np.int8))]

    def written(name: str, **changes) -> Protection:
        (tmp_path / name).mkdir()
        return Protection.write(tmp_path / name, batches, described(image_shape=(1, 4, 4), **changes))

    changed, same = compare([(image, image + 1)], described().budget), compare([(image, image)], described().budget)
    with pytest.raises(DataError, match=r"comes out as it is.*Restore the protection"):
        written("all seen", images=1, verification=changed).protect(image[0], 0)
    assert (np.asarray(written("known", verification=same).protect(image[0], 0)) == 100).all()
    with pytest.warns(DataWarning, match="comes out as it is"):
        written("not known").protect(image[0], 0)


class Killed(BaseException):
    """What no code catches, as it does not catch a kill."""


@pytest.fixture(params=["while it fits", "after the fit"])
def killed(request, whole, tmp_path, monkeypatch):
    """What a killed ``protect`` leaves, and the words to go on with."""
    ticks = []

    def die(*_, **__):
        ticks.append(None)
        if len(ticks) == 8 or request.param == "after the fit":
            raise Killed

    words = ["protect", whole.parent / "photos", "--output", tmp_path / "out", "--method", "em:batch_size=16"]
    words += ["--epochs", 3, "--checkpoint-every", 0]
    with monkeypatch.context() as patch:
        where = (Checkpoints, "finish") if request.param == "after the fit" else (Checkpoints, "tick")
        real = Checkpoints.tick
        patch.setattr(*where, die if request.param == "after the fit" else lambda self: (real(self), die()))
        with pytest.raises(Killed), warnings.catch_warnings():
            protect(
                whole.parent / "photos",
                tmp_path / "out",
                method=EM(batch_size=16, epochs=3),
                checkpoint_every=0,
                progress=False,
            )
    return tmp_path / "out", words


def test_what_a_kill_left_may_be_damaged(killed, command, monkeypatch):
    """It is refused with the way on, which works; or it is not needed."""
    out, words = killed
    kept = [file for file in out.with_name(".out.part").rglob("*") if file.is_file()]
    assert len(kept) >= 2
    backup = shutil.copytree(out.with_name(".out.part"), out.with_name("backup"))
    for file in kept:
        for damage in DAMAGES if file.name == "checkpoint.json" else ["truncated"]:
            shutil.rmtree(out.with_name(".out.part"), ignore_errors=True)
            shutil.copytree(backup, out.with_name(".out.part"))
            file.write_bytes(DAMAGES[damage](file.read_bytes()))
            status, said = command(*words)
            assert (status == 0) or ("damaged" in said and "--overwrite" in said), (file, damage, said)
            assert "Traceback" not in said
            if status:
                status, said = command(*words, "--overwrite")
            assert status == 0, (file, damage, said)
            Protection(out / "private" / "protection")
            shutil.rmtree(out)


@pytest.mark.parametrize("harm", [b"", b"ARROW1" + bytes(99)])
def test_damaged_images_that_a_kill_left_are_written_again(whole, tmp_path, command, monkeypatch, harm):
    out, real = tmp_path / "out", Protection.verify

    def die(*_):
        raise Killed

    words = ["protect", whole.parent / "photos", "--output", out, "--method", "em:batch_size=8", "--epochs", 1]
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "save_to_disk", die)
        with pytest.raises(Killed):
            protect(whole.parent / "photos", out, method=EM(batch_size=8, epochs=1), progress=False)
    (mapped,) = (tmp_path / ".out.part").rglob("map*.arrow")
    mapped.write_bytes(harm)
    status, said = command(*words)
    assert status == 1
    assert "give the same command again" in said
    assert command(*words)[0] == 0
    assert real(Protection(out / "private" / "protection"), *([RunFolder(out).dataset] * 2)).unchanged == 48
