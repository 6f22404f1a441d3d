"""Marginals of the authors' program, kept in ``golden/dense_crf.npz``, beside ours.

They were made with pydensecrf2 1.1 (built from its source distribution, Python 3.11, NumPy 2.4)::

    python -m venv reference && reference/bin/pip install pydensecrf2==1.1 pytest
    reference/bin/python tests/pipeline/masks/test_dense_crf_golden.py

The scenes are drawn here, and kept in the file as well, so that another version of NumPy changes
nothing. Where pydensecrf is installed, it is also asked anew.
"""

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden" / "dense_crf.npz"
VOID = 255

# name: (height, width), labels, kind of unary, Gaussian (sxy, compat), bilateral (sxy, srgb,
# compat), iterations. A letter is a setting in use, the word the work it is known from.
CASES = {
    "a-psa": ((31, 27), 3, "soft", (3, 3), (80, 13, 10), 10),
    "b-irn": ((31, 27), 3, "hard", (3, 3), (50, 5, 10), 10),
    "c-deeplab": ((31, 27), 3, "soft", (1, 3), (67, 3, 4), 10),
    "d-toco": ((29, 27), 2, "soft", (1, 1), (121, 5, 4), 10),
    "e-afa": ((31, 27), 3, "soft", (3, 3), (64, 5, 4), 10),
    "f-cosa": ((30, 26), 3, "soft", (4, 3), (83, 5, 3), 10),
    "g-deeplabv1": ((31, 27), 3, "soft", (3, 3), (32, 13, 10), 10),
    "seam-scaled": ((31, 27), 3, "soft", (0.25, 3), (80 / 12, 13, 10), 10),
    "a-21-labels": ((19, 23), 21, "soft", (3, 3), (80, 13, 10), 10),
    "b-21-labels": ((19, 23), 21, "hard", (3, 3), (50, 5, 10), 10),
    "c-few-of-21": ((19, 23), 21, "few", (1, 3), (67, 3, 4), 10),
    "one-step": ((31, 27), 3, "soft", (3, 3), (80, 13, 10), 1),
    "two-reaches": ((31, 27), 3, "soft", ((2, 5), 3), ((30, 9), 13, 10), 5),
    "vector": ((31, 27), 3, "soft", (3, [-3, -1, 0.5]), (80, 13, [-4, -4, -8]), 5),
    "matrix": (
        *((31, 27), 3, "soft", (3, [[-3, 1, 0], [0, -2, 0], [0.5, 0, -1]])),
        *((80, 13, [[-6, 1, 1], [1, -6, 1], [1, 1, -6]]), 5),
    ),
}


def scene(size, labels, kind, random_seed):
    """Shapes with texture, noise and blurred borders; scores (or labels) that follow them badly."""
    generator = np.random.default_rng(random_seed)
    height, width = size
    y, x = np.indices(size)
    regions = ((x - 0.4 * width) ** 2 + (y - 0.5 * height) ** 2 < 0.08 * height * width).astype(int)
    regions[(x > 0.7 * width) & (y > 0.4 * height)] = 2 % labels
    colours = generator.integers(40, 210, (3, 3))
    shade = 12 * np.sin(x / 3)[..., None] + generator.normal(0, 4, (*size, 3))
    image = (colours[regions] + shade).clip(0, 255).astype(np.uint8)
    moved = np.roll(regions, (2, -2), axis=(0, 1))
    flipped = generator.random(size) < 0.15
    noisy = np.where(flipped, generator.integers(0, labels, size), moved)
    if kind == "hard":
        given = np.where(generator.random(size) < 0.1, VOID, noisy)
        return image, given.astype(np.uint8)
    energy = generator.integers(24, 48, (labels, *size))
    energy -= np.where(
        np.arange(labels)[:, None, None] == noisy, generator.integers(0, 24, size), 0
    )
    if kind == "few":
        energy[3:] = generator.integers(110, 127, (labels - 3, *size))
        energy[:3] = np.minimum(energy[:3], energy[:3].min(axis=0) + 30)
    return image, energy.astype(np.int8)


def reference_marginals(crf, image, unary, gaussian, bilateral, iterations):
    """What the module ``crf``, pydensecrf.densecrf, makes of a case."""
    labels, height, width = unary.shape
    field = crf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    compats = [
        np.array(k[-1], np.float32) if np.ndim(k[-1]) else k[-1] for k in (gaussian, bilateral)
    ]
    field.addPairwiseGaussian(sxy=gaussian[0], compat=compats[0])
    field.addPairwiseBilateral(
        sxy=bilateral[0], srgb=bilateral[1], rgbim=np.ascontiguousarray(image), compat=compats[1]
    )
    return np.array(field.inference(iterations)).reshape(unary.shape)


