"""What captions say, as numbers: embeddings of a text model, by which images can be told apart that have no labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch.nn import functional as F

from hf_unlearnable.data.columns import holds_texts
from hf_unlearnable.data.kinds import METADATA
from hf_unlearnable.data.patience import only_here
from hf_unlearnable.errors import DataError, SourceError, first_line, option
from hf_unlearnable.files import local_path
from hf_unlearnable.progress import Progress

CAPTIONS = "captions"

BATCH = 64
TOKENS = 128  # of a caption at most, where the model takes more: what comes later hardly changes what it is about


def caption_column(dataset: Dataset, column: str = "") -> str:
    """The column of captions: of texts, or of several texts an image.

    Args:
        dataset: with it.
        column: that somebody named; the only one there is when left out.

    Raises:
        DataError: there is none, or several, or another kind of column was named.
    """
    possible = [name for name, feature in dataset.features.items() if holds_texts(feature)]
    if column in possible:
        return column
    if not column and len(possible) == 1:
        return possible[0]
    got = f"the column {column!r}" if column else f"{len(possible) or 'no'} columns of text"
    if possible:
        expected = f"one of {', '.join(possible)}: {option('labels', f'{CAPTIONS}:10,MODEL,COLUMN')}"
    else:
        expected = (
            f"a column of texts in the dataset, or in a {METADATA[0]} or {METADATA[1]} in the folder of the images, "
            f"beside the column file_name"
        )
    raise DataError(f"got {got} among {', '.join(dataset.features)} for clusters of captions; expected {expected}")


def embed_captions(
    dataset: Dataset, column: str, model: str, device: torch.device, *, progress: bool = False
) -> NDArray[np.float64]:
    """The mean over the tokens of what a text model makes of each caption, at length one.

    Args:
        dataset: N rows.
        column: of captions; several of a row are read as one text, and none is an empty one.
        model: folder or Hub id of an encoder of texts, with its tokenizer; of one for images and texts (CLIP) the
            half for texts is used.
        device: to compute on.
        progress: show a bar.

    Returns:
        (N, D).

    Raises:
        SourceError: no such model.
    """
    from transformers import AutoModel, AutoTokenizer  # here: few need them

    tokenizer, loaded = _load(model, AutoTokenizer, AutoModel)
    encoder = getattr(loaded, "text_model", loaded).to(device).eval()
    texts, found = [_text(one) for one in dataset.with_format(None)[column]], []
    most = min(TOKENS, tokenizer.model_max_length)
    with Progress("embeddings of captions", len(texts), unit="caption", enabled=progress) as bar, torch.no_grad():
        for start in range(0, len(texts), BATCH):
            part = texts[start : start + BATCH]
            tokens = tokenizer(part, padding=True, truncation=True, max_length=most, return_tensors="pt").to(device)
            states = encoder(**tokens).last_hidden_state
            weights = tokens["attention_mask"].unsqueeze(2).to(states)
            means = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
            found.append(F.normalize(means.double(), dim=1).cpu())
            bar.advance(len(part))
    return torch.cat(found).numpy()


def require_text_model(model: str) -> None:
    """See that there is such a model, without loading its weights; ``model`` as of ``embed_captions``.

    Raises:
        SourceError: there is none.
    """
    from transformers import AutoConfig, AutoTokenizer

    _load(model, AutoTokenizer, AutoConfig)


def _load(model: str, *parts: Any) -> list[Any]:
    """Parts of a text model, each by the Auto class that loads it."""
    model = str(local_path(model)) if model.startswith("~") else model
    where = {"local_files_only": only_here(model), "trust_remote_code": False}
    try:
        return [part.from_pretrained(model, **where) for part in parts]
    except (OSError, ValueError) as error:
        raise SourceError(
            f"got the text model {model!r}, neither a folder with a model and its tokenizer nor reachable on the Hub "
            f"({first_line(error)}); expected the folder or Hub id of an encoder of texts"
        ) from error


def _text(caption: Any) -> str:
    texts = caption if isinstance(caption, list) else [caption]
    return " ".join(one for one in texts if one)
