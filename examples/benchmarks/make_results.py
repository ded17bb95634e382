"""Write docs/results.md, and the table of the README, from what the benchmarks found.

    python examples/benchmarks/make_results.py            # write them
    python examples/benchmarks/make_results.py --check    # only say whether they are as the results have them

Tables come from the files below results/ alone. The text around them is templates/results.md.jinja, where the figures
in sentences are computed too. In the README only what stands between the two marks is written, if it has them.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

import auto_choice
import countermeasures
import crafted_after_fit
import feature_information
import fit_speed
import kill_and_resume
import large_photographs
import larger_images
import later_compression
import map_speed
import measure_speed
import mixture_limit
import other_networks
import owner
import private_patterns
import processes
import run_speed
import scale
import speed_trials
import start_up
from bayes_error_speed import sampling_table
from bayes_error_speed import table as speed_table
from common import ROOT
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from measured import EIGHTEEN
from page_tables import TABLES, readme
from result_files import ResultFile, read_results
from selection import PROSE

PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
WIDTH = 120
HELD = "\0±\0"  # a mean and its spread, which belong on one line
WITH_TABLE = {
    one.SCRIPT: one
    for one in (
        auto_choice,
        crafted_after_fit,
        feature_information,
        fit_speed,
        large_photographs,
        larger_images,
        later_compression,
        map_speed,
        measure_speed,
        mixture_limit,
        other_networks,
        owner,
        private_patterns,
        processes,
        run_speed,
        scale,
        speed_trials,
        start_up,
    )
}


def table_of(script: str, table: str = "table") -> str:
    """A table that a benchmark prints itself."""
    return str(getattr(WITH_TABLE[script], table)(read_results(script)))


def countermeasures_of(dataset: str) -> str:
    """The countermeasures on one set."""
    return countermeasures.table(countermeasures.by_set(read_results("countermeasures"))[dataset])


def of_one(script: str) -> ResultFile:
    """The result of a benchmark that has one."""
    (result,) = read_results(script)
    return result


def page() -> str:
    """docs/results.md."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= PROSE | TABLES
    environment.globals |= {
        "table_of": table_of,
        "countermeasures_of": countermeasures_of,
        "of_one": of_one,
        "eighteen": EIGHTEEN,
    }
    environment.globals |= {"speed": speed_table, "sampling": sampling_table, "kills": kill_and_resume.table}
    return wrapped(environment.get_template("results.md.jinja").render())


def wrapped(text: str) -> str:
    """Break the lines of paragraphs and list items anew, since their figures have no fixed length."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if block.lstrip("\n").startswith(("|", "#", "    ", "<")):
            blocks.append(block.strip("\n"))
            continue
        items = block.strip().replace("\n* ", "\n\0* ").split("\n\0")
        lines = []
        for item in items:
            indent = "  " if item.startswith("* ") else ""
            words = " ".join(item.split()).replace(" ± ", HELD)
            lines.append(
                textwrap.fill(words, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
            )
        blocks.append("\n".join(lines).replace(HELD, " ± "))
    return "\n\n".join(block for block in blocks if block) + "\n"


def with_table(text: str, table: str) -> str:
    """A text with the table between its two marks; the text as it is where it has none."""
    if BEGIN not in text or END not in text:
        return text
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def outdated() -> dict[Path, str]:
    """The files that are not as the results have them, with what should stand there."""
    given = README.read_text()
    wanted = {PAGE: page(), README: with_table(given, readme())}
    return {file: text for file, text in wanted.items() if not file.exists() or file.read_text() != text}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where something would change")
    arguments = parser.parse_args()
    files = outdated()
    names = ", ".join(str(file.relative_to(ROOT)) for file in files)
    if arguments.check:
        sys.exit(f"{names}: not what the results say; run make results" if files else 0)
    for file, text in files.items():
        file.write_text(text)
    print(f"{names} written" if files else "nothing to write: all is as the results have it")


if __name__ == "__main__":
    main()
