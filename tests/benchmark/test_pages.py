"""The leaderboard is made of the cells alone, and keeps apart what may not be compared."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import CHROMIUM, NEEDS_CHROMIUM

from hf_unlearnable import MIUE, DataError, Texture
from hf_unlearnable.benchmark import write_pages
from hf_unlearnable.benchmark.correlations import plots_of, spearman
from hf_unlearnable.benchmark.protocol import THIEVES
from hf_unlearnable.benchmark.records import CellRecord, SetRecord, read_all
from hf_unlearnable.benchmark.rows import Row, tables_of
from hf_unlearnable.evaluation.verdicts import Verdict

NASTY = "<script>alert(1)</script> | [x](y)"


def copy(run: Path, output: Path, *, epochs=None, **changed) -> None:
    """The documents of a run with another identity; ``epochs`` is asked for those of each cell."""
    sets = {}
    for one in read_all(run / "sets", SetRecord):
        other = replace(one, identity={**one.identity, **changed.get("identity", {})}, **changed.get("sets", {}))
        other.write(output / "sets")
        sets[one.digest] = other.digest
    for cell in read_all(run / "cells", CellRecord):
        identity = {**cell.identity, **changed.get("identity", {})}
        if not cell.set:
            identity |= dict.fromkeys(("method", "budget"))
        told = {"epochs": epochs(cell)} if epochs else {}
        protocol = changed.get("sets", {}).get("protocol", cell.protocol)
        replace(cell, identity=identity, protocol=protocol, set=sets.get(cell.set, ""), **told).write(output / "cells")


def learned(cell: CellRecord) -> list[float]:
    """Clean images teach 0.9, or 0.8 the second thief; protected ones teach the second thief more."""
    second = cell.victim.startswith("linear")
    return [0.7, 0.8 if second else 0.9] if not cell.set else [0.9, 0.6] if second else [0.5, 0.35]


def test_a_row_tells_what_the_protocol_reports(frozen, tmp_path):
    copy(frozen, tmp_path, epochs=learned)
    (table,) = tables_of([tmp_path])
    (row,) = table.rows
    assert (table.version, table.dataset["name"], row.name, row.budget) == ("v1", "squares", "texture", "linf:8")
    chance = 1 / 3
    assert row.best.victim.startswith("linear")
    assert row.best.regained == pytest.approx((0.6 - chance) / (0.9 - chance))
    assert (row.best.protected, row.best.peak, row.best.clean) == pytest.approx((0.6, 0.9, 0.8))
    assert row.ordinary.protected == pytest.approx(0.35)
    assert row.range_over_thieves == pytest.approx((0.35, 0.6))
    assert row.mixture["clean part alone"].mean == pytest.approx(0.9)
    assert math.isnan(row.spread_over_fits(row.measured[0]))
    assert [(attack.victim, attack.defence) for attack in row.attacks] == [("small-resnet", "principal-directions:2")]
    page = write_pages([tmp_path], tmp_path / "pages")[1].read_text()
    assert write_pages(str(tmp_path), tmp_path / "pages")[1].read_text() == page
    for cell in read_all(tmp_path / "cells", CellRecord):
        if cell.identity["case"] == "protected":
            assert f'href="cells/{cell.digest}.json"' in page
            assert (tmp_path / "pages" / "cells" / f"{cell.digest}.json").is_file()


def test_a_thief_who_picks_an_epoch_is_judged_by_it_and_other_cells_are_written_as_before(frozen, tmp_path):
    copy(frozen, tmp_path, epochs=learned)
    files = {file: file.read_text() for file in (tmp_path / "cells").glob("*.json")}
    assert not any("picked" in text for text in files.values())
    for cell in read_all(tmp_path / "cells", CellRecord):
        replace(cell, picked=1 if cell.set else None).write(tmp_path / "cells")
    assert sum(file.read_text() == text for file, text in files.items()) == len(
        [cell for cell in read_all(tmp_path / "cells", CellRecord) if not cell.set]
    )
    (row,) = tables_of([tmp_path])[0].rows
    assert (row.best.protected, row.best.peak, row.ordinary.protected) == pytest.approx((0.9, 0.9, 0.5))
    replace(next(cell for cell in read_all(tmp_path / "cells", CellRecord)), picked=3).write(tmp_path / "cells")
    with pytest.warns(UserWarning, match="got the picked epoch 3 of 2; expected a number from 1 to 2"):
        list(read_all(tmp_path / "cells", CellRecord))


def test_rows_of_two_versions_or_of_other_images_never_share_a_table(frozen, tmp_path):
    copy(frozen, tmp_path / "v1")
    copy(frozen, tmp_path / "v0", identity={"protocol": "v0"})
    copy(frozen, tmp_path / "changed", identity={"budget": "linf:4"}, sets={"protocol": "0" * 32})
    other = {"name": "squares", "train": "0" * 32, "test": "0" * 32, "epochs": 2}
    copy(frozen, tmp_path / "other", identity={"dataset": other})
    tables = tables_of([tmp_path / name for name in ("v1", "v0", "changed", "other")])
    assert [len(table.rows) for table in tables] == [1, 1, 1, 1]
    text = write_pages([tmp_path / "v1", tmp_path / "v0"], tmp_path / "pages")[0].read_text()
    assert text.count("## squares at linf:8, protocol") == 2


def method(name: str, **changed) -> dict:
    """What ``copy`` changes to make the row of another method."""
    return {"identity": {"method": {"name": name, "seed": 0}, **changed}, "sets": {"name": name}}


def test_what_not_every_thief_has_tried_stands_below_the_others(frozen, tmp_path):
    copy(frozen, tmp_path / "a", epochs=learned)
    copy(frozen, tmp_path / "b", epochs=lambda cell: [0.4, 0.4] if cell.set else learned(cell), **method("other"))
    for file in (tmp_path / "b" / "cells").glob("*.json"):
        stored = json.loads(file.read_text())
        if stored["set"] and stored["victim"].startswith("linear"):
            file.unlink()
    (table,) = tables_of([tmp_path / "a", tmp_path / "b"])
    assert [row.name for row in table.rows] == ["texture", "other"]
    assert table.gaps == ["other: not tried by linear, adamw"]
    markdown, page, *_ = (file.read_text() for file in write_pages([tmp_path / "a", tmp_path / "b"], tmp_path / "p"))
    assert "Gap: other: not tried by linear, adamw" in markdown
    assert re.search(r"^\| other \| \*\*≥ 12 %\*\* .* \| 2, 1 missing \|", markdown, re.MULTILINE)
    assert re.search(r"^\| texture \| \*\*47 %\*\* .* \| 3 \|", markdown, re.MULTILINE)
    assert page.count('<span class="badge not-measured">not measured</span>') >= 1
    assert (page.count("<b>≥ 12 %</b>"), page.count("<b>≥ 47 %</b>")) == (1, 0)
    assert page.index('"row">texture') < page.index('"row">other')


def test_a_run_without_the_ordinary_thief_changes_no_other_row(frozen, tmp_path):
    """Nor does one that lists thieves in another order: the protocol says who is the ordinary one."""
    copy(frozen, tmp_path / "a", epochs=learned)
    copy(frozen, tmp_path / "b", epochs=learned, **method("other"))
    for file in (tmp_path / "b" / "cells").glob("*.json"):
        cell = CellRecord.read(file)
        if cell.victim.startswith("linear"):
            replace(cell, place=0).write(file.parent)
        else:
            file.unlink()
    for folders in ([tmp_path / "a", tmp_path / "b"], [tmp_path / "b", tmp_path / "a"]):
        rows = {row.name: row for row in tables_of(folders)[0].rows}
        assert rows["texture"].ordinary.victim == rows["other"].ordinary.victim == "small-resnet"
        assert rows["texture"].ordinary.protected == pytest.approx(0.35)
        assert rows["texture"].mixture["clean part alone"].mean == pytest.approx(0.9)
        assert math.isnan(rows["other"].ordinary.protected)


def test_fits_and_victims_are_those_that_tried_the_row_itself(frozen, tmp_path):
    """And not those that trained on clean images, which all rows share."""
    copy(frozen, tmp_path / "a", epochs=learned)
    copy(frozen, tmp_path / "b", epochs=learned, **method("other"))
    for file in (tmp_path / "b" / "cells").glob("*.json"):
        cell = CellRecord.read(file)
        if cell.set and cell.identity["seed"] != 101:
            file.unlink()
    (table,) = tables_of([tmp_path / "a", tmp_path / "b"])
    linear = next(pair for pair in table.pairs if pair[0].startswith("linear"))
    assert {row.name: row.effort(linear) for row in table.rows} == {"texture": (1, 2), "other": (1, 1)}
    assert table.gaps == ["thieves tried rows by 1 to 2 victims of each kind"]
    markdown = write_pages([tmp_path / "a", tmp_path / "b"], tmp_path / "p")[0].read_text()
    assert re.search(r"^\| other \| .* \| 1 x 1 \| [^|]* \|$", markdown, re.MULTILINE)
    assert re.search(r"^\| texture \| .* \| 1 x 2 \| [^|]* \|$", markdown, re.MULTILINE)


def test_thieves_who_did_not_try_all_fits_are_named(frozen, tmp_path):
    copy(frozen, tmp_path / "a", epochs=learned)
    recipe = {"name": "texture", **Texture(seed=1).recipe()}
    copy(frozen, tmp_path / "b", epochs=learned, identity={"method": recipe}, sets={"seed": 1})
    for file in (tmp_path / "b" / "cells").glob("*.json"):
        cell = CellRecord.read(file)
        if cell.set and cell.victim.startswith("linear"):
            file.unlink()
    (table,) = tables_of([tmp_path / "a", tmp_path / "b"])
    assert table.gaps[0] == "texture: of its 2 fits not all were tried by linear, adamw"


def test_the_best_thief_decides_the_order(frozen, tmp_path):
    copy(frozen, tmp_path / "a", epochs=learned)
    copy(frozen, tmp_path / "b", epochs=lambda cell: [0.4, 0.4] if cell.set else learned(cell), **method("other"))
    (table,) = tables_of([tmp_path / "a", tmp_path / "b"])
    assert [row.name for row in table.rows] == ["other", "texture"]
    page = write_pages([tmp_path / "a", tmp_path / "b"], tmp_path / "p")[1].read_text()
    assert page.index('"row">other') < page.index('"row">texture')


def test_a_row_of_defaults_that_have_changed_since_says_so(frozen, tmp_path):
    """Two recipes of one name are two rows with two names, whatever their documents were called when they were made."""
    now = {"name": "mi-ue", **MIUE().recipe()}
    before = {name: value for name, value in now.items() if name != "grain"} | {"epochs": 18, "copies": 2}
    for run, recipe in (("now", now), ("before", before)):
        copy(frozen, tmp_path / run, epochs=learned, identity={"method": recipe}, sets={"name": "mi-ue"})
    (table,) = tables_of([tmp_path / "before", tmp_path / "now"])
    assert sorted(row.name for row in table.rows) == ["mi-ue", "mi-ue:epochs=18,copies=2"]


def test_settings_are_rounded_where_the_names_of_the_rows_stay_apart(frozen, tmp_path):
    for temperature in (0.1234, 0.12345, 0.56789):
        recipe = {"name": "mi-ue", **MIUE(temperature=temperature).recipe()}
        copy(frozen, tmp_path / str(temperature), epochs=learned, identity={"method": recipe}, sets={"name": "mi-ue"})
    (table,) = tables_of(sorted(tmp_path.glob("0.*")))
    assert sorted(row.name.partition("=")[2] for row in table.rows) == ["0.1234", "0.12345", "0.568"]


def test_a_thief_of_the_protocol_whom_nobody_met_is_a_gap_of_all(frozen, tmp_path, monkeypatch):
    copy(frozen, tmp_path / "a", epochs=learned)
    monkeypatch.setitem(THIEVES, "tiny", (*THIEVES["tiny"], ("knn", "", "none")))
    (table,) = tables_of([tmp_path / "a"])
    assert table.gaps == ["no row was tried by knn"]
    markdown, page, *_ = (file.read_text() for file in write_pages([tmp_path / "a"], tmp_path / "p"))
    assert "**≥ 47 %**" in markdown
    assert "<li>no row was tried by knn</li>" in page


def test_without_a_protocol_a_thief_who_has_met_clean_images_alone_is_a_gap(frozen, tmp_path):
    copy(frozen, tmp_path, epochs=learned, identity={"protocol": "none"})
    for file in (tmp_path / "cells").glob("*.json"):
        stored = json.loads(file.read_text())
        if stored["set"] and stored["victim"].startswith("linear"):
            file.unlink()
    (table,) = tables_of([tmp_path])
    assert table.gaps == ["no row was tried by linear, adamw"]


def test_every_budget_has_a_table(frozen, tmp_path):
    runs = [tmp_path / str(radius) for radius in (16, 8, 4)]
    for run in runs:
        copy(frozen, run, epochs=learned, identity={"budget": f"linf:{run.name}"})
    tables = tables_of(runs)
    assert [table.budget for table in tables] == ["linf:4", "linf:8", "linf:16"]
    assert [row.best.protected for table in tables for row in table.rows] == pytest.approx([0.6] * 3)


def test_names_that_others_chose_are_escaped(frozen, tmp_path):
    copy(frozen, tmp_path, **method(NASTY))
    markdown, page, *_ = (file.read_text() for file in write_pages([tmp_path], tmp_path))
    assert NASTY not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\\<script\\>alert(1)\\</script\\> \\| \\[x\\](y)" in markdown
    assert len(re.findall("<script", page)) == 1


def test_the_page_holds_all_that_it_needs(frozen, tmp_path):
    page = write_pages([frozen], tmp_path)[1].read_text()
    assert not re.findall(r'(?:src|href)="(?!cells/|sets/)', page)
    assert re.search(r"script-src 'sha256-[\w+/=]{44}'", page)


def test_nothing_to_show_is_told(tmp_path):
    with pytest.raises(DataError, match="got no row to show"):
        write_pages([tmp_path], tmp_path)


def test_rank_correlations_with_intervals_and_none_of_too_few():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    strong, none = spearman(x, x + 0.3 * rng.normal(size=40)), spearman(x, rng.normal(size=40))
    assert strong.value > 0.8
    assert strong.low > 0.5
    assert strong.verdict(1) == "as expected"
    assert strong.verdict(-1) == "against what is expected"
    assert none.low < 0 < none.high
    assert "cannot be told from these 40 rows" in none.verdict(1)
    few = spearman(np.arange(4.0), np.array([1.0, 2.0, math.nan, 3.0]))
    assert (few.rows, math.isnan(few.value)) == (3, True)
    assert few.verdict(1) == "cannot be told: 3 rows are too few, 5 are the least"
    assert "the same value" in spearman(np.ones(9), np.arange(9.0)).verdict(1)


def test_theory_stands_beside_the_figures(frozen, tmp_path):
    runs = [tmp_path / name for name in ("a", "b", "c")]
    for run, value in zip(runs, (3.0, 2.0, 1.0), strict=True):
        told = method(run.name)
        told["sets"]["theory"] = {"mutual_information_ksg": value, "bayes_error_own": None}
        copy(frozen, run, epochs=learned, **told)
    (table,) = tables_of(runs)
    plots = plots_of(table)
    assert {plot.quantity.key for plot in plots} == {"mutual_information_ksg"}
    assert sorted(point.x for point in plots[0].points) == [1.0, 2.0, 3.0]
    pages = write_pages(runs, tmp_path / "pages")
    assert pages[-1].name == "theory.html"
    text = pages[-1].read_text()
    assert "3 rows are too few" in text
    assert text.count("<circle") == 6
    assert write_pages(runs[:1], tmp_path / "alone")[-1].name == "leaderboard.html"  # a single point says nothing


@NEEDS_CHROMIUM
def test_an_attack_without_a_share_is_not_the_best(frozen, tmp_path, monkeypatch):
    copy(frozen, tmp_path, epochs=learned)
    unknown = Verdict("lost", "jpeg:10", 0.5, 0.5, 0.5, 0.0, 0.6, math.nan, math.nan, False)
    told = Row.attacks.fget
    monkeypatch.setattr(Row, "attacks", property(lambda row: [unknown, *told(row)]))
    markdown = write_pages([tmp_path], tmp_path / "p")[0].read_text()
    assert "principal-directions:2: 35.0" in markdown


def test_who_filters_by_a_thief_gets_its_worst_case_and_sorts_by_any_column(frozen, tmp_path):
    from playwright.sync_api import sync_playwright

    runs = {}
    for name, protected in (("a", 0.4), ("b", 0.7)):
        runs[name] = tmp_path / name

        def told(cell, protected=protected):
            second = cell.victim.startswith("linear")
            return [0.9] if not cell.set else [1.05 - protected] if second else [protected]

        copy(frozen, runs[name], epochs=told, **method(name))
    page = write_pages(runs.values(), tmp_path / "pages")[1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        faults = []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda message: faults.append(message.text))
        tab.goto(page.as_uri())

        def worst():
            rows = tab.locator("tr[data-name]").all()
            return [(row.locator("th").inner_text()[0], row.locator("[data-of=last]").inner_text()) for row in rows]

        assert [text.strip() for _, text in worst()] == ["65.0", "70.0"]
        tab.locator("select").first.select_option("small-resnet")
        assert worst() == [("a", "40.0"), ("b", "70.0")]
        tab.get_by_role("button", name="it reaches").click()
        tab.get_by_role("button", name="it reaches").click()
        assert [text for _, text in worst()] == ["70.0", "40.0"]
        for file in (runs["a"] / "cells").glob("*.json"):  # the pages made again, where one thief has not tried one row
            stored = json.loads(file.read_text())
            if stored["set"] and stored["victim"].startswith("linear"):
                file.unlink()
        tab.goto(write_pages(runs.values(), tmp_path / "others")[1].as_uri())

        def shares():
            rows = tab.locator("tr[data-name]").all()
            return {
                row.locator("th").inner_text()[0]: row.locator("[data-of=share]").inner_text().split() for row in rows
            }

        first = shares()
        assert first["a"] == ["≥", "12", "%"]  # nobody says that it holds
        assert first["b"][0] != "≥"
        assert list(first) == ["b", "a"]  # nor that it is the better one
        tab.locator("select").first.select_option("small-resnet")
        assert (shares()["a"], shares()["b"][0]) == (["12", "%", "holds"], "65")
        assert list(shares()) == ["a", "b"]
        tab.locator("select").first.select_option("linear, adamw")
        assert shares()["a"][:3] == ["–", "not", "measured"]
        tab.locator("select").first.select_option("")
        assert list(shares().items()) == list(first.items())
        assert faults == []
        browser.close()
