"""Every kind of image: own size, own mode where it can carry a perturbation, alpha, EXIF, budget.

The table of kinds is printed by examples/benchmarks/image_kinds.py, which is tested here.
"""

from __future__ import annotations

import io
import re
import sys
import warnings

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, load_from_disk
from datasets import Image as ImageFeature
from helpers.datasets import ROOT
from PIL import Image, ImageCms

from hf_unlearnable import Budget, BudgetError, DataError, Protection, RecipeError
from hf_unlearnable.data.pixels import encode, file_name, to_array, to_image
from hf_unlearnable.data.reading import Survey
from hf_unlearnable.methods.waves import wave
from hf_unlearnable.protection.resample import resample, resample_and_apply

sys.path.insert(0, str(ROOT / "examples" / "benchmarks"))
import image_kinds
from common import Noise


@pytest.fixture(scope="module")
def kinds():
    """One dataset with all kinds of images."""
    return image_kinds.dataset()


@pytest.fixture(scope="module")
def fitted(kinds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds") / "protection"
    with (
        pytest.warns(UserWarning, match=r"8 of 23 images cannot be released in the mode.*1 from P to RGBA"),
        pytest.warns(UserWarning, match=r"2 rows hold images that are there with another label too: 17, 18"),
    ):
        return Noise().fit(kinds, output_dir=folder, progress=False)


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_the_table_of_kinds(kinds, fitted, image_format, tmp_path):
    fitted.release(kinds, image_format=image_format).save_to_disk(tmp_path / "out")
    lines = image_kinds.table(kinds, load_from_disk(str(tmp_path / "out")), fitted)
    assert len(lines) == len(image_kinds.KINDS)
    for kind, line in lines.items():
        assert line["size kept"], kind
        assert line["mode"] == image_kinds.RELEASED.get(kind, line["mode of the source"]), kind
        assert line["alpha untouched"] in (True, None), kind
        assert (line["alpha untouched"] is None) == ("A" not in line["mode"]), kind
        assert line["EXIF gone"], kind
        assert 0 < line["largest change"] <= 8, kind
        assert line["name kept"], kind
    figures = fitted.verify(kinds, load_from_disk(str(tmp_path / "out")))
    assert (figures.violations, figures.unchanged, figures.alpha_changed) == (0, 0, 0)
    assert 0.5 < figures.surviving < 1


def test_map_alone_and_release_give_the_same_pixels(kinds, fitted):
    released, mapped = fitted.release(kinds), kinds.map(fitted)
    assert released.features == kinds.features
    for one, other in zip(released, mapped, strict=True):
        assert one["image"].mode == other["image"].mode
        assert np.array_equal(to_array(one["image"]), to_array(other["image"]))


def test_release_of_dictionaries_and_streams(kinds, fitted):
    expected = [to_array(row["image"]) for row in fitted.release(kinds)]
    splits = fitted.release(DatasetDict({"a": kinds, "b": kinds.select([3])}), num_proc=2)
    assert np.array_equal(to_array(splits["b"][0]["image"]), expected[3])
    for row, pixels in zip(fitted.release(kinds.to_iterable_dataset()), expected, strict=True):
        assert np.array_equal(to_array(row["image"]), pixels)


def test_files_and_no_paths_come_out(kinds, fitted):
    released = fitted.release(kinds, image_format="webp").cast_column("image", ImageFeature(decode=False))
    for before, row in zip(kinds.cast_column("image", ImageFeature(decode=False)), released, strict=True):
        assert "/" not in row["image"]["path"]
        assert row["image"]["path"].split(".")[0] == before["image"]["path"].split("/")[-1].split(".")[0]
        webp = row["image"]["bytes"][8:12] == b"WEBP"
        assert row["image"]["path"].endswith(".webp" if webp else ".png")
    assert sum(row["image"]["path"].endswith(".webp") for row in released) >= 8


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "opaque RGBA"])
@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_files_hold_every_byte(mode, image_format):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, len(mode.split()[-1])), dtype=np.uint8)
    pixels[:4, :, -1] = 255 if mode == "opaque RGBA" else 0  # the colour of invisible pixels counts too
    pixels[4:, :, -1] = 255 if mode == "opaque RGBA" else pixels[4:, :, -1]
    array = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    content, ending = encode(to_image(array, icc_profile=b"a profile"), image_format)
    with Image.open(io.BytesIO(content)) as read:
        assert read.mode == mode.split()[-1]
        assert np.array_equal(to_array(read), array)
        assert read.info["icc_profile"] == b"a profile"
    assert ending == (".webp" if image_format == "webp" and mode in ("RGB", "RGBA") else ".png")


