"""Every file of results is what the one reader takes, and lies where its fields say."""

from __future__ import annotations

import json
import re

import pytest
from made_results import made_experiment, made_result
from result_files import FIGURES, HERE, Experiment, ResultFile, place, read_results

from hf_unlearnable import DataError

FILES = sorted((HERE / "results").glob("*/*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_is_read_and_lies_where_its_fields_say(file):
    result = ResultFile.read(file)
    assert file == place(result.experiment)
    assert result.experiment.script == file.parent.name
    if "report" in result.figures:
        report, about = result.report, result.experiment
        assert (about.images, about.epochs) == (report.images, report.training["epochs"])
        assert set(about.seeds) == set(report.seeds)
        assert set(about.victims) == set(report.victims)


def test_there_is_a_folder_for_every_script_and_nothing_else():
    scripts = {file.stem for file in [*HERE.glob("*.py"), *(HERE / "ideas").glob("*.py")]}
    assert {file.parent.name for file in FILES} <= set(FIGURES) <= scripts
    known = [*FILES, *(HERE / "results").glob("countermeasures/*.html")]
    assert sorted(path for path in (HERE / "results").rglob("*") if path.is_file()) == sorted(known)


def test_what_is_written_is_read(scratch):
    result = made_result()
    file = result.write()
    read = ResultFile.read(file)
    assert (read.experiment, read.report) == (result.experiment, result.report)
    assert read_results("protection_strength") == [read]


def test_names_are_short_and_differ_in_every_field_but_machine_and_command():
    about = made_experiment()
    assert re.fullmatch(r"fm-mi-ue-8-[0-9a-f]{6}\.json", about.file_name)
    others = [{"fit": 2}, {"seeds": (101,)}, {"epochs": 6}, {"ratios": (0.0,)}, {"settings": {}}, {"images": 5000}]
    names = {made_experiment(**changes).file_name for changes in others}
    assert len(names | {about.file_name}) == len(others) + 1
    assert made_experiment(machine="another", command="python x.py").file_name == about.file_name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "an unknown colour in its experiment"),
        ({"images": "3000"}, r"field images of '3000'; expected .*int"),
        ({"epochs": True}, r"field epochs of True"),
        ({"seeds": 101}, r"field seeds of 101; expected .*list"),
        ({"script": None}, r"field script of None"),
        ({"script": "weather"}, "script 'weather'; expected one of auto_choice, bayes_error_speed"),
    ],
)
def test_a_wrong_field_is_named(change, message, tmp_path):
    stored = {"experiment": made_experiment().as_dict() | change, "figures": made_result().figures}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(stored))
    with pytest.raises(DataError, match=message):
        ResultFile.read(file)


def test_a_missing_field_is_named():
    about = made_experiment().as_dict()
    del about["budget"]
    with pytest.raises(DataError, match=r"got no budget in its experiment; expected budget, command"):
        Experiment.of(about)
    figures = made_result().figures
    figures["raport"] = figures.pop("report")
    with pytest.raises(DataError, match=r"got no report and an unknown raport in its figures"):
        ResultFile.of({"experiment": made_experiment().as_dict(), "figures": figures})
    with pytest.raises(DataError, match="got a list; expected an object"):
        ResultFile.of([])
