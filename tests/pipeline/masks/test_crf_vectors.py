import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pipeline.masks.crf.vectors import (
    all_max,
    all_sum,
    exp,
    load,
    maximum,
    minimum,
    rint,
    row_shape,
    spread,
    store,
    where_equal,
    where_greater,
)


@njit
def apply_all(x, y, out, shape):
    """One result after the other in ``out``, one row each."""
    size = len(shape) * len(shape[0])
    a, b = load(x, 0, shape), load(y, 0, shape)
    store(out, 0 * size, a + b)
    store(out, 1 * size, a - b)
    store(out, 2 * size, a * b)
    store(out, 3 * size, a / b)
    store(out, 4 * size, maximum(a, b))
    store(out, 5 * size, minimum(a, b))
    store(out, 6 * size, all_max(a))
    store(out, 7 * size, all_sum(a))
    store(out, 8 * size, rint(a))
    store(out, 9 * size, where_greater(a, b, spread(np.float32(3), a)))
    store(out, 10 * size, where_equal(a, rint(a), b))


@pytest.mark.parametrize("channels", [1, 4, 5, 8, 21])
def test_operations_act_lane_by_lane(channels):
    shape = row_shape(channels)
    size = len(shape) * len(shape[0])
    generator = np.random.default_rng(0)
    x, y = (3 * generator.normal(size=(2, size))).astype(np.float32)
    x[0], x[1] = 2, 2.5  # a whole number, and half of the way: to the even one
    out = np.zeros((11, size), np.float32)

    apply_all(x, y, out, shape)

    ones = np.ones(size, np.float32)
    expected = [x + y, x - y, x * y, x / y, np.maximum(x, y), np.minimum(x, y)]
    expected += [x.max() * ones, x.sum() * ones, np.rint(x), 3 * (x > y), y * (x == np.rint(x))]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@njit
def exponential(x, out, shape):
    store(out, 0, exp(load(x, 0, shape)))


@settings(deadline=None)  # the first example is compiled
@given(st.lists(st.floats(-63, 80, width=32), min_size=8, max_size=8))
def test_exponential(values):
    x, out = np.array(values, np.float32), np.zeros(8, np.float32)

    exponential(x, out, row_shape(8))

    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=3e-7)


def test_exponential_of_what_is_far_below_zero_is_zero():
    out = np.ones(4, np.float32)

    exponential(np.array([-64.1, -1e30, -np.inf, 0], np.float32), out, row_shape(4))

    np.testing.assert_array_equal(out, [0, 0, 0, 1])


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (4, 4), (5, 8), (9, 16), (21, 24)])
def test_a_row_holds_its_channels(channels, size):
    shape = row_shape(channels)

    assert len(shape) * len(shape[0]) == size
