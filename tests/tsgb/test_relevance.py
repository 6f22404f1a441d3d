"""The rules that carry relevance: what they conserve, and what has none."""

from functools import partial

import pytest
import torch
from model_checks import Middle, images, random_statistics, small_net, unchanged
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from tsgb import UnsupportedModelError
from tsgb._rules.shares import quotient
from tsgb.methods.excitation_backprop import ContrastiveExcitationBackprop, ExcitationBackprop
from tsgb.methods.pane import PANE

TARGETS = torch.tensor([[1, 3], [0, -1]])
METHODS = pytest.mark.parametrize(
    "method",
    [
        pytest.param(ExcitationBackprop, id="ebp"),
        pytest.param(ContrastiveExcitationBackprop, id="contrastive"),
        pytest.param(PANE, id="pane"),
        pytest.param(partial(PANE, kind="negative", normaliser="separate"), id="pane-negative"),
    ],
)


def maps_of(method, middle, **options):
    return method(Middle(middle), **options).attribute(images(), torch.tensor([1, 3]))


def conserved(middle):
    """Total at the first convolution, of probability and of both chains."""
    net, targets = Middle(middle), torch.tensor([1, 3])
    probability = ExcitationBackprop(net, layer="first").attribute(images(), targets)
    both = [
        sum(PANE(net, layer="first", normaliser=normaliser).chains(images(), targets))
        for normaliser in ("joint", "separate")
    ]
    return torch.stack([maps.sum((1, 2, 3)) for maps in (probability, *both)])


