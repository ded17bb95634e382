from __future__ import annotations

import json
import logging
import re
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from datasets import ClassLabel, DatasetDict, IterableDataset, Value
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTImageProcessorPil

from hf_unlearnable import DataError, LearnabilityCallback, RecipeError, SourceError, StopWhenLearned
from hf_unlearnable.evaluation.scores import class_accuracies, confusion, protection_score
from hf_unlearnable.evaluation.trainer_predictions import _inputs, _randomness_kept
from hf_unlearnable.files import atomic_write
from hf_unlearnable.modeling import SmallResNetConfig, SmallResNetForImageClassification


def prepared(dataset):
    """The rows as a Trainer takes them."""

    def transform(batch):
        pixels = [torch.tensor(np.asarray(image))[None].float() / 255 for image in batch["image"]]
        return {"pixel_values": pixels, "labels": batch["label"]}

    return dataset.with_transform(transform)


TRAIN, TEST = make_dataset(96), make_dataset(30, seed=1)
UNTYPED = {"bytes": Value("binary"), "path": Value("string")}  # as parquet files of other tools have images


class Tracker(TrainerCallback):
    """What a tracker is told."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, logs))


def trainer(
    tmp_path, *callbacks, epochs=3, train=None, channels=1, learning_rate=5e-3, processing_class=None, **settings
):
    torch.manual_seed(0)
    config = SmallResNetConfig(num_channels=channels, widths=(4, 8), depths=(1, 1), num_labels=3)
    arguments = TrainingArguments(
        str(tmp_path / "out"),
        use_cpu=True,
        seed=0,
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=7,
        learning_rate=learning_rate,
        remove_unused_columns=False,
        save_strategy=settings.pop("save_strategy", "no"),
        report_to=settings.pop("report_to", "none"),
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **settings,
    )
    return Trainer(
        SmallResNetForImageClassification(config),
        arguments,
        train_dataset=train or prepared(TRAIN),
        processing_class=processing_class,
        eval_dataset=prepared(TEST.select(range(6))),
        callbacks=list(callbacks),
    )


def predictions(model, dataset):
    model.eval()
    rows = prepared(dataset)[:]
    with torch.no_grad():
        return model(torch.stack(rows["pixel_values"])).logits.argmax(dim=1).numpy()


def written(tmp_path):
    return json.loads((tmp_path / "out" / "learnability.json").read_text())


def test_a_baseline_that_may_be_luck_gives_no_score(tmp_path, capsys):
    trainer(
        tmp_path, LearnabilityCallback(prepared(TEST.select(range(3))), baseline=0.9, train_images=0), epochs=1
    ).train()
    assert "protection_score" not in written(tmp_path)["last"]
    assert "protection cannot be measured: too few images" in capsys.readouterr().out


def test_the_figures_are_those_of_the_model(tmp_path):
    tracker = Tracker()
    run = trainer(tmp_path, LearnabilityCallback(prepared(TEST), baseline=0.9, trackers=[tracker]))
    run.train()
    named, labels = predictions(run.model, TEST), np.array(TEST["label"])
    clean = float((named == labels).mean())
    train = float(
        (
            predictions(run.model, TRAIN)[np.unique(np.linspace(0, 95, 30).astype(int))]
            == np.array(TRAIN["label"])[np.unique(np.linspace(0, 95, 30).astype(int))]
        ).mean()
    )
    found = written(tmp_path)
    last = found["last"]
    assert last["clean_accuracy"] == clean
    assert last["train_accuracy"] == train
    assert last["gap"] == pytest.approx(train - clean)
    assert last["protection_score"] == pytest.approx((0.9 - clean) / (0.9 - 1 / 3))
    assert last["class_accuracy"] == {
        f"LABEL_{index}": float((named[labels == index] == index).mean()) for index in range(3)
    }
    assert (last["step"], last["epoch"]) == (18, 3.0)
    accuracies = [one["clean_accuracy"] for one in found["history"]]
    assert len(accuracies) == 3
    assert found["peak"]["clean_accuracy"] == max(accuracies) == last["peak_clean_accuracy"]
    assert last["peak_epoch"] == found["peak"]["epoch"] == 1 + int(np.argmax(accuracies))
    assert (found["chance"], found["baseline"], found["test_images"]) == (pytest.approx(1 / 3), 0.9, 30)
    logged = [entry for entry in run.state.log_history if "eval_clean_accuracy" in entry]
    assert [entry["step"] for entry in logged] == [6, 12, 18]
    assert [step for step, _ in tracker.logs] == [6, 12, 18]
    assert {**tracker.logs[-1][1], "step": 18} == logged[-1]
    assert not list((tmp_path / "out").glob(".*"))


def test_accuracies_of_classes_stand_under_their_names_in_a_config_sorted_as_text(tmp_path):
    """Class 10 came before class 2, and every accuracy behind them under another class's name."""
    names = {str(number): f"class {number}" for number in range(12)}
    config = SmallResNetConfig(num_channels=1, widths=(4,), depths=(1,), id2label=dict(sorted(names.items())))
    model = SmallResNetForImageClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.eye(12)[2])  # it names class 2 whatever it is shown
    rows = [{"pixel_values": torch.zeros(1, 8, 8), "labels": number} for number in range(12)]
    arguments = TrainingArguments(
        str(tmp_path / "out"), use_cpu=True, num_train_epochs=1, learning_rate=1e-9, report_to="none", disable_tqdm=True
    )
    callback = LearnabilityCallback(rows, train_images=0)
    Trainer(model, arguments, train_dataset=rows, callbacks=[callback]).train()
    accuracies = written(tmp_path)["last"]["class_accuracy"]
    assert [name for name, accuracy in accuracies.items() if accuracy] == ["class-2"]


