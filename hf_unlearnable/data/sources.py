"""Opening whatever the command line was given as a dataset, and the first rows of a stream."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, Features, IterableDataset, load_dataset, load_from_disk
from datasets import Image as ImageFeature
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from PIL import Image

from hf_unlearnable.errors import DataError, SourceError, first_line

ANSWER = 10.0  # seconds to wait for the Hub's word on whether it has a dataset


def load_source(source: str, split: str | None = "train", config: str | None = None) -> Dataset:
    """Open one split of a dataset.

    Args:
        source: a folder that ``save_to_disk`` wrote; a parquet file; a picture; a folder of images (flat, or one folder
            a class, perhaps inside one folder a split, or with a ``metadata.jsonl``); a folder of parquet files or one
            that is laid out like a dataset on the Hub; or a Hub id.
        split: which; a parquet file or a single ``Dataset`` saved to disk is its split ``train``. None takes the only
            split there is.
        config: which configuration (subset), where a dataset has several.

    Raises:
        SourceError: nothing there.
        DataError: there, but not readable as a dataset, without this split, or with several where none was named.
    """
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
                return _split(load_saved(path), split, source)
            if (path / "README.md").exists() or any(path.rglob("*.parquet")):
                return _split(load_dataset(str(path), config), split, source)
            return _split(load_dataset("imagefolder", data_dir=str(path)), split, source)
        if path.is_file():
            if path.suffix.lower() in Image.registered_extensions():
                return Dataset.from_dict({"image": [str(path)]}).cast_column("image", ImageFeature())
            if path.suffix != ".parquet":
                raise DataError(f"got the file {source!r}; expected a picture, a parquet file, a folder or a Hub id")
            return _split(load_dataset("parquet", data_files=str(path), split="train"), split, source)
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(
            f"got {source!r}, which cannot be read as a dataset ({_said(error)}); "
            f"expected a save_to_disk folder, a parquet file or a folder of images with one folder a class"
        ) from error
    if path.is_absolute() or source.startswith((".", "~")) or path.suffix or source.count("/") > 1:
        raise SourceError(
            f"got the path {source!r}, where there is nothing; expected a folder, a parquet file or a Hub id"
        )
    try:
        return _split(_from_hub(source, config), split, source)
    except DataError:
        raise
    except Exception as error:  # the Hub's clients raise errors without a common base
        here = get_close_matches(path.name, [one.name for one in path.parent.glob("*")], n=3)
        near = f" (there is {', '.join(here)})" if here else ""
        raise SourceError(
            f"got {source!r}, which is neither a folder here{near} nor could "
            f"be loaded from the Hub ({_said(error)}); check the name, the connection and the token (hf auth login)"
        ) from error


def _from_hub(source: str, config: str | None) -> DatasetDict:
    """Load a dataset from the Hub; where there is no connection what is cached of it, without half a minute of tries.

    Raises:
        Exception: whatever the clients raise.
    """
    try:
        HfApi().dataset_info(source, timeout=ANSWER)
    except (RepositoryNotFoundError, HFValidationError):
        raise  # a name that is not there, or none: a mistyped path, as a rule
    except (HfHubHTTPError, OfflineModeIsEnabled):
        pass  # there, but for now: load_dataset tries again, or takes what is cached
    except Exception:
        online, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
        try:
            return load_dataset(source, config)
        except ConnectionError:
            pass  # not cached: the first error says more
        finally:
            datasets.config.HF_HUB_OFFLINE = online
        raise
    return load_dataset(source, config)


def load_saved(folder: Path) -> Dataset | DatasetDict:
    """Open what ``save_to_disk`` wrote, and look that its files are whole.

    Raises:
        DataError: a damaged one, or none.
    """
    try:
        loaded = load_from_disk(str(folder))
        for data in loaded.values() if isinstance(loaded, DatasetDict) else [loaded]:
            data.data.table.validate(full=True)  # offsets into the file: a wrong one would end the process
    except Exception as error:  # datasets raises many kinds for one cause: it is not a dataset that it can read
        raise DataError(
            f"got {str(folder)!r}, which cannot be read as a dataset ({type(error).__name__}: {first_line(error)}); "
            f"expected what save_to_disk wrote. Restore it from a copy, or protect again"
        ) from error
    return loaded


def first_rows(stream: IterableDataset, count: int) -> Dataset:
    """Take the first rows of a stream as a dataset to fit on; the others are crafted with ``on_unseen="craft"``.

    Images are taken as the files that they are. (``Dataset.from_list(list(stream.take(count)))`` would compress JPEG
    files once more: other pixels, which the protection would not recognise in the stream.)

    Args:
        stream: with known features.
        count: how many; fewer if the stream ends before.

    Raises:
        DataError: features that are not known, or an empty stream.
    """
    if stream.features is None:
        raise DataError("got a stream whose features are not known; give them with stream.cast(features)")
    features = Features(stream.features)
    files = stream
    for column, feature in features.items():
        if isinstance(feature, ImageFeature):
            files = files.cast_column(column, ImageFeature(mode=feature.mode, decode=False))
    rows = list(files.take(count))
    if not rows:
        raise DataError("got an empty stream; expected at least one row")
    return Dataset.from_list(rows, features=features)


def _said(error: Exception) -> str:
    """The first line of a message; and the second where that lists the configurations to choose from."""
    lines = str(error).splitlines()
    return " ".join(lines[:2]) if len(lines) > 1 and "config" in lines[0].lower() else first_line(error)


def _split(loaded: Dataset | DatasetDict, split: str | None, source: str) -> Dataset:
    splits = {"train": loaded} if isinstance(loaded, Dataset) else loaded
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split not in splits:
        got = "no split" if split is None else f"the split {split!r}"
        raise DataError(f"got {got} of {source!r}; expected one of {', '.join(map(str, splits))}")
    return splits[split]
