"""What the options of TSGB reproduce of the authors' maps, and what they do not."""

import pytest
import torch
import torchvision
from model_checks import random_statistics
from published_tsgb import published_map
from torch import nn

from tsgb import TSGB

OPTIONS = {"saturation": "plain", "batchnorm_eps": "published"}
SLIM = pytest.mark.parametrize("grouped", ["per_group", "slim"])


def pixels(size=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, size, size + 5, generator=generator, dtype=torch.float64)


def block(before, after, kernel, *, groups=1, stride=1, activation=nn.ReLU):
    conv = nn.Conv2d(
        before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=groups == 1
    )
    return [conv, nn.BatchNorm2d(after, eps=1e-3), activation()]


def small(*layers):
    """A network of these layers with batch norms that shift, in double precision."""
    channels = layers[-3].out_channels
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))
    return random_statistics(net).double().eval()


def both(net, images, grouped, target=2):
    """The authors' map and ours, divided by the maximum of theirs."""
    theirs = published_map(net, images, target, slim=grouped == "slim")
    method = TSGB(net, grouped=grouped, **OPTIONS)
    ours = method.attribute(images, torch.tensor([target]))[0, 0]
    return theirs / theirs.abs().max(), ours / theirs.abs().max()


@SLIM
def test_a_chain_of_convolutions(grouped):
    torch.manual_seed(0)
    pool = nn.MaxPool2d(2)
    net = small(*block(3, 8, 3, stride=2), pool, *block(8, 12, 3), *block(12, 16, 1))

    theirs, ours = both(net, pixels(), grouped)

    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@SLIM
def test_a_residual_network(grouped):
    torch.manual_seed(0)
    net = random_statistics(torchvision.models.resnet18(num_classes=5)).double().eval()

    theirs, ours = both(net, pixels(64), grouped)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def depthwise(*, gaps):
    """A network with a depthwise layer, some of whose windows hold zeros only if there are gaps."""
    torch.manual_seed(0)
    first = block(3, 8, 1, activation=nn.ReLU6)
    net = small(*first, *block(8, 8, 3, groups=8, activation=nn.ReLU6), *block(8, 6, 1))
    norm, depthwise_norm = net[1], net[4]
    shift = torch.where(torch.arange(8) < 3, -100.0, 2.0) if gaps else torch.full((8,), 2.0)
    norm.bias.data = shift.double()
    depthwise_norm.bias.data.fill_(0.5)
    return net


@SLIM
def test_depthwise_convolutions_without_windows_of_zeros(grouped):
    theirs, ours = both(depthwise(gaps=False), pixels(), grouped)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_windows_of_zeros_by_the_earlier_code():
    theirs, ours = both(depthwise(gaps=True), pixels(), "per_group")

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_windows_of_zeros_are_where_the_later_code_is_not_reproduced():
    """There it loses what the batch norm adds; ours keeps it, so that the total is the same."""
    net, images = depthwise(gaps=True), pixels()

    theirs, ours = both(net, images, "slim")

    assert (ours - theirs).abs().max() > 0.05
    conserving = TSGB(net, kappa=0.0, grouped="slim").attribute(images, torch.tensor([2]))
    features = net[:-1](images)[0].detach()
    supporting = (features * net[-1].weight[2].detach().clamp(min=0)).sum()
    torch.testing.assert_close(conserving.sum(), supporting, rtol=1e-6, atol=0)