def test_only_lossless_formats(fitted):
    with pytest.raises(RecipeError, match=r"'jpeg'; expected png or webp.*JPEG would take away"):
        Protection(fitted.folder, image_format="jpeg")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/ann/cat.jpg", "cat.png"),
        (r"C:\Users\ann\cat.JPG", "cat.png"),
        ("zip://a/cat.jpg::/data/ann/x.zip", "cat.png"),
        ("zip://a/cat.jpg::tar://b/x.zip::/data/ann/y.tar", "cat.png"),
        ("zip://a/Rome :: day 1.jpg::x.zip", "Rome :: day 1.png"),
        ("/home/ann/Rome :: day 1.jpg", "Rome :: day 1.png"),
        (r"/home/ann/back\slash.jpg", r"back\slash.png"),
        ("hf://datasets/ann/cats@main/cat.tar.jpg", "cat.tar.png"),
        ("cat", "cat.png"),
        (None, None),
    ],
)
def test_names_of_files(path, name):
    assert file_name(path, ".png") == name


@pytest.mark.parametrize("mode", ["I", "F", "LAB", "HSV"])
def test_modes_without_a_meaning_in_8_bits_and_what_to_do(mode):
    """What the message says is run: it gives an image that can be used, and the same picture."""
    ramp = np.linspace(0, 40000 if mode in "IF" else 255, 16).reshape(4, 4)
    image = Image.fromarray(ramp.astype({"I": np.int32, "F": np.float32}.get(mode, np.uint8)))
    if mode == "LAB":
        image = ImageCms.profileToProfile(
            image.convert("RGB"), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    image = image.convert("RGB").convert("HSV") if mode == "HSV" else image
    with pytest.raises(DataError, match=rf"mode {mode}; expected L, LA, RGB, RGBA, 1, P") as error:
        to_array(image)
    advice = re.search(r"dataset\.map\(lambda row: (\{.*\})\)", str(error.value))
    given = {"row": {"image": image}, "LOW": 0, "HIGH": 40000, "Image": Image, "ImageCms": ImageCms, "np": np}
    scaled = to_array(eval(advice[1], given)["image"])
    assert np.abs(scaled[0].astype(int) - np.linspace(0, 255, 16).reshape(4, 4)).max() <= 3


def test_16_bits_are_scaled_and_not_clipped():
    wide = np.array([[0, 257, 128, 129], [65535, 65407, 65406, 32896]], dtype=np.uint16)
    assert to_array(Image.fromarray(wide)).tolist() == [[[0, 1, 0, 1], [255, 255, 254, 128]]]


def test_the_colour_of_invisible_pixels_is_changed_too():
    """Who trains on pictures drops alpha, and would see them clean."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 230, (4, 30, 40), dtype=np.uint8)
    pixels[3, :10], pixels[3, 10:] = 0, rng.integers(1, 256, (20, 40))
    released = resample_and_apply(pixels, rng.integers(-8, 9, (3, 8, 8), dtype=np.int8), Budget(8))
    assert np.array_equal(released[3], pixels[3])
    for part in (slice(0, 10), slice(10, 30)):
        assert (released[:3, part] != pixels[:3, part]).mean() > 0.7


@pytest.mark.parametrize("size", [(128, 128), (64, 64), (96, 96), (200, 64), (64, 400), (255, 256)])
def test_a_small_picture_is_changed_as_much_as_a_large_one(size):
    """A wave of four pixels, made at 256, is averaged away where it is shrunk: 0.02 levels at 128."""
    levels = np.sign(wave(((0, 4),), 256, 256))[None].repeat(3, axis=0).astype(np.int8) * 8
    pixels = np.full((3, *size), 128, dtype=np.uint8)
    released = resample_and_apply(pixels, levels, Budget(8)).astype(int)
    assert np.abs(released - 128).mean() > 3.9


def test_what_is_coarse_is_shrunk_and_not_cut():
    rng = np.random.default_rng(0)
    coarse = rng.choice([-8, 8], (3, 8, 8)).astype(np.int8).repeat(16, axis=1).repeat(16, axis=2)
    released = resample_and_apply(np.full((3, 64, 64), 128, dtype=np.uint8), coarse, Budget(8)).astype(int) - 128
    assert np.corrcoef(released.ravel(), coarse[:, ::2, ::2].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("budget", [Budget(8), Budget(5.5), Budget(200), Budget(300, "l2")], ids=str)
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 61, 90), (1, 61, 90), (4, 5, 3), (2, 200, 8)])
def test_the_budget_holds_at_every_size(budget, shape):
    """Bicubic resampling overshoots: without another projection the ball would be left."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    limit = int(min(budget.radius, 127 if budget.norm == "l2" else 255))
    levels = rng.choice([-limit, 0, limit], (3, 8, 8)).astype(budget.dtype)
    if budget.norm == "l2":
        levels = np.clip(levels, -12, 12)
    released = resample_and_apply(pixels, levels, budget)
    colour = len(pixels) - 1 + len(pixels) % 2
    reached = budget.measure(pixels[None, :colour], released[None, :colour])[0]
    assert 0 < reached <= budget.radius
    if budget.norm == "linf":
        assert reached > budget.radius / 2


def test_an_l2_budget_that_cannot_change_a_large_image_says_so():
    with pytest.raises(BudgetError, match=r"l2:10 for an image of 900x800 .* L-inf"):
        resample_and_apply(np.full((1, 800, 900), 128, np.uint8), np.full((1, 8, 8), 2, np.int8), Budget(10, "l2"))


def test_most_of_a_perturbation_survives_the_downscale():
    """What ``resample`` promises, on smooth patterns as fitted ones are."""
    from hf_unlearnable.data.pixels import resize

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 10, 10), dtype=np.uint8)
    levels = np.clip(np.rint((resize(coarse, 28, 28).astype(float) - 128) / 8), -8, 8).astype(np.int8)
    large = np.clip(resample(levels, 150, 200), -8, 8)
    small = resize((128 + large).astype(np.uint8), 28, 28).astype(int) - 128
    assert (small * levels).sum() / np.square(levels.astype(int)).sum() > 0.9


