"""How often a call runs the network: once as a rule, never more than twice."""

import inspect
from functools import partial

import pytest
import torch
from model_checks import Middle, images, small_net
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import tsgb
from tsgb import (
    TSGB,
    ContrastiveExcitationBackprop,
    GradCAM,
    GuidedBackprop,
    InputXGradient,
    LayerError,
    Method,
    TSGBError,
)

TARGETS = torch.tensor([[1, 3], [0, -1]])
METHODS = [getattr(tsgb, name) for name in dir(tsgb)]
METHODS = [m for m in METHODS if isinstance(m, type) and issubclass(m, Method) and m is not Method]
# Some methods are made of several passes: samples, points on a path, and the image itself.
OF_SEVERAL = {
    tsgb.SmoothGrad: (partial(tsgb.SmoothGrad, samples=2), 3),
    tsgb.IntegratedGradients: (partial(tsgb.IntegratedGradients, steps=2, batch_size=2), 3),
}


def passes(model, method):
    """How often ``model`` starts to run in one call, and the error that the call ended in."""
    started, error = [], None
    handle = model.register_forward_pre_hook(lambda *_: started.append(1))
    try:
        method.attribute(images(), TARGETS)
    except TSGBError as refused:
        error = refused
    finally:
        handle.remove()
    return len(started), error


class Same(nn.Module):
    """Returns what it was given, and keeps it."""

    def forward(self, x):
        self.kept = x
        return x


class UsedInside(nn.Module):
    """Returns a tensor that it has used itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.side = nn.Conv2d(8, 8, 3, padding=1), None

    def forward(self, x):
        x = self.conv(x)
        self.side = functional.avg_pool2d(x, 3, 1, 1)
        return x


class Late(nn.Module):
    """A residual block whose way round is a module that runs after the convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.skip = nn.Conv2d(8, 8, 3, padding=1), nn.Identity()

    def forward(self, x):
        return torch.relu(self.conv(x) + self.skip(x))


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return 3 * x

    @staticmethod
    def backward(_ctx, g):
        return 3 * g


def on_cpu(net, x):
    with torch.autograd.graph.save_on_cpu():
        return net.second(net.norm(x).relu())


def own_gradient(net, x):
    (slope,) = torch.autograd.grad(x.sin().sum(), x, retain_graph=True)
    return net.second(x + slope.detach())


def with_block(block, forward):
    model = Middle(forward)
    model.block = block.eval()
    return model


class ConvolutionalHead(nn.Module):
    """A 3 x 3 convolution as classifier: a module, or a function of a parameter."""

    def __init__(self, *, module):
        super().__init__()
        self.block, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3)
        self.after = nn.Identity() if module else nn.Linear(7, 2)  # never used
        self.eval()

    def forward(self, x):
        x = torch.relu(self.block(x))
        return functional.conv2d(x, self.head.weight, self.head.bias).mean((2, 3))


MODELS = {  # a network, and a layer of it
    "plain": (small_net, "4"),
    "functional": (lambda: Middle(lambda net, x: functional.relu(net.second(x))), "second"),
    "in-place": (lambda: Middle(lambda net, x: net.second(x.relu_()).add_(x).relu_()), "second"),
    "residual": (lambda: with_block(Late(), lambda net, x: net.block(net.second(x))), "block"),
    "residual-way-round": (
        lambda: with_block(Late(), lambda net, x: net.block(net.second(x) + x)), "block.skip",
    ),
    "used-inside": (
        lambda: with_block(UsedInside(), lambda net, x: net.block(x) * 2 + net.block.side), "block",
    ),
    "returned-again": (
        lambda: with_block(Same(), lambda net, x: net.second(x) + net.block(x)), "block",
    ),
    "classifier-below": (lambda: with_block(Same(), lambda net, x: net.block(x)), "block"),
    "gate-below": (
        lambda: Middle(lambda net, x: net.second(x) * x.mean((2, 3), keepdim=True).sigmoid()),
        "second",
    ),
    "checkpointed": (
        lambda: Middle(
            lambda net, x: checkpoint(lambda x: net.second(net.norm(x)), x, use_reentrant=False)
        ),
        "second",
    ),
    "saved-on-cpu": (lambda: Middle(on_cpu), "second"),
    "custom-function": (lambda: Middle(lambda net, x: net.second(Tripled.apply(x))), "second"),
    "own-gradient": (lambda: Middle(own_gradient), "second"),
    "no-rule": (lambda: Middle(lambda net, x: net.second(x).softmax(1)), "second"),
    "convolutional-head": (lambda: ConvolutionalHead(module=True), "block"),
    "hidden-convolutional-head": (lambda: ConvolutionalHead(module=False), "block"),
}  # fmt: skip
MODEL = pytest.mark.parametrize("model", MODELS)


@MODEL
@pytest.mark.parametrize("method", METHODS)
def test_no_network_runs_more_than_twice(method, model):
    build, layer = MODELS[model]
    make, calls = OF_SEVERAL.get(method, (method, 1))
    readings = [{}, {"layer": layer}] if "layer" in inspect.signature(method).parameters else [{}]

    for options in readings:
        network = build()
        count, _ = passes(network, make(network, **options))

        assert 0 < count <= 2 * calls


ONCE = ["plain", "functional", "in-place", "residual", "gate-below", "checkpointed",
        "saved-on-cpu", "convolutional-head"]  # fmt: skip


@pytest.mark.parametrize("model", ONCE)
@pytest.mark.parametrize("read", [True, False], ids=["layer", "image"])
@pytest.mark.parametrize("method", [TSGB, GradCAM, InputXGradient])
def test_most_networks_run_once(method, read, model):
    build, layer = MODELS[model]
    network = build()

    count, error = passes(network, method(network, **({"layer": layer} if read else {})))

    assert (count, error) == (1, None)


@pytest.mark.parametrize(
    ("method", "model"), [(GradCAM, "used-inside"), (InputXGradient, "residual-way-round"),
                          (GuidedBackprop, "returned-again"), (GradCAM, "own-gradient")],
)  # fmt: skip
def test_a_layer_whose_gradient_needs_what_is_below_it_takes_a_second_pass(method, model):
    build, layer = MODELS[model]
    network = build()

    assert passes(network, method(network, layer=layer)) == (2, None)


def test_a_classifier_that_was_not_expected_takes_a_second_pass():
    network = MODELS["hidden-convolutional-head"][0]()

    for layer in (None, "block"):
        assert passes(network, TSGB(network, layer=layer)) == (2, None)


@pytest.mark.parametrize("method", [TSGB, ContrastiveExcitationBackprop])
def test_a_classifier_below_the_layer_takes_a_second_pass(method):
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    count, error = passes(network.eval(), method(network, layer="1"))

    assert count == 2
    assert error is None or isinstance(error, LayerError)  # no contrast above the classifier
