"""Scores of maps: by hand on a few pixels, and means that can be checked in the head."""

import pytest
import torch

from pipeline.stages.map_scores import THRESHOLDS, Centre, Faithfulness, localisation, summarise


def square(size, top, left, side):
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_map_of_the_object_is_perfect_and_one_of_the_rest_is_not():
    mask = square(40, 2, 2, 10)
    maps = torch.stack([mask.float(), 1 - mask.float()])
    void = torch.zeros(40, 40, dtype=torch.bool)
    void[:25] |= ~mask[:25]  # the highest point of the second map is far away

    good, bad = localisation(maps, torch.stack([mask, mask]), void, 0.2)

    assert good["pointing_game"] == good["energy_pointing_game"] == good["iou"] == 1.0
    assert good["ious"] == [1.0] * len(THRESHOLDS)
    assert bad["energy_pointing_game"] == bad["iou"] == 0.0


def test_void_is_neither_object_nor_saliency():
    mask, void = square(8, 0, 0, 2), square(8, 4, 4, 4)
    saliency = mask.float() + 9 * void.float()

    (scores,) = localisation(saliency[None], mask[None], void, 0.2)

    assert scores["energy_pointing_game"] == 1.0
    assert scores["iou"] == 1.0


def test_small_maps_are_stretched_to_the_mask():
    mask = square(64, 32, 32, 32)
    saliency = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])

    (scores,) = localisation(saliency, mask[None], torch.zeros_like(mask), 0.5)

    assert scores["pointing_game"] == 1.0
    assert 0.5 < scores["iou"] < 1.0


def test_deletion_is_low_and_insertion_high_for_the_pixels_that_count():
    class Corner(torch.nn.Module):
        """Sees one pixel: its value is the logit of class 1."""

        def forward(self, images):
            return torch.stack([torch.zeros(len(images)), images[:, 0, 0, 0]], 1)

    pixels = torch.zeros(1, 3, 8, 8)
    pixels[0, 0, 0, 0] = 20.0
    right, wrong = torch.zeros(8, 8), torch.zeros(8, 8)
    right[0, 0] = wrong[7, 7] = 1.0
    wrong[0, 0] = -1.0

    judge = Faithfulness(Corner(), torch.sigmoid, steps=4)
    scores = judge.scores(pixels, torch.stack([right, wrong]), torch.tensor([1, 1]))

    # Four parts: gone after the first, and so on average (1 / 2 + 3.5 / 2) / 4 of the way.
    assert scores[0]["deletion"] == pytest.approx((0.5 + 3 * 0.5 + 0.25) / 4, abs=1e-3)
    assert scores[1]["deletion"] == pytest.approx((0.5 + 3 + 0.25) / 4, abs=1e-3)
    assert scores[0]["insertion"] > scores[1]["insertion"]


def test_the_centre_is_the_same_spot_for_every_class():
    maps = Centre(torch.nn.Identity()).attribute(torch.rand(2, 3, 9, 15), torch.zeros(2, 3).long())

    assert maps.shape == (2, 3, 9, 15)
    assert maps[1, 2].argmax() == 4 * 15 + 7
    assert (maps == maps[0, 0]).all()


def image(*pairs, **more):
    return {"pairs": [dict(pair) for pair in pairs], **more}


def test_means_over_pairs_and_over_classes():
    cat, dog = ({"class": name, "ious": [0.1, 0.3]} for name in ("cat", "dog"))
    summary = summarise(
        [
            image({**cat, "iou": 0.2}, {**dog, "iou": 1.0}, seconds=2.0, forward_seconds=1.0),
            image({**cat, "iou": 0.4}, seconds=6.0, forward_seconds=2.0, bytes=7, forward_bytes=1),
            image(),  # nothing in it was scored
        ],
        thresholds=(0.5, 0.7),
    )

    scores = summary["scores"]["iou"]
    assert (summary["images"], summary["pairs"]) == (2, 3)
    assert scores["mean"] == pytest.approx(1.6 / 3)
    assert scores["classes"] == {"cat": pytest.approx(0.3), "dog": 1.0}
    assert scores["class_mean"] == pytest.approx(0.65)
    assert scores["error"] == pytest.approx((0.52 / 3 / 3) ** 0.5, rel=1e-3)
    assert summary["oracle"] == {"threshold": 0.7, "iou": pytest.approx(0.3)}
    assert (summary["seconds"], summary["forwards"], summary["bytes"]) == (4.0, 2.5, 7)


def test_what_was_not_measured_is_absent():
    summary = summarise([image({"class": "cat"}, seconds=1.0, forward_seconds=1.0)])

    assert summary["scores"] == {}
    assert summary["oracle"] is None
    assert summary["bytes"] is None
