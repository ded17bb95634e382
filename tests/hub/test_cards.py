from __future__ import annotations

import dataclasses
import json
import os
import re

import pytest
import yaml
from helpers.datasets import ROOT, described
from helpers.loopback_hub import check_yaml
from huggingface_hub import DatasetCard, ModelCard

from hf_unlearnable import Budget, DataError, RecipeError, Report, available_methods, get_method
from hf_unlearnable.evaluation.verdicts import best_thief, verdict_in_words
from hf_unlearnable.hub.cards import DatasetFacts, ModelFacts, dataset_card, model_card
from hf_unlearnable.models.public_names import public_name
from hf_unlearnable.protection.description import Description

EXAMPLES = ROOT / "model_cards" / "examples"
MEASURED = json.loads((ROOT / "tests" / "hub" / "measured.json").read_text())  # a real run: see model_cards/README.md


def measured_report() -> Report:
    """Figures as ``measure --suite quick`` found them."""
    return Report.of(MEASURED["report"])


def report_of(protected, **changed) -> Report:
    """That of the ordinary thief alone, who gets so much out of protected images."""
    report = measured_report()
    results = [
        dataclasses.replace(result, **changed, **({"epochs": (protected,)} if result.case == "protected" else {}))
        for result in report.results
        if (result.victim, result.defence) == ("small-resnet", "none")
    ]
    return dataclasses.replace(report, results=tuple(results))


def facts(**changed) -> DatasetFacts:
    given = {
        "repo_id": "me/fashion-mnist-protected",
        "images": MEASURED["protection"]["images"],
        "protection": Description.of(MEASURED["protection"]),
        "verification": MEASURED["verification"],
        "report": measured_report(),
        "carried": {"license": "mit"},
        "source": "zalando-datasets/fashion_mnist",
        "title": "Fashion-MNIST, protected",
        "description": "1,000 images of clothes.",
        "preview": "preview.png",
    }
    return DatasetFacts(**{**given, **changed})


MODEL = ModelFacts(
    repo_id="me/fashion-mnist-surrogate",
    role="surrogate",
    architecture="SmallResNetForImageClassification",
    parameters=78042,
    classes=10,
    built_in=True,
    method="mi-ue",
    licence="apache-2.0",
    title="A surrogate for Fashion-MNIST",
    description="Kept for repeating the benchmark.",
)
VICTIM = dataclasses.replace(
    MODEL,
    repo_id="me/fashion-mnist-victim",
    role="victim",
    title="A victim",
    case="protected",
    accuracy=measured_report().accuracy("protected", "small-resnet", defence="none"),
)
CARDS = {
    "dataset.md": lambda: dataset_card(facts()),
    "dataset_not_measured.md": lambda: dataset_card(facts(report=None, source=None, carried={}, preview=None)),
    "surrogate.md": lambda: model_card(MODEL),
    "victim.md": lambda: model_card(VICTIM),
}


def test_a_card_tells_of_an_adaptive_budget_and_of_the_colour_difference():
    described = dataclasses.replace(facts().protection, budget=Budget(8, visibility="adaptive"))
    card = dataset_card(facts(protection=described, verification={**facts().verification, "delta_e": 0.594}))
    assert "`linf:8:adaptive`: every channel of every pixel by at most 8 levels of 255, down to a third" in card
    assert "mean colour difference\n0.59 (CIEDE2000" in card


def test_a_method_without_settings_has_no_empty_row():
    plain = dataclasses.replace(facts().protection, method={"name": "texture", "seed": 0}, findings={})
    assert "| recipe | without settings |" in dataset_card(facts(protection=plain))


@pytest.mark.parametrize("file", CARDS)
def test_cards_are_those_in_the_repository(file):
    rendered = CARDS[file]()
    # The version of the package changes with every release, the cards need not.
    rendered = re.sub(r"(`hf_unlearnable` |version = \{)\d+\.\d+\.\d+\S*?([ }]|$)", r"\g<1>VERSION\2", rendered)
    if os.environ.get("UPDATE_CARDS"):
        (EXAMPLES / file).write_text(rendered)
    assert rendered == (EXAMPLES / file).read_text()


