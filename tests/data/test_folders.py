"""What people's folders and archives look like, and which rows, classes and splits they make."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from datasets import Image as ImageFeature
from PIL import Image, features

from hf_unlearnable import DataError, DataWarning
from hf_unlearnable.data import kinds
from hf_unlearnable.data.columns import Columns
from hf_unlearnable.data.folders import Contents
from hf_unlearnable.data.reading import class_numbers
from hf_unlearnable.data.sources import load_source, open_source
from hf_unlearnable.data.trees import Tree

rng = np.random.default_rng(0)


def picture(suffix=".png"):
    stream = io.BytesIO()
    image = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    image.save(stream, Image.registered_extensions()[suffix])
    return stream.getvalue()


def fill(folder, *paths):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(file.suffix) if file.suffix in (".png", ".jpg", ".avif") else b"something")
    return folder


def rows(place, split="train", **arguments):
    """The rows of a split, by class, as their files are called."""
    data = load_source(str(place), split, **arguments)
    assert all(np.asarray(row["image"]).shape == (12, 10, 3) for row in data)  # all are read
    names = [row["path"].split("::")[0] for row in data.cast_column("image", ImageFeature(decode=False))["image"]]
    if "label" not in data.features:
        return sorted(map(os.path.basename, names))
    labels = data.features["label"].int2str(data["label"])
    return {
        label: sorted(os.path.basename(n) for n, m in zip(names, labels, strict=True) if m == label) for label in labels
    }


def left(place, **arguments):
    return {file.path: file.why for file in Contents.of(place, **arguments).pictures_left_out}


def test_words_in_the_names_of_images_make_no_splits(tmp_path):
    names = ["on the train", "train-2", "test 3", "validation_4"]
    fill(tmp_path, *(f"{kind}/{name}.png" for kind in ("cats", "dogs") for name in names))
    expected = sorted(f"{name}.png" for name in names)
    assert rows(tmp_path) == {"cats": expected, "dogs": expected}
    assert list(Contents.of(tmp_path).splits) == ["train"]


def test_a_linked_class_folder_is_read_and_a_circle_is_told(tmp_path):
    fill(tmp_path / "elsewhere", "1.png", "2.png")
    fill(tmp_path / "photos", "dogs/3.png", "dogs/4.png")
    (tmp_path / "photos" / "cats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dogs" / "all").symlink_to(tmp_path / "photos")
    assert rows(tmp_path / "photos") == {"cats": ["1.png", "2.png"], "dogs": ["3.png", "4.png"]}
    assert [file.path for file in Contents.of(tmp_path / "photos").left_out] == ["dogs/all"]


@pytest.mark.parametrize("name", ["2.png", "talk"])
def test_a_pipe_is_told_and_never_waited_for(tmp_path, name):
    fill(tmp_path, "cats/1.png", "dogs/3.png")
    os.mkfifo(tmp_path / "cats" / name)
    assert left(tmp_path) == {f"cats/{name}": "a pipe, socket or device and no file"}
    assert Contents.of(tmp_path).files == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_metadata_does_not_name_is_told(tmp_path, ending):
    fill(tmp_path, *(f"{number}.png" for number in range(6)))
    kinds_ = ["cat", "dog", "cat", "dog"]
    table = [{"file_name": f"{number}.png", "label": kind} for number, kind in enumerate(kinds_)]
    text = "\n".join(map(json.dumps, table))
    if ending == "csv":
        text = "file_name,label\n" + "\n".join(f"{row['file_name']},{row['label']}" for row in table)
    (tmp_path / f"metadata.{ending}").write_text(text)
    assert left(tmp_path) == dict.fromkeys(["4.png", "5.png"], f"not named in metadata.{ending}: add them there")
    with pytest.warns(DataWarning, match="2 files .* are left out, such as 4.png"):
        data = load_source(str(tmp_path))
    assert data["label"] == kinds_
    assert data.column_names == ["image", "label"]


def test_metadata_in_split_folders_and_for_them(tmp_path):
    for split in ("train", "test"):
        fill(tmp_path / "own", *(f"{split}/{number}.png" for number in range(2)))
        (tmp_path / "own" / split / "metadata.csv").write_text("file_name,label\n0.png,a\n1.png,b\n")
        fill(tmp_path / "one", *(f"{split}/{number}.png" for number in range(2)))
    names = "\n".join(f"{split}/{n}.png,{'ab'[n]}" for split in ("train", "test") for n in range(2))
    (tmp_path / "one" / "metadata.csv").write_text(f"file_name,label\n{names}\n")
    for place in ("own", "one"):
        assert open_source(str(tmp_path / place)).splits == {"train": 2, "test": 2}
        assert load_source(str(tmp_path / place), "test")["label"] == ["a", "b"]


def test_metadata_with_labels_of_two_kinds(tmp_path):
    for split, label in (("train", "1"), ("test", "cat")):
        fill(tmp_path, f"{split}/0.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\n0.png,{label}\n")
    with pytest.raises(DataError, match=r"got metadata files that disagree about a column .*expected values of"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(("column", "told"), [("text", True), ("label", False)])
def test_folders_that_are_no_classes_beside_captions_are_told(tmp_path, column, told):
    fill(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,{column}\na/1.png,x\na/2.png,x\nb/1.png,y\n")
    said = "The images lie in 2 folders (a, b), which are no classes beside metadata.csv"
    assert any(note.startswith(said) for note in open_source(str(tmp_path)).contents.notes) is told


def test_classes_whose_names_are_read_as_missing_are_told(tmp_path):
    """As ``datasets`` reads them."""
    fill(tmp_path, "1.png", "2.png", "3.png", "4.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n1.png,NA\n2.png,None\n3.png,EU\n4.png,EU\n")
    data = load_source(str(tmp_path))
    assert data["label"][:] == [None, None, "EU", "EU"]
    with pytest.raises(DataError, match=r"2 of 4 rows without a label .*: 0, 1; .*called NA, None, null or nan in a"):
        class_numbers(data, Columns("image", "label"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("file_name,label\nhttps://example.org/1.png,a\n", "names the address https://example.org/1.png; .*Download"),
        ("file_name,label\n../1.png,a\n", r"names '\.\./1\.png'; expected a path below"),
        ("name,label\n1.png,a\n", "columns name, label; expected a column file_name"),
        ("", r"cannot be read as a table .*; expected text in UTF-8 with commas .*Save it so"),
    ],
)
def test_metadata_that_cannot_be_followed(tmp_path, said, expected):
    fill(tmp_path, "1.png")
    (tmp_path / "metadata.csv").write_text(said)
    with pytest.raises(DataError, match=expected):
        load_source(str(tmp_path))


def test_metadata_keeps_other_columns_and_further_images(tmp_path):
    fill(tmp_path, "1.png", "2.png", "masks/1.png", "masks/2.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,label,mask_file_name,year\n1.png,a,masks/1.png,1999\n2.png,b,masks/2.png,\n"
    )
    data = load_source(str(tmp_path))
    assert [*data.features] == ["image", "label", "mask", "year"]
    assert data["year"] == [1999, None]
    assert isinstance(data.features["mask"], ImageFeature)
    assert left(tmp_path) == {}


def test_classes_that_are_called_like_splits(tmp_path):
    fill(tmp_path / "vehicles", *(f"{kind}/{n}.png" for kind in ("car", "train", "test", "validation") for n in "12"))
    assert sorted(rows(tmp_path / "vehicles")) == ["car", "test", "train", "validation"]
    fill(tmp_path / "split", *(f"{part}/{kind}/1.png" for part in ("train", "test") for kind in ("car", "train")))
    assert rows(tmp_path / "split", "test") == {"car": ["1.png"], "train": ["1.png"]}
    fill(tmp_path / "trains", *(f"{kind} train/{n}.png" for kind in ("freight", "passenger") for n in "12"))
    assert sorted(rows(tmp_path / "trains")) == ["freight train", "passenger train"]


def test_brackets_in_a_path(tmp_path):
    fill(tmp_path / "photos [2026]", "cats {a}/1*.png", "dogs?/2.png")
    assert rows(tmp_path / "photos [2026]") == {"cats {a}": ["1*.png"], "dogs?": ["2.png"]}
    (tmp_path / "sets [1]").mkdir()
    load_source(str(tmp_path / "photos [2026]")).to_parquet(str(tmp_path / "sets [1]" / "train.parquet"))
    assert len(load_source(str(tmp_path / "sets [1]"))) == 2
    assert len(load_source(str(tmp_path / "sets [1]" / "train.parquet"))) == 2


def test_loose_images_beside_class_folders_are_told(tmp_path):
    fill(tmp_path, "cats/1.png", "dogs/2.png", "loose.png")
    told = "beside the class folders: move each into one, or take all images as one owner's: labels='none'"
    assert left(tmp_path) == {"loose.png": told}
    assert "Alone in their class folder: cats/1.png, dogs/2.png." in Contents.of(tmp_path).notes
    with pytest.warns(DataWarning, match=r"such as loose\.png"):
        assert rows(tmp_path) == {"cats": ["1.png"], "dogs": ["2.png"]}


def test_deeper_folders_are_classes_unless_a_depth_is_given(tmp_path):
    fill(tmp_path, "cats/1.png", "cats/2.png", "cats/old/3.png", "dogs/big/4.png", "dogs/small/5.png")
    assert sorted(rows(tmp_path)) == ["cats", "cats/old", "dogs/big", "dogs/small"]
    notes = " ".join(Contents.of(tmp_path).notes)
    assert "classes of their own: cats/old, such as for cats/old/3.png" in notes
    assert "Alone in their class folder: cats/old/3.png" in notes
    assert rows(tmp_path, class_depth=1) == {"cats": ["1.png", "2.png", "3.png"], "dogs": ["4.png", "5.png"]}


def test_folders_around_everything_are_no_classes(tmp_path):
    fill(tmp_path / "a", "photos/2026/cats/1.png", "photos/2026/dogs/2.png")
    assert sorted(rows(tmp_path / "a")) == ["cats", "dogs"]
    fill(tmp_path / "b", "data/train/cats/1.png", "data/train/dogs/2.png", "data/val/cats/3.png")
    assert rows(tmp_path / "b", "validation") == {"cats": ["3.png"]}


def test_splits_without_classes_have_no_labels(tmp_path):
    fill(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    assert rows(tmp_path) == ["1.png", "2.png"]
    assert rows(tmp_path, "test") == ["3.png"]
    assert "no class folders in them" in Contents.of(tmp_path).notes[0]
    with pytest.raises(DataError, match=r"'validation' of .*; expected one of train, test"):
        load_source(str(tmp_path), "validation")


def test_every_file_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "_read", lambda: frozenset({".png"}))  # as where nothing is installed
    monkeypatch.setattr(kinds, "_SNIFFED", ("PNG",))
    names = ["a.HEIC", "b.avif", "c.svg", "d.dng", "e.pdf", "f.mp4", "g.zip", "h.txt", "i.ogg", ".DS_Store", "._k.png"]
    fill(tmp_path, "cats/1.png", "dogs/2.png", *(f"cats/{name}" for name in names), "dogs/Thumbs.db", ".git/x.png")
    contents = Contents.of(tmp_path)
    assert contents.files == 15 == len(contents.splits["train"]) + len(contents.left_out)
    found = left(tmp_path)
    assert sorted(found) == [f"cats/{name}" for name in names[:7]]
    assert "hf-unlearnable[heif]" in found["cats/a.HEIC"]
    assert found["cats/d.dng"].startswith("raw files of a camera")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path):
    fill(tmp_path, "cats/1.avif", "dogs/2.png")
    assert rows(tmp_path) == {"cats": ["1.avif"], "dogs": ["2.png"]}


def test_heic_is_read_with_the_extra(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    fill(tmp_path, "dogs/2.png", "cats/x.png")
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "cats" / "1.heic")
    data = load_source(str(tmp_path))
    assert data[0]["image"].size == (64, 48)
    assert left(tmp_path) == {}
    script = (
        "import sys; from hf_unlearnable.data.sources import load_source\n"
        "print(load_source(sys.argv[1])[0]['image'].size)"
    )  # of its own: here Pillow knows HEIC already
    alone = [sys.executable, "-c", script, str(tmp_path / "cats" / "1.heic")]
    assert subprocess.run(alone, capture_output=True, text=True, check=True).stdout == "(64, 48)\n"


def test_a_single_file_is_a_picture_as_in_a_folder(tmp_path):
    fill(tmp_path, ".hidden.png", "IMG_3.png")
    (tmp_path / "IMG_3.png").rename(tmp_path / "IMG_3")
    for name in (".hidden.png", "IMG_3"):
        assert len(load_source(str(tmp_path / name))) == 1
    for name, why in (("a.pdf", r" \(drawings or documents: export them as PNG\)"), ("b.h5", ""), ("c.txt", "")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=rf"got the file '.*{name}'{why}; expected a picture, a parquet file"):
            load_source(str(tmp_path / name))


def test_images_without_an_ending_are_found_by_their_content(tmp_path):
    fill(tmp_path, "cats/1.png", "dogs/2.png", "dogs/noise.dat")
    (tmp_path / "cats" / "IMG_3").write_bytes(picture())
    (tmp_path / "cats" / "4.jpg_large").write_bytes(picture(".jpg"))
    assert rows(tmp_path)["cats"] == ["1.png", "4.jpg_large", "IMG_3"]
    assert left(tmp_path) == {}


def test_names_that_are_no_text_are_told(tmp_path):
    fill(tmp_path, "cats/1.png", "dogs/2.png")
    try:
        fill(tmp_path, *(os.fsdecode(name) for name in (b"cats/\xe9t\xe9.png", b"\xe2nes/1.png", b"\xe2nes/2.png")))
    except OSError:
        pytest.skip("this file system takes no such names")
    names = (r"cats/\xe9t\xe9.png", r"\xe2nes/1.png", r"\xe2nes/2.png")
    assert left(tmp_path) == dict.fromkeys(names, "a name that is not UTF-8: rename it")
    assert Contents.of(tmp_path).files == 5


def zipped(file, folder, *more):
    file.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
        for name, content in more:
            archive.writestr(name, content)
    return file


def test_a_zip_also_of_a_mac(tmp_path):
    folder = fill(tmp_path / "x", "photos/cats/1.png", "photos/dogs/2.jpg")
    junk = [("__MACOSX/photos/cats/._1.png", b"mac"), ("photos/.DS_Store", b"mac")]
    file = zipped(tmp_path / "photos.zip", folder, *junk)
    assert rows(file) == {"cats": ["1.png"], "dogs": ["2.jpg"]}
    contents = Contents.of(file)
    assert contents.files == 4
    assert sorted(path for path, *_ in contents.left_out) == [name for name, _ in junk]
    assert contents.pictures_left_out == []


def test_shards_with_metadata_name_their_own_images(tmp_path):
    """Each numbers its images from 0, as ``datasets`` reads them too."""
    contents = {}
    for shard, label in (("data-000", "red"), ("data-001", "blue")):
        fill(tmp_path / shard, "0.png", "1.png", *(["2.png"] if label == "blue" else []))
        table = f"file_name,label\n0.png,{label}\n1.png,{label}\n"
        zipped(tmp_path / "shards" / f"{shard}.zip", tmp_path / shard, ("metadata.csv", table))
        contents[label] = [(tmp_path / shard / f"{number}.png").read_bytes() for number in range(2)]
    assert left(tmp_path / "shards") == {"data/2.png": "not named in metadata.csv: add them there"}
    with pytest.warns(DataWarning, match=r"such as data/2\.png"):
        data = load_source(str(tmp_path / "shards")).cast_column("image", ImageFeature(decode=False))
    assert data["label"] == ["red", "red", "blue", "blue"]
    assert [row["image"]["bytes"] for row in data] == contents["red"] + contents["blue"]


def test_one_shard_may_name_the_images_of_all(tmp_path):
    table = "file_name,label\n0.png,red\n1.png,blue\n"
    fill(tmp_path / "data-000", "0.png")
    fill(tmp_path / "data-001", "1.png")
    zipped(tmp_path / "shards" / "data-000.zip", tmp_path / "data-000", ("metadata.csv", table))
    zipped(tmp_path / "shards" / "data-001.zip", tmp_path / "data-001")
    assert left(tmp_path / "shards") == {}
    data = load_source(str(tmp_path / "shards")).cast_column("image", ImageFeature(decode=False))
    assert data["label"] == ["red", "blue"]
    assert data[1]["image"]["bytes"] == (tmp_path / "data-001" / "1.png").read_bytes()


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
def test_a_tar_of_class_folders(tmp_path, ending):
    folder = fill(tmp_path / "x", "cats/1.png", "dogs/2.jpg")
    with tarfile.open(tmp_path / f"photos.{ending}", "w" if ending == "tar" else "w:gz") as archive:
        archive.add(folder, "photos")
    assert rows(tmp_path / f"photos.{ending}") == {"cats": ["1.png"], "dogs": ["2.jpg"]}


def linked(folder):
    """Class folders with a hard link to a file, and a symbolic one over another."""
    fill(folder, "cats/1.png", "cats/2.png", "dogs/3.png", "dogs/4.png")
    os.link(folder / "cats" / "1.png", folder / "dogs" / "5.png")
    (folder / "dogs" / "6.png").symlink_to("../cats/7.png")
    (folder / "cats" / "7.png").symlink_to("2.png")
    return folder


def test_links_in_a_tar_are_files_as_in_a_folder(tmp_path):
    folder = linked(tmp_path / "x")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(folder, "photos")
    expected = {"cats": ["1.png", "2.png", "7.png"], "dogs": ["3.png", "4.png", "5.png", "6.png"]}
    assert rows(folder) == rows(tmp_path / "photos.tar") == expected
    pixels = [sorted(row["image"].tobytes() for row in load_source(str(place))) for place in (folder, archive.name)]
    assert pixels[0] == pixels[1]
    assert left(tmp_path / "photos.tar") == {}


def test_what_leads_to_no_file_in_a_tar_is_told(tmp_path):
    folder = linked(tmp_path / "x")
    (folder / "cats" / "circle.png").symlink_to("circle.png")
    (folder / "cats" / "out.png").symlink_to(tmp_path / "out.png")
    (folder / "cats" / "folder").symlink_to("../dogs")
    os.mkfifo(folder / "cats" / "pipe")
    for shard in range(2):
        with tarfile.open(tmp_path / f"photos-{shard}.tar", "w") as archive:
            archive.add(folder, ".")
    why = dict.fromkeys(("circle.png", "out.png", "folder"), "a link to no file in its archive: put the file itself in")
    why["pipe"] = "a pipe, socket or device and no file"
    assert left(tmp_path / "photos-0.tar") == {f"cats/{name}": told for name, told in why.items()}
    shutil.rmtree(folder)
    found = Contents.of(tmp_path)
    assert {file.path for file in found.left_out} == {f"photos-{n}.tar/cats/{name}" for n in range(2) for name in why}
    assert found.files == 2 * (7 + 4) == len(found.splits["train"]) + len(found.left_out)


def webdataset(file, samples):
    with tarfile.open(file, "w") as archive:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_a_webdataset(tmp_path):
    samples = [
        (f"{n:03}.{e}", c) for n in range(4) for e, c in (("jpg", picture(".jpg")), ("cls", str(n % 2).encode()))
    ]
    webdataset(tmp_path / "train-000.tar", samples[:4])
    webdataset(tmp_path / "train-001.tar", samples[4:])
    webdataset(tmp_path / "test-000.tar", samples[:2])
    data = load_source(str(tmp_path))
    assert data["label"] == [0, 1, 0, 1]
    assert data["image"][0].size == (10, 12)
    assert len(load_source(str(tmp_path), "test")) == 1
    assert Contents.of(tmp_path).left_out == ()
    assert str(tmp_path) not in str(data.with_format("arrow")[:]["__key__"])
    webdataset(
        tmp_path / "one.tar",
        [
            pair
            for n in range(3)
            for pair in (
                (f"{n}.png", picture()),
                (f"{n}.json", json.dumps({"label": "ab"[n % 2], **({"year": 1999} if n else {})}).encode()),
            )
        ],
    )
    data = load_source(str(tmp_path / "one.tar"))
    assert data["label"] == ["a", "b", "a"]
    assert data["year"] == [None, 1999, 1999]


def test_a_small_archive_with_a_huge_file_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """Images and what is written beside them; 70 kB that would be 67 MB here, and 1.5 MB that would be 1.5 GB."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    big = bytes(1 << 20)
    for label in ("cats", "dogs"):
        fill(tmp_path / "x", f"{label}/1.png")
    file = zipped(tmp_path / "a.zip", tmp_path / "x", ("dogs/2.png", big), ("film.mp4", big), ("unknown.bin", big))
    with pytest.raises(DataError, match=r"got 'dogs/2\.png' of 1\.0 MB in .*a\.zip', more than an image of 100 pixels"):
        load_source(str(file))
    zipped(tmp_path / "b.zip", tmp_path / "x", ("film.mp4", big), ("unknown.bin", big))
    assert left(tmp_path / "b.zip") == {"film.mp4": "videos: only still images are protected"}
    webdataset(tmp_path / "c.tar", [("1.png", picture()), ("1.txt", big)])
    with pytest.raises(DataError, match=r"got '1\.txt' of 1\.0 MB"):
        load_source(str(tmp_path / "c.tar"))


