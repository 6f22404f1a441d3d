"""What the networks are fed: the same in every run, whatever the number of workers."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.data.catalogue import VOID, Item
from pipeline.data.datasets import (
    EpochData,
    LabelledImages,
    MaskedImages,
    TargetedImages,
    classifier_transform,
    segmenter_transform,
)
from pipeline.data.palette import encode_label_image
from pipeline.data.truth import ground_truth
from pipeline.networks.colours import IMAGENET


@pytest.fixture
def items(tmp_path):
    random = np.random.default_rng(0)
    made = []
    for index in range(6):
        image, mask = tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"
        cv2.imwrite(str(image), random.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        mask.write_bytes(encode_label_image(random.integers(0, 3, (40, 50), dtype=np.uint8)))
        made.append(Item(f"{index}", image, (index % 2,), mask))
    return made


def epochs(items, workers, count=2):
    transform = classifier_transform(32, (0.5, 1.0), 0.2, 10, vertical_flip=True)
    data = EpochData(LabelledImages(items, transform, 5, classes=2), 3, workers)
    loader = data.train_dataloader()
    batches = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches.append(torch.cat([images for images, _ in loader]))
    return batches


def test_batches_do_not_depend_on_the_number_of_workers(items):
    for one, other in zip(epochs(items, 0), epochs(items, 2), strict=True):
        torch.testing.assert_close(one, other)


def test_every_epoch_is_augmented_anew_and_repeatably(items):
    first, second = epochs(items, 0)

    assert not torch.equal(first, second)
    assert torch.equal(first, epochs(items, 0)[0])


def test_labels_are_zeros_and_ones_by_class(items):
    transform = classifier_transform(32, (0.5, 1.0), 0.0, 0, vertical_flip=False)
    data = LabelledImages(items, transform, 0, classes=3)

    image, labels = data[0, 1]

    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    assert labels.tolist() == [0.0, 1.0, 0.0]


def test_what_a_crop_adds_outside_the_image_is_void(items):
    transform = segmenter_transform(64, (0.5, 0.5), 0.0, IMAGENET.mean)
    data = MaskedImages(items, transform, 0, ground_truth)

    image, mask = data[0, 0]

    assert image.shape == (3, 64, 64)
    assert (mask == VOID).sum() == 64 * 64 - 20 * 25
    assert set(mask.unique().tolist()) == {0, 1, 2, VOID}
    assert (image[:, 63, 63]).tolist() == [124, 116, 104]


def test_an_image_that_cannot_be_read_comes_without_pixels(items):
    items[2].image.write_bytes(b"no image")

    image, targets = TargetedImages(items)[2]

    assert image.shape == (3, 0, 0)
    assert targets.tolist() == [0]
