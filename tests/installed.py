"""What `make build` runs with the wheel alone, in an environment without this repository."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import hf_unlearnable

# From images to the page, with nothing but what the package itself requires: the extras are not there.
STEPS = [
    (["protect", "photos", "--method", "em:epochs=1", "--hold-out", "0.2", "--output", "out"], ["Held out: 4 images"]),
    (["measure", "out", "--seeds", "1", "--epochs", "1", "--victim", "small-resnet"],
     ["cannot be measured", "learnability.csv written. Without pictures: a picture needs matplotlib; install it",
      "pip install 'hf-unlearnable[figures]'"]),
    (["report", "out"], ["report.html written", "Without charts: a picture needs matplotlib; install it"]),
    (["verify", "out"], ["0 outside the budget"]),
]  # fmt: skip

COMMAND = Path(sys.executable).with_name("hf-unlearnable")


def run(*words: str, folder: str) -> str:
    done = subprocess.run([str(COMMAND), *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    if not Path(hf_unlearnable.__file__).is_relative_to(sys.prefix):
        sys.exit(f"got the package from {hf_unlearnable.__file__}; expected the installed wheel in {sys.prefix}")
    for name in hf_unlearnable.__all__:
        getattr(hf_unlearnable, name)
    with tempfile.TemporaryDirectory() as folder:
        if "protect" not in run("--help", folder=folder):
            sys.exit("the command does not list protect")
        pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
        for index, image in enumerate(pixels):
            file = Path(folder, "photos", f"class {index % 2}", f"{index}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        for words, expected in STEPS:
            if missing := [text for text in expected if text not in (said := run(*words, folder=folder))]:
                sys.exit(f"{' '.join(words)} did not say {missing}:\n{said}")
        written = {file.name for file in Path(folder, "out", "report").iterdir()}
        if not {"learnability.json", "report.html"} <= written or any(name.endswith(".png") for name in written):
            sys.exit(f"got {written} without matplotlib; expected figures and a page, and no pictures")
    print(f"hf-unlearnable {hf_unlearnable.__version__} works from {sys.prefix}")


if __name__ == "__main__":
    main()
