"""Scripts written for pydensecrf, run through its names here and, where installed, through it."""

import importlib

import numpy as np
import pytest

from pipeline.masks import pydensecrf as ours
from pipeline.masks.pydensecrf import DenseCRF, DenseCRF2D


@pytest.fixture(autouse=True, params=["numba", "torch"])
def _engine(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    engine = importlib.import_module(f"pipeline.masks.crf.{request.param}_engine")
    monkeypatch.setattr(ours.densecrf, "_engine", lambda: engine)


class Ours:
    """Modules under the two names that scripts import."""

    from pipeline.masks.pydensecrf import densecrf, utils


@pytest.fixture
def theirs():
    pytest.importorskip("pydensecrf.densecrf")
    import pydensecrf.densecrf
    import pydensecrf.utils

    return pydensecrf


def scene(height=20, width=23, labels=3):
    """A textured disc on a textured ground, and probabilities that waver; N mod 4 = 0."""
    rows, columns = np.indices((height, width))
    texture = (rows * 7 + columns * 13 + rows * columns) % 17
    disc = (columns - 11) ** 2 + (rows - 9) ** 2 < 40
    red, green = np.where(disc, 190, 60) + texture, np.where(disc, 80, 120) - texture
    image = np.stack([red, green, 90 + 2 * texture], axis=2).astype(np.uint8)
    noise = ((rows * 31 + columns * 17 + rows * columns * 5) % 23) / 23.0
    scores = np.stack([1.2 - disc, 0.6 * disc + noise, *(0.5 * noise[::-1],) * (labels - 2)])
    powers = np.exp(scores)
    return image, (powers / powers.sum(0)).astype(np.float32)


def soft_script(package, image, probabilities, steps=10):
    """As in public code for weakly supervised segmentation."""
    dcrf, utils = package.densecrf, package.utils
    h, w = image.shape[:2]
    n_labels = len(probabilities)
    d = dcrf.DenseCRF2D(w, h, n_labels)
    unary = utils.unary_from_softmax(probabilities)
    d.setUnaryEnergy(np.ascontiguousarray(unary))
    d.addPairwiseGaussian(sxy=3, compat=3)
    d.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.copy(image), compat=10)
    return np.array(d.inference(steps)).reshape((n_labels, h, w))


def label_script(package, image, probabilities):
    """Hard labels, some of them unsure, pairs of deviations, and all arguments by position."""
    dcrf, utils = package.densecrf, package.utils
    h, w = image.shape[:2]
    n_labels = len(probabilities)
    labels = np.where(probabilities.max(0) > 0.45, probabilities.argmax(0) + 1, 0)
    d = dcrf.DenseCRF2D(w, h, n_labels)
    d.setUnaryEnergy(utils.unary_from_labels(labels, n_labels, 0.7, zero_unsure=True))
    d.addPairwiseGaussian((2, 3), 3, dcrf.FULL_KERNEL, dcrf.NORMALIZE_SYMMETRIC)
    d.addPairwiseBilateral((20, 30), (13, 10, 8), image, 4, dcrf.DIAG_KERNEL)
    q = d.inference(5)
    assert np.argmax(q, axis=0).shape == (h * w,)
    return np.array(q).reshape((n_labels, h, w))


def energy_script(package, image, probabilities):
    """Features of the utilities, and energies between labels instead of a weight."""
    dcrf, utils = package.densecrf, package.utils
    n_labels = len(probabilities)
    d = dcrf.DenseCRF(image.shape[0] * image.shape[1], n_labels)
    d.setUnaryEnergy(utils.unary_from_softmax(probabilities, scale=0.8, clip=1e-3))
    near = utils.create_pairwise_gaussian(sdims=(3, 4), shape=image.shape[:2])
    alike = utils.create_pairwise_bilateral(sdims=(9, 9), schan=(9, 9, 20), img=image, chdim=2)
    vector = -np.linspace(1, 3, n_labels, dtype=np.float32)
    matrix = np.arange(n_labels**2, dtype=np.float32).reshape(n_labels, n_labels) / 4 - 2
    d.addPairwiseEnergy(near, compat=vector)
    d.addPairwiseEnergy(alike, compat=matrix, kernel=dcrf.CONST_KERNEL)
    return np.array(d.inference(5)).reshape((n_labels, *image.shape[:2]))


