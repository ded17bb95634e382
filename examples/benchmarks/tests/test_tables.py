"""Tables of made-up results: what is measured anew changes none of this."""

from __future__ import annotations

import countermeasures
import crafted_after_fit
import larger_images
import mixture_limit
import other_networks
import page_tables
import protection_strength
import pytest
from made_results import MEASURED, made_experiment, made_report, made_result
from result_files import ResultFile, read_results
from selection import by_fit, difference, mean, only, share, span
from tables import markdown, told

from hf_unlearnable import DataError, RecipeError
from hf_unlearnable.evaluation.cases import CLEAN, MIX, PROTECTED, SEQUENTIAL


def test_means_and_spreads():
    assert told([0.3, 0.4]) == "35.0 ± 7.1"
    assert told([0.3]) == "30.0"
    assert told([]) == "-"
    assert told([-0.01, -0.03], "+.1f") == "-2.0 ± 1.4"
    assert span([83.2, 190.4]) == "83 to 190"
    assert span([83.2]) == "83"


def test_rows_of_another_length_are_refused():
    with pytest.raises(AssertionError):
        markdown(["a", "b"], [["1"]])


def test_strength_and_mixtures():
    results = [made_result(), made_result({CLEAN: MEASURED[CLEAN], PROTECTED: MEASURED[PROTECTED]}, fit=2)]
    rows = protection_strength.table(results).splitlines()[2:]
    assert rows[0] == (
        "| fashion-mnist | 3000 | mi-ue | linf:8 | 1 | 12 | small-resnet | 12 | 81.0 ± 1.4 | 35.0 ± 7.1 | 45.0 ± 7.1 "
        "| 79.0 ± 1.4 | 77.0 ± 0.0 | 60.0 ± 14.1 |"
    )
    assert rows[1].endswith("| 81.0 ± 1.4 | 35.0 ± 7.1 | 45.0 ± 7.1 | - | - | - |")
    (row,) = protection_strength.mixtures(results).splitlines()[2:]  # the second had no mixtures
    assert row.endswith("| 1 | 12 | 2 | 79.0 ± 1.4 | -2.0 ± 1.4 | -19.0 ± 12.7 | 35.0 ± 7.1 |")


def test_figures_in_sentences(scratch):
    for fit, cases in ((1, MEASURED), (2, {PROTECTED: (0.5, 0.5, 0.5)})):
        seeds = tuple(range(101, 101 + len(cases[PROTECTED])))
        made_result(cases, fit=fit, seeds=seeds).write()
    first = only("protection_strength", fit=1, sequential=True)
    assert share(first, PROTECTED) == "35.0 ± 7.1"
    assert mean(first, PROTECTED, None, "peak") == "45.0"
    assert difference(first, MIX) == "-2.0 ± 1.4"
    assert difference(first, SEQUENTIAL) == "-19.0 ± 12.7"
    both = [first, only("protection_strength", fit=2)]
    assert by_fit(both) == ("42.5", "35.0 and 50.0")
    assert by_fit([*both, made_result({PROTECTED: (0.4, 0.4, 0.4)}, fit=1)]) == ("45.0", "40.0 and 50.0")
    with pytest.raises(DataError, match=r"got none of protection_strength with .*'fit': 3.*expected one result"):
        only("protection_strength", fit=3)
    with pytest.raises(DataError, match=r"got fm-mi-ue-8-\w+\.json, fm-mi-ue-8-\w+\.json of"):
        only("protection_strength")
    with pytest.raises(DataError, match="got no sequential of any victim"):
        share(both[1], SEQUENTIAL)


