from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from helpers.datasets import described
from helpers.pages import HOSTILE, NEEDS_CHROMIUM, Sources, made, overflow
from typer.testing import CliRunner

from hf_unlearnable import Budget, DataError, OutputError, PrivacyError, RecipeError, SourceError, Verification
from hf_unlearnable.cli.command import app
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL
from hf_unlearnable.evaluation.verdicts import Verdict
from hf_unlearnable.protection.privacy import PRIVATE_PAGE, check_folder
from hf_unlearnable.reports.comparability import baselines_met, differences, gaps
from hf_unlearnable.reports.comparison import write_comparison
from hf_unlearnable.reports.comparison_page import ComparedRun, comparison_page, unique
from hf_unlearnable.reports.run_page import PageFacts, page

BOTH = {(CLEAN, "none"): 0.8, (CLEAN, "jpeg:10"): 0.7}
STRONG = {**BOTH, (PROTECTED, "none"): 0.2, (PROTECTED, "jpeg:10"): 0.3}  # holds, leaks
WEAK = {**BOTH, (PROTECTED, "none"): 0.32, (PROTECTED, "jpeg:10"): 0.65}  # leaks, broken
SEEDS = (987654, 987655)


def run(name, figures, **changes):
    return ComparedRun(name=name, report=replace(made(figures, seeds=SEEDS), **changes), file=f"/home/zoe/{name}.json")


def shown(*runs, **options):
    return comparison_page(runs, command="hf-unlearnable report RUN RUN", **options)


