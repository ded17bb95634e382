"""Perturbations that another tool made: read, understood or asked for, and a run like any other."""

from __future__ import annotations

import inspect
import json
import pickle
import shlex

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from helpers.datasets import make_dataset, pixels_of
from huggingface_hub import DatasetCard
from safetensors.torch import save_file
from typer.testing import CliRunner

from hf_unlearnable import (
    Budget,
    BudgetError,
    DataError,
    Method,
    OutputError,
    Protection,
    RecipeError,
    SourceError,
    push,
    verify,
)
from hf_unlearnable.cli import app
from hf_unlearnable.reports.run_report import write_report
from hf_unlearnable.runs import RunFolder, measure, protect
from hf_unlearnable.runs.importing import NOT_IMPORTED, Imported, import_noise, read_noise

DATA = make_dataset(12, channels=3)
RNG = np.random.default_rng(0)
LEVELS = RNG.integers(-8, 9, (12, 12, 12, 3)).astype(np.int8)  # N, H, W, C
FIRST = LEVELS.transpose(0, 3, 1, 2)
CLEAN = pixels_of(DATA).astype(int)
EXPECTED = np.clip(CLEAN + LEVELS, 0, 255)


def released(noise, tmp_path, data=DATA, **options):
    options = {"budget": 8, "progress": False, "output_dir": tmp_path / "made", **options}
    return pixels_of(data.map(Protection.from_arrays(noise, data, **options)))


@pytest.mark.parametrize(
    "noise",
    [
        LEVELS,
        FIRST,
        LEVELS.astype(np.int64),
        LEVELS.astype(np.float64),
        LEVELS.astype(np.float32) / 255,
        LEVELS.astype(np.float16) / np.float16(255),
        (FIRST / 255).astype(np.float64),
        torch.from_numpy(FIRST.copy()),
        torch.from_numpy(FIRST / 255).float(),
        torch.from_numpy(FIRST.astype(np.float32)).bfloat16(),
    ],
)
def test_every_form_is_the_same_protection(noise, tmp_path):
    assert np.array_equal(released(noise, tmp_path), EXPECTED)


def test_greyscale_has_no_channel_axis_and_classes_have_one_each(tmp_path):
    data = make_dataset(12)
    one = RNG.integers(-8, 9, (3, 12, 12))
    result = released(one, tmp_path, data)
    assert np.array_equal(result, np.clip(pixels_of(data).astype(int) + one[data["label"]], 0, 255))
    assert Protection(tmp_path / "made").about["method"] == {"name": "imported", "per": "class"}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_greyscale_without_a_channel_axis_is_the_same_in_either_layout(layout, tmp_path):
    data = make_dataset(12)
    noise = RNG.integers(-8, 9, (12, 12, 12))
    assert np.array_equal(
        released(noise, tmp_path, data, layout=layout), np.clip(pixels_of(data).astype(int) + noise, 0, 255)
    )


def test_images_without_labels_need_none(tmp_path):
    assert np.array_equal(released(LEVELS, tmp_path, DATA.remove_columns("label")), EXPECTED)


@pytest.mark.parametrize(
    ("noise", "told", "asked"),
    [
        (np.full((12, 3, 12, 3), 4), {}, r"both ends may be channels.*layout='nchw' for .*layout='nhwc'"),
        (np.full((12, 12, 12, 5), 4), {}, r"no end may be channels"),
        (np.full((12, 12, 12, 3), 0.9), {}, r"up to 0.9, which may be meant .*scale=1 or scale=255"),
    ],
)
def test_what_can_be_understood_in_two_ways_is_asked_for(noise, told, asked, tmp_path):
    with pytest.raises(RecipeError, match=asked):
        released(noise, tmp_path, **told)
    assert not (tmp_path / "made").exists()


