import pickle

import numpy as np
import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.masks import dense_crf
from pipeline.masks.dense_crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    unary_from_labels,
    unary_from_probabilities,
    warm_up,
)


@pytest.fixture(autouse=True)
def _every_engine(engine, monkeypatch):
    """All tests of this module run with each engine."""
    installed = dense_crf.installed_engine
    chosen = {"auto": engine}
    monkeypatch.setattr(
        dense_crf, "installed_engine", lambda name, *on: chosen.get(name) or installed(name, *on)
    )


KERNELS = (Gaussian(sxy=3, compat=1), Bilateral(sxy=6, srgb=20, compat=2))


def scene():
    """24 x 20 pixels: a textured disc on a textured ground, and noisy unaries of three labels."""
    rows, columns = np.indices((20, 24))
    texture = (rows * 7 + columns * 13 + rows * columns) % 17
    disc = (columns - 11) ** 2 + (rows - 9) ** 2 < 40
    red, green = np.where(disc, 190, 60) + texture, np.where(disc, 80, 120) - texture
    image = np.stack([red, green, 90 + 2 * texture], axis=2).astype(np.uint8)
    noise = ((rows * 31 + columns * 17 + rows * columns * 5) % 23) / 23.0
    scores = np.stack([1.2 - disc, 0.6 * disc + noise, 0.4 + 0.5 * noise[::-1]])
    return image, (-0.8 * scores).astype(np.float32)


def smooth_scene(height, width, labels, random_seed):
    """Colours and unaries that vary smoothly, with some noise, as in a photo."""
    generator = np.random.default_rng(random_seed)
    y, x = np.indices((height, width)) / 12.0
    waves = np.stack([np.sin(x * (1 + k) + k) * np.cos(y * (1.3 - 0.3 * k)) for k in range(3)], -1)
    image = 128 + 80 * waves + generator.normal(0, 6, waves.shape)
    tilt = np.stack([np.sin(x + 2 * k) + np.cos(y * (1 + 0.2 * k) + k) for k in range(labels)])
    unary = -1.5 * tilt + generator.normal(0, 0.5, tilt.shape)
    return image.clip(0, 255).astype(np.uint8), unary.astype(np.float32)


def exact_mean_field(image, unary, pairwise, iterations=10):
    """The same inference over all pairs of pixels, in double precision."""
    labels, height, width = unary.shape
    rows, columns = np.indices((height, width))
    place = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    kernels = []
    for kernel in pairwise:
        features = place / kernel.sxy
        if isinstance(kernel, Bilateral):
            features = np.hstack([features, image.reshape(-1, 3) / kernel.srgb])
        square = (features**2).sum(1)
        distance = square[:, None] + square[None, :] - 2 * features @ features.T
        weights = np.exp(-0.5 * distance)
        norm = 1 / np.sqrt(weights.sum(1))
        kernels.append(kernel.compat * norm[:, None] * weights * norm)
    kernel = sum(kernels)
    logits = -unary.reshape(labels, -1).astype(np.float64)

    def softmax(values):
        powers = np.exp(values - values.max(0))
        return powers / powers.sum(0)

    marginals = softmax(logits)
    for _ in range(iterations):
        marginals = softmax(logits + marginals @ kernel)
    return marginals.reshape(unary.shape)


# Marginals of pydensecrf2 1.1 (the authors' program) on scene() with KERNELS, 5 iterations:
#   crf = pydensecrf.densecrf.DenseCRF2D(24, 20, 3); crf.setUnaryEnergy(unary.reshape(3, -1))
#   crf.addPairwiseGaussian(sxy=3, compat=1)
#   crf.addPairwiseBilateral(sxy=6, srgb=20, rgbim=image, compat=2)
#   np.array(crf.inference(5)).reshape(3, 20, 24)[:, ::5, ::6]
REFERENCE = [
    [
        [0.834741, 0.856821, 0.839469, 0.870484],
        [0.834289, 0.858859, 0.079505, 0.864739],
        [0.881555, 0.084658, 0.064015, 0.860800],
        [0.891215, 0.888642, 0.164243, 0.900476],
    ],
    [
        [0.058802, 0.062082, 0.099087, 0.059340],
        [0.079124, 0.078571, 0.836848, 0.064465],
        [0.059579, 0.834688, 0.848114, 0.080610],
        [0.045798, 0.054614, 0.664755, 0.043725],
    ],
    [
        [0.106457, 0.081097, 0.061444, 0.070176],
        [0.086586, 0.062570, 0.083647, 0.070795],
        [0.058866, 0.080653, 0.087872, 0.058590],
        [0.062987, 0.056743, 0.171002, 0.055799],
    ],
]


