import numpy as np
import pytest

from pipeline.masks.crf.channels import Channels, initial_channels


def unaries(labels=21, points=50, present=3):
    generator = np.random.default_rng(0)
    unary = generator.uniform(0, 4, (labels, points)).astype(np.float32)
    unary[present:] += 12
    return unary


def softmax(logits):
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def all_active(labels):
    return Channels(np.arange(labels), np.arange(0), 0.0)


def test_rows_of_active_labels_are_logits_with_maximum_zero():
    unary = unaries(labels=5)

    rows, _ = all_active(5).pack(unary)

    assert rows.shape == (50, 8)
    np.testing.assert_allclose(rows[:, :5], (unary.min(0) - unary).T, atol=1e-6)
    assert rows[:, 5:].max() < -1e29


@pytest.mark.parametrize("points", [16, 17, 50, 64])
def test_muted_labels_keep_their_part_of_the_softmax(points):
    unary = unaries(points=points)
    channels = Channels(np.array([0, 2, 1]), np.arange(3, 21), 3e-4)

    rows, rest = channels.pack(unary)
    marginals = channels.unpack(softmax(rows.T).T.astype(np.float32), rest, unary)

    assert channels.size == 4
    np.testing.assert_allclose(marginals, softmax(-unary), rtol=2e-5, atol=1e-9)


def test_only_active_channels_send():
    channels = Channels(np.array([4, 7]), np.array([0, 1]), 3e-4)

    np.testing.assert_array_equal(channels.sending, [1, 1, 0, 0])


def test_labels_with_small_marginals_are_muted_at_first():
    channels = initial_channels(unaries(), 3e-4)

    np.testing.assert_array_equal(channels.active, [0, 1, 2])
    np.testing.assert_array_equal(channels.muted, np.arange(3, 21))


def test_one_pixel_with_a_large_marginal_keeps_a_label_active():
    unary = unaries()
    unary[9, 41] = 0

    assert 9 in initial_channels(unary, 3e-4).active


@pytest.mark.parametrize(("labels", "present", "eps"), [(21, 3, 0.0), (4, 2, 3e-4), (21, 20, 3e-4)])
def test_no_label_is_muted_without_gain(labels, present, eps):
    channels = initial_channels(unaries(labels, present=present), eps)

    np.testing.assert_array_equal(channels.active, np.arange(labels))


def test_further_labels_can_be_muted():
    channels = Channels(np.array([0, 1, 2, 3, 9]), np.array([5]), 3e-4)

    fewer = channels.without(np.array([False, True, False, True, True, False, False, False]))

    np.testing.assert_array_equal(fewer.active, [0, 2])
    np.testing.assert_array_equal(np.sort(fewer.muted), [1, 3, 5, 9])
    assert channels.without(np.zeros(8, bool)) is None
