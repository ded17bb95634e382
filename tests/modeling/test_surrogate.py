from __future__ import annotations

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.datasets import make_dataset
from helpers.forked import start
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoModelForImageClassification,
    CLIPConfig,
    CLIPForImageClassification,
    LevitConfig,
    LevitForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    TextNetConfig,
    TextNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from hf_unlearnable import EM, RecipeError, SourceError, Surrogate
from hf_unlearnable.modeling import SmallResNetConfig, SmallResNetForImageClassification
from hf_unlearnable.modeling.base import NormalisedConv
from hf_unlearnable.models.built_in import BUILT_IN


def vit(num_labels=3):
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=8,
            num_labels=num_labels,
        )
    )


def resnet(num_labels=3):
    torch.manual_seed(0)
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=num_labels)
    )


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("channels", [1, 3])
def test_built_in_models(name, channels):
    network = Surrogate(name).build(num_labels=5, channels=channels, seed=0).eval()
    images = torch.rand(2, channels, 28, 28)
    logits, features = network(images)
    assert logits.shape == (2, 5)
    assert features.shape == (2, network._head[0].in_features)
    torch.testing.assert_close(network._head[0](features), logits)


@pytest.mark.parametrize("side", [1, 3])
def test_a_normalised_convolution_evaluates_to_one_convolution(side, monkeypatch):
    layer, images = NormalisedConv(3, 5, side=side), torch.rand(4, 3, 9, 9, requires_grad=True)
    for _ in range(5):
        layer(torch.rand(16, 3, 9, 9))  # statistics of its own
    layer.eval()
    conv, norm = layer
    expected = norm(conv(images))
    slope = torch.autograd.grad(expected.square().sum(), images)[0]
    monkeypatch.setattr(norm, "forward", None)
    torch.testing.assert_close(layer(images), expected)
    torch.testing.assert_close(torch.autograd.grad(layer(images).square().sum(), images)[0], slope)


def test_small_resnet_has_about_80_000_parameters_and_resnet_18_is_one():
    def size(name):
        return sum(parameter.numel() for parameter in Surrogate(name).build(10, 3, 0).parameters())

    assert 70_000 < size("small-resnet") < 90_000
    assert 11_100_000 < size("resnet-18") < 11_200_000  # 11.17 million in the literature on CIFAR-10


def test_built_in_models_are_registered_with_the_auto_classes(tmp_path):
    model = SmallResNetForImageClassification(SmallResNetConfig(widths=(4, 8), depths=(1, 2), num_labels=7)).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, SmallResNetForImageClassification)
    images = torch.rand(2, 3, 8, 8)
    output = loaded(images, labels=torch.tensor([0, 6]))
    assert torch.equal(output.logits, model(images).logits)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 6])))
    assert torch.equal(loaded.classifier(loaded.features(images)), output.logits)


@pytest.mark.parametrize("make", [vit, resnet])
def test_models_of_transformers_by_instance_and_folder(make, tmp_path):
    model = make().eval()
    model.save_pretrained(tmp_path)
    images = torch.rand(2, 3, 16, 16)
    for given in (model, tmp_path, str(tmp_path)):
        network = Surrogate(given).build(num_labels=3, channels=3, seed=0).eval()
        logits, features = network(images)
        torch.testing.assert_close(logits, model((images - 0.5) / 0.5).logits)
        torch.testing.assert_close(network._head[0](features), logits)


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_trained_in_single_precision(make, kind, tmp_path):
    model = make().to(kind)
    model.save_pretrained(tmp_path)
    for given in (model, tmp_path):
        network = Surrogate(given).build(num_labels=3, channels=3, seed=0)
        assert {one.dtype for one in network.parameters()} == {torch.float32}
        network(torch.rand(2, 3, 16, 16))[0].sum().backward()
    assert model.dtype == kind


def test_normalisation_comes_from_the_processor_and_can_be_given(tmp_path):
    model = resnet().eval()
    model.save_pretrained(tmp_path)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    images = torch.rand(2, 3, 16, 16)
    wanted = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    logits, _ = Surrogate(tmp_path).build(3, 3, 0).eval()(images)
    torch.testing.assert_close(logits, model(wanted).logits)
    logits, _ = Surrogate(model, image_mean=(0.0,), image_std=(1.0,)).build(3, 3, 0).eval()(images)
    torch.testing.assert_close(logits, model(images).logits)


