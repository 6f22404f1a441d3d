"""What the networks are fed: the same in every run, whatever the number of workers."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.base.errors import DataError
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
        loader.batch_sampler.sampler.set_epoch(epoch)
        batches.append(torch.cat([images for images, _ in loader]))
    return batches


def test_a_gpu_is_fed_from_pinned_memory(items):
    transform = classifier_transform(32, (0.5, 1.0), 0.2, 10, vertical_flip=True)
    images = LabelledImages(items, transform, 5, classes=2)

    assert EpochData(images, 3, 0, pinned=True).train_dataloader().pin_memory


def test_batches_do_not_depend_on_the_number_of_workers(items):
    for one, other in zip(epochs(items, 0), epochs(items, 2), strict=True):
        torch.testing.assert_close(one, other)


def test_every_epoch_is_augmented_anew_and_repeatably(items):
    first, second = epochs(items, 0)

    assert not torch.equal(first, second)
    assert torch.equal(first, epochs(items, 0)[0])


@pytest.mark.parametrize("kind", ["labels", "masks"])
def test_an_image_is_augmented_by_epoch_and_random_seed(items, kind):
    def one(epoch, random_seed):
        if kind == "labels":
            transform = classifier_transform(32, (0.3, 1.0), 0.2, 10, vertical_flip=True)
            data = LabelledImages(items, transform, random_seed, 2)
        else:
            transform = segmenter_transform(32, (0.5, 2), 0.2, IMAGENET.mean)
            data = MaskedImages(items, transform, random_seed, ground_truth, classes=2)
        return data[epoch, 3][0]

    first = one(0, 5)
    assert torch.equal(first, one(0, 5))
    assert not torch.equal(first, one(1, 5))
    assert not torch.equal(first, one(0, 6))


def order(items, random_seed, epoch):
    """The keys in the order of an epoch."""
    transform = classifier_transform(32, (0.5, 1.0), 0.2, 10, vertical_flip=True)
    data = EpochData(LabelledImages(items, transform, random_seed, classes=2), 3, 0)
    sampler = data.train_dataloader().batch_sampler.sampler
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_epoch_and_every_random_seed_has_an_order_of_its_own(items):
    choices = [(0, 0), (0, 1), (0, 2), (0, 3), (100, 0), (200, 0)]
    orders = [tuple(index for _, index in order(items, *choice)) for choice in choices]

    assert all(sorted(one) == list(range(6)) for one in orders)
    assert len(set(orders)) == len(choices)
    assert {epoch for epoch, _ in order(items, 0, 3)} == {3}


def test_batches_are_whole_and_a_batch_larger_than_the_data_is_all_of_them(items):
    def sizes(batch_size):
        transform = classifier_transform(32, (0.5, 1.0), 0.2, 10, vertical_flip=True)
        data = EpochData(LabelledImages(items, transform, 5, classes=2), batch_size, 0)
        return [len(images) for images, _ in data.train_dataloader()]

    assert sizes(4) == [4]
    assert sizes(3) == [3, 3]
    assert sizes(100) == [6]


def seen(transform, count=60):
    """What becomes of a picture whose rows and columns are all different."""
    rows, columns = np.mgrid[:32, :32].astype(np.uint8)
    picture = np.stack([4 * rows, 4 * columns, np.full_like(rows, 128)], axis=-1)
    transform.set_random_seed(0)
    return [transform(image=picture, mask=rows)["image"].astype(int) for _ in range(count)]


@pytest.mark.parametrize("wanted", [True, False])
def test_pictures_are_turned_upside_down_only_if_wanted(wanted):
    transform = classifier_transform(32, (1.0, 1.0), 0.0, 0, vertical_flip=wanted)

    downwards = [view[0, :, 0].mean() < view[-1, :, 0].mean() for view in seen(transform)]

    assert (len(set(downwards)) == 2) == wanted
    assert any(downwards)


@pytest.mark.parametrize(
    "make",
    [
        lambda jitter: classifier_transform(32, (1.0, 1.0), jitter, 0, vertical_flip=False),
        lambda jitter: segmenter_transform(32, (1.0, 1.0), jitter, IMAGENET.mean),
    ],
)
def test_colours_change_by_the_jitter_and_both_sides_are_shown(make):
    plain, changed = seen(make(0.0)), seen(make(0.4))

    assert all(abs(view[..., 2] - 128).max() <= 1 for view in plain)
    assert max(abs(view[..., 2] - 128).max() for view in changed) > 20
    assert {view[:, 0, 1].mean() < view[:, -1, 1].mean() for view in plain} == {True, False}


def test_the_range_of_scales_is_that_of_the_setting():
    """A picture of 32 px within 128 px of void shows its scale by its size."""
    transform = segmenter_transform(128, (0.5, 2.0), 0.0, IMAGENET.mean)
    mask = np.ones((32, 32), np.uint8)
    transform.set_random_seed(0)

    views = (transform(image=np.zeros((32, 32, 3), np.uint8), mask=mask) for _ in range(100))
    sides = [np.sqrt((view["mask"] == 1).sum()) for view in views]

    assert 15 <= min(sides) < 20
    assert 58 < max(sides) <= 65


def test_labels_are_zeros_and_ones_by_class(items):
    transform = classifier_transform(32, (0.5, 1.0), 0.0, 0, vertical_flip=False)
    data = LabelledImages(items, transform, 0, classes=3)

    image, labels = data[0, 1]

    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    assert labels.tolist() == [0.0, 1.0, 0.0]


def test_what_a_crop_adds_outside_the_image_is_void(items):
    transform = segmenter_transform(64, (0.5, 0.5), 0.0, IMAGENET.mean)
    data = MaskedImages(items, transform, 0, ground_truth, classes=2)

    image, mask = data[0, 0]

    assert image.shape == (3, 64, 64)
    assert (mask == VOID).sum() == 64 * 64 - 20 * 25
    assert set(mask.unique().tolist()) == {0, 1, 2, VOID}
    assert (image[:, 63, 63]).tolist() == [124, 116, 104]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mask_that_was_changed_after_the_checks_never_gets_to_the_network(items, workers):
    labels = np.zeros((40, 50), dtype=np.uint8)
    labels[7, 9], labels[0, 0] = 3, VOID
    items[4].mask.write_bytes(encode_label_image(labels))
    transform = segmenter_transform(32, (0.5, 2), 0.2, IMAGENET.mean)
    data = EpochData(MaskedImages(items, transform, 0, ground_truth, classes=2), 2, workers)

    with pytest.raises(DataError, match=r"4: its label image contains the value\(s\) 3; .*0\.\.2"):
        list(data.train_dataloader())


def test_an_image_that_cannot_be_read_comes_without_pixels(items):
    items[2].image.write_bytes(b"no image")

    image, targets, name = TargetedImages(items)[2]

    assert image.shape == (3, 0, 0)
    assert targets.tolist() == [0]
    assert name == items[2].id
