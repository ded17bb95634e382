"""Datasets of other tasks, from `protect` to the Hub and back: boxes, masks, captions, several labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from helpers.kinds import as_file, captioned, detection, photograph, segmentation, tagged
from huggingface_hub import hf_hub_download
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from hf_unlearnable import DataError, DataWarning, PrivacyError, Texture, pull, push, verify
from hf_unlearnable.cli import app
from hf_unlearnable.data.pixels import to_array
from hf_unlearnable.methods.deriving import derive
from hf_unlearnable.progress import heard_by
from hf_unlearnable.runs import RunFolder, audit, intake, protect

FORMS = {
    "structure of lists": (lambda: detection(), "largest:objects", "texture"),
    "list of structures": (lambda: detection(listed=True), "largest:objects", "texture"),
    "masks": (lambda: segmentation(), "none", None),
    "masks with a palette": (lambda: segmentation(mode="P"), "largest:annotation", "texture"),
    "masks of 16 bits": (lambda: segmentation(mode="I;16"), "largest:annotation", "texture"),
    "captions": (lambda: captioned(), "none", None),
    "classes, several": (lambda: tagged(), "frequent:tags", "texture"),
    "words, several": (lambda: tagged(plain=True), "frequent:tags", "texture"),
}


def run(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


def others_of(data: Dataset, column: str = "image") -> dict:
    """What all other columns hold, masks as the bytes of their files."""
    rest = data.remove_columns(column)
    for name, feature in rest.features.items():
        if isinstance(feature, ImageFeature):
            rest = rest.cast_column(name, ImageFeature(decode=False))
    told = rest.with_format(None)[:]
    return {
        name: [value["bytes"] if isinstance(value, dict) and "bytes" in value else value for value in values]
        for name, values in told.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_from_protect_to_the_hub_and_back(form, tmp_path, hub, name):
    make, labels, method = FORMS[form]
    data = make()
    place, out = tmp_path / "data", tmp_path / "out"
    data.save_to_disk(place)
    words = ["--image-column", "image"] if "annotation" in data.features else []
    words += ["--labels", labels] if "annotation" in labels else []
    words += ["--method", method] if method else []
    told = " ".join(run("protect", place, "--output", out, *words).output.split())
    assert "Labels: none" in told if labels == "none" else f"Labels: made, {labels}" in told
    described = RunFolder(out).description
    assert (described.labels, described.method_name, described.columns.label) == (labels, "texture", None)
    assert described.verification.violations == described.verification.unchanged == 0
    push(out, name)
    assert verify(out, name).violations == 0
    back = pull(name, tmp_path / "back")
    assert back.features == data.features
    assert others_of(back) == others_of(data)
    assert all(one.size == other.size for one, other in zip(back["image"], data["image"], strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(back["image"], data["image"], strict=True))
    card = Path(hf_hub_download(name, "README.md", repo_type="dataset")).read_text()
    assert "**What is not known:** whether" in card
    assert "all of one owner" in card if labels == "none" else "made for the protection: the" in card


CARDS = {
    "structure of lists": ("object-detection", "a detector learns less", "so that boxes and masks fit as before"),
    "masks": ("image-segmentation", "a model that segments learns less", "The masks themselves are not protected."),
    "captions": ("image-to-text", "such as CLIP or a diffusion model, learns less", "**Beside the images:** captions."),
    "classes, several": ("image-classification", "names several things", "**Beside the images:** several labels."),
}


@pytest.mark.parametrize("form", CARDS)
def test_the_card_says_what_is_not_known(form, tmp_path, hub, name):
    make, labels, _ = FORMS[form]
    made = protect(make(), tmp_path / "out", method="texture", labels=labels, image_column="image", progress=False)
    push(made, name)
    card = Path(hf_hub_download(name, "README.md", repo_type="dataset")).read_text()
    for words in CARDS[form]:
        assert words in card


def test_the_largest_object_gives_the_class():
    data = detection()
    derived = derive(data, "largest", "objects")
    assert derived.names == ["Coverall", "Face_Shield", "Gloves"]
    assert derived.numbers[:-1].tolist() == [index % 3 for index in range(len(data) - 1)]
    # The last image has no object: alone with that, it joins the largest class.
    assert derived.numbers[-1] == np.bincount(derived.numbers[:-1]).argmax()
    listed = derive(detection(listed=True), "largest", "objects")
    assert (listed.names, listed.numbers.tolist()) == (derived.names, derived.numbers.tolist())


@pytest.mark.parametrize("corners", [False, True])
def test_areas_come_from_the_boxes_where_nobody_states_them(corners):
    def bare(row):
        boxes = [[x, y, x + w, y + h] if corners else [x, y, w, h] for x, y, w, h in row["objects"]["bbox"]]
        return {"objects": {"bbox": boxes, "label": [str(kind) for kind in row["objects"]["category"]]}}

    kind = {"bbox": List(List(Value("float64"))), "label": List(Value("string"))}
    data = detection()
    data = data.map(bare, features=Features({**data.features, "objects": kind}))
    assert derive(data, "largest", "objects").numbers[:-1].tolist() == [index % 3 for index in range(len(data) - 1)]


def test_images_without_a_class_are_one_more():
    data = detection()
    objects = data["objects"][:]
    for row in (3, 4):
        objects[row] = {name: [] for name in objects[row]}
    objects[5]["category"] = [4] * len(objects[5]["category"])  # the only one with a mask
    changed = data.remove_columns("objects").add_column("objects", objects, feature=data.features["objects"])
    derived = derive(changed, "largest", "objects")
    assert derived.names == ["Coverall", "Face_Shield", "Gloves", "other"]
    assert np.flatnonzero(derived.numbers == 3).tolist() == [3, 4, 5, len(data) - 1]
    assert derived.rest == 4


def test_the_most_frequent_label_gives_the_class():
    derived = derive(tagged(), "frequent", "tags")
    assert derived.names == ["sky", "hill", "lake", "tree"]
    assert derived.numbers[::2].tolist() == [0] * 6
    assert derived.numbers[1::2].tolist() == [2, 1, 3] * 2
    words = derive(tagged(plain=True), "frequent", "tags")
    assert [words.names[number] for number in words.numbers] == [derived.names[number] for number in derived.numbers]


def test_what_is_picked_is_said_and_can_be_said():
    data = detection()
    with pytest.warns(DataWarning, match="got no labels, but the column 'objects': 3 classes, by the category of"):
        picked = Texture().fit(data, progress=False)
    said = Texture().fit(data, labels="largest", progress=False)
    assert picked.digest == said.digest
    assert said.description.labels == "largest:objects"
    assert Texture().fit(data, labels="none", progress=False).description.labels == "none"
    with pytest.raises(DataError, match=r"got labels='largest:width'; expected a column of objects .*: one of objects"):
        Texture().fit(data, labels="largest:width", progress=False)
    with pytest.raises(
        DataError, match=r"got labels='frequent'; expected a column of several labels .*: none is among"
    ):
        Texture().fit(captioned(), labels="frequent", progress=False)


def test_a_dry_run_says_what_would_be_picked(tmp_path):
    detection().save_to_disk(tmp_path / "data")
    told = " ".join(run("protect", tmp_path / "data", "--dry-run").output.split())
    assert "Labels: made, largest:objects: the category of what is largest in an image, in the column objects." in told


def copies(kind: str) -> Dataset:
    """Photographs, and beside them copies that are no masks."""
    rng = np.random.default_rng(3)
    images = [photograph(rng) for _ in range(4)]
    if kind == "a flat drawing in grey":
        for image in images:
            draw = ImageDraw.Draw(image)
            draw.rectangle((0, 0, 64, 48), fill=(30, 30, 30))
            draw.ellipse((10, 10, 40, 40), fill=(200, 210, 190))
    change = {
        "grey": lambda image: image.convert("L"),
        "a palette": lambda image: image.quantize(64),
        "a flat drawing in grey": lambda image: image.convert("L"),
        "smaller": lambda image: image.convert("L").resize((32, 24)),
        "colour": lambda image: image,
    }[kind]
    files = [as_file(change(image), "PNG") for image in images]
    features = Features({"image": ImageFeature(), "copy": ImageFeature()})
    return Dataset.from_dict({"image": [as_file(image) for image in images], "copy": files}, features=features)


@pytest.mark.parametrize("kind", ["grey", "a palette", "a flat drawing in grey", "smaller", "colour"])
def test_copies_of_the_images_are_still_refused(kind, tmp_path):
    with pytest.raises(PrivacyError, match=r"got the column 'copy', whose images are no masks .*drop_columns"):
        protect(copies(kind), tmp_path / "out", image_column="image", progress=False)


def test_one_copy_among_masks_is_found(tmp_path):
    data = segmentation()
    masks = data.cast_column("annotation", ImageFeature(decode=False))["annotation"][:]
    masks[9] = as_file(data[9]["image"].convert("L"), "PNG")
    mixed = data.remove_columns("annotation").add_column("annotation", masks, feature=ImageFeature())
    with pytest.raises(PrivacyError, match=r"no masks and can be clean copies \(row 9: only"):
        protect(mixed, tmp_path / "out", image_column="image", progress=False)


def test_masks_with_metadata_are_refused(tmp_path):
    data = segmentation(2)
    exif = Image.Exif()
    exif[0x013B] = "somebody"
    masks = [as_file(mask, "PNG", exif=exif) for mask in data["annotation"]]
    told = data.remove_columns("annotation").add_column("annotation", masks, feature=ImageFeature())
    with pytest.raises(PrivacyError, match="row 0: metadata such as EXIF"):
        protect(told, tmp_path / "out", image_column="image", progress=False)


def turned(boxes: list[list[float]], mask_size: tuple[int, int]) -> Dataset:
    """A photograph that is stored as 64x48 and shown as 48x64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = as_file(photograph(np.random.default_rng(0)), "JPEG", exif=exif)
    mask = Image.new("L", mask_size)
    ImageDraw.Draw(mask).rectangle((3, 3, 20, 30), fill=1)
    objects = {"bbox": boxes, "category": [0 for _ in boxes]}
    features = Features(
        {
            "image": ImageFeature(),
            "mask": ImageFeature(),
            "objects": {"bbox": List(List(Value("float64"))), "category": List(Value("int64"))},
        }
    )
    rows = {"image": [image] * 2, "mask": [as_file(mask, "PNG")] * 2, "objects": [objects] * 2}
    return Dataset.from_dict(rows, features=features)


