"""From an image and maps to one picture."""

import numpy as np
import pytest
import torch
from torch import nn

from tsgb import TargetError, draw
from tsgb.explain.classifier import Classifier, Preprocessing
from tsgb.explain.explanation import explain

PREPROCESSING = Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
VIEW = np.random.default_rng(0).integers(0, 256, (16, 130, 3), np.uint8)


class Biases(nn.Module):
    """Logits that do not depend on the image."""

    def forward(self, images):
        return torch.tensor([[0.0, 2.0, 1.0, -1.0]]).expand(len(images), -1)


def classifier(**options):
    return Classifier("biases", Biases().eval(), ["ant", "bee", "cow", "dog"], PREPROCESSING,
                      **options)  # fmt: skip


def panel(picture, row, column):
    """A picture of the grid, by the size of the view and the gaps of 8 px."""
    bottom = picture.shape[0] - 8 - (1 - row) * (8 + len(VIEW))
    left = 8 + column * (130 + 8)
    return picture[bottom - len(VIEW) : bottom, left : left + 130]


def test_the_maps_are_asked_for_once_and_drawn_beside_the_image():
    calls = []

    def attribute(images, targets):
        calls.append((images, targets.tolist()))
        return torch.arange(12.0).view(1, 2, 2, 3)

    found = explain(VIEW, classifier(), attribute, words=["cow", "ant"])

    ((images, targets),) = calls
    assert targets == [[2, 0]]
    torch.testing.assert_close(images, PREPROCESSING.tensor(VIEW))
    assert [(c.name, c.percent) for c in found.classes] == [("cow", "23.7 %"), ("ant", "8.7 %")]
    assert found.picture.shape[1] == 3 * (130 + 8) + 8
    first = torch.arange(6.0).view(2, 3)
    overlaid = draw.overlay(VIEW, first)
    np.testing.assert_array_equal(panel(found.picture, 1, 1), overlaid)
    bottom = found.picture.shape[0] - 8 - len(VIEW)
    above = found.picture[: bottom - 8, 146 : 146 + 130]
    coloured = draw.colours(first, size=VIEW.shape[:2])
    rows = [y for y in range(len(above) - 15) if np.array_equal(above[y : y + 16], coloured)]
    assert len(rows) == 1


def test_a_negative_value_makes_all_maps_signed():
    maps = torch.tensor([[[[1.0, 2.0]], [[-1.0, 3.0]]]])

    signed = explain(VIEW, classifier(), lambda *_: maps, words=["ant", "bee"]).picture
    unsigned = explain(VIEW, classifier(), lambda *_: maps.abs(), words=["ant", "bee"]).picture

    red, yellow = (110, 20, 20), (255, 252, 222)
    assert (signed == red).all(-1).any()
    assert not (unsigned == red).all(-1).any()
    assert (unsigned == yellow).all(-1).any()


def test_probabilities_are_those_of_the_classifier():
    def names_and_shares(**options):
        found = explain(VIEW, classifier(**options), lambda _, t: torch.ones(1, t.shape[1], 2, 2))
        return [str(chosen) for chosen in found.classes]

    assert names_and_shares() == ["bee [1] 64.4 %", "cow [2] 23.7 %", "ant [0] 8.7 %"]
    assert names_and_shares(probabilities=torch.sigmoid) == [
        "bee [1] 88.1 %", "cow [2] 73.1 %", "ant [0] 50.0 %",
    ]  # fmt: skip


def test_errors_of_the_method_come_through():
    def refuse(*_):
        raise TargetError("a reason")

    with pytest.raises(TargetError, match="a reason"):
        explain(VIEW, classifier(), refuse)
