"""The walk against float64 loops over places, and what must hold for any image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.walk import FeatureWalk, affinity, walk

IMAGE = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)


class Reader:
    """Given maps in the place of a network's."""

    def __init__(self, *features):
        self.features = list(features)
        self.asked = []

    def check(self, layers):
        if "missing" in layers:
            raise ConfigError("layers: the network has no layer 'missing'.")

    def __call__(self, image, layers, size):
        self.asked.append((list(layers), size))
        return self.features


def random_features(*shape, random_seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(random_seed))


def probabilities(labels=3, size=(12, 16), random_seed=0):
    planes = np.random.default_rng(random_seed).random((labels, *size)).astype(np.float32)
    return planes / planes.sum(0)


def bound(*features, **options):
    return FeatureWalk(["layer"], **{"nodes": 16, "flip": False, **options}).bound(
        lambda: Reader(*features)
    )


def affinity_by_hand(features, power):
    """Pair by pair, in double precision, for maps that have the size of the grid."""
    places = features[0].shape[1] * features[0].shape[2]
    total = np.zeros((places, places))
    for layer in features:
        vectors = layer.double().numpy().reshape(len(layer), -1).T
        vectors = vectors - vectors.mean(0)
        for i in range(places):
            for j in range(places):
                norms = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
                total[i, j] += vectors[i] @ vectors[j] / norms / len(features)
    weights = np.clip(total, 0, 1) ** power
    np.fill_diagonal(weights, 1)
    return weights


def test_affinity_equals_the_loop_over_pairs():
    features = [random_features(5, 3, 4), random_features(2, 3, 4, random_seed=1)]

    weights = affinity(features, (3, 4), power=3)

    np.testing.assert_allclose(weights, affinity_by_hand(features, 3), atol=1e-5)


def test_the_refinement_is_powers_of_a_dense_matrix():
    features = [random_features(5, 12, 16), random_features(2, 12, 16, random_seed=1)]
    planes = probabilities()

    refined = bound(*features, power=4, steps=3)(IMAGE, [planes])[0]

    weights = affinity_by_hand(features, 4)
    transition = np.linalg.matrix_power(weights / weights.sum(1, keepdims=True), 3)
    expected = (transition @ planes.reshape(3, -1).T.astype(np.float64)).T.reshape(planes.shape)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, expected, atol=1e-5)


def test_one_step_by_hand():
    """Two places that are alike share evenly; the third, unlike them, keeps what it has."""
    features = torch.tensor([[[1.0, 1.0, -1.0, -1.0]]])
    planes = np.array([[[0.9, 0.5, 0.2, 0.4]], [[0.1, 0.5, 0.8, 0.6]]], np.float32)

    refined = bound(features, steps=1)(IMAGE[:1, :4], [planes])[0]

    np.testing.assert_allclose(refined[0, 0], [0.7, 0.7, 0.3, 0.3], atol=1e-6)


def test_nothing_moves_if_all_locations_are_equal():
    planes = probabilities()

    refined = bound(torch.ones(4, 12, 16))(IMAGE, [planes])[0]

    np.testing.assert_allclose(refined, planes, atol=1e-6)


def test_distance_does_not_matter():
    """The walk crosses the image to what looks the same, past what does not."""
    features = torch.tensor([[1.0] * 2 + [-1.0] * 12 + [1.0] * 2]).expand(12, 16)[None]
    planes = np.full((2, 12, 16), 0.5, np.float32)
    planes[:, :, :2] = np.array([1.0, 0.0])[:, None, None]

    refined = bound(features)(IMAGE, [planes])[0]

    np.testing.assert_allclose(refined[0, :, 14:], 0.75, atol=1e-5)
    np.testing.assert_allclose(refined[0, :, 2:14], 0.5, atol=1e-5)


@given(
    st.integers(0, 2**16),
    st.floats(0.5, 8),
    st.integers(1, 8),
    st.integers(1, 7),
    st.integers(1, 7),
)
@settings(max_examples=30, deadline=None)
def test_affinities_are_symmetric_shares(random_seed, power, channels, height, width):
    features = [random_features(channels, height, width, random_seed=random_seed) - 0.5]

    weights = affinity(features, (4, 5), power)

    torch.testing.assert_close(weights, weights.T)
    assert bool(((weights >= 0) & (weights <= 1)).all())
    assert bool((weights.diagonal() == 1).all())


@given(st.integers(0, 2**16), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_walk_keeps_sums_and_the_range_of_values(random_seed, steps):
    weights = affinity([random_features(3, 4, 4, random_seed=random_seed)], (4, 4), 2)
    planes = torch.tensor(probabilities(3, (4, 4), random_seed)).flatten(1)

    moved = walk(planes, weights, steps)

    torch.testing.assert_close(moved.sum(0), torch.ones(16))
    for before, after in zip(planes, moved, strict=True):
        assert before.min() - 1e-5 <= after.min()
        assert after.max() <= before.max() + 1e-5


def test_a_channel_that_is_the_same_everywhere_changes_nothing():
    features = random_features(3, 5, 6)
    constant = torch.full((1, 5, 6), 100.0)

    with_it = affinity([torch.cat([features, constant])], (5, 6), 4)

    torch.testing.assert_close(with_it, affinity([features], (5, 6), 4))


def test_layers_have_equal_weight():
    first, second = random_features(3, 5, 6), random_features(2, 5, 6, random_seed=1)

    scaled = affinity([first * 1000, second], (5, 6), 4)

    torch.testing.assert_close(scaled, affinity([first, second], (5, 6), 4), atol=1e-5, rtol=0)


def test_half_precision_features_of_other_sizes():
    features = [random_features(3, 5, 7).half(), random_features(4, 2, 3)]

    refined = bound(*features, nodes=8)(IMAGE, [probabilities()])[0]

    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)


