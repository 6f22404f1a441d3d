"""Pictures: arrays in, arrays or files out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.report import pictures


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def decode(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((440, 600), (220, 300), id="as-high-as-allowed"),
        pytest.param((100, 4000), (10, 400), id="as-wide-as-allowed"),
        pytest.param((50, 60), (100, 120), id="small-is-doubled"),
        pytest.param((1, 4000), (1, 400), id="never-without-pixels"),
    ],
)
def test_thumbnail_size(size, expected):
    assert pictures.thumbnail(np.zeros((*size, 3), np.uint8)).shape[:2] == expected


def test_overlay_map_leaves_zero_grey_and_lights_up_the_maximum(photo):
    saliency = np.zeros((6, 9), np.float32)
    saliency[:, 6:] = 1

    picture = pictures.overlay_map(photo, saliency).astype(int)

    plain = pictures.overlay_map(photo, np.zeros((2, 2))).astype(int)
    assert np.array_equal(picture[:, :40], plain[:, :40])
    assert picture[:, 75:].sum(-1).mean() > plain[:, 75:].sum(-1).mean() + 100


def test_overlay_map_has_the_colours_of_the_library_on_a_fixed_scale():
    """A map whose maximum is one half is darker than one that reaches one."""
    black = np.zeros((4, 4, 3), np.uint8)

    full, half = (pictures.overlay_map(black, np.full((2, 2), v)) for v in (1.0, 0.5))

    expected = 0.8 * np.array([255, 252, 222])  # the last colour of tsgb.draw, at its opacity
    np.testing.assert_allclose(full[0, 0], expected, atol=1)
    middle = np.mean([[178, 44, 96], [231, 87, 54]], axis=0)  # between two of its points
    np.testing.assert_allclose(half[0, 0], 0.8 * 0.5**0.5 * middle, atol=1)


def test_overlay_labels_shows_class_colours_and_stripes():
    image = np.full((40, 40, 3), 128, np.uint8)
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 10:20], labels[:, 30:] = 15, 255

    picture = pictures.overlay_labels(image, labels)

    expected = 0.45 * 128 + 0.65 * pictures.class_colours(15)[14]
    np.testing.assert_allclose(picture[20, 15], expected, atol=1)
    assert len(np.unique(picture[:, 35:].reshape(-1, 3), axis=0)) == 2  # light and dark stripe
    assert (picture[:, 10] == 255).all()  # outline of the object
    assert len(np.unique(picture[:, 22:30].reshape(-1, 3), axis=0)) == 1  # plain background


def test_overlay_labels_takes_label_images_of_another_size(photo):
    assert pictures.overlay_labels(photo, np.ones((7, 5), np.uint8)).shape == photo.shape


@pytest.mark.parametrize("encode", [pictures.encode_jpeg, pictures.encode_png])
def test_files_keep_the_order_of_colours(encode):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255

    assert decode(encode(red))[8, 8].argmax() == 0


def test_a_png_file_keeps_every_pixel(photo):
    np.testing.assert_array_equal(decode(pictures.encode_png(photo)), photo)


def test_the_colours_of_twenty_classes_differ():
    colours = pictures.class_colours(20).astype(int)

    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(20, dtype=int)
    assert apart.min() > 60
