"""Contract tests: every method that registers itself is held to them, without a new line here."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.datasets import ROOT, make_dataset, pixels_of
from helpers.methods import methods, quick
from PIL import Image

from hf_unlearnable import (
    BEO,
    EM,
    MIUE,
    Auto,
    Budget,
    DataError,
    DataWarning,
    Defence,
    DivergenceError,
    Method,
    OutputError,
    RecipeError,
    Texture,
    get_method,
)
from hf_unlearnable.information.losses import contrastive_loss, distance_loss
from hf_unlearnable.methods import describe_findings, find_paper
from hf_unlearnable.methods.alternating import shared_schedule
from hf_unlearnable.methods.alternating.networks import Learner
from hf_unlearnable.methods.alternating.paper_schedule import PaperSchedule
from hf_unlearnable.training.batches import paired_batches
from hf_unlearnable.training.run import Training


@methods
@pytest.mark.parametrize(
    ("channels", "budget"), [(3, Budget(8)), (1, Budget(5)), (1, Budget(100, "l2")), (3, Budget(100, "l2"))], ids=str
)
def test_every_image_is_changed_within_the_budget(method, budget, channels):
    data = make_dataset(30, channels=channels)
    protection = quick(method).fit(data, budget=budget, progress=False)
    figures = protection.verify(data, data.map(protection))
    assert figures.violations == 0
    assert figures.unchanged == 0


@methods
def test_same_seed_same_bytes_and_other_seed_other_bytes(method):
    data = make_dataset(30)
    torch.manual_seed(1)
    first = quick(method).fit(data, progress=False)
    torch.manual_seed(2)  # the global state must not matter
    second = quick(method).fit(data, progress=False)
    other = quick(method, seed=1).fit(data, progress=False)
    assert first.digest == second.digest
    assert first.folder == second.folder  # named by its digest: the cache of map works from run to run
    assert np.array_equal(pixels_of(data.map(first)), pixels_of(data.map(second)))
    assert not np.array_equal(pixels_of(data.map(first)), pixels_of(data.map(other)))


@methods
def test_fit_leaves_no_trace_but_its_result(method, tmp_path):
    state = torch.get_rng_state()
    quick(method).fit(make_dataset(30), output_dir=tmp_path / "here" / "protection", progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["protection"]


@methods
def test_recipes_are_frozen_and_keyword_only(method):
    recipe = method()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3
    with pytest.raises(TypeError):
        method(3)
    assert eval(repr(recipe), {method.__name__: method}) == recipe
    assert inspect.getdoc(method)


@methods
def test_more_classes_than_rows_in_a_batch(method):
    data = make_dataset(60, classes=12)
    protection = quick(method, batch_size=6).fit(data, progress=False)
    assert protection.about["verification"]["unchanged"] == 0


@methods
@pytest.mark.parametrize(
    ("data", "arguments", "error", "message"),
    [
        (make_dataset().select([]), {}, DataError, "empty"),
        (make_dataset(4), {}, DataError, "single image: class 1, class 2"),
        (make_dataset(), {"budget": 0}, ValueError, "at least 1"),
        (make_dataset(), {"budget": "256/255"}, ValueError, "at most 255"),
        (make_dataset(), {"surrogate": []}, RecipeError, "no surrogate"),
    ],
    ids=["empty", "one-member", "budget-0", "budget-256", "no-surrogate"],
)
def test_what_cannot_be_fitted(method, data, arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        quick(method).fit(data, output_dir=tmp_path / "out", progress=False, **arguments)
    assert list(tmp_path.iterdir()) == []


@methods
@pytest.mark.parametrize("data", [make_dataset(classes=1), make_dataset().remove_columns("label")])
@pytest.mark.filterwarnings("ignore:got no labels")
def test_one_class_is_protected_by_what_needs_no_other(method, data):
    recipe = quick(method)
    if recipe.one_class:
        assert recipe.fit(data, progress=False).about["verification"]["unchanged"] == 0
        return
    with pytest.raises(DataError, match=r"one class only|without a column of type ClassLabel"):
        recipe.fit(data, progress=False)


@methods
def test_an_existing_output_is_refused_before_the_work(method, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        quick(method).fit(make_dataset(), output_dir=tmp_path, progress=False)
    assert (tmp_path / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("schedule", ["shared", "paper"])
def test_a_loss_that_is_not_a_number_stops_the_fit(schedule, tmp_path):
    method = quick(MIUE, schedule=schedule, learning_rate=1e30)
    with pytest.raises(DivergenceError, match="lower learning_rate"):
        method.fit(make_dataset(), output_dir=tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_whatever_run_leaves_is_brought_back_into_the_budget():
    class Careless(Method):
        name = "careless"

        def run(self, task):
            task.perturbations.copy_(torch.linspace(-3, 3, task.perturbations.numel()).view_as(task.perturbations))

    data = make_dataset()
    figures = (protect := Careless().fit(data, budget=Budget(5), progress=False)).verify(data, data.map(protect))
    assert figures.violations == 0
    assert figures.max_perturbation == 5


@pytest.mark.parametrize(
    "stored", [np.zeros((2, 1, 12, 12)), torch.zeros(2, 1, 8, 8), None], ids=["array", "size", "none"]
)
def test_what_is_no_perturbation_is_refused(stored):
    class Odd(Method):
        name = "odd"

        def run(self, task):
            task.store(np.arange(2), stored)

    with pytest.raises(RecipeError, match=r"stored a .*; expected a tensor of the shape \(2, 1, 12, 12\)"):
        Odd().fit(make_dataset(), progress=False)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([0, 99], torch.float32, "stored the rows 0 to 99; expected rows from 0 to "),
        ([-1, 0], torch.float32, "stored the rows -1 to 0"),
        ([0, 1], torch.int64, "a tensor of torch.int64; expected floating point"),
    ],
    ids=["beyond", "below", "integers"],
)
def test_rows_that_are_not_there_and_levels_are_refused(rows, kind, message):
    class Odd(Method):
        name = "odd"

        def run(self, task):
            task.store(np.array([0, 1]), torch.zeros(2, 1, 12, 12, dtype=torch.float64))  # brought to the type of all
            task.store(np.array(rows), torch.zeros(2, 1, 12, 12, dtype=kind))

    with pytest.raises(RecipeError, match=message):
        Odd().fit(make_dataset(), progress=False)


def test_a_perturbation_that_is_not_a_number_is_refused():
    class Broken(Method):
        name = "broken"

        def run(self, task):
            task.perturbations[3] = torch.nan

    with pytest.raises(DivergenceError, match="not finite"):
        Broken().fit(make_dataset(), progress=False)


class Telling(Method):
    name = "telling"
    told = None

    def run(self, task):
        task.perturbations[:] = 0.02
        task.findings["found"] = type(self).told


@pytest.mark.parametrize("share", [np.float32(0.5), np.array([0.5])[0], torch.tensor(0.5), np.array(0.5)])
def test_findings_may_be_numbers_of_numpy_and_torch(share, monkeypatch):
    monkeypatch.setattr(Telling, "told", {"share": share, "counts": np.arange(2)})
    assert Telling().fit(make_dataset(), progress=False).about["findings"] == {
        "found": {"share": 0.5, "counts": [0, 1]}
    }


@pytest.mark.parametrize("found", [float("nan"), np.float32("inf"), {1, 2}, {"deep": [object()]}, {(1, 2): 3}])
def test_findings_that_json_cannot_hold_are_named_and_checkpoints_stay(found, monkeypatch, tmp_path):
    monkeypatch.setattr(Telling, "told", found)
    fit = functools.partial(Telling().fit, make_dataset(), checkpoint_dir=tmp_path / "kept", progress=False)
    with pytest.raises(RecipeError, match=r"the finding 'found', .*; expected finite numbers"):
        fit()
    kept = list((tmp_path / "kept").iterdir())
    assert kept
    monkeypatch.setattr(Telling, "told", "fine")
    assert fit().about["findings"] == {"found": "fine"}


def test_settings_of_numpy_are_plain_numbers():
    made = MIUE(seed=np.int64(3), learning_rate=np.float64(0.1))
    assert made == MIUE(seed=3, learning_rate=0.1)
    assert repr(made) == repr(MIUE(seed=3, learning_rate=0.1))
    assert json.dumps(made.seed) == "3"
    training = Training(epochs=np.int32(2), milestones=np.array([0.5, 0.75]))
    assert repr(training) == repr(Training(epochs=2, milestones=(0.5, 0.75)))
    with pytest.raises(RecipeError, match=r"got seed=3.5; expected a whole number"):
        MIUE(seed=np.float64(3.5))


def test_registry():
    assert get_method("mi-ue") is MIUE
    assert get_method("em") is EM
    with pytest.raises(
        RecipeError, match=r"got the method 'magic'; expected one of ar, auto, beo, cuda, em, lsp, mi-ue"
    ):
        get_method("magic")
    with pytest.raises(RecipeError, match="second method with the name 'em'"):
        type("Again", (Method,), {"run": lambda self, task: None}, name="em")


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("mi-ue", MIUE()),
        ("mi-ue:epochs=3,seed=4", MIUE(epochs=3, seed=4)),
        ("beo:mode=self,refresh=retrain", BEO(mode="self", refresh="retrain")),
        ("beo:sigma=0.3,first_step=0.5,augment=true", BEO(sigma=0.3, first_step=0.5, augment=True)),
        ("beo:sigma=median,first_step=none,objective=cross-entropy", BEO(sigma="median", objective="cross-entropy")),
    ],
)
def test_methods_are_read_from_text(text, method):
    assert Method.parse(text) == method
    assert Method.parse(method) is method


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", r"got the method 'magic'; expected one of ar, auto, beo, cuda, em, lsp"),
        ("beo:self", r"got the method 'beo:self'; expected for beo settings among seed, mode"),
        ("beo:mode=both", r"got mode='both'; expected one of 'reference', 'self'"),
        ("beo:steps=many", "expected 'many' to be of type int"),
        ("beo:first_step=x", "expected 'x' to be of type float"),
        ("em:epochs=1,mode=self", "settings among seed, schedule, epochs"),
    ],
)
def test_text_that_is_no_method(text, message):
    with pytest.raises(RecipeError, match=message):
        Method.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "both"}, "got schedule='both'; expected one of 'shared', 'paper'"),
        ({"epochs": 0}, "got epochs=0; expected 1 to 1,000,000,000"),
        ({"epochs": "3"}, "got epochs='3'; expected a whole number, 1 to 1,000,000,000"),
        ({"epochs": 1.5}, r"got epochs=1\.5; expected a whole number, 1 to 1,000,000,000"),
        ({"copies": True}, "got copies=True; expected a whole number"),
        ({"pattern_share": 2}, r"got pattern_share=2; expected a share in \[0, 1\]"),
        ({"guide_accuracy": 67}, r"got guide_accuracy=67; expected a share in \[0, 1\]"),
        ({"momentum": 5}, "got momentum=5; expected at least 0 and less than 1"),
        ({"temperature": 0}, "got temperature=0; expected more than 0"),
        ({"learning_rate": float("nan")}, "got learning_rate=nan; expected a finite number"),
        ({"distance_weight": -0.1}, r"got distance_weight=-0\.1; expected 0 to"),
        ({"gather_features": 1}, "got gather_features=1; expected True or False"),
        ({"seed": -1}, "got seed=-1; expected 0 to 9,223,372,036,854,775,807"),
    ],
    ids=str,
)
def test_recipes_that_make_no_sense(change, message):
    with pytest.raises(RecipeError, match=f"mi-ue: {message}"):
        MIUE(**change)


@methods
def test_every_method_refuses_settings_of_another_type(method):
    for field in dataclasses.fields(method):
        with pytest.raises(RecipeError, match=f"{method.name}: got {field.name}="):
            method(**{field.name: [object()]})


@methods
def test_every_method_names_an_attack_on_itself(method):
    assert Defence.parse(method.adaptive).name == method.adaptive.partition(":")[0] != "none"


@methods
def test_every_method_describes_what_it_finds_and_only_that(method):
    assert method.describe({}) == ""
    assert isinstance(method.describe(quick(method).fit(make_dataset(30), progress=False).about["findings"]), str)


def test_papers_are_cited_alike_in_the_metrics():
    texts = [file.read_text() for file in (ROOT / "hf_unlearnable" / "metrics").glob("*/*.py")]
    for paper in (MIUE.citation, BEO.citation):
        citing = [text for text in texts if f"{{{paper.key}," in text]
        assert citing
        for text in citing:
            assert all(line.rstrip(",") in text for line in paper.bibtex.splitlines()[:5])


def test_a_method_that_is_not_installed_has_no_paper_and_nothing_to_say():
    assert find_paper("em") is EM.citation
    assert find_paper("of somebody else") is None
    assert describe_findings("of somebody else", {"guides": {}}) == ""


def test_the_paper_recipe_has_the_listed_values():
    recipe = MIUE.paper()
    assert (recipe.epochs, recipe.batch_size, recipe.perturbation_batch_size, recipe.inner_steps) == (100, 128, 512, 10)
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.temperature, recipe.distance_weight, recipe.denominator) == (0.1, 0.1, "all")
    five = MIUE.paper(inner_steps=5, epochs=15)
    assert (five.inner_steps, five.epochs) == (5, 15)
    for wrong in (0, -1, "many", None):
        with pytest.raises(RecipeError, match=f"mi-ue: got inner_steps={wrong!r}; expected "):
            MIUE.paper(inner_steps=wrong)


@pytest.mark.parametrize(
    ("epochs", "inner_steps", "last"), [(100, 10, 0.398), (15, 5, 0.76), (4, 10, 0.35), (1, 10, 0.2)]
)
@pytest.mark.filterwarnings("ignore:6 of 6 images", "ignore:6 rows hold images")
def test_the_steps_of_the_paper_in_every_epoch(epochs, inner_steps, last, monkeypatch):
    """In levels, as the perturbations move: linear in epoch / epochs, so that the last is short of 4 / inner_steps."""
    sizes = []

    def back_and_forth(self, loss, images, perturbations, labels):
        return torch.where(perturbations < 0, -1.0, 1.0)

    monkeypatch.setattr(Learner, "perturbation_gradient", back_and_forth)
    monkeypatch.setattr(PaperSchedule, "_learn", lambda *rest: None)
    monkeypatch.setattr(PaperSchedule, "_epoch", lambda *rest: iter([np.arange(6)]))
    project = Budget.project

    def watching(self, perturbations, images):
        sizes.append(255 * float((perturbations - watching.before).abs().max()))
        watching.before = project(self, perturbations, images)
        return watching.before

    watching.before = torch.zeros(6, 1, 12, 12)
    monkeypatch.setattr(Budget, "project", watching)
    grey = make_dataset(6).map(lambda row: {"image": Image.new("L", (12, 12), 128)})
    MIUE.paper(epochs=epochs, inner_steps=inner_steps).fit(grey, progress=False)
    assert len(sizes) == epochs * inner_steps
    expected = [0.2 + (4 / inner_steps - 0.2) * epoch / epochs for epoch in range(epochs) for _ in range(inner_steps)]
    assert expected[-1] == pytest.approx(last)
    assert sizes == pytest.approx(expected, rel=1e-3)


def test_the_paper_schedule_is_followed(monkeypatch):
    """Learning rates, modes, batch sizes and step sizes as the paper recipe lists them, seen from outside."""
    from hf_unlearnable.methods.alternating import networks

    seen = []
    learn, project = networks.Learner.backward, Budget.project

    def spy_learn(self, logits, labels, *rest):
        seen.append(("learn", self.network.training, len(labels), self.optimiser.param_groups[0]["lr"]))
        return learn(self, logits, labels, *rest)

    def spy_project(self, perturbations, images):
        seen.append(("project", None, len(images), None))
        return project(self, perturbations, images)

    monkeypatch.setattr(networks.Learner, "backward", spy_learn)
    monkeypatch.setattr(Budget, "project", spy_project)
    recipe = MIUE.paper(epochs=4, inner_steps=3, batch_size=10, perturbation_batch_size=20)
    recipe.fit(make_dataset(60), progress=False)
    epoch = ["learn"] * 6 + ["project"] * 9
    assert [kind for kind, *_ in seen] == epoch * 4
    assert {(training, count) for kind, training, count, _ in seen if kind == "learn"} == {(True, 10)}
    assert {count for kind, _, count, _ in seen if kind == "project"} == {20}
    rates = [seen[15 * index][3] for index in range(4)]
    cosine = [1e-6 + (0.1 - 1e-6) * (1 + np.cos(np.pi * index / 4)) / 2 for index in range(4)]
    assert rates == pytest.approx(cosine)


def test_the_perturbation_losses_are_those_of_the_papers():
    generator = torch.Generator().manual_seed(0)
    features, logits = torch.randn(12, 8, generator=generator), torch.randn(12, 3, generator=generator)
    labels = torch.arange(12) % 3
    expected = contrastive_loss(features, labels, temperature=0.1) + 0.1 * distance_loss(features, labels)
    torch.testing.assert_close(MIUE().perturbation_loss(features, logits, labels), expected)
    torch.testing.assert_close(
        MIUE(distance_weight=0).perturbation_loss(features, logits, labels),
        contrastive_loss(features, labels, temperature=0.1),
    )
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(EM().perturbation_loss(features, logits, labels), expected)


@pytest.mark.parametrize("parts", [1, 2], ids=["whole batches", "batches in two parts"])
def test_em_needs_one_backward_pass_where_others_need_two(parts, monkeypatch):
    gradient, of_perturbations_alone = Learner.gradient, []
    monkeypatch.setattr(Learner, "gradient", lambda *args: of_perturbations_alone.append(1) or gradient(*args))
    accelerator = Accelerator(gradient_accumulation_steps=parts)
    data, recipe = make_dataset(24), EM(epochs=3, batch_size=12)
    one = recipe.fit(data, accelerator=accelerator, progress=False)
    assert not of_perturbations_alone
    monkeypatch.setattr(EM, "loss_is_the_surrogates", False)
    two = recipe.fit(data, accelerator=accelerator, progress=False)
    assert of_perturbations_alone
    assert np.array_equal(pixels_of(data.map(one)), pixels_of(data.map(two)))


@pytest.mark.parametrize(("classes", "size"), [(40, 16), (3, 16), (5, 4), (2, 1000)])
def test_paired_batches(classes, size):
    labels = np.random.default_rng(0).permutation(np.arange(203) % classes)
    batches = paired_batches(labels, size, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(203))
    for batch in batches:
        assert np.unique(labels[batch], return_counts=True)[1].min() >= 2
        assert len(batch) <= size + 2
    assert all(len(batch) >= size for batch in batches[:-1])


def test_images_that_stay_as_they_are_are_told(small):
    with pytest.warns(
        DataWarning, match=r"48 of 48 images stay as they are: .* row 4, ….*a larger budget or more epochs"
    ):
        EM(epochs=1, pattern_share=0, first_step=0.01, last_step=0.01).fit(small, progress=False)


@pytest.mark.filterwarnings("ignore:The models that the change", "ignore:The change is mostly")
@pytest.mark.parametrize(
    ("coloured", "expected"), [(0, 1), (1, 2), (2, 2)], ids=["none", "the first start", "both starts"]
)
def test_patterns_that_are_mostly_colour_are_fitted_anew(monkeypatch, coloured, expected):
    starts = []

    def red_against_green(schedule):
        starts.append(schedule)
        patterns = torch.zeros(3, 3, *schedule.task.images.pixels.shape[2:])
        if len(starts) <= coloured:
            patterns[:, 0], patterns[:, 1] = 8 / 255, -8 / 255
        else:
            patterns += 8 / 255
        return patterns

    monkeypatch.setattr(shared_schedule.SharedSchedule, "_first_patterns", red_against_green)
    monkeypatch.setattr(shared_schedule, "MOST_STEPS", 12)
    recipe = EM(batch_size=20, grain=1, compressed=0.0)
    found = recipe.fit(make_dataset(60, channels=3), progress=False).about["findings"]
    assert len(starts) == expected
    assert found["settings"]["epochs"] == 4  # of the last start
    assert (found["channels"]["common"] < 0.25) == (coloured == 2)
    assert found["channels"]["starts"] == expected


@pytest.mark.filterwarnings("ignore:The models that the change", "ignore:The change is mostly")
@pytest.mark.parametrize(("enough", "expected"), [(0.0, 0.0), (2.0, 0.25)], ids=["the first", "the second"])
def test_only_the_second_start_sees_grey_images(monkeypatch, enough, expected):
    seen = []

    def watched(images, generator):
        seen.append(bool((images - images.mean(dim=1, keepdim=True)).abs().max() < 1e-5))
        return images

    monkeypatch.setattr(shared_schedule, "random_crop_flip", watched)
    monkeypatch.setattr(shared_schedule, "COMMON", enough)
    monkeypatch.setattr(shared_schedule, "MOST_STEPS", 60)
    monkeypatch.setattr(shared_schedule, "LEARNED", 0.0)  # all steps are made
    EM(batch_size=20).fit(make_dataset(60, channels=3), progress=False)
    first, second = seen[:60], seen[60:]
    assert not any(first)
    assert len(second) == (60 if expected else 0)
    assert np.mean(second or [0]) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((8, 8, 8), 1), ((8, -8, 0), 0), ((0, 0, 8), 0.114**2 * 3), ((8, 8, -8), 1 / 9)],
    ids=["grey", "red against green", "blue", "yellow against blue"],
)
def test_what_channels_share_is_what_any_grey_keeps(colour, expected):
    """Neither a plain mean nor the weights of Pillow may take it away."""
    patterns = torch.tensor(colour)[None, :, None, None].expand(2, 3, 4, 4) / 255
    schedule = SimpleNamespace(patterns=patterns, carried=torch.tensor([True, True]))
    assert shared_schedule.SharedSchedule.common.fget(schedule) == pytest.approx(expected, abs=1e-6)


def test_a_change_in_colour_is_told_where_passes_were_set(monkeypatch):
    patterns = torch.tensor([8, -8, 0])[None, :, None, None].expand(3, 3, 12, 12) / 255
    monkeypatch.setattr(shared_schedule.SharedSchedule, "_first_patterns", lambda _: patterns.clone())
    found = EM(epochs=1, first_step=0.01, last_step=0.01).fit(make_dataset(30, channels=3), progress=False)
    findings = found.about["findings"]
    assert findings["channels"]["common"] < 0.25
    assert findings["channels"]["starts"] == 1
    assert "without epochs begins anew where it ends so" in EM.describe(findings)


def test_a_change_that_is_mostly_colour_is_told():
    found = {"channels": {"common": 0.13, "expected": 0.25}}
    assert "start" not in EM.describe(found)  # of an earlier version, which did not say
    again = EM.describe({"channels": {**found["channels"], "starts": 2}})
    assert again.endswith("which saw grey images, too, did not help; Texture() makes no such changes.")
    assert "13% of its energy is in what red, green and blue share, and at least 25% should be" in EM.describe(found)
    assert EM.describe({"channels": {"common": 0.3, "expected": 0.25}}) == ""
    learned = {"surrogates": {"accuracy": 1.0, "epochs_to_try": 9}}
    assert "mostly one of colour" in Auto.doubt({**found, **learned, "auto": {"chosen": "mi-ue"}})
    assert Auto.doubt({**found, **learned, "auto": {"chosen": "texture"}}) == ""


def test_a_change_that_its_own_models_have_not_learned_is_told(monkeypatch):
    found = quick(EM, epochs=1).fit(make_dataset(60), progress=False).about["findings"]
    assert 0 <= found["surrogates"]["accuracy"] < 0.9
    assert "Leave epochs out, and the change is fitted until they have." in describe_findings("em", found)
    assert EM.describe({"surrogates": {"accuracy": 0.99, "epochs_to_try": 2}}) == ""
    guided = {**found, "guides": {"accuracy": 0.8, "expected": 0.67, "used": True}}
    assert "change is fitted" not in describe_findings("mi-ue", guided)
    monkeypatch.setattr(shared_schedule, "MOST_STEPS", 3)
    with pytest.warns(DataWarning, match="have not learned it to its end.* More passes protect better: epochs="):
        found = quick(EM, epochs=None).fit(make_dataset(60), progress=False).about["findings"]
    assert f"More passes protect better: epochs={2 * found['settings']['epochs']}." in describe_findings("em", found)


def test_guides_who_know_little_are_left_out():
    """As if there had been no pull, to the byte; and the protection says so."""
    data = make_dataset()
    fits = {
        accuracy: quick(MIUE, epochs=4, guide_accuracy=accuracy).fit(data, progress=False) for accuracy in (0.0, 1.0)
    }
    unguided = quick(MIUE, epochs=4, targeted_weight=0.0).fit(data, progress=False)
    assert np.array_equal(pixels_of(data.map(fits[1.0])), pixels_of(data.map(unguided)))
    assert not np.array_equal(pixels_of(data.map(fits[0.0])), pixels_of(data.map(unguided)))
    assert [fit.about["findings"]["guides"]["used"] for fit in fits.values()] == [True, False]
    assert "(100% are needed): the images were protected without them" in describe_findings(
        "mi-ue", fits[1.0].about["findings"]
    )
    assert "guides" not in unguided.about["findings"]


@pytest.mark.filterwarnings("ignore:The models that the change")
def test_patterns_are_fitted_until_they_are_learned(monkeypatch):
    """And no longer; or as many steps are made as there may be."""
    data, fitted = make_dataset(60, channels=3, side=16), {}
    for learned in (1e9, 0.0):
        monkeypatch.setattr(shared_schedule, "WINDOW", 5)
        monkeypatch.setattr(shared_schedule, "LEARNED", learned)
        monkeypatch.setattr(shared_schedule, "MOST_STEPS", 30)
        protection = quick(EM, epochs=None, batch_size=20).fit(data, progress=False)
        fitted[learned] = protection.about["findings"]["settings"]["epochs"]
    assert fitted == {1e9: 2, 0.0: 10}  # 5 steps, and 30, in passes of 3


def spied_patterns(monkeypatch):
    """The patterns before every step of a fit, as they come."""
    seen, step = [], shared_schedule.SharedSchedule._fit_patterns_to

    def spy(self, *arguments):
        seen.append(self.patterns.clone())
        step(self, *arguments)

    monkeypatch.setattr(shared_schedule.SharedSchedule, "_fit_patterns_to", spy)
    return seen


@pytest.mark.filterwarnings("ignore:The models that the change")
@pytest.mark.parametrize(("classes", "levels", "passes"), [(10, {0}, 10), (12, {-4, 4}, 13)])
def test_patterns_of_many_classes_begin_apart_and_have_more_steps(classes, levels, passes, monkeypatch):
    """At squares of the grain, half as strong as the budget lets them be; without waves the others begin at nothing."""
    begun = spied_patterns(monkeypatch)
    monkeypatch.setattr(shared_schedule, "MOST_STEPS", 20)
    data = make_dataset(60, side=24, classes=classes)
    quick(EM, epochs=None, batch_size=30, from_waves=None if classes > 10 else False).fit(data, progress=False)
    assert len(begun) == 2 * passes  # steps, of 30 images of 60
    patterns = (begun[0] * 255).round()
    assert set(patterns.unique().int().tolist()) == levels
    assert torch.equal(patterns[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2), patterns)
    alike = (patterns[:, None] == patterns[None]).flatten(2).all(dim=2)
    assert int(alike.sum()) == (classes if len(levels) > 1 else classes**2)


def first_patterns(monkeypatch, method, data):
    with monkeypatch.context() as patched:
        begun = spied_patterns(patched)
        method.fit(data, progress=False)
    return begun[0]


def test_patterns_begin_at_the_waves_of_texture_where_no_guide_knows_the_images(monkeypatch):
    """At full strength, those that the same seed draws from the same images; with guides at nothing."""
    data, kept = make_dataset(60, channels=3, side=24), []
    run = Texture.run
    monkeypatch.setattr(Texture, "run", lambda self, task: (run(self, task), kept.extend(task.patterns)))
    Texture(seed=5).fit(data, progress=False)
    waves = kept[0]
    assert waves.abs().min() == waves.abs().max() > 0
    for method in (quick(EM, seed=5), quick(MIUE, seed=5, guide_accuracy=1.0)):
        assert torch.equal(first_patterns(monkeypatch, method, data), waves)
    assert not torch.equal(first_patterns(monkeypatch, quick(EM, seed=6), data), waves)
    assert not first_patterns(monkeypatch, quick(MIUE, guide_accuracy=0.0), data).any()


def test_patterns_begin_at_waves_where_that_is_asked_for(monkeypatch):
    """With guides, of more than ten classes, and of images whose patterns are not fitted; and that is told."""
    many = make_dataset(60, channels=3, side=24, classes=12)
    waves = first_patterns(monkeypatch, quick(MIUE, guide_accuracy=0.0, from_waves=True), many)
    assert waves.abs().min() == waves.abs().max() > 0
    for asked, used in ((None, False), (True, True)):
        protection = quick(EM, epochs=1, from_waves=asked).fit(many, progress=False)
        assert protection.description.settings["from_waves"] is used
    alone = quick(EM, epochs=1, pattern_share=0, first_step=0.01, last_step=0.01, from_waves=True)
    data = make_dataset(48, channels=3, side=16)
    assert np.abs(changes_of(data, alone.fit(data, progress=False))).mean() > 6


def test_what_no_image_carries_does_not_count_as_what_all_channels_share(monkeypatch):
    """Its wave is of all channels, and would hide that the others are all colour."""
    shares, run = [], shared_schedule.SharedSchedule.fit_patterns

    def colour_alone(self, epochs):
        self.patterns[self.carried] *= torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1)
        shares.append((int(self.carried.sum()), self.common))
        run(self, epochs)

    monkeypatch.setattr(shared_schedule.SharedSchedule, "fit_patterns", colour_alone)
    quick(EM, variants=4).fit(make_dataset(60, channels=3, side=24), progress=False)
    assert shares == [(3, pytest.approx(0, abs=1e-6))]  # of 12: classes of 20 images have one variant each


@pytest.mark.parametrize("channels", [1, 3])
def test_every_variant_begins_at_a_wave_of_its_own(channels, monkeypatch):
    monkeypatch.setattr(shared_schedule, "LEAST", 10)
    data = make_dataset(80, channels=channels, side=24)
    patterns = first_patterns(monkeypatch, quick(EM, variants=3), data)
    assert len(patterns) == 9
    alike = (patterns[:, None] == patterns[None]).flatten(2).all(dim=2)
    assert int(alike.sum()) == 9


def test_only_the_owner_among_many_classes_has_a_pattern(monkeypatch):
    begun = spied_patterns(monkeypatch)
    others = make_dataset(48, side=24, classes=12, seed=1)
    quick(EM, epochs=1).fit(make_dataset(20, side=24), labels="none", others=others, progress=False)
    assert begun[0][0].abs().min() == begun[0][0].abs().max() > 0
    assert not begun[0][1:].any()
    assert not torch.equal(begun[-1][0], begun[0][0])
    assert not begun[-1][1:].any()


def test_others_that_are_named_are_refused_with_how_to_open_them():
    with pytest.raises(DataError, match=r"the others dataset: got str; .*load_source\('photos'\)"):
        quick(EM, epochs=1).fit(make_dataset(20, side=24), labels="none", others="photos", progress=False)


def test_what_was_left_open_is_told_as_it_was_settled():
    data = make_dataset(48, channels=3, side=16)
    asked = {"epochs": 2, "grain": 4}
    for guided, copies, compressed in ((True, 2, 0.0), (False, 1, 0.5)):
        method = quick(MIUE, guide_accuracy=0.0 if guided else 1.0, **asked)
        protection = method.fit(data, progress=False)
        told = protection.description.settings
        assert {name: told[name] for name in ("epochs", "grain", "copies", "compressed", "from_waves")} == {
            **asked,
            "copies": copies,
            "compressed": compressed,
            "from_waves": not guided,
        }
        assert protection.about["method"]["copies"] is None  # what was asked for is kept beside it


def changes_of(data, protect):
    return pixels_of(data.map(protect)).astype(int) - pixels_of(data)


def kinds_of(changes):
    """How many different ones there are, where images of one kind are changed alike but for what was clipped."""
    kinds = []
    for change in changes:
        if not any((change != one).mean() < 0.1 for one in kinds):
            kinds.append(change)
    return len(kinds)


def test_every_image_carries_one_of_several_patterns_of_its_class(monkeypatch):
    """So does one that comes later; and a class of few images has fewer patterns."""
    monkeypatch.setattr(shared_schedule, "LEAST", 10)
    data = make_dataset(80, channels=3, side=32)
    labels = np.array(data["label"])
    few = data.select(sorted([*np.flatnonzero(labels != 1), *np.flatnonzero(labels == 1)[:12]]))
    later = make_dataset(80, channels=3, side=32, seed=1)
    for some, asked, expected in ((data, 3, 2), (data, 2, 2), (few, 2, {1: 1}), (data, 1, 1)):
        method = quick(EM, variants=asked, pattern_share=1, epochs=4)
        protect = method.fit(some, on_unseen="craft", progress=False)
        for which in (some, later):
            own, changes = np.array(which["label"]), changes_of(which, protect)
            told = describe_findings("em", protect.about["findings"])
            fewest = expected if isinstance(expected, int) else min(expected.values())
            assert (f"has {fewest} of the {asked} patterns that were asked for, since 10 images" in told) == (
                fewest < asked
            )
            for label in np.unique(own):
                kinds = expected.get(label, 2) if isinstance(expected, dict) else expected
                assert kinds_of(changes[own == label]) == kinds


@pytest.mark.parametrize("side", [12, 13])
def test_patterns_are_as_coarse_as_was_asked_for(side):
    data = make_dataset(48, side=side)
    kinds = [quick(EM, grain=grain, pattern_share=1, from_waves=False) for grain in (2, 1)]
    coarse, fine = (changes_of(data, kind.fit(data, progress=False)) for kind in kinds)
    inner = (pixels_of(data) > 8) & (pixels_of(data) < 247)  # elsewhere the change is clipped
    for change, equal in ((coarse, True), (fine, False)):
        squares = change[:, :12, :12].reshape(48, 6, 2, 6, 2)
        whole = inner[:, :12, :12].reshape(48, 6, 2, 6, 2).all(axis=(2, 4))
        spread = squares.max(axis=(2, 4)) - squares.min(axis=(2, 4))
        assert bool((spread[whole] == 0).all()) == equal


@pytest.mark.parametrize("schedule", ["shared", "paper"])
def test_copies_are_several_surrogates_of_one_kind(schedule):
    data = make_dataset()
    recipe = quick(EM, schedule=schedule, copies=2)
    listed = dataclasses.replace(recipe, copies=1).fit(data, surrogate=["small-resnet"] * 2, progress=False)
    one = dataclasses.replace(recipe, copies=1).fit(data, progress=False)
    two = pixels_of(data.map(recipe.fit(data, progress=False)))
    assert np.array_equal(two, pixels_of(data.map(listed)))
    assert not np.array_equal(two, pixels_of(data.map(one)))