# Marginals of pydensecrf2 1.1: soft_script(pydensecrf, *scene())[:, ::6, ::7], and the others.
REFERENCES = {
    soft_script: [
        [
            [0.999993, 0.999998, 0.999996, 0.999993],
            [0.999997, 9e-06, 7e-06, 0.999992],
            [0.999988, 9e-06, 3e-05, 0.999997],
            [0.999997, 0.999995, 0.999983, 0.999997],
        ],
        [
            [3e-06, 1e-06, 2e-06, 4e-06],
            [1e-06, 0.999989, 0.999991, 4e-06],
            [6e-06, 0.99999, 0.999962, 2e-06],
            [2e-06, 4e-06, 1e-05, 2e-06],
        ],
        [
            [4e-06, 1e-06, 2e-06, 3e-06],
            [1e-06, 2e-06, 2e-06, 4e-06],
            [6e-06, 2e-06, 7e-06, 2e-06],
            [1e-06, 1e-06, 7e-06, 1e-06],
        ],
    ],
    label_script: [
        [
            [0.998595, 0.99925, 0.998936, 0.999032],
            [0.999531, 0.001858, 0.001558, 0.999148],
            [0.998871, 0.002431, 0.000921, 0.999608],
            [0.999431, 0.999317, 0.998496, 0.999624],
        ],
        [
            [0.000703, 0.000429, 0.000643, 0.000484],
            [0.000235, 0.997637, 0.997843, 0.000434],
            [0.000566, 0.996895, 0.998718, 0.0002],
            [0.000284, 0.000384, 0.00089, 0.000188],
        ],
        [
            [0.000702, 0.000321, 0.000421, 0.000484],
            [0.000234, 0.000505, 0.000599, 0.000418],
            [0.000563, 0.000675, 0.000361, 0.000192],
            [0.000284, 0.000299, 0.000614, 0.000188],
        ],
    ],
    energy_script: [
        [
            [0.707018, 0.724302, 0.699903, 0.663791],
            [0.744369, 0.3484, 0.279604, 0.727522],
            [0.709222, 0.319155, 0.400798, 0.675547],
            [0.735871, 0.680569, 0.702891, 0.652309],
        ],
        [
            [0.161374, 0.178247, 0.204176, 0.218509],
            [0.164712, 0.54887, 0.634388, 0.176549],
            [0.187959, 0.59364, 0.497214, 0.221914],
            [0.174499, 0.252149, 0.197305, 0.264045],
        ],
        [
            [0.131608, 0.097452, 0.095922, 0.1177],
            [0.090919, 0.10273, 0.086008, 0.095929],
            [0.102819, 0.087205, 0.101988, 0.102539],
            [0.08963, 0.067282, 0.099804, 0.083646],
        ],
    ],
}


@pytest.mark.parametrize("script", REFERENCES)
def test_a_script_gives_what_pydensecrf_gave(script):
    marginals = script(Ours, *scene())

    np.testing.assert_allclose(marginals[:, ::6, ::7], REFERENCES[script], atol=1e-5)


@pytest.mark.parametrize("script", REFERENCES)
@pytest.mark.parametrize("size", [(20, 24), (21, 23), (33, 21)])
@pytest.mark.parametrize("labels", [2, 5])
def test_a_script_gives_what_pydensecrf_gives(theirs, script, size, labels):
    image, probabilities = scene(*size, labels)

    marginals = script(Ours, image, probabilities)

    expected = script(theirs, image, probabilities)
    np.testing.assert_allclose(marginals, expected, atol=1e-4)
    np.testing.assert_array_equal(marginals.argmax(0), expected.argmax(0))


def stepwise(package, image, probabilities):
    """Marginals and divergence before the first of 4 steps and after each."""
    h, w = image.shape[:2]
    d = package.densecrf.DenseCRF2D(w, h, len(probabilities))
    d.setUnaryEnergy(package.utils.unary_from_softmax(probabilities))
    d.addPairwiseBilateral(sxy=20, srgb=15, rgbim=image, compat=2)
    q, tmp1, tmp2 = d.startInference()
    yield np.array(q), d.klDivergence(q)
    for _ in range(4):
        d.stepInference(q, tmp1, tmp2)
        yield np.array(q), d.klDivergence(q)


def test_steps_are_those_of_inference():
    image, probabilities = scene()

    steps = list(stepwise(Ours, image, probabilities))

    d = DenseCRF2D(23, 20, 3)
    d.setUnaryEnergy(ours.unary_from_softmax(probabilities))
    d.addPairwiseBilateral(20, 15, image, 2)
    for count, (marginals, _) in enumerate(steps):
        np.testing.assert_allclose(marginals, d.inference(count), atol=1e-5)
    divergences = [divergence for _, divergence in steps]
    assert divergences == sorted(divergences, reverse=True)


