"""A search through every byte that reached the loopback Hub for what must stay at home."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from helpers.loopback_hub import Request
from hf_unlearnable.data.pixels import digest, to_array
from hf_unlearnable.reports.images import TILE

WINDOW, WINDOWS = 32, 400  # bytes of a stretch of a private file that is searched for, and how many of each file
PLAIN = 12  # a stretch with fewer different bytes than this says nothing


@dataclass
class Secrets:
    """What to look for: byte strings by what they are, and clean images by their pixels."""

    strings: dict[str, list[bytes]] = field(default_factory=dict)
    pixels: set[bytes] = field(default_factory=set)
    tiles: set[bytes] = field(default_factory=set)

    def add(self, what: str, value: bytes | str) -> None:
        value = value.encode() if isinstance(value, str) else value
        self.strings.setdefault(what, []).append(value)

    def add_images(self, dataset, label: str = "label") -> None:
        """Clean images: their pixels as they are, as a picture of them, as PNG, and every digest of them."""
        for row in dataset:
            image = row["image"]
            array = to_array(image)
            self.pixels.add(array.tobytes())
            self.tiles.add(_tile(image))
            plain = io.BytesIO()
            image.save(plain, "PNG")
            raw = [array.tobytes(), np.asarray(image).tobytes(), plain.getvalue()]
            for value in raw:
                self.add("clean pixels", value)
                for hashed in (hashlib.sha256(value), hashlib.md5(value), hashlib.sha1(value)):
                    self.add("digest of a clean image", hashed.hexdigest())
                    self.add("digest of a clean image", hashed.digest())
            self.add("digest of a clean image", digest(array, row[label]))
            self.add("digest of a clean image", digest(array, row[label]).hex())

    def add_file(self, what: str, file: Path) -> None:
        """Stretches from all over a private file."""
        content = file.read_bytes()
        step = max(1, (len(content) - WINDOW) // WINDOWS)
        for start in range(0, max(1, len(content) - WINDOW + 1), step):
            stretch = content[start : start + WINDOW]
            if len(set(stretch)) >= PLAIN:
                self.add(what, stretch)

    def found_in(self, requests: Iterable[Request]) -> set[str]:
        """The kinds of secrets that were sent."""
        found: set[str] = set()
        for request in requests:
            for content in _contents(request):
                found |= {
                    what
                    for what, values in self.strings.items()
                    if any(form in content for value in values for form in _forms(value))
                }
            for image in _images(request):
                pixels = to_array(image) if image.mode in ("L", "RGB") else None
                if pixels is not None and pixels.tobytes() in self.pixels:
                    found.add("clean pixels")
                if image.width % TILE == image.height % TILE == 0 and any(tile in self.tiles for tile in _tiles(image)):
                    found.add("picture of clean pixels")
                if image.getexif() or "exif" in image.info:
                    found.add("EXIF")
        return found


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    if len(value) <= 64:  # the three ways in which it can lie in base64
        for shift in range(3):
            coded = base64.b64encode(b"\0" * shift + value)
            yield coded[4 * bool(shift) : -4] if len(value) > 8 else coded


def _contents(request: Request) -> Iterator[bytes]:
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    yield f"{request.method} {request.target} {headers}".encode()
    yield request.body
    yield from _files(request)


def _files(request: Request) -> Iterator[bytes]:
    """The files inside a request, decoded: base64 in JSON, pages of parquet."""
    if request.body.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(request.body))
        yield str(table.schema.metadata).encode()
        yield json.dumps(table.to_pylist(), default=lambda value: base64.b64encode(value).decode()).encode()
        yield from (row["image"]["bytes"] for row in table.to_pylist() if row.get("image"))
    for line in request.body.splitlines() if request.body.startswith(b"{") else ():
        try:
            yield from (base64.b64decode(text) for text in _coded(json.loads(line)))
        except ValueError:
            continue


def _coded(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("content", "sample") and isinstance(inner, str):
                yield inner
            yield from _coded(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _coded(inner)


def _images(request: Request) -> Iterator[Image.Image]:
    for content in (request.body, *_files(request)):
        if content[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"RIFF"):
            try:
                image = Image.open(io.BytesIO(content))
                image.load()
            except OSError:
                continue  # the first 512 bytes of a picture, searched as bytes above
            yield image


def _tile(image: Image.Image) -> bytes:
    """What a preview would show of an image: enlarged to fill a tile."""
    scale = TILE / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    shown = image.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (TILE, TILE), "white")
    tile.paste(shown, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile.tobytes()


def _tiles(sheet: Image.Image) -> Iterator[bytes]:
    for top in range(0, sheet.height, TILE):
        for left in range(0, sheet.width, TILE):
            yield sheet.convert("RGB").crop((left, top, left + TILE, top + TILE)).tobytes()
