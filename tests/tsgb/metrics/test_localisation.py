import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsgb.errors import NonFiniteError, ShapeError
from tsgb.metrics import (
    ClassMean,
    boxes_to_mask,
    energy_pointing_game,
    iou_at_threshold,
    pointing_game,
)

SCORES = pytest.mark.parametrize(
    "score",
    [
        pointing_game,
        energy_pointing_game,
        pytest.param(lambda maps, mask: iou_at_threshold(maps, mask, 0.3), id="iou_at_threshold"),
    ],
)
CASES = given(seed=st.integers(0, 10**6), height=st.integers(1, 9), width=st.integers(1, 9))
FEW = settings(max_examples=25, deadline=None)


def random_pair(seed, height=6, width=8, batch=3):
    generator = torch.Generator().manual_seed(seed)
    saliency = torch.randn(batch, height, width, generator=generator).mul(2).round()  # with ties
    return saliency, torch.rand(batch, height, width, generator=generator) < 0.3


def peak_and_object(point, pixel, size=(30, 30)):
    saliency, mask = torch.zeros(1, *size), torch.zeros(1, *size, dtype=torch.bool)
    saliency[0][point], mask[0][pixel] = 1.0, True
    return saliency, mask


@pytest.mark.parametrize(
    ("pixel", "hit"),
    [
        pytest.param((2, 3), True, id="on-the-object"),
        pytest.param((2, 17), True, id="14-away"),
        pytest.param((2, 18), False, id="15-away-is-too-far"),
        pytest.param((11, 14), True, id="9-and-11-away"),
        pytest.param((11, 15), False, id="9-and-12-away-are-15"),
    ],
)
def test_pointing_game_at_the_published_tolerance(pixel, hit):
    assert pointing_game(*peak_and_object((2, 3), pixel)).tolist() == [hit]


def test_pointing_game_at_other_tolerances():
    saliency, mask = peak_and_object((5, 5), (5, 7))

    hits = [pointing_game(saliency, mask, tolerance).item() for tolerance in (0.1, 1, 2, 2.01, 99)]

    assert hits == [False, False, False, True, True]


def test_pointing_game_takes_the_first_of_several_highest_points():
    saliency, mask = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2, dtype=torch.bool)
    saliency[0, 0, 1] = saliency[0, 1, 0] = 4.0
    mask[0, 0, 1] = mask[1, 0, 0] = True  # the second map is constant

    assert pointing_game(saliency, mask, tolerance=1).all()
    assert not pointing_game(saliency, ~mask, tolerance=1).any()


@CASES
@FEW
def test_pointing_game_against_a_loop(seed, height, width):
    saliency, mask = random_pair(seed, height, width)

    for tolerance in (1.0, 2.0, 3.5):
        expected = []
        for values, inside in zip(saliency.numpy(), mask.numpy(), strict=True):
            row, column = np.unravel_index(values.argmax(), values.shape)
            near = [np.hypot(y - row, x - column) < tolerance for y, x in np.argwhere(inside)]
            expected.append(any(near))
        assert pointing_game(saliency, mask, tolerance).tolist() == expected


@pytest.mark.parametrize(
    ("saliency", "mask", "expected"),
    [
        pytest.param([[1.0, 1.0]], [[True, True]], 1.0, id="all-inside"),
        pytest.param([[1.0, 3.0]], [[False, True]], 0.75, id="three-quarters"),
        pytest.param([[-2.0, 1.0]], [[True, True]], 1.0, id="negative-counts-as-zero"),
        pytest.param([[0.0, 0.0]], [[True, False]], 0.0, id="empty-map"),
        pytest.param([[-1.0, -2.0]], [[True, False]], 0.0, id="negative-map"),
        pytest.param([[1.0, 2.0]], [[False, False]], 0.0, id="empty-mask"),
        pytest.param([[3e38, 3e38]], [[True, False]], 0.5, id="sums-beyond-the-largest-float"),
        pytest.param([[1e-42, 3e-42]], [[True, False]], 0.25, id="tiny"),
    ],
)
def test_energy_pointing_game_by_hand(saliency, mask, expected):
    score = energy_pointing_game(torch.tensor([saliency]), torch.tensor([mask]))

    torch.testing.assert_close(score, torch.tensor([expected]), rtol=1e-3, atol=0.0)


@CASES
@FEW
def test_energy_inside_and_outside_add_up(seed, height, width):
    saliency, mask = random_pair(seed, height, width)

    inside, outside = energy_pointing_game(saliency, mask), energy_pointing_game(saliency, ~mask)

    assert ((inside >= 0) & (inside <= 1)).all()
    something = (saliency > 0).flatten(1).any(1).float()
    torch.testing.assert_close(inside + outside, something)


@pytest.mark.parametrize(
    ("saliency", "mask", "threshold", "expected"),
    [
        pytest.param([[4.0, 2.0, 1.9]], [[True, True, False]], 0.5, 1.0, id="the-edge-is-inside"),
        pytest.param([[4.0, 2.0, 1.9]], [[True, False, True]], 0.5, 1 / 3, id="one-of-three"),
        pytest.param([[4.0, 2.0, 4.0]], [[True, False, True]], 1.0, 1.0, id="only-the-maximum"),
        pytest.param([[4.0, 2.0, 1.9]], [[False, False, False]], 0.5, 0.0, id="empty-mask"),
        pytest.param([[0.0, 0.0, -1.0]], [[True, True, True]], 0.5, 0.0, id="nothing-positive"),
        pytest.param([[0.0, 0.0, 0.0]], [[False, False, False]], 0.5, 0.0, id="both-empty"),
    ],
)
def test_iou_by_hand(saliency, mask, threshold, expected):
    score = iou_at_threshold(torch.tensor([saliency]), torch.tensor([mask]), threshold)

    torch.testing.assert_close(score, torch.tensor([expected]))


