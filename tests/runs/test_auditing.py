"""What an audit finds in sets that give something away, and says of sets that do not."""

from __future__ import annotations

import json
import shutil
import stat
import sys

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, LargeList, List, Value, concatenate_datasets, load_from_disk
from datasets import Image as ImageColumn
from helpers.datasets import COLUMNS, make_dataset, make_output
from PIL import Image

from hf_unlearnable import DataError, PrivacyError, Protection, RecipeError, SourceError, Texture, push
from hf_unlearnable.budget import Budget
from hf_unlearnable.cli.command import main
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.protection.findings import SEVERITIES, Audit
from hf_unlearnable.protection.near_copies import find_near_copies
from hf_unlearnable.protection.privacy import check_dataset, texts
from hf_unlearnable.runs import RunFolder, audit, protect
from hf_unlearnable.runs.publication import told_names


def pictures(count=60, seed=0):
    """Colour images of 32x32 pixels, one colour each with a little noise: nothing hides a wave."""
    rng = np.random.default_rng(seed)
    data = make_dataset(count, channels=3, side=32, seed=seed)
    pixels = rng.integers(60, 190, (count, 1, 1, 3)) + rng.integers(-20, 21, (count, 32, 32, 3))
    images = [Image.fromarray(one.astype(np.uint8)) for one in pixels]
    return Dataset.from_dict({**data.remove_columns("image").to_dict(), "image": images}, features=data.features)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Originals with a test split, and two protections of them."""
    folder = tmp_path_factory.mktemp("audit")
    DatasetDict(train=pictures(), test=pictures(seed=1)).save_to_disk(folder / "originals")
    for seed in (0, 1):
        Texture(seed=seed).fit(pictures(), output_dir=folder / f"fit-{seed}", progress=False)
    return folder


@pytest.fixture
def out(home, tmp_path):
    return made(home, tmp_path / "out")


def made(home, folder, seed=0, data=None):
    data = load_from_disk(str(home / "originals"))["train"] if data is None else data
    return make_output(folder, data, Protection(home / f"fit-{seed}"), str(home / "originals"))


def severities(audited):
    return {finding.check: finding.severity for finding in audited.findings}


def the(audited, check):
    return next(finding for finding in audited.findings if finding.check == check)


def test_all_is_looked_at_and_kept(out):
    audited = audit(out, progress=False)
    assert severities(audited) == {
        "class patterns": "leak",  # that of texture on plain images
        "probe": "note",
        "files and columns of train": "fine",
        "clean pixels": "fine",
        "file names": "fine",
        "folders": "fine",
        "copies": "fine",
    }
    assert [finding.check for finding in audited.leaks] == ["class patterns"]
    order = [SEVERITIES.index(finding.severity) for finding in audited.findings]
    assert order == sorted(order)
    best = the(audited, "class patterns").evidence["estimators"][0]
    assert best["estimator"] == "spectral-peak"
    assert best["at_best"] > 0.5
    assert the(audited, "probe").evidence["accuracy"] > 0.9 > the(audited, "probe").evidence["control"]
    file = RunFolder(out).audit_file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert RunFolder(out).audited.as_dict() == json.loads(json.dumps(audited.as_dict(), allow_nan=False))
    json.loads(file.read_text(), parse_constant=pytest.fail)  # NaN is not JSON


@pytest.mark.parametrize("damage", ["{", "[]", '{"name": "x"}', '{"name": "x", "images": 1, "findings": [{}]}'])
def test_a_damaged_audit_is_told(out, damage):
    file = RunFolder(out).audit_file
    file.parent.mkdir(exist_ok=True)
    file.write_text(damage)
    with pytest.raises(DataError):
        RunFolder(out).audited  # noqa: B018
    with pytest.raises(DataError, match="severity 'bad'"):
        Audit.of(
            {"name": "x", "images": 1, "findings": [{"check": "a", "severity": "bad", "says": "b", "evidence": {}}]}
        )


def replaced(out, rows, features=None):
    """The published images, rewritten."""
    data = Dataset.from_list(rows, features=features or load_from_disk(str(out / "dataset")).features)
    shutil.rmtree(out / "dataset")
    data.save_to_disk(out / "dataset")


def test_clean_pixels(out):
    rows = load_from_disk(str(out / "dataset")).to_list()
    rows[7]["image"] = pictures()[7]["image"]
    replaced(out, rows)
    found = the(audit(out, progress=False), "clean pixels")
    assert found.severity == "leak"
    assert "got 1 original images to publish, such as row 7" in found.says


@pytest.mark.parametrize(
    ("name", "check", "severity"),
    [
        ("anna at the sea.png", "file names", "warning"),
        ("IMG_0042.png", "file names", "fine"),
        ("2024-05-01 (3).png", "file names", "fine"),
        ("/home/anna/0001.png", "folders", "warning"),
    ],
)
def test_names_of_files(name, check, severity):
    rows = pictures(6).to_list()
    rows[3]["image"]["path"] = name
    data = Dataset.from_list(rows, features=pictures(6).features)
    found = next(finding for finding in told_names({"train": data}, "image") if finding.check == check)
    assert found.severity == severity
    assert (found.evidence.get("examples") == {name: "train, row 3"}) == (severity == "warning")


def test_names_of_files_in_a_folder(tmp_path):
    """Their names are published with them, and the place of the folder is not."""
    for number, name in enumerate(("0001.png", "anna at the sea.png")):
        Image.new("L", (8, 8), number).save(tmp_path / name)
    data = Dataset.from_dict({"image": sorted(map(str, tmp_path.iterdir()))}).cast_column("image", ImageColumn())
    found = {finding.check: finding for finding in told_names({"train": data}, "image")}
    assert found["file names"].evidence["examples"] == {"anna at the sea.png": "train, row 1"}
    assert found["folders"].severity == "fine"


HELD = "/home/anna/0001.png"


@pytest.mark.parametrize(
    ("value", "feature"),
    [
        (HELD, Value("string_view")),
        ([HELD, ""], List(Value("string"), length=2)),
        ([[HELD], []], List(LargeList(Value("large_string")), length=2)),
        ([{"a": [HELD]}], List({"a": List(Value("string"), length=1)})),
    ],
)
def test_paths_in_text_however_it_is_held(value, feature):
    rows = [{**row, "also": value} for row in pictures(2).to_list()]
    data = Dataset.from_list(rows, features=Features({**pictures(2).features, "also": feature}))
    found = next(finding for finding in told_names({"train": data}, "image") if finding.check == "folders")
    assert found.evidence["examples"] == {"train, column also" + ".a" * isinstance(value[0], dict): HELD}
    with pytest.raises(PrivacyError, match="got the local path '/home/anna' in the column 'also"):
        check_dataset(data, "image", ["/home/anna"])


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int32(), pa.string()), pa.list_view(pa.string()), pa.large_list_view(pa.string())]
)
def test_texts_of_a_table(kind):
    values = pa.array([HELD, "b"]).cast(kind) if pa.types.is_dictionary(kind) else pa.array([[HELD], ["b"]], kind)
    ((name, found),) = texts(pa.table({"also": values}))
    assert (name, found.to_pylist()) == ("also", [HELD, "b"])


def test_paths_in_text(out):
    rows = load_from_disk(str(out / "dataset")).to_list()
    rows[3]["name"] = "from C:\\Users\\anna"
    replaced(out, rows)
    assert the(audit(out, progress=False), "folders").evidence["count"] == 1


def test_metadata_and_other_columns(out):
    data = load_from_disk(str(out / "dataset"))
    rows = [{**row, "before": image} for row, image in zip(data.to_list(), pictures()["image"], strict=True)]
    replaced(out, rows, Features({**data.features, "before": data.features["image"]}))
    found = the(audit(out, progress=False), "files and columns of train")
    assert (found.severity, "'before'" in found.says) == ("leak", True)


@pytest.mark.filterwarnings("ignore::hf_unlearnable.DataWarning")
def test_one_original_under_two_labels(home, tmp_path):
    twice = pictures().select([0, 3, 6, 1, 4, 7])
    rows = twice.to_list()
    rows.append({**rows[0], "label": 1})
    data = Dataset.from_list(rows, features=twice.features)
    data.save_to_disk(tmp_path / "data")
    Texture().fit(data, output_dir=tmp_path / "fit", progress=False)
    out = make_output(tmp_path / "out", data, Protection(tmp_path / "fit"), str(tmp_path / "data"))
    found = the(audit(out, progress=False), "copies")
    assert found.severity == "leak"
    assert "train, row 0 and train, row 6" in found.says
    assert found.evidence["protected_in_two_ways"] == 1
    assert 0.2 < found.evidence["taken_out_by_their_mean"] < 0.8  # half of it, if the two waves have nothing in common
    alone = the(audit(out / "dataset", clean=str(tmp_path / "data"), progress=False), "copies")  # without the run
    assert alone == found


def test_two_fits_of_the_same_pictures(home, tmp_path, out):
    other = made(home, tmp_path / "other", seed=1)
    found = the(audit(out, also=[str(other)], progress=False), "copies")
    assert (found.severity, found.evidence["perhaps_in_two_ways"]) == ("warning", 60)
    alone = the(
        audit(out / "dataset", clean=str(home / "originals"), clean_split="train", also=[str(other)], progress=False),
        "copies",
    )
    assert alone == found


def test_a_clean_copy_in_another_split(home, out):
    protected, clean = load_from_disk(str(out / "dataset")), pictures(seed=1)
    clean = concatenate_datasets([clean, pictures().select([5])]).cast(protected.features)
    shutil.rmtree(out / "dataset")
    DatasetDict(train=protected, test=clean).save_to_disk(out / "dataset")
    (out / "private" / "splits.json").write_text(json.dumps({"protected": ["train"], "clean": ["test"]}))
    found = the(audit(out, progress=False), "copies")
    assert found.severity == "leak"
    assert "train, row 5 and test, row 60" in found.says


def test_what_is_not_there_is_said(out, name, hub, tmp_path):
    """A set on the Hub, seen by somebody who has nothing else."""
    push(out, name)
    audited = audit(name, progress=False)
    missed = {finding.check for finding in audited.findings if finding.severity == "not looked at"}
    assert missed == {"clean pixels", "class patterns", "probe"}
    assert "clean='...'" not in str(audited)
    assert "name the originals with clean=DATASET" in the(audited, "class patterns").says
    assert audited.leaks == ()
    pictures().save_to_disk(tmp_path / "clean")
    known = audit(name, clean=str(tmp_path / "clean"), test=str(tmp_path / "clean"), progress=False)
    assert severities(known)["class patterns"] == "leak"


def test_a_set_without_labels_is_one_class(tmp_path):
    """One owner's pictures: what all share is estimated; what a thief finds who makes classes is said to be open."""
    for name, seed in (("train", 0), ("test", 1)):
        pictures(seed=seed).remove_columns(["label", "name"]).save_to_disk(tmp_path / name)
    data = load_from_disk(str(tmp_path / "train"))
    wave = np.random.default_rng(0).choice([-8, 8], (32, 32, 3))
    shared = [{"image": Image.fromarray((np.asarray(row["image"]) + wave).astype(np.uint8))} for row in data]
    Dataset.from_list(shared, features=data.features).save_to_disk(tmp_path / "shared")
    protection = Texture().fit(data, labels="none", output_dir=tmp_path / "fit", progress=False)
    make_output(tmp_path / "out", data, protection, str(tmp_path / "train"))
    # What all images share is their mean, once they are whitened.
    for which in ("shared", "out"):
        audited = audit(tmp_path / which, clean=str(tmp_path / "train"), test=str(tmp_path / "test"), progress=False)
        found = the(audited, "class patterns")
        assert (found.severity, found.says.split(",")[0]) == ("leak", "class-clusters:1")
        assert "60 released images as one class" in found.says
        assert "Not looked at: what they find beside images of other classes" in found.says
        assert found.evidence["classes"] == 1
        assert severities(audited)["probe"] == "note"