def test_the_training_is_what_it_would_be_without(tmp_path):
    alone, measured = trainer(tmp_path), trainer(tmp_path, LearnabilityCallback(prepared(TEST)))
    alone.train()
    measured.train()
    for name, weights in alone.model.state_dict().items():
        assert torch.equal(weights, measured.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"eval_strategy": "steps", "eval_steps": 4}, [4, 8, 12]),
        ({"eval_strategy": "steps", "eval_steps": 5}, [5, 10, 12]),
        ({"eval_strategy": "epoch"}, [6, 12]),
        ({"eval_strategy": "no"}, [6, 12]),
        ({"eval_strategy": "no", "max_steps": 8}, [6, 8]),
        ({"eval_strategy": "epoch", "eval_delay": 2}, [12]),
    ],
)
def test_measured_when_the_trainer_evaluates_and_once(tmp_path, settings, steps):
    run = trainer(tmp_path, LearnabilityCallback(prepared(TEST), train_images=0), epochs=2, **settings)
    run.train()
    run.evaluate()
    assert [one["step"] for one in written(tmp_path)["history"]] == steps
    assert "train_accuracy" not in written(tmp_path)["last"]


def test_a_resumed_training_remembers(tmp_path):
    whole = trainer(tmp_path / "whole", LearnabilityCallback(prepared(TEST)))
    whole.train()
    settings = {"save_strategy": "epoch", "lr_scheduler_type": "linear"}
    first = trainer(tmp_path, LearnabilityCallback(prepared(TEST)), Stop(12), **settings)
    first.train()
    assert len(written(tmp_path)["history"]) == 2
    second = trainer(tmp_path, LearnabilityCallback(prepared(TEST)), **settings)
    second.train(resume_from_checkpoint=True)
    assert written(tmp_path) == written(tmp_path / "whole")


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= self.step


def test_raw_images_go_through_the_processing_class(tmp_path):
    """Greyscale test images for a model of three channels, which is what published processors prepare for."""
    processor = ViTImageProcessorPil(size={"height": 12, "width": 12})
    train = make_dataset(96, channels=3)
    rows = [
        {"pixel_values": torch.tensor(np.asarray(row["image"])).permute(2, 0, 1) / 127.5 - 1, "labels": row["label"]}
        for row in train
    ]
    run = trainer(tmp_path, LearnabilityCallback(TEST), epochs=1, channels=3, train=rows, processing_class=processor)
    run.train()
    pixels = torch.stack([torch.tensor(np.asarray(row["image"]))[None].expand(3, -1, -1) / 127.5 - 1 for row in TEST])
    with torch.no_grad():
        named = run.model.eval()(pixels).logits.argmax(dim=1).numpy()
    assert written(tmp_path)["last"]["clean_accuracy"] == float((named == np.array(TEST["label"])).mean())
    assert "train_accuracy" in written(tmp_path)["last"]