@CASES
@FEW
def test_iou_against_sets(seed, height, width):
    saliency, mask = random_pair(seed, height, width)

    expected = []
    for values, inside in zip(saliency.numpy(), mask.numpy(), strict=True):
        cut = 0.4 * values.max()
        found = {tuple(p) for p in np.argwhere(values >= cut)} if values.max() > 0 else set()
        wanted = {tuple(p) for p in np.argwhere(inside)}
        expected.append(len(found & wanted) / max(len(found | wanted), 1))
    torch.testing.assert_close(iou_at_threshold(saliency, mask, 0.4), torch.tensor(expected))


@SCORES
def test_scale_has_no_effect(score):
    saliency, mask = random_pair(1)

    torch.testing.assert_close(score(saliency * 1024, mask), score(saliency, mask))


@SCORES
def test_a_batch_equals_its_images(score):
    saliency, mask = random_pair(2)

    apart = [score(saliency[i : i + 1], mask[i : i + 1]) for i in range(3)]

    assert torch.equal(score(saliency, mask), torch.cat(apart))


@SCORES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_types_of_numbers(score, dtype):
    saliency, mask = random_pair(3)

    torch.testing.assert_close(
        score(saliency.to(dtype), mask), score(saliency, mask), check_dtype=False
    )


@SCORES
@pytest.mark.parametrize(
    ("saliency", "mask", "message"),
    [
        ((1, 4, 4), (1, 8, 8), r"saliency is (1, 4, 4) but mask is (1, 8, 8); both have"),
        ((4, 4), (4, 4), r"saliency is (4, 4) but mask is (4, 4); both have to be [B, H, W]"),
        ((1, 2, 4, 4), (1, 4, 4), r"one class at a time with maps[:, k]."),
        ((1, 0, 4), (1, 0, 4), r"saliency is (1, 0, 4) but mask is (1, 0, 4)"),
    ],
)
def test_shapes_are_named(score, saliency, mask, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        score(torch.rand(saliency), torch.ones(mask, dtype=torch.bool))


@SCORES
def test_masks_of_numbers_are_refused(score):
    saliency, mask = random_pair(4)

    with pytest.raises(ShapeError, match=r"mask has type torch\.uint8, expected torch\.bool"):
        score(saliency, mask.to(torch.uint8))


@SCORES
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_maps_that_are_not_finite(score, value):
    saliency, mask = random_pair(5)
    saliency[1, 2, 3] = value

    with pytest.raises(NonFiniteError, match=r"saliency holds NaN or infinity"):
        score(saliency, mask)


@pytest.mark.parametrize("tolerance", [0, -1.0, float("nan")])
def test_tolerances_that_nothing_meets(tolerance):
    with pytest.raises(ValueError, match=rf"^pointing_game: tolerance is {tolerance}\. No point"):
        pointing_game(*random_pair(6), tolerance)


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_thresholds_that_are_no_share(threshold):
    with pytest.raises(ValueError, match=rf"^iou_at_threshold: threshold is {threshold}\. It is"):
        iou_at_threshold(*random_pair(6), threshold)


def test_boxes_against_slices():
    boxes = torch.tensor([[0, 0, 2, 1], [1, 2, 5, 4], [3, 3, 3, 4], [-3, 4, 1, 99]])
    expected = torch.zeros(5, 7, dtype=torch.bool)
    expected[0:1, 0:2] = expected[2:4, 1:5] = expected[4:, :1] = True

    assert torch.equal(boxes_to_mask(boxes, 5, 7), expected)
    assert torch.equal(boxes_to_mask(boxes.float(), 5, 7), expected)


def test_no_boxes_give_an_empty_mask():
    mask = boxes_to_mask(torch.zeros(0, 4), 2, 3)

    assert mask.shape == (2, 3)
    assert not mask.any()


def test_boxes_of_the_wrong_shape():
    with pytest.raises(ShapeError, match=r"^boxes_to_mask: boxes are \(4,\), expected \(N, 4\)\."):
        boxes_to_mask(torch.zeros(4), 2, 3)


def test_classes_weigh_the_same_however_often_they_are_seen():
    score = ClassMean()
    score.update(torch.tensor([True, True, True, False]), torch.tensor([0, 0, 0, 0]))
    score.update(torch.tensor([[0.25, 1.0]]), torch.tensor([[5, -1]]))

    mean, per_class = score.compute()

    assert per_class == {0: 0.75, 5: 0.25}
    assert mean == 0.5


def test_the_mean_of_no_class_is_an_error():
    score = ClassMean()
    score.update(torch.tensor([1.0]), torch.tensor([-1]))

    with pytest.raises(ValueError, match=r"^ClassMean: no score was added\."):
        score.compute()


def test_each_score_needs_its_class():
    with pytest.raises(ShapeError, match=r"^ClassMean: values is \(3,\) but classes is \(3, 1\)"):
        ClassMean().update(torch.ones(3), torch.ones(3, 1, dtype=torch.int64))


@SCORES
@pytest.mark.gpu
def test_cuda_equals_cpu(score):
    saliency, mask = random_pair(7)

    found = score(saliency.cuda(), mask.cuda())

    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), score(saliency, mask))
