"""The page of results and the README's table are what the files say."""

from __future__ import annotations

import make_results
import page_tables
import pytest


def test_the_page_and_the_readme_are_as_the_results_have_them():
    assert [file.name for file in make_results.outdated()] == [], "run make results"


def test_lines_of_prose_are_within_the_width():
    for line in make_results.page().splitlines():
        assert line.startswith("|") or len(line) <= make_results.WIDTH, line


def test_the_table_of_the_readme_is_short():
    rows = page_tables.readme().splitlines()
    assert 3 <= len(rows) <= 2 + 13
    assert "**" not in make_results.page() + page_tables.readme()  # no figure is put before the others


def test_only_what_is_between_the_marks_is_written():
    begin, end = make_results.BEGIN, make_results.END
    assert make_results.with_table(f"a\n\n{begin}\nold\n{end}\n\nb\n", "| new |") == (
        f"a\n\n{begin}\n\n| new |\n\n{end}\n\nb\n"
    )
    assert make_results.with_table("no marks\n", "| new |") == "no marks\n"


def test_paragraphs_and_items_are_wrapped_and_tables_are_not():
    words, row = "word " * 40, "| " + "cell | " * 40
    text = f"# {words}\n\n{words}5.0 ± 1.0\n\n* {words}\n* {words}\n\n{row}\n| --- |"
    wrapped = make_results.wrapped(text)
    assert wrapped.startswith(f"# {words}")
    assert row in wrapped
    lines = [line for line in wrapped.splitlines() if not line.startswith(("|", "#"))]
    assert max(map(len, lines)) <= make_results.WIDTH
    assert sum(line.startswith("* ") for line in lines) == 2
    assert sum(line.startswith("  ") for line in lines) == 2
    assert "5.0 ± 1.0" in wrapped


def test_check_ends_with_an_error_where_something_would_change(tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    for name, value in {
        "ROOT": tmp_path,
        "PAGE": page,
        "README": tmp_path / "README.md",
        "page": lambda: "the page\n",
        "readme": lambda: "| the table |",
    }.items():
        monkeypatch.setattr(make_results, name, value)
    make_results.README.write_text(f"{make_results.BEGIN}{make_results.END}\n")
    monkeypatch.setattr("sys.argv", ["make_results", "--check"])
    with pytest.raises(SystemExit, match=r"docs/results\.md, README\.md: not what the results say"):
        make_results.main()
    monkeypatch.setattr("sys.argv", ["make_results"])
    make_results.main()
    assert page.read_text() == "the page\n"
    assert "\n\n| the table |\n\n" in make_results.README.read_text()
    make_results.main()
    assert "nothing to write" in capsys.readouterr().out
