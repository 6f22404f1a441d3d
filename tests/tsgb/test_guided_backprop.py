import math

import pytest
import torch
import torchvision
from model_checks import Middle, images, random_statistics
from torch import nn
from torch.nn import functional

from tsgb import UnsupportedModelError
from tsgb.methods.gradient import Gradient
from tsgb.methods.guided_backprop import Deconvnet, GuidedBackprop

TARGETS = torch.tensor([1, 3])
BOTH = pytest.mark.parametrize("method", [GuidedBackprop, Deconvnet])


def through(rectifier, pixels, weight, method):
    """Map of a network that rectifies four pixels and adds them up with weights."""
    net = nn.Sequential(rectifier, nn.Flatten(), nn.Linear(4, 1)).eval()
    net[2].weight.data = torch.tensor([weight])
    maps = method(net).attribute(torch.tensor(pixels).view(1, 1, 2, 2), torch.tensor([0]))
    return maps.flatten().tolist()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param(Gradient, [2.0, 0.0, 1.0, 0.0], id="plain"),
        pytest.param(GuidedBackprop, [2.0, 0.0, 0.0, 0.0], id="guided"),
        pytest.param(Deconvnet, [2.0, 5.0, 0.0, 4.0], id="deconvnet"),
    ],
)
def test_relu_by_hand(method, expected):
    assert through(nn.ReLU(), [1.0, -1.0, 2.0, 0.0], [2.0, 5.0, -1.0, 4.0], method) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param(GuidedBackprop, [0.0, 0.0, 0.0, 4.0], id="guided"),
        pytest.param(Deconvnet, [2.0, 5.0, 0.0, 4.0], id="deconvnet"),
    ],
)
def test_relu6_by_hand(method, expected):
    assert through(nn.ReLU6(), [7.0, -1.0, 2.0, 5.0], [2.0, 5.0, -1.0, 4.0], method) == expected


def test_the_largest_channel_counts():
    net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))
    net[0].weight.data = torch.tensor([[1.0, -3.0], [1.0, 1.0]]).view(2, 2, 1, 1)
    net[3].weight.data = torch.tensor([[1.0, 0.5]])
    pixel = torch.tensor([5.0, 1.0]).view(1, 2, 1, 1)

    maps = GuidedBackprop(net.eval()).attribute(pixel, torch.tensor([0]))

    assert maps.item() == 2.5  # of 1 + 0.5 and -3 + 0.5


def relu_net(*, inplace=False):
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=inplace),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 3, groups=4),
        nn.ReLU(inplace=inplace),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(72, 16),
        nn.ReLU(inplace=inplace),
        nn.Dropout(0.5, inplace=inplace),
        nn.Linear(16, 5),
    )
    return random_statistics(net).double()


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(
    ("method", "reference"), [(GuidedBackprop, "GuidedBackprop"), (Deconvnet, "Deconvolution")]
)
@pytest.mark.parametrize("inplace", [False, True])
def test_against_captum(method, reference, inplace):
    captum = pytest.importorskip("captum.attr")
    pixels = images().double().requires_grad_()

    expected = getattr(captum, reference)(relu_net()).attribute(pixels, target=TARGETS)

    maps = method(relu_net(inplace=inplace)).attribute(images().double(), TARGETS)
    assert not torch.allclose(maps, Gradient(relu_net()).attribute(images().double(), TARGETS))
    expected = expected.detach().abs().amax(1, keepdim=True)
    torch.testing.assert_close(maps, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(
    ("method", "reference"), [(GuidedBackprop, "GuidedBackprop"), (Deconvnet, "Deconvolution")]
)
def test_residual_network_against_captum(method, reference):
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net = random_statistics(torchvision.models.resnet18(num_classes=5))
    pixels, targets = images(1, 48, 40), torch.tensor([3])

    expected = getattr(captum, reference)(net).attribute(
        pixels.clone().requires_grad_(), target=targets
    )

    maps = method(net).attribute(pixels, targets)
    expected = expected.detach().abs().amax(1, keepdim=True)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * expected.max().item())


def middle_map(method, middle):
    return method(Middle(middle)).attribute(images(), TARGETS)


@BOTH
@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(torch.relu, id="torch"),
        pytest.param(torch.Tensor.relu_, id="in-place-method"),
        pytest.param(lambda x: functional.relu(x, inplace=True), id="in-place-flag"),
        pytest.param(nn.ReLU(inplace=True), id="module"),
        pytest.param(lambda x: x.clamp(min=0), id="clamp"),
        pytest.param(lambda x: x.clamp_(0), id="clamp-in-place"),
        pytest.param(lambda x: x.clip(0, None), id="clip"),
        pytest.param(lambda x: x.clamp_min(0), id="clamp-min"),
        pytest.param(lambda x: functional.hardtanh(x, 0.0, math.inf), id="hardtanh"),
        pytest.param(lambda x: functional.relu(functional.relu(x)), id="twice"),
    ],
)
def test_every_spelling_of_relu_gives_the_same_map(method, spelling):
    expected = middle_map(method, lambda net, x: net.second(functional.relu(x)))

    assert torch.equal(middle_map(method, lambda net, x: net.second(spelling(x))), expected)


