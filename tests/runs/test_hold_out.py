"""Clean images to test on, held out of what is protected; and what a run says about measuring it."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from datasets import DatasetDict, Value
from helpers.datasets import make_dataset, pixels_of
from typer.testing import CliRunner

from hf_unlearnable import DataError, RecipeError, SourceError, Texture, Training, verify
from hf_unlearnable.cli import app
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import Origin, RunFolder, measure, protect
from hf_unlearnable.runs.measuring import open_sets
from hf_unlearnable.runs.test_images import how_to_measure

QUICK = {"victims": "random-features", "ratios": (0, 1), "seeds": (1,), "progress": False}


def folder_of(data, place):
    """The images of a dataset as files, a folder for each class."""
    for number, row in enumerate(data):
        file = place / f"class {row['label']}" / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        row["image"].save(file)
    return place


def run_command(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def suggested(said):
    """The words of the command that protect names last."""
    return shlex.split(re.search(r"Now see what it does:  hf-unlearnable (.*)", said)[1])


def test_a_share_of_every_class_stays_clean_and_is_tested_on(tmp_path):
    photos = folder_of(make_dataset(60), tmp_path / "photos")
    said = run_command("protect", photos, "--output", tmp_path / "out", "--method", "texture", "--hold-out", "0.2")
    assert "but for 20% of every class, which stay clean to test on, with" in said
    assert "Held out: 12 images stay clean to test on" in said
    assert "Left out" not in said
    run = RunFolder.open(tmp_path / "out")
    protected, originals, test = open_sets(run)
    assert (len(protected), len(originals), len(test)) == (48, 48, 12)
    assert np.bincount(test["label"]).tolist() == [4, 4, 4]
    assert np.abs(pixels_of(protected).astype(int) - pixels_of(originals)).max() == 8
    every = {image.tobytes() for image in pixels_of(make_dataset(60))}
    assert {image.tobytes() for image in np.concatenate([pixels_of(originals), pixels_of(test)])} == every
    assert len(list((tmp_path / "out" / "images").rglob("*.png"))) == 48
    assert (run.held_out.stat().st_mode & 0o077, list(run.published.glob("*held*"))) == (0, [])
    assert verify(run).images == 48
    words = suggested(said)
    assert words == ["measure", str(tmp_path / "out")]
    measured = run_command(*words, "--victim", "random-features", "--ratios", "0,1", "--seeds", "1")
    assert "Verdict" in measured
    assert run.report.test_seen == 0
    assert run.report.test_images == 12
    assert write_report(run)[0].exists()
    repeat = next(line for line in (run.private / "command.yaml").read_text().splitlines() if "To repeat" in line)
    file = shlex.split(repeat.partition("hf-unlearnable ")[2])[2]
    again = run_command("protect", "--config", file, "--output", tmp_path / "again")
    assert "Held out: 12 images" in again


def test_the_draw_is_the_seeds_and_the_originals_are_at_hand_for_a_set_in_memory(tmp_path):
    data = make_dataset(30)
    first, other = (
        protect(data, tmp_path / f"seed {seed}", method=Texture(seed=seed), hold_out=0.3, progress=False)
        for seed in (0, 1)
    )
    again = protect(data, tmp_path / "again", method=Texture(seed=0), hold_out=0.3, progress=False)
    assert again.originals["name"] == first.originals["name"] != other.originals["name"]
    assert len(first.originals) == len(first.dataset) == 21
    report = measure(first, clean=first.originals, **QUICK)
    assert (report.test_images, report.test_seen) == (9, 0)


def test_without_a_share_nothing_changes(tmp_path):
    run = protect(make_dataset(12), tmp_path / "out", method=Texture(), progress=False)
    assert not run.folder.held_out.exists()
    assert len(run.dataset) == len(run.originals) == 12


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20.0])
def test_a_share_that_is_none(share, tmp_path):
    with pytest.raises(RecipeError, match=r"got hold_out=.*; expected a share of every class, such as 0.2"):
        protect(make_dataset(12), tmp_path / "out", method=Texture(), hold_out=share, progress=False)


def test_a_class_that_is_too_small_is_named(tmp_path):
    data = make_dataset(12).select([0, 1, 2, 3, 4, 6, 7, 9])  # two of class 2 - one would not do either
    with pytest.raises(DataError, match=r"classes of fewer than three images: class 2; expected three"):
        protect(data, tmp_path / "out", method=Texture(), hold_out=0.2, progress=False)
    three = make_dataset(9)
    run = protect(three, tmp_path / "out", method=Texture(), hold_out=0.9, progress=False)
    assert np.bincount(run.dataset["label"]).tolist() == [2, 2, 2]


def test_one_owners_images_are_held_out_too(tmp_path):
    data = make_dataset(30).remove_columns("label")
    run = protect(data, tmp_path / "out", labels="none", hold_out=0.2, progress=False)
    _, _, test = open_sets(run.folder, clean=run.originals)
    assert len(test) == 6
    assert how_to_measure(run.folder, "out") == "hf-unlearnable measure out --clean DATASET --owner"


def test_a_kept_clean_split_is_tested_on_wherever_the_originals_are(tmp_path):
    whole = DatasetDict(train=make_dataset(30), test=make_dataset(9, seed=3))
    run = protect(whole, tmp_path / "out", method=Texture(), split="all", keep_clean=("test",), progress=False)
    _, _, test = open_sets(run.folder, clean=run.originals)
    assert np.array_equal(pixels_of(test), pixels_of(whole["test"]))
    report = measure(run, clean=run.originals, training=Training(epochs=1), **QUICK)
    assert (report.test_images, report.test_seen) == (9, 0)


def test_the_command_that_is_named_is_one_that_works(tmp_path):
    """Whatever splits there are beside what was protected."""
    short = ["--victim", "random-features", "--ratios", "0,1", "--seeds", "1"]
    sets = {
        "test": DatasetDict(train=make_dataset(30), test=make_dataset(9, seed=3)),
        "validation": DatasetDict(train=make_dataset(30), validation=make_dataset(9, seed=3)),
    }
    for name, data in sets.items():
        data.save_to_disk(tmp_path / name)
        words = suggested(
            run_command("protect", tmp_path / name, "--output", tmp_path / f"{name}-out", "--method", "texture")
        )
        assert words[2:] == ([] if name == "test" else ["--test-split", "validation"])
        run_command(*words, *short)
    page = write_report(tmp_path / "test-out")[0]
    assert "hf-unlearnable measure RUN</code>" not in page.read_text()


def test_where_there_is_nothing_to_test_on_it_is_said_with_what_to_do(tmp_path):
    unlabelled = make_dataset(9, seed=3).map(lambda row: {"label": -1})
    other = make_dataset(9, classes=4, seed=3)
    sets = {
        "alone": DatasetDict(train=make_dataset(30)),
        "unlabelled": DatasetDict(train=make_dataset(30), test=unlabelled),
        "other": DatasetDict(train=make_dataset(30), test=other),
    }
    for name, data in sets.items():
        data.save_to_disk(tmp_path / name)
        run = protect(tmp_path / name, tmp_path / f"{name}-out", method=Texture(), progress=False)
        told = how_to_measure(run.folder, "OUT")
        assert told.startswith("hf-unlearnable measure OUT --test DATASET  (clean images"), name
        assert "--hold-out 0.2" in told
        assert "--test DATASET" in write_report(run)[0].read_text()
    with pytest.raises(SourceError, match=r"no images to test on.*test=DATASET"):
        open_sets(RunFolder(tmp_path / "alone-out"))
    run = protect(tmp_path / "other", tmp_path / "tested", method=Texture(), split="test", progress=False)
    with pytest.raises(SourceError, match="the split 'test' was protected itself"):
        open_sets(run.folder)
    assert "--test DATASET" in how_to_measure(run.folder, "OUT")


def test_the_page_that_is_named_after_a_measurement_is_one_that_works(tmp_path):
    """Of a set of another tool too, whose originals have to be named."""
    clean, test = make_dataset(30), make_dataset(9, seed=3)
    made = protect(clean, tmp_path / "out", method=Texture(), progress=False)
    made.dataset.save_to_disk(tmp_path / "theirs")
    DatasetDict(train=clean, test=test).save_to_disk(tmp_path / "clean")
    said = run_command(
        *("measure", tmp_path / "theirs", "--clean", tmp_path / "clean"),
        *("--victim", "random-features", "--ratios", "0,1", "--seeds", "1"),
    )
    words = shlex.split(re.search(r"To see it all on one page:  hf-unlearnable (.*)", said)[1])
    assert words == ["report", str(tmp_path / "theirs"), "--clean", str(tmp_path / "clean")]
    run_command(*words)
    assert "images.png" in {file.name for file in (tmp_path / "theirs-report").iterdir()}


def test_the_origin_says_that_some_are_held_out():
    assert "without 3 that were left out or held out" in str(Origin(dataset="zoe/x", skipped=(1, 2, 3)))


def test_a_run_without_labels_is_measured_as_one_owners(tmp_path):
    run = protect(make_dataset(30).remove_columns("label"), tmp_path / "out", labels="none", progress=False)
    with pytest.raises(RecipeError, match=r"no labels of their own; expected owner=True: .*\(others=DATASET"):
        measure(run, clean=run.originals, **QUICK)
    assert how_to_measure(run.folder, "out", "other people") == (
        "hf-unlearnable measure out --clean DATASET --owner --others 'other people'"
    )


def test_a_run_without_labels_is_measured_by_a_column_that_is_named(tmp_path):
    rows = make_dataset(30).cast_column("label", Value("int64"))
    rows.save_to_disk(tmp_path / "clean")
    protect(rows, tmp_path / "out", labels="none", progress=False)
    make_dataset(30, seed=1).cast_column("label", Value("int64")).save_to_disk(tmp_path / "test")
    words = ("--clean", tmp_path / "clean", "--test", tmp_path / "test", "--label-column", "label")
    run_command("measure", tmp_path / "out", *words, "--victim", "random-features", "--ratios", "0,1", "--seeds", "1")
    assert RunFolder.open(tmp_path / "out").measured.is_file()
