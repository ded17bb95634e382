"""Choosing a method by what thieves learn: the worst thief weighs most, and one of them knows the method."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.datasets import make_dataset, pixels_of

from hf_unlearnable import Method, Texture, get_method
from hf_unlearnable.methods import auto
from hf_unlearnable.methods.auto import Auto
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.waves import LONE, wave
from hf_unlearnable.training.processes import Shard
from hf_unlearnable.training.run import TrainingRun


@pytest.mark.parametrize(("attacked", "chosen"), [(1.0, "noise"), (0.51, "texture")])
def test_the_worst_thief_weighs_most_and_one_knows_the_method(attacked, chosen, monkeypatch):
    """What is left of `texture` under its best attack may outweigh the others, but does not decide alone."""
    monkeypatch.setattr(Auto, "candidates", ("texture", "noise"))
    learned = iter([0.1, 0.1, 0.1, 0.1, attacked, 0.5, 0.4, 0.4, 0.4, 0.4])
    monkeypatch.setattr(auto, "accuracy", lambda network, images, device: next(learned))
    defences, begin = [], TrainingRun.__init__

    def note(self, *args, **options):
        defences.append(str(options["defence"]))
        begin(self, *args, **options)

    monkeypatch.setattr(TrainingRun, "__init__", note)
    data = make_dataset(30, channels=3, side=16, classes=3)
    protect = Auto(thief_steps=1).fit(data, progress=False)

    assert next(learned, None) is None
    assert [one for one in defences if one != "none"] == ["jpeg:10", "principal-directions:2", "jpeg:10", "blur:3"]
    found = protect.description.findings["auto"]
    assert found["chosen"] == chosen
    assert list(found["thieves"]["texture"]) == [
        "small-resnet",
        "strided-resnet",
        "strided-resnet with jpeg:10",
        "mlp",
        "strided-resnet with principal-directions:2",
    ]
    assert found["thieves"]["texture"]["strided-resnet with principal-directions:2"] == pytest.approx(attacked)
    alone = get_method(chosen)().fit(data, progress=False)
    assert (pixels_of(data.map(protect)) == pixels_of(data.map(alone))).all()
    told = Auto.describe(protect.description.findings)
    assert f"{chosen} (chosen)" in told
    mean = (sum(share**2 for share in (0.1, 0.1, 0.1, 0.1, attacked)) / 5) ** 0.5
    assert f"strided-resnet with principal-directions:2 {attacked:.1%}; quadratic mean {mean:.1%}" in told


def test_images_that_are_added_later_get_what_the_chosen_method_gives_them(monkeypatch):
    monkeypatch.setattr(Auto, "candidates", ("noise", "texture"))
    learned = iter([0.9] * 5 + [0.1] * 5)
    monkeypatch.setattr(auto, "accuracy", lambda network, images, device: next(learned))
    data, later = (make_dataset(30, channels=3, side=16, classes=3, seed=seed) for seed in (0, 1))
    protect = Auto(thief_steps=1).fit(data, on_unseen="craft", progress=False)
    alone = get_method("texture")().fit(data, on_unseen="craft", progress=False)
    assert protect.description.findings["auto"]["chosen"] == "texture"
    assert (pixels_of(later.map(protect)) == pixels_of(later.map(alone))).all()


@pytest.mark.parametrize("known", [True, False])
def test_with_and_without_guides_are_both_tried_where_guides_know_the_images(known, monkeypatch):
    """Where they do not, the two are the same bytes: one fit, one set of thieves, and a sentence."""
    settings = f"mi-ue:guides=1,guide_epochs=1,guide_accuracy={0 if known else 1}"
    guided, free = settings, f"{settings},targeted_weight=0"
    monkeypatch.setattr(Auto, "candidates", (guided, free))
    learned = iter([0.9] * 5 + [0.5] * 5)
    monkeypatch.setattr(auto, "accuracy", lambda network, images, device: next(learned))
    data = make_dataset(30, channels=3, side=16, classes=3)
    method = Auto(epochs=2, thief_steps=1)
    protect = method.fit(data, progress=False)

    findings = protect.description.findings
    about = findings["auto"]
    assert list(about["thieves"]) == [guided, free][: 1 + known]
    assert about["same"] == ({} if known else {free: guided})
    assert about["chosen"] == (free if known else guided)
    assert Auto.chosen(findings) == ["mi-ue"]
    assert ("guides" in findings) is not known  # of the candidate that was kept
    assert (f"{free}: the same as {guided} here, since guides know too little" in Auto.describe(findings)) is not known
    bytes_of = [
        pixels_of(data.map(Method.parse(f"{one},epochs=2").fit(data, progress=False))) for one in (guided, free)
    ]
    assert (pixels_of(data.map(protect)) == bytes_of[1]).all()
    assert (bytes_of[0] == bytes_of[1]).all() is not np.bool_(known)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_sign_is_tried_where_images_have_colour(channels, monkeypatch):
    """Of greyscale images drawn signs and one are the same bytes: one fit, one set of thieves, and a sentence."""
    monkeypatch.setattr(Auto, "candidates", ("texture", "texture:signs=one"))
    learned = iter([0.9] * 5 + [0.5] * 5)
    monkeypatch.setattr(auto, "accuracy", lambda network, images, device: next(learned))
    data = make_dataset(30, channels=channels, side=16, classes=3)
    protect = Auto(thief_steps=1).fit(data, progress=False)
    findings = protect.description.findings
    assert findings["auto"]["chosen"] == ("texture" if channels == 1 else "texture:signs=one")
    assert findings["auto"]["same"] == ({"texture:signs=one": "texture"} if channels == 1 else {})
    told = "texture:signs=one: the same as texture here, since images in grey or of one class carry one sign"
    assert (told in Auto.describe(findings)) is (channels == 1)
    bytes_of = [pixels_of(data.map(Texture(signs=signs).fit(data, progress=False))) for signs in ("drawn", "one")]
    assert (pixels_of(data.map(protect)) == bytes_of[channels == 3]).all()
    assert (bytes_of[0] == bytes_of[1]).all() == (channels == 1)


def test_other_peoples_classes_get_no_waves(monkeypatch):
    """One class among them is alone, so that it carries one sign, which is what networks take up in time."""
    monkeypatch.setattr(Auto, "candidates", ("texture", "texture:signs=one"))
    data, others = (make_dataset(30, channels=3, side=16, classes=classes, seed=classes) for classes in (1, 3))
    protect = Auto(thief_steps=1).fit(data, labels="none", others=others, progress=False)
    assert protect.description.findings["auto"]["same"] == {"texture:signs=one": "texture"}
    change = pixels_of(data.map(protect)).astype(int) - pixels_of(data)
    signs = np.sign(change.mean(axis=0))
    assert (signs == signs[..., :1]).all()
    assert any((signs[..., 0] == turn * wave((code,), 16, 16)).all() for code in LONE for turn in (1, -1))


def test_what_it_costs_counts_every_candidate():
    parts = Auto().parts()
    for name in Auto.candidates:
        fit = {part for part in parts if part.startswith(f"{name}: ")}
        assert fit
        assert sum(parts[part] for part in fit) == pytest.approx(sum(Method.parse(name).parts().values()))
        assert [part for part in parts if part.endswith(f" tries {name}")] != []


@pytest.mark.parametrize(("images", "processes", "passes"), [(20, 1, 4), (320, 1, 1), (160, 1, 2), (160, 2, 1)])
def test_thieves_make_as_many_steps_whatever_the_number_of_images(images, processes, passes, monkeypatch):
    """Four steps of 64: four passes over the 16 that are not held out, one over 256; of the images of all processes."""
    monkeypatch.setattr(Auto, "candidates", ("texture",))
    monkeypatch.setattr(Shard, "sum", lambda self, tensor: processes * tensor)  # the others have as many
    epochs, train = [], Task.train

    def note(self, surrogate, data, training, *args):
        epochs.append(training.epochs)
        return train(self, surrogate, data, training, *args)

    monkeypatch.setattr(Task, "train", note)
    Auto(thief_steps=4).fit(make_dataset(images, classes=2), progress=False)
    assert epochs == [passes] * 5
