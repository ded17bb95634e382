"""All metrics of the package: a new one is found, and tested as these are, without an edit here."""

from __future__ import annotations

import doctest
import importlib
import runpy
import subprocess
import sys
import zipfile
from types import SimpleNamespace
from unittest.mock import MagicMock
from uuid import uuid4

import evaluate
import numpy as np
import pytest
import torch
from helpers.datasets import ROOT, make_dataset
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from transformers import EvalPrediction

from hf_unlearnable import DataError, RecipeError, available_metrics, load_metric
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.information.mutual_information import (
    histogram_mutual_information,
    intra_class_cosine,
    intra_class_covariance,
    ksg_mutual_information,
    variational_mutual_information,
)
from hf_unlearnable.metrics import FOLDER
from hf_unlearnable.metrics.lpips import load_lpips
from hf_unlearnable.protection.visibility import colour_differences

FILES = ["README.md", "app.py", "requirements.txt"]


def loaded(name, **options):
    """A metric with a file of its own: others of the name wait a second for one whose error is still looked at."""
    return load_metric(name, experiment_id=uuid4().hex, **options)


def test_every_folder_is_a_metric():
    folders = [path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert available_metrics() == sorted(folders)
    assert set(available_metrics()) >= {"learnability", "mutual_information", "imperceptibility"}


@pytest.mark.parametrize("name", available_metrics())
def test_documented_examples_run(name):
    module = importlib.import_module(f"hf_unlearnable.metrics.{name}.{name}")
    examples = doctest.DocTestParser().get_doctest(module._KWARGS_DESCRIPTION, {}, name, None, 0)
    results = doctest.DocTestRunner(verbose=False).run(examples)
    assert results.attempted >= 4
    assert results.failed == 0


@pytest.mark.parametrize("name", available_metrics())
def test_a_folder_is_a_space(name):
    """evaluate itself loads it by its path, as app.py does, and its own checks of a module hold."""
    module = evaluate.load(str(FOLDER / name))
    assert isinstance(module, evaluate.EvaluationModule)
    assert module.name == name
    for text in (module.description, module.inputs_description, module.citation):
        assert text.strip()
    card = (FOLDER / name / "README.md").read_text()
    for needed in (
        "sdk: gradio",
        "app_file: app.py",
        "- evaluate",
        "- metric",
        "## Limitations",
        f'load_metric("{name}")',
    ):
        assert needed in card
    assert "hf-unlearnable[metrics]" in (FOLDER / name / "requirements.txt").read_text()
    assert "sdk_version: 6." in card  # older ones need an older huggingface-hub and Pillow than this package


@pytest.mark.parametrize("name", available_metrics())
def test_the_app_of_a_space_answers(name, monkeypatch):
    """As it starts, with what it shows at first; Gradio itself is too much for a test."""
    shown = []

    def component(**options):
        return options.get("value", Image.new("RGB", (8, 8)))

    def interface(*, fn, inputs, **rest):
        shown.append((fn, inputs))
        return MagicMock()

    gradio = MagicMock(Interface=interface, Error=RuntimeError)
    for kind in ("Textbox", "Number", "Dropdown", "CheckboxGroup", "Image"):
        setattr(gradio, kind, component)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.chdir(FOLDER / name)
    runpy.run_path("app.py")
    ((answer, inputs),) = shown
    results = answer(*inputs)
    assert results
    assert all(np.isfinite(value) for value in results.values())
    with pytest.raises(RuntimeError, match=r"expected two images|Expecting value"):  # on the page, not only in a log
        answer(None if name == "imperceptibility" else "[", *inputs[1:])


def test_the_wheel_holds_the_spaces(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for name in available_metrics():
        assert {f"hf_unlearnable/metrics/{name}/{file}" for file in (*FILES, f"{name}.py")} <= held


def test_unknown_metric():
    with pytest.raises(RecipeError, match=r"'accuracy'; expected one of .*learnability"):
        load_metric("accuracy")


def test_an_option_that_nobody_reads_and_an_accuracy_that_is_none_are_told_at_once():
    with pytest.raises(RecipeError, match=r"the option 'base_line' of the metric 'learnability'.* one of baseline,"):
        load_metric("learnability", base_line=0.9)
    with pytest.raises(RecipeError, match=r"got baseline=81; expected an accuracy in \[0, 1\]"):
        load_metric("learnability", baseline=81)
    assert load_metric("bayes_error", experiment_id="mine").experiment_id == "mine"


def test_learnability_against_scikit_learn():
    rng = np.random.default_rng(0)
    named, true = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    results = loaded("learnability").compute(predictions=named, references=true, baseline=0.8, chance=0.25)
    accuracy = accuracy_score(true, named)
    assert results["clean_accuracy"] == pytest.approx(accuracy)
    assert results["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, named))
    assert results["protection_score"] == pytest.approx((0.8 - accuracy) / 0.55)
    own = loaded("learnability").compute(predictions=named, references=true)
    assert own["chance"] == np.bincount(true).max() / 200
    assert "protection_score" not in own
    with pytest.raises(RecipeError, match="baseline=80"):
        loaded("learnability").compute(predictions=named, references=true, baseline=80)


def test_combined_and_in_batches():
    both = evaluate.combine([loaded("learnability", baseline=0.9), loaded("learnability", baseline=0.5)])
    for start in (0, 2):
        predictions, references = [0, 1, 1, 0][start : start + 2] * 5, [0, 1, 0, 1][start : start + 2] * 5
        both.add_batch(predictions=predictions, references=references)
    results = both.compute()
    assert results["learnability_0_clean_accuracy"] == results["learnability_1_clean_accuracy"] == 0.5
    assert results["protection_score"] == pytest.approx(1)
    assert "learnability_1_protection_score" not in results  # its baseline is no better than chance
    features = np.random.default_rng(0).standard_normal((40, 3)).tolist()
    mixed = evaluate.combine({"one": loaded("mutual_information"), "two": loaded("mutual_information")})
    results = mixed.compute(predictions=features, references=features)
    assert results["one_mutual_information_histogram"] == results["two_mutual_information_histogram"] > 1


def test_as_compute_metrics_of_a_trainer():
    learnability = loaded("learnability", baseline=1.0, chance=0.0)
    logits, labels = np.array([[0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]), np.array([1, 0, 0, 1])
    evaluated = EvalPrediction(predictions=logits, label_ids=labels)
    results = learnability.compute(predictions=evaluated.predictions.argmax(-1), references=evaluated.label_ids)
    assert (results["clean_accuracy"], results["protection_score"]) == (0.5, 0.5)
    assert all(isinstance(value, float) for value in results.values())  # what trackers take


def test_mutual_information_is_the_functions():
    rng = np.random.default_rng(0)
    clean, labels = rng.standard_normal((60, 3)).astype(np.float32), rng.integers(0, 3, 60)
    poisoned = (clean + rng.standard_normal((60, 3))).astype(np.float32)
    results = loaded("mutual_information").compute(
        predictions=poisoned,
        references=clean,
        estimators=["histogram", "ksg", "variational"],
        labels=labels,
        bins=5,
        neighbours=4,
        components=2,
        steps=20,
        seed=1,
    )
    assert results == {
        "mutual_information_histogram": histogram_mutual_information(clean, poisoned, bins=5),
        "mutual_information_ksg": ksg_mutual_information(clean, poisoned, neighbours=4, components=2, seed=1),
        "mutual_information_variational": variational_mutual_information(clean, poisoned, steps=20, seed=1),
        "intra_class_covariance": intra_class_covariance(poisoned, labels),
        "intra_class_cosine": intra_class_cosine(poisoned, labels),
    }
    with pytest.raises(RecipeError, match="'mine'"):
        loaded("mutual_information").compute(predictions=clean, references=clean, estimators=["mine"])


@pytest.mark.parametrize("channels", [1, 3])
def test_imperceptibility_against_its_definitions(channels):
    originals = make_dataset(4, channels=channels, side=16)["image"][:]
    rng = np.random.default_rng(0)
    arrays = [np.asarray(image) for image in originals]
    released = [np.clip(array + rng.integers(-8, 9, array.shape), 0, 255).astype(np.uint8) for array in arrays]
    released[3] = arrays[3]
    results = loaded("imperceptibility").compute(predictions=released, references=originals)
    changes = [one.astype(float) - other for one, other in zip(released, arrays, strict=True)]
    assert results["linf"] == max(np.abs(change).max() for change in changes)
    assert results["l2"] == pytest.approx(np.mean([np.sqrt((change**2).sum()) for change in changes]))
    assert results["mean_change"] == pytest.approx(np.mean(np.abs(changes)))
    assert results["unchanged"] == 1
    pairs = list(zip(arrays, released, strict=True))
    assert results["psnr"] == pytest.approx(np.mean([peak_signal_noise_ratio(*pair) for pair in pairs[:3]]))
    axis = None if channels == 1 else 2
    assert results["ssim"] == pytest.approx(
        np.mean([structural_similarity(*pair, channel_axis=axis) for pair in pairs])
    )
    arrays = [(to_array(original), to_array(image)) for original, image in pairs]
    assert results["delta_e"] == pytest.approx(np.mean(colour_differences(arrays)))
    assert "lpips" not in results


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_of_images_with_alpha_the_colour_is_measured(mode):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)).convert(mode) for _ in range(4)]
    given = {"lpips": lambda one, other: (one - other).abs().mean()}
    results = loaded("imperceptibility").compute(predictions=images[:2], references=images[2:], **given)
    plain = [image.convert(mode[:-1]) for image in images]
    assert results == loaded("imperceptibility").compute(predictions=plain[:2], references=plain[2:], **given)


def test_lpips_is_given_what_the_package_of_that_name_takes():
    seen = []

    def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append((one, other))
        return (one - other).abs().mean()

    original, released = np.zeros((6, 6), np.uint8), np.full((6, 6), 255, np.uint8)
    results = loaded("imperceptibility").compute(predictions=[released], references=[original], lpips=distance)
    assert results["lpips"] == pytest.approx(2)
    assert [tensor.shape for tensor in seen[0]] == [(1, 3, 6, 6)] * 2
    assert (seen[0][0].unique().tolist(), seen[0][1].unique().tolist()) == ([-1.0], [1.0])


def weights_here(monkeypatch, folder):
    """Stand-ins for torchvision, which tells where weights come from, and torchmetrics, which loads them."""
    made = []

    def model(net_type):
        made.append(net_type)
        return lambda one, other: (one - other).abs().mean()

    monkeypatch.setitem(sys.modules, "torchvision", MagicMock())
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url="https://nowhere/models/net-1234.pth"))
    models = MagicMock(get_model_weights=lambda name: weights)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    for module in ("torchmetrics", "torchmetrics.image"):
        monkeypatch.setitem(sys.modules, module, MagicMock())
    lpip = MagicMock(LearnedPerceptualImagePatchSimilarity=model)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", lpip)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    return made