def test_a_clean_split_may_be_named(tmp_path):
    parts = DatasetDict(train=pictures(), test=pictures(20, seed=1), valid=pictures(10, seed=2))
    given = {"split": "all", "keep_clean": ["test", "valid"], "progress": False}
    out = protect(parts, tmp_path / "out", method="texture", **given)
    for split, count in ((None, 30), ("test", 20), ("valid", 10)):
        assert the(audit(out, test_split=split, progress=False), "probe").evidence["images"] == 2 * count


def test_images_that_were_held_out_are_those_that_were_not_protected(tmp_path):
    out = protect(pictures(), tmp_path / "out", method="texture", hold_out=0.2, progress=False)
    assert the(audit(out, progress=False), "probe").evidence["images"] == 2 * 12


def test_a_split_that_was_protected_is_not_taken_for_clean(home, tmp_path):
    out = protect(home / "originals", tmp_path / "out", split="test", method="texture", progress=False)
    found = the(audit(out, progress=False), "probe")
    assert found.severity == "not looked at"
    assert "got no images to test on: the split 'test' was protected itself" in found.says


def test_a_row_without_an_image_is_told_and_the_rest_is_looked_at(tmp_path):
    rows = pictures(12).to_list()
    rows[7]["image"] = None
    Dataset.from_list(rows, features=pictures(1).features).save_to_disk(tmp_path / "set")
    audited = audit(tmp_path / "set", progress=False)
    told = [finding.says for finding in audited.findings if "row 7" in finding.says]
    assert told
    assert all("row 7: got no image, neither bytes nor a path; expected one" in says for says in told)
    with pytest.raises(DataError, match="row 7: got no image"):
        check_dataset(Dataset.load_from_disk(tmp_path / "set"), "image", [])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"clean_split": "nope"}, "got the split 'nope'"),
        ({"clean": "./nothere"}, "'./nothere', where there is nothing"),
        ({"clean": "SEVERAL"}, "got 30 originals; expected 60"),
        ({"clean": "OTHERS"}, "60 of 60 images that were looked at are farther from the protected image of their row"),
        (
            {"clean": "FLAT"},
            "the clean dataset: got label_column='label'; expected one of the dataset's columns: image",
        ),
        ({"also": ["./nothere"]}, "'./nothere', where there is nothing"),
        ({"also": ["TEXTS"]}, "without a column of type Image"),
        ({"test": "./nothere"}, "'./nothere', where there is nothing"),
        ({"test": "OTHERS", "test_split": "nope"}, "got the split 'nope'"),
        ({"test": "TEXTS"}, "without a column of type Image"),
        ({"test_split": "nope"}, "no clean images that were not protected .got the split 'nope'"),
    ],
)
@pytest.mark.parametrize("part", ["out", "out/dataset"])
def test_what_is_named_is_an_error_where_it_is_not_there_or_does_not_fit(home, out, tmp_path, given, told, part):
    pictures().select(range(30)).save_to_disk(tmp_path / "SEVERAL")
    pictures(seed=1).save_to_disk(tmp_path / "OTHERS")
    pictures().select_columns(["image"]).save_to_disk(tmp_path / "FLAT")
    pictures().select_columns(["name"]).save_to_disk(tmp_path / "TEXTS")
    places = {name: str(tmp_path / name) for name in ("SEVERAL", "OTHERS", "FLAT", "TEXTS")}
    found = {name: places.get(str(value), value) for name, value in given.items()}
    found |= {"also": [places.get(value, value) for value in given["also"]]} if "also" in given else {}
    if part == "out/dataset":  # nobody knows its budget, nor its originals
        told = {"clean": told, "test_split": "no clean images beside it", "clean_split": "no originals of which"}.get(
            next(iter(given)), told
        )
        if given.get("clean") == "OTHERS":
            assert audit(tmp_path / part, **found, progress=False).images == 60
            return
    with pytest.raises((DataError, SourceError, RecipeError), match=told):
        audit(tmp_path / part, **found, progress=False)
    assert not RunFolder(out).audit_file.exists()


