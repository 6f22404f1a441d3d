"""Depthwise convolutions that train quickly give what torch's own give."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.networks import depthwise
from pipeline.networks.depthwise import speed_up_depthwise
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask

LAYERS = [
    nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1),
    nn.Conv2d(8, 8, 3, groups=8, padding=2, dilation=2),
    nn.Conv2d(8, 8, 5, groups=8, padding=2),
    nn.Conv2d(8, 8, 5, groups=8, padding=4, dilation=2),
    Conv2dSame(8, 8, 3, groups=8, stride=2),
    Conv2dSame(8, 8, 5, groups=8, stride=2),
]


def sped_up(layer):
    """The same layer in a network that was sped_up."""
    network = nn.Sequential(copy.deepcopy(layer))
    speed_up_depthwise(network)
    return network[0]


def results(layer, images):
    """Output and gradients of images, weights and bias."""
    images = images.clone().requires_grad_()
    output = layer(images)
    weight = torch.linspace(-1, 1, output.numel()).bfloat16()  # the same in every precision
    (output * weight.to(output.dtype).reshape(output.shape)).sum().backward()
    found = output.detach(), images.grad, layer.weight.grad, layer.bias.grad
    layer.zero_grad()
    return found


@given(
    side=st.sampled_from([1, 3, 5]), step=st.integers(2, 9),
    height=st.integers(1, 20), width=st.integers(1, 20), per_channel=st.integers(1, 2),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_dilated_layers_are_exact(side, step, height, width, per_channel):
    reach = side // 2 * step
    plain = nn.Conv2d(
        3, 3 * per_channel, side, padding=reach, dilation=step, groups=3, dtype=torch.float64
    )
    images = torch.randn(2, 3, height, width, dtype=torch.float64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depthwise, "_is_slow", lambda *_: True)
        patch.setattr(depthwise, "_has_bfloat16_kernels", lambda: True)
        patch.setattr(depthwise, "_FAST", 5)  # in the precision of the images
        quick = results(sped_up(plain), images)

    for ours, theirs in zip(quick, results(plain, images), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("plain", LAYERS, ids=str)
def test_layers_are_as_accurate_as_torch_under_autocast(plain):
    torch.manual_seed(0)
    images = torch.randn(4, 8, 16, 12)
    exact = results(copy.deepcopy(plain).double(), images.double())
    with torch.autocast("cpu", torch.bfloat16):
        quick, torchs = results(sped_up(plain), images), results(plain, images)

    assert quick[0].dtype == torchs[0].dtype == torch.bfloat16
    for ours, theirs, true in zip(quick, torchs, exact, strict=True):
        rounding = true.abs().max() * torch.finfo(torch.bfloat16).eps / 2  # of an exact result
        assert (ours - true).abs().max() <= max(1.5 * (theirs - true).abs().max(), rounding)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("plain", LAYERS, ids=str)
def test_layers_run_in_float32_without_bfloat16_kernels(plain, monkeypatch):
    monkeypatch.setattr(depthwise, "_has_bfloat16_kernels", lambda: False)
    images = torch.randn(2, 8, 9, 9)

    with torch.autocast("cpu", torch.bfloat16):
        quick = results(sped_up(plain), images)

    output, *gradients = results(plain, images)
    torch.testing.assert_close(quick[0], output.bfloat16())
    for ours, theirs in zip(quick[1:], gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_layers_of_another_precision_keep_it_under_autocast():
    plain = nn.Conv2d(3, 3, 3, groups=3, padding=2, dilation=2, dtype=torch.float64)
    images = torch.randn(1, 3, 9, 9, dtype=torch.float64)

    with torch.autocast("cpu", torch.bfloat16):
        quick = sped_up(plain)(images)

    torch.testing.assert_close(quick, plain(images))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=2, stride=2),
        nn.Conv2d(4, 4, 3, groups=4, dilation=2),
        Conv2dSame(4, 4, 3, groups=4, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4, dilation=2, padding=2, stride=2),
        nn.Conv2d(4, 4, 3, groups=4, dilation=(2, 1), padding=(2, 1)),
        nn.Conv2d(4, 4, 3, groups=4, stride=2, padding_mode="reflect", padding=1),
        nn.LazyConv2d(4, 3, groups=4, stride=2),
    ],
    ids=str,
)
def test_other_layers_are_not_replaced(layer):
    assert type(sped_up(layer)) is type(layer)


@pytest.mark.parametrize("plain", LAYERS, ids=str)
def test_nothing_changes_in_eval_mode_or_another_precision(plain, monkeypatch):
    quick = sped_up(plain)
    images = torch.randn(1, 8, 9, 9)
    kind, called = type(plain), []
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda *a: called.append(a[1].dtype) or forward(*a))

    quick(images)
    with torch.autocast("cpu", torch.float16):
        quick(images)
    with torch.autocast("cpu", torch.bfloat16):
        quick.eval()(images)

    assert called == [torch.float32] * 3
    assert torch.equal(quick(images), plain(images))


@pytest.mark.parametrize(
    "task",
    [
        ClassifierTask.from_config(ClassifierConfig(), ("a", "b")),
        SegmenterTask.from_config(SegmenterConfig(), ("a", "b")),
    ],
    ids=lambda task: type(task).__name__,
)
def test_training_replaces_layers_and_loading_does_not(task):
    names = list(task.state_dict())
    assert not fast_layers(task)

    task.on_train_start()

    assert fast_layers(task)
    assert list(task.state_dict()) == names


def fast_layers(network):
    return [layer for layer in network.modules() if type(layer).__module__ == depthwise.__name__]
