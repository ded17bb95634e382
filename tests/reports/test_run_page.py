from __future__ import annotations

import html
import json
import shlex
import shutil
from dataclasses import replace

import pytest
from helpers.datasets import described, make_dataset, make_output
from helpers.pages import HOSTILE, NEEDS_CHROMIUM, Sources, made, measured, overflow
from typer.testing import CliRunner

from hf_unlearnable import DataError, PrivacyError, push
from hf_unlearnable.cli.command import app
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED
from hf_unlearnable.evaluation.verdicts import Verdict
from hf_unlearnable.protection.findings import Audit, Finding
from hf_unlearnable.protection.privacy import PRIVATE_PAGE, check_folder
from hf_unlearnable.reports.images import Sample
from hf_unlearnable.reports.run_page import PageFacts, page

FIGURES = {(CLEAN, "none"): 0.8, (PROTECTED, "none"): 0.2, (CLEAN, "jpeg:10"): 0.7, (PROTECTED, "jpeg:10"): 0.65}


def test_broken_is_what_the_page_says_it_is():
    report = made(FIGURES)
    plain, jpeg = (Verdict.of(report, "small-resnet", defence) for defence in ("none", "jpeg:10"))
    assert plain.regained == pytest.approx(0.1 / 0.7)
    assert jpeg.regained == pytest.approx(0.55 / 0.7)  # of what clean images give without the countermeasure
    assert (plain.state, jpeg.state) == ("holds", "broken")
    assert plain.state_at_peak == _state_of(0.15 / 0.7)


def _state_of(regained):
    return "broken" if regained >= 0.5 else "leaks" if regained >= 0.25 else "holds"


def test_the_figures_are_those_of_the_report():
    text = page(PageFacts(name="run", report=made(FIGURES)))
    for figure in ("80 of 100", "20 of 100", "65 of 100", "10 of 100", ">65.0<", "79 % of the way"):
        assert figure in text
    assert "break it in 1 of 1" in text


def test_doubts_are_told_before_any_figure():
    report = replace(made(FIGURES), doubts=("the two are identical",))
    text = page(PageFacts(name="run", report=report).for_the_public())
    told = "Something is odd about what was measured:</strong> the two are identical."
    assert text.index(told) < text.index("20 of")


@pytest.mark.parametrize("public", [False, True])
def test_hostile_names_are_escaped_and_nothing_is_loaded(public):
    facts = PageFacts(
        name=HOSTILE,
        report=made(FIGURES, victims=(HOSTILE, "resnet-18")),
        images=1,
        samples=(Sample(HOSTILE, b"protected", b"clean", b"amplified", (8, 8)),),
        origin=HOSTILE,
    )
    read = Sources(page(facts.for_the_public() if public else facts))
    assert "script" not in {tag for tag, _ in read.tags}
    assert all(source.startswith(("data:image/", "#")) for source in read.found), read.found
    assert all(attributes.get("alt") for tag, attributes in read.tags if tag == "img")
    assert ("html", {"lang": "en"}) in read.tags


def test_what_is_missing_is_said():
    text = page(PageFacts(name="run", not_measured="No model was trained."))
    assert text.count("No model was trained.") == 3
    for figures in ({(CLEAN, "none"): 0.8}, {(PROTECTED, "none"): 0.2}):
        assert "Measured only in part" in page(PageFacts(name="run", report=made(figures)))
    assert "No countermeasure was measured" in page(
        PageFacts(name="run", report=made({(CLEAN, "none"): 0.8, (PROTECTED, "none"): 0.2}))
    )


def test_what_an_audit_found_is_for_the_owner_alone():
    found = Finding(check="names", severity="leak", says=f"anna.png goes along {HOSTILE}")
    facts = PageFacts(name="run", protection=described(), audit=Audit(name="run", images=3, findings=(found,)))
    private, public = page(facts), page(facts.for_the_public())
    assert "anna.png goes along &lt;script" in private
    assert "<strong>leak</strong>" in private
    assert "Not looked over" in page(replace(facts, audit=None))
    for word in ("anna.png", "gives away", "Not looked over", "hf-unlearnable audit"):
        assert word not in public


def test_the_public_page_holds_nothing_private():
    victims = ("/home/zoe/a", "/home/zoe/b", "small-resnet")
    figures = {**FIGURES, (PROTECTED, "pretrained:/home/zoe/c"): 0.5}
    facts = PageFacts(
        name="/home/zoe/run",
        report=made(figures, victims=victims),
        protection=described(surrogates=("/home/zoe/s",)),
        samples=(Sample("boats", b"protected", b"clean", b"amplified", (8, 8)),),
        origin="/home/zoe/photos",
        no_pictures="nothing in /home/zoe/photos",
        command="hf-unlearnable report /home/zoe/run",
    )
    private, public = page(facts), page(facts.for_the_public())
    for word in ("zoe", "987654", "d1ce5701", "Y2xlYW4=", "YW1wbGlmaWVk", PRIVATE_PAGE):  # base64 of the pictures
        assert word in private
        assert word not in public
    assert "a model of the owner (2)" in public  # two models stay two


def test_doubts_name_no_path_in_public():
    own = "vanish:/home/zoe/c"
    doubts = (f"the defence {own} changes no image, so it does nothing here",)
    facts = PageFacts(name="run", report=replace(made({**FIGURES, (PROTECTED, own): 0.5}), doubts=doubts))
    public = page(facts.for_the_public())
    assert "the defence vanish: a setting of the owner changes no image" in public
    assert "zoe" not in public


