"""A comparison goes on after a kill, is shared by processes, and measures again what is damaged."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from datasets import load_from_disk
from helpers.comparisons import work, write_comparison
from helpers.datasets import ROOT, make_dataset
from helpers.forked import start
from helpers.permissions import is_private, modes
from PIL import Image
from typer.testing import CliRunner

from hf_unlearnable import EM, Budget, BudgetError, DataError, OutputError, RecipeError, Texture
from hf_unlearnable.benchmark import Config, run, write_pages
from hf_unlearnable.benchmark.cells import Protected
from hf_unlearnable.benchmark.estimate import estimate
from hf_unlearnable.benchmark.fits import verified
from hf_unlearnable.benchmark.records import CellRecord, SetRecord, read_all
from hf_unlearnable.benchmark.rows import tables_of
from hf_unlearnable.benchmark.running import Work
from hf_unlearnable.cli import app
from hf_unlearnable.defences import Grayscale
from hf_unlearnable.errors import UnlearnableError


def start_work(folder: Path, output: str, worker: int = 0) -> BaseProcess:
    """A process that works at a comparison."""
    return start(work, folder, output, worker, said=folder / f"said by {worker}")


def start_working(folder: Path, output: str, worker: int = 0) -> BaseProcess:
    """The same, which has taken up some of the work."""
    begun = folder / output / "claims"
    before = len(list(begun.glob("*")))
    process = start_work(folder, output, worker)
    while process.is_alive() and len(list(begun.glob("*"))) == before:
        time.sleep(0.01)
    return process


def end(process: BaseProcess, folder: Path, worker: int = 0) -> None:
    process.join(300)
    assert process.exitcode == 0, (folder / f"said by {worker}").read_text()[-3000:]


def kill(folder: Path, output: str, kills: int) -> None:
    """Begin, and kill at random moments."""
    rng = random.Random(0)
    begun = folder / output / "claims"
    for _ in range(kills):
        process = start_working(folder, output)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.join()
        for kind in ("cells", "sets"):  # so that the next one, too, has something to do
            for file in sorted((folder / output / kind).glob("*.json"))[::2]:
                file.unlink()
        for file in begun.glob("*"):
            file.unlink()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A comparison that is finished, and a copy to be changed."""
    folder = tmp_path_factory.mktemp("comparison")
    text = write_comparison(folder)
    run(Config.parse(text), folder / "one", text=text, progress=False)
    shutil.copytree(folder / "one", folder / "changed")
    return folder


def figures(run: Path) -> dict:
    """All that does not depend on the clock."""
    cells = {cell.digest: (cell.epochs, cell.set) for cell in read_all(run / "cells", CellRecord)}
    sets = {one.digest: (one.released, one.verification) for one in read_all(run / "sets", SetRecord)}
    return {**cells, **sets}


def table(run: Path, output: Path) -> list[str]:
    """The leaderboard without what the fits took."""
    page = write_pages([run], output)[0].read_text()
    return [line.rsplit("|", 2)[0] for line in page.splitlines() if line.startswith("| ")]


def test_every_cell_is_one_document_and_what_needs_no_method_is_measured_once(runs):
    cells = list(read_all(runs / "one" / "cells", CellRecord))
    assert len(cells) == len(list((runs / "one" / "cells").glob("*.json"))) == 8
    assert sum(not cell.set for cell in cells) == 4
    assert {cell.identity["case"] for cell in cells if not cell.set} == {"clean", "clean part alone"}
    assert all(cell.seconds > 0 and cell.peak_memory > 2**20 and cell.versions["torch"] for cell in cells)
    (texture,) = read_all(runs / "one" / "sets", SetRecord)
    assert texture.name == "texture"
    assert texture.verification["violations"] == 0