def test_lpips_where_its_weights_are(monkeypatch, tmp_path):
    load_lpips.cache_clear()
    made = weights_here(monkeypatch, tmp_path)
    metric = loaded("imperceptibility")

    def results(side, **options):
        released, original = np.full((side, side), 255, np.uint8), np.zeros((side, side), np.uint8)
        return metric.compute(predictions=[released, original], references=[original, original], **options)

    assert "lpips" not in results(32)
    with pytest.raises(RecipeError, match=r"vgg16, which are not at .*checkpoints.*vgg16\(weights='DEFAULT'\)"):
        results(32, lpips="vgg")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "net-1234.pth").touch()
    assert results(32)["lpips"] == pytest.approx(1)  # the mean of a pair that is 2 apart and of an equal one
    assert results(32, lpips="vgg")["lpips"] == pytest.approx(1)
    assert made == ["alex", "vgg"]
    assert "lpips" not in results(32, lpips=None)
    assert "lpips" not in results(30)
    with pytest.raises(DataError, match="images of 30 pixels a side for lpips='alex'"):
        results(30, lpips="alex")
    with pytest.raises(RecipeError, match="LPIPS network 'resnet'; expected one of alex, vgg, squeeze"):
        results(32, lpips="resnet")
    load_lpips.cache_clear()