@pytest.fixture
def run_folder(small, protection, tmp_path):
    small.save_to_disk(tmp_path / "originals")
    out = make_output(tmp_path / "out", small, protection, str(tmp_path / "originals"))
    (out / "report").mkdir()
    made(FIGURES).save(out / "report" / "learnability.json")
    return out


def invoke(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_the_command_writes_the_page_and_its_pictures(run_folder):
    assert invoke(run_folder).exit_code == 0
    report = run_folder / "report"
    written = {path.name for path in report.iterdir()}
    assert {"report.html", "images.png", "histogram.png", "accuracy.png", "curves-1.png"} <= written
    text = (report / "report.html").read_text()
    assert text.count("<img") == 3 * 3 + 1 + 2  # classes, histogram, curves
    assert "Private: do not publish" in text
    assert invoke(run_folder, "--public").exit_code == 0
    public = (report / "report-public.html").read_text()
    assert str(run_folder.parent) not in public
    assert public.count("<img") == 3 + 1 + 2


def test_the_page_tells_the_whole_command(run_folder):
    words = ["--clean", run_folder.parent / "originals", "--clean-split", "train"]
    words += ["--image-column", "image", "--label-column", "label", "--max-pixels", "1000000"]
    assert invoke(run_folder, *words).exit_code == 0
    told = shlex.join(["hf-unlearnable", "report", str(run_folder), *map(str, words)])
    assert html.escape(told) in (run_folder / "report" / "report.html").read_text()


def test_the_command_without_originals_or_measurement(run_folder):
    shutil.rmtree(run_folder.parent / "originals")
    (run_folder / "report" / "learnability.json").unlink()
    (run_folder / "report" / "victims").mkdir()
    (run_folder / "report" / "victims" / "a.json").write_text("{}")
    assert invoke(run_folder).exit_code == 0
    text = (run_folder / "report" / "report.html").read_text()
    assert "the originals could not be used" in text
    assert "1 models are trained and kept" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--clean", "FEWER"], "got 10 originals; expected 48"),
        (
            ["--clean", "OTHERS"],
            "48 of 48 images that were looked at are farther from the protected image of their row",
        ),
        (["--clean", "./nothere"], "where there is nothing"),
        (["--clean-split", "nope"], "got the split 'nope'"),
    ],
)
@pytest.mark.parametrize("public", [[], ["--public"]])
def test_originals_that_are_named_and_do_not_fit_are_an_error(run_folder, words, told, public):
    make_dataset(10).save_to_disk(run_folder.parent / "FEWER")
    make_dataset(seed=5).save_to_disk(run_folder.parent / "OTHERS")
    done = invoke(run_folder, *(run_folder.parent / word if word.isupper() else word for word in words), *public)
    assert done.exit_code == 1
    assert told in str(done.exception)
    assert [path.name for path in (run_folder / "report").iterdir()] == ["learnability.json"]
    assert invoke(run_folder, "--clean", run_folder.parent / "originals").exit_code == 0


def test_a_measurement_alone_and_a_file_of_another_kind(tmp_path):
    made(FIGURES).save(tmp_path / "theirs.json")
    assert invoke(tmp_path / "theirs.json").exit_code == 0
    assert "Only learnability.json was given" in (tmp_path / "theirs-report.html").read_text()
    (tmp_path / "learnability.json").write_text(json.dumps({"last": {}, "peak": {}}))
    assert isinstance(invoke(tmp_path).exception, DataError)


def test_push_does_not_publish_the_report(run_folder, hub, name):
    assert invoke(run_folder).exit_code == 0
    push(run_folder, name)
    assert not any(PRIVATE_PAGE.encode() in request.body for request in hub.received)
    shutil.copy(run_folder / "report" / "report.html", run_folder / "dataset" / "look.html")
    with pytest.raises(PrivacyError, match=r"look\.html"):
        check_folder(run_folder / "dataset")


@NEEDS_CHROMIUM
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_overflow(run_folder, width, tmp_path):
    invoke(run_folder)
    assert overflow(run_folder / "report" / "report.html", width, tmp_path) == 0


@NEEDS_CHROMIUM
def test_a_telephone_shows_every_figure_in_whole_words(tmp_path):
    """The widest table scrolls in its frame; squeezed into the window it had a letter a line."""
    mixed = {(CLEAN, "none"): 0.8, (PROTECTED, "none"): 0.2, (MIX, "none"): 0.7, (CLEAN_PART, "none"): 0.7}
    (tmp_path / "run.html").write_text(page(PageFacts(name="run", report=made(mixed, seeds=(1, 2)))))
    height = measured(tmp_path / "run.html", 390, tmp_path, "d.querySelector('[aria-labelledby=every]').offsetHeight")
    assert height < 400


def test_the_verdict_of_the_page_is_by_the_best_thief():
    figures = {
        ("clean", "none"): 0.8,
        ("protected", "none"): 0.15,
        ("clean", "jpeg:10"): 0.7,
        ("protected", "jpeg:10"): 0.6,
    }
    report = replace(
        made(figures),
        trainings={"short": {"epochs": 3, "optimiser": "adamw"}},
        epochs_factors={"adversarial": 3},
    )
    text = page(PageFacts(name="run", report=report))
    assert "Against the best of 2 thieves that were tried, small-resnet with jpeg:10" in text
    assert text.index("<strong>is broken</strong>") < text.index("<strong>holds</strong>")
    assert "training short" in text
    assert "3 times as many with adversarial" in text
    held = made({("clean", "none"): 0.8, ("protected", "none"): 0.15})
    assert "Against the best of" not in page(PageFacts(name="run", report=held))