def test_equals_the_authors_program():
    image, unary = scene()

    marginals = DenseCRF(KERNELS, iterations=5)(image, unary)

    np.testing.assert_allclose(marginals[:, ::5, ::6], REFERENCE, rtol=0, atol=2e-4)


# Bounds from 10 scenes each. The lattice is an approximation: where colours are noisier than the
# kernel is wide (srgb 5 and 3, noise 6) few pixels share a vertex, and the worst scene agreed on
# 97.9 % of the pixels with a mean difference of 0.0144. The authors' program gave the same
# marginals as this one there, to 1.5e-5.
@pytest.mark.parametrize(
    ("pairwise", "size", "labels", "agreement", "difference"),
    [
        pytest.param(
            (Gaussian(3, 3), Bilateral(80, 13, 10)), (28, 41), 3, 0.99, 0.002, id="wide-colour"
        ),
        pytest.param((Gaussian(3, 1), Bilateral(10, 30, 2)), (27, 31), 3, 0.99, 0.01, id="mild"),
        pytest.param((Gaussian(3, 3),), (25, 37), 4, 0.985, 0.002, id="gaussian-only"),
        pytest.param(
            (Gaussian(3, 3), Bilateral(50, 5, 10)), (33, 30), 2, 0.975, 0.02, id="narrow-colour"
        ),
        pytest.param(
            (Gaussian(1, 3), Bilateral(67, 3, 4)), (30, 35), 5, 0.97, 0.012, id="narrowest-colour"
        ),
    ],
)
@pytest.mark.parametrize("random_seed", [0, 4])
def test_near_exact_mean_field(pairwise, size, labels, agreement, difference, random_seed):
    image, unary = smooth_scene(*size, labels, random_seed)

    marginals = DenseCRF(pairwise)(image, unary)

    exact = exact_mean_field(image, unary, pairwise)
    assert (marginals.argmax(0) == exact.argmax(0)).mean() >= agreement
    assert np.abs(marginals - exact).mean() < difference
    assert (unary.argmin(0) == exact.argmax(0)).mean() < 0.96  # there was something to do


def test_marginals_sum_to_one():
    image, unary = scene()

    marginals = DenseCRF(KERNELS)(image, 30 * unary + 500)

    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)


def test_uniform_stays_uniform():
    image = np.full((12, 9, 3), 77, dtype=np.uint8)

    marginals = DenseCRF(KERNELS)(image, np.zeros((4, 12, 9), np.float32))

    np.testing.assert_array_equal(marginals, np.float32(0.25))


def test_without_iterations_it_is_the_softmax():
    image, unary = scene()

    marginals = DenseCRF(KERNELS, iterations=0)(image, unary)

    powers = np.exp(-unary)
    np.testing.assert_allclose(marginals, powers / powers.sum(0), atol=1e-6)


def test_the_order_of_labels_does_not_matter():
    image, unary = scene()
    crf = DenseCRF(KERNELS)

    marginals = crf(image, np.ascontiguousarray(unary[[2, 0, 1]]))

    np.testing.assert_allclose(marginals, crf(image, unary)[[2, 0, 1]], atol=1e-5)


def test_a_constant_per_pixel_changes_nothing():
    image, unary = scene()
    crf = DenseCRF(KERNELS)
    offset = np.random.default_rng(0).normal(0, 5, unary.shape[1:]).astype(np.float32)

    np.testing.assert_allclose(crf(image, unary + offset), crf(image, unary), atol=1e-4)


def test_noise_is_replaced_by_the_edge_of_the_image():
    image = np.full((30, 40, 3), (200, 60, 40), dtype=np.uint8)
    image[:, 20:] = (40, 90, 180)
    truth = (np.arange(40) >= 20) * np.ones((30, 1), dtype=int)
    flipped = np.random.default_rng(0).random((30, 40)) < 0.25
    noisy = np.where(flipped, 1 - truth, truth)
    probabilities = np.where(np.arange(2)[:, None, None] == noisy, 0.6, 0.4)

    marginals = DenseCRF([Gaussian(3, 3), Bilateral(80, 13, 10)])(
        image, unary_from_probabilities(probabilities)
    )

    np.testing.assert_array_equal(marginals.argmax(0), truth)