def test_as_many_classes_as_images_is_asked_for(tmp_path):
    data = make_dataset(4, channels=3, classes=4)
    shuffled = data.select([1, 0, 3, 2])
    noise = LEVELS[:4]
    with pytest.raises(
        RecipeError, match=r"as many perturbations as images and as classes \(4\).*per='image' or per='"
    ):
        released(noise, tmp_path, shuffled)
    by_row = released(noise, tmp_path, shuffled, per="image")
    by_class = released(noise, tmp_path, shuffled, per="class", output_dir=tmp_path / "other")
    assert np.array_equal(by_row, np.clip(pixels_of(shuffled).astype(int) + noise, 0, 255))
    assert np.array_equal(by_class, np.clip(pixels_of(shuffled).astype(int) + noise[shuffled["label"]], 0, 255))


def test_what_is_told_is_taken(tmp_path):
    half = np.where(LEVELS > 0, 1.0, -1.0) * 0.7
    assert np.array_equal(released(half, tmp_path, scale=255), np.clip(CLEAN + np.sign(half), 0, 255))
    with pytest.raises(BudgetError, match=r"up to 178.5 levels"):
        released(half, tmp_path, scale=1, output_dir=tmp_path / "other")


@pytest.mark.parametrize(
    ("told", "choices"),
    [
        ({"layout": "NCHW"}, r"layout='NCHW'; expected one of 'nchw', 'nhwc'"),
        ({"layout": "hwc"}, r"layout='hwc'; expected one of 'nchw', 'nhwc'"),
        ({"scale": 7}, r"scale=7; expected one of 1, 255"),
        ({"per": "images"}, r"per='images'; expected one of 'image', 'class'"),
    ],
)
def test_what_is_told_is_one_of_the_choices(told, choices, tmp_path):
    with pytest.raises(RecipeError, match=f"from_arrays: got {choices}"):
        released(LEVELS, tmp_path, **told)
    with pytest.raises(RecipeError, match=f"import_noise: got {choices}"):
        import_noise(LEVELS, DATA, tmp_path / "run", budget=8, **told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("noise", "error", "message"),
    [
        (LEVELS[:5], DataError, r"got 5 perturbations; expected 12, one for each image of the dataset, or 3"),
        (LEVELS * 2, BudgetError, r"up to 16 levels \(number \d+\), 12 of 12 outside the budget linf:8.*clip=True"),
        (LEVELS.view(np.uint8), BudgetError, r"up to 255 levels.*noise.view\(numpy.int8\)"),
        (np.where(LEVELS == 3, np.nan, LEVELS), DataError, "not all finite numbers"),
        (LEVELS.astype(bool), DataError, r"as bool .*expected numbers"),
        (LEVELS.astype(str), DataError, r"expected numbers"),
        (LEVELS[0, 0], DataError, r"expected numbers, \(N, height, width, channels\)"),
        (np.zeros_like(LEVELS), DataError, r"nothing is left in images of 8 bits.*scale=1 is for images from 0 to 1"),
        (LEVELS[..., :1], DataError, r"channel axis of 1 for colour images; expected 3"),
    ],
)
def test_what_cannot_be_taken_over(noise, error, message, tmp_path):
    with pytest.raises(error, match=message):
        released(noise, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_image_cannot_have_two_perturbations(tmp_path):
    twice = concatenate_datasets([DATA, DATA])
    other = np.concatenate([LEVELS, LEVELS])
    assert np.array_equal(released(other, tmp_path, twice), np.concatenate([EXPECTED, EXPECTED]))
    other[[14, 17]] = LEVELS[:2]
    with pytest.raises(DataError, match=r"2 rows than for an earlier row .*: 14 \(2\), 17 \(5\); expected the same"):
        released(other, tmp_path, twice, output_dir=tmp_path / "other")


def test_what_is_larger_is_clipped_when_told(tmp_path):
    large = LEVELS.astype(int) * 3
    assert np.array_equal(released(large, tmp_path, clip=True), np.clip(CLEAN + np.clip(large, -8, 8), 0, 255))
    two = Protection.from_arrays(large, DATA, budget="l2:100", clip=True, output_dir=tmp_path / "two", progress=False)
    change = pixels_of(DATA.map(two)).astype(int) - CLEAN
    assert 90 < np.sqrt((change**2).reshape(12, -1).sum(axis=1)).max() <= 100
    with pytest.raises(BudgetError, match="allows less where an image is smooth"):
        released(LEVELS, tmp_path, budget=Budget(8, visibility="adaptive"), output_dir=tmp_path / "three")


def test_other_sizes_are_resampled_and_keep_the_budget(tmp_path):
    data = make_dataset(12, channels=3, side=20)
    change = released(LEVELS, tmp_path, data).astype(int) - pixels_of(data)
    assert 4 <= np.abs(change).max() <= 8
    assert Protection(tmp_path / "made").description.resampled == 12


def test_without_a_folder_it_lies_in_the_cache_and_a_folder_that_is_there_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    made = Protection.from_arrays(LEVELS, DATA, budget=8, progress=False)
    assert made.folder == tmp_path / "unlearnable" / made.digest
    assert Protection.from_arrays(LEVELS, DATA, budget=8, progress=False).digest == made.digest
    (made.folder / "perturbations.arrow").write_bytes(b"damaged")
    again = Protection.from_arrays(LEVELS, DATA, budget=8, progress=False)
    assert (again.folder, again.digest) == (made.folder, made.digest)
    assert np.array_equal(pixels_of(DATA.map(again)), EXPECTED)
    (tmp_path / "empty").mkdir()
    assert np.array_equal(released(LEVELS, tmp_path, output_dir=tmp_path / "empty"), EXPECTED)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError):
        released(LEVELS, tmp_path, output_dir=tmp_path / "full")


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_files_of_every_kind_are_read_and_nothing_in_them_is_run(tmp_path):
    noise = torch.from_numpy(FIRST.copy())
    np.save(tmp_path / "a.npy", FIRST)
    torch.save(noise, tmp_path / "b.pt")
    torch.save({"noise": noise}, tmp_path / "c.pth")
    save_file({"noise": noise.contiguous()}, tmp_path / "d.safetensors")
    for name in ("a.npy", "b.pt", "c.pth", "d.safetensors"):
        assert np.array_equal(np.asarray(read_noise(tmp_path / name)), FIRST)
    left = tmp_path / "left"
    torch.save(Evil(left), tmp_path / "e.pt")
    np.save(tmp_path / "f.npy", np.array([Evil(left)], dtype=object), allow_pickle=True)
    (tmp_path / "g.npy").write_bytes(pickle.dumps(Evil(left)))
    (tmp_path / "h.safetensors").write_bytes(b"no tensors")
    (tmp_path / "i.pt").touch()
    torch.save({"one": noise, "two": noise}, tmp_path / "j.pt")
    torch.save("words", tmp_path / "k.pt")
    for name in "efghi":
        (file,) = tmp_path.glob(f"{name}.*")
        with pytest.raises(DataError, match="cannot be read as an array"):
            read_noise(file)
    assert not left.exists()
    with pytest.raises(DataError, match=r"with 2 entries \(one, two\); expected one tensor"):
        read_noise(tmp_path / "j.pt")
    with pytest.raises(DataError, match="with str; expected one tensor"):
        read_noise(tmp_path / "k.pt")
    with pytest.raises(SourceError, match="where there is no file"):
        read_noise(tmp_path / "nowhere.npy")
    (tmp_path / "x.mat").touch()
    with pytest.raises(DataError, match=r"ends in .npy, .pt, .pth, .safetensors"):
        read_noise(tmp_path / "x.mat")


