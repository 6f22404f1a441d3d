import re
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_checks import TARGETS, data, net

from tsgb.errors import ShapeError
from tsgb.metrics import (
    Curve,
    average_drop,
    average_increase,
    blur,
    deletion,
    insertion,
    removal_curve,
)

ORDERS = pytest.mark.parametrize("order", ["MoRF", "LeRF"])


def slow_curve(model, before, after, saliency, target, steps, order):
    """One image, one pixel at a time."""
    pixels = saliency.numel()
    values = saliency.flatten().tolist()
    sequence = sorted(range(pixels), key=lambda pixel: -values[pixel])  # stable
    if order == "LeRF":
        sequence.reverse()
    image, scores = before.clone().flatten(1), []
    for step in range(steps + 1):
        for pixel in sequence[: step * pixels // steps]:
            image[:, pixel] = after.flatten(1)[:, pixel]
        logits = model(image.view_as(before)[None])[0].detach().double().numpy()
        scores.append(np.exp(logits[target]) / np.exp(logits).sum())
    return torch.tensor(scores, dtype=torch.float32)


@ORDERS
@pytest.mark.parametrize("steps", [1, 4, 7, 30])
def test_removal_against_a_loop(order, steps):
    model, (images, maps) = net(), data()
    baseline = torch.tensor([0.5, -1.0, 0.0]).view(3, 1, 1)

    curve = removal_curve(
        model, images, maps, TARGETS, order=order, baseline=baseline, steps=steps, batch_size=4
    )

    after = baseline.expand(3, 5, 6)
    expected = [
        slow_curve(model, image, after, saliency, target, steps, order)
        for image, saliency, target in zip(images, maps, TARGETS.tolist(), strict=True)
    ]
    torch.testing.assert_close(curve.scores, torch.stack(expected))
    counts = [step * 30 // steps / 30 for step in range(steps + 1)]
    torch.testing.assert_close(curve.fractions, torch.tensor(counts))


def test_deletion_is_removal_of_the_most_relevant_first():
    model, (images, maps) = net(), data()

    curve = deletion(model, images, maps, TARGETS, steps=6)

    expected = removal_curve(model, images, maps, TARGETS, order="MoRF", baseline=0.0, steps=6)
    assert torch.equal(curve.scores, expected.scores)
    torch.testing.assert_close(
        curve.scores[:, 0], model(images).softmax(1)[range(3), TARGETS].detach()
    )
    torch.testing.assert_close(
        curve.scores[:, -1], model(0 * images).softmax(1)[range(3), TARGETS].detach()
    )


def test_insertion_against_a_loop():
    model, (images, maps) = net(), data()
    blurred = blur(images)

    curve = insertion(model, images, maps, TARGETS, steps=7, batch_size=5)

    expected = [
        slow_curve(model, blurred[i], images[i], maps[i], TARGETS[i].item(), 7, "MoRF")
        for i in range(3)
    ]
    torch.testing.assert_close(curve.scores, torch.stack(expected))


@pytest.mark.parametrize("steps", [5, 6])
def test_insertion_is_removal_of_the_least_relevant_read_backwards(steps):
    model, (images, maps) = net(), data()

    inserted = insertion(model, images, maps, TARGETS, start=0.3, steps=steps)

    removed = removal_curve(model, images, maps, TARGETS, order="LeRF", baseline=0.3, steps=steps)
    torch.testing.assert_close(inserted.scores, removed.scores.flip(1))
    torch.testing.assert_close(inserted.auc(), removed.auc())


class OneMap:
    """What torchcam's metrics ask of an extractor, answering with given maps."""

    def __init__(self, model, maps):
        self.model, self.maps = model, maps

    def __call__(self, *args, **kwargs):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def unit_range(maps):
    lowest = maps.amin((1, 2), keepdim=True)
    return (maps - lowest) / (maps.amax((1, 2), keepdim=True) - lowest)


def test_drop_and_increase_against_torchcam():
    metrics = pytest.importorskip("torchcam.metrics")
    model, (images, maps) = net(), data(1)
    reference = metrics.ClassificationMetric(
        OneMap(model, unit_range(maps)), partial(torch.softmax, dim=-1)
    )
    reference.update(images, TARGETS.tolist())

    drop = average_drop(model, images, 3 * maps + 7, TARGETS, batch_size=2)
    increase = average_increase(model, images, 3 * maps + 7, TARGETS, batch_size=2)

    expected = reference.summary()
    assert 0 < expected["conf_increase"] < 1  # both cases occur
    assert drop.mean().item() == pytest.approx(expected["avg_drop"], abs=1e-5)
    assert increase.mean().item() == pytest.approx(expected["conf_increase"])


def test_deletion_and_insertion_against_torchcam():
    metrics = pytest.importorskip("torchcam.metrics")
    model, (images, maps) = net(), data(2)
    reference = metrics.DeletionInsertionMetric(
        OneMap(model, maps), partial(torch.softmax, dim=-1), steps=10
    )
    reference.update(images, TARGETS.tolist())

    deleted = deletion(model, images, maps, TARGETS, steps=10).auc().mean()
    inserted = insertion(model, images, maps, TARGETS, start=0.0, steps=10).auc().mean()

    expected = reference.summary()
    assert deleted.item() == pytest.approx(expected["deletion_auc"], abs=1e-6)
    assert inserted.item() == pytest.approx(expected["insertion_auc"], abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 0.0], 0.5),
        ([1.0, 0.5, 0.2], 0.55),
        ([0.3, 0.3, 0.3, 0.3], 0.3),
        ([0.7], 0.7),
    ],
)
def test_area_by_hand(scores, expected):
    curve = Curve(torch.linspace(0, 1, len(scores)), torch.tensor([scores, scores]))

    torch.testing.assert_close(curve.auc(), torch.tensor([expected, expected]))


