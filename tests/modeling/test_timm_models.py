"""Models of timm, which no extra brings, since it needs torchvision: what builds one is skipped where they are not."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import TimmWrapperConfig
from transformers.utils.import_utils import is_timm_available

from hf_unlearnable import Defence, MissingExtraError, RecipeError, SourceError, Surrogate
from hf_unlearnable.models.timm_models import pixels_of

needs_timm = pytest.mark.skipif(not is_timm_available(), reason="pip install timm torchvision")
without_timm = pytest.mark.skipif(is_timm_available(), reason="timm is here")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
WEIGHTS = {"input_size": [3, 96, 96], "fixed_input_size": False, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


def folder_of(tmp_path, architecture, *, keep_args=True, classes=3, **args):
    """As on the Hub: what timm's own ``save_for_hf`` writes; older repositories have no ``model_args``."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=classes, **args).eval()
    save_for_hf(model, tmp_path, safe_serialization=True)
    if not keep_args:
        change(tmp_path, lambda config: config.pop("model_args", None))
    return model


def change(folder, how):
    config = json.loads((folder / "config.json").read_text())
    how(config)
    (folder / "config.json").write_text(json.dumps(config))


def written(tmp_path, **config):
    """A repository without weights: what is told before they are read."""
    config = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": WEIGHTS, **config}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return Surrogate(tmp_path)


@pytest.mark.parametrize(
    ("changes", "args", "size", "side", "channels", "mean"),
    [
        ({}, None, None, 96, 3, (0.1, 0.2, 0.3)),
        ({"fixed_input_size": True}, None, (96, 96), 96, 3, (0.1, 0.2, 0.3)),
        ({"min_input_size": [3, 80, 80]}, None, (96, 96), 96, 3, (0.1, 0.2, 0.3)),
        ({"input_size": [3, 96, 64], "fixed_input_size": True}, None, (96, 64), 96, 3, (0.1, 0.2, 0.3)),
        ({}, {"img_size": 32}, (32, 32), 32, 3, (0.1, 0.2, 0.3)),
        ({}, {"img_size": [32, 48]}, (32, 48), 48, 3, (0.1, 0.2, 0.3)),
        ({}, {"in_chans": 1}, None, 96, 1, (0.2,)),
        ({"mean": None, "input_size": None}, None, None, 224, 3, tuple(MEAN)),
    ],
)
def test_what_a_config_of_timm_says_of_pixels(changes, args, size, side, channels, mean):
    config = TimmWrapperConfig(architecture="x", num_labels=3, model_args=args, pretrained_cfg={**WEIGHTS, **changes})
    pixels = pixels_of(config)
    assert (pixels.size, pixels.side, pixels.channels) == (size, side, channels)
    assert pixels.mean == pytest.approx(mean)


@pytest.mark.parametrize(
    ("changes", "args", "message"),
    [
        ({"mean": "half"}, None, r"mean='half' in its config.json.*one number a channel"),
        ({"std": [0, 1, 1]}, None, r"std=\[0, 1, 1\].*above 0"),
        ({"input_size": [3, "x"]}, None, r"input_size=\[3, 'x'\].*channels, height and width"),
        ({}, {"img_size": [7]}, r"img_size=\[7\].*a side, or height and width"),
    ],
)
def test_wrong_values_are_named(changes, args, message):
    config = TimmWrapperConfig(architecture="x", num_labels=3, model_args=args, pretrained_cfg={**WEIGHTS, **changes})
    with pytest.raises(RecipeError, match=message):
        pixels_of(config)


@without_timm
@pytest.mark.parametrize("config", [{}, {"label_names": ["a", "b", "c"]}], ids=["of timm", "with the classes' names"])
def test_without_timm_it_is_said_what_to_install(tmp_path, config):
    surrogate = written(tmp_path, **config)
    defence = Defence.parse(f"probe:{tmp_path}")
    for use in (surrogate.require, lambda: surrogate.build(3, 3, seed=0), defence.require):
        with pytest.raises(MissingExtraError, match=r"is one of timm; .*pip install timm torchvision"):
            use()
    assert surrogate.image_size == 64  # whatever is wrong, building says it


@pytest.mark.parametrize("config", [{"pretrained_cfg": None}, {"model_args": ["x"]}])
def test_what_is_no_config_is_no_model(tmp_path, config):
    with pytest.raises((SourceError, MissingExtraError), match=r"without an image classifier|is one of timm"):
        written(tmp_path, **config).require()


