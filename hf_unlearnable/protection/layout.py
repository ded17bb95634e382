"""The names of the parts of an output folder; ``runs.folder`` knows what lies where."""

from pathlib import Path

from huggingface_hub import constants

# What `protect` writes below its output folder: one part to publish, one to keep.
PUBLISH, PRIVATE, REPORT = "dataset", "private", "report"
IMAGES, IMAGES_JPEG = "images", "images-jpeg"  # copies of what PUBLISH holds as files, never pushed
DIGESTS = "files.json"  # below PRIVATE: of every file of PUBLISH, IMAGES, IMAGES_JPEG and HELD_OUT_FOLDER
MEASURED = "learnability.json"  # below REPORT: what `measure` found
AUDITED = "audit.json"  # below REPORT: what `audit` found
VICTIMS = "victims"  # below REPORT: what is finished of a measurement
PROTECTION, ORIGIN, VERIFIED = "protection", "origin.json", "verification.json"
INTAKE = "intake.json"  # below PRIVATE: what was found before the work, with the names of files
HELD_OUT_FOLDER = "held-out"  # below PRIVATE: clean images to test on, which were neither protected nor published
SPLITS = "splits.json"  # below PRIVATE: the names of protected and clean splits, where there are several


def private_cache() -> Path:
    """Where perturbations are kept for which no folder was named."""
    return Path(constants.HF_HOME) / "unlearnable"