def run_command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_run_is_like_any_other_and_says_that_it_was_made_elsewhere(tmp_path, hub, name):
    DATA.save_to_disk(tmp_path / "clean")
    make_dataset(9, channels=3, seed=2).save_to_disk(tmp_path / "test")
    np.save(tmp_path / "noise.npy", LEVELS / 255)
    out = tmp_path / "out"
    done = run_command("import", tmp_path / "noise.npy", tmp_path / "clean", "--output", out, "--budget", "8/255")
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"Now see what it does:  hf-unlearnable measure {out} --test DATASET" in done.output
    run = RunFolder.open(out)
    assert np.array_equal(pixels_of(run.dataset), EXPECTED)
    assert run.description.made_elsewhere
    assert (verify(run).violations, verify(run).images) == (0, 12)
    report = measure(
        run, test=str(tmp_path / "test"), victims="random-features", ratios=(0, 1), seeds=(1,), progress=False
    )
    assert report.test_images == 9
    page = write_report(run)[0].read_text()
    assert "made elsewhere, by another tool, and imported" in page
    push(run, name)
    card = DatasetCard.load(name).content
    assert "made elsewhere: perturbations of another tool" in card
    assert "a small perturbation that another tool made" in card
    assert "| surrogate | not known |" in card
    assert "hf-unlearnable:imported" in card
    line = (run.private / "command.yaml").read_text().splitlines()[0]
    again = shlex.split(line.partition("hf-unlearnable ")[2].replace("ANOTHER", str(tmp_path / "again")))
    assert run_command(*again).exit_code == 0
    assert np.array_equal(pixels_of(RunFolder.open(tmp_path / "again").dataset), EXPECTED)


