"""What else was tried to make a mixture of clean and protected images harmful: recipes that the package does not hold.

    python examples/benchmarks/ideas/mixture_ideas.py --set photo-patches      # all of them, an hour on one thread
    python examples/benchmarks/ideas/mixture_ideas.py --set fashion-mnist --images 5000 --budget 16/255 --epochs 15
    python examples/benchmarks/ideas/mixture_ideas.py --table

Everything but the recipes is ``protection_strength.py``, whose options these are. What was predicted and what came out:
NOTES.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what all benchmarks share lies beside this folder

from against_models import Onto, Robust, Stages
from against_thieves import Along, BestResponse
from combined import Halves, SurvivingBEO
from protection_strength import main as measure

from hf_unlearnable import BEO, Method

SCRIPT = Path(__file__).stem
IDEAS: dict[str, Method] = {
    "stages": Stages(),
    "stages-resnet": Stages(vggs=()),
    "no-stages": Stages(resnets=(12,), vggs=(12,)),
    "stages-eot": Stages(augment=True, momentum=0.9),
    "robust": Robust(),
    "robust-both": Robust(kinds=("small-resnet", "small-vgg")),
    "beo-augment": BEO(augment=True, steps=40),
    "beo-stages": BEO(stages=3),
    "onto-nearest": Onto(),
    "onto-assigned": Onto(choice="assigned"),
    "best-response": BestResponse(),
    "best-response-eot": BestResponse(augment=True, momentum=0.9),
    "opposing": BestResponse(opposing=True),
    "along": Along(),
    "beo-surviving": SurvivingBEO(),
    "texture-and-beo": Halves(),
    "mi-ue-and-beo": Halves(shared="mi-ue:from_waves=False"),
}


def main() -> None:
    """The command of ``protection_strength.py`` with these recipes."""
    measure(SCRIPT, IDEAS, text=__doc__, ratios=[0.0, 0.5], sequential=True, victims=["small-resnet"])


if __name__ == "__main__":
    main()