def tables(text):
    """Every table as a list of lines, each a list of (class, words) of its fields."""
    return [
        [
            [
                (re.search(r'class="([^"]*)"', tag)[1] if "class=" in tag else "", _words(words))
                for tag, words in re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", line, re.DOTALL)
            ]
            for line in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table.*?</table>", text, re.DOTALL)
    ]


def _words(markup):
    return " ".join(re.sub(r"<[^>]*>", " ", markup).replace("&shy;", "").split())


def test_every_field_is_what_the_page_of_the_run_says():
    runs = [run("strong", STRONG), run("weak", WEAK)]
    table = tables(shown(*runs))[0]
    assert [words for _, words in table[0]] == ["countermeasure", "clean images, same countermeasure", "strong", "weak"]
    assert [line[0][1] for line in table[1:]] == [
        "no countermeasure",
        "stopping at the best epoch read off the line above; not counted below",
        "jpeg:10",
        "countermeasures that break it",
    ]
    assert [line[1][1] for line in table[1:]] == ["80.0 ± 0.0", "85.0 ± 0.0", "70.0 ± 0.0", ""]
    for line, defence, peak in ((1, "none", False), (2, "none", True), (3, "jpeg:10", False)):
        for column, one in enumerate(runs, 2):
            verdict = Verdict.of(one.report, "small-resnet", defence)
            state, accuracy = (verdict.state_at_peak, verdict.peak) if peak else (verdict.state, verdict.protected)
            kind, words = table[line][column]
            assert kind == state
            assert words.startswith(f"{100 * accuracy:.1f} ± 0.0 {state} ")
            alone = page(PageFacts(name="run", report=one.report))
            assert re.search(rf'<td class="{state}"><b>{100 * accuracy:.1f}</b>', alone)
    assert [words for _, words in table[4][2:]] == ["0 of 1", "1 of 1"]


def test_in_short_says_what_breaks_what():
    text = _words(shown(run("strong", STRONG), run("weak", WEAK)))
    for words in (
        "A thief gets past it with none of 1 countermeasures",
        "A thief gets past it with jpeg:10: 1 of 1 countermeasures",
        "Broken by nothing that was tried on it: strong . That",
        "in 100: 10.0",
        "came out equal",
    ):
        assert words in text
    assert "Each of them is broken" in _words(shown(run("weak", WEAK), run("weaker", {**WEAK, (MIX, "none"): 0.7})))
    useless = {**STRONG, (PROTECTED, "none"): 0.75}  # no countermeasure breaks what is broken without one
    assert "Each of them is broken by something" in _words(shown(run("useless", useless), run("weak", WEAK)))
    plain = {one: WEAK[one] for one in ((CLEAN, "none"), (PROTECTED, "none"))}
    text = _words(shown(run("one", plain), run("two", {**plain, (PROTECTED, "none"): 0.3})))
    assert "No countermeasure was measured" in text
    assert "countermeasures that break it" not in text


def test_a_countermeasure_that_breaks_one_model_only_is_told_with_it():
    weak = made(WEAK, victims=("a", "b"), seeds=SEEDS)
    results = [
        replace(one, epochs=(0.2, 0.2)) if (one.victim, one.case) == ("b", PROTECTED) else one for one in weak.results
    ]
    text = _words(shown(run("strong", STRONG), run("weak", WEAK, results=tuple(results))))
    assert "past it with jpeg:10 (for a): 1 of 2 combinations of countermeasure and model" in text


def test_stopping_early_is_read_off_only_where_not_every_run_measured_it():
    stopped = {(CLEAN, "early-stopping"): 0.8, (PROTECTED, "early-stopping"): 0.4}
    both = shown(run("strong", {**STRONG, **stopped}), run("weak", {**WEAK, **stopped}))
    assert "stopping at the best epoch" not in both
    assert "stopping at the best epoch" in shown(run("strong", {**STRONG, **stopped}), run("weak", WEAK))


def test_what_one_run_lacks_is_not_measured_and_not_counted():
    more = {**WEAK, (CLEAN, "blur"): 0.8, (PROTECTED, "blur"): 0.8}
    unknown = {(PROTECTED, "none"): 0.3, (PROTECTED, "jpeg:10"): 0.4}
    table = tables(shown(run("strong", STRONG), run("more", more), run("unknown", unknown)))[0]
    blur, counts = table[-2], table[-1]
    assert blur[0][1] == "blur"
    assert [(kind, words[0]) for kind, words in blur[2:]] == [
        ("not-measured", "–"),
        ("broken", "8"),
        ("not-measured", "–"),
    ]
    assert [words for _, words in counts[2:]] == [
        "0 of 1 0 of the 1 tried on all",
        "2 of 2 1 of the 1 tried on all",
        "–",
    ]
    assert table[1][4] == ("not-measured", "30.0 ± 0.0 no clean images to judge it by")


def test_mixtures_side_by_side():
    mixed = {(CLEAN_PART, "none"): 0.7, (MIX, "none"): 0.74, (SEQUENTIAL, "none"): 0.66}
    found = tables(shown(run("strong", STRONG), run("weak", {**WEAK, **mixed})))
    assert [[words for _, words in line] for line in found[1]] == [
        ["images", "strong", "weak"],
        ["50% protected, mixed with clean ones", "– not measured", "+4.0 70.0 ± 0.0 alone 74.0 ± 0.0 with both"],
        ["50% protected, the clean ones first", "– not measured", "-4.0 70.0 ± 0.0 alone 66.0 ± 0.0 with both"],
    ]
    assert len(found) == 3
    assert len(tables(shown(run("strong", STRONG), run("weak", WEAK)))) == 2  # countermeasures and details


@pytest.mark.parametrize(
    ("changes", "what", "found"),
    [
        ({"test_images": 60}, "test images", "60 (c); 50 (all others)"),
        ({"chance": 0.2}, "chance", "20.00 % (c); 10.00 % (all others)"),
        ({"images": 99}, "training images", "99 (c); 100 (all others)"),
        ({"iterations": 11}, "training steps", "11 (c); 10 (all others)"),
        ({"training": {"epochs": 3, "x": 1}}, "training recipe", "epochs 3, x 1 (c); epochs 2, x unknown (all others)"),
        ({"results": made(WEAK, seeds=(1, 2)).results}, "seeds", "1, 2 (c); 987654, 987655 (all others)"),
        (
            {"results": made({**WEAK, (CLEAN, "jpeg:10"): 0.71}, seeds=SEEDS).results},
            "accuracy after clean images (small-resnet, jpeg:10)",
            "71.0 % (c); 70.0 % (all others)",
        ),
    ],
)
def test_what_keeps_runs_from_being_compared_is_said_loudly(changes, what, found):
    runs = run("a", STRONG), run("b", WEAK), run("c", WEAK, **changes)
    text = _words(shown(*runs))
    assert "Not measured on the same footing" in text
    assert f"{what} : {found}. " in text
    assert "Equal for all" not in text
    assert [one.what for one in differences({one.name: one.report for one in runs})] == [what]
    assert "Not measured on the same footing" not in shown(*runs[:2])


def test_clean_figures_that_differ_are_shown_beside_each_run():
    text = shown(run("a", STRONG), run("b", {**WEAK, (CLEAN, "jpeg:10"): 0.75}))
    jpeg = [words for _, words in tables(text)[0][3]]
    assert jpeg[1] == "70.0 to 75.0 it differs"
    assert [words.split("; ")[1] for words in jpeg[2:]] == ["clean images: 70.0", "clean images: 75.0"]


def test_gaps():
    reports = {
        "a": made(STRONG),
        "b": replace(made(WEAK, victims=("small-resnet", "small-vgg")), doubts=("the two are identical",)),
        "c": made({(PROTECTED, "none"): 0.2}),
    }
    doubt, unknown, victims, defences = gaps(reports)
    assert doubt == "Something is odd about b: the two are identical."
    assert unknown.startswith("No model was trained on the clean images for c.")
    assert victims == "Models measured for b only: small-vgg."
    assert defences == "Countermeasures not measured for c: jpeg:10."
    assert not baselines_met(reports)
    assert "Whether the images are cannot be told" in shown(run("a", STRONG), run("c", {(PROTECTED, "none"): 0.2}))


def test_models_that_learn_nothing_from_clean_images_say_nothing():
    useless = dict.fromkeys(STRONG, 0.1)
    text = _words(shown(run("one", useless), run("two", {**useless, (PROTECTED, "none"): 0.11})))
    assert (
        "small-resnet cannot tell for one and two what protection takes away: too few images; what was learned" in text
    )
    assert "what was learned from clean images tells nothing either" in text
    assert "cannot be judged" in text
    assert "Whether the images are cannot be told" in text
    for words in (
        "No countermeasure was measured",
        "No countermeasure was tried",
        "no clean images to judge",
        "broken by",
    ):
        assert words not in text


@pytest.mark.parametrize("public", [False, True])
def test_hostile_names_are_escaped_and_nothing_is_loaded(public):
    report = made(STRONG, victims=(HOSTILE, "resnet-18"))
    runs = [
        ComparedRun(name=f"{HOSTILE} {index}", report=replace(report, images=index), file=HOSTILE) for index in (1, 2)
    ]
    text = shown(*runs, public=public)
    read = Sources(text)
    assert not {"script", "img", "link"} & {tag for tag, _ in read.tags}
    assert read.found == []
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    }
    assert ("meta", policy) in read.tags
    assert ("meta", policy) in Sources(page(PageFacts(name="run", report=report))).tags
    assert ("html", {"lang": "en"}) in read.tags