def brightness(images):
    """Two classes, the first one's logit the mean of the image."""
    means = images.mean((1, 2, 3))
    return torch.stack([means, torch.zeros_like(means)], dim=1)


def test_the_order_of_removal_by_hand():
    images = torch.tensor([[[[8.0, 4.0, 2.0, 2.0]]]])
    maps = torch.tensor([[[1.0, 3.0, 1.0, -2.0]]])
    ask = partial(
        removal_curve, brightness, images, maps, torch.tensor([0]), steps=4, probability=torch.exp
    )

    most, least = ask(order="MoRF").scores.log() * 4, ask(order="LeRF").scores.log() * 4

    torch.testing.assert_close(most, torch.tensor([[16.0, 12.0, 4.0, 2.0, 0.0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        least, torch.tensor([[16.0, 14.0, 12.0, 4.0, 0.0]]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("image", "saliency", "drop", "increase"),
    [
        pytest.param([4.0, 0.0], [1.0, 3.0], 1.0 - 0.5 / 0.880797, 0.0, id="the-object-is-masked"),
        pytest.param([4.0, 0.0], [3.0, 1.0], 0.0, 0.0, id="the-object-is-shown"),
        pytest.param([4.0, -2.0], [3.0, 1.0], 0.0, 1.0, id="what-speaks-against-it-is-masked"),
        pytest.param([4.0, 0.0], [2.0, 2.0], 1.0 - 0.5 / 0.880797, 0.0, id="constant-masks-all"),
    ],
)
def test_drop_and_increase_by_hand(image, saliency, drop, increase):
    arguments = (
        brightness,
        torch.tensor([[[image]]]),
        torch.tensor([[saliency]]),
        torch.tensor([0]),
    )

    torch.testing.assert_close(average_drop(*arguments), torch.tensor([drop]))
    torch.testing.assert_close(average_increase(*arguments), torch.tensor([increase]))


def test_a_probability_of_zero_cannot_drop():
    images, maps = data()

    drop = average_drop(net(), images, maps, TARGETS, probability=torch.zeros_like)

    assert torch.equal(drop, torch.zeros(3))


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 40), logit=st.floats(-5, 5))
@settings(max_examples=25, deadline=None)
def test_a_constant_model_gives_constant_curves(seed, steps, logit):
    images, maps = data(seed)
    logits = torch.tensor([0.0, logit, 1.0, -logit])

    for metric in (deletion, insertion):
        curve = metric(lambda x: logits.expand(len(x), 4), images, maps, TARGETS, steps=steps)
        expected = logits.softmax(0)[TARGETS]
        torch.testing.assert_close(curve.scores, expected[:, None].expand_as(curve.scores))
        torch.testing.assert_close(curve.auc(), expected)


@pytest.mark.parametrize("metric", [removal_curve, deletion, insertion])
def test_only_the_order_of_a_map_counts(metric):
    model, (images, maps) = net(), data()

    curve = metric(model, images, maps, TARGETS)

    assert torch.equal(curve.scores, metric(model, images, (maps / 9).exp(), TARGETS).scores)


def test_a_pixel_is_one_step_at_the_least():
    images, maps = data()

    curve = deletion(net(), images, maps, TARGETS, steps=10**6)

    assert torch.equal(curve.scores, deletion(net(), images, maps, TARGETS, steps=30).scores)
    assert curve.scores.shape == (3, 31)


def test_a_good_map_beats_its_opposite():
    images, _ = data()
    images = images.abs()
    maps = images.mean(1)  # what the model goes by
    targets = torch.zeros(3, dtype=torch.int64)

    for metric, better in ((deletion, torch.lt), (insertion, torch.gt)):
        right = metric(brightness, images, maps, targets, steps=10).auc()
        assert better(right, metric(brightness, images, -maps, targets, steps=10).auc()).all()


def test_probabilities_of_multi_label_models():
    model, (images, maps) = net(), data()

    curve = deletion(model, images, maps, TARGETS, probability=torch.sigmoid)

    expected = model(images).sigmoid()[range(3), TARGETS].detach()
    torch.testing.assert_close(curve.scores[:, 0], expected)


def test_blur_against_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    images = torch.randn(2, 3, 17, 14, generator=torch.Generator().manual_seed(0))
    point = np.zeros((11, 11))
    point[5, 5] = 1.0
    kernel = ndimage.gaussian_filter(point, 5)

    expected = [
        [ndimage.correlate(channel, kernel, mode="constant") for channel in image]
        for image in images.double().numpy()
    ]

    torch.testing.assert_close(
        blur(images).double(), torch.tensor(np.array(expected)), atol=1e-6, rtol=0
    )


def test_arguments_out_of_range():
    arguments = (net(), *data(), TARGETS)

    with pytest.raises(ValueError, match=r"^removal_curve: order is 'morf'\. .* MoRF, LeRF\.$"):
        removal_curve(*arguments, order="morf")
    with pytest.raises(ValueError, match=r"^deletion: steps is 0\."):
        deletion(*arguments, steps=0)
    with pytest.raises(ValueError, match=r"^average_drop: batch_size is -1\."):
        average_drop(*arguments, batch_size=-1)
    message = re.escape("insertion: start is (2, 5, 6) but images are (3, 3, 5, 6).")
    with pytest.raises(ShapeError, match=rf"^{message}"):
        insertion(*arguments, start=torch.zeros(2, 5, 6))
    with pytest.raises(ShapeError, match=r"^blur: images have shape \(5, 6\)"):
        blur(torch.zeros(5, 6))
