"""The torch engine against a lattice of plain dictionaries, exact sums and the authors' program."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from pipeline.base.errors import DataError
from pipeline.masks.crf import torch_engine
from pipeline.masks.crf.normalization import NormalizationType as Norm
from pipeline.masks.crf.torch_engine import Lattice, mean_field

POTTS = 2 * np.eye(3, dtype=np.float32)
MATRIX = np.array([[-3, 1, 0], [1, -1, 0.5], [0, 0.5, -2]], dtype=np.float32)


def points(count=200, dimensions=2, spread=3.0, random_seed=0):
    generator = np.random.default_rng(random_seed)
    return (0.5 + spread * generator.random((count, dimensions))).astype(np.float32)


def noise(*shape, random_seed=0):
    return np.random.default_rng(random_seed).normal(0, 1, shape).astype(np.float32)


def corners_by_hand(feature):
    """Vertices around one point and its weight on each, in double precision."""
    dimensions = len(feature)
    sides = dimensions + 1
    scaled = feature * sides * math.sqrt(2 / 3)
    scaled = scaled / np.sqrt(np.arange(1, sides) * np.arange(2, sides + 1))
    elevated = np.zeros(sides)
    for axis in range(dimensions):
        elevated[: axis + 1] += scaled[axis]
        elevated[axis + 1] -= (axis + 1) * scaled[axis]
    base = sides * np.rint(elevated / sides).astype(int)
    excess = base.sum() // sides
    worst_first = np.argsort(elevated - base, kind="stable")
    if excess > 0:
        base[worst_first[:excess]] -= sides
    elif excess < 0:
        base[worst_first[excess:]] += sides
    falling = np.argsort(base - elevated, kind="stable")
    shares = np.append(((elevated - base) / sides)[falling], 0)
    shares[-1] = shares[0] - 1
    for r in range(sides):  # the corner of remainder r has moved up all but the r lowest
        corner = base + r
        corner[falling[sides - r :]] -= sides
        yield tuple(corner), shares[sides - r - 1] - shares[sides - r]


def filter_by_hand(features, signal, normalization=Norm.NORMALIZE_SYMMETRIC):
    """The filter with vertices in a dictionary, in double precision."""
    sides = features.shape[1] + 1
    around = [dict(corners_by_hand(feature)) for feature in features.astype(np.float64)]
    present = {corner for corners in around for corner in corners}
    if len(features) % 4:
        present |= {corner for corner, _ in corners_by_hand(np.zeros(features.shape[1]))}

    def smooth(channel):
        values = defaultdict(float)
        for corners, value in zip(around, channel, strict=True):
            for corner, weight in corners.items():
                values[corner] += weight * value
        for axis in range(sides):
            step = np.ones(sides, int) - sides * (np.arange(sides) == axis)
            values = {
                corner: values.get(corner, 0.0)
                + 0.5 * values.get(tuple(corner + step), 0.0)
                + 0.5 * values.get(tuple(corner - step), 0.0)
                for corner in present
            }
        return np.array([sum(w * values[c] for c, w in corners.items()) for corners in around])

    sums = smooth(np.ones(len(features)))
    before, after = {
        Norm.NO_NORMALIZATION: (1, 1 / (1 + 2.0 ** (1 - sides))),
        Norm.NORMALIZE_BEFORE: (1 / sums, 1),
        Norm.NORMALIZE_AFTER: (1, 1 / sums),
        Norm.NORMALIZE_SYMMETRIC: (sums**-0.5, sums**-0.5),
    }[normalization]
    return np.stack([after * smooth(before * channel) for channel in signal.T], axis=1)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [60, 61, 62])
@pytest.mark.parametrize("spread", [0.7, 6.0])
def test_equals_a_lattice_of_dictionaries(dimensions, count, spread):
    features, signal = points(count, dimensions, spread), noise(count, 2)

    filtered = Lattice(features).filter(signal)

    np.testing.assert_allclose(filtered, filter_by_hand(features, signal), atol=2e-6)


@pytest.mark.parametrize("normalization", Norm)
@pytest.mark.parametrize("dimensions", [2, 5])
def test_every_normalization_equals_a_lattice_of_dictionaries(normalization, dimensions):
    features, signal = points(62, dimensions, 2.0), noise(62, 2)

    filtered = Lattice(features, normalization=normalization).filter(signal)

    expected = filter_by_hand(features, signal, normalization)
    np.testing.assert_allclose(filtered, expected, rtol=1e-5, atol=2e-6)


def exact_kernel(features):
    """The normalised Gaussian of all pairs in double precision."""
    differences = features[:, None, :].astype(np.float64) - features[None, :, :]
    kernel = np.exp(-0.5 * (differences**2).sum(-1))
    norm = 1 / np.sqrt(kernel.sum(1))
    return norm[:, None] * kernel * norm


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_near_the_exact_filter(dimensions, spread):
    features = points(300, dimensions, spread)
    signal = np.stack([features[:, 0], np.ones(300)], axis=1).astype(np.float32)

    filtered = Lattice(features).filter(signal)

    exact = exact_kernel(features) @ signal
    assert np.abs(filtered - exact).mean() / np.abs(exact).mean() < 0.05


def exact_mean_field(features, compat, unary, iterations):
    kernel, logits = exact_kernel(features), -unary.astype(np.float64)
    marginals = np.exp(logits) / np.exp(logits).sum(0)
    for _ in range(iterations):
        powers = np.exp(logits + compat @ marginals @ kernel)
        marginals = powers / powers.sum(0)
    return marginals


@pytest.mark.parametrize("compat", [POTTS, -MATRIX], ids=["potts", "matrix"])
def test_near_the_exact_mean_field(compat):
    features = points(300, 2, 4.0)
    regions = np.stack([features[:, 0], features[:, 1], 5 - features.sum(1)])
    unary = 0.4 * regions + noise(3, 300)

    marginals = mean_field([Lattice(features)], [compat], unary, 5)

    exact = exact_mean_field(features, compat, unary, 5)
    assert np.abs(marginals - exact).mean() < 0.01
    assert (marginals.argmax(0) == exact.argmax(0)).mean() > 0.98
    start = exact_mean_field(features, compat, unary, 0)
    assert np.abs(start - exact).mean() > 0.1  # there was something to do


def cloud():
    """13 points in the plane, off the origin: the authors' program adds three empty ones there."""
    index = np.arange(26).reshape(13, 2)
    return (1.0 + 1.5 * (index * 37 % 101) / 101).astype(np.float32)


