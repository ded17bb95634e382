"""An ordinary Trainer script on a protected set: how well does a model trained on it do on real images?

    hf-unlearnable protect data/fashion-mnist --split train --output out     # or any other way to protect
    python examples/train_with_callbacks.py data/fashion-mnist --output runs/clean
    python examples/train_with_callbacks.py out/dataset --output runs/protected --baseline runs/clean/learnability.json
    accelerate launch --multi_gpu --num_processes 2 examples/train_with_callbacks.py out/dataset   # in two processes

(With --multi_gpu where there is no GPU either: whatever --num_processes says, accelerate else starts one process.)
Nothing here is special but the two callbacks. The first training gives the baseline that the second is scored against.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_from_disk
from transformers import (
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from hf_unlearnable import LearnabilityCallback, StopWhenLearned


def build(name: str, names: list[str]) -> PreTrainedModel:
    labels = {"num_labels": len(names), "id2label": dict(enumerate(names))}
    if name == "vit":
        size = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}
        return ViTForImageClassification(ViTConfig(image_size=28, patch_size=7, num_channels=1, **size, **labels))
    size = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_channels=1, **size, **labels))


def prepare(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    pixels = [torch.from_numpy(np.asarray(image, dtype=np.float32))[None] / 127.5 - 1 for image in batch["image"]]
    return {"pixel_values": pixels, "labels": batch["label"]}


def load(folder: str, split: str, images: int | None) -> Dataset:
    data = load_from_disk(folder)
    data = data[split] if isinstance(data, DatasetDict) else data
    return data.select(range(min(images or len(data), len(data))))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("train", help="a folder as save_to_disk writes it: images to train on")
    parser.add_argument("--test", default="data/fashion-mnist", help="likewise: clean images (its split test)")
    parser.add_argument("--output", default="runs/protected")
    parser.add_argument("--baseline", help="the learnability.json of the same training on clean images")
    parser.add_argument("--model", choices=["vit", "resnet"], default="resnet")
    parser.add_argument("--images", type=int, help="of the training and of the test set, all when left out")
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--stop-above", type=float, default=0.9, help="clean test accuracy that ends the training")
    parser.add_argument("--report-to", default="none", help="a tracker, such as tensorboard")
    arguments = parser.parse_args()

    train = load(arguments.train, "train", arguments.images)
    test = load(arguments.test, "test", arguments.images)
    trainer = Trainer(
        build(arguments.model, train.features["label"].names),
        TrainingArguments(
            arguments.output,
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=32,
            learning_rate=2e-3,
            lr_scheduler_type="cosine",
            eval_strategy="no",  # the callback measures by itself at every end of an epoch
            save_strategy="no",
            report_to=arguments.report_to,
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
            # Or several processes on CPUs would not find each other, and each train a model of its own.
            use_cpu=not torch.accelerator.is_available(),
        ),
        train_dataset=train.with_transform(prepare),
        callbacks=[
            LearnabilityCallback(test.with_transform(prepare), baseline=arguments.baseline),
            StopWhenLearned(above=arguments.stop_above),
        ],
    )
    trainer.train()


if __name__ == "__main__":
    main()
