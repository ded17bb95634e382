"""Between single images and 8-bit arrays: modes, orientation, resampling, digests, files.

Arrays are channels first, (C, H, W), because that is what networks take; Pillow's are channels last. One channel is
greyscale (L), two greyscale and alpha (LA), three RGB, four RGBA. The part before alpha is called *colour*.
"""

from __future__ import annotations

import hashlib
import io
import ntpath
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from hf_unlearnable.budget import WHITE
from hf_unlearnable.data.profiles import Treatment, treatment
from hf_unlearnable.errors import DataError, RecipeError, worded

DIGEST_BYTES = 16

MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}  # what is released, and its channels

CONVERSIONS = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}

SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

SCALE = (
    "Its values have no fixed range, and convert('RGB') would cut off all that is above 255. Scale them yourself, all "
    "images alike, with the smallest and the largest value LOW and HIGH of the whole dataset: dataset.map(lambda row: "
    "{'image': Image.fromarray(np.uint8(np.clip((np.asarray(row['image']) - LOW) / (HIGH - LOW), 0, 1) * 255))})"
)

PLAIN_FIX = "Convert it first: dataset.map(lambda row: {'image': row['image'].convert('RGB')})"

FIXES = {  # for modes that convert("RGB") does not serve
    **dict.fromkeys(("I", "F"), SCALE),
    "LAB": "Convert it first: dataset.map(lambda row: {'image': ImageCms.profileToProfile(row['image'], "
    "ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB'), outputMode='RGB')}), with ImageCms of PIL",
}

IMAGE_FORMATS = {"png": ".png", "webp": ".webp"}  # lossless both, as they are written here

MAX_WEBP_SIDE = 16383

METADATA = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "photoshop"}  # in what Pillow reads of a file

TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def released_mode(image: Image.Image) -> str:
    """The mode in which an image is released: its own where 8-bit perturbations make sense in it.

    L, LA, RGB and RGBA stay. The others cannot carry a perturbation of a few levels without breaking something, and
    become the mode that shows the same picture:

    * 1 (black and white) has no levels between: L.
    * P has no more than 256 colours, too few for a perturbed picture: RGB.
    * I;16 would keep the bits, but most loaders turn it to 8 bits in ways of their own, and budgets, surrogates and
      victims know 8 bits only: L, linearly (65535 is 255).
    * CMYK and YCbCr have no PNG, and budgets are about what is seen: 8 levels of both cyan and black are 16 of red.
      RGB, by the profile of their inks, or by the plain formula where there is none.

    A transparent colour (P, or L and RGB with a colour key) becomes an alpha channel. ``profiles`` says what becomes of
    colour profiles.

    Raises:
        DataError: a mode without a picture of one defined range, such as I or F (32 bits) or LAB.
    """
    base = CONVERSIONS.get(image.mode, "L" if image.mode in SIXTEEN_BIT else image.mode)
    keyed = "transparency" in image.info and image.mode not in SIXTEEN_BIT
    mode = base + "A" if base in ("L", "RGB") and (keyed or image.mode == "PA") else base
    if mode not in MODES:
        raise DataError(
            f"got an image of mode {image.mode}; expected {', '.join([*MODES, *CONVERSIONS, SIXTEEN_BIT[0]])}. "
            + worded(
                python=FIXES.get(image.mode, PLAIN_FIX),
                shell="Scale it to 8 bits first, or leave it out"
                if image.mode in ("I", "F")
                else "Convert it first, or leave it out",
            )
        )
    return mode


def deep_mode(stored: Mapping[str, Any]) -> str | None:
    """The mode of a file with 16 bits in each of several channels, such as ``"RGB;16"``, which Pillow reads as 8.

    Args:
        stored: the ``bytes`` or the ``path`` of a file that can be read.
    """
    source = io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"]
    try:
        with Image.open(source) as image:
            if image.mode not in MODES:
                return None
            raw = [tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in getattr(image, "tile", [])]
            return next((str(name).partition(";16")[0] + ";16" for name in raw if ";16" in str(name)), None)
    except OSError:  # an address, which datasets has read
        return None


