"""Losses against loops over pixels; void never counts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy as reference

from pipeline.errors import ConfigError
from pipeline.tasks.losses import build_loss

NAMES = ["cross_entropy", "balanced", "bootstrapped", "generalised"]


def random_batch(seed, labels=4, size=(2, 5, 7), void=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size[0], labels, *size[1:], generator=generator, dtype=torch.float64)
    targets = torch.randint(0, labels, size, generator=generator, dtype=torch.uint8)
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


def expected(name, logits, labels, share):
    """What a loss should be, pixel by pixel."""
    pixels = pixel_losses(logits, labels)
    losses = [loss for _, loss in pixels]
    if name == "balanced":
        background = mean([loss for label, loss in pixels if label == 0])
        return (mean([loss for label, loss in pixels if label]) + background) / 2
    if name == "bootstrapped":
        return mean(sorted(losses, reverse=True)[: math.ceil(share * len(losses))])
    if name == "generalised":
        return mean([(1 - math.exp(-loss) ** 0.7) / 0.7 for loss in losses])
    return mean(losses)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 1.0), void=st.sampled_from([0.0, 0.5]))
def test_each_loss_is_what_a_loop_over_pixels_says(name, seed, share, void):
    logits, labels = random_batch(seed, void=void)

    loss = build_loss(name, share)(logits, labels).item()

    assert loss == pytest.approx(expected(name, logits, labels, share), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_void_pixels_get_no_gradient(name):
    logits, labels = random_batch(3)

    build_loss(name, 1.0)(logits, labels).backward()

    void = (labels == 255)[:, None].expand_as(logits)
    assert (logits.grad[void] == 0).all()
    assert (logits.grad[~void] != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_void_is_zero_with_a_gradient(name):
    logits, labels = random_batch(4, void=1.1)

    loss = build_loss(name, 0.5)(logits, labels)
    loss.backward()

    assert loss == 0
    assert (logits.grad == 0).all()


def test_balanced_counts_a_rare_object_as_much_as_all_background():
    logits = torch.zeros(1, 2, 1, 100, dtype=torch.float64)
    labels = torch.zeros(1, 1, 100, dtype=torch.uint8)
    labels[..., 0] = 1
    logits[:, 1, :, 0] = 2.0  # the object's pixel is nearly right

    balanced = build_loss("balanced", 1.0)(logits, labels)

    own = reference(logits[..., :1], torch.ones(1, 1, 1, dtype=torch.int64))
    assert float(balanced) == pytest.approx(float(own + math.log(2)) / 2)


def test_balanced_without_an_object_is_half_the_mean_over_background():
    logits, _ = random_batch(5)
    labels = torch.zeros(2, 5, 7, dtype=torch.uint8)

    loss = build_loss("balanced", 1.0)(logits, labels)

    torch.testing.assert_close(loss, reference(logits, labels.long()) / 2)


def test_only_hard_pixels_teach_when_bootstrapped():
    logits = torch.tensor([[[[4.0, 0.0, -4.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]]], requires_grad=True)
    labels = torch.zeros(1, 1, 4, dtype=torch.uint8)

    build_loss("bootstrapped", 0.5)(logits, labels).backward()

    taught = (logits.grad[0, 0, 0] != 0).tolist()
    assert taught == [False, True, True, False]


def test_the_generalised_gradient_is_weighted_by_agreement():
    logits, labels = random_batch(6, void=0.0)
    build_loss("generalised", 1.0)(logits, labels).backward()
    general = logits.grad.clone()
    logits.grad = None
    build_loss("cross_entropy", 1.0)(logits, labels).backward()

    agreement = logits.softmax(1).gather(1, labels.long()[:, None])

    torch.testing.assert_close(general, logits.grad * agreement**0.7)


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("focal", 0.5, r"segmenter\.loss: 'focal' is unknown.*bootstrapped"),
        ("bootstrapped", 0.0, r"segmenter\.hard_share: 0\.0"),
        ("bootstrapped", 1.5, r"segmenter\.hard_share: 1\.5"),
    ],
)
def test_what_cannot_be_learned_is_refused(name, share, message):
    with pytest.raises(ConfigError, match=message):
        build_loss(name, share)