def test_noise_takes_classes_of_one_image_as_no_method_does(tmp_path):
    few = make_dataset(4, channels=3)
    run = import_noise(LEVELS[:4], few, tmp_path / "out", budget=8, progress=False)
    assert run.intake.lonely == ("class 1", "class 2")
    np.save(tmp_path / "noise.npy", LEVELS[:4])
    few.save_to_disk(tmp_path / "few")
    words = [
        "import",
        tmp_path / "noise.npy",
        tmp_path / "few",
        "--budget",
        "8/255",
        "--output",
        tmp_path / "from-shell",
    ]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0


@pytest.mark.parametrize("option", [{"others": "photos"}, {"others_split": "test"}, {"checkpoint_every": 60.0}])
def test_options_of_an_optimisation_are_refused(option, tmp_path):
    (name,) = option
    with pytest.raises(RecipeError, match=f"got {name}=.* for perturbations that are made; leave it out"):
        import_noise(LEVELS, DATA, tmp_path / "out", budget=8, progress=False, **option)


def test_an_import_heeds_or_refuses_every_option_of_a_fit():
    handed_on, heeded = (set(inspect.signature(fit).parameters) for fit in (Method.fit, Imported.fit))
    assert (handed_on & set(inspect.signature(protect).parameters)) - heeded <= NOT_IMPORTED


def test_the_command_asks_in_its_own_words(tmp_path):
    DATA.save_to_disk(tmp_path / "clean")
    np.save(tmp_path / "noise.npy", np.full((12, 12, 12, 3), 0.9))
    words = ("import", tmp_path / "noise.npy", tmp_path / "clean", "--output", tmp_path / "out", "--budget", "8/255")
    assert "--scale 1 or --scale 255" in str(run_command(*words).exception)
    assert "--clip" in str(run_command(*words, "--scale", "1").exception)
    assert not (tmp_path / "out").exists()
    done = run_command(*words, "--scale", "255", "--layout", "nhwc", "--per", "image", "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.stdout)["method"] == "imported"


def test_an_import_that_was_killed_begins_anew(tmp_path, monkeypatch):
    DATA.save_to_disk(tmp_path / "clean")
    given = {"budget": 8, "progress": False}
    with monkeypatch.context() as patched:
        patched.setattr("hf_unlearnable.runs.folder.RunFolder.keep_verification", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_noise(-LEVELS, tmp_path / "clean", tmp_path / "out", **given)
    import_noise(LEVELS, tmp_path / "clean", tmp_path / "out", **given)
    assert np.array_equal(pixels_of(RunFolder.open(tmp_path / "out").dataset), EXPECTED)
    with pytest.raises(RecipeError, match=r"got hold_out=0.2 for perturbations that are made"):
        import_noise(LEVELS, tmp_path / "clean", tmp_path / "more", hold_out=0.2, **given)


def interrupted(*_):
    raise KeyboardInterrupt
