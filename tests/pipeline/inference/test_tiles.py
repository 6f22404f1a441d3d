"""A photo in tiles has the probabilities of the whole photo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from pipeline.inference.tiles import Tiling, bands, blended, ramp


def blurred(image):
    """Two planes that depend on 9 x 9 neighbours, as a network with a small view would make."""
    import cv2

    soft = cv2.blur(image[..., 0].astype(np.float32), (9, 9), borderType=cv2.BORDER_REPLICATE)
    return np.stack([soft / 255, 1 - soft / 255])


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    side=st.sampled_from([64, 96, 128]),
    overlap=st.sampled_from([0.25, 0.5, 0.75]),
)
@settings(max_examples=40, deadline=None)
def test_planes_that_do_not_depend_on_the_tile_are_equal(height, width, side, overlap):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    found = blended(
        image, Tiling(side, overlap), lambda part: part.transpose(2, 0, 1) / np.float32(255),
        (3, height, width),
    )  # fmt: skip

    assert np.allclose(found, image.transpose(2, 0, 1) / 255, atol=1e-6)


def test_away_from_the_borders_of_tiles_the_result_is_that_of_the_whole():
    image = np.random.default_rng(1).integers(0, 256, (200, 260, 3), dtype=np.uint8)

    found = blended(image, Tiling(128, 0.25), blurred, (2, 200, 260))

    whole = blurred(image)
    inside = np.zeros((200, 260), bool)
    inside[:92, :92] = True  # 4 px beside the overlap, which begins at 96
    assert np.allclose(found[:, inside], whole[:, inside], atol=1e-6)
    assert np.abs(found - whole).max() < 0.1


def test_every_tile_has_the_same_size_but_the_last_ones():
    seen = []

    def planes(part):
        seen.append(part.shape[:2])
        return np.ones((1, *part.shape[:2]), np.float32)

    blended(np.zeros((160, 200, 3), np.uint8), Tiling(64, 0.5), planes, (1, 160, 200))

    assert max(seen) == (64, 64)
    assert seen.count((64, 64)) == 4 * 5


def test_bands_are_handed_out_as_soon_as_they_are_finished():
    asked = []

    def read(rows, columns):
        asked.append(rows.stop)
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)

    made = bands(640, 64, Tiling(64, 0.25), read, lambda p: np.ones((1, *p.shape[:2])), 1)
    first, values = next(made)

    assert (first, values.shape) == (slice(0, 32), (1, 32, 64))
    assert asked == [64]
    assert [rows.stop - rows.start for rows, _ in made][-1] > 0


@pytest.mark.parametrize(("side", "overlap"), [(100, 0.2), (32, 0.2), (64, 1.0), (64, -0.1)])
def test_tiles_that_cannot_be_are_refused(side, overlap):
    with pytest.raises(ConfigError, match="Choose a"):
        Tiling(side, overlap)


def test_weights_of_neighbours_add_up_to_one():
    left = ramp(64, rises=0, falls=16)
    right = ramp(64, rises=16, falls=0)

    assert np.allclose(left[-16:] + right[:16], 1)
    assert left[0] == right[-1] == 1
