"""Colour profiles: no word of the original travels, and what people see stays the same."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image, ImageCms

from hf_unlearnable import EM, DataWarning, PrivacyError
from hf_unlearnable.data.pixels import colour_profile, to_array
from hf_unlearnable.data.profiles import SPACES, SRGB, Space, is_own, recognise, treatment
from hf_unlearnable.protection.privacy import check_dataset

OWNER = "Ann Example's screen"
KNOWN = {space.name: space for space in SPACES}
OTHER = Space(OWNER, ((0.5, 0.3, 0.05), (0.35, 0.65, 0.1), (0.1142, 0.05, 0.6749)), 1.9)
GREY = Space(OWNER, None, 2.6)


def owned(space: Space) -> bytes:
    """The profile of a space as somebody's device writes it: with a name, a date, a maker, and more after its end."""
    profile = bytearray(Space(OWNER, space.primaries, space.curve).profile)
    profile[24:36] = struct.pack(">6H", 2025, 11, 3, 14, 15, 9)
    profile[48:52] = b"ANN1"
    return bytes(profile) + b"the original picture"


def photographs(mode: str, profile: bytes, count: int = 6) -> Dataset:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count):
        channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        pixels = rng.integers(0, 256, (12, 12, channels), dtype=np.uint8)
        stream = io.BytesIO()
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, mode)
        image.save(stream, "TIFF" if mode == "CMYK" else "PNG", icc_profile=profile)
        rows.append({"image": {"bytes": stream.getvalue(), "path": f"{index}.png"}, "label": index % 2})
    return Dataset.from_list(rows, features=Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])}))


@pytest.mark.parametrize("name", list(KNOWN))
def test_a_well_known_profile_is_written_anew(name):
    space = KNOWN[name]
    assert recognise(owned(space)) is space
    kept = treatment(owned(space), "L" if space.primaries is None else "RGB")
    assert kept.profile == space.profile
    assert (kept.convert, kept.told) == (None, "")
    assert len(kept.profile) < 500
    for word in (OWNER, "ANN1", "the original picture"):
        assert word.encode() not in kept.profile
        assert word.encode("utf-16-be") not in kept.profile
    opened = ImageCms.ImageCmsProfile(io.BytesIO(kept.profile))  # Pillow's colour management reads it
    assert ImageCms.getProfileDescription(opened).strip() == name
    assert struct.unpack(">I", kept.profile[:4])[0] == len(kept.profile)


def test_colours_are_those_of_other_software():
    """sRGB as Little CMS defines it, recognised, and equal to ours on every colour."""
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    assert recognise(theirs.tobytes()) is KNOWN["sRGB"]
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    ours = ImageCms.ImageCmsProfile(io.BytesIO(KNOWN["sRGB"].profile))
    through = np.asarray(ImageCms.profileToProfile(colours, ours, theirs)).astype(int)
    assert np.abs(through - np.asarray(colours)).max() <= 1


