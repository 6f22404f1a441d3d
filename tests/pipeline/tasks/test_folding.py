"""Folded networks give the same numbers, and what must not be folded is left alone."""

import pytest
import torch
from torch import nn

from pipeline.tasks.backbones import build_classifier
from pipeline.tasks.folding import folded


def with_random_statistics(network):
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias, -1, 1)
    return network.eval()


def kinds(network, kind):
    return sum(type(layer) is kind for layer in network.modules())


@pytest.mark.parametrize(
    ("library", "name", "left"),
    [
        ("torchvision", "mobilenet_v2", 0),
        ("torchvision", "resnet18", 0),
        ("torchvision", "densenet121", 62),  # those before a convolution
        ("torchvision", "vgg11", 0),
        ("timm", "test_resnet", 0),
    ],
)
def test_networks_give_what_they_gave(library, name, left):
    network = with_random_statistics(build_classifier(library, name, "none", 3)).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)

    quick = folded(network)

    with torch.no_grad():
        torch.testing.assert_close(quick(images), network(images))
    assert kinds(quick, nn.BatchNorm2d) == left
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_numbers_by_hand():
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    nn.init.constant_(convolution.weight, 2)
    nn.init.constant_(convolution.bias, 1)
    norm.running_mean.fill_(3)
    norm.running_var.fill_(4)
    nn.init.constant_(norm.weight, 10)
    nn.init.constant_(norm.bias, 5)

    first = folded(nn.Sequential(convolution, norm).eval())[0]

    assert first.weight.item() == 10  # 2 * 10 / sqrt(4)
    assert first.bias.item() == -5  # (1 - 3) * 10 / sqrt(4) + 5


def test_a_convolution_with_several_uses_is_left_alone():
    shared = nn.Conv2d(4, 4, 1)
    network = nn.Sequential(shared, nn.BatchNorm2d(4), nn.Sequential(shared, nn.ReLU()))
    network = with_random_statistics(network)
    images = torch.randn(1, 4, 5, 5)

    quick = folded(network)

    assert kinds(quick, nn.BatchNorm2d) == 1
    torch.testing.assert_close(quick(images), network(images))


class Own(nn.Module):
    """A convolution and a batch norm, put together by ``run``."""

    def __init__(self, run):
        super().__init__()
        self.convolution, self.norm, self.run = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), run

    def forward(self, images):
        return self.run(self, images)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        Own(lambda own, x: own.norm(own.convolution(x)) + own.convolution(x)),
        Own(lambda own, x: (y := own.convolution(x)) + own.norm(y)),
        Own(lambda own, x: own.norm(own.norm(own.convolution(x)))),
        Own(lambda own, x: own.norm(own.convolution(x)) if x.sum() else x),
    ],
    ids=["order", "between", "no statistics", "twice", "seen", "again", "not followed"],
)
def test_others_are_left_alone(network):
    network = with_random_statistics(network)
    images = torch.randn(2, 3, 5, 5)

    quick = folded(network)

    assert kinds(quick, nn.BatchNorm2d) == 1
    torch.testing.assert_close(quick(images), network(images))