def test_prepared_image_gives_the_same_for_each_unary():
    image, unary = scene()
    crf = DenseCRF(KERNELS)
    prepared = crf.prepare(image)

    for other in (unary, unary[:2], -unary):
        np.testing.assert_array_equal(prepared.infer(other), crf(image, other))


def test_inputs_are_left_alone():
    image, unary = scene()
    image.setflags(write=False)
    unary.setflags(write=False)

    DenseCRF(KERNELS)(image, unary)


def test_layout_in_memory_does_not_matter():
    image, unary = scene()
    crf = DenseCRF(KERNELS)

    marginals = crf(np.asfortranarray(image), np.asfortranarray(unary).astype(np.float64))

    np.testing.assert_allclose(marginals, crf(image, unary), atol=1e-6)


def test_position_lattice_is_shared_by_images_of_one_size():
    dense_crf._position_lattice.cache_clear()

    DenseCRF([Gaussian(3, 1)]).prepare(np.zeros((5, 6, 3), np.uint8))
    DenseCRF([Gaussian(3, 9)]).prepare(np.ones((5, 6, 3), np.uint8))

    assert dense_crf._position_lattice.cache_info().misses == 1


def test_position_lattices_of_huge_images_are_not_cached(monkeypatch):
    monkeypatch.setattr(dense_crf, "_CACHED_PIXELS", 29)
    dense_crf._position_lattice.cache_clear()

    DenseCRF([Gaussian(3, 1)]).prepare(np.zeros((5, 6, 3), np.uint8))

    assert dense_crf._position_lattice.cache_info().currsize == 0


def test_scaled_to_smaller_images():
    image, unary = scene()
    scaled = DenseCRF([Gaussian(3, 1), Bilateral((80, 40), 13, 2)]).scaled(4)

    expected = DenseCRF([Gaussian(0.75, 1), Bilateral((20, 10), 13, 2)])

    np.testing.assert_array_equal(scaled(image, unary), expected(image, unary))


def test_a_reach_of_its_own_along_each_axis():
    image = np.full((9, 9, 3), 77, np.uint8)
    unary = np.zeros((2, 9, 9), np.float32)
    unary[1, 4, 4] = -3

    marginals = DenseCRF([Gaussian((4, 0.3), 3)])(image, unary)[1]

    assert marginals[4, 6] > 0.55
    assert marginals[6, 4] < 0.51


@pytest.mark.parametrize(
    "compat", [(-2, -2, -2), np.diag([-2.0, -2, -2]), [[-2, 1, 0], [-1, -2, 0], [0, 0, -2]]]
)
def test_negative_penalties_are_a_potts_weight(compat):
    image, unary = scene()

    marginals = DenseCRF([Gaussian(3, 1), Bilateral(6, 20, compat)])(image, unary)

    np.testing.assert_allclose(marginals, DenseCRF(KERNELS)(image, unary), atol=2e-6)


def test_kernels_can_be_compared_and_pickled():
    kernel = Bilateral(80, 13, np.array([-1.0, -2.0]))
    crf = pickle.loads(pickle.dumps(DenseCRF([kernel])))

    assert kernel == Bilateral(80, 13, [-1, -2])
    assert crf(np.zeros((4, 5, 3), np.uint8), np.zeros((2, 4, 5), np.float32)).shape == (2, 4, 5)


def test_warm_up_compiles():
    warm_up(labels=3)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 1)])
def test_tiny_images(size):
    marginals = DenseCRF(KERNELS)(np.zeros((*size, 3), np.uint8), np.zeros((2, *size), np.float32))

    np.testing.assert_array_equal(marginals, 0.5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(np.zeros((4, 5, 3)), r"image is float64 \(4, 5, 3\)", id="float"),
        pytest.param(np.zeros((4, 5), np.uint8), r"image is uint8 \(4, 5\)", id="grey"),
        pytest.param(np.zeros((4, 5, 4), np.uint8), r"image is uint8 \(4, 5, 4\)", id="alpha"),
        pytest.param(np.zeros((0, 5, 3), np.uint8), r"image is uint8 \(0, 5, 3\)", id="empty"),
    ],
)
def test_refuses_image(image, message):
    with pytest.raises(DataError, match=message):
        DenseCRF(KERNELS).prepare(image)


