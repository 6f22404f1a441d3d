import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.errors import ConfigError, DataError
from pipeline.masks.seed import confident, label_image, normalise, with_background

RAW_MAPS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@settings(deadline=None)
@given(RAW_MAPS)
def test_normalised_maps_are_shares(maps):
    shares = normalise(maps)

    assert shares.dtype == np.float32
    assert shares.min() >= 0
    highest = shares.max(axis=(1, 2))
    np.testing.assert_array_equal(highest, (maps.max(axis=(1, 2)) > 0).astype(np.float32))


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        pytest.param([[[-1.0, 2.0, 4.0]]], [[[0.0, 0.5, 1.0]]], id="negative-is-zero"),
        pytest.param([[[-1.0, 0.0]]], [[[0.0, 0.0]]], id="nothing-positive"),
        pytest.param([[[1e-30, 5e-31]]], [[[1.0, 0.5]]], id="tiny"),
        pytest.param([[[3.0, 0.0]], [[1.0, 2.0]]], [[[1, 0]], [[0.5, 1]]], id="own-maximum"),
    ],
)
def test_normalise_by_hand(maps, expected):
    np.testing.assert_allclose(normalise(np.array(maps, np.float32)), expected, rtol=1e-6)


def test_no_classes_is_background_everywhere():
    maps = normalise(np.zeros((0, 2, 3), np.float32))

    labels = label_image(with_background(maps, 0.3), classes=[])

    np.testing.assert_array_equal(labels, np.zeros((2, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_normalise_names_the_map_that_is_not_finite(value):
    maps = np.ones((3, 2, 2), np.float32)
    maps[1, 0, 1] = value

    with pytest.raises(DataError, match=r"maps\[1\] of \(3, 2, 2\) has 1 values"):
        normalise(maps)


def test_normalise_refuses_a_single_map():
    with pytest.raises(DataError, match=r"maps is \(2, 2\)"):
        normalise(np.ones((2, 2)))


@settings(deadline=None)
@given(RAW_MAPS, st.floats(0.01, 1.0))
def test_probabilities_sum_to_one(maps, background):
    probabilities = with_background(normalise(maps), background)

    assert probabilities.dtype == np.float32
    assert len(probabilities) == len(maps) + 1
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)


@settings(deadline=None)
@given(RAW_MAPS, st.sampled_from([0.1, 0.25, 0.3, 0.9]))
def test_label_is_the_strongest_class_above_background(maps, background):
    maps = normalise(maps)
    classes = [3 * k + 1 for k in range(len(maps))]

    labels = label_image(with_background(maps, background), classes).astype(int)

    strongest = maps.max(axis=0)
    clear = np.abs(strongest - background) > 1e-6  # rounding decides ties
    np.testing.assert_array_equal((labels > 0)[clear], (strongest > background)[clear])
    chosen = np.take_along_axis(maps, np.maximum(labels - 2, 0)[None] // 3, axis=0)[0]
    np.testing.assert_allclose(chosen[labels > 0], strongest[labels > 0], rtol=1e-5)


@pytest.mark.parametrize("background", [0, -0.1, 1.2, np.nan])
def test_background_must_be_a_share(background):
    with pytest.raises(ConfigError, match="background is"):
        with_background(np.ones((1, 2, 2)), background)


@pytest.mark.parametrize("value", [-0.5, 7.0])
def test_background_needs_normalised_maps(value):
    with pytest.raises(DataError, match="normalise first"):
        with_background(np.full((1, 2, 2), value), 0.3)


def test_maps_of_half_precision_are_accepted():
    with_background(np.full((1, 2, 2), 1.0000002, np.float32), 0.3)


def test_equals_go_to_the_background():
    probabilities = np.full((3, 1, 1), 1 / 3, np.float32)

    assert label_image(probabilities, [4, 7]) == 0


@pytest.mark.parametrize(
    ("planes", "classes", "message"),
    [
        pytest.param(2, [1, 2], r"probabilities is \(2, 1, 1\) for 2 classes", id="too-few-planes"),
        pytest.param(2, [-1], r"classes contains \[-1\]", id="negative"),
        pytest.param(2, [254], r"classes contains \[254\]", id="would-be-void"),
    ],
)
def test_label_image_refuses(planes, classes, message):
    with pytest.raises(DataError, match=message):
        label_image(np.zeros((planes, 1, 1), np.float32), classes)


def test_confident_by_hand():
    strict = np.array([[5, 0, 0, 5]], np.uint8)
    lenient = np.array([[5, 5, 0, 2]], np.uint8)

    mask = confident(strict, lenient)

    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, [[5, 255, 0, 5]])
    np.testing.assert_array_equal(strict, [[5, 0, 0, 5]])


def test_confident_names_both_shapes():
    with pytest.raises(DataError, match=r"strict is \(2, 3\) but lenient is \(3, 2\)"):
        confident(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