def unary_of(given, labels):
    """The stored energies are in sixteenths; stored labels are right with probability 0.7."""
    if given.ndim == 3:
        return given.astype(np.float32) / 16
    from pipeline.masks.dense_crf import unary_from_labels

    return unary_from_labels(given, labels, gt_prob=0.7, void=VOID)


def our_marginals(engine, image, unary, gaussian, bilateral, iterations):
    from pipeline.masks.dense_crf import Bilateral, DenseCRF, Gaussian

    crf = DenseCRF([Gaussian(*gaussian), Bilateral(*bilateral)], iterations, engine=engine)
    return crf(image, unary)


def stored(name):
    with np.load(GOLDEN) as golden:
        return (
            golden[f"{name}/image"],
            unary_of(golden[f"{name}/given"], CASES[name][1]),
            golden[f"{name}/marginals"] / np.float32(65535),
        )


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors_program(name, engine):
    image, unary, expected = stored(name)

    marginals = our_marginals(engine, image, unary, *CASES[name][3:])

    np.testing.assert_allclose(marginals, expected, rtol=0, atol=5e-5)
    sure = np.ptp(np.sort(expected, axis=0)[-2:], axis=0) > 1e-4
    np.testing.assert_array_equal(marginals.argmax(0)[sure], expected.argmax(0)[sure])
    assert np.abs(expected - softmax(-unary)).max() > 0.1  # there was something to do


@pytest.mark.parametrize("name", ["a-psa", "b-irn", "c-deeplab", "d-toco", "e-afa", "g-deeplabv1"])
def test_is_as_near_the_exact_result_as_the_authors_program(name, engine):
    image, unary, expected = stored(name)
    gaussian, bilateral, iterations = CASES[name][3:]
    exact = exact_marginals(image, unary, gaussian, bilateral, iterations)

    marginals = our_marginals(engine, image, unary, gaussian, bilateral, iterations)

    theirs, ours = np.abs(expected - exact).mean(), np.abs(marginals - exact).mean()
    assert ours < 1.001 * theirs + 1e-5
    assert theirs < 0.02  # the lattice is an approximation, and as good as this


@pytest.mark.parametrize("name", CASES)
def test_equals_the_installed_program(name, engine):
    crf = pytest.importorskip("pydensecrf.densecrf")
    image, unary, _ = stored(name)

    expected = reference_marginals(crf, image, unary, *CASES[name][3:])

    np.testing.assert_allclose(
        our_marginals(engine, image, unary, *CASES[name][3:]), expected, atol=5e-5
    )


def softmax(logits):
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def exact_marginals(image, unary, gaussian, bilateral, iterations):
    """The same inference over all pairs of pixels, in double precision."""
    labels, height, width = unary.shape
    rows, columns = np.indices((height, width))
    place = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    colours = image.reshape(-1, 3) / bilateral[1]
    kernel = gaussian[1] * exact_filter(place / gaussian[0])
    kernel += bilateral[2] * exact_filter(np.hstack([place / bilateral[0], colours]))
    logits = -unary.reshape(labels, -1).astype(np.float64)
    marginals = softmax(logits)
    for _ in range(iterations):
        marginals = softmax(logits + marginals @ kernel)
    return marginals.reshape(unary.shape)


def exact_filter(features):
    square = (features**2).sum(1)
    weights = np.exp(features @ features.T - 0.5 * (square[:, None] + square))
    norm = 1 / np.sqrt(weights.sum(1))
    return norm[:, None] * weights * norm


def test_labels_become_the_unaries_of_the_authors_program():
    """Their ``unary_from_labels`` on [1, 2, 3, 0] with ``zero_unsure`` and gt_prob 0.7."""
    from pipeline.masks.dense_crf import unary_from_labels

    expected = [
        [0.3566749, 1.8971200, 1.8971200, 1.0986123],
        [1.8971200, 0.3566749, 1.8971200, 1.0986123],
        [1.8971200, 1.8971200, 0.3566749, 1.0986123],
    ]

    unary = unary_from_labels(np.array([[0, 1, 2, VOID]]), 3, 0.7, void=VOID)

    np.testing.assert_allclose(unary[:, 0], expected, rtol=0, atol=1e-6)


def make_golden():
    """Needs pydensecrf and pytest, and nothing of this repository."""
    from pydensecrf import densecrf, utils

    arrays = {}
    for index, (name, (size, labels, kind, *rest)) in enumerate(CASES.items()):
        image, given = scene(size, labels, kind, index)
        if kind == "hard":
            numbered = np.where(given == VOID, 0, given.astype(int) + 1)
            unary = utils.unary_from_labels(numbered, labels, 0.7).reshape(labels, *size)
        else:
            unary = given.astype(np.float32) / 16
        marginals = reference_marginals(densecrf, image, unary, *rest)
        arrays[f"{name}/image"], arrays[f"{name}/given"] = image, given
        arrays[f"{name}/marginals"] = np.rint(marginals * 65535).astype(np.uint16)
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    make_golden()