def test_what_a_fit_took_is_unknown_where_another_process_had_begun_it(runs, tmp_path):
    folder, text = tmp_path / "begun", write_comparison(runs)
    shutil.copytree(runs / "one", folder)
    (file,) = (folder / "sets").glob("*.json")
    took = SetRecord.read(file).seconds
    file.unlink()  # as if it had been killed behind the fit
    run(Config.parse(text), folder, text=text, progress=False)
    again = SetRecord.read(file)
    assert took > 0
    assert (again.seconds, again.processor_seconds, again.peak_memory) == (None, None, None)
    for output, told in ((runs / "one", f"{took:.0f} s"), (folder, "-")):
        page = write_pages([output], tmp_path / "pages")[0].read_text()
        (line,) = (line for line in page.splitlines() if line.startswith("| texture"))
        assert line.rsplit("|", 2)[1].strip() == told
    assert str(estimate(Work.plan(Config.parse(text), folder)))


def test_two_processes_that_go_on_after_a_kill_give_the_table_of_one(runs, tmp_path):
    kill(runs, "two", 1)
    other, text = start_working(runs, "two", 1), write_comparison(runs)
    run(Config.parse(text), runs / "two", text=text, progress=False)  # this one is the second
    end(other, runs, 1)
    assert figures(runs / "two") == figures(runs / "one")
    assert table(runs / "two", tmp_path / "two") == table(runs / "one", tmp_path / "one")


def test_damaged_documents_are_measured_again_and_nothing_else(runs):
    text, folder = write_comparison(runs), runs / "changed"
    before = figures(folder)
    files = sorted((folder / "cells").glob("*.json"))
    files[0].write_text("{")
    files[1].write_text(files[1].read_text().replace('"seconds": ', '"seconds": 1'))
    files[2].write_bytes(files[3].read_bytes())
    files[4].write_text(re.sub(r'"seconds": [0-9.e-]+', '"seconds": NaN', files[4].read_text()))
    begun = []
    with pytest.warns(UserWarning, match="measured again by the next run") as warned:
        run(Config.parse(text), folder, text=text, progress=False, say=begun.append)
    assert len(begun) == 4
    told = " ".join(str(warning.message) for warning in warned)
    assert "damaged" in told
    assert "not those that were written" in told
    assert f"{files[4].name}', whose figures" in told
    assert "belongs into" in told
    assert figures(folder) == before


def test_a_set_whose_images_are_gone_is_fitted_again_where_a_cell_needs_it(runs, tmp_path):
    """Documents travel without the images that they are of: a leaderboard is a folder of them."""
    text, folder = write_comparison(runs), tmp_path / "documents"
    for part in ("cells", "sets"):
        shutil.copytree(runs / "one" / part, folder / part)
    begun = []
    run(Config.parse(text), folder, text=text, progress=False, say=begun.append)
    assert begun == []
    gone = next(cell for cell in read_all(folder / "cells", CellRecord) if cell.set)
    (folder / "cells" / f"{gone.digest}.json").unlink()
    run(Config.parse(text), folder, text=text, progress=False, say=begun.append)
    assert len(begun) == 2  # the fit, and the cell
    assert figures(folder) == figures(runs / "one")


def test_another_revision_of_a_method_is_fitted_anew(runs, monkeypatch):
    (data,) = Config.parse(write_comparison(runs)).datasets
    before = Protected("none", data, Texture(), Budget(8))
    assert (before.name, "revision" in before.identity["method"]) == ("texture", False)
    digest = before.digest
    monkeypatch.setattr(Texture, "revision", 2)
    after = Protected("none", data, Texture(), Budget(8))
    assert (after.name, after.identity["method"]["revision"]) == ("texture (revision 2)", 2)
    assert after.digest != digest


def test_what_another_tool_released_is_looked_at_again(runs, tmp_path):
    text = write_comparison(runs)
    (fit,) = [one for one in (runs / "one" / "protected").iterdir() if (one / "dataset").is_dir()]
    shutil.copytree(fit / "dataset", tmp_path / "theirs")
    text = text.replace("[texture]", f"[{{name: theirs, released: {tmp_path / 'theirs'}, dataset: squares}}]")
    run(Config.parse(text), tmp_path / "run", text=text, progress=False)
    shutil.rmtree(tmp_path / "theirs")
    data = load_from_disk(str(fit / "dataset"))
    data.select([1, 0, *range(2, len(data))]).save_to_disk(tmp_path / "theirs")
    with pytest.raises(UnlearnableError, match=r"other released images .* than those that were measured"):
        run(Config.parse(text), tmp_path / "run", text=text, progress=False)


