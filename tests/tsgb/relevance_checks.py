"""What excitation backprop and PANE are checked against.

Above all dense matrices, for one image and one class. There a network is a list of blocks, each a
function of the one activation before it: an affine one (any layers without a non-linearity, taken
together), a ReLU, or a max-pooling. The matrix of an affine block is its Jacobian, so nothing here
knows of strides, groups, batch norm or autograd rules.
"""

import torch
import torchvision
from model_checks import random_statistics
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional

RECTIFIERS = (nn.ReLU, nn.ReLU6)


def activations(blocks, image):
    """Input of every block, and the logits."""
    values = [image]
    for block in blocks:
        values.append(block(values[-1].clone()).detach())
    return values


def matrix(block, x):
    return jacobian(block, x).reshape(-1, x.numel())


def divided(contributions, totals):
    """Rows divided by their totals, 0 where a total is 0."""
    totals = totals[:, None]
    return torch.where(totals > 0, contributions / totals, 0)


def backward(blocks, values, start, step):
    """``start``, a tuple of vectors over the logits, carried down to ``values[0]``."""
    signals = start
    for block, x, y in reversed(list(zip(blocks, values[:-1], values[1:], strict=True))):
        if isinstance(block, RECTIFIERS):
            signals = tuple(signal * (y.flatten() > 0) for signal in signals)
        elif isinstance(block, nn.MaxPool2d):
            signals = tuple(matrix(block, x).T @ signal for signal in signals)
        else:
            is_logits = y is values[-1]
            signals = step(matrix(block, x), x.flatten(), y.flatten(), is_logits, *signals)
    return [signal.reshape(values[0].shape).sum(1)[0] for signal in signals]


def excitation_map(blocks, values, target):
    def step(weights, x, _y, _is_logits, p):
        contributions = weights.clamp(min=0) * x.clamp(min=0)
        return (divided(contributions, contributions.sum(1)).T @ p,)

    return backward(blocks, values, (one_hot(values[-1], target),), step)[0]


def pane_chains(blocks, values, target, normaliser, *, bias=False):
    """``bias``: it contributes like an input, of which nothing is handed on."""

    def step(weights, x, y, is_logits, positive, negative):
        if not is_logits:  # a negative unit that helps is helped by what pulls it down
            positive, negative = (
                torch.where(y < 0, negative, positive),
                torch.where(y < 0, positive, negative),
            )
        contributions = weights * x
        constant = y - contributions.sum(1) if bias else torch.zeros_like(y)
        constant[constant.abs() < 1e-12] = 0  # what is left by rounding
        plus, minus = contributions.clamp(min=0), (-contributions).clamp(min=0)
        above, below = plus.sum(1) + constant.clamp(min=0), minus.sum(1) - constant.clamp(max=0)
        sides = (above > 0).double() + (below > 0).double()
        t_plus = divided(plus, above + below if normaliser == "joint" else above * sides)
        t_minus = divided(minus, above + below if normaliser == "joint" else below * sides)
        return (
            t_plus.T @ positive + t_minus.T @ negative,
            t_plus.T @ negative + t_minus.T @ positive,
        )

    start = one_hot(values[-1], target)
    return backward(blocks, values, (start, torch.zeros_like(start)), step)


def one_hot(logits, target):
    return functional.one_hot(torch.tensor(target), logits.numel()).to(logits)


class Blocks(nn.Module):
    """A network, and the same network as blocks; five classes, an image of 3 x 6 x 5."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.second_norm = nn.BatchNorm2d(6)
        self.second_relu = nn.ReLU6()
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(6, 5)
        random_statistics(self)
        with torch.no_grad():
            self.norm.weight[::2].neg_()
            self.second_norm.weight[::3].neg_()
        self.double()

    def mean_head(self, x):
        return self.head(x.mean((2, 3)))


class Chain(Blocks):
    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        x = self.second_norm(self.second(self.pool(x)))
        return self.mean_head(self.second_relu(x * 4))

    def blocks(self):
        return [
            lambda x: self.norm(self.first(x)),
            self.relu,
            self.pool,
            lambda x: 4 * self.second_norm(self.second(x)),
            self.second_relu,
            self.mean_head,
        ]


class LayerByLayer(Chain):
    """With batch norms that are layers of their own."""

    def blocks(self):
        return [
            self.first,
            self.norm,
            self.relu,
            self.pool,
            self.second,
            self.second_norm,
            lambda x: 4 * x,
            self.second_relu,
            self.mean_head,
        ]


class Residual(Blocks):
    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        x = self.second_relu(x + self.second_norm(self.second(x)))
        return self.mean_head(functional.avg_pool2d(x, 3, 2, 1))

    def blocks(self):
        return [
            lambda x: self.norm(self.first(x)),
            self.relu,
            lambda x: torch.cat([x, self.second_norm(self.second(x))]),
            lambda pair: pair.sum(0, keepdim=True),
            self.second_relu,
            lambda x: functional.avg_pool2d(x, 3, 2, 1),
            self.mean_head,
        ]


class Bottleneck(Blocks):
    """Two layers without a ReLU in between, so that activations are signed."""

    def forward(self, x):
        x = self.second_norm(self.second(self.norm(self.first(x))))
        x = functional.adaptive_avg_pool2d(self.relu(x), (2, 3))
        return self.mean_head(torch.cat([x[:, :2], x[:, 2:]], 1))

    def blocks(self):
        return [
            lambda x: self.norm(self.first(x)),
            lambda x: self.second_norm(self.second(x)),
            self.relu,
            lambda x: functional.adaptive_avg_pool2d(x, (2, 3)),
            self.mean_head,
        ]


NETWORKS = [Chain, Residual, Bottleneck]


def pixels(batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 6, 5, generator=generator, dtype=torch.float64)


def by_hand():
    """One 2 x 2 image, a 1 x 1 convolution to two channels, ReLU, global mean, two classes."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    ).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([0.0, 2.0]))
        net[4].weight.copy_(torch.tensor([[4.0, -1.0], [1.0, 3.0]]))
        net[4].bias.fill_(9.0)  # ignored
    return net, torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])


# channel 0 after ReLU: 1 2 / 3 0, mean 3/2; channel 1: 1 0 / 0 2, mean 3/4.
FIRST = torch.tensor([[1.0, 2.0], [3.0, 0.0]]) / 6
SECOND = torch.tensor([[1.0, 0.0], [0.0, 2.0]]) / 3


def vgg11_bn():
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"], batch_norm=True)
    classifier = [nn.Linear(25088, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 6)]
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *classifier)
