"""Protect a part of Fashion-MNIST with two methods and compare what a thief learns from each.

    python examples/protect_and_measure.py                          # about ten minutes on two cores
    python examples/protect_and_measure.py --images 200 --epochs 1  # a minute, to see that it runs

Put your own ``load_dataset(...)`` in place of ``fashion_mnist`` to protect your own images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_unlearnable import EM, MIUE, Budget, Training, learnability
from hf_unlearnable.data.fashion_mnist import fashion_mnist

parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
parser.add_argument("--data", type=Path, default=Path("data/fashion-mnist"), help="where Fashion-MNIST is kept")
parser.add_argument("--images", type=int, default=3000)
parser.add_argument("--epochs", type=int, default=12, help="of the protection and of the victims")
arguments = parser.parse_args()

splits = fashion_mnist(arguments.data)
train, test = splits["train"].select(range(arguments.images)), splits["test"].select(range(arguments.images))

for method in (MIUE(epochs=arguments.epochs), EM(epochs=arguments.epochs)):
    protect = method.fit(train, budget=Budget(8))
    protected = train.map(protect)
    print(f"\n{method.name}: {protect.verify(train, protected)}")
    print(learnability(protected, clean=train, test=test, training=Training(epochs=arguments.epochs), seeds=(101,)))
