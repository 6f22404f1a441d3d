"""Pictures of label images: arrays in, arrays or files out."""

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
