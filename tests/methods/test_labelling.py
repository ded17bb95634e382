"""Where the classes come from: a column, one owner, clusters."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from helpers.datasets import make_dataset, pixels_of
from typer.testing import CliRunner

from hf_unlearnable import (
    EM,
    CheckpointError,
    DataError,
    DataWarning,
    Protection,
    RecipeError,
    SourceError,
    Texture,
    UnseenImageError,
)
from hf_unlearnable.cli.command import app
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.methods.labelling import Labels
from hf_unlearnable.progress import heard_by


@pytest.fixture(scope="module")
def unlabelled() -> Dataset:
    return make_dataset(24, channels=3, side=16).remove_columns("label")


@pytest.fixture(scope="module")
def owned(unlabelled, tmp_path_factory) -> Protection:
    folder = tmp_path_factory.mktemp("owned") / "protection"
    return Texture().fit(unlabelled, labels="none", output_dir=folder, progress=False)


def test_labels_are_read_from_text():
    assert Labels.parse("clusters:10,my/model") == Labels("clusters", 10, "my/model")
    assert [str(Labels.parse(text)) for text in ("auto", "none", "clusters:3")] == ["auto", "none", "clusters:3"]
    for wrong in ("clusters", "clusters:1", "clusters:x", "none:3", "ten"):
        with pytest.raises(RecipeError, match=f"got the labels '{wrong}'; expected auto, none, clusters:K"):
            Labels.parse(wrong)


def test_a_set_without_labels_is_one_owners(unlabelled):
    with pytest.warns(DataWarning, match="got no labels among the columns name, image: all images are taken as one"):
        protection = Texture().fit(unlabelled, progress=False)
    assert (protection.description.labels, protection.columns.label) == ("none", None)
    released = unlabelled.map(protection)
    assert protection.verify(unlabelled, released).unchanged == 0
    assert released.features == unlabelled.features


@pytest.mark.parametrize(
    ("labels", "parts"),
    [("clusters:2", {"looking at images"}), ("clusters:2,simclr", {"looking at images", "features without labels"})],
)
@pytest.mark.parametrize("progress", [True, False])
def test_clusters_show_bars_where_the_fit_does(labels, parts, progress, unlabelled):
    heard: set[str] = set()
    with heard_by(lambda part, share: heard.add(part)):
        Texture().fit(unlabelled, labels=labels, progress=progress)
    assert (parts <= heard) if progress else not heard


def test_labels_that_are_there_can_be_left_aside(owned):
    labelled = make_dataset(24, channels=3, side=16)
    protection = Texture().fit(labelled, labels="none", progress=False)
    released = labelled.map(protection, batched=True)
    assert released["label"] == labelled["label"]
    assert np.array_equal(pixels_of(released), pixels_of(labelled.remove_columns("label").map(owned)))
    with pytest.raises(RecipeError, match="got label_column='label' beside labels='none'; expected one or the other"):
        Texture().fit(labelled, labels="none", label_column="label", progress=False)


@pytest.mark.parametrize("options", [{"batched": True, "batch_size": 5}, {"num_proc": 2}])
@pytest.mark.parametrize("kind", [None, "numpy"])
def test_every_way_of_map_gives_the_same_bytes(unlabelled, owned, options, kind):
    expected = pixels_of(unlabelled.map(owned))
    assert np.array_equal(pixels_of(unlabelled.with_format(kind).map(owned, **options).with_format(None)), expected)


def test_pictures_that_came_later_get_the_owners_wave(unlabelled, owned):
    later = make_dataset(30, channels=3, side=16, seed=5).remove_columns("label")
    released = later.map(owned)
    assert owned.verify(later, released).unchanged == 0
    changes = [to_array(row["image"]).astype(int) for row in released]
    changes = [np.sign(one - to_array(row["image"])) for one, row in zip(changes, later, strict=True)]
    fitted = np.sign(owned.perturbation(unlabelled[0]["image"]))
    assert min((one * fitted).mean() for one in changes) > 0.9  # the same wave with the same sign in all channels
    again = later.select([3]).map(owned)
    assert np.array_equal(pixels_of(again)[0], pixels_of(released)[3])


def test_who_wants_an_error_for_them_gets_it(unlabelled):
    protection = Texture().fit(unlabelled, labels="none", on_unseen="error", progress=False)
    with pytest.raises(UnseenImageError):
        protection.protect(make_dataset(1, channels=3, side=16, seed=5)[0]["image"])


def test_a_single_picture_can_be_protected(unlabelled):
    one = unlabelled.select([7])
    assert Texture().fit(one, labels="none", progress=False).verify(one, one.map(Texture().fit(one, labels="none")))


def test_methods_that_tell_classes_apart_say_what_they_need(unlabelled):
    with pytest.raises(DataError, match=r"without a column of type ClassLabel: .*Without labels: the method texture"):
        EM(epochs=1).fit(unlabelled, progress=False)
    with pytest.raises(DataError, match=r"one class only.*For one owner's images use the method texture"):
        EM(epochs=1).fit(unlabelled, labels="none", progress=False)


def test_clusters_are_deterministic_and_kept(unlabelled, tmp_path):
    first, again = (
        Texture().fit(unlabelled, labels="clusters:3", output_dir=tmp_path / name, progress=False)
        for name in ("first", "again")
    )
    assert first.digest == again.digest
    assert first.description.labels == "clusters:3"
    assert first.description.classes.names == ["cluster 1", "cluster 2", "cluster 3"]
    assert EM(epochs=1, batch_size=8).fit(unlabelled, labels="clusters:3", progress=False).description.labels
    # The class of these images is the place of a bright square: what they look like.
    waves = np.stack([np.sign(first.perturbation(row["image"])[2]).ravel() for row in unlabelled])
    alike = (waves @ waves.T) / waves.shape[1] > 0.8
    classes = np.arange(len(unlabelled)) % 3
    assert (alike == (classes[:, None] == classes[None, :])).mean() > 0.9


def test_a_fit_goes_on_with_the_labels_that_it_made_and_with_no_others(unlabelled, tmp_path):
    def fit(labels, *tags):
        data = unlabelled.add_column("tags", [list(tags[row % len(tags)]) for row in range(24)])
        given = {"output_dir": tmp_path / labels[0], "checkpoint_dir": tmp_path / f"kept {labels[0]}"}
        return Texture().fit(data, labels=labels, **given, progress=False)

    assert fit("clusters:3", "a").digest == fit("clusters:3", "b").digest
    first = fit("frequent:tags", "a", "b")
    assert fit("frequent:tags", "a", "b").digest == first.digest
    with pytest.raises(CheckpointError, match="is of another fit: the images or their labels are not those that it"):
        fit("frequent:tags", "a", "a", "b", "b")


def test_clusters_of_features_that_the_images_teach(unlabelled):
    """No model, no network connection: the images themselves are what is learned from."""
    protection = Texture().fit(unlabelled, labels="clusters:3,simclr", progress=False)
    assert protection.description.labels == "clusters:3,simclr"
    released = unlabelled.map(protection)
    assert protection.verify(unlabelled, released).unchanged == 0


def test_clusters_that_cannot_be_made(unlabelled):
    with pytest.raises(DataError, match="got 24 images for 13 clusters; expected at least two images a cluster"):
        Texture().fit(unlabelled, labels="clusters:13", progress=False)
    with pytest.raises(RecipeError, match="got on_unseen='craft' with labels='clusters:3'"):
        Texture().fit(unlabelled, labels="clusters:3", on_unseen="craft", progress=False)


@pytest.mark.parametrize("labels", ["clusters:2,no/such", "captions:2,no/such"])
def test_a_model_for_labels_is_looked_for_before_the_images_and_asked_for_once(hub, tmp_path, labels, caplog):
    for method in ("GET", "HEAD"):
        hub.fail(method, "no/such", "before", times=100)
    done = CliRunner().invoke(app, ["protect", "no images", "--output", str(tmp_path / "out"), "--labels", labels])
    assert isinstance(done.exception, SourceError)
    assert "model 'no/such', neither a folder" in str(done.exception)
    assert "small-resnet" not in str(done.exception)  # nothing that was not trained has features to look at
    assert [request.target for request in hub.received if "no/such" in request.target] == ["/api/models/no/such"]
    assert caplog.records == []