@METHODS
@pytest.mark.parametrize(
    ("spelling", "function"),
    [
        pytest.param(lambda x: x.clamp(0, 6), functional.relu6, id="clamp"),
        pytest.param(lambda x: functional.hardtanh(x, 0.0, 6.0), functional.relu6, id="hardtanh"),
        pytest.param(nn.ReLU6(inplace=True), functional.relu6, id="in-place"),
        pytest.param(lambda x: x.clamp_(min=0), torch.relu, id="clamp-in-place"),
        pytest.param(lambda x: x.clamp_min(0), torch.relu, id="clamp-min"),
        pytest.param(lambda x: 2 * x.relu() + 1, lambda x: x.relu() / 0.5 + 1, id="constants"),
        pytest.param(
            lambda x: x.relu().mean((2, 3), keepdim=True),
            lambda x: functional.adaptive_avg_pool2d(x.relu(), 1),
            id="mean",
        ),
        pytest.param(
            lambda x: functional.avg_pool2d(x.relu(), 2),
            lambda x: functional.adaptive_avg_pool2d(x.relu(), (6, 5)),
            id="average",
        ),
        pytest.param(lambda x: x.relu() + x, lambda x: x.relu().add_(x), id="addition"),
        pytest.param(lambda x: x.relu() - 1, lambda x: x.relu() + -1, id="subtraction"),
        pytest.param(lambda x: torch.cat(x.chunk(2, 1), 1).relu(), torch.relu, id="cat"),
    ],
)
def test_two_spellings_give_the_same_map(method, spelling, function):
    maps = maps_of(method, lambda net, x: net.second(spelling(x * 4)))

    torch.testing.assert_close(maps, maps_of(method, lambda net, x: net.second(function(x * 4))))
    assert (maps != 0).any()


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        lambda x: functional.relu6(x * 50),
        lambda x: functional.hardtanh(x.relu(), 0, 0.1),
        lambda x: functional.max_pool2d(x.relu(), 3, 2, 1),
        lambda x: functional.avg_pool2d(x.relu(), 3, 2, 1, ceil_mode=True),
        lambda x: functional.adaptive_avg_pool2d(x.relu(), (5, 7)),
        lambda x: functional.pad(x.relu(), (1, 0, 0, 1)),
        lambda x: functional.dropout(x.relu(), 0.5, False),
        lambda x: x.relu() + x.relu().mean((2, 3), keepdim=True),
        lambda x: (x + x.relu()).relu(),
        lambda x: x.relu() * torch.linspace(1, 2, 8)[:, None, None],
        lambda x: torch.cat([x.relu(), x.relu()], 1)[:, 4:12],
        lambda x: x.relu().sum((2, 3), keepdim=True),
    ],
)
def test_relevance_is_conserved_by_every_operation(function):
    totals = conserved(lambda net, x: net.second(function(net.norm(x * 3))).relu())

    torch.testing.assert_close(totals, torch.ones(3, 2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kwargs", [{"stride": 2}, {"padding": 2, "dilation": 2}, {"groups": 4}])
def test_relevance_is_conserved_by_every_convolution(kwargs):
    def middle(net, x):
        weight = net.second.weight[:, : 8 // kwargs.get("groups", 1)]
        return functional.conv2d(x.relu(), weight, None, **kwargs).relu()

    torch.testing.assert_close(conserved(middle), torch.ones(3, 2), rtol=1e-4, atol=0)


def flipped(model):
    """``model`` with batch norms of which half the channels have a negative scale."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data[::2].neg_()
    return model.double().eval()


@METHODS
def test_batch_norm_equals_the_layer_it_is_folded_into(method):
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    net.extend([nn.Linear(32, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5)])
    net(images(16))  # some running statistics
    net = flipped(net)
    fused = nn.Sequential(
        fuse_conv_bn_eval(net[0], net[1]), *net[2:5], fuse_linear_bn_eval(net[5], net[6]), *net[7:]
    ).eval()

    maps = method(net).attribute(images().double(), TARGETS)

    torch.testing.assert_close(maps, method(fused).attribute(images().double(), TARGETS))
    assert (maps != 0).any()


def test_probability_is_the_same_above_and_below_batch_norm():
    net = flipped(small_net())

    maps = [
        ExcitationBackprop(net, layer=layer).attribute(images().double(), TARGETS)
        for layer in ("0", "1")
    ]

    torch.testing.assert_close(*maps)


def test_one_activation_under_two_batch_norms():
    norm = flipped(nn.BatchNorm2d(8)).float()

    with pytest.raises(UnsupportedModelError, match=r"^\w+: batch_norm: the same activation is"):
        maps_of(ExcitationBackprop, lambda net, x: net.norm(x).relu() + norm(x).relu())
    assert maps_of(PANE, lambda net, x: net.norm(x).relu() + norm(x).relu()).isfinite().all()


def test_an_activation_under_a_batch_norm_and_used_without_it():
    """As the stem of a pre-activation network."""
    norm = flipped(nn.BatchNorm2d(8)).float()
    rising = random_statistics(nn.BatchNorm2d(8))
    bare = nn.BatchNorm2d(8, affine=False).eval()

    with pytest.raises(UnsupportedModelError, match=r"batch norm with negative scales and is used"):
        maps_of(ExcitationBackprop, lambda net, x: x.relu() + net.second(norm(x).relu()))
    with pytest.raises(UnsupportedModelError, match=r"the same activation is normalised"):
        maps_of(ExcitationBackprop, lambda net, x: bare(x).relu() + net.second(norm(x).relu()))
    maps = maps_of(ExcitationBackprop, lambda net, x: x.relu() + net.second(rising(x).relu()))
    assert maps.sum() > 0


@METHODS
@pytest.mark.parametrize(
    ("middle", "message"),
    [
        pytest.param(
            lambda net, x: functional.silu(x), r"operation 'silu'.*such as GradCAM", id="silu"
        ),
        pytest.param(lambda net, x: functional.leaky_relu(x), r"'leaky_relu'", id="leaky-relu"),
        pytest.param(lambda net, x: functional.group_norm(x, 2), r"'group_norm'", id="group-norm"),
        pytest.param(lambda net, x: x.tanh(), r"operation 'tanh'", id="tanh"),
        pytest.param(lambda net, x: -x, r"operation 'neg'", id="neg"),
        pytest.param(lambda net, x: x.sigmoid() * x, r"operation 'sigmoid'", id="gate"),
        pytest.param(
            lambda net, x: functional.interpolate(x, scale_factor=2), r"'interpolate'", id="resize"
        ),
        pytest.param(
            lambda net, x: functional.hardtanh(x),
            r"^\w+: hardtanh: its output is not 0 for all inputs below 0, .* such as GradCAM\.$",
            id="hardtanh",
        ),
        pytest.param(
            lambda net, x: x.clamp(torch.zeros(())), r"^\w+: clamp: .* bounds", id="clamp"
        ),
        pytest.param(
            lambda net, x: x - x.relu(), r"^\w+: sub: an activation is subtracted", id="sub"
        ),
        pytest.param(lambda net, x: 1 - x, r"operation 'rsub'", id="rsub"),
        pytest.param(
            lambda net, x: x * -2, r"^\w+: mul: its factor is not positive", id="negative"
        ),
        pytest.param(
            lambda net, x: x * torch.tensor([1, -1]).repeat(4)[:, None, None],
            r"^\w+: mul: its factor is not positive",
            id="mixed-signs",
        ),
        pytest.param(lambda net, x: x * x.relu(), r"^\w+: mul: its factor is computed", id="mul"),
        pytest.param(lambda net, x: x / (x.relu() + 1), r"^\w+: div: its factor is comp", id="div"),
        pytest.param(lambda net, x: torch.add(x, x, alpha=2), r"^\w+: add: alpha=2", id="alpha"),
        pytest.param(
            lambda net, x: functional.conv2d(x, x[:1, :, :3, :3].transpose(0, 1), groups=8),
            r"^\w+: conv2d: its weight is computed from the image",
            id="weight",
        ),
        pytest.param(
            lambda net, x: functional.batch_norm(x, None, None, training=True),
            r"^\w+: batch_norm: it normalises with the statistics of the batch",
            id="batch-statistics",
        ),
        pytest.param(
            lambda net, x: functional.dropout(x), r"^\w+: dropout: it is active", id="dropout"
        ),
    ],
)
def test_what_has_no_rule_is_refused(method, middle, message):
    model = Middle(lambda net, x: middle(net, net.second(x).relu_()))

    with unchanged(model), pytest.raises(UnsupportedModelError, match=message):
        method(model).attribute(images(), TARGETS)


def test_quotient_by_nothing_is_nothing():
    total = torch.tensor([0.0, 1e-38, 1e-20, 2.0])

    shares = quotient(torch.ones(4), total)

    torch.testing.assert_close(shares, torch.tensor([0.0, 0.0, 1e20, 0.5]))