def test_a_clean_half_of_another_run_has_a_star(scratch):
    made_result(images=5000).write()
    made_result(images=5000, recipe="em", method="em").write()
    limit = made_experiment(script="mixture_limit", images=5000, recipe="exchanged", budget=None)
    victims = [{"seed": seed, "reached": [0.7]} for seed in (101, 102)]
    ResultFile(limit, {"victims": victims}).write()
    *own, last = page_tables.mixtures("fashion-mnist", 12).splitlines()[2:]
    assert all("| 79.0 ± 1.4 | -2.0" in row for row in own)
    assert len(own) == 2
    assert "| 79.0 ± 1.4\\* | -9.0 ± 1.4 |" in last


def test_tables_of_the_other_scripts():
    report = made_report().as_dict()
    enlarged = made_experiment(script="larger_images", settings={"scale": 4})
    row = larger_images.table([ResultFile(enlarged, {"verification": {"surviving": 0.944}, "report": report})])
    assert row.endswith("| 3000 | 4x | small-resnet | 81.0 ± 1.4 | 35.0 ± 7.1 | 45.0 ± 7.1 | 94 % |")
    crafted = ResultFile(made_experiment(script="crafted_after_fit"), {"reports": {"second half": report}})
    assert crafted_after_fit.table([crafted]).endswith("| second half | 81.0 ± 1.4 | 35.0 ± 7.1 | 45.0 ± 7.1 |")
    limit = made_experiment(script="mixture_limit", recipe="exchanged", budget=None)
    victims = [{"seed": 101, "reached": [0.2, 0.5]}, {"seed": 102, "reached": [0.6]}]
    row = mixture_limit.table([ResultFile(limit, {"victims": victims})])
    assert row.endswith("| exchanged | none | fashion-mnist | 3000 | 12 | 2 | 55.0 ± 7.1 |")
    figures = {"clean, last": 0.8, "clean, peak": 0.8, "protected, last": 0.4, "protected, peak": 0.6}
    cell = {"surrogates": "one", "training": "crop and flip", "victim": "large-stem", **figures}
    row = other_networks.table([ResultFile(made_experiment(script="other_networks"), {"cells": [cell, cell]})])
    assert row.endswith("| one | large-stem | crop and flip | 2 | 80.0 ± 0.0 | 40.0 ± 0.0 | 60.0 ± 0.0 |")


def with_defences(figures, **changes):
    """A report of one seed, with several countermeasures."""
    reports = [made_report({case: (value,) for case, value in cases.items()}, name) for name, cases in figures.items()]
    return made_report({}, **changes, results=tuple(one for report in reports for one in report.results))


def test_of_several_fits_the_first_has_its_line_among_the_countermeasures(scratch):
    for fit, reached in ((2, 0.4), (1, 0.3), (3, 0.5)):
        report = with_defences({"none": {CLEAN: 0.8, PROTECTED: reached}})
        ResultFile(made_experiment(script="countermeasures", fit=fit), {"report": report.as_dict()}).write()
    ((dataset, (only,)),) = countermeasures.by_set(read_results("countermeasures")).items()
    assert dataset == only.experiment.dataset
    assert only.report.accuracy(PROTECTED) == 0.3