@needs_timm
@pytest.mark.parametrize("keep_args", [True, False], ids=["today's", "without model_args"])
@pytest.mark.parametrize("side", [32, 160])
def test_a_repository_of_timm_is_normalised_by_its_own_config(tmp_path, keep_args, side):
    model = folder_of(tmp_path, "test_efficientnet", keep_args=keep_args)
    images = torch.rand(2, 3, side, side)
    surrogate = Surrogate(tmp_path)
    surrogate.require()
    network = surrogate.build(3, 3, seed=0).eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    logits, features = network(images)
    torch.testing.assert_close(logits, model((images - mean) / std))
    torch.testing.assert_close(network._head[0](features), logits)
    assert surrogate.image_size == 160
    torch.testing.assert_close(network.as_surrogate().build(3, 3, seed=0).eval()(images)[0], logits)
    given = Surrogate(tmp_path, image_mean=(0.0,), image_std=(1.0,)).build(3, 3, seed=0).eval()
    torch.testing.assert_close(given(images)[0], model(images))


@needs_timm
def test_grey_images_and_other_classes(tmp_path):
    folder_of(tmp_path, "test_resnet")
    logits, _ = Surrogate(tmp_path).build(5, 1, seed=0)(torch.rand(2, 1, 28, 28))
    assert logits.shape == (2, 5)


@needs_timm
def test_a_model_of_one_channel(tmp_path):
    model = folder_of(tmp_path, "test_resnet", in_chans=1)
    images = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(
        Surrogate(tmp_path).build(3, 1, seed=0).eval()(images)[0], model((images - 0.5) / 0.5), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(RecipeError, match="images of 3 channels for a model that takes 1"):
        Surrogate(tmp_path).build(3, 3, seed=0)


@needs_timm
@pytest.mark.parametrize("keep_args", [True, False], ids=["today's", "without model_args"])
def test_images_are_resized_for_models_that_insist(tmp_path, keep_args):
    folder_of(tmp_path, "vit_tiny_patch16_224", keep_args=keep_args)
    network = Surrogate(tmp_path).build(3, 3, seed=0).eval()
    assert network.size == (224, 224)
    for side in (32, 64, 224):
        assert network(torch.rand(1, 3, side, side))[0].shape == (1, 3)


@needs_timm
def test_a_transformer_whose_config_calls_its_size_free_takes_images_smaller_than_its_patches(tmp_path):
    folder_of(tmp_path, "test_vit", keep_args=False)
    assert not json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["fixed_input_size"]
    assert Surrogate(tmp_path).build(3, 3, seed=0)(torch.rand(1, 3, 12, 12))[0].shape == (1, 3)


@needs_timm
def test_a_convolution_as_head(tmp_path):
    folder_of(tmp_path, "resnetv2_50x1_bit")
    network = Surrogate(tmp_path).build(3, 3, seed=0).eval()
    network.freeze_body()
    assert [name for name, one in network.named_parameters() if one.requires_grad] == [
        "model.timm_model.head.fc.weight",
        "model.timm_model.head.fc.bias",
    ]
    logits, features = network(torch.rand(2, 3, 64, 64))
    assert (logits.shape, features.shape) == ((2, 3), (2, 2048))


@needs_timm
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "no_such_net"}, r"architecture 'no_such_net', which timm .* does not have.*pip install -U"),
        ({"architecture": "hf-hub:nobody/nothing"}, r"architecture 'hf-hub:nobody/nothing', which timm"),
        ({"pretrained_cfg": {**WEIGHTS, "mean": "half"}}, r"cannot be used: got mean='half'"),
    ],
)
def test_what_cannot_be_built_is_told_before_the_work(tmp_path, config, message):
    with pytest.raises(RecipeError, match=message):
        written(tmp_path, **config).require()


@needs_timm
def test_arguments_that_timm_does_not_take(tmp_path):
    folder_of(tmp_path, "test_resnet")
    change(tmp_path, lambda config: config["model_args"].update(depth=3))
    with pytest.raises(RecipeError, match=r"cannot build as its config.json says .*'depth'.*mend the config.json"):
        Surrogate(tmp_path).build(3, 3, seed=0)


@needs_timm
def test_a_probe_of_a_model_of_timm(tmp_path):
    folder_of(tmp_path, "test_vit", classes=7)
    defence = Defence.parse(f"probe:{tmp_path}")
    defence.require()
    network = defence.start(Surrogate("small-resnet")).build(3, 1, seed=0)
    network.freeze_body()
    assert {name.rpartition(".")[0] for name, one in network.named_parameters() if one.requires_grad} == {
        "model.timm_model.head"
    }
