"""Opening whatever the command line was given as a dataset, and the first rows of a stream."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, Features, IterableDataset, concatenate_datasets, load_dataset, load_from_disk
from datasets import Image as ImageFeature
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from hf_unlearnable.data.folders import Contents
from hf_unlearnable.data.kinds import METADATA, is_junk, why_left_out
from hf_unlearnable.data.patience import Patience
from hf_unlearnable.data.trees import is_archive
from hf_unlearnable.errors import DataError, DataWarning, RecipeError, SourceError, first_line, warn
from hf_unlearnable.files import local_path
from hf_unlearnable.settings import refuse_ignored

ANSWER = 10.0  # seconds to wait for the Hub's word on whether it has a dataset


@dataclass(frozen=True)
class Source:
    """A dataset that was opened.

    Attributes:
        dataset: the split that was asked for, or several one after the other.
        split: which it is, ``"train+validation"`` for several.
        splits: how many rows each has.
        contents: every file of the folder or the archive that it was opened from; None for what is no such.
        name: what was opened; empty for a dataset in memory.
        class_depth: of the folder, as it was opened.
    """

    dataset: Dataset
    split: str
    splits: dict[str, int]
    contents: Contents | None = None
    name: str = ""
    class_depth: int | None = None


ALL = "all"  # in place of a split: every one

NO_CONFIGURATION = "of which there are several in a dataset on the Hub alone, or in a folder laid out like one"


def load_source(
    source: str | PathLike[str], split: str | None = "train", config: str | None = None, class_depth: int | None = None
) -> Dataset:
    """Open one split of a dataset; arguments and errors are those of ``open_source``.

    Warns:
        DataWarning: images of a folder are left out.
    """
    opened = open_source(source, split, config, class_depth)
    if opened.contents and (left_out := opened.contents.pictures_left_out):
        warn(
            f"{len(left_out)} files in {str(source)!r} that may be images are left out, such as {left_out[0].path} "
            f"({left_out[0].why})",
            DataWarning,
        )
    return opened.dataset


def open_source(
    source: str | PathLike[str],
    split: str | None = "train",
    config: str | None = None,
    class_depth: int | None = None,
    keep_clean: Sequence[str] = (),
) -> Source:
    """Open one split of a dataset, and count what lies beside its images.

    Args:
        source: a folder that ``save_to_disk`` wrote; a parquet file; a picture; a folder, a zip or a tar of images
            (flat, or one folder a class, perhaps inside one folder a split, or with a ``metadata.jsonl``; or a
            WebDataset); a folder of parquet files or one that is laid out like a dataset on the Hub; or a Hub id.
        split: which; a parquet file or a single ``Dataset`` saved to disk is its split ``train``. None takes the only
            split there is. Several, one after the other, as ``"train+validation"``; ``"all"`` for every one.
        config: which configuration (subset), where a dataset has several.
        class_depth: of a folder of images: how many folders make the class, see ``Contents.of``.
        keep_clean: splits that are not among ``"all"``.

    Raises:
        SourceError: nothing there.
        RecipeError: a configuration of what has none.
        DataError: there, but not readable as a dataset, without this split, or with several where none was named; or
            several splits of other columns or classes.
    """
    name = name_of(source)
    return replace(_open(name, split, config, class_depth, keep_clean), name=name, class_depth=class_depth)


def name_of(source: str | PathLike[str]) -> str:
    """Where a dataset is, or what it is called on the Hub, as text.

    Raises:
        DataError: a thing of another kind.
    """
    if isinstance(source, Dataset):
        raise DataError(
            "got a dataset in memory; expected where it is: the folder that save_to_disk wrote, a file or an id on the "
            "Hub"
        )
    if not isinstance(source, (str, PathLike)):
        raise DataError(
            f"got a {type(source).__name__}; expected one split of a dataset in memory, or the name of a dataset: a "
            f"folder, a file or an id on the Hub"
        )
    if source == "":  # as of a variable that is not set: it would be the current folder
        raise DataError("got an empty name; expected that of a dataset: a folder, a file or an id on the Hub")
    return str(source)


def _open(
    source: str, split: str | None, config: str | None, class_depth: int | None, keep_clean: Sequence[str]
) -> Source:
    path = local_path(source)
    try:
        if path.is_dir() or (path.is_file() and is_archive(path.name)):
            return _open_folder(path, split, config, class_depth, keep_clean, source)
        if path.is_file():
            refuse_ignored(NO_CONFIGURATION, config=config)
            why = why_left_out(path.name.lstrip("."), lambda: path.open("rb"))  # what is hidden, and named, is meant
            if why is None:
                single = Dataset.from_dict({"image": [str(path.absolute())]}).cast_column("image", ImageFeature())
                return choose(single, split, source, keep_clean)
            if path.suffix != ".parquet":
                told = f" ({why.why})" if why.picture else ""
                raise DataError(
                    f"got the file {source!r}{told}; expected a picture, a parquet file, a zip, a tar, a folder or a "
                    f"Hub id"
                )
            files = glob.escape(str(path))
            return choose(load_dataset("parquet", data_files=files, split="train"), split, source, keep_clean)
    except (DataError, RecipeError):
        raise
    except Exception as error:  # datasets raises many kinds for one cause: it is no file that it can read
        if isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # it says nothing itself
        if isinstance(error, DataError):
            raise error from None
        raise DataError(
            f"got {source!r}, which cannot be read as a dataset ({_said(error)}); "
            f"expected a save_to_disk folder, a parquet file or a folder of images with one folder a class"
        ) from error
    if path.is_absolute() or source.startswith((".", "~")) or path.suffix or source.count("/") > 1:
        raise SourceError(
            f"got the path {source!r}, where there is nothing; expected a folder, a parquet file or a Hub id"
        )
    try:
        with Patience():
            return choose(_from_hub(source, config), split, source, keep_clean)
    except DataError:
        raise
    except Exception as error:  # the Hub's clients raise errors without a common base
        here = get_close_matches(path.name, [one.name for one in path.parent.glob("*")], n=3)
        near = f" (there is {', '.join(here)})" if here else ""
        raise SourceError(
            f"got {source!r}, which is neither a folder here{near} nor could "
            f"be loaded from the Hub ({_said(error)}); check the name, the connection and the token (hf auth login)"
        ) from error


def _open_folder(
    path: Path,
    split: str | None,
    config: str | None,
    class_depth: int | None,
    keep_clean: Sequence[str],
    source: str,
) -> Source:
    """A folder or an archive: of a dataset, where it holds the files of one, else of images."""
    saved = (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists()
    if saved or (path.is_dir() and (_has_tables(path) or _has_header(path))):
        if saved:
            refuse_ignored(NO_CONFIGURATION, config=config)
        loaded = load_saved(path) if saved else _load_tables(path, config)
        chosen = choose(loaded, split, source, keep_clean)
        every = loaded.values() if isinstance(loaded, DatasetDict) else [loaded]
        return replace(chosen, contents=Contents.around(path, {name for data in every for name in _files(data)}))
    refuse_ignored(NO_CONFIGURATION, config=config)
    contents = Contents.of(path, class_depth)
    sizes = {name: len(rows) for name, rows in contents.splits.items()}
    name = _names(sizes, split, source, keep_clean)
    return Source(_join({part: contents.dataset(part) for part in name.split("+")}), name, sizes, contents)


def _load_tables(path: Path, config: str | None) -> DatasetDict:
    """A folder that is laid out as on the Hub, also where its own path has brackets, a pattern to ``datasets``."""
    if glob.escape(str(path)) == str(path):
        return load_dataset(str(path), config)
    if _has_header(path):
        raise DataError(f"got {str(path)!r}, whose brackets datasets takes for a pattern; rename the folder")
    refuse_ignored(NO_CONFIGURATION, config=config)
    return load_dataset("parquet", data_dir=glob.escape(str(path)))


def _has_tables(folder: Path) -> bool:
    """Whether a folder holds parquet files other than metadata beside images."""
    return any(file.name not in METADATA and not is_junk(file.name) for file in folder.rglob("*.parquet"))


def _has_header(folder: Path) -> bool:
    """Whether the README says, as on the Hub, which files are the dataset; one that is broken says nothing."""
    try:
        return "configs" in DatasetCard.load(folder / "README.md").data.to_dict()
    except Exception:  # none, or one of the many ways in which YAML can be broken
        return False


def _files(data: Dataset) -> Iterator[str]:
    """The files here that the images of a dataset are."""
    for column, feature in data.features.items():
        if isinstance(feature, ImageFeature):
            for chunk in data.data.column(column).chunks:
                yield from filter(None, chunk.field("path").to_pylist())


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
        if isinstance(error, IndexError) and (parts := _without_rows(folder)):
            raise DataError(f"got {str(parts[0])!r}, a dataset without rows; expected at least one image") from error
        raise DataError(
            f"got {str(folder)!r}, which cannot be read as a dataset ({type(error).__name__}: {first_line(error)}); "
            f"expected what save_to_disk wrote. Restore it from a copy, or protect again"
        ) from error
    return loaded


def _without_rows(folder: Path) -> list[Path]:
    """The parts of what ``save_to_disk`` wrote that have no row, which ``datasets`` does not open again."""
    states = {file.parent: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("state.json"))}
    return [part for part, state in states.items() if state.get("_data_files") == []]


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


def choose(loaded: Dataset | DatasetDict, split: str | None, source: str, keep_clean: Sequence[str] = ()) -> Source:
    """One or several splits of a dataset in memory; arguments and errors are those of ``open_source``.

    Args:
        loaded: the splits, or the only one, which is called ``train``.
        split: see there.
        source: what to call it.
        keep_clean: see there.
    """
    splits = {"train": loaded} if isinstance(loaded, Dataset) else {str(name): data for name, data in loaded.items()}
    sizes = {name: len(data) for name, data in splits.items()}
    name = _names(sizes, split, source, keep_clean)
    return Source(_join({part: splits[part] for part in name.split("+")}), name, sizes)


def _names(sizes: Mapping[str, int], split: str | None, source: str, keep_clean: Sequence[str]) -> str:
    if split is None and len(sizes) == 1:
        return next(iter(sizes))
    names = [name for name in sizes if name not in keep_clean] if split == ALL else (split or "").split("+")
    if unknown := [name for name in [*names, *keep_clean] if name not in sizes]:
        got = f"the split {unknown[0]!r}" if unknown[0] else "no split"
        raise DataError(f"got {got} of {source!r}; expected one of {', '.join(sizes)}")
    if not names:
        raise DataError(f"got all splits of {source!r} to keep clean; expected one to protect: {', '.join(sizes)}")
    return "+".join(names)


def _join(splits: Mapping[str, Dataset]) -> Dataset:
    """One after the other, which needs the same columns and classes."""
    (first, data), *others = splits.items()
    for name, other in others:
        if other.features != data.features:
            raise DataError(
                f"got the splits {first!r} and {name!r} with other columns or classes ({data.features} and "
                f"{other.features}); expected the same in both, since they are protected together. Protect one "
                f"after the other into folders of their own"
            )
    return concatenate_datasets(list(splits.values())) if others else data