def test_names_in_an_archive_lead_nowhere(tmp_path):
    """Up, to the root, and by links: nothing is written, and no other file is read."""
    outside = tmp_path / "outside.png"
    outside.write_bytes(picture())
    names = ["cats/1.png", "dogs/2.png", "cats/../../../evil.png", f"{tmp_path}/cats/evil.png", "..\\dogs\\evil.png"]
    zipped(tmp_path / "a.zip", tmp_path / "x", *((name, picture()) for name in names))
    webdataset(tmp_path / "b.tar", [(name, picture()) for name in names])
    with tarfile.open(tmp_path / "b.tar", "a") as archive:
        link = tarfile.TarInfo("cats/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
    for name in ("a.zip", "b.tar"):
        entries = Tree.of(tmp_path / name).entries
        assert len(entries) == 5
        for entry in entries:
            assert not {"", ".", ".."} & set(entry.path.split("/"))
    load_source(str(tmp_path / "a.zip"))
    with pytest.warns(DataWarning, match=r"cats/link\.png \(a link to no file in its archive"):
        load_source(str(tmp_path / "b.tar"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "b.tar", "outside.png"]


def test_of_two_files_of_one_name_the_last_counts_as_when_they_are_unpacked(tmp_path):
    first, second = picture(), picture()
    webdataset(tmp_path / "a.tar", [("cats/1.png", first), ("dogs/2.png", picture()), ("cats/1.png", second)])
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(
            tmp_path / "a.zip", tmp_path / "x", ("cats/1.png", first), ("cats/1.png", second), ("dogs/2.png", picture())
        )
    for name in ("a.tar", "a.zip"):
        data = load_source(str(tmp_path / name)).cast_column("image", ImageFeature(decode=False))
        assert [row["image"]["bytes"] == second for row in data] == [True, False]


def test_what_is_wrong_with_a_file_in_an_archive_is_said(tmp_path):
    file = zipped(tmp_path / "a.zip", tmp_path / "nothing", *((f"{label}/1.png", picture()) for label in ("a", "b")))
    content = bytearray(file.read_bytes())
    content[60:70] = bytes(10)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"got 'a/1\.png' in .*a\.zip', which cannot be unpacked \(Bad CRC-32"):
        load_source(str(file))
    webdataset(tmp_path / "b.tar", [("1.png", picture()), ("1.json", b"[" * 100_000)])
    with pytest.raises(DataError, match=r"got 1\.json, which is not what its ending says .*expected .*JSON in \.json"):
        load_source(str(tmp_path / "b.tar"))
    with tarfile.open(tmp_path / "c.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("cats/1.png", "dogs/2.png", "dogs/caf\udce9.png"):
            archive.addfile(tarfile.TarInfo(name))
    assert left(tmp_path / "c.tar") == {r"dogs/caf\xe9.png": "a name that is not UTF-8: rename it"}


@pytest.mark.parametrize("ending", ["tar.xz", "tar.bz2"])
def test_a_damaged_tar_is_told_whatever_packed_it(tmp_path, ending):
    file = tmp_path / f"a.{ending}"
    with tarfile.open(file, f"w:{ending.removeprefix('tar.')}") as archive:
        archive.add(fill(tmp_path / "photos", *(f"{label}/{n}.png" for label in ("a", "b") for n in range(5))), "")
    content = bytearray(file.read_bytes())
    content[-300:-200] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar\.\w+'?, which cannot be (unpacked|read as an archive) \("):
        load_source(str(file))


@pytest.mark.parametrize("packed", ["ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
@pytest.mark.parametrize("name", ["a/1.png", "a/metadata.jsonl"])
def test_a_damaged_file_in_a_zip_is_told_whatever_packed_it(tmp_path, packed, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", getattr(zipfile, packed)) as archive:
        archive.writestr("b/2.png", picture())
        archive.writestr(name, bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    start = content.index(name.encode()) + len(name)
    content[start : start + 60] = bytes([0xFF]) * 60
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=rf"got '?{name}'?.*, which cannot be (unpacked|read as a table) \("):
        load_source(str(tmp_path / "a.zip"))


def test_archives_that_cannot_be_read(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK no more")
    with pytest.raises(DataError, match=r"a\.zip', which cannot be read as an archive"):
        load_source(str(tmp_path / "a.zip"))
    zipped(tmp_path / "b.zip", tmp_path / "nothing", ("readme.txt", "hello"))
    with pytest.raises(DataError, match=r"no image that can be read \(1 file: not an image\)"):
        load_source(str(tmp_path / "b.zip"))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as around:
        around.write(tmp_path / "b.zip", "b.zip")
    with pytest.raises(DataError, match=r"c\.zip', in which there are archives and no images; .* Unpack it"):
        load_source(str(tmp_path / "c.zip"))


def test_a_broken_readme_does_not_matter_beside_images(tmp_path):
    fill(tmp_path, "cats/1.png", "dogs/2.png")
    for text in ("---\ntitle: [unclosed\n---\n# My photographs\n", "# Just text\n", "---\nlicense: mit\n---\n"):
        (tmp_path / "README.md").write_text(text)
        assert rows(tmp_path) == {"cats": ["1.png"], "dogs": ["2.png"]}


def test_images_beside_a_dataset_are_told(tmp_path):
    fill(tmp_path / "photos", "cats/1.png", "dogs/2.png")
    load_source(str(tmp_path / "photos")).to_parquet(str(tmp_path / "set" / "train.parquet"))
    fill(tmp_path / "set", "new/3.png", "README.md")
    opened = open_source(str(tmp_path / "set"))
    assert len(opened.dataset) == 2
    assert [file.path for file in opened.contents.pictures_left_out] == ["new/3.png"]


def test_the_same_files_are_the_same_dataset_and_others_are_not(tmp_path):
    fill(tmp_path, "cats/1.png", "dogs/2.png")
    first, again = load_source(str(tmp_path)), load_source(str(tmp_path))
    assert first._fingerprint == again._fingerprint
    assert first.cache_files == again.cache_files != []
    (tmp_path / "cats" / "1.png").write_bytes(picture())
    os.utime(tmp_path / "cats" / "1.png", (1, 1))
    assert load_source(str(tmp_path))._fingerprint != first._fingerprint


def test_a_link_to_nowhere_is_a_row_that_cannot_be_read(tmp_path):
    fill(tmp_path, "cats/1.png", "dogs/2.png")
    (tmp_path / "cats" / "3.png").symlink_to(tmp_path / "gone.png")
    assert len(load_source(str(tmp_path))) == 3