def energies():
    index = np.arange(39).reshape(3, 13)
    return (2.0 * (index * 53 % 97) / 97).astype(np.float32)


# Marginals of pydensecrf2 1.1 (the authors' program), every second point:
#   crf = pydensecrf.densecrf.DenseCRF(13, 3); crf.setUnaryEnergy(energies())
#   crf.addPairwiseEnergy(np.ascontiguousarray(cloud().T), compat=compat)
#   np.array(crf.inference(5))[:, ::2]
# Its matrices are penalties, that is, of the other sign than those of mean_field.
REFERENCES = {
    "potts": [
        [0.453856, 0.449567, 0.461342, 0.451791, 0.462426, 0.452783, 0.463158],
        [0.301040, 0.308634, 0.306017, 0.306907, 0.304937, 0.305673, 0.304020],
        [0.245105, 0.241799, 0.232642, 0.241302, 0.232637, 0.241544, 0.232822],
    ],
    "matrix": [
        [0.893302, 0.897573, 0.896026, 0.902334, 0.897272, 0.903073, 0.897831],
        [0.030795, 0.028892, 0.030927, 0.027140, 0.030474, 0.026897, 0.030279],
        [0.075904, 0.073535, 0.073047, 0.070526, 0.072254, 0.070030, 0.071890],
    ],
}


@pytest.mark.parametrize(("name", "compat"), [("potts", POTTS), ("matrix", -MATRIX)])
def test_equals_the_authors_program(name, compat):
    marginals = mean_field([Lattice(cloud())], [compat], energies(), 5)

    np.testing.assert_allclose(marginals[:, ::2], REFERENCES[name], atol=2e-6)


