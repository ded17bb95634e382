"""Colour profiles (ICC.1:2022): which may travel with a released image, and what becomes of the others.

A profile is a file inside the image. It can name its owner, their screen and a date, and hold anything after its end.
So none is copied. A profile of a well-known colour space is recognised by its colour data and written anew, without
words of the original; the colours of an image with any other one are converted to sRGB.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Matrix = tuple[tuple[float, float, float], ...]
Table = dict[bytes, tuple[int, int]]

HEADER, ENTRY = 128, 12
D50 = (0.9642, 1.0, 0.8249)  # the white of every profile's colours
NO_DATE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # the same in every profile: readers refuse a date of zeros
MAX_TAGS = 100
TOLERANCE = 0.004  # of a primary in XYZ; two well-known spaces are 0.1 apart
CURVE_TOLERANCE = 0.005  # of linear light; a gamma of 2.2 and the curve of sRGB are 0.009 apart
STEPS: NDArray[np.float64] = np.linspace(0, 1, 65)

# Red, green and blue as XYZ, adapted to D50 by Bradford's matrix.
SRGB: Matrix = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3: Matrix = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB: Matrix = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO: Matrix = ((0.79767, 0.28804, 0.00000), (0.13519, 0.71188, 0.00000), (0.03134, 0.00009, 0.82491))

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # g, a, b, c, d of a parametric curve of type 3


@dataclass(frozen=True)
class Space:
    """A well-known colour space.

    Attributes:
        name: what its profile is called when it is written anew.
        primaries: XYZ of red, green and blue; None for a space of greys.
        curve: a gamma, or the parameters of ``SRGB_CURVE``.
    """

    name: str
    primaries: Matrix | None
    curve: float | tuple[float, ...]

    @property
    def light(self) -> NDArray[np.float64]:
        """Linear light at ``STEPS``."""
        if isinstance(self.curve, float):
            return STEPS**self.curve
        gamma, slope, offset, linear, limit = self.curve
        return np.where(limit <= STEPS, (slope * STEPS + offset) ** gamma, linear * STEPS)

    @cached_property
    def profile(self) -> bytes:
        """A profile of this space: a version 4 display profile without a device, an owner or a date of its own."""
        curve = (
            _tag(b"curv", struct.pack(">IH", 1, round(self.curve * 256)))
            if isinstance(self.curve, float)
            else _tag(b"para", struct.pack(">HH", 3, 0) + _fixed(*self.curve))
        )
        tags = {b"desc": _text(self.name), b"cprt": _text("No copyright"), b"wtpt": _tag(b"XYZ ", _fixed(*D50))}
        if self.primaries is None:
            tags[b"kTRC"] = curve
        else:
            for letter, primary in zip("rgb", self.primaries, strict=True):
                tags[f"{letter}XYZ".encode()] = _tag(b"XYZ ", _fixed(*primary))
                tags[f"{letter}TRC".encode()] = curve
        start = HEADER + 4 + ENTRY * len(tags)
        entries, places = b"", {}  # equal tags lie in the file once
        body = b""
        for name, content in tags.items():
            if content not in places:
                places[content] = start + len(body)
                body += content + bytes(-len(content) % 4)
            entries += name + struct.pack(">II", places[content], len(content))
        header = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04300000, b"mntr", self._kind, b"XYZ ")
        header += NO_DATE + b"acsp" + bytes(28) + _fixed(*D50)
        return header.ljust(HEADER, b"\0") + struct.pack(">I", len(tags)) + entries + body

    @property
    def _kind(self) -> bytes:
        return b"GRAY" if self.primaries is None else b"RGB "


SPACES = (
    Space("sRGB", SRGB, SRGB_CURVE),
    Space("Display P3", DISPLAY_P3, SRGB_CURVE),
    Space("Adobe RGB compatible", ADOBE_RGB, 563 / 256),
    Space("ProPhoto RGB", PROPHOTO, 1.8),
    Space("Grey, curve of sRGB", None, SRGB_CURVE),
    Space("Grey, gamma 2.2", None, 563 / 256),
    Space("Grey, gamma 1.8", None, 1.8),
    Space("Grey, linear", None, 1.0),
)


@dataclass(frozen=True)
class Treatment:
    """What becomes of a profile and of the pixels that it describes.

    Attributes:
        profile: goes with the released image; None for none, which viewers take as sRGB.
        convert: brings a picture of mode L, RGB or CMYK to sRGB, in mode L or RGB; None where pixels stay.
        told: this conversion in words, or why the profile is left out; empty where there is nothing to say.
    """

    profile: bytes | None = None
    convert: Callable[[Image.Image], Image.Image] | None = None
    told: str = ""


@lru_cache(maxsize=64)  # of one set all images tend to have the same profile
def treatment(profile: bytes | None, mode: str) -> Treatment:
    """What to do with the profile of an image.

    Args:
        profile: as the file holds it.
        mode: of the pixels that it should describe: L, RGB or CMYK. A profile of another kind describes something else,
            such as a picture before it was turned to greys, and is left out, as viewers do.
    """
    if not profile:
        return Treatment()
    kind = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}[mode]
    if len(profile) >= HEADER and profile[16:20] in (b"GRAY", b"RGB ", b"CMYK") and profile[16:20] != kind:
        return Treatment()
    space = recognise(profile)
    if space is not None:
        return Treatment(space.profile)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return Treatment(told="an unreadable colour profile to none")

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # not in place
        return converted.getchannel("G") if mode == "L" else converted

    return Treatment(convert=convert, told="a colour profile of its own to sRGB")


def recognise(profile: bytes) -> Space | None:
    """The well-known space that a profile describes, by its primaries and curves and not by its words."""
    try:
        tags = _tags(profile)
        if any(name[:3] in (b"A2B", b"D2B") for name in tags):
            return None  # a table of colours, which counts before primaries and curves
        grey = profile[16:20] == b"GRAY"
        primaries = None if grey else np.array([_xyz(profile, tags[f"{letter}XYZ".encode()]) for letter in "rgb"])
        names = [b"kTRC"] if grey else [f"{letter}TRC".encode() for letter in "rgb"]
        curves = np.array([_curve(profile, tags[name]) for name in names])
    except (KeyError, ValueError, struct.error, FloatingPointError):
        return None
    for space in SPACES:
        if (space.primaries is None) != (primaries is None):
            continue
        if primaries is not None and np.abs(primaries - np.array(space.primaries)).max() > TOLERANCE:
            continue
        if np.abs(curves - space.light).max() <= CURVE_TOLERANCE:
            return space
    return None


def is_own(profile: bytes) -> bool:
    """Whether a profile is one that was written here."""
    return any(profile == space.profile for space in SPACES)


def _tags(profile: bytes) -> Table:
    """Name -> (offset, length) of the tags inside of the size that the profile declares."""
    size = struct.unpack_from(">I", profile, 0)[0]
    if profile[36:40] != b"acsp" or profile[20:24] != b"XYZ " or not HEADER < size <= len(profile):
        raise ValueError("no profile of primaries")
    count = struct.unpack_from(">I", profile, HEADER)[0]
    if count > MAX_TAGS:
        raise ValueError("too many tags")
    tags: Table = {}
    for index in range(count):
        name, offset, length = struct.unpack_from(">4sII", profile, HEADER + 4 + ENTRY * index)
        if offset + length > size:
            raise ValueError("a tag beyond the end")
        tags[name] = offset, length
    return tags


def _xyz(profile: bytes, place: tuple[int, int]) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", profile, place[0] + 8))


def _curve(profile: bytes, place: tuple[int, int]) -> NDArray[np.float64]:
    """Linear light at ``STEPS``."""
    offset, kind = place[0], profile[place[0] : place[0] + 4]
    if kind == b"curv":
        count = struct.unpack_from(">I", profile, offset + 8)[0]
        if 12 + 2 * count > place[1]:
            raise ValueError("a curve beyond its end")
        values = np.frombuffer(profile, ">u2", count, offset + 12)
        if count == 0:
            return STEPS
        if count == 1:
            return np.asarray(STEPS ** (values[0] / 256))
        return np.interp(STEPS, np.linspace(0, 1, count), values / 65535)
    if kind != b"para":
        raise ValueError("no curve")
    form = struct.unpack_from(">H", profile, offset + 8)[0]
    count = (1, 3, 4, 5, 7)[form] if form < 5 else 0
    if not count:
        raise ValueError("no such curve")
    given = [value / 65536 for value in struct.unpack_from(f">{count}i", profile, offset + 12)]
    g, a, b, c, d, e, f = given + [0.0] * (7 - count)
    with np.errstate(all="raise"):
        if form == 0:
            return np.asarray(STEPS**g)
        power = np.maximum(a * STEPS + b, 0) ** g
        if form == 1:
            return np.where(a * STEPS + b >= 0, power, 0)
        if form == 2:
            return np.where(a * STEPS + b >= 0, power + c, c)
        return np.where(d <= STEPS, power + e, c * STEPS + f)


def _tag(kind: bytes, content: bytes) -> bytes:
    return kind + bytes(4) + content


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _text(words: str) -> bytes:
    """A multiLocalizedUnicode of one record."""
    encoded = words.encode("utf-16-be")
    return _tag(b"mluc", struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded)
