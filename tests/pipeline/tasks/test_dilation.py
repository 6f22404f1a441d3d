"""Output strides: the same function at more places, as the libraries' own options have it."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from pipeline.errors import ConfigError
from pipeline.tasks.backbones import build_classifier
from pipeline.tasks.dilation import dilate

IMAGES = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("stride", "replaced"), [(16, [False, False, True]), (8, [False, True, True])]
)
def test_a_resnet_becomes_what_torchvision_makes_of_it(stride, replaced):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=replaced).eval()
    ours = torchvision.models.resnet50().eval()
    ours.load_state_dict(theirs.state_dict())

    dilate(ours, stride, "resnet50")

    with torch.no_grad():
        torch.testing.assert_close(ours(IMAGES), theirs(IMAGES))


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv2_100", "resnet18"])
@pytest.mark.parametrize("stride", [16, 8])
def test_networks_become_what_timm_makes_of_them(name, stride):
    torch.manual_seed(0)
    theirs = timm.create_model(name, output_stride=stride).eval()
    ours = timm.create_model(name).eval()
    ours.load_state_dict(theirs.state_dict())

    dilate(ours, stride, name)

    with torch.no_grad():
        torch.testing.assert_close(ours(IMAGES), theirs(IMAGES))


def test_what_was_computed_before_is_computed_still():
    """Where the finer map has a place that the coarse one had."""
    torch.manual_seed(0)
    images = torch.rand(1, 3, 513, 513)
    coarse = build_classifier("torchvision", "mobilenet_v2", "none", 3).backbone.eval()
    fine = build_classifier("torchvision", "mobilenet_v2", "none", 3, 16).backbone.eval()
    fine.load_state_dict(coarse.state_dict())

    with torch.no_grad():
        small, large = coarse(images), fine(images)

    assert (small.shape[-1], large.shape[-1]) == (17, 33)
    torch.testing.assert_close(large[..., ::2, ::2], small)


def test_a_network_that_stays_below_is_left_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(2))
    before = repr(network)

    dilate(network, 8, "small")

    assert repr(network) == before
    assert network.training


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torchvision", "mobilenet_v2"),
        ("torchvision", "resnet18"),
        ("timm", "test_resnet"),
        ("timm", "convnext_atto"),
    ],
)
@pytest.mark.parametrize("stride", [16, 8])
def test_a_classifier_has_the_output_stride_that_it_was_given(library, name, stride):
    network = build_classifier(library, name, "none", 3, stride)

    assert network.backbone(torch.rand(2, 3, 64, 96)).shape[2:] == (64 // stride, 96 // stride)
    assert list(network.state_dict()) == list(
        build_classifier(library, name, "none", 3).state_dict()
    )


@pytest.mark.parametrize(
    ("library", "name", "told"),
    [
        (
            "torchvision",
            "vgg11_bn",
            r"output_stride: 16, but 28 of torchvision/vgg11_bn.*MaxPool2d",
        ),
        ("torchvision", "convnext_tiny", r"output_stride: 16, but 6\.1 of .*Conv2d\(.*\(2, 2\)"),
        ("timm", "densenet121", r"timm/densenet121 does not take {'output_stride': 16}.*resnet50"),
        ("timm", "vgg11_bn", r"timm/vgg11_bn does not take {'output_stride': 16}: refused"),
    ],
)
def test_what_cannot_be_dilated_is_refused_by_name(library, name, told):
    with pytest.raises(ConfigError, match=told):
        build_classifier(library, name, "none", 3, 16)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("stride", [12, 0, -1, 64])
def test_a_stride_that_no_network_has_is_refused(library, stride):
    with pytest.raises(ConfigError, match=rf"output_stride: {stride}\..*8, 16, 32"):
        build_classifier(library, "resnet18", "none", 3, stride)