def test_lpips_without_its_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(RecipeError, match="needs torchmetrics and torchvision"):
        load_lpips("squeeze")


def test_images_of_other_sizes():
    with pytest.raises(DataError, match=r"row 0: got a released image of \(1, 5, 5\)"):
        loaded("imperceptibility").compute(
            predictions=[np.zeros((5, 5), np.uint8)], references=[np.zeros((6, 6), np.uint8)]
        )


def test_bayes_error_is_the_vote_of_the_others():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 30)
    features = (rng.standard_normal((30, 2)) + labels[:, None]).astype(np.float32)

    def error(keys, key_labels, sigma, masked):
        weights = np.exp(-((features[:, None] - keys[None]) ** 2).sum(axis=-1) / (2 * sigma**2))
        weights[masked] = 0
        posterior = np.stack([weights[:, key_labels == one].sum(axis=1) for one in range(3)], axis=1)
        return (1 - (posterior / posterior.sum(axis=1, keepdims=True)).max(axis=1)).mean()

    metric = loaded("bayes_error")
    results = metric.compute(features=features, labels=labels, sigma=0.8)
    assert results == {"bayes_error": pytest.approx(error(features, labels, 0.8, np.diag_indices(30))), "sigma": 0.8}
    held_out = metric.compute(
        features=features,
        labels=labels,
        sigma=0.8,
        reference_features=features[:20],
        reference_labels=labels[:20],
        self_index=[*range(20), *[-1] * 10],
    )
    masked = (np.arange(20), np.arange(20))
    assert held_out["bayes_error"] == pytest.approx(error(features[:20], labels[:20], 0.8, masked), rel=1e-5)
    with pytest.raises(DataError, match="a part of a reference"):
        metric.compute(features=features, labels=labels, reference_features=features)


