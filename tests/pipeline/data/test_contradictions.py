"""Masks that are read with wrong classes, among errors that every real data set has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.contradictions import Shown, contradiction, deviations

NAMES = ["disc", "square", "star", "ring", "gear"]


def shown(labels, values):
    pairs = enumerate(zip(labels, values, strict=True))
    return [Shown(f"i{k}", tuple(a), (0, *b)) for k, (a, b) in pairs]


def noisy(rng, images, classes, noise, order):
    """Images whose masks have class ``k`` at ``order[k]``, and labels with errors."""
    truth = rng.random((images, classes)) < min(0.5, 1.5 / classes)
    rates = np.where(truth, noise, noise * truth.mean())
    named = truth ^ (rng.random(truth.shape) < rates)
    values = [[int(order[k]) + 1 for k in np.flatnonzero(row)] for row in truth]
    return shown([np.flatnonzero(row).tolist() for row in named], values)


def test_swapped_values_give_both_readings_and_the_remedy():
    images = shown([[0], [0], [1], [0, 1]], [[2], [2, 255], [1], [1, 2]])

    assert contradiction(images, ["disc", "square"]) == (
        "the masks contradict the image labels: 3 of 4 images agree with their labels only if "
        "value 1 is 'square', value 2 is 'disc', and 0 only as they are read now: value 1 is "
        "'disc', value 2 is 'square'. Give the classes in the order of the values, "
        "data.classes=[square,disc], or correct the masks."
    )


def test_a_swap_of_two_of_many_classes_leaves_the_others():
    images = shown([[0], [1], [2], [3], [1, 3]], [[1], [4], [3], [2], [2, 4]])

    assert "data.classes=[disc,ring,star,square,gear]" in contradiction(images, NAMES)


def test_one_image_that_looks_swapped_is_no_contradiction_but_is_told():
    images = shown([[0], [1], [1]], [[1], [2], [1]])

    assert contradiction(images, ["disc", "square"]) is None
    assert deviations(images, ["disc", "square"]) == (
        "the masks of 1 of 3 images show other classes than their labels, for example i2 (mask: "
        "disc; labels: square)"
    )


@pytest.mark.parametrize(
    ("classes", "remedy"),
    [(["defect"], "set data.object_value=255"), (["disc", "square"], "which of the 2 classes")],
)
def test_binary_masks_of_255_are_only_void(classes, remedy):
    images = shown([[0], [0], []], [[255], [255], []])

    assert "the masks of 2 of 2 labelled images hold no class" in contradiction(images, classes)
    assert remedy in contradiction(images, classes)


def test_outlines_of_void_and_an_object_of_void_are_fine():
    images = shown([[0], [0], [0]], [[1, 255], [1, 255], [255]])

    assert contradiction(images, ["defect"]) is None


def test_binary_masks_of_1_for_every_class_are_found_by_the_class_that_no_mask_has():
    images = shown([[0]] * 5 + [[1]] * 5, [[1]] * 10)

    text = contradiction(images, ["disc", "square"])

    assert "name 'square' in 5 of 10 images, and the masks show its value 2 in 0" in text
    assert contradiction(images, ["disc", "square"], truth=False) is None


def test_four_images_of_a_class_that_no_mask_has_may_be_chance():
    images = shown([[0]] * 5 + [[1]] * 4, [[1]] * 5 + [[]] * 4)

    assert contradiction(images, ["disc", "square"]) is None


def test_a_split_without_labels_is_not_compared():
    images = shown([[], []], [[1], [2]])

    assert contradiction(images, ["disc", "square"]) is None
    assert deviations(images, ["disc", "square"]) is None


@given(st.integers(0, 10_000), st.sampled_from([(1, 20), (2, 10), (3, 30), (5, 100)]))
@settings(max_examples=60, deadline=None)
def test_labels_of_which_a_fifth_is_wrong_are_not_taken_for_another_order(seed, shape):
    classes, images = shape
    data = noisy(np.random.default_rng(seed), images, classes, 0.2, np.arange(classes))

    assert contradiction(data, NAMES[:classes]) is None


@given(st.integers(0, 10_000), st.permutations(range(5)).filter(lambda p: p != sorted(p)))
@settings(max_examples=60, deadline=None)
def test_any_other_order_is_found_among_labels_of_which_a_tenth_is_wrong(seed, order):
    data = noisy(np.random.default_rng(seed), 120, 5, 0.1, order)

    text = contradiction(data, NAMES)

    right = [NAMES[order.index(k)] for k in range(5)]
    assert f"data.classes=[{','.join(right)}]" in text
