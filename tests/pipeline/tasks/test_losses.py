"""Losses against loops over pixels; void never counts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy as reference

from pipeline.tasks.losses import BalancedCrossEntropy, CrossEntropy

LOSSES = [CrossEntropy(), BalancedCrossEntropy()]


def random_batch(seed, labels=4, size=(2, 5, 7), void=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size[0], labels, *size[1:], generator=generator, dtype=torch.float64)
    targets = torch.randint(0, labels, size, generator=generator)
    targets[torch.rand(size, generator=generator) < void] = 255
    return logits.requires_grad_(), targets


def pixel_losses(logits, labels):
    """(label, -log probability) of every pixel that is not void."""
    found = []
    for b, y, x in (labels != 255).nonzero().tolist():
        label = int(labels[b, y, x])
        found.append((label, -logits[b, :, y, x].log_softmax(0)[label].item()))
    return found


def mean(values):
    return sum(values) / len(values) if values else 0.0


def expected(loss, logits, labels):
    """What a loss should be, pixel by pixel."""
    pixels = pixel_losses(logits, labels)
    if isinstance(loss, BalancedCrossEntropy):
        background = mean([value for label, value in pixels if label == 0])
        return (mean([value for label, value in pixels if label]) + background) / 2
    return mean([value for _, value in pixels])


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), void=st.sampled_from([0.0, 0.5]))
def test_losses_equal_a_loop_over_pixels(loss, seed, void):
    logits, labels = random_batch(seed, void=void)

    value = loss(logits, labels).item()

    assert value == pytest.approx(expected(loss, logits, labels), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_void_pixels_get_no_gradient(loss):
    logits, labels = random_batch(3)

    loss(logits, labels).backward()

    void = (labels == 255)[:, None].expand_as(logits)
    assert (logits.grad[void] == 0).all()
    assert (logits.grad[~void] != 0).any()


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_void_batch_has_zero_loss_and_a_gradient(loss):
    logits, labels = random_batch(4, void=1.1)

    value = loss(logits, labels)
    value.backward()

    assert value == 0
    assert (logits.grad == 0).all()


def test_balanced_counts_a_rare_object_as_much_as_all_background():
    logits = torch.zeros(1, 2, 1, 100, dtype=torch.float64)
    labels = torch.zeros(1, 1, 100, dtype=torch.int64)
    labels[..., 0] = 1
    logits[:, 1, :, 0] = 2.0  # the object's pixel is nearly right

    balanced = BalancedCrossEntropy()(logits, labels)

    own = reference(logits[..., :1], torch.ones(1, 1, 1, dtype=torch.int64))
    assert float(balanced) == pytest.approx(float(own + math.log(2)) / 2)


def test_balanced_without_an_object_is_half_the_mean_over_background():
    logits, _ = random_batch(5)
    labels = torch.zeros(2, 5, 7, dtype=torch.int64)

    loss = BalancedCrossEntropy()(logits, labels)

    torch.testing.assert_close(loss, reference(logits, labels) / 2)
