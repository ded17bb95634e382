"""The page and the pictures of a run."""

from __future__ import annotations

from functools import partial
from os import PathLike
from pathlib import Path

from hf_unlearnable.files import atomic_write, private_folder
from hf_unlearnable.reports.charts import accuracy_chart, change_histogram, keep_picture, learning_curves, missing
from hf_unlearnable.reports.images import image_grid
from hf_unlearnable.reports.run_facts import RunFacts, run_facts
from hf_unlearnable.reports.run_page import page
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.settings import check_arguments

PAGE, PUBLIC_PAGE = "report.html", "report-public.html"


@check_arguments
def write_report(
    run: RunFolder | str | PathLike[str],
    *,
    public: bool = False,
    clean: str | PathLike[str] | None = None,
    clean_split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    command: str = "hf-unlearnable report RUN",
) -> list[Path]:
    """Write what is known of a run as one HTML page, and, unless it is for the public, its pictures as PNG files.

    Args:
        run: the folder that ``protect --output`` wrote (the page goes into ``run/report``), another protected dataset
            (into the folder ``NAME-report`` beside it), or a ``learnability.json`` (beside it).
        public: leave out clean pixels, perturbations, local names and paths and seeds.
        clean: the originals, where nobody wrote down what they are or they were moved.
        clean_split: of them.
        image_column: for a set of another tool; may be left out when there is exactly one.
        label_column: likewise.
        command: as the page tells it.

    Returns:
        What was written, the page first; only that where matplotlib is not installed.

    Raises:
        SourceError: nothing there to report on, or no originals where they are said to be.
        DataError: a ``learnability.json`` of another kind, or originals that are named and do not fit.
    """
    source = RunFolder.find(run)
    facts = run_facts(
        source,
        clean=clean,
        clean_split=clean_split,
        image_column=image_column,
        label_column=label_column,
        command=command,
    )
    file = source.beside(PUBLIC_PAGE if public else PAGE)
    if source.folder is not None:
        private_folder(source.report_folder)
    atomic_write(file, page(facts.page.for_the_public() if public else facts.page), private=not public)
    return [file] if public or missing() else [file, *_write_pictures(source, facts)]


def _write_pictures(run: RunFolder, facts: RunFacts) -> list[Path]:
    """Write the pictures of the page as PNG files."""
    written: list[Path] = []
    if facts.originals is not None and facts.images is not None and facts.columns is not None:
        written += [run.beside("images.png"), run.beside("histogram.png")]
        image, label = facts.columns.image, facts.columns.label
        grid = partial(image_grid, facts.originals, facts.images, image_column=image, label_column=label)
        keep_picture(written[0], grid)
        keep_picture(written[1], partial(change_histogram, facts.page.shares, kind="png"))
    if (report := facts.page.report) is not None and report.results:
        written.append(run.beside("accuracy.png"))
        keep_picture(written[-1], partial(accuracy_chart, report))
        for index, victim in enumerate(report.victims, 1):
            written.append(run.beside(f"curves-{index}.png"))
            keep_picture(written[-1], partial(learning_curves, report, victim, report.defences[0], kind="png"))
    return written