@pytest.mark.parametrize("count", [400, 401, 403])
def test_equals_the_authors_program_live(count):
    dcrf = pytest.importorskip("pydensecrf.densecrf")
    wide, narrow = points(count, 2, 3.0), points(count, 5, 2.0)
    unary = noise(3, count)

    marginals = mean_field([Lattice(wide), Lattice(narrow)], [POTTS, -MATRIX], unary, 10)

    crf = dcrf.DenseCRF(count, 3)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(np.ascontiguousarray(wide.T), compat=2)
    crf.addPairwiseEnergy(np.ascontiguousarray(narrow.T), compat=MATRIX)
    np.testing.assert_allclose(marginals, np.array(crf.inference(10)), atol=1e-5)


def test_by_hand_on_two_equal_points():
    compat = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3]], dtype=np.float32)  # not symmetric
    unary = noise(3, 2)

    marginals = mean_field([Lattice(np.ones((2, 3), np.float32))], [compat], unary, 1)

    first = np.exp(-unary) / np.exp(-unary).sum(0)
    powers = np.exp(-unary + compat @ first.mean(1, keepdims=True))  # K is 1/2 everywhere
    np.testing.assert_allclose(marginals, powers / powers.sum(0), atol=1e-5)


def test_kernels_add_up():
    features, unary = points(), noise(3, 200)

    twice = mean_field([Lattice(features)] * 2, [POTTS, 2 * POTTS], unary, 4)

    once = mean_field([Lattice(features)], [3 * POTTS], unary, 4)
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_without_iterations_it_is_the_softmax():
    unary = noise(3, 200)

    marginals = mean_field([Lattice(points())], [POTTS], unary, 0)

    np.testing.assert_allclose(marginals, np.exp(-unary) / np.exp(-unary).sum(0), atol=1e-6)


def test_large_energies_stay_finite():
    marginals = mean_field([Lattice(points())], [1000 * POTTS], 500 + 30 * noise(3, 200), 5)

    np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("counts", [(50, 50, 50), (41, 1, 60)], ids=["equal", "ragged"])
def test_a_batch_is_its_images_one_by_one(counts):
    parts = [points(count, 3, 2.0, random_seed=k) for k, count in enumerate(counts)]
    unary = noise(3, sum(counts))
    lattice = Lattice(np.concatenate(parts), images=np.repeat(np.arange(len(counts)), counts))

    together = mean_field([lattice], [POTTS], unary, 3)

    apart = [
        mean_field([Lattice(part)], [POTTS], energy, 3)
        for part, energy in zip(parts, np.split(unary, np.cumsum(counts)[:-1], 1), strict=True)
    ]
    np.testing.assert_allclose(together, np.concatenate(apart, axis=1), atol=1e-5)
    assert lattice.vertices == sum(Lattice(part).vertices for part in parts)


def test_unaries_of_a_batch_may_be_stacked():
    lattice = Lattice(points(120), images=np.repeat([0, 1, 2], 40))
    unary = noise(3, 120)

    stacked = mean_field([lattice], [-MATRIX], unary.reshape(3, 3, 40).transpose(1, 0, 2), 3)

    assert stacked.shape == (3, 3, 40)
    flat = mean_field([lattice], [-MATRIX], unary, 3)
    np.testing.assert_array_equal(np.concatenate(list(stacked), axis=1), flat)


def test_images_may_come_in_any_order():
    order = np.random.default_rng(0).permutation(120)
    images, features, signal = np.repeat([0, 1, 2], 40), points(120), noise(120, 2)

    filtered = Lattice(features[order], images=images[order]).filter(signal[order])

    expected = Lattice(features, images=images).filter(signal)[order]
    np.testing.assert_allclose(filtered, expected, atol=1e-5)