@pytest.mark.parametrize(
    "test",
    [
        TEST.with_format("torch"),
        TEST.with_format("numpy"),
        TEST.cast_column("image", ImageFeature(decode=False)),
        TEST.cast_column("image", ImageFeature(decode=False)).cast_column("image", UNTYPED),
    ],
    ids=["torch", "numpy", "files", "untyped"],
)
def test_raw_images_may_have_any_format(tmp_path, test):
    processor = ViTImageProcessorPil(size={"height": 12, "width": 12})
    found = []
    for raw in (TEST, test):
        options = {"epochs": 1, "channels": 3, "train": prepared(TRAIN), "processing_class": processor}
        run = trainer(tmp_path, callback := LearnabilityCallback(raw, train_images=0), **options)
        collate = run.data_collator
        found.append(_inputs(callback.clean_eval, np.arange(3), run.model, collate, processor))
    assert torch.equal(found[0]["pixel_values"], found[1]["pixel_values"])
    assert torch.equal(found[0]["labels"], found[1]["labels"])


@pytest.mark.parametrize(
    "test",
    [{"a": TEST, "b": TEST}, DatasetDict(a=TEST), TEST.to_iterable_dataset(), None],
    ids=lambda test: str(type(test)),
)
def test_a_test_set_of_another_kind_is_refused_at_once(test):
    with pytest.raises(DataError, match=f"got a {type(test).__name__} as the clean test set; expected a single one"):
        LearnabilityCallback(test)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (LearnabilityCallback, {"train_images": -1}, "LearnabilityCallback: got train_images=-1; expected 0 or"),
        (LearnabilityCallback, {"train_images": 0.5}, "train_images=0.5; expected a whole number, 0 or more"),
        (StopWhenLearned, {"above": "0.6"}, "StopWhenLearned: got above='0.6'; expected a number, an accuracy in"),
        (StopWhenLearned, {"above": 1.0}, "above=1.0; expected an accuracy in"),
        (StopWhenLearned, {"patience": 1.5}, "patience=1.5; expected a whole number"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(kind, given, message):
    tested = [TEST] if kind is LearnabilityCallback else []
    with pytest.raises(RecipeError, match=re.escape(message)):
        kind(*tested, **given)


def test_raw_images_without_a_processing_class(tmp_path):
    with pytest.raises(DataError, match=r"name, image, label; expected pixel_values and labels.*a processing_class"):
        trainer(tmp_path, LearnabilityCallback(TEST), epochs=1).train()


@pytest.mark.filterwarnings("ignore:the labels in the column 'label' are no ClassLabel")
def test_labels_in_words_are_refused_before_the_first_step(tmp_path):
    words = [f"class {label}" for label in TEST["label"]]
    test = TEST.remove_columns("label").add_column("label", words)
    processor = ViTImageProcessorPil(size={"height": 12, "width": 12})
    with pytest.raises(DataError, match=r"labels such as 'class 0' .*cast_column\('label', .* LABEL_0, LABEL_1"):
        trainer(tmp_path, LearnabilityCallback(test), channels=3, processing_class=processor).train()


def test_classes_whose_names_differ_in_signs_alone_stay_two(tmp_path):
    run = trainer(tmp_path, LearnabilityCallback(prepared(TEST), train_images=0), epochs=1)
    run.model.config.id2label = {0: "a/b", 1: "a-b", 2: "c d"}
    run.train()
    assert list(written(tmp_path)["last"]["class_accuracy"]) == ["0-a-b", "1-a-b", "2-c-d"]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (TEST, "a processing_class"),
        (prepared(make_dataset(30, classes=4)), "a clean test set of 4 classes for a model of 3"),
        ([1, 2], "got rows of the kind int; expected pixel_values and labels by name"),
    ],
    ids=["raw", "classes", "no-rows"],
)
def test_a_test_set_that_cannot_be_used_is_refused_before_the_first_step(tmp_path, test, message):
    steps = []
    watch = TrainerCallback()
    watch.on_step_end = lambda *arguments, **more: steps.append(1)
    with pytest.raises(DataError, match=message):
        trainer(tmp_path, LearnabilityCallback(test), watch).train()
    assert steps == []