def test_images_with_another_alpha_channel_are_no_protected_set(runs):
    (data,) = Config.parse(write_comparison(runs)).datasets
    clean = make_dataset(6, channels=4)
    theirs = clean.map(lambda row: {"image": Image.merge("RGBA", (*row["image"].split()[:3], row["image"].split()[0]))})
    with pytest.raises(BudgetError, match=r"as texture, 6 of 6 images with a changed alpha channel .*expected none"):
        verified(Protected("none", data, Texture(), Budget(8)), clean, theirs)


def test_the_folder_of_a_run_stands_for_its_published_images_and_is_no_clean_dataset(runs, tmp_path):
    text = write_comparison(runs)
    (fit,) = [one for one in (runs / "one" / "protected").iterdir() if (one / "dataset").is_dir()]
    theirs = text.replace("[texture]", f"[{{name: theirs, released: {fit}, dataset: squares}}]")
    work = Work.plan(Config.parse(theirs), tmp_path)
    assert list(work.released(work.protected[0])["label"]) == list(load_from_disk(str(fit / "dataset"))["label"])
    with pytest.raises(DataError, match="which an earlier protect wrote; expected originals: what is protected is"):
        Work.plan(Config.parse(text.replace(str(runs / "test"), str(fit))), tmp_path)


@pytest.mark.parametrize("output", ["file", "file/run"])
def test_where_no_folder_can_be_is_told_before_anything_else(tmp_path, output):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"nothing can be made in '.*file', which is a file"):
        run(Config.parse("datasets: [cifar10]\nmethods: [texture]\n"), tmp_path / output)


def documents_of_elsewhere(runs: Path, folder: Path) -> Path:
    """The same run as a machine that rounds otherwise would have it, without the images."""
    for part in ("cells", "sets"):
        shutil.copytree(runs / "one" / part, folder / part)
    (one,) = read_all(folder / "sets", SetRecord)
    replace(one, released="0" * 32, machine="another").write(folder / "sets")
    return folder


def test_cells_of_one_set_are_never_trained_on_two_sets_of_images(runs, tmp_path):
    text, folder = write_comparison(runs), documents_of_elsewhere(runs, tmp_path / "elsewhere")
    gone = next(cell for cell in read_all(folder / "cells", CellRecord) if cell.set)
    (folder / "cells" / f"{gone.digest}.json").unlink()
    before = figures(folder)
    for _ in range(2):  # the second time, the images of the first are there
        with pytest.raises(UnlearnableError, match=r"\(then: another\)\. Go on .*another seed, such as 1, behind"):
            run(Config.parse(text), folder, text=text, progress=False)
        assert figures(folder) == before


def test_a_leaderboard_of_two_runs_takes_no_cells_of_other_images(runs, tmp_path):
    folder = documents_of_elsewhere(runs, tmp_path / "elsewhere")
    for first, second in [(runs / "one", folder), (folder, runs / "one")]:
        (alone,) = tables_of([first])
        with pytest.warns(UserWarning, match=r"other images of texture \(fit 0, linf:8\) than a run before it") as told:
            (both,) = tables_of([first, second])
        assert str(second) in str(told[0].message)
        assert both == alone


def test_an_estimate_is_made_of_finished_cells_or_of_probes(runs, tmp_path):
    config = Config.parse(write_comparison(runs))
    nothing = estimate(Work.plan(config, tmp_path))
    assert (nothing.fits, nothing.cells, nothing.finished) == (1, 8, 0)
    assert nothing.probed >= 2
    assert nothing.seconds > 0
    assert "from a short probe" in str(nothing)
    assert estimate(Work.plan(config, runs / "one")).seconds == 0
    next(iter((runs / "changed" / "cells").glob("*.json"))).unlink()
    left = estimate(Work.plan(config, runs / "changed"))
    assert (left.cells, left.finished, left.probed) == (1, 1, 0)