@pytest.mark.parametrize(
    "space", [OTHER, GREY, Space("gamma 2.2 with the primaries of sRGB", SRGB, 2.2)], ids=["RGB", "grey", "near sRGB"]
)
def test_another_profile_is_applied_with_a_notice(space):
    grey = space.primaries is None
    data = photographs("L" if grey else "RGB", owned(space))
    with pytest.warns(DataWarning, match="6 from a colour profile of its own to sRGB"):
        protection = EM(epochs=2, batch_size=4).fit(data, progress=False)
    released = protection.release(data)
    assert protection.verify(data, released).violations == 0
    source = ImageCms.ImageCmsProfile(io.BytesIO(owned(space)))
    for before, after in zip(data, released, strict=True):
        assert "icc_profile" not in after["image"].info
        assert after["image"].mode == before["image"].mode
        seen = ImageCms.profileToProfile(before["image"], source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        seen = np.asarray(seen)[:, :, 1] if grey else np.asarray(seen)
        assert np.abs(np.asarray(after["image"]).astype(int) - seen).max() <= 8  # the picture in the budget
    assert (
        np.abs(np.asarray(data[0]["image"]).astype(int) - to_array(data[0]["image"]).transpose(1, 2, 0).squeeze()).max()
        > 8
    )


def inks() -> bytes:
    """A profile of inks: a table of the corners of CMYK, as colours in Lab."""
    white = ImageCms.createProfile("sRGB")
    corners = [
        [255 * (1 - min(1, 0.9 * ink + black)) for ink in (cyan, magenta, yellow)]
        for cyan in (0, 1)
        for magenta in (0, 1)
        for yellow in (0, 1)
        for black in (0, 1)
    ]
    shown = Image.fromarray(np.uint8(np.rint(corners))[None])
    lab = ImageCms.profileToProfile(shown, white, ImageCms.createProfile("LAB"), outputMode="LAB")
    table = bytearray(lab.tobytes())
    for place in range(len(table)):
        table[place] = table[place] if place % 3 == 0 else (table[place] + 128) % 256  # Pillow's are signed
    even = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (place % 4 == 0) for place in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * even + bytes(table) + 3 * even
    tags = {b"desc": b"mluc" + bytes(4) + struct.pack(">II", 0, 12), b"A2B0": lut}
    start, entries, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        entries += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2025, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def test_inks_are_shown_by_their_profile():
    data, plain = (photographs("CMYK", given) for given in (inks(), b""))
    with pytest.warns(DataWarning, match="6 from CMYK to RGB, a colour profile of its own to sRGB"):
        protection = EM(epochs=2, batch_size=4).fit(data, progress=False)
    released = protection.release(data)
    source = ImageCms.ImageCmsProfile(io.BytesIO(inks()))
    for before, after in zip(data, released, strict=True):
        seen = ImageCms.profileToProfile(before["image"], source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert np.abs(np.asarray(after["image"]).astype(int) - np.asarray(seen)).max() <= 8
        assert after["image"].mode == "RGB"
    assert np.abs(to_array(data[0]["image"]).astype(int) - to_array(plain[0]["image"])).max() > 8


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_stays_where_colours_are_converted(mode):
    image = photographs(mode, owned(GREY if mode == "LA" else OTHER))[0]["image"]
    pixels = to_array(image)
    assert np.array_equal(pixels[-1], np.asarray(image)[:, :, -1])
    assert not np.array_equal(pixels[0], np.asarray(image)[:, :, 0])


@pytest.mark.parametrize(
    ("mode", "profile"),
    [("L", owned(OTHER)), ("RGB", owned(GREY)), ("CMYK", owned(OTHER)), ("L", owned(KNOWN["sRGB"]))],
)
def test_a_profile_of_another_kind_of_pixels_says_nothing(mode, profile):
    image, plain = (photographs(mode, given)[0]["image"] for given in (profile, b""))
    assert colour_profile(image) is None
    assert np.array_equal(to_array(image), to_array(plain))


@pytest.mark.parametrize("broken", [b"x", owned(OTHER)[:200], b"\xff" * 300, owned(OTHER)[:128] + b"\xff" * 200])
def test_a_broken_profile_is_left_out_with_a_notice(broken):
    data = photographs("RGB", broken)
    with pytest.warns(DataWarning, match="6 from an unreadable colour profile to none"):
        protection = EM(epochs=2, batch_size=4).fit(data, progress=False)
    assert "icc_profile" not in protection.release(data)[0]["image"].info


def test_a_foreign_profile_is_not_published():
    own = photographs("RGB", KNOWN["Display P3"].profile)
    check_dataset(own, "image", [])
    assert is_own(own[0]["image"].info["icc_profile"])
    with pytest.raises(PrivacyError, match="row 0: got an image with a colour profile of its own"):
        check_dataset(photographs("RGB", owned(KNOWN["Display P3"])), "image", [])
