"""What `make build` runs with the wheel alone, in an environment without this repository."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import hf_unlearnable

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
        words = ["protect", "photos", "--method", "em:epochs=1", "--output", "out"]
        if "20 images" not in run(*words, folder=folder):
            sys.exit("protect did not read 20 images back")
    print(f"hf-unlearnable {hf_unlearnable.__version__} works from {sys.prefix}")


if __name__ == "__main__":
    main()