def test_a_stream_has_no_train_accuracy(tmp_path):
    run = trainer(tmp_path, LearnabilityCallback(prepared(TEST)), max_steps=2)
    rows = [{"pixel_values": row["pixel_values"], "labels": row["labels"]} for row in prepared(TRAIN)]
    run.train_dataset = IterableDataset.from_generator(lambda: iter(rows))
    run.train()
    assert "gap" not in written(tmp_path)["last"]


def test_baseline_of_another_run(tmp_path):
    LearnabilityCallback(TEST, baseline=0.5)
    trainer(tmp_path, LearnabilityCallback(prepared(TEST)), epochs=1).train()
    file = tmp_path / "out" / "learnability.json"
    assert LearnabilityCallback(TEST, baseline=file).baseline == written(tmp_path)["last"]["clean_accuracy"]
    with pytest.raises(SourceError, match=r"nowhere.json.*LearnabilityCallback wrote"):
        LearnabilityCallback(TEST, baseline=tmp_path / "nowhere.json")
    with pytest.raises(RecipeError, match=r"baseline 90; expected an accuracy in \[0, 1\]"):
        LearnabilityCallback(TEST, baseline=90)
    with pytest.raises(DataError, match="empty clean test set"):
        LearnabilityCallback(TEST.select([]))


def test_tensorboard_gets_the_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(tmp_path, LearnabilityCallback(prepared(TEST), baseline=0.9), report_to="tensorboard", epochs=2).train()
    (events,) = (tmp_path / "out" / "runs").glob("*/learnability")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    history = written(tmp_path)["history"]
    for name in ("clean_accuracy", "train_accuracy", "gap", "protection_score", "peak_epoch"):
        seen = [(event.step, event.value) for event in accumulator.Scalars(f"eval/{name}")]
        assert seen == [(one["step"], pytest.approx(one[name])) for one in history]
    assert "eval/clean_accuracy_LABEL_0" in accumulator.Tags()["scalars"]


def test_trackio_keeps_to_the_run_in_progress(tmp_path, monkeypatch):
    """A second `init` begins a second run, which then gets the Trainer's logs too."""
    runs = []
    trackio = MagicMock(__version__="0.43.0", __spec__=ModuleSpec("trackio", None))
    trackio.init = lambda **settings: runs.append([])
    trackio.log = lambda logs: runs[-1].append(logs)
    trackio.context_vars.current_space_id.get.return_value = None
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    trainer(tmp_path, LearnabilityCallback(prepared(TEST)), report_to="trackio", epochs=2, logging_steps=6).train()
    (run,) = runs
    assert [logs["train/global_step"] for logs in run if "eval/clean_accuracy" in logs] == [6, 12]
    assert sum("train/loss" in logs for logs in run) == 2


def test_trackers_that_cannot_be_joined(tmp_path):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=["dvclive", "codecarbon"])
    with pytest.raises(RecipeError, match=r"report_to=dvclive, where a second .*trackers=\[tracker\]"):
        LearnabilityCallback(TEST).on_train_begin(arguments, None, None)


@pytest.mark.parametrize("first", ["measure", "stop"])
@pytest.mark.parametrize("strategy", ["steps", "epoch", "no"])
def test_a_training_that_learns_is_ended(tmp_path, caplog, first, strategy):
    measure, stop = LearnabilityCallback(prepared(TEST)), StopWhenLearned(above=0.6)
    callbacks = [measure, stop] if first == "measure" else [stop, measure]
    run = trainer(tmp_path, *callbacks, epochs=30, learning_rate=2e-2, eval_strategy=strategy, eval_steps=6)
    with caplog.at_level(logging.WARNING, logger="hf_unlearnable.evaluation.callbacks"):
        run.train()
    history = written(tmp_path)["history"]
    above = [one["clean_accuracy"] > 0.6 for one in history]
    assert above.index(True) >= len(above) - 2  # the one before the last where the other callback came first
    assert run.state.global_step < 30 * 6
    assert stop.stopped.startswith("the images are being learned: eval_clean_accuracy is 0.")
    assert [record.message for record in caplog.records] == [stop.stopped]
    assert [entry["learned"] for entry in run.state.log_history if "learned" in entry] == [
        history[above.index(True)]["clean_accuracy"]
    ]


