"""Files in, files out: the released images lie beside the dataset, under the names of their originals."""

from __future__ import annotations

import errno
import io
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from datasets import Image as ImageFeature
from helpers.datasets import make_dataset, pixels_of
from PIL import Image

from hf_unlearnable import Budget, DataError, OutputError, RecipeError, SourceError, verify
from hf_unlearnable.data.disk_space import expected_space
from hf_unlearnable.files import file_digest
from hf_unlearnable.protection.remaining import Remaining
from hf_unlearnable.runs import RunFolder, intake, protect, protect_like
from hf_unlearnable.runs.image_files import names_of
from hf_unlearnable.runs.written_files import check_files


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for index, row in enumerate(make_dataset(24, channels=3, side=16)):
        place = folder / f"class {row['label']}"
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"Anna {index:02}.{'png' if index % 4 else 'jpg'}")
    return folder


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def stored(run):
    return [row["image"] for row in run.dataset.cast_column("image", ImageFeature(decode=False))]


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_the_same_names_and_the_bytes_of_the_dataset(photos, tmp_path, image_format):
    flat = load_dataset("imagefolder", data_dir=str(photos), split="train")
    assert len(flat) == 24
    run = protect(photos, tmp_path / "out", method="texture", image_format=image_format, progress=False)
    expected = sorted(name.rsplit(".", 1)[0] + f".{image_format}" for name in files_of(photos))
    assert files_of(run.folder.images) == expected
    expected = sorted(image["bytes"] for image in stored(run))
    assert sorted((run.folder.images / name).read_bytes() for name in files_of(run.folder.images)) == expected
    assert run.image_files == len(expected) == 24


def test_not_from_memory_and_not_where_nobody_wants_them(photos, tmp_path):
    run = protect(make_dataset(), tmp_path / "memory", method="texture", progress=False)
    assert not run.folder.images.exists()
    run = protect(photos, tmp_path / "without", method="texture", image_files=False, progress=False)
    assert not run.folder.images.exists()
    run = protect(make_dataset(), tmp_path / "asked", method="texture", image_files=True, progress=False)
    assert files_of(run.folder.images)[:2] == ["class 0/000000.png", "class 0/000003.png"]


def test_names_that_would_be_one_stay_two():
    given = ["/a/x.jpg", "/a/x.png", "/a/X.jpeg", "/a/b/x.jpg", "/a/x.jpg.png"]
    names = names_of(given, [".png"] * 5)
    assert names == ["x.jpg.png", "x.png", "X.jpeg.png", "b/x.png", "x.jpg-2.png"]
    assert len({name.lower() for name in names}) == 5
    assert names_of(["/a/b/x.jpg"], [".png"], root="/a") == ["b/x.png"]
    assert names_of(["zip://in/x.jpg::/a/b.zip", "zip://in/c/y.jpg::/a/b.zip"], [".png"] * 2) == ["x.png", "c/y.png"]


@pytest.mark.parametrize("packed", [False, True])
def test_signs_of_addresses_in_names_are_only_signs(photos, tmp_path, packed):
    names = ["Rome :: day 1.png", "Rome :: day 2.png", "http:: x.png", "a::b.png"]
    for file, name in zip(sorted((photos / "class 0").iterdir()), names, strict=False):
        file.rename(file.with_name(name))
    source = shutil.make_archive(str(tmp_path / "packed"), "zip", photos) if packed else photos
    run = protect(source, tmp_path / "out", method="texture", progress=False)
    assert set(names) < {file.name for file in run.folder.images.glob("class 0/*")}
    assert set(names) < {image["path"] for image in stored(run)}


def test_a_single_picture_keeps_its_name(photos, tmp_path):
    run = protect(photos / "class 0" / "Anna 03.png", tmp_path / "out", method="texture", labels="none", progress=False)
    assert files_of(run.folder.images) == ["Anna 03.png"]
    assert [image["path"] for image in stored(run)] == ["Anna 03.png"]


def test_names_that_no_disk_takes(tmp_path):
    """Of archives; and files whose new name is that of a folder."""
    names = names_of(
        ["/a/x.jpg", "/a/x.png/y.png", f"/a/{'é' * 150}.jpg", f"/a/{'é' * 150}.png"], [".webp", *[".png"] * 3]
    )
    assert names == ["x.webp", "x.png/y.png", f"{'é' * 125}.png", f"{'é' * 124}-2.png"]
    assert names_of(["/a/x.jpg", "/a/x.png/y.png"], [".png"] * 2) == ["x-2.png", "x.png/y.png"]
    assert names_of([f"/a/{'d' * 300}/y.png", f"/a/{'n' * 251}.png"], [".png"] * 2) == [
        f"{'d' * 255}/y.png",
        f"{'n' * 251}.png",
    ]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for index, row in enumerate(make_dataset(6)):
            archive.writestr(f"{row['label']}{'d' * 300}/{'n' * 300}{index}.png", png(row["image"]))
    for kind in ("kept", "numbers"):
        run = protect(tmp_path / "photos.zip", tmp_path / kind, method="texture", names=kind, progress=False)
        assert run.image_files == len(files_of(run.folder.images)) == 6


