"""What a plain installation lacks: named with the extra that brings it, before the work or beside its result."""

from __future__ import annotations

import sys

import pytest
from datasets import DatasetDict
from helpers.datasets import make_dataset
from typer.testing import CliRunner

from hf_unlearnable import MissingExtraError, RecipeError, learnability, load_metric
from hf_unlearnable.cli.command import app
from hf_unlearnable.evaluation.thieves import thieves_of_suite
from hf_unlearnable.lazy import EXTRAS, import_extra, require_extra
from hf_unlearnable.methods.labelling import Labels
from hf_unlearnable.metrics.lpips import load_lpips


@pytest.fixture
def plain(monkeypatch):
    """Nothing but what the package requires, as the imports see it."""
    for package in (*EXTRAS, "torchmetrics"):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_is_named_with_its_extra(package):
    for look in (require_extra, import_extra):
        with pytest.raises(MissingExtraError, match=rf"this needs .*pip install 'hf-unlearnable\[{EXTRAS[package]}\]'"):
            look(package, "this")


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"victims": ["small-resnet", "knn"]}, r"knn needs scikit-learn; .*\[thieves\]"),
        ({"defences": ["none", "blur"]}, r"this defence needs kornia; .*\[defences\]"),
        ({"suite": "standard"}, r"knn needs scikit-learn"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_read(options, message):
    with pytest.raises(RecipeError, match=message):
        learnability(None, clean=None, test=None, **options, progress=False)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("labels", ["clusters:2", "captions:2,MODEL"])
def test_what_clusters_need_is_said_before_anything_is_read(labels):
    with pytest.raises(MissingExtraError, match=r"clusters needs scikit-learn; .*\[thieves\]"):
        Labels.parse(labels).require()


@pytest.mark.usefixtures("plain")
def test_the_quick_suite_needs_no_extra():
    for thief in thieves_of_suite("quick"):
        thief.require()


@pytest.mark.usefixtures("plain")
def test_metrics_and_lpips():
    with pytest.raises(MissingExtraError, match=r"the metric learnability needs evaluate; .*\[metrics\]"):
        load_metric("learnability")
    with pytest.raises(MissingExtraError, match="pip install torchmetrics torchvision"):
        load_lpips.__wrapped__()


def test_measure_and_report_without_matplotlib_do_all_but_the_pictures(tmp_path, request):
    DatasetDict({"train": make_dataset(), "test": make_dataset(30, seed=1)}).save_to_disk(tmp_path / "photos")
    out = tmp_path / "out"

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.output

    run("protect", tmp_path / "photos", "--method", "texture", "--output", out)
    request.getfixturevalue("plain")
    said = run("measure", out, "--victim", "small-resnet", "--seeds", 1, "--epochs", 1)
    assert "cannot be measured: too few images" in said
    assert "learnability.csv written. Without pictures: a picture needs matplotlib; install it" in said
    said = run("report", out)
    assert "Without charts: a picture needs matplotlib" in said
    page = (out / "report" / "report.html").read_text()
    assert "No charts." in page
    assert "hf-unlearnable[figures]" in page
    assert page.count("data:image/png") >= 3  # the images themselves need no matplotlib
    assert not list((out / "report").glob("*.png"))
