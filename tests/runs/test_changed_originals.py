"""Originals that somebody added to, took from, renamed or edited after they were protected."""

from __future__ import annotations

import shutil

import pytest
from helpers.datasets import make_dataset
from PIL import Image, ImageOps
from typer.testing import CliRunner

from hf_unlearnable import DataError, Training, verify
from hf_unlearnable.cli import app
from hf_unlearnable.runs import audit, measure, protect

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
    with pytest.raises(DataError, match="got 12 protected and 11 clean images"):
        measure(tmp_path / "out", owner=True, clean=str(tmp_path / "fewer"), others=others, **QUICK)
