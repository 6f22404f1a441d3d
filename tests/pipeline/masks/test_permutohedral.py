import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.masks import permutohedral
from pipeline.masks.permutohedral import PermutohedralLattice


def points(count=200, dimensions=2, spread=3.0):
    generator = np.random.default_rng(0)
    return (spread * generator.random((count, dimensions))).astype(np.float32)


def exact_filter(features, signal):
    """The normalised Gaussian filter, pair by pair in double precision."""
    differences = features[:, None, :].astype(np.float64) - features[None, :, :]
    kernel = np.exp(-0.5 * (differences**2).sum(-1))
    norm = 1 / np.sqrt(kernel.sum(1, keepdims=True))
    return norm * (kernel @ (norm * signal))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_weights_are_barycentric(dimensions):
    features = points(dimensions=dimensions)

    simplices = permutohedral._enclosing_simplices(features)

    assert simplices.weights.min() >= -1e-6
    np.testing.assert_allclose(simplices.weights.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(simplices.base.sum(axis=0), 0)
    np.testing.assert_array_equal(simplices.base % (dimensions + 1), 0)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_corners_surround_the_point(dimensions):
    features = points(dimensions=dimensions)
    sides = dimensions + 1

    simplices = permutohedral._enclosing_simplices(features)

    elevated = permutohedral._elevate(features)
    rank = np.argsort(simplices.coordinate_of_rank, axis=0)
    corners = np.stack([simplices.base + r - sides * (rank > dimensions - r) for r in range(sides)])
    centre = (simplices.weights[:, None, :] * corners).sum(axis=0)
    np.testing.assert_allclose(centre, elevated, atol=1e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_near_the_exact_filter(dimensions, spread):
    features = points(300, dimensions, spread)
    signal = np.stack([features[:, 0], np.ones(300)], axis=1).astype(np.float32)

    filtered = PermutohedralLattice(features).filter(signal)

    exact = exact_filter(features, signal)
    error = np.abs(filtered - exact).mean() / np.abs(exact).mean()
    assert error < 0.05  # measured: 0.008 (one dimension) to 0.034 (five, wide)


def test_channels_do_not_mix():
    lattice = PermutohedralLattice(points())
    signal = np.random.default_rng(1).random((200, 3)).astype(np.float32)

    together = lattice.filter(signal)

    for channel in range(3):
        alone = lattice.filter(np.ascontiguousarray(signal[:, [channel]]))
        np.testing.assert_allclose(together[:, [channel]], alone, atol=1e-6)


def test_far_points_do_not_see_each_other():
    features = np.array([[0, 0], [500, 500]], dtype=np.float32)

    filtered = PermutohedralLattice(features).filter(np.eye(2, dtype=np.float32))

    np.testing.assert_allclose(filtered, np.eye(2), atol=1e-6)


def test_equal_points_share_their_vertices():
    lattice = PermutohedralLattice(np.ones((50, 2), dtype=np.float32))

    assert lattice.vertices == 3
    np.testing.assert_allclose(lattice.filter(np.ones((50, 1), dtype=np.float32)), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param(np.zeros((0, 2), np.float32), r"float32 \(0, 2\)", id="empty"),
        pytest.param(np.zeros((4, 2)), r"float64 \(4, 2\)", id="type"),
        pytest.param(np.zeros(4, np.float32), r"float32 \(4,\)", id="shape"),
        pytest.param(
            np.full((4, 2), np.nan, np.float32), r"8 values of features \(4, 2\)", id="nan"
        ),
        pytest.param(1e7 * np.eye(5, dtype=np.float32), "lattice units", id="range"),
    ],
)
def test_refuses(features, message):
    with pytest.raises(DataError, match=message):
        PermutohedralLattice(features)


def test_refuses_a_signal_of_other_points():
    with pytest.raises(DataError, match=r"signal is \(3, 1\) but the lattice holds 200 points"):
        PermutohedralLattice(points()).filter(np.zeros((3, 1), np.float32))