def photographs(count: int, sizes: list[tuple[int, int]], form: str = "JPEG") -> Dataset:
    rng = np.random.default_rng(1)
    rows = []
    for index in range(count):
        width, height = sizes[index % len(sizes)]
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        stream = io.BytesIO()
        small.resize((width, height), Image.Resampling.BICUBIC).save(stream, form)
        rows.append({"image": {"bytes": stream.getvalue(), "path": f"{index}.jpg"}, "label": index // 2 % 2})
    return Dataset.from_list(rows, features=Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])}))


@pytest.mark.parametrize(
    ("sizes", "arguments", "shape"),
    [
        ([(40, 30)], {}, [3, 30, 40]),  # one size that the surrogate takes: as it is
        ([(40, 30), (100, 80)], {}, [3, 80, 80]),
        ([(400, 300)], {}, [3, 128, 128]),
        ([(400, 300)], {"resolution": 24}, [3, 24, 24]),
        ([(12, 6), (12, 40)], {}, [3, 12, 12]),
        ([(12, 6), (6, 13)], {}, [3, 8, 8]),
    ],
)
def test_the_resolution_of_the_optimisation(sizes, arguments, shape):
    data = photographs(8, sizes)
    protection = Noise().fit(data, progress=False, **arguments)
    assert protection.about["image_shape"] == shape
    figures = protection.verify(data, protection.release(data))
    assert (figures.violations, figures.unchanged) == (0, 0)


def test_resolutions_that_make_no_sense():
    with pytest.raises(RecipeError, match="resolution=4; expected 8 to"):
        Noise().fit(photographs(4, [(40, 30)]), resolution=4)


def test_a_survey_reads_headers_only():
    data = photographs(5, [(40, 30), (100, 80)], "PNG")
    columns = image_kinds.COLUMNS
    survey = Survey.of(data, columns)
    assert survey.sizes == {(30, 40): 3, (80, 100): 2}
    assert str(survey) == "40x30 to 100x80"
    assert (survey | survey).sizes[30, 40] == 6
    cut = data.cast_column("image", ImageFeature(decode=False)).to_list()
    cut[0]["image"]["bytes"] = cut[0]["image"]["bytes"][:200]  # a header without a picture
    assert Survey.of(Dataset.from_list(cut, features=data.features), columns).sizes == survey.sizes


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGB", 3), ("P", 3), ("CMYK", 3), ("YCbCr", 3), ("L", 1), ("LA", 1), ("1", 1), ("I;16", 1)]
)
def test_a_column_that_decodes_to_a_mode_has_the_colours_of_that(mode, channels):
    """Whatever its files have: three channels of the palette, or of the inks, are no grey."""
    data = photographs(2, [(40, 30)]).cast_column("image", ImageFeature(mode=mode))
    assert Survey.of(data, image_kinds.COLUMNS).channels == channels


def test_surveys_turn_sizes_as_the_images_are_turned(kinds):
    survey = Survey.of(kinds, image_kinds.COLUMNS)
    sizes = {row["image"].size[::-1] for row in kinds}
    assert set(survey.sizes) == sizes


def test_verification_of_a_large_image_is_the_same_in_strips(monkeypatch):
    from hf_unlearnable.protection import verification

    rng = np.random.default_rng(0)
    original = rng.integers(0, 248, (3, 200, 90), dtype=np.uint8)
    pair = (original, original + rng.integers(0, 8, original.shape, dtype=np.uint8))
    whole = verification.compare([pair], Budget(8))
    monkeypatch.setattr(verification, "STRIP", 3000)
    assert verification.compare([pair], Budget(8)).as_dict() == pytest.approx(whole.as_dict())


def test_verify_sees_a_changed_alpha_channel(kinds, fitted):
    def fade(row):
        image = row["image"]
        if image.mode == "RGBA":
            image = image.copy()
            image.putalpha(255)
        return {"image": image}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faded = fitted.release(kinds).map(fade)
    assert fitted.verify(kinds, faded).alpha_changed > 0