def test_tensors_give_tensors():
    features, unary = torch.tensor(points(), requires_grad=True), torch.tensor(noise(3, 200))

    lattice = Lattice(features, images=torch.zeros(200, dtype=torch.int64))
    marginals = mean_field([lattice], [torch.tensor(POTTS)], unary, 3)

    assert not marginals.requires_grad
    expected = mean_field([Lattice(points())], [POTTS], noise(3, 200), 3)
    np.testing.assert_array_equal(marginals.numpy(), expected)
    filtered = lattice.filter(unary.T)
    np.testing.assert_array_equal(filtered.numpy(), lattice.filter(noise(3, 200).T))


def test_inputs_are_left_alone():
    features, unary = points(), noise(3, 200)
    features.setflags(write=False)
    unary.setflags(write=False)

    mean_field([Lattice(features)], [POTTS], unary, 2)

    np.testing.assert_array_equal(unary, noise(3, 200))


def test_far_points_do_not_influence_each_other():
    features = np.array([[0, 0], [500, 500]], dtype=np.float32)

    filtered = Lattice(features).filter(np.eye(2, dtype=np.float32))

    np.testing.assert_allclose(filtered, np.eye(2), atol=1e-6)


def test_equal_points_share_their_vertices():
    lattice = Lattice(np.ones((52, 2), dtype=np.float32))

    assert (lattice.points, lattice.vertices) == (52, 3)
    np.testing.assert_allclose(lattice.filter(np.ones((52, 1), np.float32)), 1, atol=1e-5)


def test_many_entries_are_numbered_by_wider_integers(monkeypatch):
    expected = Lattice(points()).filter(noise(200, 2))
    monkeypatch.setattr(torch_engine, "_INDEX_LIMIT", 100)

    np.testing.assert_array_equal(Lattice(points()).filter(noise(200, 2)), expected)


@pytest.mark.gpu
def test_the_device_does_not_matter():
    features, unary = points(), noise(3, 200)

    marginals = mean_field([Lattice(features, device="cuda")], [-MATRIX], unary, 5)

    expected = mean_field([Lattice(features)], [-MATRIX], unary, 5)
    np.testing.assert_allclose(marginals, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "images", "message"),
    [
        pytest.param(np.zeros((0, 2), np.float32), None, r"float32 \(0, 2\)", id="empty"),
        pytest.param(np.zeros((4, 2)), None, r"float64 \(4, 2\)", id="type"),
        pytest.param(np.zeros(4, np.float32), None, r"float32 \(4,\)", id="shape"),
        pytest.param(
            np.full((4, 2), np.nan, np.float32), None, r"8 values of features \(4, 2\)", id="nan"
        ),
        pytest.param(1e7 * np.eye(5, dtype=np.float32), None, "lattice units", id="range"),
        pytest.param(
            points(4), np.zeros(3, np.int64), r"images is int64 \(3,\) for 4", id="fewer-images"
        ),
        pytest.param(points(4), np.zeros(4), "images is float64", id="float-images"),
        pytest.param(points(4), np.full(4, -1), "indices 0 or more", id="negative-image"),
        pytest.param(points(4), np.full(4, 2**60), "or fewer images", id="many-images"),
    ],
)
def test_refuses_points(features, images, message):
    with pytest.raises(DataError, match=message):
        Lattice(features, images)


def test_refuses_a_signal_of_other_points():
    with pytest.raises(DataError, match=r"signal is \(3, 1\) but the lattice has 200 points"):
        Lattice(points()).filter(np.zeros((3, 1), np.float32))


@pytest.mark.parametrize(
    ("compats", "unary", "message"),
    [
        pytest.param([POTTS], noise(3, 9), r"unary is \(3, 9\) but .* \[200\] points", id="points"),
        pytest.param([POTTS], noise(200), r"unary is \(200,\)", id="dimensions"),
        pytest.param([POTTS], noise(2, 200), r"\(3, 3\)\] for 1 lattices and 2", id="labels"),
        pytest.param([], noise(3, 200), r"shapes \[\] for 1 lattices", id="no-compat"),
    ],
)
def test_refuses_other_sizes(compats, unary, message):
    with pytest.raises(DataError, match=message):
        mean_field([Lattice(points())], compats, unary, 1)