@pytest.mark.parametrize("file", CARDS)
def test_the_hub_takes_them(file):
    check_yaml(CARDS[file]())
    kind = ModelCard if file in ("surrogate.md", "victim.md") else DatasetCard
    card = kind(CARDS[file]())
    assert "unlearnable-examples" in card.data.tags
    text = card.text
    for line in (lines := text.splitlines()):
        if line.startswith("| ---"):  # every row of a table has the cells of its head
            start = lines.index(line)
            stop = next(index for index in range(start, len(lines)) if not lines[index].startswith("|"))
            assert {row.count("|") for row in lines[start - 1 : stop]} == {line.count("|")}
    assert "{{" not in text.replace("{{The hf_unlearnable", "")
    assert "None" not in text


def test_rendering_changes_nothing_the_second_time():
    once = dataset_card(facts())
    assert dataset_card(facts(), once) == once
    with pytest.raises(RecipeError, match="description='…' for a card that is there already"):
        dataset_card(facts(description="Other"), once)


def test_another_title_takes_the_place_of_the_first():
    once = dataset_card(facts(title="Boats"))
    again = dataset_card(facts(title="Ships"), once)
    assert again == once.replace("pretty_name: Boats", "pretty_name: Ships").replace("# Boats\n", "# Ships\n")
    assert dataset_card(facts(title=None), again) == again
    model = model_card(MODEL)
    assert model_card(dataclasses.replace(MODEL, title="Ships"), model) == model.replace(
        f"# {MODEL.title}\n", "# Ships\n"
    )


def test_a_method_that_chose_another_one_cites_its_paper():
    described = dataclasses.replace(facts().protection, method={"name": "auto"}, findings={"auto": {"chosen": "em"}})
    card = dataset_card(facts(protection=described))
    assert "huang2021unlearnable" in card
    assert DatasetCard(card).data.tags[-2:] == ["hf-unlearnable:auto", "hf-unlearnable:em"]
    assert "huang2021unlearnable" not in dataset_card(facts(protection=dataclasses.replace(described, findings={})))
    model = model_card(MODEL)
    assert model_card(MODEL, model) == model


def test_a_card_written_by_hand_is_kept_and_added_to():
    unsaid = {"title": None, "description": None}
    header = "language: en\nlicense: cc-by-4.0\ntags:\n- boats\npretty_name: Boats\n"
    mine = f"---\n{header}---\n# Boats\n\nMine, | and {{{{ this }}}}.\n"
    card = DatasetCard(dataset_card(facts(**unsaid), mine))
    assert card.text.startswith("# Boats\n\nMine, | and {{ this }}.\n\n<!-- hf-unlearnable: begin about")
    assert (card.data.license, card.data.pretty_name, card.data.language) == ("cc-by-4.0", "Boats", "en")
    assert card.data.tags == ["boats", "unlearnable-examples", "hf-unlearnable", "hf-unlearnable:mi-ue"]
    own = DatasetCard(dataset_card(facts(**unsaid, licence="All rights reserved"), mine))
    assert (own.data.license, own.data.license_name) == ("other", "all-rights-reserved")
    changed = DatasetCard(dataset_card(facts(**unsaid, licence="mit"), str(own)))
    assert changed.data.license == "mit"
    assert "license_name" not in changed.data.to_dict()
    assert dataset_card(facts(**unsaid), mine.replace("\n", "\r\n")) == dataset_card(facts(**unsaid), mine)


