"""Callbacks for an ordinary ``transformers.Trainer``: what a model really learns from the images it is trained on.

    callbacks = [LearnabilityCallback(test), StopWhenLearned(above=0.5)]
    Trainer(model, arguments, train_dataset=protected, callbacks=callbacks).train()

How the figures get around: a callback is handed no way to call ``Trainer.log``, and the trackers of ``report_to`` have
seen a log before any callback of the user does. So each measurement is appended to ``state.log_history``, where the
Trainer keeps its own logs, saves them with every checkpoint and finds them again when it resumes; it is also all the
memory that the callbacks here have. The trackers get it through callbacks of the same classes that the Trainer makes
from ``report_to``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from datasets import ClassLabel
from tqdm.auto import tqdm
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    TrackioCallback,
    default_logdir,
    get_reporting_integration_callbacks,
)

from hf_unlearnable.data.image_set import chance_of
from hf_unlearnable.errors import DataError, RecipeError, SourceError
from hf_unlearnable.evaluation.scores import class_accuracies, protection_score
from hf_unlearnable.evaluation.trainer_predictions import check_rows, class_names, count_predictions
from hf_unlearnable.files import atomic_write, local_path
from hf_unlearnable.protection.documents import read_json
from hf_unlearnable.settings import Count, Range, check_arguments
from hf_unlearnable.version import versions

FILE = "learnability.json"

PREFIX = "eval_"  # trackers put what begins so beside the Trainer's own evaluations

CLEAN, TRAIN, GAP, SCORE = "clean_accuracy", "train_accuracy", "gap", "protection_score"

PEAK, PEAK_EPOCH = "peak_clean_accuracy", "peak_epoch"

CLASS = f"{CLEAN}_"  # with the name of a class behind it

# Trackers whose callbacks join the run in progress; of the others a second one would begin a run of its own.
JOINING = frozenset(
    {"azure_ml", "clearml", "comet_ml", "dagshub", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"}
)

WITHOUT_FIGURES = frozenset({"codecarbon", "flyte", "kubeflow"})  # kubeflow's shows how far a training is

logger = logging.getLogger(__name__)


class LearnabilityCallback(TrainerCallback):
    """Measure, while a model trains on protected images, how well it does on clean ones.

    At every evaluation of the Trainer, or at every end of an epoch without an ``eval_strategy``, the model classifies
    the clean test set and a part of its own training set. Logged are ``eval_clean_accuracy``, ``eval_train_accuracy``,
    their difference ``eval_gap``, ``eval_protection_score`` (with a baseline), ``eval_peak_clean_accuracy``,
    ``eval_peak_epoch`` and ``eval_clean_accuracy_CLASS`` for each class. ``learnability.json`` in the output folder has
    the last and the peak measurement and all others. The training itself goes as it would without the callback, bit for
    bit. In several processes each classifies rows of its own, and counts are summed: no row counts twice.

    Args:
        clean_eval: clean test images: either what one would give the Trainer as ``eval_dataset`` (rows with
            ``pixel_values`` and ``labels``), or a ``Dataset`` with an ``Image`` and a ``ClassLabel`` column, which the
            Trainer's ``processing_class`` then prepares.
        baseline: clean test accuracy of the same training on clean images, in [0, 1], or the ``learnability.json`` of
            that run; no protection score is given without one, or where guessing may get as far on so few images.
        train_images: how many training images, evenly spaced, the train accuracy is measured on; as many as the clean
            test set has when left out, none for 0.
        trackers: the callbacks that report to trackers. Made from ``report_to`` when left out; a tracker that cannot be
            joined by a second callback needs the one that was given to the Trainer.

    Raises:
        DataError: an empty test set, several, or one without a length.
        RecipeError: a baseline or a number of images out of range.
        SourceError: a baseline file without an accuracy in it.
    """

    @check_arguments
    def __init__(
        self,
        clean_eval: Any,
        baseline: float | str | os.PathLike[str] | None = None,
        *,
        train_images: Annotated[int, Range(least=0, words="0 or more")] | None = None,
        trackers: Sequence[TrainerCallback] | None = None,
    ) -> None:
        rows = hasattr(clean_eval, "__len__") and hasattr(clean_eval, "__getitem__")
        if not rows or isinstance(clean_eval, Mapping):
            raise DataError(
                f"got a {type(clean_eval).__name__} as the clean test set; expected a single one with a length, such "
                f"as one split of a DatasetDict"
            )
        if not len(clean_eval):
            raise DataError("got an empty clean test set; expected at least one image")
        self.clean_eval = clean_eval
        self.baseline = _read_baseline(baseline) if isinstance(baseline, (str, os.PathLike)) else baseline
        if self.baseline is not None and not 0 <= self.baseline <= 1:
            raise RecipeError(f"got the baseline {self.baseline}; expected an accuracy in [0, 1]")
        self.train_images = len(clean_eval) if train_images is None else train_images
        self._given_trackers = trackers
        self._trackers: list[TrainerCallback] = []
        self._training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the trackers; refuse one that would not show the figures. Say what would make the figures wrong.

        Raises:
            DataError: a test set that the model could not be tested on at the first evaluation.
            RecipeError: a tracker that cannot be joined.
        """
        if state is None or state.is_world_process_zero:
            _warn(args, self.clean_eval, kwargs.get("train_dataloader"))
        if (model := kwargs.get("model")) is not None and (training := kwargs.get("train_dataloader")) is not None:
            check_rows(self.clean_eval, model, training.collate_fn, kwargs.get("processing_class"))
        self._trackers = _trackers(args) if self._given_trackers is None else list(self._given_trackers)
        self._training = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure whenever the Trainer evaluates, by step or by epoch."""
        self._measure(args, state, control, **kwargs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure where the Trainer does not evaluate by itself, and after the last step whatever it does."""
        if args.eval_strategy == "no" or (control.should_training_stop and not control.should_evaluate):
            self._measure(args, state, control, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close what was opened for this training."""
        self._training = False
        if self._given_trackers is None:
            for tracker in self._trackers:
                # The others belong to a run that the Trainer's own callback ends.
                if isinstance(tracker, TensorBoardCallback):
                    tracker.on_train_end(args, state, control, **kwargs)

    def _measure(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: PreTrainedModel,
        train_dataloader: Any,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        past = measurements(state)
        # An evaluation outside of a training is not part of its course; several sets to evaluate are one event.
        if not self._training or (past and past[-1]["step"] == state.global_step):
            return
        rows = np.arange(len(self.clean_eval))
        counts = count_predictions(self.clean_eval, rows, args, model, train_dataloader.collate_fn, processing_class)
        names = class_names(model)
        names = names if len(names) == len(counts) else [str(index) for index in range(len(counts))]
        chance = chance_of(counts.sum(axis=1))
        clean = float(counts.trace() / counts.sum())
        figures: dict[str, Any] = {CLEAN: clean}
        train = self._train_accuracy(args, model, train_dataloader)
        if train is not None:
            figures |= {TRAIN: train, GAP: train - clean}
        if self.baseline is not None:
            score = protection_score(clean, self.baseline, chance, int(counts.sum()))
            figures |= {SCORE: score} if math.isfinite(score) else {}
        peak = max([*past, {CLEAN: clean, "epoch": state.epoch}], key=lambda one: one[CLEAN])
        figures |= {PEAK: peak[CLEAN], PEAK_EPOCH: peak["epoch"]}
        figures |= {
            CLASS + name: float(share)
            for name, share in zip(_keys(names), class_accuracies(counts), strict=True)
            if math.isfinite(share)
        }
        log = {f"{PREFIX}{name}": value for name, value in figures.items()} | {"epoch": state.epoch}
        state.log_history.append({**log, "step": state.global_step})
        for tracker in self._trackers:
            tracker.on_log(
                args, state, control, logs=dict(log), model=model, processing_class=processing_class, **kwargs
            )
        if state.is_world_process_zero:
            tqdm.write(_sentence(figures, state, unmeasurable=self.baseline is not None and SCORE not in figures))
            self._save(Path(str(args.output_dir)), measurements(state), chance)

    def _train_accuracy(self, args: TrainingArguments, model: PreTrainedModel, train_dataloader: Any) -> float | None:
        dataset = train_dataloader.dataset
        if not self.train_images or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            return None  # a stream has no rows to come back to
        rows = np.unique(np.linspace(0, len(dataset) - 1, min(self.train_images, len(dataset))).astype(np.int64))
        counts = count_predictions(dataset, rows, args, model, train_dataloader.collate_fn, None)
        return float(counts.trace() / counts.sum())

    def _save(self, folder: Path, history: list[dict[str, Any]], chance: float) -> None:
        document = {
            "last": history[-1],
            "peak": max(history, key=lambda one: one[CLEAN]),
            "history": history,
            "chance": chance,
            "baseline": self.baseline,
            "test_images": len(self.clean_eval),
            "versions": versions(),
        }
        atomic_write(folder / FILE, json.dumps(document, indent=2, allow_nan=False) + "\n")


class StopWhenLearned(TrainerCallback):
    """End a training that has learned what it should not have: for owners who check their own protection.

    Reads what ``LearnabilityCallback`` (or anything else) put into the log history, ends the training when it is above
    a bound, and says so: in the log of this module, in ``stopped``, and as ``learned`` in the log history.

    Args:
        above: the accuracy in [0, 1] that is too high.
        metric: which entry of the log history is watched; ``"eval_accuracy"`` for one of ``compute_metrics``.
        patience: how many measurements in a row must be above the bound.

    Attributes:
        stopped: why the training was ended; None when it was not.

    Raises:
        RecipeError: a bound that no accuracy can pass, or no patience.
    """

    @check_arguments
    def __init__(
        self,
        above: Annotated[float, Range(least=0, below=1, words="an accuracy in [0, 1)")] = 0.5,
        *,
        metric: str = f"{PREFIX}{CLEAN}",
        patience: Count = 1,
    ) -> None:
        self.above, self.metric, self.patience = above, metric, patience
        self.stopped: str | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget an earlier training."""
        self.stopped = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at what was measured: after the evaluation itself, or here where the measuring callback came later."""
        # One value a step, the later one: compute_metrics may log the same name of another set just before.
        of_steps = {entry["step"]: entry[self.metric] for entry in state.log_history if self.metric in entry}
        values = list(of_steps.values())
        if self.stopped or len(values) < self.patience or min(values[-self.patience :]) <= self.above:
            return
        self.stopped = (
            f"the images are being learned: {self.metric} is {values[-1]:.3f} at step {state.global_step}, above "
            f"{self.above:g}. They are not protected against this training; it was ended"
        )
        control.should_training_stop = True
        state.log_history.append({"learned": values[-1], "epoch": state.epoch, "step": state.global_step})
        if state.is_world_process_zero:
            logger.warning(self.stopped)

    on_evaluate = on_step_end
    on_epoch_begin = on_step_end
    on_epoch_end = on_step_end

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say when there was nothing to watch."""
        if state.is_world_process_zero and not any(self.metric in entry for entry in state.log_history):
            logger.warning(
                f"{type(self).__name__} found no {self.metric} in the log history: nothing was watched. Give the "
                f"Trainer a LearnabilityCallback too, or name a metric of your compute_metrics"
            )


def measurements(state: TrainerState) -> list[dict[str, Any]]:
    """What ``LearnabilityCallback`` measured in a training, in order.

    Names are as in the log history without their prefix; ``class_accuracy`` holds those of the classes by name.
    """
    found = []
    for entry in state.log_history:
        if f"{PREFIX}{PEAK}" in entry:
            plain = {name.removeprefix(PREFIX): value for name, value in entry.items()}
            classes = {name.removeprefix(CLASS): plain.pop(name) for name in list(plain) if name.startswith(CLASS)}
            found.append({**plain, "class_accuracy": classes})
    return found


class _Trackio(TrackioCallback):
    """Logs into the run in progress: its set-up would begin a second one, with a name of its own."""

    def setup(self, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, **kwargs: Any) -> None:
        """Leave it to the Trainer's own callback."""
        self._initialized = True


def _warn(args: TrainingArguments, clean_eval: Any, train_dataloader: Any) -> None:
    """Warn of what the Trainer does without a word, and of what the figures would not show."""
    started = os.environ.get("WORLD_SIZE", "")
    if started.isdigit() and int(started) > args.world_size:
        logger.warning(
            f"this is one of {started} processes, but the Trainer knows of {args.world_size}: each trains a model of "
            f"its own, and the last one leaves its {FILE}. On CPUs give TrainingArguments use_cpu=True"
        )
    tested, trained = _class_names(clean_eval), _class_names(getattr(train_dataloader, "dataset", None))
    if tested != trained and sorted(tested) == sorted(trained):
        logger.warning(
            f"the clean test set has its classes in another order ({', '.join(tested[:3])}, …) than the training set "
            f"({', '.join(trained[:3])}, …): unless they are prepared otherwise, the figures are wrong"
        )


def _class_names(dataset: Any) -> list[str]:
    """As a data set's only class label has them; none where there is none."""
    features = getattr(dataset, "features", None) or {}
    names = [feature.names for feature in features.values() if isinstance(feature, ClassLabel)]
    return names[0] if len(names) == 1 else []


def _trackers(args: TrainingArguments) -> list[TrainerCallback]:
    wanted = args.report_to if isinstance(args.report_to, list) else [args.report_to]
    names = [name for name in wanted if name and name != "none" and name not in WITHOUT_FIGURES]
    lonely = sorted(set(names) - JOINING)
    if lonely:
        raise RecipeError(
            f"got report_to={', '.join(lonely)}, where a second callback would begin a run of its own; expected the "
            f"callback itself. Make it, and give it to both: Trainer(callbacks=[tracker, "
            f"LearnabilityCallback(..., trackers=[tracker])]), with report_to='none'"
        )
    own: dict[Any, Any] = {TrackioCallback: _Trackio}
    kinds = get_reporting_integration_callbacks(names)
    trackers: list[TrainerCallback] = [own.get(kind, kind)() for kind in kinds]
    for tracker in trackers:
        if isinstance(tracker, TensorBoardCallback):
            # TensorBoard reads one file a folder: a folder of its own inside of the run's is how it takes several.
            folder = tracker.logging_dir or os.path.join(str(args.output_dir), default_logdir())
            tracker.logging_dir = os.path.join(folder, "learnability")
    return trackers


def _read_baseline(file: str | os.PathLike[str]) -> float:
    try:
        return float(read_json(local_path(file))["last"][CLEAN])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"got the baseline {str(file)!r}, from which no accuracy could be read ({type(error).__name__}: {error}); "
            f"expected the {FILE} that LearnabilityCallback wrote in a training on clean images, or a number"
        ) from error


def _keys(names: Sequence[str]) -> list[str]:
    """Names of classes as trackers take them, who read a slash as a folder; with numbers where two would be one."""
    plain = [re.sub(r"[^\w.-]+", "-", name) for name in names]
    return plain if len(set(plain)) == len(plain) else [f"{number}-{name}" for number, name in enumerate(plain)]


def _sentence(figures: dict[str, Any], state: TrainerState, *, unmeasurable: bool) -> str:
    parts = [f"clean test accuracy {100 * figures[CLEAN]:.1f} %"]
    if TRAIN in figures:
        parts.append(f"train accuracy {100 * figures[TRAIN]:.1f} %")
    if SCORE in figures:
        parts.append(f"protection score {figures[SCORE]:.2f}")
    if unmeasurable:
        parts.append("protection cannot be measured: too few images, the baseline may be luck")
    return f"step {state.global_step}, epoch {state.epoch or 0:.2f}: {', '.join(parts)}"