def test_a_label_column_that_is_not_there_is_an_error(out):
    with pytest.raises(DataError, match="got label_column='lable'"):
        audit(out / "dataset", label_column="lable", progress=False)


def test_images_to_test_on_need_no_labels(home, out, tmp_path):
    pictures(seed=1).select_columns(["image"]).rename_column("image", "photo").save_to_disk(tmp_path / "flat")
    assert the(audit(out, test=str(tmp_path / "flat"), progress=False), "probe").evidence["accuracy"] > 0.9


@pytest.mark.parametrize("form", ["images", "images.zip", "images.parquet"])
def test_images_that_are_published_as_files_are_audited_too(out, tmp_path, form):
    """What needs the protection or the originals is said to be left out; the originals may be named."""
    for kind, data in (("clean", pictures()), ("images", load_from_disk(str(out / "dataset")))):
        for index, row in enumerate(data):
            (tmp_path / kind / f"class {row['label']}").mkdir(parents=True, exist_ok=True)
            row["image"].save(tmp_path / kind / f"class {row['label']}" / f"{index:03}.png")
    if form == "images.zip":
        shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path / "images")
    if form == "images.parquet":
        load_source(str(tmp_path / "images")).to_parquet(tmp_path / form)
    audited = audit(tmp_path / form, progress=False)
    missed = {finding.check for finding in audited.findings if finding.severity == "not looked at"}
    assert (audited.images, missed) == (60, {"clean pixels", "class patterns", "probe"})
    known = audit(tmp_path / form, clean=str(tmp_path / "clean"), progress=False)
    assert severities(known)["class patterns"] == "leak"
    assert (severities(known)["folders"] == "fine") == (form != "images.zip")  # where a folder goes along


