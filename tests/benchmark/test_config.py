"""What is compared: a file of YAML, refused in its own words."""

from __future__ import annotations

import pytest

from hf_unlearnable import EM, Budget, RecipeError, SourceError
from hf_unlearnable.benchmark.cells import cells_of
from hf_unlearnable.benchmark.config import SUITES, Config, text_of
from hf_unlearnable.benchmark.protocol import DATASETS, THIEVES

OWN = "protocol: none\nmethods: [texture]\nthieves: ['small-resnet; sgd; none']\n"
PATCHES = "datasets: [photo-patches-2000]\n"
DATA = OWN + "datasets: [{name: mine, source: here, epochs: 3}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1", "which is not YAML"),
        ("- a\n", "the file: got ['a']; expected the keys datasets"),
        (PATCHES, "the file: got ['datasets']; expected the keys datasets and methods"),
        (PATCHES + "methods: [em]\nepochs: 3\n", "epochs: got a key that nobody reads; expected one of datasets"),
        (PATCHES + "methods: [em]\nmethods: [texture]\n", "the key 'methods' is there twice"),
        (PATCHES + "methods: []\n", "methods: got []; expected a list of 1 to 200"),
        (PATCHES + "methods: [me]\n", "methods[0]: got the method 'me'; expected one of"),
        (PATCHES + "methods: [texture, 'em:epochs=zero']\n", "methods[1]: got the method 'em:epochs=zero'"),
        (PATCHES + "methods: [em, em]\n", "methods: got ['em', 'em']; expected recipes that differ"),
        (PATCHES + "methods: [em, 'em:seed=1']\nfits: 2\n", "expected recipes that differ, each with the seeds of all"),
        (
            PATCHES + "methods: ['em:epochs=2,epochs=3']\n",
            "methods[0]: got the method 'em:epochs=2,epochs=3'; expected epo",
        ),
        (PATCHES + "methods: [3]\n", "methods[0]: got 3; expected a name"),
        (
            PATCHES + "methods: [em]\nbudgets: [8/255, 8.0]\n",
            "budgets: got ['8/255', 8.0]; expected budgets that differ",
        ),
        (PATCHES + "methods: [true]\n", "methods[0]: got True; expected a name"),
        (PATCHES + "methods: [em]\nbudgets: [8, l7:3]\n", "budgets[1]: got"),
        (PATCHES + "methods: [em]\nfits: 0\n", "fits: got 0; expected a whole number from 1 to 3"),
        (PATCHES + "methods: [em]\nseeds: 4\n", "seeds: got 4; expected a whole number from 1 to 3"),
        (PATCHES + "methods: [em]\nratios: [0, 0.3, 1]\n", "ratios[1]: got 0.3; expected one of 0.0, 0.5, 1.0"),
        (PATCHES + "methods: [em]\nratios: [0.5, 1]\n", "ratios: got [0.5, 1]; expected 0 and 1 among them"),
        (PATCHES + "methods: [em]\nprotocol: v0\n", "protocol: got the protocol 'v0'; expected v1"),
        (PATCHES + "methods: [em]\ntheory: 1\n", "theory: got 1; expected true or false"),
        (
            PATCHES + "methods: [em]\nthieves: [small-resnet]\n",
            "thieves[0]: got 'small-resnet'; expected victim; train",
        ),
        (
            PATCHES + "methods: [em]\nthieves: [random-features; ; none]\n",
            "thieves: got ['random-features; ; none']; expected 'small-resnet; sgd; none' among them, the",
        ),
        (
            PATCHES + "methods: [em]\nthieves: [small-resne; sgd; none]\n",
            "thieves[0]: got the victim 'small-resne'; did",
        ),
        (
            PATCHES + "methods: [em]\nthieves: [kn; ; none]\n",
            "got the victim 'kn'; did you mean 'knn'? Expected one of",
        ),
        (PATCHES + "methods: [em]\nthieves: [knn; ; no]\n", "thieves[0]: got the defence 'no'"),
        (PATCHES + "methods: [em]\nthieves: [knn; ; none]\n", "expected a thief that the protocol sends against photo"),
        ("methods: [em]\ndatasets: [cifar]\n", "datasets[0]: got 'cifar'; expected one of photo-patches-2000"),
        ("methods: [em]\ndatasets: [{name: a, source: b}]\n", "add the line protocol: none"),
        (OWN + "datasets: [{name: a}]\n", "datasets[0].source: got None; expected text"),
        (OWN + "datasets: [{name: a, source: b, epochs: x}]\n", "datasets[0].epochs: got 'x'; expected a whole number"),
        (OWN + "datasets: [{name: a, source: b, digest: c}]\n", "datasets[0].digest: got a key that nobody reads"),
        (DATA.replace("thieves: ['small-resnet; sgd; none']", ""), "no protocol sends any against mine"),
        (PATCHES + "methods: [{released: u/x, name: x}]\n", "methods[0].dataset: got None; expected text"),
        (PATCHES + "methods: [{released: u/x, name: x, dataset: y}]\n", "methods[0].dataset: got 'y'; expected one of"),
        (
            PATCHES + "methods: [em, {released: u/x, name: em, dataset: photo-patches-2000}]\n",
            "methods: got 'em'; expected a name for every set that no other method has",
        ),
    ],
)
def test_what_cannot_be_compared_is_told_with_the_path_of_its_key(text, said):
    with pytest.raises(RecipeError) as raised:
        Config.parse(text, "c.yaml")
    assert str(raised.value).startswith(("c.yaml: ", "got c.yaml"))
    assert said in str(raised.value)


