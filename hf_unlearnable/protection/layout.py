"""The names of the parts of an output folder; ``runs.folder`` knows what lies where."""

# What `protect` writes below its output folder: one part to publish, one to keep.
PUBLISH, PRIVATE, REPORT = "dataset", "private", "report"
IMAGES, IMAGES_JPEG = "images", "images-jpeg"  # copies of what PUBLISH holds as files, never pushed
IMAGE_NAMES = "images.json"  # below PRIVATE: what the file of every row in IMAGES is called
MEASURED = "learnability.json"  # below REPORT: what `measure` found
VICTIMS = "victims"  # below REPORT: what is finished of a measurement
PROTECTION, ORIGIN, VERIFIED = "protection", "origin.json", "verification.json"
INTAKE = "intake.json"  # below PRIVATE: what was found before the work, with the names of files
HELD_OUT = "held-out"  # below PRIVATE: clean images to test on, which were neither protected nor published
SPLITS = "splits.json"  # below PRIVATE: the names of protected and clean splits, where there are several
