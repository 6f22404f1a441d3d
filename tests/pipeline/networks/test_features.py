"""Features read by name against those of the layers called one after the other."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.base.errors import ConfigError
from pipeline.networks.backbones import build_classifier
from pipeline.networks.colours import IMAGENET
from pipeline.networks.features import NetworkFeatures
from pipeline.networks.pixels import resize

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


def reader(network):
    return NetworkFeatures(network, IMAGENET)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()


def by_hand(model, image, size, depth):
    pixels = resize(torch.tensor(image.copy()).permute(2, 0, 1)[None], size)
    with torch.no_grad():
        return model[:depth](IMAGENET.normalise(pixels))[0]


def test_equals_the_layers_one_after_the_other():
    model = network()

    early, late = reader(model)(IMAGE, ["1", "3"], size=97)

    torch.testing.assert_close(early, by_hand(model, IMAGE, (65, 97), 2))
    torch.testing.assert_close(late, by_hand(model, IMAGE, (65, 97), 4))


def test_a_mirrored_image_with_negative_strides():
    model = network()

    features = reader(model)(IMAGE[:, ::-1], ["0"], size=65)[0]

    torch.testing.assert_close(features, by_hand(model, IMAGE[:, ::-1].copy(), (33, 65), 1))


def test_hooks_are_removed():
    model = network()

    features = reader(model)(IMAGE, ["0", "0", "3"], size=65)

    assert len(features) == 3
    assert not any(feature.requires_grad for feature in features)
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_removed_after_an_error():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))

    with pytest.raises(RuntimeError, match="channels"):
        reader(model)(IMAGE, ["0"], size=65)
    assert not any(module._forward_hooks for module in model.modules())


def test_threads_do_not_mix_features():
    model = network()
    read = reader(model)
    images = [np.full((40, 40, 3), value, np.uint8) for value in range(0, 240, 10)]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: read(image, ["2"], 65)[0], images))

    for image, features in zip(images, together, strict=True):
        torch.testing.assert_close(features, by_hand(model, image, (65, 65), 3))


class Slow(nn.ReLU):
    """Other threads have their turn before what comes next."""

    def forward(self, values):
        time.sleep(0.005)
        return super().forward(values)


def test_logits_in_another_thread_do_not_mix_with_features():
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), Slow(), nn.Conv2d(4, 4, 3))
    model.head = nn.Linear(4, 2)
    model.forward = lambda pixels: model.backbone(pixels)
    read = reader(model.eval())

    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        others = pool.map(lambda size: read.logits(IMAGE, size), [97] * 20)
        features = [read(IMAGE, ["backbone.0"], size=65)[0] for _ in range(20)]

    assert all(planes.shape == (2, 30, 46) for planes in others)
    assert {tuple(maps.shape) for maps in features} == {(4, 16, 32)}


@pytest.mark.parametrize("layer", ["7", "", "nothing"])
def test_an_unknown_layer_is_named_with_the_known_ones(layer):
    with pytest.raises(ConfigError, match=rf"no layer '{layer}'.*top layers are 0, 1, 2"):
        reader(network()).check(["0", layer])


@pytest.mark.parametrize("layer", ["5", "6"])
def test_outputs_that_are_not_maps_are_refused(layer):
    with pytest.raises(ConfigError, match=rf"'{layer}' returns \(1, \d\), not one feature map"):
        reader(network())(IMAGE, [layer], size=65)


@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_of_logits_over_locations_is_the_logit(bias):
    model = build_classifier("timm", "test_resnet", "none", 5).eval()
    if not bias:
        model.head.bias = None

    planes = reader(model).logits(IMAGE, size=97)

    pixels = IMAGENET.normalise(resize(torch.tensor(IMAGE).permute(2, 0, 1)[None], (65, 97)))
    with torch.no_grad():
        logits = model(pixels)[0].numpy()
    assert planes.shape[1:] == (3, 4)
    np.testing.assert_allclose(planes.mean((1, 2)), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("library", "name", "layers"),
    [
        pytest.param("torchvision", "mobilenet_v2", ["6", "13", "18"], id="mobilenet"),
        pytest.param("torchvision", "resnet18", ["layer2", "layer3", "layer4"], id="resnet"),
        pytest.param("timm", "test_resnet", ["layer2", "layer3", "layer4"], id="timm"),
    ],
)
def test_without_names_the_last_layer_at_each_stride(library, name, layers):
    read = reader(build_classifier(library, name, "none", 2).eval())

    chosen = read(IMAGE, [], size=97)

    named = read(IMAGE, [f"backbone.{layer}" for layer in layers], size=97)
    for one, other in zip(chosen, named, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("without", [network(), nn.Sequential(nn.Conv2d(3, 4, 3))])
def test_without_names_a_backbone_is_needed(without):
    with pytest.raises(ConfigError, match=r"there are no default layers\. Name one or more"):
        reader(without)(IMAGE, [], size=65)


def test_a_network_without_logits_per_location_is_refused():
    with pytest.raises(ConfigError, match="Sequential: it has no backbone and linear head"):
        reader(network()).logits(IMAGE, size=65)