MEANS, STDS = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    "settings",
    [
        {"do_normalize": False},
        {"do_normalize": False, "rescale_factor": 1 / 127.5},
        {"rescale_factor": 1 / 127.5},
        {"rescale_factor": 0.00392},
        {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 50.0, 55.0]},
        {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]},
    ],
)
def test_pixels_are_those_of_the_processor(settings, tmp_path):
    """What ``do_normalize`` and ``do_rescale`` say was not read: images came otherwise than the model knows them."""
    model = resnet().eval()
    model.save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(**{"do_resize": False, "image_mean": MEANS, "image_std": STDS, **settings})
    processor.save_pretrained(tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    wanted = processor(images=[image], return_tensors="pt")["pixel_values"]
    logits, _ = Surrogate(tmp_path).build(3, 3, 0).eval()(to_tensor(image))
    torch.testing.assert_close(logits, model(wanted).logits, rtol=1e-3, atol=1e-4)


def test_a_processor_that_only_normalises_is_for_pixels_up_to_one(tmp_path):
    resnet().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_rescale": False, "image_mean": MEANS}))
    torch.testing.assert_close(Surrogate(tmp_path).build(3, 3, 0).mean.flatten(), torch.tensor(MEANS))


def to_tensor(image):
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float() / 255


def test_images_are_resized_and_repeated_for_models_that_insist():
    network = Surrogate(vit()).build(3, 1, 0).eval()
    logits, _ = network(torch.rand(2, 1, 28, 28))
    assert logits.shape == (2, 3)


TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def clip(num_labels=3):
    """Its size and channels stand in the part of its config that is of images."""
    config = CLIPConfig(vision_config={**TINY, "image_size": 16, "patch_size": 8}, text_config=TINY)
    config.num_labels = num_labels
    return CLIPForImageClassification(config)


def vit_of_pairs():
    return ViTForImageClassification(ViTConfig(**TINY, image_size=[16, 24], patch_size=8, num_labels=3))


def levit():
    """Its weights for places are no position embeddings."""
    sizes = {"hidden_sizes": [16, 16, 16], "depths": [1, 1, 1], "num_attention_heads": [1, 1, 1], "key_dim": [8, 8, 8]}
    return LevitForImageClassification(LevitConfig(**sizes, image_size=64, num_labels=3))


def textnet():
    """Its config does not say how many channels it takes."""
    return TextNetForImageClassification(TextNetConfig(image_size=(64, 64), num_labels=3))


@pytest.mark.parametrize(
    ("make", "size", "side"),
    [(clip, (16, 16), 16), (vit_of_pairs, (16, 24), 24), (levit, (64, 64), 64), (textnet, None, 64)],
)
def test_images_of_any_size_and_of_one_channel_for_what_says_it_otherwise(make, size, side):
    surrogate = Surrogate(make())
    assert surrogate.image_size == side
    for channels in (1, 3):
        network = surrogate.build(3, channels, 0)
        assert network.size == size
        assert network(torch.rand(2, channels, 40, 40))[0].shape == (2, 3)


def test_another_number_of_classes_gets_a_new_head(tmp_path):
    resnet(3).save_pretrained(tmp_path)
    logits, _ = Surrogate(tmp_path).build(num_labels=5, channels=3, seed=0)(torch.rand(2, 3, 16, 16))
    assert logits.shape == (2, 5)
    with pytest.raises(RecipeError, match="no linear layer with 5 outputs"):
        Surrogate(resnet(3)).build(num_labels=5, channels=3, seed=0)


def test_a_hidden_layer_with_as_many_outputs_as_there_are_classes_is_no_head(tmp_path):
    for model in (vit(10), clip(10)):
        with pytest.raises(RecipeError, match=r"no linear layer with 16 outputs as its head; .*num_labels=16"):
            Surrogate(model).build(num_labels=16, channels=3, seed=0)
    flat = Surrogate("mlp").build(num_labels=10, channels=3, seed=0).model  # not in two parts, so only its logits tell
    network = Surrogate(flat).build(num_labels=128, channels=3, seed=0)
    with pytest.raises(RecipeError, match="which has 10 classes; expected a classifier of 128 classes"):
        network(torch.rand(2, 3, 16, 16))
    model = vit(10)
    model.save_pretrained(tmp_path)
    kept = {name: value for name, value in model.state_dict().items() if "attention" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match=r"of its parts beside the head.*attention"):
        Surrogate(tmp_path).build(num_labels=16, channels=3, seed=0)


def test_a_new_head_is_no_report_and_other_new_weights_are_a_sentence(tmp_path, caplog, recwarn):
    model = resnet(3)
    model.save_pretrained(tmp_path)
    logging.getLogger("transformers").addHandler(caplog.handler)  # which does not propagate
    try:
        Surrogate(tmp_path).build(num_labels=5, channels=3, seed=0)
        assert "LOAD REPORT" not in caplog.text
        assert not [one for one in recwarn if "weights" in str(one.message)]
        kept = {name: value for name, value in model.state_dict().items() if "embedder.embedder" not in name}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.warns(UserWarning, match=r"holds no weights for \d+ of its parts beside the head.*embedder"):
            Surrogate(tmp_path).build(num_labels=5, channels=3, seed=0)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)