def test_a_part_of_a_run_is_told(home, out):
    made_report = out / "report" / "learnability.json"
    made_report.parent.mkdir(exist_ok=True)
    made_report.write_text("{}")
    for part in (made_report, made_report.parent):
        with pytest.raises(SourceError, match="a measurement alone; expected the folder of a run"):
            audit(part, progress=False)
    for part in (out / "private", out / "private" / "protection"):
        assert [finding.check for finding in audit(part, progress=False).leaks] == ["folder"]
    shutil.rmtree(out / "dataset")
    with pytest.raises(SourceError, match="with dataset/ and private/protection/ in it"):
        audit(out, progress=False)


def test_the_private_part_is_a_leak(out):
    (out / "dataset" / "weights.pt").write_bytes(b"0")
    audited = audit(out, progress=False)
    assert [finding.check for finding in audited.leaks] == ["folder"]


def test_the_command_ends_with_1_where_something_leaks(out, name, hub, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hf-unlearnable", "audit", str(out), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == 1
    document = json.loads(told.out)
    assert document["kind"] == "PrivacyError"
    assert document["audit"]["findings"][0]["severity"] == "leak"
    assert "leaks: class patterns" in told.err
    push(out, name)  # what a thief can estimate is no reason to refuse
    monkeypatch.setattr(sys, "argv", ["hf-unlearnable", "audit", name])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "not looked at: probe" in capsys.readouterr().out


def test_push_tells_of_names(out, name, hub):
    rows = load_from_disk(str(out / "dataset")).to_list()
    rows[3]["image"]["path"] = "anna at the sea.png"
    replaced(out, rows)
    with pytest.warns(UserWarning, match="'anna at the sea.png'"):
        push(out, name)


def test_near_copies_are_all_pairs_that_are_near():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (4, 19, 23, 3))
    size = np.resize([9, 10, 12], 20)[:, None, None, None] * np.ones((1, 19, 23, 3), int)
    moved = np.clip(np.repeat(base, 5, axis=0) + rng.integers(-size, size + 1), 0, 255).astype(np.uint8)
    data = Dataset.from_dict({"image": [Image.fromarray(one) for one in moved]}).cast_column(
        "image", make_dataset(1).features["image"]
    )
    parts = {"a": data.select(range(10)), "b": data.select(range(10, 20))}
    arrays = [to_array(row["image"]).astype(int) for row in data]
    expected = {
        (one, other): np.abs(arrays[one] - arrays[other]).max()
        for one in range(20)
        for other in range(one + 1, 20)
        if np.abs(arrays[one] - arrays[other]).max() <= 22
    }
    found = {}
    for pair in find_near_copies(parts, COLUMNS.image, Budget(11), 22):
        numbers = [10 * "ab".index(place.part) + place.row for place in (pair.first, pair.second)]
        found[tuple(sorted(numbers))] = pair.distance
    assert found == expected
    assert len(expected) > 5


def test_a_wave_of_large_pictures_is_found_without_the_run(tmp_path):
    """It is made at 256 pixels, and seen at 128 nothing is left of it."""
    for index in range(12):
        place = tmp_path / "photos" / f"{index:02}.png"
        place.parent.mkdir(exist_ok=True)
        Image.effect_noise((300, 280), 30).save(place)
    protect(tmp_path / "photos", tmp_path / "out", method="texture", labels="none", progress=False)
    found = audit(tmp_path / "out" / "images", clean=str(tmp_path / "photos"), clean_split="train", progress=False)
    assert the(found, "class patterns").severity == "leak"
