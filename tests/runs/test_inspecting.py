"""``protect`` looks before it works, refuses what would be lost in silence, and opens the same rows again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.datasets import make_dataset, pixels_of
from typer.testing import CliRunner

from hf_unlearnable import EM, DataError, DataWarning, RecipeError, verify
from hf_unlearnable.cli.command import app
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.errors import command_line_words
from hf_unlearnable.runs import RunFolder, intake, protect
from hf_unlearnable.runs.audit_subject import open_subject
from hf_unlearnable.runs.inspecting import known_columns
from hf_unlearnable.runs.measuring import open_sets

QUICK = EM(epochs=2, batch_size=8)


@pytest.fixture
def photos(tmp_path):
    for number, row in enumerate(make_dataset(24)):
        target = tmp_path / "photos" / f"class {row['label']}" / "deeper" / f"{number:02}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        row["image"].save(target)
    return tmp_path / "photos"


@pytest.mark.parametrize("label", [None, "nobody"])
def test_no_label_is_none_where_labels_cannot_be_found(label, tmp_path):
    two = make_dataset().add_column("second", make_dataset()["label"][:], feature=make_dataset().features["label"])
    columns, problem = known_columns(two, None, label)
    assert columns == Columns("image", None)
    assert "Cannot be protected as it is: got " in problem
    two.save_to_disk(tmp_path / "two")
    subject = open_subject(tmp_path / "two", None, None, None, None, None)
    assert subject.columns == columns


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_may_be_an_image_is_refused_unless_it_is_left_out_on_purpose(photos, tmp_path):
    for name in ("drawing.svg", "raw.dng", "notes.txt"):
        (photos / "class 0" / name).write_text("x")
    with pytest.raises(DataError, match=r"2 files in .* that may be images") as raised:
        protect(photos, tmp_path / "out", method=QUICK, progress=False)
    assert "class 0/drawing.svg" in str(raised.value)
    assert "class 0/raw.dng" in str(raised.value)
    assert "notes.txt" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    run = protect(photos, tmp_path / "out", method=QUICK, leave_out=True, progress=False)
    assert len(run.dataset) == 24
    told = json.loads((tmp_path / "out" / "private" / "intake.json").read_text())
    assert [file["path"] for file in told["left_out"] if file["picture"]] == ["class 0/drawing.svg", "class 0/raw.dng"]
    assert len(run.intake.left_out) == 3
    assert verify(run) == run.verification  # opens the originals again, and warns of nothing


def test_broken_images_are_refused_or_left_out_and_the_others_found_again(photos, tmp_path):
    (photos / "class 1" / "deeper" / "04.png").write_bytes(b"")
    (photos / "class 2" / "deeper" / "05.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"2 of 24 images that cannot be read(?s:.*)04\.png(?s:.*)05\.png"):
        protect(photos, tmp_path / "out", method=QUICK, progress=False)
    run = protect(photos, tmp_path / "out", method=QUICK, skip_unreadable=True, progress=False)
    assert len(run.dataset) == run.verification.images == 22
    assert len(run.folder.origin.skipped) == 2
    assert "without 2 that were left out" in str(run.folder.origin)
    assert verify(run) == run.verification
    assert np.abs(pixels_of(run.dataset).astype(int) - pixels_of(run.folder.originals())).max() <= 8


def test_a_class_of_one_image_is_told_with_the_rest_before_the_work_and_by_a_dry_run(photos, tmp_path):
    alone = photos / "class 3" / "deeper"
    alone.mkdir(parents=True)
    for name, content in (("one.png", (photos / "class 0" / "deeper" / "00.png").read_bytes()), ("broken.png", b"")):
        (alone / name).write_bytes(content)  # what is left of the class once the broken one is left out
    with pytest.raises(DataError, match=r"1 of 26 images that cannot be read(?s:.*)single image: class 3/deeper;"):
        protect(photos, tmp_path / "out", method=QUICK, progress=False)
    dry = command("protect", photos, "--dry-run")
    assert "protect will stop: got classes with a single image: class 3/deeper;" in " ".join(dry.output.split())
    assert "with --class-depth 1 the first folder is the class" in " ".join(dry.output.split())
    assert "--skip-unreadable (1)" in dry.output
    for options in ({"labels": "none"}, {"class_depth": 0}):
        assert intake(photos, **options).lonely == ()


def test_a_class_depth_is_kept_for_everything_after(photos, tmp_path):
    (photos / "class 0" / "16.png").write_bytes((photos / "class 0" / "deeper" / "00.png").read_bytes())
    with pytest.raises(DataError, match="single image: class 0;"):
        protect(photos, tmp_path / "out", method=QUICK, progress=False)
    run = protect(photos, tmp_path / "out", method=QUICK, class_depth=1, progress=False)
    assert run.protection.about["classes"] == ["class 0", "class 1", "class 2"]
    protected, originals, tests = open_sets(RunFolder(run), test=str(photos), test_split="train")
    names = [data.features["label"].names for data in (protected, originals, tests)]
    assert names == [["class 0", "class 1", "class 2"]] * 3
    with pytest.raises(DataError, match="class_depth=1 for a dataset whose labels are in a column"):
        intake(make_dataset(), class_depth=1)


def test_a_dry_run_says_it_all_and_writes_nothing(photos, tmp_path):
    (photos / "class 0" / "drawing.svg").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    done = command("protect", photos, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "Found: 24 images" in done.output
    assert "of 25 files" in done.output
    assert "class 0/drawing.svg" in done.output
    assert "as PNG without loss" in done.output
    assert "Protecting" not in done.output
    assert sorted(tmp_path.rglob("*")) == before
    with command_line_words():
        assert "\n".join(str(intake(photos, progress=False)).splitlines()[:-1]) in done.output  # the last has the time


def test_the_command_refuses_and_obeys(photos, tmp_path):
    (photos / "class 0" / "drawing.svg").write_text("x")
    (photos / "class 1" / "deeper" / "04.png").write_bytes(b"")
    words = ["protect", photos, "--output", tmp_path / "out", "--method", "em:batch_size=8", "--epochs", 2]
    refused = command(*words)
    for said in ("drawing.svg", "--leave-out", "04.png", "--skip-unreadable"):  # all of it at once
        assert said in str(refused.exception)
    refused = command(*words, "--leave-out")
    assert "04.png" in str(refused.exception)
    done = command(*words, "--leave-out", "--skip-unreadable")
    assert done.exit_code == 0, done.output
    assert "Found: 24 images" in done.output
    assert "23 images, 0 unchanged, 0 outside the budget" in done.output
    assert command("protect", photos).exit_code == 2  # without --output


def test_test_images_that_are_left_out_are_warned_of(photos, tmp_path):
    run = protect(photos, tmp_path / "out", method=QUICK, progress=False)
    (photos / "class 0" / "more.dng").write_text("x")
    with pytest.warns(DataWarning, match=r"1 files in .* left out, such as class 0/more\.dng"):
        open_sets(RunFolder(run), test=str(photos), test_split="train")


def test_a_dry_run_says_what_protect_will_ask_for(photos):
    for name in ("drawing.svg", "raw.dng", "notes.txt"):
        (photos / "class 0" / name).write_text("x")
    (photos / "class 1" / "deeper" / "04.png").write_bytes(b"")
    said = command("protect", photos, "--dry-run").output
    assert "As it is, protect will stop" in said
    assert "--leave-out (2), --skip-unreadable (1)." in said
    assert "protect will stop" not in command("protect", photos, "--dry-run", "--leave-out", "--skip-unreadable").output
    seen = intake(photos, progress=False)
    assert seen.needed(leave_out=True) == {"skip_unreadable=True": 1}


def test_rows_without_a_label_can_be_left_out_at_the_command_line(photos, tmp_path):
    names = [path.relative_to(photos) for path in sorted(photos.rglob("*.png"))]
    lines = [f"{name},{'' if row in (3, 7) else row % 2}" for row, name in enumerate(names)]
    (photos / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    assert "--drop-unlabelled (2)." in command("protect", photos, "--dry-run").output
    words = ["protect", photos, "--method", "texture", "--label-column", "label", "--output", tmp_path / "out"]
    refused = command(*words)
    assert isinstance(refused.exception, DataError)
    assert "2 of 24 rows without a label" in str(refused.exception)
    done = command(*words, "--drop-unlabelled")
    assert done.exit_code == 0, done.output
    assert "Protecting 22 images" in done.output
    assert len(RunFolder(tmp_path / "out").dataset) == 22


def test_splits_to_keep_clean_without_all_are_refused_by_a_look_too(photos):
    with pytest.raises(RecipeError, match=r"keep_clean='test' with split='train'; expected split='all'"):
        intake(photos, keep_clean=["test"], progress=False)
