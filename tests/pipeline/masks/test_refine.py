import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.masks import dense_crf
from pipeline.masks.dense_crf import Bilateral, DenseCRF, Gaussian, unary_from_probabilities
from pipeline.masks.refine import CRFRefinement, NoRefinement

IMAGE = np.random.default_rng(0).integers(0, 255, (10, 14, 3)).astype(np.uint8)


def probabilities(labels, random_seed=0):
    planes = np.random.default_rng(random_seed).random((labels, 10, 14)).astype(np.float32)
    return planes / planes.sum(0)


def test_no_refinement_gives_back_what_came():
    planes = [probabilities(2), probabilities(3)]

    assert NoRefinement()(IMAGE, planes) == planes


def test_crf_refinement_is_the_crf_of_each():
    planes = [probabilities(3, 0), probabilities(3, 1), probabilities(2, 2)]

    refined = CRFRefinement()(IMAGE, planes)

    crf = DenseCRF([Gaussian(3, 3), Bilateral(80, 13, 10)], iterations=10)
    for result, plane in zip(refined, planes, strict=True):
        np.testing.assert_array_equal(result, crf(IMAGE, unary_from_probabilities(plane)))


def test_one_lattice_for_all(monkeypatch):
    built = []
    lattice = dense_crf.PermutohedralLattice
    monkeypatch.setattr(
        dense_crf, "PermutohedralLattice", lambda features: built.append(1) or lattice(features)
    )
    dense_crf._position_lattice.cache_clear()

    CRFRefinement()(IMAGE, [probabilities(2, k) for k in range(4)])

    assert len(built) == 2


def test_options_reach_the_crf():
    refine = CRFRefinement(gaussian_compat=0, bilateral_compat=0)

    refined = refine(IMAGE, [probabilities(3)])[0]

    np.testing.assert_allclose(refined, probabilities(3), atol=1e-5)


def test_background_alone_comes_back():
    alone = np.ones((1, 10, 14), np.float32)

    refined = CRFRefinement()(IMAGE, [alone, probabilities(2)])

    np.testing.assert_array_equal(refined[0], alone)
    assert refined[1].shape == (2, 10, 14)


def test_nothing_in_nothing_out():
    assert CRFRefinement()(IMAGE, []) == []


@pytest.mark.parametrize("refine", [NoRefinement(), CRFRefinement()])
def test_names_both_sizes(refine):
    with pytest.raises(
        DataError, match=r"probabilities\[1\] is \(2, 14, 10\) but the image is \(10, 14, 3\)"
    ):
        refine(IMAGE, [probabilities(2), probabilities(2).transpose(0, 2, 1)])


def test_refuses_options():
    with pytest.raises(ConfigError, match="Bilateral: srgb is 0"):
        CRFRefinement(bilateral_srgb=0)