def test_countermeasures_measured_later_join_those_that_are_there():
    before = with_defences({"none": {CLEAN: 0.8, PROTECTED: 0.3}, "noise:8": {CLEAN: 0.78, PROTECTED: 0.25}})
    found = with_defences({"none": {CLEAN: 0.8, PROTECTED: 0.3}, "jpeg:10": {CLEAN: 0.7, PROTECTED: 0.4}})
    both = countermeasures.joined(before, found)
    assert both.defences == ["none", "jpeg:10", "noise:8"]
    assert both.doubts == ()
    assert both.accuracy(PROTECTED, defence="jpeg:10") == 0.4
    result = ResultFile(made_experiment(script="countermeasures"), {"report": both.as_dict()})
    assert countermeasures.table([result]).endswith("| noise:8 | 78.0 | 25.0 (35.0) |")

    figures = {"none": {CLEAN: 0.8, PROTECTED: 0.35}, "noise:8": {CLEAN: 0, PROTECTED: 0}}
    other = with_defences({**figures, "blur": {CLEAN: 0.7, PROTECTED: 0.3}})
    both = countermeasures.joined(before, other)
    assert both.accuracy(PROTECTED, defence="none") == 0.3
    assert both.accuracy(PROTECTED, defence="noise:8") == 0.25
    assert len(both.doubts) == 1
    assert both.doubts[0].startswith("blur: measured on another fit")
    assert "35.0 %" in both.doubts[0]
    result = ResultFile(made_experiment(script="countermeasures"), {"report": both.as_dict()})
    assert "| blur | 70.0 | 30.0 (40.0)* |" in countermeasures.table([result])
    assert "| noise:8 | 78.0 | 25.0 (35.0) |" in countermeasures.table([result])
    first = made_experiment(script="countermeasures", recipe="em")
    elsewhere = with_defences({"blur": {CLEAN: 0.72, PROTECTED: 0.3}}).as_dict()
    lines = countermeasures.table([ResultFile(first, {"report": elsewhere}), result]).splitlines()
    assert "| blur | 72.0 | 30.0 (40.0) | 30.0 (40.0)*, of 70.0 |" in lines
    with pytest.raises(RecipeError, match="got iterations of 552 in the file and 100 now"):
        countermeasures.joined(before, with_defences({"none": {CLEAN: 0.8}}, iterations=100))


def test_countermeasures_of_fewer_epochs_are_rows_that_say_so():
    probe, fit = "probe:data/imagenet/efficientnet-lite0", "pretrained:data/imagenet/efficientnet-lite0"
    long = with_defences({"none": {CLEAN: 0.8, PROTECTED: 0.3}, "blur": {CLEAN: 0.7, PROTECTED: 0.3}})
    short = with_defences({"none": {CLEAN: 0.5, PROTECTED: 0.2}, probe: {CLEAN: 0.6, PROTECTED: 0.25}})
    other = with_defences({fit: {CLEAN: 0.9, PROTECTED: 0.4}, probe: {CLEAN: 0.61, PROTECTED: 0.1}})
    given = (("em", 12, long), ("em", 3, short), ("texture", 3, other))
    results = [
        ResultFile(
            made_experiment(script="countermeasures", dataset="photo-patches", recipe=recipe, epochs=epochs),
            {"report": report.as_dict()},
        )
        for recipe, epochs, report in given
    ]
    (of_set,) = countermeasures.by_set(results).values()
    assert countermeasures.table(of_set).splitlines() == [
        "| photo-patches | clean | em | texture |",
        "| --- | --- | --- | --- |",
        "| none | 80.0 | 30.0 (40.0) | - |",
        "| blur | 70.0 | 30.0 (40.0) | - |",
        "| none, 3 epochs | 50.0 | 20.0 (30.0) | - |",
        "| a new head on EfficientNet-Lite0 of ImageNet, 3 epochs | 60.0 | 25.0 (35.0) | 10.0 (20.0), of 61.0 |",
        "| fine-tuning of EfficientNet-Lite0 of ImageNet, 3 epochs | 90.0 | - | 40.0 (50.0) |",
    ]


def test_countermeasures_of_fewer_victims_are_rows_that_say_so():
    many = with_defences({"none": {CLEAN: 0.8, PROTECTED: 0.3}})
    one = with_defences({"none": {CLEAN: 0.7, PROTECTED: 0.2}, "blur": {CLEAN: 0.6, PROTECTED: 0.1}})
    results = [
        ResultFile(made_experiment(script="countermeasures", recipe="em", seeds=seeds), {"report": report.as_dict()})
        for seeds, report in (((101,), one), ((101, 102), many))
    ]
    lines = countermeasures.table(results).splitlines()
    assert lines[2:] == [
        "| none | 80.0 | 30.0 (40.0) |",
        "| none, 1 victim | 70.0 | 20.0 (30.0) |",
        "| blur, 1 victim | 60.0 | 10.0 (20.0) |",
    ]
