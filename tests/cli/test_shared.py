"""What every command has: words of the command line, one document as JSON, silence, options from a file."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
import yaml
from datasets import Dataset, load_from_disk
from datasets import Image as ImageFeature
from helpers.datasets import ROOT, make_dataset
from typer.main import get_command
from typer.testing import CliRunner

from hf_unlearnable import DataError, Protection, RecipeError, SourceError, Surrogate, verify
from hf_unlearnable.cli import app, main
from hf_unlearnable.data.columns import find_columns
from hf_unlearnable.errors import command_line_words
from hf_unlearnable.runs import RunFolder, protect, protect_like
from hf_unlearnable.runs.importing import read_noise

COMMANDS = get_command(app).commands


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    make_dataset().save_to_disk(folder / "photos")
    return folder


@pytest.fixture(scope="module")
def out(source):
    done = command("protect", source / "photos", "--output", source / "out", "--method", "texture", "--seed", 3)
    assert done.exit_code == 0, done.output
    return source / "out"


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_them(name):
    options = {option for one in COMMANDS[name].params for option in one.opts}
    assert {"--config", "--json", "--quiet", "-q", "--verbose", "-v"} <= options


def test_options_that_a_command_lacks_are_said_to_be_of_protect(source, out, tmp_path):
    rows = make_dataset(12, seed=1).cast_column("image", ImageFeature(decode=False)).to_list()
    rows[5]["label"] = None
    Dataset.from_list(rows, make_dataset(1).features).save_to_disk(tmp_path / "unlabelled")
    rows[5] |= {"label": 2, "image": {"bytes": b"broken", "path": "5.png"}}
    Dataset.from_list(rows, make_dataset(1).features).save_to_disk(tmp_path / "broken")
    np.save(tmp_path / "noise.npy", np.ones((12, 12, 12)))
    one = ["--victim", "small-resnet", "--seeds", 1, "--epochs", 1]
    imported = ["import", tmp_path / "noise.npy", tmp_path / "broken"]
    for words, told in (
        (["measure", out, "--test", tmp_path / "unlabelled", *one], "out, as protect does with --drop-unlabelled. If"),
        (["measure", out, "--test", tmp_path / "broken", *one], "such out, as protect does with --skip-unreadable"),
        ([*imported, "--output", tmp_path / "x", "--budget", "8"], "purpose, as protect does with --skip-unreadable"),
    ):
        assert told in str(command(*words).exception)


def test_the_version():
    from hf_unlearnable.version import __version__

    assert command("--version").stdout == f"hf-unlearnable {__version__}\n"


@pytest.mark.parametrize("words", [["env"], ["clean"], ["verify", "OUT"], ["protect", "PHOTOS", "--output", "NEW"]])
def test_json_is_one_document_and_all_else_goes_elsewhere(words, source, out, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_unlearnable.progress.QUIET", float("inf"))  # a busy machine would say how far it is
    places = {"OUT": out, "PHOTOS": source / "photos", "NEW": tmp_path / "new"}
    words = [places.get(word, word) for word in words] + (["--method", "texture"] if "protect" in words else [])
    done = command(*words, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["command"] == words[0]
    assert done.stderr == command(*words, *(["--overwrite"] if words[0] == "protect" else [])).stdout
    if words[0] == "protect":
        assert document["verification"]["images"] == document["images"] == 48
        assert document["published"] == str(tmp_path / "new" / "dataset")


def test_json_of_an_error(tmp_path):
    done = command("protect", tmp_path / "nothing", "--output", tmp_path / "out", "--json")
    document = json.loads(done.stdout)
    assert (document["command"], document["kind"], done.exit_code) == ("protect", "SourceError", 1)
    assert "where there is nothing" in document["error"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["measure"], "Missing argument"),
        (["verify", "out", "--cleam", "x"], "No such option"),
        (["protect", "photos"], "name the folder to write"),
        (["protect", "photos", "--cache", "attic"], "'attic' is not one of 'disk', 'device'"),
        (["protect", "--config", "nowhere.yaml"], "got --config nowhere.yaml, which cannot be read"),
    ],
)
def test_json_of_wrong_words(words, said):
    done = command(*words, "--json")
    document = json.loads(done.stdout)
    assert document["command"] == words[0]
    assert said in document["error"]
    assert done.exit_code != 0


def test_quiet_says_nothing(out):
    done = command("verify", out, "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert json.loads(command("verify", out, "-q", "--json").stdout)["verification"]["images"] == 48


def test_verbose_says_where_an_error_came_from(tmp_path, monkeypatch, capsys):
    words = ["hf-unlearnable", "protect", str(tmp_path / "nothing"), "--output", str(tmp_path / "out")]
    said = []
    for more in ([], ["--verbose"]):
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with warnings.catch_warnings(), pytest.raises(SystemExit):  # main sends warnings another way
            main()
        said.append(capsys.readouterr().err)
    plain, verbose = said
    assert "Traceback" not in plain
    assert "Traceback" in verbose
    assert verbose.endswith(plain)


def test_a_run_can_be_repeated_from_its_options(source, out, tmp_path):
    options = out / "private" / "command.yaml"
    assert oct(options.stat().st_mode)[-3:] == "600"
    kept = yaml.safe_load(options.read_text())
    assert (kept["command"], kept["dataset"], kept["seed"]) == ("protect", str(source / "photos"), 3)
    done = command("protect", "--config", options, "--output", tmp_path / "again")
    assert done.exit_code == 0, done.output
    other = command("protect", "--config", options, "--output", tmp_path / "other", "--seed", 4)  # goes first
    assert other.exit_code == 0, other.output
    bytes_of = [
        [row["image"].tobytes() for row in load_from_disk(str(folder / "dataset"))]
        for folder in (out, tmp_path / "again", tmp_path / "other")
    ]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


def test_an_option_that_may_be_repeated_is_one_word_in_a_file_too(source, tmp_path):
    (tmp_path / "options.yaml").write_text("method: em\nepochs: 1\nsurrogate: small-vgg\ndrop-column: [name]\n")
    done = command("protect", source / "photos", "--output", tmp_path / "out", "--config", tmp_path / "options.yaml")
    assert done.exit_code == 0, done.output
    assert RunFolder(tmp_path / "out").description.surrogates == ("small-vgg",)
    assert "name" not in RunFolder(tmp_path / "out").dataset.column_names


# Ten lists, each of the one before ten times: 10^10 words where somebody writes them out.
LISTS = "[&a0 [x], " + ", ".join(f"&a{n} [{f'*a{n - 1}, ' * 10}]" for n in range(1, 11)) + "]"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("seeds: 3", RecipeError, "with seeds; expected options of protect: .*seed"),
        ("command: measure", RecipeError, "of the command measure; expected one of protect"),
        ("- seed", RecipeError, "with list; expected lines such as"),
        ("seed: [", RecipeError, "which is not YAML"),
        ("budget: " + "[" * 2000 + "]" * 2000, RecipeError, "which is not YAML"),
        ("seed: " + "9" * 5000, RecipeError, "which is not YAML"),
        (f"budget: {LISTS}", RecipeError, "another kind of value in budget"),
        (f"drop-column: {LISTS}", RecipeError, "another kind of value in drop-column"),
        ("method: {em: 1}", RecipeError, "another kind of value in method"),
        (None, SourceError, "--subset"),
    ],
)
def test_a_file_of_options_that_cannot_be(text, error, message, source, tmp_path):
    file = tmp_path / "options.yaml"
    if text is not None:
        file.write_text(text)
    done = command("protect", source / "photos", "--output", tmp_path / "out", "--config", file)
    assert isinstance(done.exception, error)
    assert re.search(message, str(done.exception))


def test_words_of_the_command_line_and_of_python(source, tmp_path):
    data = make_dataset()
    with pytest.raises(DataError, match=r"label_column='lable'"):
        find_columns(data, label="lable")
    with command_line_words(), pytest.raises(DataError, match="--label-column lable"):
        find_columns(data, label="lable")
    done = command("protect", source / "photos", "--output", tmp_path / "out", "--label-column", "image")
    assert "got --label-column image of type Image; expected ClassLabel, strings, booleans or whole numbers" in str(
        done.exception
    )
    assert not re.search(r"label_column|class_encode|dataset\.", str(done.exception))
    with pytest.raises(DataError, match="class_encode_column"):  # and Python's again, after the command
        find_columns(data, label="image")


# Messages that only Python can come to: objects and settings that no command hands on.
PYTHON_ONLY = {
    "data/columns.py": {"with the splits", "IterableDataset"},
    "data/pixels.py": {"with_format"},
    "data/sources.py": {"stream"},
    "defences/base.py": {"changes a dataset"},
    "evaluation/callbacks.py": {"report_to", "above="},
    "evaluation/trainer_predictions.py": {"test rows", "clean test set", "test images with labels"},
    "information/kernel.py": {"sigma="},
    "information/mutual_information.py": {"bins="},
    "methods/base.py": {"no surrogate"},
    "metrics/imperceptibility/imperceptibility.py": {"lpips="},
    "metrics/inputs.py": {"expected a Pillow image"},
    "metrics/lpips.py": {"LPIPS needs"},  # a command for the shell
    "models/surrogate.py": {"no linear layer"},
    "protection/lookup.py": {"protection.protect(image, label)"},
    "runs/inspecting.py": {"got one split and"},
    "protection/class_patterns.py": {"with_format"},
    "data/tables.py": {"rename_column", "expected a row of the dataset", "expected a row alone"},
    "protection/releasing.py": {"is not known to hold images"},
    "registry.py": {"entry point"},
    "settings.py": {"decorated"},
    "training/run.py": {"milestones", "optimiser="},
}
PYTHON = re.compile(r"\b\w+=(\{\}|'|\d|True|False|\[)|\bdataset[.\[]|lambda|\b[a-z_]+\.[a-z_]+\(")


def test_no_message_speaks_python_to_the_command_line():
    """In what is raised and warned; a part that takes ``worded`` or ``option`` stands in braces here."""

    def text(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)
        return text(node.left) + text(node.right) if isinstance(node, ast.BinOp) else "{}"

    found = []
    for path in sorted((ROOT / "hf_unlearnable").rglob("*.py")):
        place = path.relative_to(ROOT / "hf_unlearnable").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else node
            warned = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "warn"
            if isinstance(call, ast.Call) and (isinstance(node, ast.Raise) or warned):
                said = " ".join(map(text, call.args))
                if PYTHON.search(said) and not any(words in said for words in PYTHON_ONLY.get(place, ())):
                    found.append(f"{place}: {said}")
    assert not found, "\n".join(found)


OPTION, COMMAND = re.compile(r"(?<![-\w])--[a-z]"), re.compile(r"\bhf-unlearnable [a-z]|protect --hold-out|^ --")


def test_no_message_speaks_of_options_to_python():
    """Outside the rooms of the two surfaces; a whole command may be named anywhere."""
    found: list[str] = []
    for path in sorted((ROOT / "hf_unlearnable").rglob("*.py")):
        if path.parent.name in ("cli", "app"):
            continue
        waiting: list[ast.AST] = [ast.parse(path.read_text())]
        while waiting:
            node = waiting.pop()
            worded = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("worded", "option")
            documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if worded or documents:
                continue
            waiting += ast.iter_child_nodes(node)
            said = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if " " in said and OPTION.search(said) and not COMMAND.search(said):
                found.append(f"{path.name}: {said}")
    assert not found, "\n".join(found)


@pytest.mark.filterwarnings("ignore:.* test images are among those")
def test_the_last_line_names_what_was_measured(source, out, tmp_path):
    shutil.copytree(out / "dataset", tmp_path / "back" / "theirs")
    one = ["--victim", "small-resnet", "--seeds", 1, "--epochs", 1, "--ratios", "0,1", "--test-split", "train"]
    done = command(
        "measure", tmp_path / "back" / "theirs", "--clean", source / "photos", "--test", source / "photos", *one
    )
    named = f"{tmp_path / 'back' / 'theirs'} --clean {source / 'photos'}"
    assert f"hf-unlearnable report {named}\n" in done.stdout
    assert (tmp_path / "back" / "theirs-report" / "command.yaml").exists()


def test_verify_names_the_option_where_originals_have_moved(tmp_path):
    make_dataset().save_to_disk(tmp_path / "photos")
    command("protect", tmp_path / "photos", "--output", tmp_path / "out", "--method", "texture")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    done = command("verify", tmp_path / "out")
    assert re.search("not where they were .*name the originals with --clean DATASET", str(done.exception))
    assert command("verify", tmp_path / "out", "--clean", tmp_path / "elsewhere").exit_code == 0


def test_an_empty_name_of_a_method_is_not_the_default(source, tmp_path):
    done = command("protect", source / "photos", "--output", tmp_path / "out", "--method", "")
    assert "got the method ''" in str(done.exception)
    with pytest.raises(RecipeError, match="got the method ''"):
        protect(source / "photos", tmp_path / "out", method="")


def test_the_home_folder_is_meant_wherever_a_path_is_named(tmp_path, monkeypatch):
    """A shell leaves ``~`` as it is in ``--output=~/out`` and in a file of options."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    make_dataset(24).remove_columns("label").save_to_disk(tmp_path / "home" / "photos")
    (tmp_path / "home" / "options.yaml").write_text("output: ~/second")
    for words in (
        ["protect", "~/photos", "--output=~/first"],
        ["protect", "~/photos", "--config=~/options.yaml"],
        ["protect", "~/photos", "--like=~/first", "--output=~/later"],
        ["verify", "~/first", "--clean=~/photos"],
        ["clean", "~/first"],
    ):
        done = command(*words)
        assert done.exit_code == 0, done.output
    run = protect("~/photos", "~/third", labels="none", progress=False)
    protect_like("~/first", "~/photos", "~/latest")
    assert verify("~/third") == run.verification
    assert len(Protection.from_pretrained(RunFolder("~/third").perturbations)) == 24
    run.protection.save_pretrained("~/kept")
    assert len(Protection("~/kept")) == 24
    np.save(tmp_path / "home" / "noise.npy", np.ones((24, 12, 12)))
    assert read_noise("~/noise.npy").shape == (24, 12, 12)
    assert Surrogate("~/network").model == str(tmp_path / "home" / "network")
    made = {"first", "second", "later", "third", "latest", "kept"}
    assert made <= {path.name for path in (tmp_path / "home").iterdir()}
    assert list((tmp_path / "here").iterdir()) == []
    assert "where there is nothing" in str(command("protect", "~nobody-at-all/x", "--output", "~/x").exception)
