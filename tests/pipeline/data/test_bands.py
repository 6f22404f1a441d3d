"""Bands: statistics of the training images, pictures of them, augmentation."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.bands import Bands, Moments, measured
from pipeline.data.datasets import BandJitter, classifier_transform, segmenter_transform

FIVE = Bands(
    5, (2, 1, 0), "uint16", (1000.0, 2000.0, 300.0, 4000.0, 50.0), (100.0, 300.0, 20.0, 9.0, 1.0)
)
images = st.lists(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(2, 4), st.just(2)),
        elements=st.integers(0, 65535),
    ),
    min_size=1,
    max_size=4,
)


def pixels(rng, height=40, width=50):
    values = rng.normal(FIVE.mean, FIVE.deviation, (height, width, 5))
    return values.astype(np.float32)


@given(images)
def test_statistics_are_those_of_all_pixels_together(found):
    every = np.concatenate([image.reshape(-1, 2) for image in found]).astype(np.float64)
    bands, moments = Bands(2, (0, 1, 1)), [Moments.of(image) for image in found]
    if (every.std(0) == 0).any():
        return

    result = measured(bands, "uint16", moments)

    np.testing.assert_allclose(result.mean, every.mean(0), rtol=1e-9)
    np.testing.assert_allclose(result.deviation, every.std(0), rtol=1e-6)


def test_a_band_of_one_value_is_refused_by_its_number():
    image = np.dstack([np.arange(4.0).reshape(2, 2), np.full((2, 2), 7.0)]).astype(np.float32)

    with pytest.raises(DataError, match=r"band\(s\) 2 have one value"):
        measured(Bands(2, (0, 1, 1)), "uint8", [Moments.of(image)])


@pytest.mark.parametrize(
    ("channels", "shown", "message"),
    [
        (None, [3, 2, 1], r"Give data\.channels=N too"),
        (0, None, r"data\.channels=0: out of range"),
        (4, [0, 1, 2], r"three numbers from 1 to 4"),
        (4, [1, 2], r"three numbers from 1 to 4"),
        (2, [1, 2, 3], r"three numbers from 1 to 2"),
    ],
)
def test_numbers_that_cannot_be(channels, shown, message):
    with pytest.raises(ConfigError, match=message):
        Bands.chosen(channels, shown)


def test_bands_pass_through_files():
    assert Bands.from_plain(FIVE.plain()) == FIVE


def test_a_picture_shows_the_chosen_bands_by_their_deviations():
    values = np.asarray(FIVE.mean, np.float32) + np.asarray(FIVE.deviation, np.float32) * np.array(
        [[[-5.0, 0, 2, 0, 0]]], np.float32
    )

    assert FIVE.picture(values).tolist() == [[[255, 128, 0]]]


def test_padding_is_the_mean_of_each_band_and_void():
    transform = segmenter_transform(64, (1.0, 1.0), 0.0, FIVE.mean, FIVE)
    transform.set_random_seed(1)
    rng = np.random.default_rng(0)

    made = transform(image=pixels(rng, 20, 20), mask=np.ones((20, 20), np.uint8))

    assert made["image"].shape == (64, 64, 5)
    outside = made["image"][made["mask"] == 255]
    assert len(outside) == 64 * 64 - 20 * 20
    np.testing.assert_allclose(outside - np.asarray(FIVE.mean), 0, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_crops_have_any_number_of_bands_and_their_own_values(channels):
    bands = dataclasses.replace(
        FIVE, channels=channels, mean=FIVE.mean[:channels], deviation=FIVE.deviation[:channels]
    )
    transform = classifier_transform(32, (0.4, 1.0), 0.2, 30, vertical_flip=True, bands=bands)
    image = pixels(np.random.default_rng(0))[..., :channels]

    transform.set_random_seed(3)
    first = transform(image=image)["image"]
    transform.set_random_seed(3)
    second = transform(image=image)["image"]

    assert first.shape == (32, 32, channels)
    assert np.array_equal(first, second)
    assert np.abs(first.mean((0, 1)) - bands.mean).max() < max(bands.deviation)


def test_jitter_moves_all_bands_by_as_many_deviations():
    jitter = BandJitter(0.2, FIVE)
    image = np.broadcast_to(np.asarray(FIVE.mean, np.float32), (2, 2, 5))

    moved = jitter.apply(image, contrast=0.5, brightness=0.1)

    shift = (moved - image)[0, 0] / np.asarray(FIVE.deviation)
    np.testing.assert_allclose(shift, 0.1, atol=1e-3)
