"""Invariant 5: nothing private is published. Everything that reached the server is searched."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from datasets import Dataset, Features, Value, load_from_disk
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset, make_output
from helpers.leaks import Secrets
from helpers.loopback_hub import WRITE_TOKEN
from huggingface_hub import HfApi
from PIL import Image

from hf_unlearnable import EM, DataError, PrivacyError, RecipeError, Surrogate, pull, push, verify
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.reports.images import contact_sheet

USER_NAME = "zoe-at-home"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's home: photographs with EXIF in folders, protected; and a surrogate among the private files."""
    home = tmp_path_factory.mktemp("home") / USER_NAME
    exif = Image.Exif()
    exif[0x013B] = "Zoe Photographer"  # Artist
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 24.25)  # GPSLatitude
    for index, row in enumerate(make_dataset(24, channels=3, side=16)):
        target = home / "photos" / f"class {row['label']}"
        target.mkdir(parents=True, exist_ok=True)
        row["image"].save(target / f"{index:03}.jpg", exif=exif)
    data = load_source(str(home / "photos"))
    protection = EM(epochs=4, batch_size=8).fit(data, output_dir=home / "fit", progress=False)
    out = make_output(home / "out", data, protection, str(home / "photos"))
    Surrogate("small-resnet").build(3, 3, seed=0).model.save_pretrained(out / "private" / "surrogate")
    return home


@pytest.fixture(scope="module")
def secrets(home):
    found = Secrets()
    found.add_images(load_source(str(home / "photos")))
    for file in (home / "photos").rglob("*.jpg"):
        found.add("clean file", file.read_bytes())
    found.add("EXIF", "Zoe Photographer")
    found.add("EXIF", b"Exif\0\0")
    found.add_file("perturbations", home / "out" / "private" / "protection" / "perturbations.arrow")
    found.add_file("surrogate weights", home / "out" / "private" / "surrogate" / "model.safetensors")
    about = json.loads((home / "out" / "private" / "protection" / "protection.json").read_text())
    found.add("digest of the protection", about["digest"])
    found.add("token", WRITE_TOKEN)
    found.add("user name", USER_NAME)
    found.add("local path", str(home.parent))
    return found


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", USER_NAME)
    monkeypatch.chdir(home)
    return home


def test_nothing_private_reaches_the_server(at_home, hub, name, secrets):
    push(at_home / "out", name, title="Boats", description="Mine.")
    push(at_home / "out", name, config="again")
    pull(name, at_home / "pulled")
    verify(at_home / "out", name)
    assert len(hub.received) > 40
    assert secrets.found_in(hub.received) == set()
    assert any(WRITE_TOKEN in value for request in hub.received for value in request.headers.values())
    shutil.rmtree(at_home / "pulled")


def _upload(name, path, content):
    HfApi().upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name, repo_type="dataset")


def _clean_set(home, name):
    load_source(str(home / "photos")).push_to_hub(name)


def _clean_png(home, name):
    """Decoded and encoded again: not a byte of the files is the same."""
    data = load_source(str(home / "photos"))
    again = [{"image": Image.frombytes("RGB", row["image"].size, row["image"].tobytes())} for row in data]
    Dataset.from_list(again, features=Features({"image": ImageFeature()})).push_to_hub(name)


def _clean_digests(home, name):
    from hf_unlearnable.data.pixels import digest, to_array

    row = load_source(str(home / "photos"))[0]
    _upload(name, "index.json", digest(to_array(row["image"]), row["label"]).hex().encode())


def _preview(home, name):
    sheet = io.BytesIO()
    contact_sheet(load_source(str(home / "photos")), sheet, Columns("image", "label"))
    _upload(name, "preview.png", sheet.getvalue())


def _paths(home, name):
    rows = {"file": [str(home / "photos" / "1.jpg")]}
    Dataset.from_dict(rows, features=Features({"file": Value("string")})).push_to_hub(name)


