"""Pixel-adaptive refinement against a loop over pixels in double precision."""

import math

import numpy as np
import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.par import PixelAdaptiveRefinement

IMAGE = np.random.default_rng(0).integers(0, 255, (7, 9, 3)).astype(np.uint8)


def probabilities(labels=2, size=(7, 9), random_seed=0):
    planes = np.random.default_rng(random_seed).random((labels, *size)).astype(np.float32)
    return planes / planes.sum(0)


def clamped(row, column, size):
    return min(max(row, 0), size[0] - 1), min(max(column, 0), size[1] - 1)


def by_hand(image, planes, dilations, iterations, w1, w2):
    """The formulas of the paper, pixel by pixel, in double precision."""
    size = image.shape[:2]
    steps = [
        (d * i, d * j)
        for d in dilations
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (i, j) != (0, 0)
    ]
    distances = np.array([math.hypot(*step) for step in steps])
    position = np.exp(-((distances / (w1 * np.std(distances, ddof=1))) ** 2))
    colours, planes = image.astype(np.float64), planes.astype(np.float64)
    for _ in range(iterations):
        refined = np.zeros_like(planes)
        for row in range(size[0]):
            for column in range(size[1]):
                places = [clamped(row + i, column + j, size) for i, j in steps]
                around = np.array([colours[place] for place in places])
                width = w1 * (np.std(around, axis=0, ddof=1) + 1e-8)
                alike = np.exp(-(((around - colours[row, column]) / width) ** 2).mean(1))
                weights = alike / alike.sum() + w2 * position / position.sum()
                for weight, place in zip(weights / (1 + w2), places, strict=True):
                    refined[:, row, column] += weight * planes[:, place[0], place[1]]
        planes = refined
    return planes


@pytest.mark.parametrize(
    ("dilations", "iterations", "w1", "w2"),
    [
        pytest.param((1,), 1, 0.3, 0.01, id="one-step"),
        pytest.param((1, 2, 4, 8, 12, 24), 3, 0.3, 0.01, id="beyond-the-border"),
        pytest.param((1, 3), 2, 0.8, 0.5, id="much-position"),
        pytest.param((2, 1), 2, 0.5, 0.0, id="colour-only"),
    ],
)
def test_equals_the_loop(dilations, iterations, w1, w2):
    refine = PixelAdaptiveRefinement(dilations, iterations, w1, w2)

    refined = refine(IMAGE, [probabilities(3)])[0]

    expected = by_hand(IMAGE, probabilities(3), dilations, iterations, w1, w2)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, expected, atol=1e-5)


def test_the_defaults_are_those_of_the_paper():
    refined = PixelAdaptiveRefinement()(IMAGE, [probabilities()])[0]

    expected = PixelAdaptiveRefinement((1, 2, 4, 8, 12, 24), 10, 0.3, 0.01)
    np.testing.assert_array_equal(refined, expected(IMAGE, [probabilities()])[0])


def test_noise_is_removed_and_the_edge_kept():
    image = np.full((30, 40, 3), (200, 60, 40), dtype=np.uint8)
    image[:, 20:] = (40, 90, 180)
    truth = (np.arange(40) >= 20) * np.ones((30, 1), dtype=int)
    flipped = np.random.default_rng(0).random((30, 40)) < 0.2
    noisy = np.where(flipped, 1 - truth, truth)
    planes = np.where(np.arange(2)[:, None, None] == noisy, 0.9, 0.1).astype(np.float32)

    refined = PixelAdaptiveRefinement()(image, [planes])[0]

    np.testing.assert_array_equal(refined.argmax(0), truth)


def test_each_array_is_refined_by_itself():
    planes = [probabilities(2, random_seed=1), probabilities(4), probabilities(1)]
    refine = PixelAdaptiveRefinement(iterations=2)

    together = refine(IMAGE, planes)

    for result, plane in zip(together, planes, strict=True):
        np.testing.assert_allclose(result, refine(IMAGE, [plane])[0], atol=1e-6)


def test_sums_are_kept():
    refined = PixelAdaptiveRefinement(iterations=20)(IMAGE, [probabilities(4)])[0]

    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)


def test_no_iterations_change_nothing():
    refined = PixelAdaptiveRefinement(iterations=0)(IMAGE, [probabilities()])[0]

    np.testing.assert_array_equal(refined, probabilities())


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 1)])
def test_tiny_and_flat_images(size):
    planes = np.full((2, *size), 0.5, np.float32)

    refined = PixelAdaptiveRefinement()(np.full((*size, 3), 9, np.uint8), [planes])[0]

    np.testing.assert_allclose(refined, 0.5, atol=1e-6)


def test_inputs_are_left_alone():
    image, planes = IMAGE.copy(), probabilities()
    image.setflags(write=False)
    planes.setflags(write=False)

    PixelAdaptiveRefinement(iterations=1)(image, [planes])

    np.testing.assert_array_equal(planes, probabilities())


def test_no_probabilities_give_no_probabilities():
    assert PixelAdaptiveRefinement()(IMAGE, []) == []


@pytest.mark.parametrize(
    ("image", "planes", "message"),
    [
        pytest.param(
            IMAGE, probabilities(2, (9, 7)), r"probabilities\[0\] is \(2, 9, 7\)", id="size"
        ),
        pytest.param(IMAGE / 255, probabilities(), r"image is float64 \(7, 9, 3\)", id="float"),
        pytest.param(IMAGE[..., 0], probabilities(), r"image is uint8 \(7, 9\)", id="grey"),
    ],
)
def test_refuses(image, planes, message):
    with pytest.raises(DataError, match=message):
        PixelAdaptiveRefinement()(image, [planes])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"dilations": ()}, r"dilations is \[\]", id="none"),
        pytest.param({"dilations": (1, 0)}, r"dilations is \[1, 0\]", id="zero"),
        pytest.param({"iterations": -1}, "iterations is -1", id="iterations"),
        pytest.param({"w1": 0}, "w1 is 0", id="w1"),
        pytest.param({"w2": math.nan}, "w2 is nan", id="w2"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ConfigError, match=message):
        PixelAdaptiveRefinement(**options)