def test_self_index_may_be_an_array():
    rows, labels = np.arange(6.0)[:, None], np.arange(6) % 2
    reference = {"reference_features": rows, "reference_labels": labels, "sigma": 1.0}
    own = loaded("bayes_error").compute(features=rows, labels=labels, sigma=1.0)
    told = loaded("bayes_error").compute(features=rows, labels=labels, self_index=np.arange(6), **reference)
    assert told == own


ROWS, TWO = [[0.0], [0.1], [1.0], [1.1]], [0, 0, 1, 1]
HELD = {"reference_features": ROWS, "reference_labels": TWO}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": [[np.nan], *ROWS[1:]]}, DataError, "features that are not finite in row 0"),
        ({"features": [*ROWS[:3], [np.inf]]}, DataError, "features that are not finite in row 3"),
        ({"features": (np.array(ROWS) * 1e30).tolist()}, DataError, r"up to 1.1e\+30, whose distances leave"),
        ({"features": [[0.0], [0.1, 3.0], [1.0], [1.1]]}, DataError, r"features that are no table of numbers"),
        ({"labels": [0, 0, -1, 1]}, DataError, r"labels as int64 \(4,\) from -1 to 1; expected 4 whole numbers from 0"),
        ({"labels": [0, 0, 10**7, 1]}, DataError, r"from 0 to 10000000; expected 4 whole numbers from 0 to 32,768"),
        ({"labels": [0.5, 0.5, 1.5, 1.5]}, DataError, r"labels with 0.5; expected classes"),
        ({"sigma": "auto"}, RecipeError, r"sigma='auto'; expected a number above zero"),
        ({**HELD, "reference_features": [[0.0, 1.0]] * 4}, DataError, r"shape \(4, 2\); expected \(N, 1\)"),
        ({**HELD, "reference_labels": TWO[:3]}, DataError, r"reference_labels as int64 \(3,\).*expected 4"),
        ({**HELD, "reference_labels": [0.5] * 4}, DataError, r"reference_labels as float64"),
        ({**HELD, "self_index": [0, 1, 2, 4]}, DataError, r"self_index .* from 0 to 4; expected 4 .*from -1 to 3"),
        ({**HELD, "self_index": [0, 1]}, DataError, r"self_index as int64 \(2,\).*expected 4"),
        ({"self_index": np.arange(4)}, DataError, "a part of a reference"),
    ],
)
def test_bayes_error_refuses_what_it_cannot_be_estimated_from(change, error, message):
    with pytest.raises(error, match=message):
        loaded("bayes_error").compute(**{"features": ROWS, "labels": TWO, **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimators": ["ksg"], "components": 0}, "components=0; expected 1 to 1,000,000,000 or None"),
        ({"estimators": ["variational"], "steps": 0}, "steps=0; expected 1 to"),
        ({"estimators": None}, "estimators None; expected a list of some of histogram"),
        ({"estimators": []}, r"estimators \[\]; expected a list of some of histogram"),
        ({"estimators": "ksg"}, "estimators 'ksg'; expected a list"),
    ],
)
def test_mutual_information_refuses_what_is_no_setting(options, message):
    rows = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.raises(RecipeError, match=message):
        loaded("mutual_information").compute(predictions=rows, references=rows, **options)
    within = loaded("mutual_information").compute(predictions=rows, references=rows, estimators=[], labels=[0] * 20)
    assert set(within) == {"intra_class_covariance", "intra_class_cosine"}


