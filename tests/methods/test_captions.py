"""Clusters of captions, by a text model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, List, Value
from helpers.datasets import make_dataset, pixels_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_unlearnable import DataError, RecipeError, SourceError, Texture
from hf_unlearnable.methods.captions import caption_column, embed_captions
from hf_unlearnable.methods.labelling import Labels
from hf_unlearnable.progress import heard_by
from hf_unlearnable.protection.public_names import public_description

WORDS = ("[PAD]", "[UNK]", "a", "cat", "dog", "boat", "sleeps", "sails")
SAID = ("a cat sleeps", "a dog", "a boat sails")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny encoder with random weights and its tokenizer, as the Hub has them."""
    folder = tmp_path_factory.mktemp("text-model")
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=8, **sizes)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def captioned() -> Dataset:
    data = make_dataset(24, channels=3, side=16).remove_columns(["label", "name"])
    return data.add_column("caption", [SAID[row % 3] for row in range(24)])


def test_clusters_are_those_of_the_captions(model, captioned):
    protection = Texture().fit(captioned, labels=f"captions:3,{model}", progress=False)
    assert protection.description.labels == f"captions:3,{model},caption"
    released = captioned.map(protection)
    assert released["caption"] == captioned["caption"]
    change = pixels_of(released).astype(int) - pixels_of(captioned)
    blue = np.sign(change[..., 2].reshape(24, -1))
    alike = np.abs(np.corrcoef(blue))
    same = np.arange(24)[:, None] % 3 == np.arange(24) % 3
    assert alike[same].min() > 0.8
    assert alike[~same].max() < 0.5


@pytest.mark.parametrize("progress", [True, False])
def test_captions_show_a_bar_where_the_fit_does(progress, model, captioned):
    heard: set[str] = set()
    with heard_by(lambda part, share: heard.add(part)):
        Texture().fit(captioned, labels=f"captions:3,{model}", progress=progress)
    assert ("embeddings of captions" in heard) if progress else not heard


def test_several_texts_none_and_long_ones(model, captioned):
    data = Dataset.from_dict(
        {"texts": [["a cat", "sleeps"], [], None, ["a " * 50]], "one": ["a cat sleeps", "", None, ""]}
    )
    several = embed_captions(data, "texts", model, torch.device("cpu"))
    assert several.shape == (4, 16)
    assert np.allclose(several[0], embed_captions(data, "one", model, torch.device("cpu"))[0])
    assert np.isfinite(several).all()
    assert np.allclose(np.linalg.norm(several[[0, 3]], axis=1), 1)


def test_the_column_is_found_or_asked_for(captioned):
    assert caption_column(captioned) == "caption"
    both = captioned.add_column("file", ["x"] * 24)
    assert Labels.parse("captions:3,m,file").found_in(both).column == "file"
    with pytest.raises(
        DataError, match=r"got 2 columns of text .*one of caption, file: labels='captions:10,MODEL,COLUMN'"
    ):
        caption_column(both)
    with pytest.raises(DataError, match="got the column 'image' among"):
        caption_column(captioned, "image")
    with pytest.raises(
        DataError,
        match=r"got no columns of text among image .*in a metadata\.csv or metadata\.jsonl in the folder .*file_name",
    ):
        caption_column(captioned.select_columns("image"))
    lists = captioned.select_columns("image").add_column("texts", [["a"]] * 24)
    assert lists.features["texts"] == List(Value("string"))
    assert caption_column(lists) == "texts"


def test_what_cannot_be_used_is_said(captioned, tmp_path):
    with pytest.raises(
        SourceError, match=r"got the text model '.*nothing', neither a folder with a model and its tokenizer"
    ):
        Texture().fit(captioned, labels=f"captions:3,{tmp_path}/nothing", progress=False)
    with pytest.raises(RecipeError, match=r"got labels='captions:3'; expected a text model too, .*'captions:3,MODEL'"):
        Texture().fit(captioned, labels="captions:3", progress=False)


def test_a_card_tells_neither_model_nor_column(model, captioned):
    """Both may be private names."""
    described = public_description(Texture().fit(captioned, labels=f"captions:3,{model}", progress=False).description)
    assert described.labels == "captions:3"
    assert Labels.parse(described.labels).meaning == "3 clusters of images whose captions are alike"