def test_the_public_page_holds_nothing_private(tmp_path):
    one, other = ("/home/zoe/a", "/home/zoe/b", "small-resnet"), ("/home/zoe/b", "small-resnet")
    own = described(surrogates=("/home/zoe/s",))
    figures = {**STRONG, (PROTECTED, "pretrained:/home/zoe/c"): 0.5}
    runs = [
        ComparedRun(
            name="zoe-1", report=made(figures, victims=one, seeds=SEEDS), file="/home/zoe/1.json", protection=own
        ),
        ComparedRun(
            name="zoe-2", report=made(WEAK, victims=other, seeds=SEEDS[1:]), file="/home/zoe/2.json", protection=own
        ),
        ComparedRun(name="zoe-3", report=made(WEAK, victims=other, seeds=SEEDS[1:]), file="/home/zoe/3.json"),
    ]
    private, public = (
        comparison_page(runs, command="hf-unlearnable report /home/zoe", public=which) for which in (False, True)
    )
    for word in ("zoe", "987654", "987655", PRIVATE_PAGE):
        assert word in private
        assert word not in public
    assert "d1ce5701" not in public
    titles = [words for _, words in tables(public)[0][0][2:]]
    assert titles == ["mi-ue linf:8", "mi-ue linf:8 (2)", "run 3"]
    # The second model of the first run is the first one of the others: one table, with a figure in every column.
    headings = re.findall(r'<h3 id="model-\d+">(.*?)</h3>', public)
    assert headings == ["a model of the owner", "a model of the owner (2)", "small-resnet"]
    assert all(words[0].isdigit() for _, words in tables(public)[1][1][2:])
    (tmp_path / "look.html").write_text(private)
    with pytest.raises(PrivacyError, match=r"look\.html"):
        check_folder(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Make what protect --output and measure leave of a run, as far as a comparison reads it."""

    def make(name, figures, method="mi-ue", budget="linf:8", **about):
        protection = tmp_path / name / "private" / "protection"
        protection.mkdir(parents=True)
        own = described(method={"name": method, "seed": 3}, budget=Budget.parse(budget), **about)
        own.write(protection)
        if figures is not None:
            (tmp_path / name / "report").mkdir()
            made(figures, seeds=SEEDS).save(tmp_path / name / "report" / "learnability.json")
        return tmp_path / name

    return make


def test_runs_are_named_by_method_and_budget_or_by_their_file(folder, tmp_path):
    made(WEAK).save(tmp_path / "theirs.json")
    (tmp_path / "away").mkdir()
    made({**WEAK, (PROTECTED, "none"): 0.5}).save(tmp_path / "away" / "learnability.json")
    made({**WEAK, (PROTECTED, "none"): 0.6}).save(tmp_path / "away" / "theirs.json")
    verification = Verification(
        images=48,
        unchanged=0,
        violations=0,
        alpha_changed=0,
        max_perturbation=8.0,
        mean_perturbation=5.25,
        psnr=32.0,
        surviving=None,
        budget="linf:8",
    )
    runs = [
        folder("out-8", STRONG, verification=verification),
        folder("out-16", WEAK, budget="linf:16") / "report" / "learnability.json",
        folder("once", {**STRONG, (PROTECTED, "none"): 0.25}, method="em"),
        folder("twice", {**STRONG, (PROTECTED, "none"): 0.15}, method="em"),
        tmp_path / "theirs.json",
        tmp_path / "away",
        tmp_path / "away" / "theirs.json",
    ]
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    titles = [words for _, words in tables(text)[0][0][2:]]
    assert titles == [
        "mi-ue linf:8",
        "mi-ue linf:16",
        "em linf:8 (once)",
        "em linf:8 (twice)",
        "theirs",
        "away",
        "theirs (2)",
    ]
    assert "change at most 8, mean 5.25 levels of 255; PSNR 32.0 dB" in text
    assert unique(["a", "a", "a (2)", "a"]) == ["a", "a (2)", "a (2) (2)", "a (3)"]


def test_runs_may_be_given_names_which_the_public_sees_too(folder, tmp_path):
    runs = [folder("zoe-1", STRONG), folder("zoe-2", WEAK)]
    done = invoke(*runs, "--name", "ours", "--name", "theirs", "--public", "--output", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page.html").read_text()
    assert [words for _, words in tables(text)[0][0][2:]] == ["ours", "theirs"]
    assert "zoe" not in text
    for names in (["ours"], ["ours", "ours"], ["ours", ""]):
        with pytest.raises(RecipeError, match="for 2 runs; expected 2 different names, none of them empty"):
            write_comparison(runs, tmp_path / "page.html", names=names)
    assert isinstance(invoke(runs[0], "--name", "ours").exception, RecipeError)


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    strong, weak = folder("strong", STRONG), folder("weak", WEAK)
    unmeasured, begun = folder("unmeasured", None), folder("begun", None)
    (begun / "report" / "victims").mkdir(parents=True)
    (begun / "report" / "victims" / "a.json").write_text("{}")
    copied = tmp_path / "copied.json"
    copied.write_bytes((strong / "report" / "learnability.json").read_bytes())
    made(WEAK, victims=("small-vgg",)).save(tmp_path / "other-model.json")
    (tmp_path / "callback.json").write_text(json.dumps({"last": {}}))
    stored = json.loads(copied.read_text())
    for name, results in (("empty", []), ("curveless", [{**stored["results"][0], "epochs": []}])):
        (tmp_path / f"{name}.json").write_text(json.dumps({**stored, "results": results}))
    strange = folder("strange", WEAK)
    file = strange / "private" / "protection" / "protection.json"
    file.write_text(file.read_text().replace("linf:8", "lots"))
    for runs, error, message in (
        ([strong], RecipeError, "at least two runs"),
        (str(strong), RecipeError, "expected a list or a tuple"),
        ([strong, tmp_path / "nowhere"], SourceError, "nowhere.*expected the folder that hf-unlearnable protect"),
        ([strong, unmeasured], SourceError, r"not measured.*hf-unlearnable measure .*unmeasured"),
        ([strong, begun], SourceError, "1 models are trained and kept"),
        ([strong, strong / "report"], RecipeError, "the same run"),
        ([strong, copied], DataError, "the same figures"),
        ([strong, tmp_path / "other-model.json"], DataError, "share no model.*--victim small-resnet"),
        ([strong, tmp_path / "callback.json"], DataError, r"callback\.json.*expected the learnability\.json"),
        ([strong, tmp_path / "empty.json"], DataError, "empty.json.*a measurement without results"),
        ([strong, tmp_path / "curveless.json"], DataError, r"expected an accuracy in \[0, 1\] after each"),
        ([strong, strange], DataError, r"strange.*protection\.json.*lots"),
        ([strong, weak / "private"], PrivacyError, "private part"),
    ):
        with pytest.raises(error, match=f"(?s){message}"):
            write_comparison(runs, tmp_path / "page.html")
    with pytest.raises(OutputError, match=r"comparison\.html"):
        write_comparison([strong, weak], tmp_path)
    before = copied.read_bytes()
    with pytest.raises(RecipeError, match=r"copied\.html"):
        write_comparison([strong, weak], copied)
    assert copied.read_bytes() == before
    assert not list(tmp_path.glob("*.html"))


def invoke(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_the_command(folder, tmp_path, monkeypatch):
    runs = folder("strong", STRONG), folder("weak", WEAK, budget="linf:16")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = invoke(*runs)
    assert done.exit_code == 0, done.output
    assert "comparison.html written" in done.output
    assert f"hf-unlearnable report {runs[0]} {runs[1]}<" in (tmp_path / "here" / "comparison.html").read_text()
    assert invoke(*runs, "--public").exit_code == 0
    public = (tmp_path / "here" / "comparison-public.html").read_text()
    assert "Made to be shown" in public
    assert str(tmp_path) not in public
    assert invoke(*runs, "--output", tmp_path / "new" / "side by side.html").exit_code == 0
    assert "side by side.html" in (tmp_path / "new" / "side by side.html").read_text()
    assert not list(runs[0].glob("report/*.html"))


def test_the_command_refuses_what_makes_no_sense(folder):
    runs = folder("strong", STRONG), folder("weak", WEAK)
    for words in (["--clean", "a"], ["--clean-split", "a"], ["--image-column", "a"], ["--label-column", "a"]):
        error = invoke(*runs, *words).exception
        assert isinstance(error, RecipeError)
        assert words[0] in str(error)
    error = invoke(runs[0], "--output", "page.html").exception
    assert isinstance(error, RecipeError)
    assert "--output" in str(error)


@NEEDS_CHROMIUM
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_overflow(width, tmp_path):
    mixed = {(CLEAN_PART, "none"): 0.7, (MIX, "none"): 0.74, ("protected", "pretrained:a/rather/long/folder/name"): 0.4}
    runs = [run(f"fashion-mnist-3000-method-{index}-linf-8", {**WEAK, **mixed}, images=index) for index in range(6)]
    (tmp_path / "comparison.html").write_text(shown(*runs))
    assert overflow(tmp_path / "comparison.html", width, tmp_path) == 0