def test_boxes_and_masks_fit_images_that_exif_turns(tmp_path):
    data = turned([[2, 2, 40, 60]], (48, 64))
    made = protect(data, tmp_path / "out", method="texture", labels="none", image_column="image", progress=False)
    assert any("Turned by their EXIF: 2 of 2 images." in note for note in made.intake.notes)
    for before, after in zip(data, made.dataset, strict=True):
        assert after["image"].size == before["image"].size == after["mask"].size == (48, 64)
        assert np.abs(to_array(after["image"]).astype(int) - to_array(before["image"])).max() <= 8
        assert after["objects"] == before["objects"]


@pytest.mark.parametrize(("boxes", "mask"), [([[2, 2, 60, 40]], (48, 64)), ([[2, 2, 40, 40]], (64, 48))])
def test_boxes_and_masks_of_another_orientation_are_refused(boxes, mask, tmp_path):
    with pytest.raises(
        DataError, match="got 2 images that their EXIF turns, with boxes or masks that fit the image as"
    ):
        protect(turned(boxes, mask), tmp_path / "out", image_column="image", labels="none", progress=False)


@pytest.mark.parametrize("progress", [True, False])
def test_bars_are_shown_where_they_are_asked_for(progress, tmp_path, hub, name):
    """``protect``, ``audit`` and ``push`` look at masks and images for copies."""
    heard: list[set[str]] = [set() for _ in range(3)]
    chosen = {"method": Texture(), "labels": "none", "image_column": "image"}
    out = tmp_path / "out"
    works = (
        lambda: protect(segmentation(), out, **chosen, progress=progress),
        lambda: audit(out, progress=progress),
        lambda: push(out, name, progress=progress),
    )
    for parts, work in zip(heard, works, strict=True):
        with heard_by(lambda part, share, parts=parts: parts.add(part)):
            work()
    masks, images = "looking at annotation", "checking images"
    if not progress:
        assert heard == [set(), set(), {f"push to {name}"}]  # which is no bar
        return
    assert masks in heard[0]
    assert {masks, images} <= heard[1]
    assert {masks, images} <= heard[2]