@BOTH
@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(lambda x: functional.relu6(x, inplace=True), id="in-place"),
        pytest.param(nn.ReLU6(inplace=True), id="module"),
        pytest.param(lambda x: x.clamp(0, 6), id="clamp"),
        pytest.param(lambda x: functional.hardtanh(x, 0.0, 6.0), id="hardtanh"),
    ],
)
def test_every_spelling_of_relu6_gives_the_same_map(method, spelling):
    expected = middle_map(method, lambda net, x: net.second(functional.relu6(9 * x)))

    assert torch.equal(middle_map(method, lambda net, x: net.second(spelling(9 * x))), expected)
    assert not torch.equal(middle_map(method, lambda net, x: net.second(9 * x)), expected)


@BOTH
@pytest.mark.parametrize(
    "middle",
    [
        pytest.param(lambda net, x: torch.cat([x[:, :4], -x[:, 4:]], 1), id="cat"),
        pytest.param(lambda net, x: 0.5 * x + 1 - x / 3, id="arithmetic"),
        pytest.param(lambda net, x: net.norm(net.second(x)), id="batch-norm"),
        pytest.param(lambda net, x: functional.avg_pool2d(x, 3, 2), id="average"),
        pytest.param(lambda net, x: functional.max_pool2d(x, 3, 2), id="maximum"),
        pytest.param(lambda net, x: functional.interpolate(x, scale_factor=2), id="interpolate"),
        pytest.param(lambda net, x: functional.dropout(x, training=False), id="dropout"),
    ],
)
def test_everything_else_keeps_its_plain_gradient(method, middle):
    assert torch.equal(middle_map(method, middle), middle_map(Gradient, middle))


@BOTH
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("silu", functional.silu),
        ("gelu", functional.gelu),
        ("elu", functional.elu),
        ("sigmoid", lambda x: x * torch.sigmoid(x)),
        ("hardswish", functional.hardswish),
        ("tanh", torch.tanh),
        ("softplus", functional.softplus),
        ("leaky_relu", functional.leaky_relu),
        ("prelu", lambda x: functional.prelu(x, torch.full((1,), 0.1))),
        ("abs", torch.abs),
        ("pow", lambda x: x**2),
        ("clamp_max", lambda x: x.clamp_max(1)),
        ("maximum", lambda x: torch.maximum(x, torch.zeros(()))),
        ("where", lambda x: torch.where(x.detach() > 0, x, 0)),
        ("group_norm", lambda x: functional.group_norm(x, 2)),
        ("softmax", lambda x: x.softmax(1)),
    ],
)
def test_other_non_linearities_are_refused(method, name, function):
    message = rf"^{method.__name__}: there is no backward rule for the operation '{name}'"
    with pytest.raises(UnsupportedModelError, match=message):
        middle_map(method, lambda net, x: function(x))


@BOTH
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: x.clamp(-1, 1),
            r"^\w+: clamp: the bounds -1 and 1 make it something other than a ReLU, for which "
            r"there is no rule\. Its plain gradient would be used silently and the map would be "
            r"wrong\. "
            r"Clip from 0 upwards as ReLU and ReLU6 do, or use a method without rules such as "
            r"Gradient\.$",
        ),
        (lambda x: x.clamp(max=6), r"^\w+: clamp: the bounds None and 6"),
        (lambda x: x.clamp(torch.zeros(())), r"^\w+: clamp: the bounds 0\.0 and inf"),
        (functional.hardtanh, r"^\w+: hardtanh: the bounds -1\.0 and 1\.0"),
        (lambda x: x * x.mean((2, 3), keepdim=True), r"^\w+: mul: two of its arguments"),
        (lambda x: functional.linear(x, x[0, 0]), r"^\w+: linear: two of its arguments"),
        (lambda x: x / x.sum((1, 2, 3), keepdim=True), r"^\w+: div: it rounds, or its divisor is"),
        (lambda x: x * (x > 0), r"^\w+: gt: it takes the sign of an activation\. A factor made of"),
        (lambda x: x * torch.sign(x), r"^\w+: sign: it takes the sign of an activation"),
        (functional.dropout, r"^\w+: dropout: it is active"),
    ],
)
def test_what_only_looks_like_an_operation_with_a_rule(method, function, message):
    with pytest.raises(UnsupportedModelError, match=message):
        middle_map(method, lambda net, x: function(x[..., :10, :10]))


@BOTH
def test_a_middle_layer(method):
    net = relu_net()
    tail = net[3:].eval()

    maps = method(net, layer="2").attribute(images().double(), TARGETS)

    activation = net[:3](images().double()).detach()
    torch.testing.assert_close(maps, method(tail).attribute(activation, TARGETS))