PLANTED = {
    "clean file": _clean_set,
    "EXIF": _clean_set,
    "clean pixels": _clean_png,
    "digest of a clean image": _clean_digests,
    "picture of clean pixels": _preview,
    "perturbations": lambda home, name: HfApi().upload_folder(
        folder_path=home / "out" / "private" / "protection", repo_id=name, repo_type="dataset"
    ),
    "digest of the protection": lambda home, name: _upload(
        name, "about.json", (home / "out" / "private" / "protection" / "protection.json").read_bytes()
    ),
    "surrogate weights": lambda home, name: HfApi().upload_folder(
        folder_path=home / "out" / "private" / "surrogate", repo_id=name, repo_type="dataset"
    ),
    "token": lambda home, name: _upload(name, "log.txt", f"Bearer {WRITE_TOKEN}".encode()),
    "user name": lambda home, name: _upload(name, f"by-{USER_NAME}.txt", b"hello"),
    "local path": _paths,
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_leak_is_found(at_home, hub, name, secrets, what):
    HfApi().create_repo(name, repo_type="dataset", private=True)
    PLANTED[what](at_home, name)
    assert what in secrets.found_in(hub.received)


def test_every_kind_of_secret_has_a_planted_leak(secrets):
    assert set(secrets.strings) | {"picture of clean pixels"} == set(PLANTED)


def _copied(home, tmp_path, columns=None):
    """The output with another dataset in it."""
    out = tmp_path / "out"
    shutil.copytree(home / "out", out)
    if columns is not None:
        data = columns(load_from_disk(str(home / "out" / "dataset")))
        shutil.rmtree(out / "dataset")
        data.save_to_disk(out / "dataset")
    return out


@pytest.mark.parametrize(
    "file", ["perturbations.arrow", "protection.json", "model.safetensors", "private/a", "x.arrow"]
)
def test_a_public_folder_with_private_parts_is_refused(at_home, hub, name, tmp_path, file):
    out = _copied(at_home, tmp_path)
    planted = out / "dataset" / file
    planted.parent.mkdir(exist_ok=True)
    store = out / "private" / "protection" / "perturbations.arrow"
    shutil.copyfile(store, planted)
    with pytest.raises(PrivacyError, match="private parts"):
        push(out, name)
    assert hub.received == []


@pytest.mark.parametrize("folder", ["private", "private/protection"])
def test_the_private_part_is_refused(at_home, hub, name, folder):
    with pytest.raises(PrivacyError, match="the private part of a protection"):
        push(at_home / "out" / folder, name)
    assert hub.received == []


def test_a_column_with_clean_images_is_refused(at_home, hub, name, tmp_path):
    clean = load_source(str(at_home / "photos")).cast_column("image", ImageFeature(decode=False))["image"]
    blobs = [row["bytes"] or b"" for row in clean]
    kinds = {
        "original": lambda data: data.add_column("original", list(clean), feature=ImageFeature()),
        "raw": lambda data: data.add_column("raw", blobs, feature=Value("binary")),
    }
    for column, add in kinds.items():
        out = _copied(at_home, tmp_path / column, add)
        with pytest.raises(PrivacyError, match=rf"drop_columns=\['{column}'\]"):
            push(out, name)
        assert hub.received == []
    push(out, name, drop_columns=["raw"])
    assert b"raw" not in hub.dataset(name).head.files["README.md"]


def test_a_column_with_local_paths_is_refused(at_home, hub, name, tmp_path):
    out = _copied(
        at_home, tmp_path, lambda data: data.add_column("meta", [{"file": str(at_home / "a.jpg")}] * len(data))
    )
    with pytest.raises(PrivacyError, match=r"'meta\.file'.*drop_columns=\['meta'\]"):
        push(out, name)
    assert hub.received == []


@pytest.mark.parametrize(("kind", "error", "message"), [("JPEG", DataError, "lossy"), ("PNG", PrivacyError, "EXIF")])
def test_images_that_are_lossy_or_tell_where_they_were_taken_are_refused(
    at_home, hub, name, tmp_path, kind, error, message
):
    def encode(row):
        exif = Image.Exif()
        exif[0x013B] = "Zoe Photographer"
        coded = io.BytesIO()
        row["image"].save(coded, kind, **({"exif": exif} if kind == "PNG" else {}))
        return {"image": {"bytes": coded.getvalue(), "path": None}}

    out = _copied(at_home, tmp_path, lambda data: data.map(encode))
    with pytest.raises(error, match=message):
        push(out, name)
    assert hub.received == []


@pytest.mark.parametrize("clean_rows", [1, 24])
def test_original_images_are_refused(at_home, hub, name, tmp_path, clean_rows):
    photos = load_source(str(at_home / "photos"))

    def swap(row, index):
        if index >= clean_rows:
            return {}
        return {"image": Image.frombytes("RGB", (16, 16), photos[index]["image"].tobytes())}

    out = _copied(at_home, tmp_path, lambda data: data.map(swap, with_indices=True))
    with pytest.raises(PrivacyError, match=rf"got {clean_rows} original images to publish, such as row 0"):
        push(out, name)
    assert hub.received == []


def test_columns_that_cannot_be_left_out(at_home, hub, name):
    for column in ("label", "nothing"):
        with pytest.raises(RecipeError, match=rf"got the columns {column} to leave out"):
            push(at_home / "out", name, drop_columns=[column])
    assert hub.received == []
