"""What the tests of metrics that ask a model share: a small model, images, maps and targets."""

import torch
from torch import nn

TARGETS = torch.tensor([2, 0, 3])


def net(height=5, width=6):
    """Four logits of images of this size, with random weights."""
    torch.manual_seed(0)
    inside = 5 * (height - 2) * (width - 2)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(inside, 4)).eval()


def data(seed=0):
    """Three images, and a map of each that has ties."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(3, 3, 5, 6, generator=generator)
    return images, torch.randn(3, 5, 6, generator=generator).mul(2).round()


def one_by_one(metric, model, images, maps, targets, **options):
    """What the metric answers for each image in a call of its own."""
    for i in range(len(images)):
        one = slice(i, i + 1)
        yield metric(model, images[one], maps[one], targets[one], **options)