def test_a_training_that_does_not_learn_goes_on(tmp_path, caplog):
    stop = StopWhenLearned(above=0.99, patience=2)
    with caplog.at_level(logging.WARNING, logger="hf_unlearnable.evaluation.callbacks"):
        trainer(tmp_path, LearnabilityCallback(prepared(TEST)), stop, epochs=2).train()
    assert stop.stopped is None
    assert not caplog.records


def test_patience_counts_measurements(tmp_path):
    """Not what compute_metrics says of another set under the same name."""
    stop = StopWhenLearned(above=0.0, patience=2)
    run = trainer(tmp_path, LearnabilityCallback(prepared(TEST)), stop, eval_strategy="epoch")
    run.compute_metrics = lambda predictions: {"clean_accuracy": 1.0}
    run.train()
    _, second = written(tmp_path)["history"]
    assert run.state.global_step == second["step"] == 12
    assert f"eval_clean_accuracy is {second['clean_accuracy']:.3f} at step 12" in stop.stopped


def test_what_would_make_the_figures_wrong_is_said(tmp_path, caplog, monkeypatch):
    turned = TEST.cast_column("label", ClassLabel(names=["class 2", "class 1", "class 0"]))
    with caplog.at_level(logging.WARNING, logger="hf_unlearnable.evaluation.callbacks"):
        trainer(tmp_path, LearnabilityCallback(prepared(TEST)), epochs=1).train()
        assert not caplog.records
        run = trainer(tmp_path, LearnabilityCallback(prepared(turned)), epochs=1)
        monkeypatch.setenv("WORLD_SIZE", "2")  # as a launcher leaves it for a Trainer that does not look
        run.train()
    processes, classes = [record.message for record in caplog.records]
    assert "one of 2 processes, but the Trainer knows of 1" in processes
    assert "classes in another order (class 2, class 1, class 0, …) than" in classes


def test_watching_nothing_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="hf_unlearnable.evaluation.callbacks"):
        trainer(tmp_path, StopWhenLearned(), epochs=1).train()
    assert "found no eval_clean_accuracy" in caplog.text
    for above, patience in ((1.0, 1), (-0.1, 1), (0.5, 0)):
        with pytest.raises(RecipeError, match=r"expected an accuracy|patience=0; expected 1 to"):
            StopWhenLearned(above, patience=patience)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "folder" / "file.json"
    atomic_write(file, "before")
    with pytest.raises(UnicodeEncodeError):
        atomic_write(file, "a" * 100_000 + "\ud800")
    assert file.read_text() == "before"
    atomic_write(file, "after")
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]
    assert file.read_text() == "after"
    assert file.stat().st_mode & 0o777 == file.parent.stat().st_mode & 0o666


def test_scores_are_their_definitions():
    counts = confusion([0, 1, 1, 2], [0, 1, 0, 0], classes=4)
    assert counts.tolist() == [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(class_accuracies(counts), [1 / 3, 1, np.nan, np.nan])
    assert protection_score(0.3, 0.8, 0.1, 100) == pytest.approx(0.5 / 0.7)
    assert np.isnan(protection_score(0.1, 0.1, 0.1, 100))
    with pytest.raises(DataError, match=r"argmax"):
        confusion(np.ones((2, 3)), [0, 1])
    with pytest.raises(DataError, match="whole numbers"):
        confusion([0.5, 1.0], [0, 1])
    with pytest.raises(DataError, match="references from -1 to 1; expected classes from 0 to 2"):
        confusion([0, 1], [-1, 1], classes=3)


def test_random_states_of_gpus_are_left_as_they_were_too(monkeypatch):
    """A model on a GPU, or a transform, draws there. There is none here: two are acted."""
    states = {0: "as it was", 1: "as it was too"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    monkeypatch.setattr(torch.cuda, "get_rng_state", states.__getitem__)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, gpu: states.update({gpu: state}))
    before = torch.get_rng_state()
    with _randomness_kept():
        torch.rand(1)
        states.update({0: "drawn from", 1: "drawn from"})
    assert states == {0: "as it was", 1: "as it was too"}
    assert torch.equal(torch.get_rng_state(), before)
