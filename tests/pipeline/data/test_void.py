"""Void pixels as background, without the padding around the image."""

import numpy as np
import pytest
from PIL import Image

from pipeline.data.catalogue import Item
from pipeline.data.datasets import MaskedImages, segmenter_transform
from pipeline.data.palette import encode_label_image
from pipeline.data.truth import ground_truth
from pipeline.data.void import void_is_background


@pytest.fixture
def one(tmp_path):
    """An image that is half object and half void, and how its label image is read."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    labels = np.full((20, 20), 3, np.uint8)
    labels[:, 10:] = 255
    (tmp_path / "mask.png").write_bytes(encode_label_image(labels))
    return [Item("a", tmp_path / "a.png", (2,), tmp_path / "mask.png")], ground_truth


def known(one, transform):
    items, read = one
    return MaskedImages(items, transform, 0, lambda item: void_is_background(read(item)), 3)


def test_void_pixels_become_background(one):
    transform = segmenter_transform(16, (1.0, 1.0), 0.2, (0.5, 0.5, 0.5))

    _, labels = known(one, transform)[(0, 0)]

    assert set(labels.unique().tolist()) == {0, 3}


@pytest.mark.parametrize("epoch", range(5))
def test_padding_stays_void_and_the_augmentation_is_the_same(one, epoch):
    transform = segmenter_transform(32, (0.8, 1.2), 0.2, (0.5, 0.5, 0.5))

    image, labels = known(one, transform)[(epoch, 0)]

    plain, plain_labels = MaskedImages(one[0], transform, 0, one[1], 3)[(epoch, 0)]
    inside = labels != 255
    assert (image == plain).all()
    assert (labels[plain_labels == 3] == 3).all()
    assert (inside == inside.any(1)[:, None] & inside.any(0)).all()  # a rectangle: the image
    assert not inside.all()
    assert (plain_labels[inside & (labels == 0)] == 255).all()
