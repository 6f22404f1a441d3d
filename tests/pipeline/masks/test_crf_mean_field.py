from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.masks.crf import mean_field as module
from pipeline.masks.crf.lattice import Lattice
from pipeline.masks.crf.mean_field import mean_field
from pipeline.masks.crf.normalization import NormalizationType as Norm


def features(count, dimensions, random_seed):
    generator = np.random.default_rng(random_seed)
    return (3 * generator.random((count, dimensions))).astype(np.float32)


def softmax(logits):
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def plain_mean_field(lattices, compats, unary, iterations):
    """Kernel by kernel, with the lattices' own filter."""
    marginals = softmax(-unary)
    for _ in range(iterations):
        messages = (
            compat @ lattice.filter(marginals.T).T
            for lattice, compat in zip(lattices, compats, strict=True)
        )
        marginals = softmax(-unary + sum(messages)).astype(np.float32)
    return marginals


def random_unary(labels, count, spread=2.0):
    return (spread * np.random.default_rng(7).normal(size=(labels, count))).astype(np.float32)


def potts(weight, labels):
    return np.float32(weight) * np.eye(labels, dtype=np.float32)


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 9, 21, 40])
@pytest.mark.parametrize("count", [1, 5, 16, 61])
def test_equals_the_plain_iteration(labels, count):
    lattices = [Lattice(features(count, 2, 0)), Lattice(features(count, 5, 1))]
    compats = [potts(2, labels), potts(3, labels)]
    unary = random_unary(labels, count)

    marginals = mean_field(lattices, compats, unary, 4)

    expected = plain_mean_field(lattices, compats, unary, 4)
    assert marginals.shape == unary.shape
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("dimensions", [(1,), (3,), (2, 5, 2), (1, 2, 3, 4)])
def test_any_kernels(dimensions):
    lattices = [Lattice(features(30, d, d)) for d in dimensions]
    compats = [potts(k + 1, 3) for k in range(len(dimensions))]

    marginals = mean_field(lattices, compats, random_unary(3, 30), 3)

    expected = plain_mean_field(lattices, compats, random_unary(3, 30), 3)
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("labels", [3, 6, 21])
@pytest.mark.parametrize("kind", ["diagonal", "matrix", "repelling"])
def test_any_compat(labels, kind):
    generator = np.random.default_rng(3)
    values = {
        "diagonal": np.diag(generator.uniform(0, 3, labels)),
        "matrix": generator.normal(size=(labels, labels)),
        "repelling": -2 * np.eye(labels),
    }
    compat = values[kind].astype(np.float32)
    lattices = [Lattice(features(50, 2, 0)), Lattice(features(50, 5, 1))]
    unary = random_unary(labels, 50)

    marginals = mean_field(lattices, [compat, potts(1, labels)], unary, 3)

    expected = plain_mean_field(lattices, [compat, potts(1, labels)], unary, 3)
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("labels", [3, 21])
@pytest.mark.parametrize("kinds", [(a, b) for a in Norm for b in Norm])
def test_any_normalizations(kinds, labels):
    near, alike = (
        Lattice(features(50, dimensions, 0), normalization=kind)
        for dimensions, kind in zip((2, 5), kinds, strict=True)
    )
    compats = [potts(0.3, labels), np.diag(np.linspace(-0.2, 0.3, labels)).astype(np.float32)]
    unary = random_unary(labels, 50)

    marginals = mean_field([near, alike], compats, unary, 3)

    expected = plain_mean_field([near, alike], compats, unary, 3)
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=2e-5)


def test_no_label_is_muted_where_messages_are_not_bounded():
    unary = np.zeros((21, 4000), np.float32)
    unary[1:] = 8.2  # marginals of 2.7e-4; 4000 points together weigh 1
    lattice = Lattice(np.zeros((4000, 2), np.float32), normalization=Norm.NO_NORMALIZATION)
    compat = np.diag([-0.01] + [0.01] * 20).astype(np.float32)

    marginals = mean_field([lattice], [compat], unary, 3)

    assert marginals[1:].min() > 0.04


@pytest.mark.parametrize("compat", [potts(5, 21), np.diag(np.linspace(2, 5, 21))])
def test_muting_from_the_start_changes_nothing(monkeypatch, compat):
    lattices = [Lattice(features(300, 2, 0)), Lattice(features(300, 5, 1))]
    unary = random_unary(21, 300)
    unary[3:] += 9
    compats = [compat.astype(np.float32), potts(3, 21)]

    marginals = mean_field(lattices, compats, unary, 6)

    monkeypatch.setattr(module, "_muting_threshold", lambda compats: 0.0)
    np.testing.assert_allclose(mean_field(lattices, compats, unary, 6), marginals, atol=3e-6)


def test_labels_are_muted_during_the_iterations(monkeypatch):
    problem = [Lattice(features(300, 2, 0))], [potts(30, 21)], random_unary(21, 300, spread=0.3), 6
    problem[2][4:] += 2
    narrowed = []
    narrow = module._narrowed
    monkeypatch.setattr(module, "_narrowed", lambda *a: narrowed.append(a[-1]) or narrow(*a))

    marginals = mean_field(*problem)

    assert narrowed[-1].size < 24
    monkeypatch.setattr(module, "_muting_threshold", lambda compats: 0.0)
    np.testing.assert_allclose(mean_field(*problem), marginals, rtol=0, atol=3e-6)


def test_labels_that_influence_each_other_are_not_muted():
    matrix = potts(1, 21)
    matrix[20, 0] = 6  # label 20 has a small unary marginal, and appears because of label 0

    marginals = mean_field([Lattice(np.zeros((40, 2), np.float32))], [matrix], dominated_unary(), 3)

    assert marginals[20].max() > 0.01


def dominated_unary():
    unary = np.full((21, 40), 12, np.float32)
    unary[0] = 0
    unary[20] = 8.5
    return unary


def test_without_iterations_it_is_the_softmax():
    unary = random_unary(5, 20)

    marginals = mean_field([Lattice(features(20, 2, 0))], [potts(3, 5)], unary, 0)

    np.testing.assert_allclose(marginals, softmax(-unary), atol=1e-6)


@pytest.mark.parametrize("weight", [0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1, 1e30])
def test_extreme_numbers_give_no_nan(weight, scale):
    unary = scale * random_unary(3, 40)

    marginals = mean_field([Lattice(features(40, 2, 0))], [potts(weight, 3)], unary, 5)

    np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)


def test_threads_do_not_share_memory():
    problems = [
        ([Lattice(features(900, 5, k))], [potts(3, labels)], random_unary(labels, 900), 5)
        for k, labels in enumerate([2, 3, 5, 9, 3, 21, 2, 5])
    ]
    expected = [mean_field(*problem) for problem in problems]

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(lambda problem: mean_field(*problem), problems))
            for one, other in zip(together, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_results_are_not_overwritten_by_the_next_image():
    lattice = Lattice(features(40, 2, 0))
    first = mean_field([lattice], [potts(3, 3)], random_unary(3, 40), 2)
    before = first.copy()

    mean_field([lattice], [potts(3, 3)], -random_unary(3, 40), 2)

    np.testing.assert_array_equal(first, before)
