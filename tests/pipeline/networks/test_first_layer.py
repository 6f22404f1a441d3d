"""Pretrained first layers for other numbers of channels: one rule, whoever applies it."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.base.errors import ConfigError
from pipeline.data.bands import Bands
from pipeline.networks.backbones import build_classifier
from pipeline.networks.first_layer import adapted, with_channels
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask


def bands(channels):
    return Bands(channels, (0, 0, 0), "uint16", (500.0,) * channels, (90.0,) * channels)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 8])
def test_the_rule_is_that_of_segmentation_models_pytorch(channels):
    """Its encoders and the classifier's weights must agree, since one starts from the other."""
    theirs = smp.encoders.get_encoder("resnet18", weights=None)
    first = with_channels(theirs, channels, trained=True).conv1.weight

    smp.encoders._utils.patch_first_conv(theirs, channels, pretrained=True)

    torch.testing.assert_close(first, theirs.conv1.weight)


@pytest.mark.parametrize("channels", [1, 6])
def test_a_grey_image_gives_the_outputs_that_it_gave(channels):
    network = timm.create_model("test_resnet", num_classes=2).eval()
    grey = torch.rand(1, 1, 64, 64)

    wide = with_channels(network, channels, trained=True)

    torch.testing.assert_close(
        wide(grey.expand(-1, channels, -1, -1)), network(grey.expand(-1, 3, -1, -1))
    )
    assert network.conv1[0].in_channels == 3


@pytest.mark.parametrize(
    ("library", "name"),
    [("timm", "test_resnet"), ("torchvision", "mobilenet_v2"), ("torchvision", "resnet18")],
)
def test_classifiers_of_both_libraries_take_five_channels(library, name):
    network = build_classifier(library, name, "none", 2, 5).eval()

    assert network(torch.rand(1, 5, 64, 64)).shape == (1, 2)


def test_weights_of_a_file_are_those_of_three_channels(tmp_path):
    trained = timm.create_model("test_resnet")
    torch.save(trained.state_dict(), tmp_path / "weights.pth")

    network = build_classifier("timm", "test_resnet", str(tmp_path / "weights.pth"), 2, 4)

    expected = with_channels(trained, 4, trained=True).conv1[0].weight
    torch.testing.assert_close(network.backbone.conv1[0].weight, expected)


def test_random_layers_do_not_repeat():
    weight = with_channels(nn.Sequential(nn.Conv2d(3, 4, 3)), 6, trained=False)[0].weight

    assert not torch.equal(weight[:, :3], weight[:, 3:])


def test_a_network_that_does_not_begin_with_three_channels_is_refused():
    with pytest.raises(ConfigError, match="does not begin with a convolution of three channels"):
        with_channels(nn.Sequential(nn.Linear(3, 1)), 4, trained=True)


def test_the_encoder_goes_on_from_the_classifier_and_from_photos():
    classes, four = ("cat",), bands(4)
    settings = ClassifierConfig(library="timm", backbone="test_resnet")
    classifier = ClassifierTask.from_config(settings, classes, four)
    photos = ClassifierTask.from_config(settings, classes)
    segmenter = SegmenterTask.from_config(SegmenterConfig(encoder="tu-test_resnet"), classes, four)
    first = segmenter.encoder.model.conv1[0]

    segmenter.load_encoder(classifier.network.state_dict(), "classifier")
    assert torch.equal(first.weight, classifier.network.backbone.conv1[0].weight)

    segmenter.load_encoder(photos.network.state_dict(), "a file of weights")
    kept = with_channels(photos.network.backbone, 4, trained=True).conv1[0].weight
    torch.testing.assert_close(first.weight, kept)


def test_other_tensors_are_left_alone():
    inner = nn.Conv2d(8, 4, 1).state_dict()

    assert adapted(inner, inner, 8)["weight"] is inner["weight"]
