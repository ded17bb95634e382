"""The results table has one owner: what a case is called and how it is drawn stands in its one entry of ``CASES``."""

from __future__ import annotations

import json
import math

import matplotlib
import pytest
from helpers.datasets import described
from helpers.pages import made
from matplotlib.figure import Figure

from hf_unlearnable import DataError, Report
from hf_unlearnable.evaluation import cases as owner
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL, Case
from hf_unlearnable.evaluation.lines import Accuracy
from hf_unlearnable.evaluation.results import Result
from hf_unlearnable.hub.cards import DatasetFacts, dataset_card
from hf_unlearnable.reports.charts import accuracy_chart, learning_curves
from hf_unlearnable.reports.comparison_page import ComparedRun, comparison_page
from hf_unlearnable.reports.run_page import PageFacts, page

MIXED = {(CLEAN, "none"): 0.8, (PROTECTED, "none"): 0.2, (MIX, "none"): 0.74, (CLEAN_PART, "none"): 0.7}
COLOUR = "#12ab9f"


@pytest.fixture
def rotated(monkeypatch):
    """A case that the package does not have: protected images are turned upside down and mixed with clean ones."""
    case = Case(
        key="rotated mix",
        text="upside-down mix",
        page="{:.0%} protected and turned, the rest clean",
        card="turned mixture, {:.0%} protected",
        colour=COLOUR,
        mixture=True,
        comparison="{:.0%} protected and turned, mixed with clean ones",
        order="turned first",
    )
    monkeypatch.setattr(owner, "CASES", (*owner.CASES, case))
    return case


@pytest.fixture
def legends(monkeypatch):
    """The legends of all charts that are saved, each as its entries."""
    entries = []
    real = Figure.savefig

    def saving(figure, *arguments, **options):
        entries.append([text.get_text() for legend in figure.legends for text in legend.get_texts()])
        return real(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saving)
    return entries


def card(report):
    figures = {"images": 9, "violations": 0, "unchanged": 0, "max_perturbation": 8, "mean_perturbation": 4.0}
    verification = {**figures, "psnr": None, "delta_e": None}
    facts = DatasetFacts(repo_id="me/x", images=9, protection=described(), verification=verification, report=report)
    return dataset_card(facts)


def test_a_further_case_is_one_entry(rotated, legends, tmp_path):
    report = made({**MIXED, (rotated.key, "none"): 0.76})
    assert "  upside-down mix, 50% protected " in str(report)
    assert "theft gain +6.0 points (upside-down mix - clean part alone, 50% protected)" in str(report)
    entry = report.as_dict()["summary"][-1]
    assert (entry["case"], entry["ratio"], entry["last"]["mean"], entry["theft_gain"]) == (rotated.key, 0.5, 0.76, 0.06)
    report.save(tmp_path / "learnability.json")
    assert Report.load(tmp_path / "learnability.json") == report

    assert "| turned mixture, 50% protected |" in card(report)
    assert "76.0 (81.0) |" in card(report)

    text = page(PageFacts(name="run", report=report))
    assert '<th scope="row">50% protected and turned, the rest clean</th>' in text
    assert f"width:76.00%;background:{COLOUR}" in text
    assert "<td>upside-down mix, 50% protected</td>" in text
    assert "50 % protected, turned first: 70.0 with the clean part alone, 76.0 with both" in text

    runs = [ComparedRun(name=name, report=report) for name, report in (("one", report), ("two", made(MIXED)))]
    compared = comparison_page(runs, command="compare")
    assert '<th scope="row">50% protected and turned, mixed with clean ones</th>' in compared
    assert "<b>+6.0</b>" in compared

    legends.clear()
    accuracy_chart(report, tmp_path / "bars.png")
    learning_curves(report, "small-resnet", "none", tmp_path / "curves.svg")
    bars, curves = legends
    assert "upside-down mix" in bars
    assert "upside-down mix, 50% protected" in curves
    assert COLOUR in (tmp_path / "curves.svg").read_text()


def test_a_further_case_of_a_fixed_ratio_stands_before_the_chosen_ones(monkeypatch):
    case = Case(key="half", text="half", page="every second", card="second", colour=COLOUR, ratio=0.5)
    monkeypatch.setattr(owner, "CASES", (*owner.CASES, case))
    report = made({**MIXED, ("half", "none"): 0.5})
    assert [line.text for line in report.table()] == [
        "clean",
        "protected",
        "half",
        "mix, 50% protected",
        "clean part alone, 50% protected",
    ]
    assert report.ratios == [0.5]
    assert report.accuracy("half") == 0.5


