"""``protect`` from Python does what the command does, and what it returns is taken by everything after it."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from helpers.datasets import make_dataset, pixels_of
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import (
    EM,
    BudgetError,
    DataError,
    DataWarning,
    Defence,
    Method,
    OutputError,
    RecipeError,
    SourceError,
    Training,
    push,
    verify,
    write_report,
)
from hf_unlearnable.cli import app
from hf_unlearnable.runs import Origin, RunFolder, audit, intake, measure, protect, protect_like
from hf_unlearnable.runs.outputs import unfinished
from hf_unlearnable.training.checkpoints import Checkpoints

QUICK = EM(epochs=2, batch_size=8)


@pytest.fixture
def saved(tmp_path):
    make_dataset().save_to_disk(tmp_path / "photos")
    return tmp_path / "photos"


def test_push_verify_measure_and_report_take_what_it_returns(saved, tmp_path, hub, name):
    run = protect(saved, tmp_path / "out", method=QUICK, progress=False)
    assert run.verification.violations == 0
    assert "48 images, 0 unchanged" in str(run)
    assert oct((tmp_path / "out" / "private").stat().st_mode)[-3:] == "700"
    assert (pixels_of(run.dataset) != pixels_of(make_dataset())).any()
    assert verify(run) == run.verification
    report = measure(
        run,
        test=make_dataset(seed=3),
        victims="small-resnet",
        training=Training(epochs=1, batch_size=16),
        seeds=(1,),
        ratios=(0, 1),
        progress=False,
    )
    assert run.folder.report == report
    assert write_report(run)[0] == tmp_path / "out" / "report" / "report.html"
    assert push(run, name).private
    assert verify(run, name) == run.verification


def test_it_is_the_command(saved, tmp_path):
    from typer.testing import CliRunner

    from hf_unlearnable.cli import app

    words = ["protect", str(saved), "--method", "em:batch_size=8", "--epochs", "2", "--output", str(tmp_path / "one")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    run = protect(saved, tmp_path / "other", method="em:epochs=2,batch_size=8", progress=False)
    for part in ("private/protection/perturbations.arrow", "private/origin.json", "private/verification.json"):
        assert (tmp_path / "one" / part).read_bytes() == (tmp_path / "other" / part).read_bytes()
    assert str(run.verification) in done.output


def test_a_dataset_in_memory_may_say_where_it_comes_from(saved, tmp_path):
    data = make_dataset(seed=4)
    run = protect(data, tmp_path / "out", method=QUICK, progress=False)
    assert run.folder.origin is None
    with pytest.raises(RecipeError, match="whose name says it"):
        protect(saved, tmp_path / "again", method=QUICK, origin=Origin(dataset="me/boats"))
    assert verify(run) == run.verification  # which holds the originals
    options = {"test": make_dataset(seed=3), "victims": "small-resnet", "training": Training(epochs=1), "seeds": (1,)}
    assert measure(run, **options, ratios=(0, 1), progress=False).results
    looked_at = {finding.check: finding.severity for finding in audit(run, progress=False).findings}
    assert looked_at["class patterns"] != "not looked at"
    assert "could not be used" not in write_report(run)[0].read_text()
    with pytest.raises(SourceError, match="does not say what was protected"):
        verify(run.folder)
    run = protect(make_dataset(), tmp_path / "told", method=QUICK, origin=Origin.at(saved), progress=False)
    assert verify(run).violations == 0


@pytest.mark.parametrize(
    "thing", [None, [1], make_dataset().to_iterable_dataset(), make_dataset()], ids=["none", "list", "stream", "set"]
)
def test_a_thing_of_another_kind_is_told(thing, saved, tmp_path):
    what = f"got a {type(thing).__name__}; expected "
    if not isinstance(thing, Dataset):
        with pytest.raises(DataError, match=f"{what}one split of a dataset in memory, or the name"):
            protect(thing, tmp_path / "out", method=QUICK)
    for function in (measure, audit, verify, write_report, RunFolder.find):
        with pytest.raises(RecipeError, match=what):
            function(thing)
    with pytest.raises(RecipeError, match=what):
        push(thing, "me/nothing")


def test_test_images_in_several_splits_are_told(saved, tmp_path):
    run = protect(saved, tmp_path / "out", method="texture", progress=False)
    with pytest.raises(DataError, match="got a DatasetDict; expected one split of a dataset in memory"):
        measure(run, test=DatasetDict(test=make_dataset()))


def test_a_class_is_no_recipe(saved, tmp_path):
    with pytest.raises(RecipeError, match=r"got <class .*EM.* for a method; expected its name, or one that was made"):
        protect(saved, tmp_path / "out", method=EM)
    for kind in (Method, Defence):
        with pytest.raises(RecipeError, match="got None for a"):
            kind.parse(None)


def test_what_is_wrong_is_said_before_the_work(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(EM, "run", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="exists already"):
        protect(saved, tmp_path / "full", method=QUICK)
    for wrong in ({"method": "magic"}, {"image_format": "jpeg"}, {"budget": "lots"}):
        with pytest.raises(ValueError, match="expected"):
            protect(saved, tmp_path / "out", **{"method": QUICK, **wrong})
    assert not (tmp_path / "out").exists()


def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(saved, tmp_path, monkeypatch):
    class Killed(BaseException):
        """What no code catches."""

    def ticked(self, real=Checkpoints.tick):
        real(self)
        ticks.append(None)
        if len(ticks) == 5:
            raise Killed

    ticks = []
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "tick", ticked)
        with pytest.raises(Killed):
            protect(saved, tmp_path / "out", method=QUICK, checkpoint_every=0, progress=False)
    assert not (tmp_path / "out").exists()
    assert unfinished(tmp_path / "out") == tmp_path / ".out.part"
    run = protect(saved, tmp_path / "out", method=QUICK, checkpoint_every=0, progress=False)
    assert unfinished(tmp_path / "out") is None
    assert run.protection.digest == protect(saved, tmp_path / "whole", method=QUICK, progress=False).protection.digest


def test_overwriting_replaces_what_is_there(saved, tmp_path):
    first = protect(saved, tmp_path / "out", method=QUICK, progress=False).protection.digest
    other = EM(epochs=1, batch_size=8)
    again = protect(saved, tmp_path / "out", method=other, overwrite=True, progress=False)
    assert again.protection.digest != first
    assert again.folder.description.settings["epochs"] == 1


def test_what_becomes_of_sizes_and_modes_is_told_and_warned_of(tmp_path):
    data = make_dataset(side=70)
    pale = data.map(lambda row: {"image": row["image"].convert("P")})
    with pytest.warns(DataWarning, match="converted"):
        run = protect(pale, tmp_path / "out", method=QUICK, resolution=16, progress=False)
    notes = "\n".join(run.notes())
    assert "Sizes: 48 of 48 images" in notes
    assert "Converted: 48 of 48 images: " in notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        protect(data, tmp_path / "quiet", method=QUICK, resolution=16, progress=False)


@pytest.fixture
def narrow(tmp_path):
    """A folder of pictures with one among them in whose single pixel nothing is left of a perturbation."""
    for index, row in enumerate(make_dataset(24, channels=3, side=48)):
        place = tmp_path / "narrow" / f"class {row['label']}"
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.new("L", (1, 1)) if index == 7 else row["image"]  # black, and made darker
        picture.save(place / f"{index:02}.png")
    return tmp_path / "narrow"


def test_images_that_come_out_as_they_went_in_are_named(narrow, tmp_path):
    from typer.testing import CliRunner

    from hf_unlearnable.cli import app

    expected = r"1 of 24 images stay as they are: .* row \d+ \(.*/07.png\)\. Leave them out, .* clean; a larger budget"
    with pytest.warns(DataWarning, match=expected) as warned:
        run = protect(narrow, tmp_path / "out", method="texture", budget=1, progress=False)
    assert [one.filename for one in warned] == [__file__]  # once
    assert run.verification.unchanged == len(run.unchanged) == 1
    words = ["protect", str(narrow), "--method", "texture", "--budget", "1", "--output", str(tmp_path / "shell")]
    with pytest.warns(DataWarning, match=expected):
        done = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(done.stdout)["unchanged"] == list(run.unchanged)
    (found,) = (one for one in audit(run, progress=False).findings if one.check == "clean pixels")
    assert found.severity == "warning"
    assert re.match(r"1 of 24 images stay as they are: .* of row \d+ \(07.png\)\. Leave", found.says)


def test_the_advice_for_unchanged_images_suits_the_method(saved):
    with pytest.warns(DataWarning, match="stay as they are: .* of row 0, row .* larger budget or more epochs may"):
        EM(epochs=1, batch_size=8, from_waves=False).fit(make_dataset(), budget=1, progress=False)


def test_what_an_earlier_run_wrote_is_not_protected_again(tmp_path):
    """The change from the originals would double in silence."""
    DatasetDict(train=make_dataset(), test=make_dataset(seed=3)).save_to_disk(tmp_path / "photos")
    given = {"method": "texture", "progress": False}
    run = protect(
        tmp_path / "photos",
        tmp_path / "out",
        split="all",
        keep_clean=["test"],
        hold_out=0.2,
        image_files=True,
        also_jpeg=90,
        **given,
    )
    folder, message = tmp_path / "out", rf"which an earlier protect wrote; expected originals: .*\({tmp_path}/photos\)"
    (tmp_path / "link").symlink_to(folder / "images")
    parts = ["", "dataset", "dataset/train", "images", "images/class 0", "images/class 0/000000.png", "images-jpeg"]
    for written in [*(folder / part for part in parts), tmp_path / "link", run.dataset, run.dataset.select([1, 2])]:
        for work in (protect, lambda data, *_, **__: intake(data, progress=False)):
            with pytest.raises(DataError, match=message):
                work(written, tmp_path / "again", **given)
    assert not (tmp_path / "again").exists()
    for number, clean in enumerate(["dataset/test", "private/held-out"]):
        protect(folder / clean, tmp_path / f"clean-{number}", **given)


@pytest.mark.parametrize("given", ["clean", "test"])
def test_protected_images_are_no_clean_ones_to_measure_with(tmp_path, given):
    both = DatasetDict(train=make_dataset(), test=make_dataset(seed=1))
    both.save_to_disk(tmp_path / "photos")
    run = protect(tmp_path / "photos", tmp_path / "out", split="all", keep_clean=["test"], method="texture")
    choice = {"victims": "random-features", "ratios": (1,), "seeds": (1,), "progress": False}
    for written in [tmp_path / "out", tmp_path / "out" / "dataset", run.dataset]:
        with pytest.raises(DataError, match="which an earlier protect wrote; expected originals: what is protected is"):
            measure(run, **{given: written if isinstance(written, Dataset) else str(written)}, **choice)
    for compare in (verify, write_report, audit):
        with pytest.raises(DataError, match="which an earlier protect wrote; expected originals: what is protected is"):
            compare(run, clean=str(tmp_path / "out" / "dataset"))
    kept = {"test": str(tmp_path / "out" / "dataset"), "test_split": "test"}  # clean, though it lies there
    assert measure(run, **kept, **choice).test_seen == 0


def test_pictures_of_an_earlier_run_are_none_that_came_later(tmp_path):
    run = protect(make_dataset(), tmp_path / "out", method="texture", on_unseen="craft", progress=False)
    for written in (tmp_path / "out", run.dataset):
        with pytest.raises(DataError, match="which an earlier protect wrote; expected originals"):
            protect_like(run, written, tmp_path / "again")


def opaque(row):
    image = row["image"].copy()
    image.putalpha(255)
    return {"image": image}


HARM = {
    "with a changed alpha channel": opaque,
    "outside the budget linf:8": lambda row: {"image": Image.fromarray(255 - np.asarray(row["image"]))},
}


@pytest.mark.parametrize("fault", HARM)
def test_a_disk_that_gives_back_other_images_ends_in_no_run(tmp_path, monkeypatch, fault):
    write = Dataset.save_to_disk
    monkeypatch.setattr(Dataset, "save_to_disk", lambda self, *place: write(self.map(HARM[fault]), *place))
    with pytest.raises(DataError, match=f"got 24 of 24 images .*{fault}.* when .*read back.*Is the disk sound"):
        protect(make_dataset(24, channels=4), tmp_path / "out", method="texture", progress=False)
    assert not (tmp_path / "out").exists()


def test_verify_refuses_another_alpha_channel(tmp_path):
    """The originals being named, since a run that is as it was written would tell of them first."""
    make_dataset(24, channels=4).save_to_disk(tmp_path / "photos")
    run = protect(tmp_path / "photos", tmp_path / "out", method="texture", progress=False)
    make_dataset(24, channels=4).map(opaque).save_to_disk(tmp_path / "opaque")
    assert not verify(run, clean=str(tmp_path / "opaque")).ok
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "out"), "--clean", str(tmp_path / "opaque")])
    assert isinstance(done.exception, BudgetError)
    assert "got 24 of 24 images with a changed alpha channel; expected none" in str(done.exception)
    make_dataset(24, channels=4).map(opaque).save_to_disk(tmp_path / "now")
    (tmp_path / "photos").rename(tmp_path / "before")
    (tmp_path / "now").rename(tmp_path / "photos")
    with pytest.raises(DataError, match=r"no longer those that were protected .*24 of 24 images with a changed alpha"):
        verify(run)