@pytest.mark.parametrize("kind", [DataError, ValueError])
def test_a_method_that_fails_is_told_at_the_end_and_the_others_are_measured(runs, monkeypatch, kind):
    def fail(self, task):
        raise kind("made to fail")

    monkeypatch.setattr(EM, "run", fail)
    text, begun = write_comparison(runs).replace("[texture]", "['em:epochs=1', texture]"), []
    next(iter((runs / "changed" / "cells").glob("*.json"))).unlink()
    work = Work.plan(Config.parse(text), runs / "changed", begun.append)
    with pytest.raises(UnlearnableError, match=r"1 piece.* could not be done, and all others are: .*made to fail"):
        work.do()
    assert figures(runs / "one").items() <= figures(runs / "changed").items()
    assert sum("made to fail" in line for line in begun) == 1


def test_a_defence_that_fails_takes_neither_the_estimate_nor_the_other_cells_along(runs, monkeypatch):
    def fail(self, image):
        raise ValueError("made to fail")

    monkeypatch.setattr(Grayscale, "image", fail)
    text = write_comparison(runs).replace('adamw; none"', 'adamw; none", "linear; adamw; grayscale"')
    work = Work.plan(Config.parse(text), runs / "changed")
    expected = estimate(work)
    assert expected.unknown == ("linear, adamw with grayscale (squares)",)
    with pytest.raises(UnlearnableError, match=r"linear.*grayscale.*: ValueError: made to fail \(.*test_running"):
        work.do()
    assert figures(runs / "one").items() <= figures(runs / "changed").items()


def test_an_attack_that_is_none_is_told_with_its_method(runs, monkeypatch):
    monkeypatch.setattr(Texture, "adaptive", "nope")
    with pytest.raises(RecipeError, match=r"methods: texture names 'nope' as the best attack .*got the defence 'nope'"):
        Work.plan(Config.parse(write_comparison(runs)), runs / "changed")


def test_a_folder_of_something_else_is_no_output(runs, tmp_path):
    text = write_comparison(runs)
    (tmp_path / "photos").mkdir()
    (tmp_path / "cat.png").touch()
    with pytest.raises(OutputError, match=r"holds something else than a run of benchmark \(cat.png, photos\)"):
        run(Config.parse(text), tmp_path, text=text, progress=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_who_may_read_a_run(runs):
    """The table is for all, the fits are not."""
    run = runs / "one"
    fits = list((run / "protected").iterdir())
    assert len(fits) == 1
    assert modes(run)["protected"] == "700"
    assert is_private(fits[0] / "private")
    assert {path.name for path in run.iterdir()} >= {"protected", "cells", "sets", "claims"}


def test_another_comparison_does_not_get_the_same_folder(runs):
    text = write_comparison(runs)
    with pytest.raises(OutputError, match=r"the run of another configuration \(see config.yaml"):
        run(Config.parse(text), runs / "one", text=text + "# another\n", progress=False)
    (runs / "another.yaml").write_text(text + "# another\n")
    look = CliRunner().invoke(
        app, ["benchmark", str(runs / "another.yaml"), "--dry-run", "--output", str(runs / "one")]
    )
    assert "remove that file: what is finished is kept" in str(look.exception)  # as from the command itself


@pytest.mark.slow
def test_twenty_kills(runs):
    kill(runs, "killed often", 20)
    end(start_work(runs, "killed often"), runs)
    assert figures(runs / "killed often") == figures(runs / "one")


@pytest.mark.slow
def test_processes_of_accelerate_share_the_cells(tmp_path):
    text = write_comparison(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    run(Config.parse(text), tmp_path / "one", text=text, progress=False)
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        ROOT / "examples/accelerate/cpu.yaml",
    ]
    command += ["--main_process_port", "0", "-m", "hf_unlearnable", "benchmark", tmp_path / "c.yaml"]
    done = subprocess.run([*map(str, command), "--output", str(tmp_path / "two")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert figures(tmp_path / "two") == figures(tmp_path / "one")
    assert done.stdout.count("leaderboard.md") >= 1
