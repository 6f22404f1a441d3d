import numpy as np
import pytest

from pipeline.data.surfaces import DEFECTIVE, draw_surface

SURFACES = [draw_surface(np.random.default_rng([0, k]), 64) for k in range(150)]
BAD = [surface for surface in SURFACES if surface.labels]


def test_most_surfaces_are_good_and_the_share_is_the_stated_one():
    # 0.3 of 150 is 45, with a standard deviation of 5.6
    assert len(BAD) == pytest.approx(DEFECTIVE * len(SURFACES), abs=17)


def test_the_label_says_what_the_mask_shows():
    for surface in SURFACES:
        assert surface.labels == ((0,) if (surface.mask == 1).any() else ())
        assert set(np.unique(surface.mask)) <= {0, 1, 255}


def test_defects_are_small_and_stand_out_from_what_surrounds_them():
    for surface in BAD:
        defect = surface.mask == 1
        grey = surface.image.mean(axis=2)
        assert 0.001 < defect.mean() < 0.2
        near = np.abs(grey[defect] - np.median(grey[surface.mask == 0]))
        assert near.mean() > 15


def test_the_range_of_brightness_does_not_tell_good_from_bad():
    """Good surfaces have seams and shades."""
    contrast = np.array([np.ptp(surface.image.mean(axis=2)) for surface in SURFACES])
    is_bad = np.array([bool(surface.labels) for surface in SURFACES])

    assert contrast[~is_bad].max() > np.quantile(contrast[is_bad], 0.1)


def test_the_same_seed_draws_the_same_surface():
    again = draw_surface(np.random.default_rng([0, 3]), 64)

    assert np.array_equal(again.image, SURFACES[3].image)
    assert np.array_equal(again.mask, SURFACES[3].mask)