def with_value(value):
    unary = np.zeros((2, 4, 5), np.float32)
    unary[1, 2, 3] = value
    return unary


@pytest.mark.parametrize(
    ("unary", "message"),
    [
        pytest.param(
            np.zeros((2, 5, 4)), r"unary is \(2, 5, 4\) but the image is \(4, 5\)", id="size"
        ),
        pytest.param(np.zeros((4, 5)), r"unary is \(4, 5\) but the image", id="dimensions"),
        pytest.param(
            np.zeros((1, 4, 5)), r"unary is \(1, 4, 5\), which has 1 labels", id="one-label"
        ),
        pytest.param(np.zeros((0, 4, 5)), r"unary is \(0, 4, 5\), which has 0 labels", id="empty"),
        pytest.param(with_value(np.nan), r"1 values of unary \(2, 4, 5\) are NaN", id="nan"),
        pytest.param(with_value(np.inf), r"1 values of unary \(2, 4, 5\) are NaN", id="inf"),
        pytest.param(
            with_value(1).astype(np.float64) * 1e300,
            r"1 values of unary \(2, 4, 5\)",
            id="overflow",
        ),
    ],
)
def test_refuses_unary(unary, message):
    with pytest.raises(DataError, match=message):
        DenseCRF(KERNELS)(np.zeros((4, 5, 3), np.uint8), unary)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: Gaussian(0, 3), "Gaussian: sxy is 0", id="sxy"),
        pytest.param(lambda: Bilateral(80, -1, 3), "Bilateral: srgb is -1", id="srgb"),
        pytest.param(lambda: Bilateral(80, 13, np.nan), "Bilateral: compat is nan", id="nan"),
        pytest.param(lambda: Gaussian(3, -2), "Gaussian: compat is -2", id="compat"),
        pytest.param(lambda: DenseCRF([]), "pairwise is empty", id="no-kernel"),
        pytest.param(lambda: DenseCRF(KERNELS, -1), "iterations is -1", id="iterations"),
        pytest.param(lambda: Gaussian((3, 0), 3), r"Gaussian: sxy is \(3, 0\)", id="sxy-pair"),
        pytest.param(lambda: Gaussian(3, 1e9), "compat is 1000000000", id="compat-huge"),
        pytest.param(lambda: Gaussian(3, np.zeros((2, 3))), "Pass one number", id="not-square"),
        pytest.param(lambda: Bilateral(3, 3, [1, np.inf]), "Pass one number", id="compat-inf"),
        pytest.param(lambda: DenseCRF(KERNELS).scaled(0), "factor is 0", id="factor"),
        pytest.param(lambda: DenseCRF(KERNELS, engine="opencl"), "engine is 'opencl'", id="engine"),
    ],
)
def test_refuses_options(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan])
def test_unary_refuses_values_that_are_not_probabilities(value):
    with pytest.raises(DataError, match=r"probabilities \(1, 2\)"):
        unary_from_probabilities(np.array([[0.5, value]]))


def test_unary_of_a_zero_is_finite():
    np.testing.assert_allclose(
        unary_from_probabilities(np.array([0.0, 0.5])), [11.5129, 0.6931], atol=1e-3
    )


def test_refuses_compats_of_other_labels():
    crf = DenseCRF([Gaussian(3, [-1, -1, -1])])

    with pytest.raises(DataError, match=r"compat of shape \(3,\), but the unary has 2 labels"):
        crf(np.zeros((4, 5, 3), np.uint8), np.zeros((2, 4, 5), np.float32))


def test_finite_numbers_beyond_float32_sums_are_accepted():
    unary = np.full((2, 4, 5), 3e38, np.float32)

    np.testing.assert_array_equal(DenseCRF(KERNELS)(np.zeros((4, 5, 3), np.uint8), unary), 0.5)


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        pytest.param([[0, 3]], (2, 0.7), DataError, r"contains \[3\], outside 0 to 1", id="label"),
        pytest.param([[-1, 255]], (2, 0.7, 255), DataError, r"contains \[-1\]", id="negative"),
        pytest.param([[0, 1]], (1, 0.7), ConfigError, "n_labels is 1", id="one-label"),
        pytest.param([[0, 1]], (2, 1.0), ConfigError, "gt_prob 1.0", id="probability"),
    ],
)
def test_unary_from_labels_refuses(labels, options, error, message):
    with pytest.raises(error, match=message):
        unary_from_labels(np.array(labels), *options)
