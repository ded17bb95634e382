"""Originals that somebody added to, took from, renamed or edited after they were protected."""

from __future__ import annotations

import shutil
from functools import partial
from itertools import product

import pytest
from datasets import DatasetDict
from helpers.datasets import make_dataset
from PIL import Image, ImageOps
from typer.testing import CliRunner

from hf_unlearnable import DataError, Training, verify
from hf_unlearnable.cli import app
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import audit, measure, named_originals, protect

QUICK = {"victims": "random-features", "training": Training(epochs=1, batch_size=16), "seeds": (1,), "progress": False}
TOLD = "the originals are no longer those that were protected .*edited since.* with clean=DATASET"


@pytest.fixture(params=["owner", "classes"])
def photos(request, tmp_path):
    """Pictures of one owner, or in two folders."""
    folder = tmp_path / "photos"
    for index, row in enumerate(make_dataset(24, side=16, channels=3)):
        place = folder / (f"class {index % 2}" if request.param == "classes" else "")
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"{index:02}.png")
    return folder


def _add(first, last):
    ImageOps.invert(_image(first)).save(first.parent / "000.png")


def _take(first, last):
    first.unlink()


def _swap(first, last):
    _add(first, last)
    last.unlink()


def _rename(first, last):
    first.rename(first.parent / "zz.png")


def _edit(first, last):
    ImageOps.invert(_image(first)).save(first)


def _image(file):
    with Image.open(file) as image:
        return image.convert("RGB")


CHANGES = {"add": _add, "take": _take, "swap": _swap, "rename": _rename, "edit": _edit}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_told_by_all_that_compares_with_them(photos, change, tmp_path):
    out = tmp_path / "out"
    owner = not any(path.is_dir() for path in photos.iterdir())
    protect(photos, out, method="texture", labels="none" if owner else "auto", progress=False)
    shutil.copytree(photos, tmp_path / "kept")
    files = sorted(photos.rglob("*.png"))
    CHANGES[change](files[0], files[-1])
    with pytest.raises(DataError, match=TOLD):
        verify(out)
    others = make_dataset(24, side=16, channels=3, seed=9) if owner else None
    tested = {} if owner else {"test": photos, "test_split": "train"}
    with pytest.raises(DataError, match=TOLD):
        measure(out, owner=owner, others=others, **tested, **QUICK)
    patterns = next(finding for finding in audit(out).findings if finding.check == "class patterns")
    assert "no longer those that were protected" in patterns.says
    done = CliRunner().invoke(app, ["report", str(out)])
    assert done.exit_code == 0, done.output
    assert "Without pictures of what was changed" in done.output
    assert "no longer those that were protected" in (out / "report" / "report.html").read_text()
    assert verify(out, clean=str(tmp_path / "kept")).ok


def test_others_that_are_named_must_be_as_many(tmp_path):
    for name, count in (("own", 12), ("fewer", 11)):
        (tmp_path / name).mkdir()
        for index, row in enumerate(make_dataset(count, side=16, channels=3)):
            row["image"].save(tmp_path / name / f"{index:02}.png")
    protect(tmp_path / "own", tmp_path / "out", labels="none", progress=False)
    others = make_dataset(24, side=16, channels=3, seed=9)
    fewer = str(tmp_path / "fewer")
    compared = (lambda: measure(tmp_path / "out", owner=True, clean=fewer, others=others, **QUICK),)
    compared += tuple(partial(compare, tmp_path / "out", clean=fewer) for compare in (verify, audit, write_report))
    for compare in compared:
        with pytest.raises(DataError, match="the clean dataset: got 11 originals; expected 12, as many as protected"):
            compare()


@pytest.fixture
def three_sets(tmp_path):
    """What was protected in its split train, and in the split other as many other images with the same labels."""
    sets = DatasetDict(train=make_dataset(24), other=make_dataset(24, seed=5), test=make_dataset(12, seed=6))
    sets.save_to_disk(tmp_path / "sets")
    protect(tmp_path / "sets", tmp_path / "out", method="texture", progress=False)
    return sets


ALL = (measure, verify, audit, write_report)


@pytest.mark.parametrize(("named", "compare"), [*product(["elsewhere", "split"], ALL), ("memory", measure)])
def test_others_that_are_named_are_refused_by_all_alike(three_sets, compare, named, tmp_path):
    """Measure compared their number alone, and doubted the figures afterwards."""
    three_sets["other"].save_to_disk(tmp_path / "elsewhere")
    words = {
        "elsewhere": {"clean": str(tmp_path / "elsewhere")},
        "split": {"clean_split": "other"},
        "memory": {"clean": three_sets["other"]},
    }[named]
    options = {"test": three_sets["test"], **QUICK} if compare is measure else {}
    told = "the clean dataset: 24 of 24 images that were looked at are farther from the protected image of their row"
    with pytest.raises(DataError, match=told):
        compare(tmp_path / "out", **words, **options)


def test_originals_without_their_labels_or_with_another_name_are_those_of_the_run(three_sets, tmp_path):
    others = make_dataset(24, side=12, seed=9)
    options = {"others": others, "test": three_sets["test"], **QUICK}
    assert measure(tmp_path / "out", owner=True, clean=three_sets["train"].remove_columns("label"), **options).owner
    named = three_sets["train"].rename_columns({"image": "picture", "label": "kind"})
    report = measure(tmp_path / "out", clean=named, test=three_sets["test"], ratios=(0, 1), **QUICK)
    assert not any("away from the clean image" in doubt for doubt in report.doubts)


def test_a_set_of_another_tool_is_measured_beside_any_images(three_sets, tmp_path):
    """Nobody knows what its originals are: what does not look so is a doubt."""
    three_sets["train"].save_to_disk(tmp_path / "theirs")
    sets = {"clean": three_sets["other"], "test": three_sets["test"]}
    with pytest.warns(UserWarning, match="away from the clean image of the same row"):
        measure(tmp_path / "theirs", **sets, ratios=(0, 1), **QUICK)


def test_the_command_compares_with_the_originals_once(three_sets, tmp_path, monkeypatch):
    """It opens the sets before it says how long it takes, and measures those."""
    looked = []
    check = named_originals.check_originals
    monkeypatch.setattr(
        named_originals, "check_originals", lambda *sets, named: looked.append(named) or check(*sets, named=named)
    )
    words = ["measure", str(tmp_path / "out"), "--victim", "random-features", "--ratios", "0,1", "--seeds", "1"]
    for more in ([], ["--clean-split", "train"]):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
    assert looked == [False, True]
