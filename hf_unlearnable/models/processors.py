"""What the image processor of a model says of size and normalisation, read from its folder or repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from hf_unlearnable.data.patience import HTTPError, only_here
from hf_unlearnable.errors import SourceError, first_line, worded

SHARED, OWN = "processor_config.json", "preprocessor_config.json"  # beside a tokenizer's, which comes first, and alone


def processor_of(source: str) -> dict[str, Any]:
    """The settings of a model's image processor; none where it is known to have no processor.

    Args:
        source: folder or Hub id.

    Raises:
        SourceError: it may have one, which could not be read. Without it pixels would come in another size, and
            centred otherwise, than the model was trained on, and nobody would know.
    """
    here = only_here(source)
    try:
        return _object(SHARED, _read(source, SHARED, here).get("image_processor")) or _read(source, OWN, here)
    except (OSError, ValueError, HTTPError) as error:
        raise SourceError(
            f"got the model {source!r}, whose image processor could not be read ({first_line(error)}); expected its "
            f"{OWN}, or a folder or repository without one: it says which size and normalisation the model was trained "
            f"with. {_what_to_do(source)}"
        ) from error


def normalisation_of(processor: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What a processor does to pixels in [0, 1]: it subtracts the first and divides by the second.

    Its own figures are of pixels as its rescaling leaves them, from values of 0 to 255. One that does not rescale is
    for pixels that are in [0, 1] already, unless its figures are too large for that.

    Args:
        processor: as ``processor_of`` gives it; 0.5 stands for what it does not say.

    Returns:
        Mean and standard deviation, one number a channel or one for all.
    """
    mean, std = (as_numbers(processor.get(name), (0.5,)) for name in ("image_mean", "image_std"))
    if processor.get("do_normalize") is False:
        mean, std = (0.0,), (1.0,)
    if processor.get("do_rescale") is False:
        scale = 255.0 if max(mean) > 1 else 1.0
    else:
        scale = 255 * (processor.get("rescale_factor") or 1 / 255)
        if processor.get("rescale_offset"):  # EfficientNet's: 1 is subtracted after rescaling
            mean = tuple(one + 1 for one in mean)
    return tuple(one / scale for one in mean), tuple(one / scale for one in std)


def as_numbers(value: Any, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    """A number, or one a channel, as a file has them; ``otherwise`` where it has none."""
    if value is None:
        return otherwise
    return tuple(float(one) for one in value) if isinstance(value, (list, tuple)) else (float(value),)


def _read(source: str, file: str, here: bool) -> dict[str, Any]:
    """What a file of a model holds; empty where it is known not to have the file."""
    place = _find(source, file, here)
    return {} if place is None else _object(file, json.loads(place.read_text(encoding="utf-8")))


def _object(file: str, settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict | None):
        raise ValueError(f"{file} holds a {type(settings).__name__} in the place of settings")
    return settings or {}


def _find(source: str, file: str, here: bool) -> Path | None:
    """Where a file of a model is on this machine; None only where the folder has none, or the Hub says or said so."""
    if Path(source).is_dir():
        place = Path(source) / file
        return place if place.exists() else None
    try:
        return Path(hf_hub_download(source, file, local_files_only=here))
    except LocalEntryNotFoundError:  # also an EntryNotFoundError: nothing is known but that it is not in the cache
        if try_to_load_from_cache(source, file) is _CACHED_NO_EXIST:
            return None
        raise
    except EntryNotFoundError:
        return None


def _what_to_do(source: str) -> str:
    given = worded(
        python=", or say what it expects: Surrogate(…, image_mean=…, image_std=…), and resolution=… of the fit",
        shell="",
    )
    if Path(source).is_dir():
        return f"Mend the file{given}"
    return f"Begin where the Hub answers, which is remembered, or give the folder of the model{given}"