def test_steps_are_those_of_pydensecrf(theirs):
    for here, there in zip(stepwise(Ours, *scene()), stepwise(theirs, *scene()), strict=True):
        np.testing.assert_allclose(here[0], there[0], atol=1e-5)
        assert here[1] == pytest.approx(there[1], rel=1e-4)


def test_divergence_by_hand():
    d = DenseCRF(2, 2)
    energies = np.array([[1, 2], [0, 0]])
    d.setUnaryEnergy(energies)
    d.addPairwiseEnergy(np.zeros((1, 2)), compat=3)  # K is 1/2 everywhere
    q = np.array([[0.5, 0.25], [0.5, 0.75]], dtype=np.float32)

    expected = np.sum(q * (np.log(q) + energies - 3 * q.mean(1, keepdims=True)))
    assert d.klDivergence(q) == pytest.approx(expected, rel=1e-5)


def kernel_of(features):
    """The Gaussian of all pairs, without a lattice."""
    differences = features[:, :, None] - features[:, None, :]
    return np.exp(-0.5 * np.square(differences, dtype=np.float64).sum(0))


def normalised(kernel, kind):
    sums = kernel.sum(1)
    before, after = {
        ours.NO_NORMALIZATION: (np.ones_like(sums), np.ones_like(sums)),
        ours.NORMALIZE_BEFORE: (1 / sums, np.ones_like(sums)),
        ours.NORMALIZE_AFTER: (np.ones_like(sums), 1 / sums),
        ours.NORMALIZE_SYMMETRIC: (sums**-0.5, sums**-0.5),
    }[kind]
    return after[:, None] * kernel * before


def dense_messages(image, probabilities, kind):
    """sxy 1, compat 3 and sxy 23, srgb 7, compat 20: of public code that asks for these kinds."""
    rows, columns = np.indices(image.shape[:2]).reshape(2, -1)
    colours = image.reshape(-1, 3).T.astype(np.float64)
    near = kernel_of(np.stack([columns, rows]))
    alike = kernel_of(np.stack([columns / 23, rows / 23, *(colours / 7)]))
    filters = 3 * normalised(near, kind) + 20 * normalised(alike, kind)
    return probabilities.reshape(len(probabilities), -1) @ filters.T


NORMALISED = [ours.NORMALIZE_BEFORE, ours.NORMALIZE_AFTER, ours.NORMALIZE_SYMMETRIC]


@pytest.mark.parametrize("kind", NORMALISED)
def test_normalizations_are_those_of_all_pairs(kind):
    rows, columns = np.indices((20, 23))
    image = np.stack([100 + 3 * columns, 90 + 2 * rows, 60 + rows + columns], 2).astype(np.uint8)
    _, probabilities = scene()
    d = DenseCRF2D(23, 20, 3)
    d.setUnaryEnergy(np.zeros((3, 460)))
    d.addPairwiseGaussian(1, 3, ours.DIAG_KERNEL, kind)
    d.addPairwiseBilateral(23, 7, image, compat=20, normalization=kind)
    q = probabilities.reshape(3, -1).copy()

    d.stepInference(q, None, None)

    odds = np.log(q[1:] / q[0])
    errors = {}
    for other in NORMALISED:
        messages = dense_messages(image, probabilities, other)
        errors[other] = np.abs(odds - (messages[1:] - messages[0])).mean()
    assert errors.pop(kind) < 0.6 * min(errors.values())


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        pytest.param(ours.NO_NORMALIZATION, 1.25 / 1.5, id="none"),
        pytest.param(ours.NORMALIZE_BEFORE, 1 / 4, id="before"),
        pytest.param(ours.NORMALIZE_AFTER, 1 / 4, id="after"),
        pytest.param(ours.NORMALIZE_SYMMETRIC, 1 / 4, id="symmetric"),
    ],
)
def test_normalizations_of_points_in_one_place_by_hand(kind, share):
    """All four lie on one of the two vertices of their simplex, which the blur passes twice.

    In one dimension both directions are the same line: 1 and 0 become 1 and 1/2, then 5/4 and 1.
    Without normalisation the constant of the slices, 1 / (1 + 1/2), does not cancel.
    """
    d = DenseCRF(4, 2)
    d.setUnaryEnergy(np.zeros((2, 4)))
    d.addPairwiseEnergy(np.zeros((1, 4)), 2, normalization=kind)
    q = np.array([[0.9, 0.6, 0.3, 0.7], [0.1, 0.4, 0.7, 0.3]], dtype=np.float32)

    d.stepInference(q, None, None)

    np.testing.assert_allclose(np.log(q[0] / q[1]), 2 * share * (2.5 - 1.5), atol=1e-6)


