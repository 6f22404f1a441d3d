"""Networks of a library with their class names and their preprocessing."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from tsgb.explain.classifier import Classifier, ClassifierError, Preprocessing, library_classifier

HALF = Preprocessing(8, 8, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), "bilinear")


@pytest.fixture
def image():
    return Image.effect_noise((100, 80), 50).convert("RGB")


def test_cropping_is_the_preprocessing_of_timm(image):
    ours = library_classifier("timm", "mobilenetv3_small_050", "none").preprocessing
    network = timm.create_model("mobilenetv3_small_050")
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(network))

    pixels = ours.tensor(ours.view(image, crop=True))

    torch.testing.assert_close(pixels[0], theirs(image))


def test_cropping_is_the_preprocessing_of_torchvision(image):
    ours = library_classifier("torchvision", "efficientnet_b1", "none").preprocessing
    theirs = torchvision.models.EfficientNet_B1_Weights.DEFAULT.transforms()

    pixels = ours.tensor(ours.view(image, crop=True))

    assert pixels.shape == (1, 3, 240, 240)
    torch.testing.assert_close(pixels[0], theirs(image))


def test_without_cropping_the_whole_image_is_seen(image):
    assert HALF.view(image).shape == (8, 10, 3)
    assert HALF.view(image, 16).shape == (16, 20, 3)


def test_normalising_by_hand():
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)

    assert HALF.normalise(pixels).flatten().tolist() == pytest.approx([-1.0, 3.0, 0.2])


def test_the_names_are_those_of_the_library():
    classifier = library_classifier("timm", "test_resnet", "none")

    assert classifier.name == "timm/test_resnet (random weights)"
    assert classifier.classes[281] == "tabby"
    assert not classifier.network.training


def test_indices_take_the_place_of_unknown_names():
    assert Classifier("x", nn.Identity(), [], HALF).class_names(3) == ["0", "1", "2"]
    assert Classifier("x", nn.Identity(), ["a", "b"], HALF).class_names(2) == ["a", "b"]


def test_networks_that_cannot_take_an_image_are_named():
    classifier = library_classifier("torchvision", "vit_b_32", "none")

    with pytest.raises(ClassifierError, match=r"vit_b_32 .* cannot take an image of 80 x 64 px"):
        classifier.logits(torch.zeros(1, 3, 64, 80))


def test_networks_without_logits_are_named():
    classifier = Classifier("segmenter", nn.Conv2d(3, 5, 1), [], HALF)

    with pytest.raises(ClassifierError, match=r"^segmenter does not return logits"):
        classifier.logits(torch.zeros(1, 3, 4, 4))


def test_logits_have_no_graph():
    classifier = Classifier("flat", nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), [], HALF)
    pixels = classifier.preprocessing.tensor(np.zeros((2, 2, 3), np.uint8))

    assert not classifier.logits(pixels).requires_grad
