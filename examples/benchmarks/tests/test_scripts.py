"""Every script in small: made-up images, one victim of one epoch, one file that the reader takes."""

from __future__ import annotations

import importlib

import pytest
from result_files import read_results

from hf_unlearnable.training.checkpoints import Checkpoints

IN_THIS_PROCESS = {
    "protection_strength": "--recipe em --victim small-resnet --sequential",
    "mixture_ideas": "--recipe no-stages",
    "surviving_ideas": "--recipe bands",
    "full_size": "--recipe beo-paper",
    "countermeasures": "--method em --defence none --defence jpeg:10 --defence imagenet-fine-tune",
    "larger_images": "--scale 2",
    "large_photographs": "--recipe texture --side 16 --victim imagenet-fine-tune",
    "later_compression": "--recipe texture",
    "crafted_after_fit": "",
    "feature_information": "",
    "mixture_limit": "",
    "other_networks": "",
    "image_kinds": "--large",
    "map_speed": "",
    "auto_choice": "",
    "private_patterns": "--recipe texture",
    "fit_speed": "",
    "owner": "--class 1 --owner-images 12 --victim knn --victim small-resnet --defence none --defence imagenet-probe",
}
IN_OTHERS = (
    "processes",
    "scale",
    "kill_and_resume",
    "soak",
    "bayes_error_speed",
    "start_up",
    "gpu",
    "run_speed",
    "measure_speed",
    "speed_trials",
)  # which start Python anew for every part


def run(script, arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"{script}.py", "--tiny", *arguments.split()])
    importlib.import_module(script).main()


@pytest.mark.parametrize(("script", "arguments"), IN_THIS_PROCESS.items())
@pytest.mark.filterwarnings("ignore::UserWarning")  # a few made-up images are little to learn from
def test_in_small(script, arguments, scratch, monkeypatch, capsys):
    run(script, arguments, monkeypatch)
    results = read_results(script)
    assert len(results) == (3 if script == "mixture_limit" else 1)
    assert results[0].experiment.command == f"python {script}.py --tiny {arguments}".strip()
    if script not in ("image_kinds", "map_speed", "other_networks"):
        assert results[0].experiment.dataset == "tiny"
    for table in capsys.readouterr().out.strip().split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # a few made-up images are little to learn from
def test_countermeasures_that_join_a_file_say_so_in_its_command(scratch, monkeypatch, capsys):
    for defence in ("jpeg:10", "imagenet-probe"):
        run("countermeasures", f"--method texture --defence {defence}", monkeypatch)
    (result,) = read_results("countermeasures")
    network = f"probe:{scratch}/imagenet/efficientnet-lite0-tiny"
    assert result.report.defences == ["none", "jpeg:10", network]
    typed = "python countermeasures.py --tiny --method texture --defence"
    assert result.experiment.command == f"{typed} jpeg:10 && {typed} imagenet-probe"
    assert "| a new head on EfficientNet-Lite0 of ImageNet |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of so few neighbours
@pytest.mark.parametrize("script", IN_OTHERS)
def test_in_several_processes(script, scratch, monkeypatch):
    run(script, "--full" if script == "gpu" else "", monkeypatch)
    assert len(read_results(script)) == 1
    assert len(read_results("full_size")) == (4 if script == "gpu" else 0)


@pytest.mark.filterwarnings("ignore::UserWarning")  # a few made-up images are little to learn from
def test_a_stopped_experiment_of_full_size_goes_on(scratch, monkeypatch, capsys):
    """All recipes, with a small network: killed in a fit, gone on with, and then with nothing left to do."""
    arguments = "--surrogate small-resnet --victim small-resnet"

    def kill(self):
        self.save()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "tick", kill)
        with pytest.raises(KeyboardInterrupt):
            run("full_size", arguments, patch)
    assert [path.name for path in (scratch / "protections").iterdir() if path.is_dir()] == [
        "tiny-48-mi-ue-paper-100-linf-8-small-resnet-checkpoints"
    ]
    run("full_size", arguments, monkeypatch)
    results = {one.experiment.recipe: one for one in read_results("full_size")}
    assert sorted(results) == ["beo-paper", "em-from-waves", "mi-ue-from-waves", "mi-ue-paper-100"]
    unknown = [name for name, one in results.items() if one.figures["fit_seconds"] is None]
    assert unknown == ["mi-ue-paper-100"]  # what the killed process took
    assert {tuple(one.report.cases) for one in results.values()} == {("clean", "protected")}
    assert not list((scratch / "protections").glob("*-checkpoints"))
    assert "| mi-ue-paper-100 | linf:8 | 1 | - |" in capsys.readouterr().out
    monkeypatch.setattr("protection_strength.learnability", None)
    run("full_size", arguments, monkeypatch)


def test_a_run_whose_file_is_there_is_not_repeated(scratch, monkeypatch):
    import protection_strength

    arguments = "--recipe noise --victim small-resnet --ratio 0"
    run("protection_strength", arguments, monkeypatch)
    monkeypatch.setattr(protection_strength, "learnability", None)
    run("protection_strength", arguments, monkeypatch)
    with pytest.raises(TypeError):
        run("protection_strength", f"{arguments} --fit 2", monkeypatch)
    assert {path.name for path in (scratch / "protections").iterdir() if path.is_dir()} == {
        "tiny-48-noise-linf-8",
        "tiny-48-noise-linf-8-fit-2",
    }