@pytest.mark.parametrize(
    ("given", "stated"),
    [
        ("MIT", "mit"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("CC BY-NC 4.0", "cc-by-nc-4.0"),
        ("OpenRAIL++", "openrail++"),
        ("one-of-tomorrow", "one-of-tomorrow"),
    ],
)
def test_an_identifier_of_the_hub_is_known_in_any_writing(given, stated):
    data = DatasetCard(dataset_card(facts(licence=given))).data.to_dict()
    assert data["license"] == stated
    assert "license_name" not in data


def test_every_split_has_its_own_part_before_the_sources():
    card = dataset_card(facts(split="test", report=None), dataset_card(facts()))
    marks = re.findall(r"<!-- hf-unlearnable: begin (.*?);", card)
    assert marks == ["about", "split default/train", "split default/test", "sources"]
    assert card.count("| `random-features` |") == 1


@pytest.mark.parametrize("mark", ["<!-- hf-unlearnable: end about -->", "<!-- hf-unlearnable: end sources -->"])
def test_broken_marks_are_an_error_not_a_guess(mark):
    card = dataset_card(facts())
    for broken in (card.replace(mark, ""), card.replace(mark, mark + mark)):
        with pytest.raises(DataError, match="expected one of each or none"):
            dataset_card(facts(), broken)


def test_seed_digest_and_local_names_stay_at_home(tmp_path):
    own = facts().protection
    local = dataclasses.replace(
        own,
        surrogates=(str(tmp_path), "./mine", "microsoft/resnet-18", "small-vgg"),
        method={**own.method, "seed": 987654},
    )
    card = dataset_card(facts(protection=local))
    assert "987654" not in card
    assert own.digest not in card
    assert "a model of the owner, a model of the owner, `microsoft/resnet-18`, `small-vgg`" in card
    assert public_name("~/me/model") == public_name("C:\\me\\model") == public_name("/a/b") == "a model of the owner"


def test_countermeasures_are_named_as_on_public_pages():
    def named(defence):
        return dataset_card(facts(report=report_of(0.2, defence=defence)))

    for local in ("pretrained:/home/zoe/c", "vanish:/home/zoe/c", "/home/zoe/c"):
        assert "zoe" not in named(local)
    assert "| `small-resnet`, with pretrained: a model of the owner | " in named("pretrained:/home/zoe/c")
    assert "small-resnet with pretrained: a model of the owner regains" in named("pretrained:/home/zoe/c")
    assert "| `small-resnet`, with pretrained:microsoft/resnet-18 |" in named("pretrained:microsoft/resnet-18")
    assert "| `small-resnet`, with jpeg:50 |" in named("jpeg:50")


def test_a_card_says_its_verdict_in_the_words_of_the_command():
    report = measured_report()
    best, card = best_thief(report), dataset_card(facts())
    assert f"**{verdict_in_words(report)}.** From a quarter of that way on a protection leaks" in card
    assert f"{100 * best.protected:.1f} of {100 * best.best:.1f}" in card
    for share, words in ((0.15, "the protection holds"), (0.35, "the protection leaks"), (0.6, "is broken")):
        card = dataset_card(facts(report=report_of(share)))
        assert words in card
        assert "the best of" not in card  # there was one
    card = dataset_card(facts(report=report_of(0.6, victim="/home/zoe/model")))
    assert "is broken. a model of the owner regains" in card
    assert "zoe" not in card


def test_a_card_without_a_verdict_says_why():
    unmeasured = dataset_card(facts(report=None))
    assert "Not measured for this dataset: nothing is claimed" in unmeasured
    one_sided = report_of(0.2)
    clean = dataclasses.replace(one_sided, results=tuple(one for one in one_sided.results if one.case == "clean"))
    assert "**No verdict: that takes a model that learned from clean images" in dataset_card(facts(report=clean))
    seen = dataset_card(facts(report=dataclasses.replace(measured_report(), test_seen=1000)))
    assert "**These figures show nothing about the protection**" in seen
    for card in (unmeasured, seen):
        assert "erdict" not in card


def test_papers_are_those_of_the_citation_file():
    cited = {reference["url"] for reference in yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]}
    papers = [get_method(name).citation for name in available_methods()]
    assert {paper.url for paper in papers if paper} == cited


def test_a_card_cites_the_methods_that_were_used():
    def of(method, split="train"):
        return facts(protection=described(method={"name": method}), split=split)

    def cited(card):
        return re.findall(r"@article\{(.*?),", card)

    card = dataset_card(of("em"))
    assert cited(card) == ["huang2021unlearnable"]
    assert "the paper of the method and the tool" in card
    card = dataset_card(of("beo", split="test"), card)  # the other split was protected by EM
    assert cited(card) == ["huang2021unlearnable", "zhang2025provably"]
    assert "the papers of the methods and the tool" in card
    card = dataset_card(of("not-installed-here"))
    assert cited(card) == []
    assert "| method | `not-installed-here` |" in card
    assert "Please cite the tool" in card


def test_a_surrogate_comes_with_a_warning():
    assert "helps a thief" in model_card(MODEL)
    assert "helps a thief" not in model_card(VICTIM)
    assert f"{100 * VICTIM.accuracy:.1f} %" in model_card(VICTIM)