@pytest.mark.parametrize("content", [b"no image", b""])
def test_a_mask_that_cannot_be_read_is_named(content, tmp_path):
    """Beside an image that EXIF turns, where its size is asked for, and as what gives the class."""
    data = turned([[2, 2, 40, 60]], (48, 64)).cast_column("mask", ImageFeature(decode=False))
    rows = data.to_list()
    rows[1]["mask"] = {"bytes": content, "path": "m1.png"}
    broken = Dataset.from_list(rows).cast(data.features).cast_column("mask", ImageFeature())
    named = {"image_column": "image", "progress": False}
    message = r"row 1, column 'mask' \(m1.png\): cannot read the image .*remove_columns\('mask'\)"
    (note,) = [note for note in intake(broken, labels="none", **named).notes if "row 1" in note]
    assert re.search(f"Cannot be protected as it is: {message}", note)
    for labels in ("none", "largest:mask"):
        with pytest.raises(DataError, match=message):
            protect(broken, tmp_path / "out", labels=labels, **named)
    with pytest.raises(DataError, match=message):
        Texture().fit(broken, labels="largest:mask", **named)
    broken.save_to_disk(tmp_path / "data")
    shown = run("protect", tmp_path / "data", "--image-column", "image", "--labels", "none", "--dry-run")
    assert "row 1, column 'mask' (m1.png): cannot read the image" in shown.output
    assert "leave the column out: --drop-column mask" in shown.output


def test_a_folder_with_boxes_in_its_metadata(tmp_path):
    """As the Hub's documentation lays out a folder for detection."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for index in range(6):
        photograph(rng).save(folder / f"{index}.png")
        lines.append(
            f'{{"file_name": "{index}.png", "objects": {{"bbox": [[1.0, 2.0, {20 + index}.0, 9.0], [5, 5, 3, 3]], '
            f'"categories": [{index % 2}, 7]}}}}\n'
        )
    (folder / "metadata.jsonl").write_text("".join(lines))
    made = protect(folder, tmp_path / "out", method="texture", labels="largest", progress=False)
    described = made.protection.description
    assert (described.labels, described.classes.names) == ("largest:objects", ["0", "1"])
    assert made.dataset["objects"][:][3]["bbox"] == [[1.0, 2.0, 23.0, 9.0], [5, 5, 3, 3]]


def test_objects_that_do_not_go_together_are_refused():
    data = detection(4)
    objects = data["objects"][:]
    objects[1]["category"] = objects[1]["category"] * 2
    changed = data.remove_columns("objects").add_column("objects", objects, feature=data.features["objects"])
    with pytest.raises(DataError, match=r"for one image in the column 'objects'; expected one of each for every"):
        derive(changed, "largest", "objects")