def as_dicts(lines):
    """To be compared, since what is not a number equals nothing."""
    return [line.as_dict() for line in lines]


def test_the_table_holds_what_the_report_computes():
    figures = {**MIXED, (SEQUENTIAL, "none"): 0.66, (CLEAN, "jpeg:10"): 0.7, (PROTECTED, "jpeg:10"): 0.6}
    report = made(figures, victims=("a", "b"), seeds=(1, 2))
    table = report.table()
    assert [(line.victim, line.defence) for line in table[::5]] == [
        ("a", "none"),
        ("a", "jpeg:10"),
        ("b", "none"),
        ("b", "jpeg:10"),
    ]
    assert as_dicts(report.table("b", "none")) == as_dicts(table[10:15])
    assert as_dicts(report.table(defence="jpeg:10")) == as_dicts(table[5:10] + table[15:])
    for line in table:
        choice = {"ratio": line.ratio, "defence": line.defence}
        measured = (line.case.key, line.defence) in figures
        assert line.seeds == (2 if measured else 0)
        for accuracy, figure in ((line.last, "last"), (line.peak, "peak")):
            expected = report.accuracy(line.case.key, line.victim, figure, **choice)
            assert accuracy.mean == pytest.approx(expected, nan_ok=True)
            assert math.isnan(accuracy.mean) == (not measured)
        if line.case.mixture and measured:
            assert line.theft_gain == report.theft_gain(line.victim, case=line.case.key, **choice)
            assert line.clean_part.mean == report.accuracy(CLEAN_PART, line.victim, **choice)
        assert (line.protection_score is None) == (line.case.key != PROTECTED)
        assert (line.theft_gain is None) == (line.case.key not in (MIX, SEQUENTIAL))


def test_a_spread_stays_within_what_accuracies_can_be():
    assert (Accuracy(0.1, 0.3).low, Accuracy(0.9, 0.3).high) == (0, 1)
    assert Accuracy(0.5, 0.1).low == pytest.approx(0.4)


def test_files_of_older_versions_load_and_unknown_cases_are_refused(tmp_path):
    stored = json.loads(json.dumps(made(MIXED).as_dict()))
    del stored["doubts"]
    assert Report.of(stored) == made(MIXED)
    stored["results"][0]["case"] = "of a later version"
    with pytest.raises(DataError, match=r"got the case 'of a later version'; expected one of clean, protected, mix"):
        Report.of(stored)
    with pytest.raises(DataError, match="expected one of clean"):
        made(MIXED).values("protectd")


def test_the_columns_of_a_card_are_those_of_its_rows():
    """Also where two mixtures have clean parts, which are called the same."""
    report = made(MIXED)
    quarter = tuple(
        Result(one.victim, one.case, 0.25, one.defence, one.seed, one.epochs)
        for one in report.results
        if one.case in (MIX, CLEAN_PART)
    )
    report = Report.of({**report.as_dict(), "results": [*report.as_dict()["results"], *map(vars, quarter)]})
    lines = card(report).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| model |"))
    head, rule, row = lines[start : start + 3]
    assert row.startswith("| `small-resnet` |")
    assert head.count("|") == rule.count("|") == row.count("|") == 8


def test_a_chart_leaves_matplotlib_as_a_notebook_has_set_it(small, protection, tmp_path):
    from matplotlib import pyplot

    from hf_unlearnable.reports.images import image_grid

    before = matplotlib.get_backend()
    try:
        matplotlib.use("svg")  # as inline is in a notebook: not the one that files need
        with matplotlib.rc_context({"font.size": 11.5}):
            settings = dict(matplotlib.rcParams)
            accuracy_chart(made(MIXED), tmp_path / "bars.png")
            learning_curves(made(MIXED), "small-resnet", "none", tmp_path / "curves.svg")
            image_grid(small, small.map(protection), tmp_path / "images.png")
            assert matplotlib.get_backend() == "svg"
            assert dict(matplotlib.rcParams) == settings
            assert pyplot.get_fignums() == []
        assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")
    finally:
        matplotlib.use(before)