def test_numbers_tell_no_name(photos, tmp_path):
    run = protect(photos, tmp_path / "out", method="texture", names="numbers", progress=False)
    assert files_of(run.folder.images)[0] == "class 0/000000.png"
    assert [image["path"] for image in stored(run)] == [f"{row:06}.png" for row in range(24)]
    for path in (tmp_path / "out").rglob("*"):
        assert "Anna" not in path.name
        if path.is_file() and "private" not in path.parts:
            assert b"Anna" not in path.read_bytes()
    kept = protect(photos, tmp_path / "kept", method="texture", progress=False)
    assert np.array_equal(pixels_of(run.dataset), pixels_of(kept.dataset))
    with pytest.raises(RecipeError, match="names='hashes'; expected one of 'kept', 'numbers'"):
        protect(photos, tmp_path / "no", method="texture", names="hashes", progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with every kind of file that protect writes."""
    home = tmp_path_factory.mktemp("whole")
    for index, row in enumerate(make_dataset(24, channels=3, side=16)):
        place = home / "photos" / ("test" if index % 4 == 0 else "train") / f"class {row['label']}"
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"Anna {index:02}.png")
    given = {"split": "all", "keep_clean": ["test"], "hold_out": 0.2, "also_jpeg": 90, "progress": False}
    return protect(home / "photos", home / "out", method="texture", **given).folder.root


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


PARTS = ["dataset/train", "dataset/test", "images", "images-jpeg", "private/held-out"]


@pytest.mark.parametrize("part", PARTS)
def test_verify_knows_every_file(out, part):
    """One bit anywhere, or a file that is gone: also in what is clean, of which nothing else would tell."""
    verify(out)
    files = [file for file in sorted((out / part).rglob("*")) if file.is_file()]
    for file in files[::3]:
        content = file.read_bytes()
        for damage in (lambda content: content[:-1] + bytes([content[-1] ^ 1]), None):
            file.unlink() if damage is None else file.write_bytes(damage(content))
            with pytest.raises((DataError, SourceError)):
                verify(out)
            with pytest.raises(DataError, match=rf"1 of \d+ are damaged or missing, such as {part}"):
                check_files(RunFolder(out))
            file.write_bytes(content)
    verify(out)


@pytest.mark.parametrize("part", ["images", "images-jpeg"])
def test_verify_refuses_files_of_others_among_the_copies(out, part):
    (out / part / "Thumbs.db").write_bytes(b"left by a system")
    verify(out)
    (out / part / "original.jpg").write_bytes(b"clean")
    with pytest.raises(DataError, match=f"1 are not of this protection, such as {part}/original.jpg"):
        verify(out)
    shutil.rmtree(out / part)  # nothing is lost with a copy
    verify(out)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"digests": []}', b'{"names": []}', None])
def test_damaged_digests_are_told(out, damage):
    file = RunFolder(out).file_digests
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(DataError, match=r"private/files.json is damaged or missing"):
        verify(out)


def test_a_killed_run_goes_on_with_all_files(photos, tmp_path, monkeypatch):
    from hf_unlearnable.runs import protecting

    whole = protect(photos, tmp_path / "whole", method="texture", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(
            "hf_unlearnable.runs.written_files.atomic_write", lambda *a, **k: (_ for _ in ()).throw(OSError())
        )
        with pytest.raises(OSError):  # noqa: PT011
            protecting.protect(photos, tmp_path / "out", method="texture", progress=False)
    assert not (tmp_path / "out").exists()
    run = protect(photos, tmp_path / "out", method="texture", progress=False)
    digests = [
        {name: file_digest(one.folder.images / name) for name in files_of(one.folder.images)} for one in (run, whole)
    ]
    assert digests[0] == digests[1]


def test_a_copy_with_losses_says_what_is_left(photos, tmp_path):
    make_dataset(2, channels=3, side=16)[0]["image"].convert("RGBA").save(photos / "class 0" / "clear.png")
    runs = {
        quality: protect(photos, tmp_path / str(quality), method="texture", also_jpeg=quality, progress=False)
        for quality in (10, 95)
    }
    low, high = runs[10].lossy, runs[95].lossy
    assert 0 < low.left < high.left < 1.05
    assert low.images == high.images == 25
    assert low.flattened == 1
    assert low.outside > 0
    assert "within" not in str(low)
    assert f"{low.outside} are further from their originals than the budget" in str(runs[10])
    names = [name.rsplit(".", 1)[0] for name in files_of(runs[10].folder.images)]
    assert files_of(runs[10].folder.images_jpeg) == [f"{name}.jpg" for name in names]
    with Image.open(next(runs[10].folder.images_jpeg.rglob("*.jpg"))) as image:
        assert image.format == "JPEG"
    with pytest.raises(RecipeError, match="also_jpeg=0"):
        protect(photos, tmp_path / "no", method="texture", also_jpeg=0, progress=False)


def test_a_copy_with_losses_is_held_against_an_adaptive_budget(tmp_path):
    """In smooth pictures a pixel may move by a third of the radius, and JPEG moves it by more."""
    images = [Image.new("L", (32, 32), 100 + number) for number in range(6)]
    data = Dataset.from_dict({"image": images}).cast_column("image", ImageFeature())
    given = {"labels": "none", "budget": "24:adaptive", "also_jpeg": 10, "progress": False}
    run = protect(data, tmp_path / "out", method="texture", **given)
    copies = [Image.open(run.folder.images_jpeg / name) for name in files_of(run.folder.images_jpeg)]
    clean, written = (np.stack([np.asarray(image)[None] for image in some]) for some in (images, copies))
    assert Budget(24).contains(clean, written).all()
    kept = Budget(24, visibility="adaptive").contains(clean, written)
    assert run.lossy.outside == np.count_nonzero(~kept) == 6


def test_what_is_left_of_a_change():
    rng = np.random.default_rng(0)
    original = rng.integers(50, 200, (3, 32, 32), dtype=np.uint8)
    change = rng.choice([-8, 8], original.shape)
    released = (original + change).astype(np.uint8)
    for share, later in ((1.0, released), (0.0, original), (0.5, (original + change // 2).astype(np.uint8))):
        counted = Remaining()
        counted.add(original, released, later)
        assert counted.share == share
    counted = Remaining()
    counted.add(original, original, released)
    assert counted.share is None
    noisy = Remaining()  # what has nothing to do with the change is none of it
    noisy.add(original, released, (released + rng.choice([-8, 8], original.shape)).astype(np.uint8))
    assert noisy.share == pytest.approx(1.0, abs=0.1)


def test_the_room_that_is_expected(photos, tmp_path):
    data = load_dataset("imagefolder", data_dir=str(photos), split="train")
    space = expected_space(data, "image", Budget(8), tmp_path / "out", copies=2)
    assert space.now == pytest.approx(sum(path.stat().st_size for path in photos.rglob("*.*g")), rel=0.2)
    run = protect(photos, tmp_path / "out", method="em:epochs=1", progress=False)
    written = sum(path.stat().st_size for path in run.folder.images.rglob("*.png"))
    assert space.png == pytest.approx(written, rel=0.3)
    assert "written twice, as a dataset and as files" in space.told("png")


def test_a_disk_without_room_is_told_before_the_work(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"out', on a disk with 1\.0 kB free; expected about .* kB for the protected"):
        protect(photos, tmp_path / "out", method="texture", progress=False)
    assert not list(tmp_path.glob(".out*"))
    said = str(intake(photos, output=tmp_path / "out", progress=False))
    assert f"Only 1.0 kB are free on the disk of {str(tmp_path / 'out')!r}." in said


@pytest.mark.parametrize(
    ("begin", "error", "told"),
    [
        (protect, errno.ENOSPC, "a full disk"),
        (protect_like, errno.ENOSPC, "a full disk"),
        (protect, errno.EDQUOT, "a quota that is used up"),
    ],
    ids=["full", "full-later", "quota"],
)
def test_a_disk_that_turns_out_full_is_told_with_the_places_that_are_written_to(
    begin, error, told, photos, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(error, "No space left on device")

    run = protect(photos, tmp_path / "run", method="texture", labels="none", progress=False)
    monkeypatch.setattr("hf_unlearnable.runs.protecting.write_released", full)
    monkeypatch.setattr("hf_unlearnable.runs.later.encode", full)
    arguments = (run, photos) if begin is protect_like else (photos,)
    options = {} if begin is protect_like else {"method": "texture", "progress": False}
    with pytest.raises(OutputError, match=rf"{told} while the output .*out.* free: .* in .*Make room") as raised:
        begin(*arguments, tmp_path / "out", **options)
    assert f" in {tmp_path}" in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_limit_of_the_size_of_files_is_told(photos, tmp_path):
    """Of a real process: numpy and pyarrow raise what the system says in ways of their own."""
    words = ["protect", str(photos), "--method", "texture", "--output", str(tmp_path / "out")]
    limited = f"ulimit -f 4; exec {shlex.join([sys.executable, '-m', 'hf_unlearnable', *words])}"
    home = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["bash", "-c", limited], env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "larger than the system allows" in " ".join(done.stderr.split()), done.stderr
    assert "ulimit -f" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_clean_removes_copies_on_request(photos, tmp_path):
    from typer.testing import CliRunner

    from hf_unlearnable.cli import app

    run = protect(photos, tmp_path / "out", method="texture", progress=False)
    said = CliRunner().invoke(app, ["clean", str(tmp_path)]).output
    assert f"{tmp_path / 'out' / 'images'} (" in said
    CliRunner().invoke(app, ["clean", str(tmp_path), "--yes"])
    assert run.folder.images.exists()
    CliRunner().invoke(app, ["clean", str(tmp_path), "--images", "--yes"])
    assert not run.folder.images.exists()
    assert RunFolder(tmp_path / "out").is_complete
    verify(run)
