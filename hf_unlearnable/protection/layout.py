"""The names of the parts of an output folder."""

from __future__ import annotations

from pathlib import Path

# What `protect` writes below its output folder: one part to publish, one to keep.
PUBLISH, PRIVATE, REPORT = "dataset", "private", "report"
MEASURED = "learnability.json"  # below REPORT: what `measure` found
VICTIMS = "victims"  # below REPORT: what is finished of a measurement
PROTECTION, ORIGIN, VERIFIED = "protection", "origin.json", "verification.json"


def report_folder(run: Path) -> Path:
    """Where the measurement of a run is: in it, or beside a folder that is nothing but somebody's images."""
    if (run / PUBLISH).is_dir() or (run / PRIVATE).is_dir():
        return run / REPORT
    run = run if run.name else run.absolute()  # "."
    return run.with_name(f"{run.name}-{REPORT}")