def test_building_is_seeded_and_leaves_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, other = (Surrogate().build(3, 1, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(one(images)[0], two(images)[0])
    assert not torch.equal(one(images)[0], other(images)[0])


def test_an_instance_is_copied():
    model = resnet()
    network = Surrogate(model).build(3, 3, 0)
    assert network.model is not model


@pytest.mark.parametrize("name", ["nobody/nothing", "no-such-model", "/no/such/folder"])
def test_unknown_models(name):
    with pytest.raises(SourceError, match=r"expected one of small-resnet"):
        Surrogate(name).build(3, 3, 0)


def silence(hub, name) -> None:
    for method in ("GET", "HEAD"):
        hub.fail(method, name, "before", times=1000)


def test_a_model_is_asked_for_once_where_nobody_answers_and_taken_from_the_cache(hub, name, tmp_path, caplog):
    vit().save_pretrained(tmp_path)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    hub.create("models", name, private=False).add("main", files, "model")
    known = Surrogate(name)
    known.build(3, 3, 0)
    hub.received.clear()
    silence(hub, name)
    known.require()
    known.build(3, 3, 0)
    with pytest.raises(SourceError, match="neither a folder nor reachable on the Hub"):
        Surrogate(f"{name}-2").require()
    assert {request.target for request in hub.received} == {f"/api/models/{name}", f"/api/models/{name}-2"}
    assert caplog.records == []


PROCESSOR = {"size": {"height": 224, "width": 224}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


def published(hub, name, folder, **more: bytes) -> Surrogate:
    """A model without a size in its config, on the loopback Hub; more files by the stems of their names."""
    resnet().save_pretrained(folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    files |= {f"{stem}.json": content for stem, content in more.items()}
    hub.create("models", name, private=False).add("main", files, "model")
    return Surrogate(name)


def test_a_processor_that_cannot_be_had_is_not_taken_for_none(hub, name, tmp_path):
    """Offline with its weights in the cache, and not this file, it came at 64 pixels and normalised by 0.5."""
    known = published(hub, name, tmp_path, preprocessor_config=json.dumps(PROCESSOR).encode())
    AutoModelForImageClassification.from_pretrained(name)
    silence(hub, name)
    known.require()
    wanted = "image processor could not be read .* expected its preprocessor_config.json.* where the Hub answers"
    for use in (lambda: known.image_size, lambda: known.build(3, 3, seed=0)):
        with pytest.raises(SourceError, match=wanted):
            use()
    given = Surrogate(name, image_mean=(0.5,), image_std=(0.5,)).build(3, 3, seed=0)
    assert given.as_surrogate().build(3, 3, seed=0).mean.flatten().tolist() == [0.5]
    hub.faults.clear()
    online = known.build(3, 3, seed=0)
    assert known.image_size == 224
    silence(hub, name)
    assert torch.equal(known.build(3, 3, seed=0).mean, online.mean)
    assert known.image_size == 224


@pytest.mark.parametrize("more", [{}, {"processor_config": b'{"processor_class": "X"}'}], ids=["none", "of text"])
def test_a_repository_that_is_known_to_have_no_processor_keeps_the_default(hub, name, tmp_path, more):
    known = published(hub, name, tmp_path, **more)
    for answers in (True, False):
        if not answers:
            silence(hub, name)
        assert known.image_size == 64
        assert known.build(3, 3, seed=0).mean.flatten().tolist() == [0.5]


def test_a_processor_beside_a_tokenizer_comes_first_and_a_damaged_one_is_told(tmp_path):
    resnet().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 96}')
    assert Surrogate(tmp_path).image_size == 96
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": PROCESSOR}))
    assert Surrogate(tmp_path).image_size == 224
    for damaged in ("{", "[]", '{"image_processor": [224]}'):
        (tmp_path / "processor_config.json").write_text(damaged)
        for use in (lambda: Surrogate(tmp_path).image_size, lambda: Surrogate(tmp_path).build(3, 3, seed=0)):
            with pytest.raises(SourceError, match=r"image processor could not be read .*Mend the file"):
                use()


def test_a_network_that_is_no_model_of_transformers_is_refused_at_once():
    with pytest.raises(RecipeError, match=r"got a Linear as model; expected one of small-resnet.* of transformers"):
        Surrogate(torch.nn.Linear(3, 2))


def test_a_folder_with_an_architecture_of_this_package_needs_no_further_import(tmp_path):
    """The Auto classes know it, though nothing else has imported the architectures in this process."""
    model = SmallResNetForImageClassification(SmallResNetConfig(widths=(4, 8), depths=(1, 1), num_labels=3))
    model.save_pretrained(tmp_path)
    code = f"""
import sys
from hf_unlearnable import Surrogate
surrogate = Surrogate({str(tmp_path)!r})
assert "transformers" not in sys.modules
surrogate.require()
surrogate.build(3, 3, seed=0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_channels():
    model = SmallResNetForImageClassification(SmallResNetConfig(num_channels=1, num_labels=3))
    with pytest.raises(RecipeError, match="images of 3 channels for a model that takes 1"):
        Surrogate(model).build(3, 3, 0)


def test_default_depends_on_the_device():
    assert Surrogate.default(torch.device("cpu")).model == "small-resnet"
    assert Surrogate.default(torch.device("cuda")).model == "resnet-18"


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_methods_take_models_of_transformers_and_mixed_precision(precision):
    AcceleratorState._reset_state(reset_partial_state=True)  # Accelerate keeps the first precision of a process
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    data = make_dataset(24, channels=3)
    method = EM(epochs=4, batch_size=12)
    protection = method.fit(data, surrogate=[resnet(), vit()], accelerator=accelerator, progress=False)
    assert len(protection.about["surrogates"]) == 2
    assert protection.verify(data, data.map(protection)).violations == 0
    AcceleratorState._reset_state(reset_partial_state=True)


def test_odd_batches_do_not_corrupt_memory():
    """A strided 1x1 convolution did (see small_resnet.py); in a process of its own, since the fault aborts it."""
    code = """
import torch
from hf_unlearnable import Surrogate
torch.set_num_threads(2)
for name in ("small-resnet", "small-vgg"):
    network = Surrogate(name).build(12, 1, 0).train()
    for count in (5, 7, 9, 13) * 20:
        logits, features = network(torch.rand(count, 1, 12, 12, requires_grad=True))
        (logits.logsumexp(1).mean() + features.mean()).backward()
"""
    process = start(exec, code, {})
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("known", [True, False], ids=["of a known kind", "of a kind of its own"])
def test_code_that_comes_with_weights_is_never_run_nor_asked_about(tmp_path, monkeypatch, known):
    """``auto_map``: transformers would ask on a terminal, and run what is there on "y"."""
    folder = tmp_path / "model"
    Surrogate("small-resnet").build(3, 3, seed=0).model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    code = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass C: ...\n"
    (folder / "evil.py").write_text(code.replace("Path(__file__).with_name('ran')", f"Path({str(tmp_path / 'ran')!r})"))
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForImageClassification"), "evil.C")
    if not known:
        config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))

    def asked(*_):
        raise AssertionError("asked whether to run it")

    monkeypatch.setattr("builtins.input", asked)
    surrogate = Surrogate(str(folder))
    assert surrogate.image_size
    if known:
        surrogate.build(3, 3, seed=0)
    else:
        with pytest.raises(SourceError, match="image classifier"):
            surrogate.build(3, 3, seed=0)
    assert not (tmp_path / "ran").exists()
