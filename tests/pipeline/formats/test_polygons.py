"""Outlines of objects, and the pixels within them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference

from pipeline.formats.instances import instances
from pipeline.formats.polygons import checked, filled, outline, rings

PIXELS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 1]))
)


@settings(deadline=None)
@given(pixels=PIXELS)
def test_an_outline_holds_exactly_its_pixels(pixels):
    for one in instances(pixels):
        inside = filled(outline(one), pixels.shape)

        assert np.array_equal(inside, one.within(pixels.shape))


@settings(deadline=None)
@given(pixels=PIXELS)
def test_one_outline_and_one_ring_for_each_hole(pixels):
    for one in instances(pixels):
        ground = np.pad(~one.pixels, 1, constant_values=True).astype(np.uint8)
        holes = cv2.connectedComponents(ground, connectivity=4)[0] - 2  # without object, outside

        assert len(rings(one.pixels)) == 1 + holes


def test_corners_by_hand():
    pixels = np.array([[1, 0], [1, 1]], bool)

    found = rings(pixels)

    assert [ring.tolist() for ring in found] == [[[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]]]


def test_filled_counts_pixel_centres():
    triangle = np.array([[0, 0], [4, 0], [0, 4.0]])  # the centres on its edge are not inside

    assert filled(triangle, (4, 5)).astype(int).tolist() == [
        [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip


def test_filled_cuts_what_leaves_the_image():
    box = np.array([[-5, -5], [1, -5], [1, 50], [-5, 50.0]])

    assert filled(box, (2, 3)).astype(int).tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("numbers", [
    [0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 0, 1, 1, 0, float("nan")], [0, 0, 1, 1, 0, float("inf")],
    [0, 0, 1, 1, 0, 1e300], [], ["a"] * 6,
])  # fmt: skip
def test_what_is_no_polygon(numbers):
    with pytest.raises(ValueError, match=r"three corners|reshape|could not convert"):
        checked(numbers)


def ellipses(count=200, size=(375, 500), holes=True):
    """Objects as large as those of photos, every second one with a hole."""
    random = np.random.default_rng(0)
    for k in range(count):
        pixels = np.zeros(size, np.uint8)
        centre = tuple(int(x) for x in random.integers(100, 275, 2))
        axes = tuple(int(x) for x in random.integers(5, 90, 2))
        cv2.ellipse(pixels, centre, axes, int(random.integers(180)), 0, 360, 1, -1)
        if holes and k % 2:
            cv2.ellipse(pixels, centre, tuple(a // 3 for a in axes), 0, 0, 360, 0, -1)
        yield pixels


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def by_pycocotools(ring, shape):
    return reference.decode(reference.frPyObjects([ring.ravel().tolist()], *shape))[..., 0] > 0


def by_ultralytics(ring, shape):
    """Its rule: whole numbers, and the line itself is inside."""
    pixels = np.zeros(shape, np.uint8)
    cv2.fillPoly(pixels, [ring.astype(np.int32)], 1)
    return pixels > 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@pytest.mark.parametrize(
    ("fill", "mean", "lowest"),
    [
        pytest.param(filled, 1.0, 1.0, id="ours"),
        pytest.param(by_pycocotools, 1.0, 1.0, id="pycocotools"),
        pytest.param(by_ultralytics, 0.95, 0.80, id="ultralytics"),
    ],
)
def test_what_other_readers_lose(fill, mean, lowest):
    """The numbers that docs/masks.md states."""
    found = []
    for pixels in ellipses():
        one = next(instances(pixels))
        found.append(iou(fill(outline(one), pixels.shape), one.within(pixels.shape)))

    assert round(np.mean(found), 2) == mean
    assert round(np.min(found), 2) == lowest
