from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset, load_from_disk
from helpers.datasets import make_dataset, make_output, pixels_of
from helpers.environment import HUB
from helpers.loopback_hub import USER, WRITE_TOKEN
from huggingface_hub import DatasetCard
from PIL import Image
from transformers import AutoModelForImageClassification
from typer.testing import CliRunner

from hf_unlearnable import (
    EM,
    DataError,
    OutputError,
    PrivacyError,
    RecipeError,
    Report,
    SourceError,
    pull,
    push,
    push_model,
    verify,
)
from hf_unlearnable.cli.command import app
from hf_unlearnable.errors import DataWarning
from hf_unlearnable.evaluation.results import Result

pytestmark = pytest.mark.usefixtures("hub")


@pytest.fixture(scope="session")
def originals(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals") / "data"
    DatasetDict({"train": small}).save_to_disk(folder)
    return folder


@pytest.fixture
def out(small, protection, originals, tmp_path):
    return make_output(tmp_path / "out", small, protection, str(originals))


def image_bytes(rows) -> str:
    """A digest of the stored bytes of all images."""
    return hashlib.sha256(b"".join(row["image"]["bytes"] for row in rows)).hexdigest()


def stored(dataset: Dataset):
    from datasets import Image as ImageFeature

    return dataset.cast_column("image", ImageFeature(decode=False))


def test_push_then_load_in_a_fresh_process(out, name, tmp_path):
    pushed = push(out, name)
    assert pushed.private
    assert pushed.url == f"{HUB.url}/datasets/{name}"
    repo = HUB.dataset(name)
    assert repo.private
    assert sorted(repo.head.files) == [
        ".gitattributes",
        "README.md",
        "data/train-00000-of-00001.parquet",
        "preview.png",
    ]
    script = """
import hashlib, sys
from datasets import Image, load_dataset
for streaming in (False, True):
    data = load_dataset(sys.argv[1], split="train", streaming=streaming).cast_column("image", Image(decode=False))
    print("digest", hashlib.sha256(b"".join(row["image"]["bytes"] for row in data)).hexdigest())
"""
    env = {**os.environ, "HF_HOME": str(tmp_path / "fresh")}
    done = subprocess.run([sys.executable, "-c", script, name], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    digests = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("digest")]
    assert digests == [image_bytes(stored(load_from_disk(str(out / "dataset"))))] * 2


def test_pushing_again_changes_nothing(out, name, caplog):
    first = push(out, name)
    assert push(out, name) == first
    assert caplog.records == []  # nothing went wrong
    messages = [commit.message for commit in HUB.dataset(name).commits.values()]
    assert messages == ["initial commit", "Upload protected images (default, train)", "Describe the protection"]


def test_images_that_are_replaced_by_those_of_another_run_are_told(out, small, name, tmp_path):
    first = push(out, name)
    few = small.select(range(16))
    few.save_to_disk(tmp_path / "few")
    other = EM(epochs=1).fit(few, output_dir=tmp_path / "fitted", progress=False)
    another = make_output(tmp_path / "other", few, other, str(tmp_path / "few"))
    assert push(another, name, revision="draft").warning == ""  # on a branch of its own
    assert push(another, name, split="second").warning == ""  # beside
    with pytest.warns(DataWarning, match=r"had other images or columns \(rows before: train 48, second 16\)") as caught:
        pushed = push(another, name)
    assert str(caught[0].message) == pushed.warning
    assert "replaced by these 16" in pushed.warning
    before = pushed.warning.split("--revision ")[1].split()[0]
    assert len(pull(name, tmp_path / "back", revision=before)) == 48
    assert push(another, name) == replace(pushed, warning="")
    assert first.commit in HUB.dataset(name).commits


def test_what_the_owner_wrote_is_kept(out, name):
    push(out, name, title="Harbour", description="My pictures.", licence="cc-by-4.0")
    repo = HUB.dataset(name)
    card = DatasetCard(repo.head.files["README.md"].decode())
    assert (card.data.pretty_name, card.data.license) == ("Harbour", "cc-by-4.0")
    card.data.language = "en"
    card.data.tags.append("harbour")
    card.text = card.text.replace("My pictures.", "My pictures of the harbour.") + "\nWrite to me.\n"
    repo.add("main", {**repo.head.files, "README.md": str(card).encode()}, "by hand")
    push(out, name)
    again = DatasetCard(repo.head.files["README.md"].decode())
    assert str(again) == str(card)
    with pytest.raises(RecipeError, match=r"README\.md in the repository"):
        push(out, name, description="Another")
    push(out, name, title="Port")
    renamed = DatasetCard(repo.head.files["README.md"].decode())
    assert (renamed.data.pretty_name, renamed.text) == ("Port", card.text.replace("# Harbour", "# Port"))
    # what was computed is written anew, whatever stands there
    repo.add("main", {**repo.head.files, "README.md": str(card).replace("PSNR", "MISS").encode()}, "by hand")
    push(out, name)
    assert repo.head.files["README.md"].decode() == str(card)


def test_configs_splits_revisions_and_shards(out, name):
    push(out, name, config="small", split="validation", revision="draft", max_shard_size="4KB")
    repo = HUB.dataset(name)
    assert list(repo.head.files) == [".gitattributes"]  # main is as it was
    files = repo.commits[repo.branches["draft"]].files
    assert len([file for file in files if file.startswith("small/validation-")]) > 1
    push(out, name, config="small", split="test", revision="draft")
    push(out, name, config="other", revision="draft")
    assert sorted(get_dataset_config_names(name, revision="draft")) == ["other", "small"]
    text = repo.commits[repo.branches["draft"]].files["README.md"].decode()
    assert "begin split small/validation" in text
    assert "begin split small/test" in text
    assert text.count("## Licence and citation") == 1
    both = load_dataset(name, "small", revision="draft")
    assert image_bytes(stored(both["validation"])) == image_bytes(stored(both["test"]))


def test_pull_and_verify(out, small, name, tmp_path):
    push(out, name)
    pulled = pull(name, tmp_path / "pulled")
    assert (pixels_of(pulled) == pixels_of(load_from_disk(str(out / "dataset")))).all()
    with pytest.raises(OutputError, match="exists already"):
        pull(name, tmp_path / "pulled")
    assert str(verify(out, name)) == str(verify(out))
    assert verify(out, name).violations == 0
    # somebody replaced an image on the Hub
    damaged = pulled.map(lambda row, index: {"image": small[index]["image"]} if index == 7 else {}, with_indices=True)
    damaged.push_to_hub(name)
    with pytest.raises(DataError, match="row 7: got other pixels"):
        verify(out, name)
    small.select(range(40)).push_to_hub(name)
    with pytest.raises(DataError, match="got 40 protected rows"):
        verify(out, name)
    (out / "private" / "origin.json").unlink()
    with pytest.raises(SourceError, match="clean=DATASET"):
        verify(out)


def test_verify_tells_what_left_the_budget(out, name, tmp_path):
    from hf_unlearnable import BudgetError

    folder = out / "dataset"
    brighter = load_from_disk(str(folder)).map(
        lambda row: {"image": row["image"].point(lambda level: min(255, level + 20))}
    )
    brighter.save_to_disk(tmp_path / "brighter")
    folder.rename(tmp_path / "before")
    (tmp_path / "brighter").rename(folder)
    assert verify(out).violations == 48
    result = CliRunner().invoke(app, ["verify", str(out)])
    assert isinstance(result.exception, BudgetError)


def test_a_folder_of_the_same_name_is_not_taken_for_the_hub(out, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(RecipeError, match="a folder here too"):
        verify(out, name)


@pytest.mark.parametrize("missing", ["repository", "config", "split", "revision"])
def test_pulling_what_is_not_there(out, name, tmp_path, missing):
    if missing != "repository":
        push(out, name)
    options = {missing: "nothing"} if missing != "repository" else {}
    with pytest.raises((SourceError, RecipeError), match="nothing" if options else "not on the Hub"):
        pull(name, tmp_path / "pulled", **options)
    assert not (tmp_path / "pulled").exists()


def test_a_split_that_is_not_there_is_told_with_those_that_are(out, name, tmp_path):
    push(out, name)
    with pytest.raises(RecipeError) as caught:
        pull(name, tmp_path / "pulled", split="test")
    assert str(caught.value) == f"got split='test' of {name!r}; expected one of train, or all. Nothing was written"
    with pytest.raises(RecipeError, match=r"got split='train\+test' of .*; expected one of train, or all"):
        pull(name, tmp_path / "pulled", split="train+test")
    with pytest.raises(RecipeError, match=r"format: train.bad.\. Nothing was written$"):
        pull(name, tmp_path / "pulled", split="train[bad]")
    with pytest.raises(RecipeError, match=r"'nothing' not found.*[^.]\. Nothing was written$"):
        pull(name, tmp_path / "pulled", config="nothing")
    assert len(pull(name, tmp_path / "pulled", split="train[:3]")) == 3


def test_a_public_repository_is_not_pushed_to_in_private(out, name, hub):
    repo = hub.create("datasets", name, private=False)
    with pytest.raises(PrivacyError, match="--private"):
        push(out, name)
    assert {request.target for request in hub.received if request.method != "GET"} == {"/api/validate-yaml"}
    assert list(repo.head.files) == [".gitattributes"]
    assert not push(out, name, private=False).private
    assert "README.md" in repo.head.files


def test_a_private_repository_is_never_made_public(out, name, hub):
    repo = hub.create("datasets", name, private=True)
    with pytest.raises(PrivacyError, match=r"private=False for the repository .*, which is private.*--public"):
        push(out, name, private=False)
    assert list(repo.head.files) == [".gitattributes"]
    assert push(out, name).private


def test_the_licence_of_the_originals_is_carried(small, protection, tmp_path, name, hub):
    for kind, private in (("open", False), ("closed", True)):
        source = f"{name}-{kind}"
        small.push_to_hub(source, private=private)
        card = DatasetCard(HUB.dataset(source).head.files["README.md"].decode())
        card.data.license = "cc-by-4.0"
        card.push_to_hub(source)
        push(make_output(tmp_path / kind, small, protection, source), f"{name}-{kind}-protected")
        text = HUB.dataset(f"{name}-{kind}-protected").head.files["README.md"].decode()
        assert "license: cc-by-4.0" in text
        # a private source must not be named
        assert (source + "](" in text) == (f"extended|{source}" in text) == (kind == "open")


def test_a_licence_beside_a_local_source_and_one_of_ones_own(small, protection, tmp_path, name):
    originals = tmp_path / "originals"
    originals.mkdir()
    (originals / "README.md").write_text("---\nlicense: cc-by-nc-nd-4.0\n---\n")
    out = make_output(tmp_path / "out", small, protection, str(originals))
    with pytest.warns(UserWarning, match="does not allow sharing changed versions"):
        push(out, name)
    assert "license: cc-by-nc-nd-4.0" in HUB.dataset(name).head.files["README.md"].decode()
    push(out, name, licence="All rights reserved")
    text = HUB.dataset(name).head.files["README.md"].decode()
    assert "license: other" in text
    assert "license_name: all-rights-reserved" in text
    assert "Licence: all-rights-reserved." in text


def test_a_licence_that_the_hub_does_not_know_stops_before_anything_is_sent(out, name, hub):
    with pytest.raises(RecipeError, match=r"license.*must be one of"):
        push(out, name, licence="gpl-99")
    assert not [request for request in hub.received if request.method == "PUT" or "/commit/" in request.target]


def test_the_report_goes_into_the_card(out, name):
    results = tuple(
        Result(victim, case, ratio, "none", seed, (last + 0.1, last))
        for victim in ("small-resnet", str(out))
        for case, ratio, last in (("clean", 0.0, 0.8), ("protected", 1.0, 0.2))
        for seed in (1, 2)
    )
    (out / "report").mkdir()
    Report(results, 0.1, 48, 30, 100, {}, {}).save(out / "report" / "learnability.json")
    push(out, name)
    text = HUB.dataset(name).head.files["README.md"].decode()
    assert "| `small-resnet` | 80.0 ± 0.0 (90.0) | 20.0 ± 0.0 (30.0) |" in text
    assert "| a model of the owner |" in text
    assert str(out) not in text


def test_the_preview_shows_protected_images_only(out, small, protection, name, tmp_path):
    push(out, name)
    (tmp_path / "preview.png").write_bytes(HUB.dataset(name).head.files["preview.png"])
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.size == (3 * 128, 128)
        tile = preview.crop((0, 4, 128, 124)).convert("L").resize((12, 12), Image.Resampling.NEAREST)
    assert list(preview.info) == []
    assert tile.tobytes() != small[0]["image"].tobytes()


@pytest.mark.parametrize("role", ["surrogate", "victim"])
def test_models_by_choice(name, role, hub):
    import torch

    from hf_unlearnable import Surrogate

    model = Surrogate("small-resnet").build(3, 1, seed=0).model
    first = push_model(model, name, role=role, method="mi-ue", case="protected", accuracy=0.25, licence="apache-2.0")
    assert first.private
    assert push_model(model, name, role=role, method="mi-ue", case="protected", accuracy=0.25) == first
    repo = hub.repos["models", name]
    assert sorted(repo.head.files) == [".gitattributes", "README.md", "config.json", "model.safetensors"]
    text = repo.head.files["README.md"].decode()
    assert ("helps a thief" in text) == (role == "surrogate")
    assert "license: apache-2.0" in text
    loaded = AutoModelForImageClassification.from_pretrained(name)
    weights = model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())
    hub.create("models", f"{name}-public", private=False)
    with pytest.raises(PrivacyError, match="public"):
        push_model(model, f"{name}-public", role=role)
    with pytest.raises(RecipeError, match="role='hero'; expected one of 'surrogate', 'victim'"):
        push_model(model, name, role="hero")


@pytest.mark.parametrize(
    ("entries", "key"),
    [
        ({"data_dir": "/mnt/secret/photos"}, "config.data_dir"),
        ({"runs": [{"data": {"train": "D:\\Zoe\\photos"}}]}, r"config.runs\[0\].data.train"),
        ({"data_dir": r"\\nas\photos"}, "config.data_dir"),
        ({"data_dir": "~zoe/photos"}, "config.data_dir"),
        ({"data_dir": "file:///mnt/secret"}, "config.data_dir"),
        ({"command": "train --data=/home/zoe/photos"}, "config.command"),
        ({"sizes": {"/mnt/secret": 3}}, "config.sizes"),
    ],
)
def test_a_model_whose_configuration_holds_a_local_path_is_not_published(name, hub, entries, key):
    from hf_unlearnable import Surrogate

    model = Surrogate("small-resnet").build(3, 1, seed=0).model
    model.config.update(entries)
    with pytest.raises(PrivacyError, match=f"local path .* in {key}; expected none .*model.config"):
        push_model(model, name, role="victim")
    assert hub.received == []


def test_a_model_whose_configuration_holds_no_path_is_published(name, hub, tmp_path):
    """What only looks like one; and the folder that it was loaded from, which transformers keeps to itself."""
    from hf_unlearnable import Surrogate

    Surrogate("small-resnet").build(3, 1, seed=0).model.save_pretrained(tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    model.config.id2label = {0: "/m/01g317", 1: "N/A", 2: "km/h"}
    model.config.update({"home": "https://example.org/home/", "data": "photos/train", "separator": "/", "of": "12:30"})
    assert push_model(model, name, role="victim").private


def test_the_commands(small, name, tmp_path):
    """From a folder of images to the Hub and back, each command as a user types it."""
    for split, data in (("train", small), ("test", make_dataset(30, seed=1))):
        for index, row in enumerate(data):
            target = tmp_path / "photos" / split / f"class {row['label']}"
            target.mkdir(parents=True, exist_ok=True)
            row["image"].save(target / f"{index:03}.png")

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.output

    said = run("protect", tmp_path / "photos", "--output", tmp_path / "out", "--epochs", 1, "--push", f"{name}-at-once")
    assert "(private), commit" in said
    assert load_dataset(f"{name}-at-once", split="train").num_rows == 48
    assert json.loads((tmp_path / "out" / "private" / "verification.json").read_text())["images"] == 48
    (tmp_path / "about.md").write_text("Boats.")
    described = ["--title", "Boats", "--description", tmp_path / "about.md", "--licence", "cc-by-4.0"]
    assert "(private), commit" in run("push", tmp_path / "out", name, *described)
    refused = CliRunner().invoke(app, ["push", str(tmp_path / "out"), name, "--public"])
    assert "got --public for the repository" in str(refused.exception)
    assert (tmp_path / "out" / "images" / "train" / "class 0" / "000.png").exists()
    sent = HUB.dataset(name).head.files
    assert sorted(sent) == [".gitattributes", "README.md", "data/train-00000-of-00001.parquet", "preview.png"]
    assert "48 rows" in run("pull", name, "--output", tmp_path / "back")
    assert "0 outside the budget" in run("verify", tmp_path / "out", name)
    assert "0 outside the budget" in run("verify", tmp_path / "out")
    assert "cannot be measured: too few images" in run(
        "measure", tmp_path / "back", "--clean", tmp_path / "photos", "--seeds", 1, "--epochs", 1,
        "--victim", "small-resnet",
    )  # fmt: skip
    assert "# Boats\n\nBoats.\n" in HUB.dataset(name).head.files["README.md"].decode()
    assert name.startswith(USER)


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [("boats", WRITE_TOKEN, "expected USER/NAME"), ("me/boats", "hf_wrong", "does not accept the token")],
)
def test_what_cannot_be_pushed_is_said_before_the_work(name, token, message, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    words = ["protect", "nowhere at all", "--output", str(tmp_path / "out"), "--push", name]
    result = CliRunner().invoke(app, words)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()
