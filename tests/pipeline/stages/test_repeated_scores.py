"""Metrics that need more maps than that of the image."""

from pathlib import Path

import pytest
import torch

from pipeline.data.catalogue import Item
from pipeline.stages.repeated_scores import RepeatedMaps, mosaic_of


class Channels:
    """The map of class k is colour k of the image."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def attribute(self, images, targets):
        return self.gain * torch.stack([images[0, k] for k in targets[0]])[None]


def items(*labels):
    return [Item(str(k), Path(), tuple(found)) for k, found in enumerate(labels)]


def test_a_mosaic_shows_the_class_in_one_cell():
    images = [torch.zeros(1, 3, 4, 4) for _ in range(4)]
    images[2][0, 1] = 3.0
    images[0][0, 0] = images[2][0, 0] = 1.0

    scores = RepeatedMaps(Channels(), None, 0).in_mosaic(images, torch.tensor([1, 0]), 2)

    assert [round(score["grid_pointing_game"], 6) for score in scores] == [1.0, 0.5]


def test_neighbours_share_no_class():
    data = items([0, 5], [0], [1, 5], [1], [2], [1], [3])

    found, cell = mosaic_of(data, 0)

    assert ([item.id for item in found], cell) == (["0", "3", "4", "6"], 0)


def test_a_mosaic_needs_four_classes():
    assert mosaic_of(items([0], [1], [2], [0]), 0)[0] == []


def test_the_untrained_network_and_small_changes():
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 0])
    maps = Channels().attribute(pixels, targets[None])[0]

    scores = RepeatedMaps(Channels(), Channels(gain=0.0), 3).scores(pixels, maps, targets)

    for score, label in zip(scores, targets, strict=True):
        change = score["max_sensitivity"] * pixels[0, label].norm()
        assert change == pytest.approx((256 * 0.2**2 / 3) ** 0.5, rel=0.15)
        assert score["complexity_rise"] == -1.0  # a constant map has no entropy


def test_what_was_not_asked_for_is_absent():
    maps = torch.rand(2, 4, 4)

    assert RepeatedMaps(Channels(), None, 0).scores(maps[None], maps, torch.tensor([0, 1])) == [
        {}, {},
    ]  # fmt: skip
