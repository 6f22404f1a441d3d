"""Residual networks: the same maps with and without ports, and whatever reads or uses a sum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import close_all_ports, random_statistics
from torch import nn
from torch.nn import functional

from tsgb import TSGB

TARGETS = torch.tensor([[0, 3, -1], [4, 4, 1]])


class Block(nn.Module):
    """Two convolutions and a way round them, as it is or through a third one."""

    def __init__(self, inside, stride=1, *, project=False, groups=1, linear=False):
        super().__init__()
        self.one = nn.Conv2d(8, inside, 1)
        self.two = nn.Conv2d(inside, 8, 3, stride, 1, groups=groups)
        self.norms = nn.ModuleList([nn.BatchNorm2d(inside), nn.BatchNorm2d(8)])
        self.project = nn.Conv2d(8, 8, 1, stride) if project else nn.Identity()
        self.linear = linear

    def forward(self, x):
        y = torch.relu(self.norms[0](self.one(x)))
        y = self.norms[1](self.two(y))
        y += self.project(x)
        return y if self.linear else functional.relu(y, inplace=True)


class Net(nn.Module):
    """A stem, blocks, and a classifier of ``join``, which is given what each block returns."""

    def __init__(self, *blocks, join=lambda outputs: outputs[-1], features=8):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Linear(features, 5)
        self.join = join

    def forward(self, x):
        outputs = [torch.relu(self.stem(x))]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return self.classifier(self.join(outputs).mean((2, 3)))


def net(*blocks, **options):
    torch.manual_seed(0)
    return random_statistics(Net(*blocks, **options)).double()


def pixels():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 14, 11, generator=generator, dtype=torch.float64)


def assert_same_without(model, layer=None, targets=TARGETS, **options):
    short = TSGB(model, kappa=0.5, layer=layer, **options).attribute(pixels(), targets)
    with pytest.MonkeyPatch.context() as patch:
        close_all_ports(patch)
        long = TSGB(model, kappa=0.5, layer=layer, **options).attribute(pixels(), targets)
    assert long.abs().max() > 0
    torch.testing.assert_close(short, long)


def chain(**options):
    return [Block(4, project=True, **options), Block(4, **options), Block(4, **options)]


NETS = {
    "resnet": lambda: net(*chain()),
    "from the stem": lambda: net(Block(4), Block(4)),
    "two stages": lambda: net(*chain(), Block(4, 2, project=True), Block(4)),
    "linear bottlenecks": lambda: net(*chain(linear=True)),
    "mixed": lambda: net(Block(4, project=True), Block(4, linear=True), Block(4)),
    "groups": lambda: net(*chain(groups=2)),
    "depthwise inside": lambda: net(*[Block(8, groups=8), Block(8, groups=8)]),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("layer", [None, "stem", "blocks.0", "blocks.1", "blocks.1.two"])
def test_maps_are_the_same_with_and_without_ports(name, layer):
    assert_same_without(NETS[name](), layer)


JOINS = {
    "concatenated": (lambda outputs: torch.cat(outputs, dim=1), 32),
    "added up": (lambda outputs: outputs[1] + outputs[2] + outputs[3], 8),
    "twice itself": (lambda outputs: outputs[3] + outputs[3], 8),
    "pooled": (lambda outputs: functional.max_pool2d(outputs[2], 2) * 2, 8),
    "rectified again": (lambda outputs: torch.relu(outputs[2] - 1) + torch.relu(outputs[2]), 8),
}


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("linear", [True, False])
def test_what_else_uses_a_sum_has_its_plain_gradient(name, linear):
    join, features = JOINS[name]

    assert_same_without(net(*chain(linear=linear), join=join, features=features))


class Again(nn.Module):
    """A sum that is added twice, once before and once after a convolution has used it."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))

    def forward(self, x):
        total = torch.relu(self.one(x) + self.two(x))
        first = torch.relu(total + self.two(x))
        second = torch.relu(total + self.one(x))
        return self.three(total) + self.two(first) + self.three(second)


def test_a_sum_that_several_additions_use():
    assert_same_without(net(Again(), Again()))


class Head(nn.Module):
    """A convolution as classifier behind residual additions, or ``linear`` in place of it."""

    def __init__(self, *, linear, added):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 8, 3), *chain())
        self.head, self.other = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 8, 1)
        self.linear, self.added = linear, added

    def forward(self, x):
        x = self.blocks(x)
        x = torch.relu(x + self.other(x)) if self.added else x
        if self.linear:
            return functional.linear(x.permute(0, 2, 3, 1), self.head.weight.flatten(1)).mean(
                (1, 2)
            )
        return self.head(x).mean((2, 3))


@pytest.mark.parametrize("added", [True, False])
def test_a_classifier_says_what_each_channel_of_a_sum_gets(added):
    def maps(*, linear):
        torch.manual_seed(0)
        model = random_statistics(Head(linear=linear, added=added)).double()
        return TSGB(model, kappa=0.5).attribute(pixels(), TARGETS)

    torch.testing.assert_close(maps(linear=False), maps(linear=True))


@given(
    seed=st.integers(0, 1000),
    blocks=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from([1, 2])), min_size=1, max_size=5
    ),
)
@settings(max_examples=25, deadline=None)
def test_random_residual_networks(seed, blocks):
    torch.manual_seed(seed)
    model = Net(*[Block(4, s, project=p or s > 1, linear=v) for p, v, s in blocks])

    assert_same_without(random_statistics(model).double())


def test_one_class_and_several_give_the_same_maps():
    model = net(*chain(), Block(4, 2, project=True), Block(4))

    together = TSGB(model).attribute(pixels(), TARGETS)

    for k, column in enumerate(TARGETS.T):
        torch.testing.assert_close(together[:, k : k + 1], TSGB(model).attribute(pixels(), column))


class Odd(nn.Module):
    """Returns a sum that it has added to something else before."""

    def __init__(self):
        super().__init__()
        self.block, self.extra = Block(4, project=True), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.block(x)
        self.total = x + self.extra(x)
        return x


class Late(nn.Module):
    """A block whose way round is a module that runs after the convolutions."""

    def __init__(self):
        super().__init__()
        self.inside, self.skip = nn.Conv2d(8, 8, 3, padding=1), nn.Identity()

    def forward(self, x):
        return torch.relu(self.inside(x) + self.skip(x))


@pytest.mark.parametrize(
    ("blocks", "layer"),
    [([Odd(), Block(4)], "blocks.0"), ([*chain(), Late(), Block(4)], "blocks.3.skip")],
    ids=["inside of the layer", "before the layer"],
)
def test_a_layer_that_returns_a_sum_which_was_used_before(blocks, layer):
    model = net(*blocks)
    expected = TSGB(model, layer=layer).attribute(pixels(), TARGETS)

    maps = TSGB(model, layer=layer).attribute_layers(pixels(), TARGETS, ["stem", layer])[layer]

    torch.testing.assert_close(maps, expected)