def test_a_crf_without_energies_is_uniform():
    np.testing.assert_array_equal(DenseCRF2D(4, 3, 2).inference(5), np.full((2, 12), 0.5))


def test_without_kernels_the_marginals_are_the_probabilities():
    _, probabilities = scene()
    d = DenseCRF2D(23, 20, 3)
    d.setUnaryEnergy(ours.unary_from_softmax(probabilities))

    np.testing.assert_allclose(d.inference(5), probabilities.reshape(3, -1), atol=1e-6)


def test_an_impossible_label_stays_impossible():
    image, probabilities = scene()
    probabilities[2] = 0
    d = DenseCRF2D(23, 20, 3)
    d.setUnaryEnergy(ours.softmax_to_unary(probabilities))
    d.addPairwiseBilateral(sxy=20, srgb=15, rgbim=image, compat=5)

    marginals = d.inference(5)

    np.testing.assert_array_equal(marginals[2], 0)
    np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)


def test_inputs_may_be_of_any_layout():
    image, probabilities = scene()
    unary = ours.unary_from_softmax(probabilities)
    expected = soft_script(Ours, image, probabilities)

    for array in (image, unary):
        array.setflags(write=False)
    d = DenseCRF2D(23, 20, 3)
    d.setUnaryEnergy(np.asfortranarray(unary).astype(np.float64))
    d.addPairwiseGaussian(3, 3)
    d.addPairwiseBilateral(50, 5, np.asfortranarray(image), 10)

    np.testing.assert_allclose(d.inference(10).reshape(expected.shape), expected, atol=1e-6)


def test_energies_of_probabilities_by_hand():
    probabilities = np.array([[[0.2, 0.0]], [[0.8, 1.0]]])

    unary = ours.unary_from_softmax(probabilities)

    assert unary.dtype == np.float32
    np.testing.assert_allclose(np.exp(-unary), [[0.2, 1e-5], [0.8, 1]], rtol=1e-5)
    spread = ours.unary_from_softmax(probabilities, scale=0.5)
    np.testing.assert_allclose(np.exp(-spread), [[0.35, 0.25], [0.65, 0.75]], rtol=1e-5)
    older = ours.softmax_to_unary(probabilities)
    np.testing.assert_allclose(np.exp(-older), [[0.2, 0], [0.8, 1]], rtol=1e-5)


def test_energies_of_labels_by_hand():
    labels = np.array([[0, 1], [2, 1]])

    unsure = np.exp(-ours.unary_from_labels(labels, 2, 0.7))
    sure = np.exp(-ours.unary_from_labels(labels, 3, 0.6, zero_unsure=False))

    np.testing.assert_allclose(unsure, [[0.5, 0.7, 0.3, 0.7], [0.5, 0.3, 0.7, 0.3]], rtol=1e-5)
    np.testing.assert_allclose(sure[:, 1:3], [[0.2, 0.2], [0.6, 0.2], [0.2, 0.6]], rtol=1e-5)
    np.testing.assert_array_equal(
        ours.compute_unary(labels, 2), ours.unary_from_labels(labels, 2, 0.5)
    )


