"""Means and deviations: the record of the library, what a person gives, what a checkpoint keeps."""

import pytest
import torch

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.base.errors import ConfigError
from pipeline.networks.colours import IMAGENET, Colours, colours_of, with_colours
from tsgb.explain.classifier import library_classifier

HALF = Colours((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = Colours((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DPN = Colours((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)


def classifier(library, backbone, **settings):
    return ClassifierConfig(library=library, backbone=backbone, **settings)


def segmenter(encoder, **settings):
    return SegmenterConfig(encoder=encoder, **settings)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (classifier("torchvision", "mobilenet_v2"), IMAGENET),
        (classifier("torchvision", "inception_v3"), IMAGENET),  # it converts them itself
        (classifier("timm", "tf_efficientnet_lite0"), HALF),
        (classifier("timm", "tf_efficientnet_lite0.in1k"), HALF),
        (classifier("timm", "resnet50_clip.openai"), CLIP),
        (classifier("timm", "test_resnet"), IMAGENET),  # of the built-in recipe, from noise
        (classifier("timm", "test_resnet", weights="download"), HALF),
        (segmenter("tu-test_resnet"), IMAGENET),
        (segmenter("resnet50"), IMAGENET),
        (segmenter("mobilenet_v2"), IMAGENET),
        (segmenter("tu-tf_efficientnet_lite0"), HALF),
        (segmenter("timm-tf_efficientnet_lite0"), HALF),
        (segmenter("xception"), HALF),
        (segmenter("inceptionv4"), HALF),
        (segmenter("dpn68"), DPN),
    ],
)
def test_the_librarys_record_is_taken(config, expected):
    assert colours_of(with_colours(config)) == expected


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_training_and_explanation_of_a_library_network_see_the_same_colours(name):
    explained = library_classifier("timm", name, "none").preprocessing

    own = with_colours(classifier("timm", name))

    assert (own.mean, own.deviation) == (list(explained.mean), list(explained.deviation))


def test_what_is_given_counts_more_than_the_record():
    given = with_colours(classifier("timm", "tf_efficientnet_lite0", mean=[0.1, 0.2, 0.3]))

    assert (given.mean, given.deviation) == ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("weights", "expected"), [("classifier", HALF), ("none", IMAGENET), ("a.pth", IMAGENET)]
)
def test_an_encoder_that_starts_from_the_classifier_sees_its_colours(weights, expected):
    start = classifier("timm", "tf_efficientnet_lite0")

    assert colours_of(with_colours(segmenter("resnet18", weights=weights), start)) == expected


@pytest.mark.parametrize("name", ["mean", "deviation"])
def test_values_of_another_number_of_channels_are_refused(name):
    with pytest.raises(ConfigError, match=rf"segmenter\.{name}: \[0\.5\]\. Give three numbers"):
        with_colours(segmenter("resnet18", **{name: [0.5]}))


def test_normalisation_by_hand():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)

    values = Colours((0.5, 0.2, 0.0), (0.5, 0.1, 0.25)).normalise(images)

    torch.testing.assert_close(values.flatten(), torch.tensor([-1.0, 0.0, 4.0]))
