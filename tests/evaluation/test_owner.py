"""One owner's images among clean ones of others."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from datasets import Image as ImageFeature
from datasets import concatenate_datasets
from helpers.datasets import make_dataset

from hf_unlearnable import DataError, RecipeError, Report, Texture, Training, learnability
from hf_unlearnable.data.columns import Columns, unlabelled
from hf_unlearnable.data.neutral import KINDS, neutral_pictures
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, LEFT_OUT, MIX, PROTECTED
from hf_unlearnable.evaluation.opening import Opened
from hf_unlearnable.evaluation.owner import hold_out, hold_out_own
from hf_unlearnable.evaluation.scores import confusion, owner_figures
from hf_unlearnable.evaluation.verdicts import best_thief, verdict_in_words
from hf_unlearnable.reports.charts import accuracy_chart

QUICK = {"training": Training(epochs=2, batch_size=16), "progress": False}


def of_class(label, count, seed):
    """Images of the bright square in one place of three, without labels."""
    data = make_dataset(3 * count, channels=3, seed=seed)
    return data.filter(lambda one: one == label, input_columns="label").remove_columns("label")


@pytest.fixture(scope="module")
def owned():
    clean = of_class(2, 30, seed=0)
    return {
        "protected": clean.map(Texture().fit(clean, labels="none", progress=False)),
        "clean": clean,
        "test": of_class(2, 12, seed=1),
        "others": make_dataset(90, channels=3, seed=2).filter(lambda one: one < 2, input_columns="label"),
        "others_test": make_dataset(36, channels=3, seed=3).filter(lambda one: one < 2, input_columns="label"),
    }


@pytest.fixture(scope="module")
def report(owned):
    return learnability(**owned, victims=["small-resnet", "random-features"], seeds=(1, 2), **QUICK)


def test_figures_are_their_definitions():
    counts = confusion([0, 0, 2, 2, 1, 2], [0, 2, 2, 2, 1, 0], 3)
    assert owner_figures(counts, 2) == (2 / 3, 2 / 3, 2 / 3)
    never = confusion([0, 0, 1], [0, 2, 1], 3)
    recall, precision, others = owner_figures(never, 2)
    assert (recall, others) == (0, 1)
    assert math.isnan(precision)


def test_what_is_measured_and_on_what(report):
    assert report.cases == [CLEAN, PROTECTED, LEFT_OUT]
    assert report.owner == {"owner": 30, "owner test": 12, "classes": 3, "others": 60, "others test": 24}
    assert report.chance == pytest.approx(1 / 3)
    assert (report.images, report.test_images) == (90, 36)
    # One class is told by nothing but the place of the square; random features see that in clean images.
    lines = {line.case.key: line for line in report.table("random-features", "none")}
    assert lines[CLEAN].last.mean == pytest.approx(1)
    assert lines[CLEAN].precision.mean > 0.9
    assert lines[CLEAN].others.mean > 0.9
    left_out = {line.case.key: line for line in report.table("small-resnet", "none")}[LEFT_OUT]
    assert (left_out.last.mean, left_out.peak.mean) == (0, 0)
    assert math.isnan(left_out.precision.mean)
    assert left_out.seeds == 2


def test_others_with_masks_beside_their_images_are_measured_by_the_column_that_is_named(owned):
    for held in ("others", "others_test"):
        masked = owned[held].add_column("mask", [None] * len(owned[held])).cast_column("mask", ImageFeature())
        sets = {**owned, held: masked, "image_column": "image"}
        assert Opened.of(**sets, largest=32).owner["others"] == 60
    one = {name: part for name, part in sets.items() if name != "others_test"} | {"others": masked}
    assert Opened.of(**one, largest=32).owner["others test"] == 4


def test_the_report_is_kept(report, tmp_path):
    report.save(tmp_path / "learnability.json")
    report.save(tmp_path / "learnability.csv")
    report.save(tmp_path / "learnability.parquet")
    stored = json.loads((tmp_path / "learnability.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored["summary"][0]["precision"]["mean"] is not None
    again = Report.load(tmp_path / "learnability.json")
    assert again.owner == report.owner
    assert again.as_dict() == report.as_dict()
    assert "precision,others" in (tmp_path / "learnability.csv").read_text().splitlines()[0]


def test_the_printed_table_says_what_it_is(report):
    lines = str(report).splitlines()
    assert lines[0] == "Recall of the owner's clean images in % (chance 33.3), 2 seeds"
    assert lines[1].startswith("30 images of the owner among 60 clean ones of 3 other class(es); tested on 12 clean")
    assert lines[2].split() == ["small-resnet", "last", "epoch", "peak", "epoch", "precision", "others"]
    assert any(line.startswith("  owner left out") for line in lines)
    picture = io.BytesIO()
    accuracy_chart(report, picture)
    assert picture.getvalue().startswith(b"\x89PNG")


def test_the_verdict_is_by_recall(report):
    verdict = best_thief(report)
    assert verdict.best == pytest.approx(max(report.accuracy(CLEAN, name) for name in report.victims))
    assert verdict.protected == report.accuracy(PROTECTED, verdict.victim)


def test_a_share_of_the_owners_images_can_be_protected(owned):
    mixed = learnability(**owned, victims="random-features", seeds=(1,), ratios=(0, 0.5, 1), **QUICK)
    assert mixed.cases == [CLEAN, PROTECTED, MIX, CLEAN_PART, LEFT_OUT]
    assert mixed.accuracy(CLEAN_PART) > 0.9  # of half of his images clean, beside all of the others'


def test_a_ratio_counts_the_owners_images_alone(owned):
    """A third of all images is as many as he has, and a part of his; of more of others some would be protected."""
    mixed = learnability(**owned, victims="random-features", seeds=(1,), ratios=(1 / 3,), **QUICK)
    assert mixed.cases == [MIX, CLEAN_PART, LEFT_OUT]
    unlabelled_others = {name: owned[name].remove_columns("label") for name in ("others", "others_test")}
    with pytest.raises(RecipeError, match=r"got the ratio 0\.015, which makes 0 of 30 images protected"):
        learnability(**{**owned, **unlabelled_others}, victims="random-features", ratios=(0.015,), **QUICK)


def test_unlabelled_others_make_it_a_question_of_two_classes(owned):
    others = {name: owned[name].remove_columns("label") for name in ("others", "others_test")}
    two = learnability(**{**owned, **others}, victims="random-features", seeds=(1,), **QUICK)
    assert two.owner["classes"] == 1
    assert "of 1 other class(es)" in str(two)


def test_a_fifth_of_the_others_is_held_out(owned):
    given = {**owned, "others_test": None}
    held = learnability(**given, victims="random-features", seeds=(1,), **QUICK)
    assert (held.owner["others"], held.owner["others test"]) == (48, 12)
    kept, out = hold_out(owned["others"], Columns("image", "label"))
    assert not set(kept) & set(out)
    assert sorted(kept + out) == list(range(60))
    assert np.bincount(np.array(owned["others"]["label"])[out]).tolist() == [6, 6]


def test_sets_of_other_sizes_and_labels_of_the_owner(owned):
    """All that is the owner's is one class; others' images are brought to the same size."""
    labelled = owned["clean"].add_column("label", list(range(30)))
    larger = make_dataset(40, channels=3, side=20, seed=4)
    sets = {**owned, "clean": labelled, "protected": owned["protected"].add_column("label", list(range(30)))}
    found = learnability(**{**sets, "others": larger, "others_test": None}, victims="knn", seeds=(1,), **QUICK)
    assert found.owner["owner"] == 30


def test_too_few_images_are_refused():
    few = make_dataset(4, channels=3)
    with pytest.raises(DataError, match=r"got 4 images of the owner, too few .* expected at least 10, of which 2"):
        hold_out_own(few, unlabelled(few))
    single = concatenate_datasets([make_dataset(3), make_dataset(2)])
    with pytest.raises(DataError, match="a class with a single image"):
        hold_out(single, Columns("image", "label"))


def test_other_classes_to_test_on_are_refused(owned):
    wrong = make_dataset(12, channels=3, classes=2)
    with pytest.raises(DataError, match="other classes to test on than to train on among the others"):
        learnability(**{**owned, "others_test": wrong}, victims="knn", seeds=(1,), **QUICK)
    with pytest.raises(RecipeError, match="a share in"):
        learnability(**owned, victims="knn", seeds=(1,), ratios=(2,), **QUICK)


@pytest.mark.parametrize(("part", "count"), [("clean", 30), ("protected", 30), ("test", 12)])
@pytest.mark.parametrize("among", ["others", "others_test"])
def test_images_of_the_owner_among_the_others_are_refused(owned, part, count, among):
    mixed = concatenate_datasets([owned[among].remove_columns("label"), owned[part].select([1, 2])])
    sets = {name: owned[name].remove_columns("label") for name in ("others", "others_test")}
    told = f"got 2 of the {count} {part} images of the owner among the others too; expected images of other people"
    with pytest.raises(DataError, match=told):
        learnability(**{**owned, **sets, among: mixed}, victims="knn", seeds=(1,), **QUICK)


@pytest.mark.parametrize(
    ("protected", "told"),
    [
        (0.1, "protection score 1.33 (1: protected data teach nothing, 0: all; above 1: the model is below chance)"),
        (0.25, "protection score 1.00 (1: protected data teach nothing, 0: all)"),
        (0.9, "protection score -0.44 (1: protected data teach nothing, 0: all; below 0: more than clean data)"),
    ],
)
def test_a_score_beyond_its_scale_is_told_as_that(report, protected, told):
    def figures(result):
        at = {CLEAN: 0.7, PROTECTED: protected}.get(result.case, 0.0)
        return dataclasses.replace(result, epochs=(at,))

    results = tuple(figures(one) for one in report.results if one.victim == "random-features")
    known = {"test_seen": 0, "test_images": 4000, "owner": {}, "chance": 0.25}
    assert f"  {told}\n" in f"{dataclasses.replace(report, results=results, **known)}\n"


def test_victims_of_another_question_are_not_taken_for_these(owned, tmp_path):
    options = {"victims": "random-features", "seeds": (1,), "keep_in": tmp_path, **QUICK}
    first = learnability(**owned, **options)
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 3
    before = [file.stat().st_mtime_ns for file in files]
    assert learnability(**owned, **options).as_dict() == first.as_dict()
    assert [file.stat().st_mtime_ns for file in files] == before
    assert all(dataclasses.asdict(one)["others"] for one in first.results)


def test_neutral_pictures_are_the_same_for_a_seed():
    one, two, other = neutral_pictures(8), neutral_pictures(8), neutral_pictures(8, seed=1)
    pixels = [np.stack([np.asarray(image) for image in data["image"]]) for data in (one, two, other)]
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])
    assert one.features["label"].names == list(KINDS)
    assert pixels[0].std(axis=(1, 2, 3)).min() > 10  # none is flat


def test_a_model_that_names_everything_the_owners_learned_nothing(report):
    """Its recall is 100 %, of clean and of protected images: no figure of it tells what protection does."""
    sizes = report.owner
    precision = sizes["owner test"] / (sizes["owner test"] + sizes["others test"])
    taken = [
        dataclasses.replace(one, epochs=(1.0,), precision=(precision,), others=(0.0,))
        if one.victim == "small-resnet"
        else one
        for one in report.results
    ]
    mixed = dataclasses.replace(report, results=tuple(taken))
    assert "images of others as the owner's as often" in mixed.untold("small-resnet")
    assert math.isnan(mixed.protection_score("small-resnet"))
    # A seed that names none of the owner's images right says nothing, and does not take the others' word away.
    silent = [
        dataclasses.replace(one, epochs=(0.0,), precision=(0.0,)) if one.seed == 2 else one for one in mixed.results
    ]
    assert mixed.untold("small-resnet") == dataclasses.replace(mixed, results=tuple(silent)).untold("small-resnet")
    assert mixed.ceiling() == report.ceiling("random-features")
    assert not mixed.untold("random-features")
    alone = dataclasses.replace(report, results=tuple(one for one in taken if one.victim == "small-resnet"))
    assert best_thief(alone) is None
    assert "Verdict: none" in verdict_in_words(alone)