def test_zero_steps_only_make_the_planes_coarse():
    planes = np.array([[[0.2, 0.4], [0.6, 0.8]]], np.float32)
    planes = np.concatenate([planes, 1 - planes]).repeat(4, 1).repeat(4, 2)

    refined = bound(random_features(3, 2, 2), nodes=2, steps=0)(IMAGE[:8, :8], [planes])[0]

    np.testing.assert_allclose(refined[0, [0, 0, 7, 7], [0, 7, 0, 7]], [0.2, 0.4, 0.6, 0.8], 1e-5)


def test_each_array_is_refined_by_itself_after_one_reading_of_features():
    reader = Reader(random_features(3, 12, 16))
    refine = FeatureWalk(["a", "b"], size=100, scale=1.5, flip=False, nodes=16).bound(
        lambda: reader
    )
    planes = [probabilities(2), probabilities(4, random_seed=1), np.ones((1, 12, 16), np.float32)]

    together = refine(IMAGE, planes)

    assert reader.asked == [(["a", "b"], 150.0)]
    for result, plane in zip(together, planes, strict=True):
        np.testing.assert_allclose(result, refine(IMAGE, [plane])[0], atol=1e-6)


def test_background_alone_is_returned_without_reading_features():
    reader = Reader()
    alone = np.ones((1, 12, 16), np.float32)

    assert FeatureWalk(["a"]).bound(lambda: reader)(IMAGE, [alone])[0] is alone
    assert reader.asked == []


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (300, 2)])
def test_tiny_and_narrow_images(size):
    image = np.zeros((*size, 3), np.uint8)

    refined = bound(random_features(3, 4, 4))(image, [probabilities(2, size)])[0]

    assert refined.shape == (2, *size)
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)


def test_inputs_are_left_alone():
    planes = probabilities()
    planes.setflags(write=False)
    features = random_features(3, 12, 16)

    bound(features)(IMAGE, [planes])

    np.testing.assert_array_equal(planes, probabilities())
    torch.testing.assert_close(features, random_features(3, 12, 16))


def test_a_missing_network_is_an_error():
    with pytest.raises(ConfigError, match=r"FeatureWalk: there is no network"):
        FeatureWalk(["a"])(IMAGE, [probabilities()])


def test_layers_are_checked_before_any_image():
    with pytest.raises(ConfigError, match="'missing'"):
        FeatureWalk(["missing"]).bound(Reader)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param([], "there are no features", id="none"),
        pytest.param([torch.ones(3, 4)], r"features\[0\] is \(3, 4\)", id="no-map"),
        pytest.param([torch.full((3, 4, 4), torch.nan)], "NaN or infinite", id="nan"),
    ],
)
def test_refuses_features(features, message):
    with pytest.raises(DataError, match=message):
        bound(*features)(IMAGE, [probabilities()])


def test_names_both_sizes():
    with pytest.raises(DataError, match=r"\(3, 16, 12\) but the image is \(12, 16, 3\)"):
        bound()(IMAGE, [probabilities(3, (16, 12))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"layers": []}, r"layers is \[\]", id="no-layers"),
        pytest.param({"layers": "backbone"}, "layers is 'backbone'", id="one-word"),
        pytest.param({"nodes": 1}, "nodes is 1", id="few-nodes"),
        pytest.param({"nodes": 129}, "nodes is 129", id="many-nodes"),
        pytest.param({"power": 0}, "power 0", id="power"),
        pytest.param({"steps": -1}, "steps -1", id="steps"),
        pytest.param({"scale": 0.0}, r"size x scale is 0\.0", id="scale"),
        pytest.param({"size": float("nan")}, "size x scale is nan", id="size"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ConfigError, match=message):
        FeatureWalk(**{"layers": ["a"], **options})


def test_features_of_the_image_and_the_mirrored_image_are_averaged():
    """The reader returns the image itself, and a term that differs between its two calls."""

    class Pixels(Reader):
        def __call__(self, image, layers, size):
            self.asked.append(image.copy())
            shift = float(len(self.asked) - 1)  # 0 in the first call, 1 in the second
            maps = torch.tensor(image.astype(np.float32)).permute(2, 0, 1)
            return [torch.cat([maps, shift * maps[:1] ** 2])]

    reader = Pixels()
    options = {"nodes": 16, "steps": 1}

    refined = FeatureWalk(["a"], flip=True, **options).bound(lambda: reader)(
        IMAGE, [probabilities()]
    )

    np.testing.assert_array_equal(reader.asked[0], IMAGE)
    np.testing.assert_array_equal(reader.asked[1], IMAGE[:, ::-1])
    maps = torch.tensor(IMAGE.astype(np.float32)).permute(2, 0, 1)
    mean = torch.cat([maps, maps[:1] ** 2 / 2])
    expected = bound(mean, flip=False, **options)(IMAGE, [probabilities()])
    np.testing.assert_allclose(refined, expected, atol=1e-5)
