"""The experiments of the papers at full size: every image, ResNet-18 as surrogate and as victim, the authors' recipes.

    python examples/benchmarks/full_size.py                             # everything that is not there yet
    python examples/benchmarks/full_size.py --set photo-patches --recipe beo-paper
    python examples/benchmarks/full_size.py --table                     # only print what is there
    python examples/benchmarks/gpu.py --full                            # all about speed, then this

It needs a GPU, and has never run at this size: none was at hand, so that no result is there and no time is known. What
it has to do can be counted. A pass is one of ResNet-18 over all images, forwards and backwards; ``MIUE.paper()`` makes
1,100 of them, ``BEO.paper()`` about 5,900, ``MIUE()`` and ``EM()`` some dozens, and the victims of a set 900: three of
60 epochs for each of four recipes and for the clean images. Two sets, 60,000 images of 28x28 and 4,000 of 32x32 pixels.

The control is the clean images: every file holds its recipe's victims beside those, which all recipes share. Everything
else is ``protection_strength.py``, whose options these are. A stopped fit goes on from its last checkpoint, and neither
a finished fit nor a finished victim is made twice.

The packages that ``pip install hf-unlearnable`` brings must be there, ``datasets`` and ``evaluate`` among them: a
machine without a connection has to be given their wheels. Fashion-MNIST and the patches are looked for in data/ before
they are fetched.
"""

from __future__ import annotations

from pathlib import Path

from common import RECIPES
from protection_strength import main as measure

from hf_unlearnable import BEO, EM, MIUE, Method

SCRIPT = Path(__file__).stem
NETWORK = "resnet-18"
FULL: dict[str, Method] = {
    "mi-ue-paper-100": MIUE.paper(),
    "beo-paper": BEO.paper(),
    **{name: RECIPES[name] for name in ("mi-ue-from-waves", "em-from-waves")},
}
SMALL: dict[str, Method] = {
    "mi-ue-paper-100": MIUE.paper(epochs=1, inner_steps=1),
    "beo-paper": BEO.paper(steps=1, epochs=1, refresh_epochs=1),
    "mi-ue-from-waves": MIUE(epochs=1, guides=1, guide_epochs=1),
    "em-from-waves": EM(epochs=1),
}


def main() -> None:
    """The command of ``protection_strength.py`` with these recipes and this network."""
    measure(
        SCRIPT,
        FULL,
        text=__doc__,
        victims=[NETWORK],
        ratios=[0.0, 1.0],
        surrogate=NETWORK,
        images=60_000,
        epochs=60,
        small=SMALL,
        go_on=True,
    )


if __name__ == "__main__":
    main()
