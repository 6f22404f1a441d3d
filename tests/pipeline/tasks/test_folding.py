"""Folded networks give the same numbers, and what must not be folded is left alone."""

import pytest
import torch
from torch import nn

from pipeline.config import SegmenterConfig
from pipeline.tasks.backbones import build_classifier
from pipeline.tasks.folding import fold_batch_norms
from pipeline.tasks.segmenter import SegmenterTask


def with_random_statistics(network):
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias, -1, 1)
    return network.eval()


def batch_norms(network):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def segmenter():
    config = SegmenterConfig(arch="deeplabv3plus", encoder="mobilenet_v2", weights="none")
    return SegmenterTask.from_config(config, ("a", "b")).network


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: build_classifier("torchvision", "mobilenet_v2", "none", 3), 0),
        (lambda: build_classifier("torchvision", "resnet18", "none", 3), 16),  # those of blocks
        (lambda: build_classifier("timm", "test_resnet", "none", 3), None),
        (segmenter, None),
    ],
    ids=["mobilenet_v2", "resnet18", "test_resnet", "deeplabv3plus"],
)
def test_networks_give_what_they_gave(make, left):
    network = with_random_statistics(make()).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    names = [name for name, _ in network.named_modules()]
    with torch.no_grad():
        before = network(images)

        fold_batch_norms(network)

        torch.testing.assert_close(network(images), before)
    if left is not None:
        assert batch_norms(network) == left
    assert [name for name, _ in network.named_modules()] == names


def test_numbers_by_hand():
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    nn.init.constant_(convolution.weight, 2)
    nn.init.constant_(convolution.bias, 1)
    norm.running_mean.fill_(3)
    norm.running_var.fill_(4)
    nn.init.constant_(norm.weight, 10)
    nn.init.constant_(norm.bias, 5)
    network = nn.Sequential(convolution, norm).eval()

    fold_batch_norms(network)

    assert network[0].weight.item() == 10  # 2 * 10 / sqrt(4)
    assert network[0].bias.item() == -5  # (1 - 3) * 10 / sqrt(4) + 5


def shared_convolution():
    shared = nn.Conv2d(3, 3, 1)
    return nn.Sequential(shared, nn.BatchNorm2d(3), nn.Sequential(shared, nn.ReLU()))


def shared_norm():
    shared = nn.BatchNorm2d(3)
    return nn.Sequential(nn.Conv2d(3, 3, 1), shared, nn.ReLU(), shared)


def hooked(index):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    network[index].register_forward_hook(lambda _module, _inputs, output: output * 2)
    return network


def weight_of_its_own():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    nn.utils.spectral_norm(network[0])
    return network


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        shared_convolution,
        shared_norm,
        lambda: hooked(0),
        lambda: hooked(1),
        weight_of_its_own,
    ],
)
def test_others_are_left_alone(make):
    network = with_random_statistics(make())
    images = torch.randn(2, 3, 5, 5)
    before = network(images)

    fold_batch_norms(network)

    assert batch_norms(network) == 1
    assert torch.equal(network(images), before)


def test_layers_in_training_are_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()

    fold_batch_norms(network)

    assert batch_norms(network) == 1
