"""One class knows the folder of a run, also one that an earlier version wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.datasets import described, make_dataset, make_output, pixels_of

from hf_unlearnable import DataError, PrivacyError, Protection, SourceError, verify
from hf_unlearnable.protection.description import Description
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import Origin, RunFolder, measure

EARLIER = Path(__file__).parent / "version-0.1.0"  # what protect and measure of that version wrote


@pytest.fixture
def earlier(tmp_path):
    shutil.copytree(EARLIER, tmp_path / "version")
    origin = tmp_path / "version" / "out" / "private" / "origin.json"
    origin.write_text(origin.read_text().replace("PHOTOS", str(tmp_path / "version" / "photos")))
    return tmp_path / "version" / "out"


@pytest.fixture
def two_configs(tmp_path):
    """A dataset of two configurations with other images."""
    folder = tmp_path / "animals"
    folder.mkdir()
    cats, dogs = make_dataset(seed=1), make_dataset(seed=2)
    for name, data in (("cats", cats), ("dogs", dogs)):
        data.to_parquet(folder / f"{name}.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: dogs\n  data_files: dogs.parquet\n  default: true\n"
        "- config_name: cats\n  data_files: cats.parquet\n---\n"
    )
    return folder


def test_what_an_earlier_version_wrote_is_read(earlier):
    run = RunFolder.open(earlier)
    assert run.description.method_name == "em"
    assert run.description == run.protection.description
    assert run.origin.split == "train"
    verification, read_back = run.verification
    assert (verification.images, verification.violations, read_back) == (12, 0, True)
    assert run.report.images == 12
    originals = run.originals()
    assert (pixels_of(originals.map(run.protection)) == pixels_of(run.dataset)).all()
    assert run.protection(originals[0])["image"].size == (12, 12)
    assert verify(earlier).violations == 0
    assert write_report(earlier)[0].name == "report.html"


def test_the_configuration_that_was_protected_is_the_one_that_is_opened(two_configs, tmp_path, monkeypatch):
    """Measure knew the configuration, verify and report did not, and opened the default one."""
    from hf_unlearnable.data.sources import load_source

    cats = load_source(str(two_configs), "train", "cats")
    fitted = make_protection(cats, tmp_path)
    out = make_output(tmp_path / "out", cats, fitted, str(two_configs))
    RunFolder(out).keep_origin(Origin.at(two_configs, config="cats"))
    assert (pixels_of(RunFolder.open(out).originals()) == pixels_of(cats)).all()
    assert verify(out).violations == 0
    assert "could not be used" not in write_report(out)[0].read_text()
    monkeypatch.chdir(tmp_path)
    assert verify(out, clean="animals").violations == 0  # the same place in other words


def make_protection(data, folder) -> Protection:
    from hf_unlearnable import EM

    return EM(epochs=1, batch_size=8).fit(data, output_dir=folder / "protection", progress=False)


def test_as_many_rows_are_opened_as_were_protected(two_configs):
    origin = Origin.at(two_configs, config="cats", rows=10)
    assert Origin.of(origin.as_dict()) == origin
    assert len(origin.open()) == 10
    with pytest.raises(DataError, match=r"got 48 rows of .*animals.*expected the 100 that were protected"):
        Origin.at(two_configs, config="cats", rows=100).open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "without classes"),
        ({"colour": "red"}, "with colour"),
        ({"format": 1}, "of format 1; expected format 2"),
        ({"budget": "lots"}, "lots"),
        ({"image_shape": "wide"}, "value of another kind"),
        ({"verification": {"images": 3}}, "a verification without .*psnr"),
    ],
)
def test_a_damaged_description_is_an_error_that_names_what_is_wrong(change, message, tmp_path):
    stored = {**described().as_dict(), **change}
    stored = {name: value for name, value in stored.items() if value is not None or name in ("image_mode", "findings")}
    with pytest.raises(DataError, match=message):
        Description.of(stored)
    (tmp_path / "protection.json").write_text(json.dumps(stored))
    with pytest.raises(SourceError, match=message):
        Protection(tmp_path)


def test_a_description_is_what_is_written_of_it(tmp_path):
    whole = described(patterns="d1ce", findings={"guides": {}}, conversions={"P to RGB": 2})
    whole.write(tmp_path)
    assert Description.read(tmp_path) == whole
    (tmp_path / "protection.json").write_text("{")
    with pytest.raises(DataError, match=r"protection\.json.*damaged"):
        Description.read(tmp_path)


@pytest.mark.parametrize("file", ["origin.json", "verification.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"dataset": 3}', "\x00\x01"])
def test_a_damaged_document_is_an_error_of_ours(earlier, file, content):
    (earlier / "private" / file).write_text(content)
    run = RunFolder.open(earlier)
    with pytest.raises(DataError):
        run.origin if file == "origin.json" else run.verification  # noqa: B018


def test_what_is_no_run_is_refused(tmp_path, earlier):
    for folder, error in (
        (tmp_path / "nothing", SourceError),
        (tmp_path, SourceError),
        (earlier / "private", PrivacyError),
        (earlier / "private" / "protection", PrivacyError),
    ):
        with pytest.raises(error):
            RunFolder.open(folder)
    with pytest.raises(SourceError, match="a measurement alone"):
        RunFolder.find(earlier / "report").root  # noqa: B018


def test_a_measurement_without_originals_says_what_to_name(small, tmp_path):
    small.save_to_disk(tmp_path / "theirs")
    with pytest.raises(SourceError, match="name the originals with clean=DATASET"):
        measure(tmp_path / "theirs")
    with pytest.raises(SourceError, match="no test images; expected both"):
        measure(tmp_path / "theirs", clean=small)
