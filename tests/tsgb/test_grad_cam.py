from collections import OrderedDict

import pytest
import torch
import torchvision
from cam_checks import ACTIVATION, GRADIENT, explained, not_in_place
from model_checks import images, random_statistics, small_net
from torch import nn

from tsgb import GradCAM, LayerError


def test_by_hand():
    # 7/8 of the first channel less 1/4 of the second
    expected = [[1.125, 1.5], [-0.75, 0.875]]

    assert explained(GradCAM, ACTIVATION, GRADIENT).tolist() == expected


@pytest.mark.parametrize(("layer", "index"), [("0", 0), ("2", 2), ("4", 4), ("5", 5)])
def test_against_captum(layer, index):
    captum = pytest.importorskip("captum.attr")
    net, targets = not_in_place(small_net()), torch.tensor([1, 4])

    expected = captum.LayerGradCam(net, net[index]).attribute(images(), target=targets)

    maps = GradCAM(small_net(), layer=layer).attribute(images(), targets)  # ReLU in place
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-7)


def test_the_default_layer_is_the_last_one_before_the_pooling():
    net = small_net()

    default = GradCAM(net).attribute(images(), torch.tensor([1, 4]))

    assert torch.equal(default, GradCAM(net, layer="5").attribute(images(), torch.tensor([1, 4])))


def vgg11():
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"])
    pool = nn.AdaptiveAvgPool2d(7)
    parts = {"features": features, "pool": pool, "flat": nn.Flatten(), "fc": nn.Linear(25088, 4)}
    return nn.Sequential(OrderedDict(parts))


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        pytest.param(lambda: torchvision.models.resnet18(num_classes=4), "layer4", id="resnet18"),
        pytest.param(vgg11, "features.19", id="vgg11"),
        pytest.param(
            lambda: torchvision.models.squeezenet1_1(num_classes=4), "classifier.2", id="squeezenet"
        ),
    ],
)
def test_default_layers_of_known_networks(build, layer):
    torch.manual_seed(0)
    net, targets = random_statistics(build()), torch.tensor([1])

    maps = GradCAM(net).attribute(images(1, 64, 96), targets)

    assert torch.equal(maps, GradCAM(net, layer=layer).attribute(images(1, 64, 96), targets))


def test_any_operation_is_allowed():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Softplus(), nn.Flatten(), nn.LazyLinear(3)
    ).eval()
    net(images())

    assert GradCAM(net).attribute(images(), torch.tensor([0, 2])).isfinite().all()


def test_a_network_without_feature_maps():
    net = nn.Sequential(nn.Flatten(), nn.Linear(360, 4)).eval()

    with pytest.raises(LayerError, match=r"^GradCAM: no activation of more than one pixel was fou"):
        GradCAM(net).attribute(images(), torch.tensor([0, 1]))
