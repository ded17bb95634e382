"""Classifying the rows of a data set inside of a Trainer's run, without a trace in the run."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import reduce
from datasets import ClassLabel, Dataset
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from transformers import PreTrainedModel, TrainingArguments

from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.data.reading import image_mode
from hf_unlearnable.errors import DataError, some_of
from hf_unlearnable.evaluation.scores import confusion


@torch.no_grad()
def count_predictions(
    dataset: Any,
    rows: NDArray[np.int64],
    args: TrainingArguments,
    model: PreTrainedModel,
    collate: Callable[[list[Any]], Any],
    processor: Any,
) -> NDArray[np.int64]:
    """The confusion matrix of a model over rows of a data set, each row classified once by one of the processes.

    The model is left in the mode it was in, and all random states as they were.

    Args:
        dataset: whose rows are dictionaries, either ready for the model (its main input and ``labels``), or with an
            image and a class label.
        rows: which ones.
        args: of the Trainer: processes, device and batch size.
        model: not wrapped for several processes.
        collate: makes a batch of rows that are ready.
        processor: an image processor, for rows that are not.

    Returns:
        (K, K) counts as ``scores.confusion`` gives them, summed over the processes.

    Raises:
        DataError: rows that neither the model nor the processor can take.
    """
    own = rows[args.process_index :: args.world_size]
    size = args.eval_batch_size
    # As many batches in every process: a sharded model communicates in its forward pass, and would wait for ever for a
    # process that has fewer rows. An extra batch is computed and not counted.
    batches = math.ceil(math.ceil(len(rows) / args.world_size) / size)
    counts: torch.Tensor | None = None
    was_training = model.training
    model.eval()
    try:
        with _randomness_kept():
            for batch in range(batches):
                chosen = own[batch * size : (batch + 1) * size]
                inputs = _inputs(dataset, chosen if len(chosen) else rows[:1], model, collate, processor)
                labels = inputs.pop("labels")
                logits = model(**{name: value.to(args.device) for name, value in inputs.items()}).logits
                if counts is None:
                    counts = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.int64)
                if len(chosen):
                    named = logits.argmax(dim=1).cpu().numpy()
                    counts += torch.from_numpy(confusion(named, labels.cpu().numpy(), logits.shape[1]))
    finally:
        model.train(was_training)
    assert counts is not None
    summed: torch.Tensor = reduce(counts.to(args.device), reduction="sum")
    return summed.cpu().numpy()


def class_names(model: PreTrainedModel) -> list[str]:
    """The names of a model's classes in the order of its logits; none where its config does not name all of them.

    A config's own order says nothing: one whose keys were sorted as text has class 10 before class 2.
    """
    known = {int(number): str(name) for number, name in (getattr(model.config, "id2label", None) or {}).items()}
    return [known[number] for number in sorted(known)] if set(known) == set(range(len(known))) else []


def check_rows(dataset: Any, model: PreTrainedModel, collate: Callable[[list[Any]], Any], processor: Any) -> None:
    """Look at the first row of a test set as ``count_predictions`` will, before an hour of training is for nothing.

    Raises:
        DataError: a row that neither the model nor the processor can take, or of a class that the model does not have.
    """
    with _randomness_kept():
        labels = _inputs(dataset, np.arange(1), model, collate, processor)["labels"]
    features = getattr(dataset, "features", None) or {}
    named = [len(feature.names) for feature in features.values() if isinstance(feature, ClassLabel)]
    classes = max([int(labels.max()) + 1, *(named if len(named) == 1 else [])])
    known = getattr(model.config, "num_labels", classes)
    if classes > known:
        raise DataError(
            f"got a clean test set of {classes} classes for a model of {known}; expected those that it is trained on. "
            f"Load the model with num_labels={classes}, or test it on images of its own classes"
        )


def _inputs(dataset: Any, rows: NDArray[np.int64], model: PreTrainedModel, collate: Any, processor: Any) -> Any:
    """A batch as the model takes it, with its labels."""
    entered = getattr(model, "main_input_name", "pixel_values")
    items = [dataset[int(row)] for row in rows]
    if not isinstance(items[0], Mapping):
        raise DataError(f"got rows of the kind {type(items[0]).__name__}; expected {entered} and labels by name")
    if entered in items[0]:
        known = {entered, "label", "labels", "label_ids"}
        batch = dict(collate([{name: value for name, value in item.items() if name in known} for item in items]))
        if "labels" not in batch:
            raise DataError(f"got rows with {', '.join(items[0])}; expected labels beside {entered}")
        return batch
    if not isinstance(dataset, Dataset) or processor is None or "images" not in inspect.signature(processor).parameters:
        raise DataError(
            f"got test rows with {', '.join(items[0])}; expected {entered} and labels. Prepare them as the training "
            f"images are (dataset.with_transform), or give the Trainer a processing_class (an AutoImageProcessor)"
        )
    columns = find_columns(dataset)
    if dataset.format["type"] != "custom":  # else somebody's own transform
        decoded = ImageFeature(mode=image_mode(dataset, columns))  # whatever it was
        plain = dataset.with_format(None).cast_column(columns.image, decoded)
        items = [plain[int(row)] for row in rows]
    images = [item[columns.image] for item in items]
    if getattr(model.config, "num_channels", 3) == 3:
        images = [image.convert("RGB") for image in images]
    labels = [item[columns.label] for item in items]
    if isinstance(labels[0], str):  # numbers in the order of the alphabet need not be the model's
        names = class_names(model)
        raise DataError(
            f"got test images with labels such as {labels[0]!r} in the column {columns.label!r}; expected numbers of "
            f"the model's classes. Say which is which: dataset.cast_column({columns.label!r}, "
            f"datasets.ClassLabel(names=NAMES)), in the order of the model's {some_of(names)}"
        )
    pixels = processor(images=images, return_tensors="pt")
    return {entered: pixels[entered], "labels": torch.tensor(labels)}


@contextmanager
def _randomness_kept() -> Iterator[None]:
    """Leave the random states as they were found: the transforms of a data set may draw, and the training goes on."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