def test_thieves_stand_in_the_order_of_the_protocol_whatever_that_of_the_file():
    listed = "methods: [em]\nthieves: [random-features; ; none, small-resnet; sgd; none]\n"
    text = PATCHES + listed.replace("[random", "['random").replace("none, small", "none', 'small").replace(
        "none]", "none']"
    )
    config = Config.parse(text)
    data = DATASETS["photo-patches-2000"]
    assert [str(thief.victim) for thief in config.thieves_of(data)] == ["small-resnet", "random-features"]
    (protected,) = config.sets_of(data)
    assert str(config.attack_on(protected).victim) == "small-resnet"


def test_keys_can_be_taken_over_from_another_mapping():
    text = (
        "protocol: none\nmethods: [texture]\nthieves: ['knn; ; none']\n"
        "datasets:\n  - &one {name: one, source: here, epochs: 3}\n  - {<<: *one, name: two}\n"
    )
    one, two = Config.parse(text).datasets
    assert (one.name, two.name, two.source, two.epochs) == ("one", "two", "here", 3)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SourceError, match="or one of the suites cpu-quick, cpu, gpu"):
        Config.read(tmp_path / "none.yaml")


@pytest.mark.parametrize("suite", SUITES)
def test_the_suites_of_the_package_follow_the_protocol(suite):
    config = Config.read(suite)
    assert config.protocol == "v1"
    assert text_of(suite).startswith("#")
    for data in config.datasets:
        assert [str(thief.victim) for thief in config.thieves_of(data)] == [one[0] for one in THIEVES[data.thieves]]


def test_every_recipe_gets_its_budgets_fits_and_the_attack_that_its_author_names(monkeypatch):
    monkeypatch.setattr(EM, "adaptive", "grayscale", raising=False)
    text = PATCHES + "methods: [texture, em, {released: u/x, name: theirs, dataset: photo-patches-2000, budget: 16}]\n"
    config = Config.parse(text + "budgets: [8, 16]\nfits: 2\nseeds: 1\n")
    data = DATASETS["photo-patches-2000"]
    sets = config.sets_of(data)
    assert [(one.name, str(one.budget)) for one in sets[:2]] == [("texture", "linf:8")] * 2
    assert [one.method.seed for one in sets[:2]] == [0, 1]
    assert len(sets) == 9
    assert (sets[-1].name, sets[-1].budget) == ("theirs", Budget(16))
    assert len({one.digest for one in sets}) == 9
    attacks = [config.attack_on(one) for one in sets]
    cells = list(cells_of("v1", data, sets, config.thieves_of(data), attacks, config.ratios, config.seeds))
    greyscale = [cell for cell in cells if str(cell.trial.thief.defence) == "grayscale"]
    assert [cell.protected and cell.protected.name for cell in greyscale] == [None, "em", "em", "em", "em"]
    assert len({cell.digest for cell in cells}) == len(cells)


def test_thousands_of_cells_are_planned_in_a_moment():
    budgets = "budgets: [" + ", ".join(str(number) for number in range(1, 41)) + "]\n"
    config = Config.parse(PATCHES + "methods: [texture, em, mi-ue, beo]\n" + budgets + "fits: 3\n")
    data = DATASETS["photo-patches-2000"]
    sets = config.sets_of(data)
    attacks = [config.attack_on(one) for one in sets]
    cells = list(cells_of("v1", data, sets, config.thieves_of(data), attacks, config.ratios, config.seeds))
    assert len(sets) == 480
    assert len(cells) > 8000