def test_features_by_hand():
    image = np.array([[[10], [20]], [[30], [40]]])

    features = ours.create_pairwise_bilateral(sdims=(2, 4), schan=(10,), img=image, chdim=2)

    expected = [[0, 0, 0.5, 0.5], [0, 0.25, 0, 0.25], [1, 2, 3, 4]]
    np.testing.assert_array_equal(features, expected)
    grey = ours.create_pairwise_bilateral((2, 4), 10, image[..., 0])
    np.testing.assert_array_equal(grey, expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unary_from_softmax", (scene()[1], 0.7)),
        ("unary_from_softmax", (scene()[1], None, None)),
        ("softmax_to_unary", (scene()[1], 0.5)),
        ("unary_from_labels", (scene()[1].argmax(0), 4, 0.7)),
        ("unary_from_labels", (scene()[1].argmax(0), 4, 0.7, False)),
        ("compute_unary", (scene()[1].argmax(0), 4)),
        ("create_pairwise_gaussian", ((2, 3, 4), (5, 6, 7))),
        ("create_pairwise_bilateral", ((2, 3), 7, scene()[0], 2)),
        ("create_pairwise_bilateral", ((2, 3), (7, 8), scene()[0][:, :2].transpose(1, 0, 2), 0)),
        ("create_pairwise_bilateral", ((2, 3), (7,), scene()[0][..., 0])),
    ],
)
def test_utilities_are_those_of_pydensecrf(theirs, name, arguments):
    expected = getattr(theirs.utils, name)(*arguments)

    result = getattr(ours, name)(*arguments)

    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_constants_are_those_of_pydensecrf(theirs):
    for kind in (ours.KernelType, ours.NormalizationType):
        for constant in kind:
            assert getattr(theirs.densecrf, constant.name).value == getattr(ours, constant.name)


IMAGE = scene()[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda d: d.addPairwiseGaussian(3, 3, normalization=4), "4 is not a valid", id="kind"
        ),
        pytest.param(lambda d: d.inference(-1), "niter is -1", id="steps"),
        pytest.param(
            lambda d: d.setUnaryEnergy(np.zeros((3, 460)), np.zeros((5, 460))),
            "learning is not supported",
            id="logistic",
        ),
        pytest.param(lambda d: d.setUnary(object()), "object is an energy that can", id="object"),
        pytest.param(lambda d: d.addPairwiseGaussian(0, 3), "sxy is 0", id="sxy"),
        pytest.param(lambda d: d.addPairwiseGaussian((1, 2, 3), 3), r"sxy is \(1, 2, 3\)", id="3"),
        pytest.param(lambda d: d.addPairwiseBilateral(3, -1, IMAGE, 3), "srgb is -1", id="srgb"),
        pytest.param(lambda d: DenseCRF(0, 3), "0 points and 3 labels", id="no-points"),
        pytest.param(lambda d: DenseCRF2D(3, 4, 0), "12 points and 0 labels", id="no-labels"),
        pytest.param(
            lambda d: ours.unary_from_labels(np.zeros(3, int), 1, 0.7), "n_labels is 1", id="one"
        ),
        pytest.param(
            lambda d: ours.unary_from_labels(np.zeros(3, int), 2, 1.0), "gt_prob is 1", id="sure"
        ),
    ],
)
def test_refuses_unsupported_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(DenseCRF2D(23, 20, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda d: d.setUnaryEnergy(np.zeros((460, 3))), r"u is \(460, 3\)", id="unary"
        ),
        pytest.param(
            lambda d: d.setUnaryEnergy(np.full((3, 460), np.nan)), "1380 values", id="nan"
        ),
        pytest.param(
            lambda d: d.setUnaryEnergy(np.full((3, 460), -np.inf)), "1380 values", id="certain"
        ),
        pytest.param(
            lambda d: d.addPairwiseEnergy(np.full((2, 460), np.inf), 3), "920 values", id="far"
        ),
        pytest.param(
            lambda d: d.addPairwiseBilateral(3, 3, IMAGE.transpose(1, 0, 2), 3),
            r"rgbim is uint8 \(23, 20, 3\) but the CRF is over \(20, 23\)",
            id="size",
        ),
        pytest.param(
            lambda d: d.addPairwiseBilateral(3, 3, IMAGE / 255, 3), "rgbim is float64", id="float"
        ),
        pytest.param(
            lambda d: d.addPairwiseEnergy(np.zeros((460, 2)), 3), r"features is \(460, 2\)", id="f"
        ),
        pytest.param(
            lambda d: d.addPairwiseGaussian(3, np.eye(4)), r"compat is \(4, 4\)", id="compat"
        ),
        pytest.param(
            lambda d: ours.unary_from_labels(np.array([0, 3]), 2, 0.7), "from 0 to 3", id="label"
        ),
        pytest.param(
            lambda d: ours.unary_from_labels(np.array([0, 2]), 2, 0.7, False), "to 2", id="beyond"
        ),
        pytest.param(
            lambda d: ours.unary_from_labels(np.array([-1, 1]), 2, 0.7), "from -1", id="negative"
        ),
    ],
)
def test_refuses_wrong_sizes_and_values(call, message):
    with pytest.raises(ValueError, match=message):
        call(DenseCRF2D(23, 20, 3))
