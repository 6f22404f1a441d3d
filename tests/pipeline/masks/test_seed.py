import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.seed import (
    PLANES,
    compete,
    confident,
    label_image,
    normalise,
    with_background,
)

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


def test_an_image_without_classes_is_background_everywhere():
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
@given(RAW_MAPS, st.floats(0.01, 0.99), st.sampled_from(PLANES))
def test_probabilities_sum_to_one(maps, background, plane):
    probabilities = with_background(normalise(maps), background, plane)

    assert probabilities.dtype == np.float32
    assert len(probabilities) == len(maps) + 1
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)


@settings(deadline=None)
@given(RAW_MAPS, st.sampled_from([0.1, 0.25, 0.3, 0.9]), st.sampled_from(PLANES))
def test_label_is_the_strongest_class_above_background(maps, background, plane):
    maps = normalise(maps)
    classes = [3 * k + 1 for k in range(len(maps))]

    labels = label_image(with_background(maps, background, plane), classes).astype(int)

    strongest = maps.max(axis=0)
    clear = np.abs(strongest - background) > 1e-6  # rounding decides ties
    np.testing.assert_array_equal((labels > 0)[clear], (strongest > background)[clear])
    chosen = np.take_along_axis(maps, np.maximum(labels - 2, 0)[None] // 3, axis=0)[0]
    np.testing.assert_allclose(chosen[labels > 0], strongest[labels > 0], rtol=1e-5)


@pytest.mark.parametrize(("background", "alpha"), [(0.5, 1), (0.381966, 2), (0.275508, 4)])
def test_the_power_plane_by_its_formula(background, alpha):
    maps = normalise(np.random.default_rng(0).random((2, 4, 5)))

    probabilities = with_background(maps, background, "power")

    plane = (1 - maps.max(0)) ** alpha
    np.testing.assert_allclose(probabilities[0], plane / (plane + maps.sum(0)), atol=1e-5)


def test_the_power_plane_leaves_no_background_at_a_maximum():
    maps = np.array([[[1.0, 0.0]]], np.float32)

    np.testing.assert_array_equal(with_background(maps, 0.5, "power"), [[[0, 1]], [[1, 0]]])
    assert with_background(maps, 0.5)[0, 0, 0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("background", [0, -0.1, 1.2, np.nan])
def test_background_must_be_a_share(background, plane):
    with pytest.raises(ConfigError, match="background is"):
        with_background(np.ones((1, 2, 2)), background, plane)


def test_a_background_of_one_needs_the_constant_plane():
    assert (with_background(np.ones((1, 2, 2)), 1.0) == 0.5).all()
    with pytest.raises(ConfigError, match=r"background is 1\.0 with a power plane"):
        with_background(np.ones((1, 2, 2)), 1.0, "power")


def test_an_unknown_plane_is_named():
    with pytest.raises(ConfigError, match=r"plane is 'powr', .* Choose constant or power\.$"):
        with_background(np.ones((1, 2, 2)), 0.3, "powr")


@pytest.mark.parametrize("value", [-0.5, 7.0])
def test_background_needs_normalised_maps(value):
    with pytest.raises(DataError, match="normalise first"):
        with_background(np.full((1, 2, 2), value), 0.3)


@pytest.mark.parametrize("plane", PLANES)
def test_maps_of_half_precision_are_accepted(plane):
    probabilities = with_background(np.full((1, 2, 2), 1.0000002, np.float32), 0.3, plane)

    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_ties_go_to_the_background():
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


def test_competition_against_a_loop_over_pixels():
    generator = np.random.default_rng(0)
    maps = normalise(generator.random((3, 4, 5)))
    logits = generator.normal(size=(3, 4, 5)) * 5

    rest = compete(maps, logits, temperature=2.5)

    assert rest.dtype == np.float32
    for row in range(4):
        for column in range(5):
            powers = [math.exp(logit / 2.5) for logit in logits[:, row, column]]
            shares = [min(1.0, 3 * power / sum(powers)) for power in powers]
            expected = maps[:, row, column] * shares
            np.testing.assert_allclose(rest[:, row, column], expected, rtol=1e-5)


def test_coarse_logits_are_resized_to_the_maps():
    maps = np.ones((2, 2, 8), np.float32)
    logits = np.array([[[9.0, -9.0]], [[0.0, 0.0]]])

    rest = compete(maps, logits, temperature=1)

    np.testing.assert_allclose(rest[:, :, 0], [[1, 1], [0, 0]], atol=1e-3)
    np.testing.assert_allclose(rest[:, :, 7], [[0, 0], [1, 1]], atol=1e-3)


@settings(deadline=None)
@given(RAW_MAPS, st.integers(0, 2**16), st.floats(0.01, 100))
def test_competition_never_raises_a_map_and_keeps_the_best_class(maps, random_seed, temperature):
    maps = normalise(maps)
    logits = np.random.default_rng(random_seed).normal(size=maps.shape) * 10

    rest = compete(maps, logits, temperature)

    assert np.isfinite(rest).all()
    assert (rest <= maps).all()
    best = logits.argmax(0)[None]
    kept, had = (np.take_along_axis(values, best, 0) for values in (rest, maps))
    np.testing.assert_allclose(kept, had, rtol=1e-5)


@pytest.mark.parametrize("classes", [0, 1])
def test_a_single_map_is_returned_unchanged(classes):
    maps = np.full((classes, 2, 3), 0.5, np.float32)

    rest = compete(maps, np.full((classes, 1, 1), -50.0), temperature=3)

    np.testing.assert_array_equal(rest, maps)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_competition_refuses_temperatures(temperature):
    with pytest.raises(ConfigError, match="compete: temperature is"):
        compete(np.ones((2, 1, 1)), np.ones((2, 1, 1)), temperature)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        pytest.param(np.ones((3, 1, 1)), r"\(2, 1, 1\) but logits is \(3, 1, 1\)", id="number"),
        pytest.param(np.ones((2, 1)), r"logits is \(2, 1\)", id="planes"),
        pytest.param(np.full((2, 1, 1), np.nan), "NaN or infinite", id="nan"),
    ],
)
def test_competition_refuses_logits(logits, message):
    with pytest.raises(DataError, match=message):
        compete(np.ones((2, 1, 1)), logits, temperature=3)
