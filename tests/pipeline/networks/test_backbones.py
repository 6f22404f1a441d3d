"""Classification networks by name, and weights that fit or are refused."""

import pytest
import torch
import torchvision

from pipeline.base.errors import ConfigError
from pipeline.networks.backbones import build_classifier


@pytest.mark.parametrize(
    ("library", "name", "layer"),
    [
        ("torchvision", "resnet18", "backbone.layer3"),
        ("torchvision", "vgg11_bn", "backbone.28"),
        ("torchvision", "mobilenet_v2", "backbone.13"),
        ("torchvision", "densenet121", "backbone.0"),
        ("torchvision", "squeezenet1_0", "backbone.12"),
        ("timm", "test_resnet", "backbone.layer3"),
        ("timm", "efficientnet_b0", "backbone.blocks"),
    ],
)
def test_a_backbone_by_name_gives_logits_and_named_layers(library, name, layer):
    network = build_classifier(library, name, "none", 7).eval()

    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 96)).shape == (2, 7)
    assert layer in dict(network.named_modules())


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_the_features_are_those_of_the_library(library):
    torch.manual_seed(0)
    network = build_classifier(library, "resnet18", "none", 3).eval()
    images = torch.rand(1, 3, 64, 64)
    if library == "timm":
        import timm

        whole = timm.create_model("resnet18").eval()
        expected = whole.forward_features
    else:
        whole = torchvision.models.resnet18().eval()
        expected = torch.nn.Sequential(*list(whole.children())[:-2])
    state = network.backbone.state_dict()
    whole.load_state_dict({k: state.get(k, v) for k, v in whole.state_dict().items()})

    with torch.no_grad():
        torch.testing.assert_close(network.backbone(images), expected(images))


def test_weights_of_the_whole_network_start_the_backbone(tmp_path):
    whole = torchvision.models.mobilenet_v2()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")

    network = build_classifier("torchvision", "mobilenet_v2", str(tmp_path / "weights.pth"), 5)

    torch.testing.assert_close(network.backbone[0][0].weight, whole.features[0][0].weight)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")

    with pytest.raises(
        ConfigError,
        match=r"classifier\.weights: .*does not fit MobileNetV2[\s\S]*features.0.0.weight",
    ):
        build_classifier("torchvision", "mobilenet_v2", str(tmp_path / "weights.pth"), 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("keras", "resnet18", "none"), "Choose torchvision or timm"),
        (("torchvision", "resnet81", "none"), "no classifier 'resnet81'.*Similar are: resnet1"),
        (("torchvision", "fcn_resnet50", "none"), "torchvision has no classifier 'fcn_resnet50'"),
        (("timm", "resnet81", "none"), "no classifier 'resnet81'.*Similar are: .*resnet18"),
        (("torchvision", "googlenet", "none"), "Use the same network from timm"),
        (("torchvision", "resnet18", "nowhere.pth"), "no file 'nowhere.pth'"),
    ],
)
def test_unusable_networks_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_classifier(*arguments, 5)
