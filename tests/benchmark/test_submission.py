"""A row is checked before it is sent; what was changed by hand is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, load_from_disk
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import DataError, SourceError
from hf_unlearnable.benchmark import check
from hf_unlearnable.benchmark.protocol import DATASETS
from hf_unlearnable.benchmark.records import CellRecord, SetRecord
from hf_unlearnable.cli import app


def files(run, kind):
    return sorted((run / kind).glob("*.json"))


def trained_on_protected(run):
    return next(file for file in files(run, "cells") if json.loads(file.read_text())["set"])


def test_a_row_as_it_was_made_is_taken_and_a_cell_is_repeated(frozen):
    checked = check(frozen, repeat=1, progress=False)
    assert (checked.sets, checked.missing) == (1, 0)
    assert len(checked.files) == 2 + checked.cells
    assert checked.repeated[0].startswith("Repeated, and equal: squares")
    assert "Nothing was sent" in str(checked)
    assert check(files(frozen, "sets")[0], repeat=0).files == checked.files


def test_gaps_are_told_and_no_fault(frozen):
    trained_on_protected(frozen).unlink()
    assert check(frozen, repeat=0).missing == 1


def better(run):
    """Write other figures, seal and all."""
    file = trained_on_protected(run)
    record = CellRecord.read(file)
    for one in files(run, "cells"):
        one.unlink()
    replace(record, epochs=[0.0] * len(record.epochs)).write(file.parent)


def better_epoch(run):
    """Say that the first epoch was picked, seal and all, of a thief who ended with the last one."""
    file = trained_on_protected(run)
    record = CellRecord.read(file)
    for one in files(run, "cells"):
        one.unlink()
    replace(record, picked=1).write(file.parent)


def by_hand(run):
    file = trained_on_protected(run)
    file.write_text(file.read_text().replace('"epochs": [', '"epochs": [0.0, '))


def another_protocol(run):
    file = files(run, "cells")[0]
    replace(CellRecord.read(file), protocol="0" * 32).write(file.parent)


def other_images(run):
    """Swap two of the released images."""
    folder = next((run / "protected").iterdir()) / "dataset"
    data = load_from_disk(str(folder))
    rewrite(folder, data.select([3, 1, 2, 0, *range(4, len(data))]))


def over_the_budget(run):
    folder = next((run / "protected").iterdir()) / "dataset"
    data = load_from_disk(str(folder))
    images = [np.asarray(image) for image in data["image"]]
    images[0] = 255 - images[0]
    columns = {name: data[name] for name in data.column_names} | {"image": images}
    rewrite(folder, Dataset.from_dict(columns, features=data.features))


def rewrite(folder, data):
    data = data.flatten_indices(keep_in_memory=True)
    for file in folder.iterdir():
        file.unlink()
    data.save_to_disk(folder)


def another_verification(run):
    (file,) = files(run, "sets")
    record = SetRecord.read(file)
    replace(record, verification={**record.verification, "max_perturbation": 4.0}).write(file.parent)


def another_chance(run):
    file = files(run, "cells")[0]
    replace(CellRecord.read(file), chance=0.39).write(file.parent)


def without_attack(run):
    (file,) = files(run, "sets")
    replace(SetRecord.read(file), adaptive="").write(file.parent)


def stranger(run):
    file = files(run, "cells")[0]
    record = CellRecord.read(file)
    replace(record, identity={**record.identity, "seed": 999}).write(file.parent)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (better, "repeated on the same, it ends at"),
        (better_epoch, "repeated on the same, it ends at"),
        (by_hand, "whose figures are not those that were written"),
        (another_protocol, "measured under another protocol than v1"),
        (other_images, "the released images are not those that it was made of"),
        (over_the_budget, "outside the budget linf:8"),
        (another_verification, "compare otherwise with their originals than it tells"),
        (another_chance, "it tells of a chance of 0.390; expected 0.3"),
        (without_attack, "it names another method, attack or seed"),
        (stranger, "not a part of what config.yaml compares"),
    ],
)
def test_what_was_changed_is_refused(frozen, tamper, said):
    tamper(frozen)
    with pytest.raises(DataError) as raised:
        check(frozen, repeat=1, progress=False)
    assert said in str(raised.value)


def test_other_data_under_the_name_of_the_protocols_is_refused(frozen, monkeypatch):
    monkeypatch.setitem(DATASETS, "squares", replace(DATASETS["squares"], digest="0" * 32))
    with pytest.raises(DataError, match="the train images of squares with the digest"):
        check(frozen)


def test_a_set_that_nobody_else_can_open_is_refused(frozen):
    released = next((frozen / "protected").iterdir()) / "dataset"
    text = (frozen / "config.yaml").read_text()
    entry = f"{{name: theirs, released: {released}, dataset: squares}}"
    (frozen / "config.yaml").write_text(text.replace("[texture]", f"[{entry}]"))
    from hf_unlearnable.benchmark import Config, run

    for kind in ("cells", "sets"):
        for file in files(frozen, kind):
            file.unlink()
    run(Config.read(frozen / "config.yaml"), frozen, progress=False)
    (file,) = files(frozen, "sets")
    assert json.loads(file.read_text())["elsewhere"] is True
    assert str(released) not in file.read_text()
    with pytest.raises(DataError, match="publish them, and name their Hub id"):
        check(frozen)


def test_larger_images_take_the_option_that_the_message_names(frozen, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # less than half, which Pillow itself refuses
    words = ["submit", str(frozen), "--repeat", "0"]
    assert "allow more with --max-pixels" in str(CliRunner().invoke(app, words).exception)
    assert CliRunner().invoke(app, [*words, "--max-pixels", "144"]).exit_code == 0


def test_from_the_command_line(frozen, tmp_path):
    done = CliRunner().invoke(app, ["submit", str(frozen), "--repeat", "0"])
    assert done.exit_code == 0
    assert "To repeat all: hf-unlearnable benchmark config.yaml --output again" in done.output
    done = CliRunner().invoke(app, ["leaderboard", str(frozen), "--output", str(tmp_path / "pages")])
    assert done.exit_code == 0
    done = CliRunner().invoke(app, ["benchmark", str(frozen / "config.yaml"), "--dry-run", "--output", str(frozen)])
    assert "squares: texture linf:8 fit 0: 8 cells" in done.output
    assert "0 fits and 0 cells are left." in done.output
    with pytest.raises(SourceError, match="expected the folder that hf-unlearnable benchmark"):
        check(tmp_path)