def conversion(image: Image.Image, deep: str | None = None) -> str | None:
    """What releasing an image changes beside its pixels' levels, in words such as ``"P to RGB"``; None if nothing.

    Args:
        image: as it was read.
        deep: the mode of its file where that has more bits, see ``deep_mode``.
    """
    mode = released_mode(image)
    changes = [] if mode == (deep or image.mode) else [f"{deep or image.mode} to {mode}"]
    changes += [told] if (told := _treatment(image).told) else []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a photograph with its depth map
        changes.append("animation to its first frame")
    return ", ".join(changes) or None


def to_array(image: Any) -> NDArray[np.uint8]:
    """Decode one image into (C, H, W) uint8 of the mode that ``released_mode`` gives.

    EXIF orientation is applied first, and a colour profile that is not released, so that what is protected is what
    people see.

    Args:
        image: a Pillow image; or a uint8 array (H, W) or (H, W, 1 to 4), or a PyTorch tensor (1 to 4, H, W), of a
            mode that is released as it is.

    Raises:
        DataError: anything else.
    """
    if isinstance(image, Image.Image):
        mode = released_mode(image)
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        convert = _treatment(image).convert
        if image.mode in SIXTEEN_BIT:
            image = Image.fromarray(_reduced(image))
        elif image.mode != mode and not (convert and image.mode == "CMYK"):
            image = image.convert(mode)
        array = np.asarray(image if convert is None else _with_colours(image, convert))
    elif isinstance(image, np.ndarray):
        array = image
    elif type(image).__module__ == "torch" and image.ndim == 3:
        array = image.permute(1, 2, 0).cpu().numpy()
    else:
        raise DataError(
            f"got an image as {type(image).__module__}.{type(image).__name__}; expected a Pillow image or a uint8 "
            f"array. Use dataset.with_format(None)"
        )
    array = array[:, :, None] if array.ndim == 2 else array
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and array.size and 0 <= array.min() <= array.max() <= WHITE:
        array = array.astype(np.uint8)  # a stream with_format("numpy") makes int64 of 8 bits
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in MODES.values():
        raise DataError(f"got an array of {array.dtype} {array.shape}; expected uint8 (H, W) or (H, W, 1 to 4)")
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _reduced(image: Image.Image) -> NDArray[np.uint8]:
    """An image of 16 bits as (H, W) of 8."""
    wide = np.asarray(image).astype(np.uint32)
    return ((wide * WHITE + 32767) // 65535).astype(np.uint8)


def _with_colours(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An image with its colours converted and its alpha channel as it is."""
    if image.mode not in ("LA", "RGBA"):
        return convert(image)
    colours = convert(image.convert(image.mode.removesuffix("A")))
    colours.putalpha(image.getchannel("A"))
    return colours


def to_image(array: NDArray[np.uint8], icc_profile: bytes | None = None) -> Image.Image:
    """The inverse of ``to_array``: (C, H, W) uint8 -> a Pillow image without any metadata but a colour profile.

    ``datasets`` stores an image that has no source format as PNG, so that no byte of a perturbation is lost.
    """
    image = Image.fromarray(np.ascontiguousarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)))
    if icc_profile:
        image.info["icc_profile"] = icc_profile
    return image


def on_white(image: Image.Image) -> Image.Image:
    """An image of a released mode without alpha: what can be seen through lies on white paper."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert(image.mode.removesuffix("A"))


def colour_profile(image: Any) -> bytes | None:
    """The ICC profile that describes an image once it is released; without it a photograph's colours shift."""
    return _treatment(image).profile if isinstance(image, Image.Image) else None


def _treatment(image: Image.Image) -> Treatment:
    mode = "CMYK" if image.mode == "CMYK" else released_mode(image).removesuffix("A")
    return treatment(image.info.get("icc_profile"), mode)


def split_alpha(array: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The colour (1 or 3, H, W) and the alpha channel (H, W), which is None for an image without one."""
    return (array, None) if len(array) % 2 else (array[:-1], array[-1])


def match_channels(colour: NDArray[Any], channels: int) -> NDArray[Any]:
    """Bring (C, H, W) values to 1 or 3 channels: grey is repeated, three channels are averaged."""
    if len(colour) == channels:
        return colour
    if channels == 1:
        return np.rint(colour.mean(axis=0, keepdims=True)).astype(colour.dtype)
    return np.repeat(colour, channels, axis=0)


def resize(
    colour: NDArray[np.uint8], height: int, width: int, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """Resample (C, H, W) uint8 with Pillow, as image processors do (antialiased when it shrinks)."""
    if colour.shape[1:] == (height, width):
        return colour
    return np.stack([np.asarray(Image.fromarray(plane).resize((width, height), resample)) for plane in colour])


def digest(array: NDArray[np.uint8], label: int | None = None) -> bytes:
    """16 bytes that tell the pixels (alpha too), their shape and the label: a perturbation is looked up by them.

    Without a label it tells the pixels alone.
    """
    told = (array.shape, None if label is None else int(label))
    hashed = hashlib.blake2b(repr(told).encode(), digest_size=DIGEST_BYTES)
    hashed.update(np.ascontiguousarray(array).data)
    return hashed.digest()


def encode(image: Image.Image, image_format: str) -> tuple[bytes, str]:
    """Write what ``to_image`` made as a file without loss.

    WebP would turn some images into another mode (greyscale, and RGBA where nothing is transparent), and holds at most
    16,383 pixels a side: those become PNG.

    Args:
        image: of mode L, LA, RGB or RGBA.
        image_format: ``"png"`` or ``"webp"``.

    Returns:
        The file's bytes and the ending of its name.

    Raises:
        RecipeError: another format.
    """
    check_format(image_format)
    stream = io.BytesIO()
    transparent = image.mode == "RGBA" and image.getchannel("A").getextrema() != (WHITE, WHITE)
    if image_format == "webp" and max(image.size) <= MAX_WEBP_SIDE and (image.mode == "RGB" or transparent):
        # exact: else the colour of invisible pixels is lost.
        image.save(stream, "WEBP", lossless=True, exact=True, icc_profile=image.info.get("icc_profile"))
        return stream.getvalue(), IMAGE_FORMATS["webp"]
    # Half the time of zlib's level 6, and no larger for photographs: a perturbation leaves long matches little to find.
    image.save(stream, "PNG", compress_level=4)
    return stream.getvalue(), IMAGE_FORMATS["png"]


def check_format(image_format: str) -> None:
    """Refuse a file format that would lose a part of the perturbation.

    Raises:
        RecipeError: neither PNG nor WebP.
    """
    if image_format not in IMAGE_FORMATS:
        raise RecipeError(
            f"got the image format {image_format!r}; expected {' or '.join(IMAGE_FORMATS)}, which are written without "
            f"loss. JPEG would take away a part of the perturbation, and with it of the protection"
        )


def file_name(path: str | None, ending: str) -> str | None:
    """The name that a file keeps when it is released: no folder, no address, the right ending.

    Args:
        path: of the source: a file, an address, a member of an archive (``zip://a/b.jpg::x.zip``), or None.
        ending: such as ``".png"``.
    """
    own = plain_path(path or "")
    # Only a path of Windows has backslashes between its folders; here a file may be called so.
    name = posixpath.basename(own) if own.startswith("/") else ntpath.basename(own)
    stem = posixpath.splitext(name)[0]
    return stem + ending if stem else None


# An address, whose path ends where that of an archive around it begins.
ADDRESS = re.compile(r"\w+://(.*?)(::\w+://.*|::((?!::).)*)?", re.DOTALL)


def plain_path(path: str) -> str:
    """The path in an address, ``a/b.jpg`` of ``zip://a/b.jpg::x.zip``; any other one as it is, ``a :: b.jpg`` too."""
    found = ADDRESS.fullmatch(path)
    return found[1] if found else path
