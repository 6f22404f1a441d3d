import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.masks.crf.lattice import Lattice
from pipeline.masks.crf.simplices import enclose, number_grid
from pipeline.masks.crf.vertices import connect


def points(count=200, dimensions=2, spread=3.0):
    generator = np.random.default_rng(0)
    return (spread * generator.random((count, dimensions))).astype(np.float32)


def exact_filter(features, signal):
    """The normalised Gaussian filter, pair by pair in double precision."""
    differences = features[:, None, :].astype(np.float64) - features[None, :, :]
    kernel = np.exp(-0.5 * (differences**2).sum(-1))
    norm = 1 / np.sqrt(kernel.sum(1, keepdims=True))
    return norm * (kernel @ (norm * signal))


def enclosed(features):
    """The simplices of some points, and their vertices with d + 1 coordinates."""
    count, dimensions = features.shape
    axes = np.zeros((dimensions, -(-count // 16) * 16), np.float32)
    axes[:, :count] = features.T
    grid = number_grid(axes)
    simplex, weights, keys = enclose(axes, count, grid)
    coordinates = np.empty((*keys.shape, dimensions + 1), np.int64)
    rest = keys.copy()
    for axis in reversed(range(dimensions)):
        coordinates[..., axis] = rest // grid.strides[axis] + grid.lowest[axis]
        rest %= grid.strides[axis]
    coordinates[..., -1] = -coordinates[..., :-1].sum(-1)
    return coordinates[simplex], weights


def elevated(features):
    """Points on the plane ``sum = 0``, by the matrix of Adams et al., in double precision."""
    dimensions = features.shape[1]
    matrix = np.zeros((dimensions + 1, dimensions))
    for axis in range(dimensions):
        matrix[: axis + 1, axis] = 1
        matrix[axis + 1, axis] = -(axis + 1)
        matrix[:, axis] *= np.sqrt(2 / 3) * (dimensions + 1) / np.sqrt((axis + 1) * (axis + 2))
    return features.astype(np.float64) @ matrix.T


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 7])
def test_corners_surround_the_point(dimensions):
    features = points(dimensions=dimensions)

    corners, weights = enclosed(features)

    assert weights.min() >= -1e-6
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    centre = (weights[:, :, None] * corners).sum(axis=1)
    np.testing.assert_allclose(centre, elevated(features), atol=1e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_corners_are_vertices_of_one_simplex(dimensions):
    sides = dimensions + 1

    corners, _ = enclosed(points(dimensions=dimensions))

    for remainder in range(sides):
        assert (corners[:, remainder] % sides == remainder).all()
    steps = np.diff(corners, axis=1)
    assert (np.sort(steps, axis=2) == [1 - sides] + [1] * dimensions).all()


def test_a_point_on_a_vertex_has_all_its_weight_there():
    corners, weights = enclosed(np.zeros((1, 2), np.float32))

    np.testing.assert_array_equal(weights, [[1, 0, 0]])
    np.testing.assert_array_equal(corners[0, 0], 0)


def test_numbers_follow_the_order_of_appearance():
    keys = np.array([[50, 7, 50], [9, 7, 1000]])

    numbers, count, _ = connect(keys, np.array([3]))

    np.testing.assert_array_equal(numbers, [[0, 1, 0], [2, 1, 3]])
    assert count == 4


def test_lines_of_neighbours():
    keys = np.array([10, 20, 13, 16, 40])  # 10 - 13 - 16 along the first, 10 - 20 along the second

    _, _, chains = connect(keys, np.array([3, 10]))

    np.testing.assert_array_equal(chains, [~0, 2, 3, ~0, 1, -1])


def test_many_vertices_outgrow_the_first_table():
    keys = np.random.default_rng(0).permutation(100_000)

    numbers, count, chains = connect(keys, np.array([1]))

    assert count == len(keys)
    np.testing.assert_array_equal(numbers, np.arange(len(keys)))
    np.testing.assert_array_equal(keys[chains[1:-1]], np.arange(1, len(keys)))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_near_the_exact_filter(dimensions, spread):
    features = points(300, dimensions, spread)
    signal = np.stack([features[:, 0], np.ones(300)], axis=1).astype(np.float32)

    filtered = Lattice(features).filter(signal)

    exact = exact_filter(features, signal)
    error = np.abs(filtered - exact).mean() / np.abs(exact).mean()
    assert error < 0.05  # measured: 0.008 (one dimension) to 0.034 (five, wide)


def test_channels_are_filtered_separately():
    lattice = Lattice(points())
    signal = np.random.default_rng(1).random((200, 3)).astype(np.float32)

    together = lattice.filter(signal)

    for channel in range(3):
        alone = lattice.filter(signal[:, [channel]])
        np.testing.assert_array_equal(together[:, [channel]], alone)


def test_far_points_do_not_influence_each_other():
    features = np.array([[0, 0], [500, 500]], dtype=np.float32)

    filtered = Lattice(features).filter(np.eye(2, dtype=np.float32))

    np.testing.assert_allclose(filtered, np.eye(2), atol=1e-6)


def test_equal_points_share_their_vertices():
    lattice = Lattice(np.ones((52, 2), dtype=np.float32))

    assert (lattice.points, lattice.vertices) == (52, 3)
    np.testing.assert_allclose(lattice.filter(np.ones((52, 1), dtype=np.float32)), 1, atol=1e-5)


def test_the_last_group_of_four_is_padded_as_in_the_authors_program():
    far = np.full((8, 2), 50, dtype=np.float32)

    vertices = [Lattice(far[:count]).vertices for count in (4, 5, 8)]

    assert vertices == [3, 6, 3]


def test_layout_in_memory_does_not_matter():
    features = points(70, 5)
    signal = np.random.default_rng(0).random((70, 2)).astype(np.float32)

    expected = Lattice(features).filter(signal)

    features.setflags(write=False)
    np.testing.assert_array_equal(Lattice(np.asfortranarray(features)).filter(signal), expected)
    np.testing.assert_array_equal(Lattice(features).filter(np.asfortranarray(signal)), expected)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param(np.zeros((0, 2), np.float32), r"float32 \(0, 2\)", id="empty"),
        pytest.param(np.zeros((4, 2)), r"float64 \(4, 2\)", id="type"),
        pytest.param(np.zeros(4, np.float32), r"float32 \(4,\)", id="shape"),
        pytest.param(np.zeros((4, 15), np.float32), "at most 14 dimensions", id="dimensions"),
        pytest.param(
            np.full((4, 2), np.nan, np.float32), r"8 values of features \(4, 2\)", id="nan"
        ),
        pytest.param(1e7 * np.eye(5, dtype=np.float32), "lattice units", id="range"),
    ],
)
def test_refuses(features, message):
    with pytest.raises(DataError, match=message):
        Lattice(features)


@pytest.mark.parametrize("shape", [(199, 1), (200,), (1, 200)])
def test_refuses_a_signal_of_other_points(shape):
    with pytest.raises(DataError, match=r"signal is .* but the lattice has 200 points"):
        Lattice(points()).filter(np.zeros(shape, np.float32))