def test_learnability_refuses_what_are_no_classes_and_no_accuracies():
    metric = loaded("learnability")
    with pytest.raises(DataError, match=r"predictions with 0.7; expected classes, which are whole numbers"):
        metric.compute(predictions=[0.7, 1.2], references=[0, 1])
    with pytest.raises(DataError, match=r"references with nan"):
        loaded("learnability").compute(predictions=[0, 1], references=np.array([0, np.nan]))
    with pytest.raises(DataError, match=r"classes up to 10,000,000; expected them to be numbered from 0"):
        loaded("learnability").compute(predictions=[0, 10**7], references=[0, 1])
    with pytest.raises(RecipeError, match=r"baseline='0.8'; expected an accuracy"):
        loaded("learnability").compute(predictions=[0, 1], references=[0, 1], baseline="0.8")
    whole = loaded("learnability").compute(predictions=np.array([0.0, 1.0]), references=torch.tensor([0, 1]))
    assert whole["clean_accuracy"] == 1


def test_rows_one_by_one_are_refused_as_batches_are():
    with pytest.raises(DataError, match=r"predictions with 0.9; expected classes, which are whole numbers"):
        loaded("learnability").add(prediction=0.9, reference=1)
    with pytest.raises(DataError, match=r"references with 'dog'"):
        loaded("learnability").add(prediction=0, reference="dog")
    with pytest.raises(DataError, match=r"labels with 0.5"):
        loaded("bayes_error").add(features=[0.0], labels=0.5)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"got float64 \(8, 8, 3\) as prediction; expected a Pillow image"):
        loaded("imperceptibility").add(prediction=image / 255, reference=image)
    metric = loaded("learnability")
    for named, true in ((0, 0), (1.0, 1), (np.int64(1), torch.tensor(0))):
        metric.add(prediction=named, reference=true)
    assert metric.compute()["clean_accuracy"] == pytest.approx(2 / 3)
    metric = loaded("imperceptibility")
    metric.add(prediction=image, reference=Image.fromarray(image))
    assert metric.compute()["unchanged"] == 1


def test_one_image_is_no_list_of_images():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    for one in (image, image[:, :, 0]):
        with pytest.raises(DataError, match=r"got one image of shape \(8, 8.*; expected a list of images"):
            loaded("imperceptibility").compute(predictions=one, references=one)
    results = loaded("imperceptibility").compute(predictions=image[None], references=[image])
    assert results["unchanged"] == 1


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8, 3)), np.zeros((8, 8, 3), bool), np.full((8, 8, 3), 300, np.int16), np.zeros((3, 8, 8), np.uint8)],
    ids=["floats", "bool", "more than 8 bits", "channels first"],
)
def test_an_array_that_is_no_image_is_told_in_a_sentence(array):
    for given in ([array], array[None]):
        with pytest.raises(DataError, match=r"as predictions\[0\]; expected a Pillow image, or uint8 \(H, W\)") as told:
            loaded("imperceptibility").compute(predictions=given, references=given)
        assert len(str(told.value)) < 300  # and not all of its numbers


def test_names_of_classes_are_no_classes():
    with pytest.raises(DataError, match=r"got predictions with .*'cat'.*expected the numbers of classes"):
        loaded("learnability").compute(predictions=["cat", "dog"], references=["cat", "cat"])


def test_a_sigma_that_is_too_small_is_what_is_wrong():
    with pytest.raises(DataError, match=r"got sigma=1e-300"):
        loaded("bayes_error").compute(features=[[0.0], [1.0], [3.0], [4.0]], labels=[0, 0, 1, 1], sigma=1e-300)
